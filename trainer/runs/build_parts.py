"""From what keys select by name to the parts of a run: losses, metrics and loggers, as `build` does for sections."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

import torch.nn.functional as F

from trainer.config import metric
from trainer.config.logger import ConsoleLog, FilesLog, LoggerConfig, MlflowLog, TensorBoardLog, WandbLog
from trainer.config.loss import CrossEntropyLoss, FocalLoss, HuberLoss, LossConfig, MaeLoss, MseLoss
from trainer.config.metric import MetricConfig
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.config.task import Classification, Regression
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.loggers.base import Logger, LoggerContext
from trainer.loggers.console import console_logger
from trainer.loggers.files import FilesLogger
from trainer.loggers.safe import SafeLogger
from trainer.loggers.tensorboard import TensorBoardLogger
from trainer.tasks import classification_metrics, regression_metrics
from trainer.tasks.losses import ClassLoss, Losses, OutputLoss, SampleLoss, focal
from trainer.tasks.metrics import DerivedMetric, Metric, SampleMetric, SummedMetric, share

TOP5_FROM = 11  # classes from which top-5 accuracy says something


def own_builder(config: Section, name: str = "build") -> Callable[..., Any] | None:
    """Return the method `name` of a component that brings its own, as those of plug-ins do; None: it has none."""
    return getattr(config, name, None)


def no_builder(config: Section, signature: str) -> ConfigError:
    """Return the error for a component that nothing here makes and that lacks the method which would."""
    kind = type(config)
    return ConfigError(
        f"{config.section}={config.option}: {kind.__module__}.{kind.__qualname__} has no method {signature}; write it."
    )


def _no_losses(config: LossConfig) -> ConfigError:
    return no_builder(config, "losses(self, outputs, targets) -> Tensor")


def build_class_loss(task: Classification) -> ClassLoss:
    """Make the loss of a classification."""
    config = task.loss_config() or CrossEntropyLoss()
    if own := own_builder(config, "losses"):
        return SampleLoss(own, config.option)
    match config:
        case CrossEntropyLoss():
            return partial(F.cross_entropy, label_smoothing=task.label_smoothing)
        case FocalLoss():
            return partial(focal, gamma=config.gamma)
    raise _no_losses(config)


def build_number_loss(task: Regression) -> Losses:
    """Make the loss of a regression: of each number, not reduced."""
    config = task.loss_config() or MseLoss()
    if own := own_builder(config, "losses"):
        return OutputLoss(own, config.option)
    match config:
        case MseLoss():
            return partial(F.mse_loss, reduction="none")
        case MaeLoss():
            return partial(F.l1_loss, reduction="none")
        case HuberLoss():
            return partial(F.huber_loss, reduction="none", delta=task.delta)
    raise _no_losses(config)


def build_metrics(task: Classification | Regression, spec: DataSpec) -> list[Metric]:
    """Make the metrics of a task: those it names, or the defaults of its kind."""
    chosen = task.metric_configs()
    if chosen is None and isinstance(task, Regression):
        chosen = [metric.Rmse(), metric.R2()]
    elif chosen is None:
        top5 = [metric.Top5()] if spec.outputs >= TOP5_FROM else []
        chosen = [metric.Accuracy(), metric.MacroF1(), *top5]
    return [build_metric(config, spec) for config in chosen]


def build_metric(config: MetricConfig, spec: DataSpec) -> Metric:
    """Make a metric for data of that kind."""
    name, larger = config.score_name, config.larger_is_better
    if config.summable and (sums := own_builder(config, "sums")) and (score := own_builder(config, "score")):
        return SummedMetric(name, larger, sums, score)
    if not config.summable and (score := own_builder(config, "score_samples")):
        return SampleMetric(name, larger, score)
    if built := _class_metric(config) or _number_metric(config, spec):
        return built
    raise no_builder(
        config,
        "score(self, sums) with sums(self, outputs, targets, weights), nor, with summable = False, "
        "score_samples(self, outputs, targets)",
    )


def _class_metric(config: MetricConfig) -> Metric | None:
    """Make a metric of classes; None: it is not one of ours."""
    name, larger = config.score_name, config.larger_is_better
    derived = partial(DerivedMetric, name, larger)
    match config:
        case metric.Accuracy():
            return derived(classification_metrics.accuracy)
        case metric.MacroF1():
            return derived(classification_metrics.macro_f1)
        case metric.WeightedF1():
            return derived(classification_metrics.weighted_f1)
        case metric.Precision():
            return derived(classification_metrics.precision)
        case metric.Recall():
            return derived(classification_metrics.recall)
        case metric.Mcc():
            return derived(classification_metrics.mcc)
        case metric.CohenKappa():
            return derived(partial(classification_metrics.cohen_kappa, weights=config.weights))
        case metric.Top5():
            return SummedMetric(name, larger, partial(classification_metrics.top_k_sums, k=config.k), share)
        case metric.CalibrationError():
            sums = partial(classification_metrics.calibration_sums, bins=config.bins)
            return SummedMetric(name, larger, sums, classification_metrics.calibration_error)
        case metric.Auroc():
            from trainer.tasks import ranking_metrics

            return SampleMetric(name, larger, ranking_metrics.auroc)
        case metric.AveragePrecision():
            from trainer.tasks import ranking_metrics

            return SampleMetric(name, larger, ranking_metrics.average_precision)
    return None


def _number_metric(config: MetricConfig, spec: DataSpec) -> Metric | None:
    """Make a metric of numbers; None: it is not one of ours."""
    name, larger = config.score_name, config.larger_is_better
    joint_sums = partial(regression_metrics.joint_sums, centre=spec.target_mean or (0.0,) * spec.outputs)
    match config:
        case metric.Rmse():
            return DerivedMetric(name, larger, regression_metrics.rmse)
        case metric.R2():
            return DerivedMetric(name, larger, regression_metrics.r2)
        case metric.Mae():
            return SummedMetric(name, larger, regression_metrics.mae_sums, share)
        case metric.Mape():
            return SummedMetric(name, larger, regression_metrics.mape_sums, share)
        case metric.Pearson():
            return SummedMetric(name, larger, joint_sums, regression_metrics.pearson)
        case metric.ExplainedVariance():
            return SummedMetric(name, larger, joint_sums, regression_metrics.explained_variance)
        case metric.Spearman():
            from trainer.tasks.ranking_metrics import spearman

            return SampleMetric(name, larger, spearman)
    return None


def check_packages(config: Config) -> None:
    """Raise `ConfigError` where a logger needs a package that is not installed."""
    for one in config.logger_configs():
        if one.package and find_spec(one.package) is None:
            raise ConfigError(
                f"logger={one.option}: the package {one.package} is not installed; "
                f"pip install 'trainer[{one.option}]', or leave {one.option} out of logger."
            )


def build_loggers(config: Config, context: LoggerContext) -> list[Logger]:
    """Make the loggers of a config, open for a run; from then on, one that fails is left alone.

    Raises:
        ConfigError: where a logger cannot work at all: its package is missing, or its service does not answer.
    """
    check_packages(config)
    configs, loggers = config.logger_configs(), list[Logger]()
    if not any(isinstance(one, FilesLog) for one in configs) and (context.directory / "metrics.jsonl").exists():
        FilesLogger(context.directory, context.recorded).close({})  # what is there is cut back all the same
    try:
        for one in configs:
            if (logger := build_logger(one, context)) is not None:
                loggers.append(logger)  # what was opened before a failure is closed
    except BaseException:
        for logger in loggers:
            logger.close({"status": "failed"})
        raise
    return loggers


def build_logger(config: LoggerConfig, context: LoggerContext) -> Logger | None:
    """Make one logger, open for a run; None where there is nothing to write to, as for the screen of a job."""
    if own_builder(config, "write"):
        config.open(context)
        return SafeLogger(cast(Logger, config), f"logger={config.option}")
    directory = context.directory
    match config:
        case ConsoleLog():
            screen = context.console
            return None if screen is None else SafeLogger(console_logger(screen, context), "the screen")
        case FilesLog():
            files = FilesLogger(directory, context.recorded)
            return SafeLogger(files, f"{directory}/metrics.jsonl and metrics.csv")
        case TensorBoardLog():
            board = TensorBoardLogger(context.tensorboard, context.hparams, context.labels, context.recorded)
            return SafeLogger(board, str(context.tensorboard))
        case WandbLog():
            from trainer.loggers.wandb import WandbLogger

            return SafeLogger(WandbLogger(config, context), "logger=wandb")
        case MlflowLog():
            from trainer.loggers.mlflow import MlflowLogger

            return SafeLogger(MlflowLogger(config, context), "logger=mlflow")
    raise no_builder(config, "write(self, record)")
