"""Networks with the weights of a run."""

import contextlib
import dataclasses
import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.checkpoint.names import BEST, LAST, pointed
from trainer.checkpoint.store import Store
from trainer.config import compose
from trainer.config.root import Config
from trainer.config.table import READING, WRITING, Csv
from trainer.data.types import DataSpec
from trainer.errors import CheckpointError, ConfigError
from trainer.models.transfer import transfer
from trainer.runs.build import build_model
from trainer.runs.directory import Run
from trainer.runs.meaning import saved_config
from trainer.runs.references import locate, runs_folder
from trainer.runs.start_folder import PATHS, resolve_paths
from trainer.training.average import AVERAGE, saved_weights

log = logging.getLogger("trainer")


@dataclass(frozen=True)
class Trained:
    """A trained network, and what new samples need on their way to it.

    Attributes:
        model: in eval mode on the CPU, with the weights that its checkpoint was judged by: those that were trained, or
            their average (`trainer.ema`).
        config: of the run.
        spec, preprocessing: of its data, see `trainer.data.types.Data`.
        checkpoint: where it was loaded from.
        step: optimizer steps that it was trained for.
        averaged: whether its weights are the averaged ones.
    """

    model: nn.Module
    config: Config
    spec: DataSpec
    preprocessing: str | None
    checkpoint: Path
    step: int
    averaged: bool = False

    @property
    def words(self) -> str:
        """Where it comes from, for people."""
        return f"{self.checkpoint}, after {self.step:,} steps{', averaged weights' * self.averaged}"


def load_model(path: str | Path, checkpoint: str = "best") -> nn.Module:
    """Load the trained network of a run; see `load_trained`."""
    return load_trained(path, checkpoint).model


def load_trained(path: str | Path, checkpoint: str = "best") -> Trained:
    """Load what a run has trained.

    Args:
        path: a run directory, or a checkpoint in one.
        checkpoint: which one of a run directory: best, last, or a `step-...`.

    Raises:
        CheckpointError: where it is missing or damaged, or its files do not belong together.
    """
    run, named = locate(str(path), runs_folder, "path")
    payload, found = Store(run.checkpoints).load(_checkpoint(run, named, path, checkpoint))
    config = compose.to_config(saved_config(run)[1])
    for text in resolve_paths(config, run):
        log.warning(text)
    try:
        spec, weights = DataSpec.from_dict(payload["data_spec"]), _weights(payload)
        with contextlib.suppress(NotImplementedError), torch.device("meta"):  # not every network is made there
            # Before there is memory for it: what the config and the spec ask for must be what the file has.
            build_model(config, spec, load=False).load_state_dict(weights, assign=True)
        model = build_model(config, spec, load=False)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{path}: its weights are not those of its config and data: {' '.join(str(error).split())[:300]}"
        ) from error
    preprocessing = payload.get("preprocessing")
    if not isinstance(preprocessing, str | None):
        raise CheckpointError(f"{path}: the preprocessing in its checkpoint is no text.")
    averaged = saved_weights(payload) == AVERAGE
    return Trained(model.eval(), config, spec, preprocessing, found, int(payload["step"]), averaged)


def for_other_files(config: Config, overrides: Sequence[str], others: bool = True) -> Config:
    """Return the config of a run for files that were not its own, or its own in another place.

    How such a file writes its table is found in it, whatever the keys said of the run's own files; `overrides` say it.

    Args:
        config: of the run.
        overrides: data.KEY=VALUE, of the keys of `trainer.config.table.READING`; of its own files where they are.
        others: whether they are others.

    Raises:
        ConfigError: for any other key.
    """
    data = config.data
    if isinstance(data, Csv) and others:
        defaults = Csv()
        data = dataclasses.replace(data, **{name: getattr(defaults, name) for name in WRITING})
    allowed = [*READING] if isinstance(data, Csv) else [key for key in ("on_error",) if hasattr(data, key)]
    allowed += [] if others else [key for key in PATHS["data"] if hasattr(data, key)]
    for override in compose.parse(overrides):
        name = override.key_or_group.split(".")[1]
        if name not in allowed:
            known = ", ".join(f"data.{key}" for key in allowed) or "none"
            what = "how new files are read" if others else "where its files are, and how they are read"
            raise ConfigError(f"{override.input_line}: only what says {what} can be given here: {known}.")
    changed = dataclasses.replace(config, data=data)
    return compose.to_config(compose.assign(compose.from_config(changed), compose.parse(overrides)))


def load_weights(model: nn.Module, source: str, output_dir: Path, spec: DataSpec) -> None:
    """Start from the weights of another run or checkpoint (`init_from`); nothing else of it is taken.

    Of a run it is the best checkpoint, as for `load_trained`.

    Args:
        spec: of the data that is now to be learned, whose classes may be others; see `trainer.models.transfer`.

    Raises:
        CheckpointError: where it is missing, damaged, or of another network.
    """
    run, named = locate(source, lambda: output_dir, "init_from")
    payload, path = Store(run.checkpoints).load(_checkpoint(run, named, source, BEST))
    try:
        changed = transfer(model, _weights(payload), learned_classes(payload), spec.labels)
    except (RuntimeError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"init_from={path}: weights of another network: {' '.join(str(error).split())[:300]}"
        ) from error
    log.info(f"init_from {path}{', averaged weights' * (saved_weights(payload) == AVERAGE)}")
    for words in changed:
        log.info(f"init_from {words}")


def learned_classes(payload: dict[str, Any]) -> list[str] | None:
    """Return the names of the classes that a checkpoint tells apart; None where it has none, or damaged ones.

    A run of an older version has the names of folders in the form of Unicode that the disk gave them.
    """
    saved = payload.get("data_spec")
    labels = saved.get("labels") if isinstance(saved, dict) else None
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        return None
    return normalized(labels)


def normalized(names: Sequence[str]) -> list[str]:
    """Return names in the form of Unicode in which they are compared."""
    return [unicodedata.normalize("NFC", name) for name in names]


def _checkpoint(run: Run, named: str, path: str | Path, wanted: str) -> str:
    """Return the checkpoint that a path names, else the wanted one; the last one where nothing was validated yet."""
    name = named if run.checkpoints.absolute() in Path(path).absolute().parents else wanted
    return LAST if name == BEST and pointed(run.checkpoints, BEST) is None else name


def _weights(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the weights that a checkpoint was judged by: those that were trained, or their average."""
    if saved_weights(payload) != AVERAGE:
        weights: dict[str, Any] = payload["model_state_dict"]
        return weights
    prefix = "module."
    return {k.removeprefix(prefix): v for k, v in payload["ema_state_dict"].items() if k.startswith(prefix)}
