"""A run from its config to its summary. What happens in a step belongs in `training`."""
