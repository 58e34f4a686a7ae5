"""Config-driven training for PyTorch: the public names, imported when they are used. Everything else may move."""

import importlib
from typing import TYPE_CHECKING, Any

from trainer.version import __version__

if TYPE_CHECKING:
    from trainer.config.data import DataConfig, Digits, ImageDataConfig, ImageFolder, Synthetic, SyntheticImages
    from trainer.config.datasets import Cifar10, Cifar100, FashionMnist, Mnist, Svhn, Tensors
    from trainer.config.logger import LoggerConfig
    from trainer.config.loss import LossConfig
    from trainer.config.metric import MetricConfig
    from trainer.config.model import Attention, Cnn, Linear, Mlp, ModelConfig, Tabular, Torchvision
    from trainer.config.optimizer import OptimizerConfig
    from trainer.config.registry import register
    from trainer.config.root import Config
    from trainer.config.run import RunConfig
    from trainer.config.scheduler import SchedulerConfig
    from trainer.config.section import key
    from trainer.config.table import Csv
    from trainer.config.task import TaskConfig
    from trainer.config.trainer import TrainerConfig
    from trainer.config.transform import TransformConfig
    from trainer.data.splits import from_splits, from_tensors
    from trainer.data.types import Batch, Data, DataSpec, Split
    from trainer.loggers.base import Logger, LoggerContext, LogRecord
    from trainer.runs.assemble import assemble
    from trainer.runs.build import build_data
    from trainer.runs.directory import Run
    from trainer.runs.loading import load_model
    from trainer.tasks.base import Task
    from trainer.training.trainer import Trainer

_NAMES = {
    "trainer.config.data": "DataConfig Digits ImageDataConfig ImageFolder Synthetic SyntheticImages",
    "trainer.config.datasets": "Cifar10 Cifar100 FashionMnist Mnist Svhn Tensors",
    "trainer.config.logger": "LoggerConfig",
    "trainer.config.loss": "LossConfig",
    "trainer.config.metric": "MetricConfig",
    "trainer.config.model": "Attention Cnn Linear Mlp ModelConfig Tabular Torchvision",
    "trainer.config.optimizer": "OptimizerConfig",
    "trainer.config.registry": "register",
    "trainer.config.root": "Config",
    "trainer.config.run": "RunConfig",
    "trainer.config.scheduler": "SchedulerConfig",
    "trainer.config.section": "key",
    "trainer.config.table": "Csv",
    "trainer.config.task": "TaskConfig",
    "trainer.config.trainer": "TrainerConfig",
    "trainer.config.transform": "TransformConfig",
    "trainer.data.splits": "from_splits from_tensors",
    "trainer.data.types": "Batch Data DataSpec Split",
    "trainer.loggers.base": "Logger LoggerContext LogRecord",
    "trainer.runs.assemble": "assemble",
    "trainer.runs.build": "build_data",
    "trainer.runs.directory": "Run",
    "trainer.runs.loading": "load_model",
    "trainer.tasks.base": "Task",
    "trainer.training.trainer": "Trainer",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "Attention",
    "Batch",
    "Cifar10",
    "Cifar100",
    "Cnn",
    "Config",
    "Csv",
    "Data",
    "DataConfig",
    "DataSpec",
    "Digits",
    "FashionMnist",
    "ImageDataConfig",
    "ImageFolder",
    "Linear",
    "LogRecord",
    "Logger",
    "LoggerConfig",
    "LoggerContext",
    "LossConfig",
    "MetricConfig",
    "Mlp",
    "Mnist",
    "ModelConfig",
    "OptimizerConfig",
    "Run",
    "RunConfig",
    "SchedulerConfig",
    "Split",
    "Svhn",
    "Synthetic",
    "SyntheticImages",
    "Tabular",
    "Task",
    "TaskConfig",
    "Tensors",
    "Torchvision",
    "Trainer",
    "TrainerConfig",
    "TransformConfig",
    "__version__",
    "assemble",
    "build_data",
    "from_splits",
    "from_tensors",
    "key",
    "load_model",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainer' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
