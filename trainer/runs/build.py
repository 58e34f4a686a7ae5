"""From the sections of a config to the parts of a run: the one place that knows which builder makes which option.

Each function is a `match` over the config classes of a group. A component of a plug-in brings its own `build` in its
class, which goes before the arms: nothing here has to know it. Builders are imported where they are called, so that a
run imports only what it uses.
"""

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.config.data import DataConfig, Digits, ImageDataConfig, ImageFolder, Synthetic, SyntheticImages
from trainer.config.datasets import Cifar10, Cifar100, FashionMnist, Mnist, Svhn, Tensors
from trainer.config.durations import RunLength
from trainer.config.model import (
    Attention,
    AutoModel,
    Cnn,
    Linear,
    Mlp,
    ModelConfig,
    RealMlp,
    TabM,
    Tabular,
    Timm,
    Torchvision,
)
from trainer.config.optimizer import OptimizerConfig
from trainer.config.root import Config
from trainer.config.scheduler import SchedulerConfig
from trainer.config.table import Csv
from trainer.config.task import Auto, Classification, Regression, TaskConfig
from trainer.data.checks import checked_data
from trainer.data.target_steps import UndoSteps
from trainer.data.types import Data, DataSpec, Samples
from trainer.errors import ConfigError
from trainer.models.ready import checked_network
from trainer.models.rescale import Clamp, Rescale
from trainer.optim.optimizers import make_optimizer
from trainer.optim.schedules import Schedule, make_schedule
from trainer.runs.build_parts import build_class_loss, build_metrics, build_number_loss, no_builder, own_builder
from trainer.system import seeds
from trainer.tasks.base import Task

RENAMED = {"train_sums": "tally", "train_scores": "training_scores"}  # methods of a task, and what they were called


def build_data(config: DataConfig, seed: int) -> Data:
    """Read or make the data, split for training and validation.

    Raises:
        DataError: where it cannot be had.
    """
    if own := own_builder(config):
        return checked_data(own(seed), f"data={config.option}")
    match config:
        case Csv():
            from trainer.data.table.table_data import load_table

            return load_table(config, seed)
        case Digits():
            from trainer.data.datasets.digits import load_digits

            return load_digits(config, seed)
        case Cifar10():
            from trainer.data.datasets.cifar import CIFAR10, load_cifar

            return load_cifar(config, CIFAR10, seed)
        case Cifar100():
            from trainer.data.datasets.cifar import CIFAR100, load_cifar

            return load_cifar(config, CIFAR100, seed)
        case Mnist():
            from trainer.data.datasets.mnist import MNIST, load_mnist

            return load_mnist(config, MNIST, seed)
        case FashionMnist():
            from trainer.data.datasets.mnist import FASHION_MNIST, load_mnist

            return load_mnist(config, FASHION_MNIST, seed)
        case Svhn():
            from trainer.data.datasets.svhn import load_svhn

            return load_svhn(config, seed)
        case ImageFolder():
            from trainer.data.datasets.image_folder import load_image_folder

            return load_image_folder(config, seed)
        case Tensors():
            from trainer.data.datasets.tensor_file import load_tensor_file

            return load_tensor_file(config, seed)
        case Synthetic():
            from trainer.data.datasets.synthetic import make_synthetic

            return make_synthetic(config, seed)
        case SyntheticImages():
            from trainer.data.datasets.synthetic import make_synthetic_images

            return make_synthetic_images(config, seed)
    raise no_builder(config, "build(self, seed) -> Data")


def read_samples(
    config: DataConfig,
    sources: Sequence[str],
    spec: DataSpec,
    preprocessing: str | None,
    labelled: bool,
    keep: Sequence[str] = (),
) -> Iterator[Samples]:
    """Read new samples for a model that was trained on the data of `config`, in parts.

    Args:
        config: of the training data.
        sources: files or folders.
        spec, preprocessing: as the training data gave them.
        labelled: whether they must have targets.
        keep: columns of a table to hand on with its samples.

    Raises:
        ConfigError: where this dataset reads no new samples, or has no columns.
        DataError: for a source that cannot be read.
    """
    if keep and not isinstance(config, Csv):
        raise ConfigError(f"--keep {','.join(keep)}: data={config.option} has no columns.")
    if isinstance(config, Csv) and own_builder(config, "read") is None:
        from trainer.data.table.table_data import read_table_samples

        yield from read_table_samples(config, sources, spec, preprocessing, labelled, keep)
        return
    found = [match for source in sources for match in _matches(source)]
    for source in found:
        samples = _read_source(config, source, spec, preprocessing, labelled)
        one = len(found) == 1
        names = samples.names if one else [_named(source, str(name)) for name in samples.names]
        yield dataclasses.replace(samples, names=names)


def _matches(source: str) -> list[str]:
    """Return the files and folders that a pattern stands for, in the order of their names; of a path itself alone."""
    if Path(source).expanduser().exists():
        return [source]
    return sorted(glob.glob(source)) or [source]  # noqa: PTH207  # a pattern as it was typed


def _named(source: str, name: str) -> str:
    """Return under which name a sample of one of several sources is listed: that of its file."""
    path = Path(source)
    return source if path.name == name and not path.is_dir() else f"{source.rstrip('/')}/{name}"


def _read_source(config: DataConfig, source: str, spec: DataSpec, preprocessing: str | None, labelled: bool) -> Samples:
    """Read the samples of one source; see `read_samples`."""
    if own := own_builder(config, "read"):
        samples: Samples = own(source, spec, preprocessing, labelled)
        return samples
    if isinstance(config, ImageDataConfig):
        from trainer.data.images.image_samples import WORKERS, read_image_samples

        workers, on_error = WORKERS, None
        if isinstance(config, ImageFolder):
            workers, on_error = config.workers, config.on_error
        return read_image_samples(config, source, spec, preprocessing, labelled, workers, on_error)
    raise ConfigError(
        f"{source}: a run of data={config.option} takes no new samples from a file; those of tables and images "
        "do. Its network is there in Python: trainer.load_model(RUN)."
    )


def build_model(config: Config, spec: DataSpec, load: bool = True) -> nn.Module:
    """Make the network on the CPU, its weights a function of the seed: the same on every device.

    Category codes become learned vectors in front of a model that takes numbers only. A regressor's outputs are scaled
    to the target's units where `rescales` says so, so that the model learns equally well in any unit.

    Args:
        load: whether `model.weights` are loaded; False where those of a checkpoint will be.
    """
    seeds.reseed(torch.device("cpu"), seeds.fold(config.seed, seeds.INIT))
    chosen = chosen_model(config.model, spec)[0]
    if spec.cardinalities and not chosen.takes_categories:
        from trainer.models.embeddings import Embeddings

        front = Embeddings(spec.features, spec.cardinalities)
        widened = dataclasses.replace(spec, input_shape=(front.features,), cardinalities=())
        model: nn.Module = nn.Sequential(front, build_network(chosen, widened, load))
    else:
        model = build_network(chosen, spec, load)
    last: list[nn.Module] = []
    if rescales(config, spec):
        assert spec.target_mean is not None
        assert spec.target_std is not None
        last.append(Rescale(spec.target_mean, spec.target_std))
    if spec.target_steps:
        last.append(UndoSteps(spec.target_steps))
    if isinstance(chosen, RealMlp) and chosen.clamp and spec.target_low and spec.target_high:
        last.append(Clamp(spec.target_low, spec.target_high))
    return nn.Sequential(model, *last) if last else model


def rescales(config: Config, spec: DataSpec) -> bool:
    """Return whether the outputs of the model are scaled to the target's units: `task.rescale`, of numbers alone."""
    if spec.target_mean is None or spec.target_std is None:
        return False
    wanted: bool | None = getattr(config.task, "rescale", None)
    return own_builder(config.model) is None if wanted is None else wanted


def chosen_model(config: ModelConfig, spec: DataSpec) -> tuple[ModelConfig, str]:
    """Return a model that was named, and ""; for `model=auto` the one that suits the data, and what for."""
    if not isinstance(config, AutoModel):
        return config, ""
    from trainer.models.choice import choose_model

    return choose_model(spec)


def build_network(config: ModelConfig, spec: DataSpec, load: bool = True) -> nn.Module:
    """Make the network of a model config: from float (B, *spec.input_shape) to (B, spec.outputs).

    Args:
        load: see `build_model`.

    Raises:
        ConfigError: where the model does not take data of that shape.
    """
    if own := own_builder(config):
        return checked_network(own(spec), spec, f"model={config.option}")
    match config:
        case Attention():
            from trainer.models.attention import attention_model

            return attention_model(config, spec)
        case Cnn():
            from trainer.models.cnn import cnn_model

            return cnn_model(config, spec)
        case Linear():
            from trainer.models.linear import linear_model

            return linear_model(spec.features, spec.outputs, config.bias)
        case Mlp():
            from trainer.models.mlp import MLP

            return MLP(
                spec.features, spec.outputs, config.hidden, config.activation, config.dropout, config.layer_norm()
            )
        case RealMlp():
            from trainer.models.realmlp import realmlp_model

            return realmlp_model(config, spec)
        case TabM():
            from trainer.models.tabm import tabm_model

            return tabm_model(config, spec)
        case Tabular():
            from trainer.models.tabular import tabular_model

            return tabular_model(config, spec)
        case Torchvision():
            from trainer.models.torchvision import build_classifier

            return build_classifier(config.arch, config.weights, spec, load)
        case Timm():
            from trainer.models.timm_model import build_timm

            return build_timm(config.arch, config.weights, spec, load)
    raise no_builder(config, "build(self, spec) -> torch.nn.Module")


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer over the model's trainable parameters, fused where torch offers it on their device."""
    if own := own_builder(config):
        optimizer: torch.optim.Optimizer = own(model)
        return optimizer
    return make_optimizer(config, model)


def build_schedule(config: SchedulerConfig, run: RunLength) -> Schedule:
    """Make the schedule for a run of that length; raises `ConfigError` where a duration does not fit it."""
    if own := own_builder(config):
        schedule: Schedule = own(run)
        return schedule
    return make_schedule(config, run)


def build_task(config: TaskConfig, spec: DataSpec) -> Task:
    """Make the task for data of that kind; raises `ConfigError` where the data does not suit it."""
    if own := own_builder(config):
        task: Task = own(spec)
        _check_task(config, task)
        return task
    match config:
        case Auto(loss=loss, metrics=metrics, label_smoothing=smoothing) if spec.labels is not None:
            return build_task(Classification(label_smoothing=smoothing, loss=loss, metrics=metrics), spec)
        case Auto(loss=loss, metrics=metrics):
            return build_task(Regression(loss=loss, metrics=metrics), spec)
        case Classification():
            from trainer.tasks.classification import ClassificationTask

            loss, metrics = build_class_loss(config), build_metrics(config, spec)
            return ClassificationTask(spec, config.label_smoothing, config.class_weights, loss, metrics)
        case Regression():
            from trainer.tasks.regression import RegressionTask

            return RegressionTask(spec, build_number_loss(config), build_metrics(config, spec))
    raise no_builder(config, "build(self, spec) -> Task")


def _check_task(config: TaskConfig, task: Task) -> None:
    """Raise `ConfigError` for a task of a plug-in that lacks what training needs."""
    needed = ("kind", "monitor", "mode", "score_names", "to", "weight", "loss_sum", *RENAMED, "evaluation")
    lacking = [name for name in needed if not hasattr(task, name)]
    if lacking:
        old = [f"{name} was called {RENAMED[name]}" for name in lacking if name in RENAMED]
        hint = f" ({'; '.join(old)})" if old else ""
        raise ConfigError(f"task={config.option}: {type(task).__qualname__} has no {', '.join(lacking)}{hint}.")


def with_published_inputs(model: ModelConfig, data: DataConfig) -> tuple[DataConfig, str]:
    """Return the config of the data with what published weights expect in the place of what it leaves open, and that.

    Weights that were trained on images of a size, normalised by their means, work best on such images.
    """
    if not isinstance(model, (Torchvision, Timm)) or not isinstance(data, ImageDataConfig):
        return data, ""
    if isinstance(model, Timm):
        from trainer.models.timm_model import timm_images

        images = timm_images(model.arch, model.weights)
    else:
        from trainer.models.torchvision import published_images

        images = published_images(model.arch, model.weights)
    if images is None:
        return data, ""
    changed: dict[str, Any] = {}
    if data.mean is None and data.std is None:
        changed |= {"mean": images.mean, "std": images.std}
    if isinstance(data, ImageFolder) and data.image_size is None and data.shape is None:
        changed["image_size"] = images.size
    words = ", ".join(f"data.{name}={value}".replace(" ", "") for name, value in changed.items())
    note = f"{'inputs':<10}{words}: as {images.weights} were trained" if changed else ""
    return dataclasses.replace(data, **changed), note


def build_data_and_task(config: Config, learned: Sequence[str] | None = None) -> tuple[Data, Task]:
    """Make the data of a config, and what is learned of it.

    Args:
        learned: the classes of a network that is to know them, in its order; None: there is none.
    """
    source = config.data
    numbers = config.task.option == "regression"
    if numbers and isinstance(source, Csv) and source.target_type == "auto":
        source = dataclasses.replace(source, target_type="number")  # the task decides, however few values there are
    source, note = with_published_inputs(config.model, source)
    data = build_data(source, config.seed)
    if note:
        data = dataclasses.replace(data, notes=(*data.notes, note))
    if numbers:
        data = data.as_regression()
    elif learned is not None:
        data = data.in_order(learned)
    return data, build_task(config.task, data.spec)
