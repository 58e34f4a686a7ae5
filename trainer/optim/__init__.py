"""Optimizers, and learning-rate schedules at work. Their keys and formulas belong in `config`."""
