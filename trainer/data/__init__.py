"""Samples, from files to batches on the device. What is learned of them belongs in `tasks`."""
