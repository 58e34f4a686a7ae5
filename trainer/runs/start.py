"""What a run starts from: the config of a new run, or that of a run to go on with."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config import compose
from trainer.config.override_errors import first_line
from trainer.config.quoting import shell_override
from trainer.config.root import Config
from trainer.errors import ConfigError
from trainer.runs.changes import Change, changed_config
from trainer.runs.directory import Run
from trainer.runs.find import locate
from trainer.system import streams


@dataclass(frozen=True)
class RunStart:
    """What a run starts from.

    Attributes:
        cfg, config: the same config, as composed and as checked dataclasses.
        run: the one to go on with, locked by this process; None: a new one is to be made.
        overrides: what was typed, without `resume`.
        imports: what `--import` was given.
        checkpoint: the one to go on from; None: the beginning.
        changes: keys changed on resuming.
        before: the config before those changes.
    """

    cfg: DictConfig
    config: Config
    run: Run | None = None
    overrides: Sequence[str] = ()
    imports: Sequence[str] = ()
    checkpoint: str | None = None
    changes: Sequence[Change] = ()
    before: Config | None = None


def understand(
    typed: Sequence[str], imports: Sequence[str], config_dirs: Sequence[Path], lock: bool = True
) -> RunStart:
    """Compose the config of a new run, or find the run to resume, from the overrides of a command line.

    Args:
        lock: whether to become the writer of the run to resume.

    Raises:
        ConfigError, CheckpointError: for what was typed, and for a run that another process is writing.
    """
    parsed = compose.parse(typed)
    given = {o.key_or_group: o.value() for o in parsed if not o.is_sweep_override()}
    swept = [o for o in parsed if o.is_sweep_override()]
    if swept:
        key, _, text = (swept[0].input_line or "").partition("=")
        quoted = shell_override(key, text)
        raise ConfigError(
            f"{key}={text}: several values are a sweep; add -m, write a list as [a,b], or quote one value: {quoted}."
        )
    overrides = [o.input_line for o in parsed if o.key_or_group != "resume" and o.input_line]
    resume, run = _resolved("resume", given.get("resume")), None
    if resume is not None:
        output_dir = Path(str(given.get("output_dir", "outputs"))).expanduser()
        run, checkpoint = locate(str(resume), output_dir)
        if run is None:
            streams.tell(f"resume={resume}: no unfinished run in {output_dir}; starting a new one.", sys.stdout)
    if run is None:
        cfg = compose.compose(overrides, config_dirs)
        return RunStart(cfg, compose.to_config(cfg), None, overrides, imports)
    if lock:
        run.lock()  # before anything of it is read: what another process is changing says nothing
    try:
        cfg, saved, changes = changed_config(run, overrides, imports, config_dirs)
        config, before = compose.to_config(cfg), compose.to_config(saved)
        if run.never_began():
            text = f"{run.directory} was stopped before its first checkpoint; it starts from the beginning."
            streams.tell(text, sys.stdout)
            return RunStart(cfg, config, run, overrides, imports, None, changes, before)
    except BaseException:
        run.release()
        raise
    return RunStart(cfg, config, run, overrides, imports, checkpoint, changes, before)


def _resolved(key: str, value: Any) -> Any:
    """Return a value that is needed before there is a config, with its `${...}` resolved, and read if escaped."""
    try:
        return OmegaConf.create({key: value})[key]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}={value}: {first_line(error)}.") from error
