"""The registered config dataclasses, one file for each group; importing this package registers them. No torch."""

from trainer.config import data, datasets, model, optimizer, scheduler, table, task, trainer, transform
from trainer.config.root import Config

__all__ = ["Config", "data", "datasets", "model", "optimizer", "scheduler", "table", "task", "trainer", "transform"]
