"""Checkpoints as directories: written whole, verified, pruned. What is in one is said by `training/state.py`."""
