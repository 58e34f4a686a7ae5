"""What is learned: tasks, losses and metrics. Their keys belong in `config`."""
