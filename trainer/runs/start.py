"""What a run starts from: the config of a new run, or that of a run to go on with."""

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from trainer.config import compose
from trainer.config.quoting import shell_command
from trainer.config.root import Config
from trainer.config.section import FREE
from trainer.errors import ConfigError
from trainer.runs.changes import Change, changed_config
from trainer.runs.directory import Run
from trainer.runs.find import own_run
from trainer.runs.references import locate
from trainer.runs.start_folder import resolve_paths
from trainer.runs.start_record import CommandLine, StartRecord, write_start
from trainer.system import atomic_files, locks
from trainer.system.home import expanded
from trainer.training.stopping import Pruner


@dataclass(frozen=True)
class RunStart:
    """What a run starts from.

    Attributes:
        cfg, config: the same config, as composed and as checked dataclasses.
        run: the one to go on with, locked by this process; None: a new one is to be made.
        command: what was typed.
        checkpoint: the one to go on from; None: the beginning.
        changes: keys changed on resuming.
        before: the config before those changes.
        notes: what to say before anything else, each with its level of `logging`.
        finished: the summary of a run that has nothing left to do; `run` is then not locked.
        swept: the keys that vary in the sweep that it is a trial of.
        pruner: stops a trial that will not be the best; None: nothing does.
    """

    cfg: DictConfig
    config: Config
    run: Run | None = None
    command: CommandLine = CommandLine()
    checkpoint: str | None = None
    changes: Sequence[Change] = ()
    before: Config | None = None
    notes: Sequence[tuple[int, str]] = ()
    finished: dict[str, Any] | None = None
    swept: Sequence[str] = ()
    pruner: Pruner | None = None


def understand(command: CommandLine, held: contextlib.ExitStack | None) -> RunStart:
    """Compose the config of a new run, or find the run to resume, from a command line without `resume`.

    Args:
        held: takes the lock on the folder of the runs in which no run of this command was found, for no other process
            to begin one at the same time; None: nothing is locked, and the run is not written to.

    Raises:
        ConfigError, CheckpointError: for what was typed, and for a run that another process is writing.
    """
    resume = command.resume
    if resume == "auto":
        return _own(command, held)
    if resume is None:
        cfg = command.compose()
        return RunStart(cfg, compose.to_config(cfg), None, command, notes=_restart_warning(command) + command.notes())
    if command.config is not None:
        raise ConfigError(f"--config {command.config}: is for a new run; resume={resume} takes the config of that run.")

    def output_dir() -> Path:
        typed = [text for text in command.overrides if text.lstrip("+").startswith("output_dir=")]
        return _output_dir(compose.to_config(compose.compose(typed)))

    run, checkpoint = locate(resume, output_dir)
    return _resumed(command, run, checkpoint, None, held is not None)


def begin(start: RunStart) -> Run:
    """Make the directory of a new run, and write down how it was begun."""
    run = Run.create(start.config.output_dir)
    try:
        write_start(run, StartRecord.of_command(start.config.run.name, start.command))
        run.write_config(compose.to_yaml(start.cfg), list(start.command.overrides))
    except BaseException:
        run.discard()
        raise
    return run


def _own(command: CommandLine, held: contextlib.ExitStack | None) -> RunStart:
    """Return the start of the run that this command has begun before, or of a new one."""
    cfg = command.compose()
    config = compose.to_config(cfg)
    output_dir = _output_dir(config)
    if held is not None:
        try:
            atomic_files.make_synced_directory(output_dir)
            held.enter_context(locks.sole(output_dir))
        except OSError as error:
            raise ConfigError(f"output_dir={output_dir}: cannot be used ({error.strerror}).") from error
    run, texts = own_run(StartRecord.of_command(config.run.name, command), output_dir)
    notes = command.notes() + [(logging.INFO, text) for text in texts]
    if run is None:
        return RunStart(cfg, config, None, command, notes=notes)
    summary = run.summary() or {}
    if summary.get("status") == "completed" and {"reason", "steps", "seconds", "best"} <= summary.keys():
        _, _, changes = _changed(command, run, cfg)
        if all(change.kind == FREE for change in changes):
            notes.append((logging.INFO, f"resume=auto: nothing to do: {run.directory} has completed."))
            return RunStart(cfg, config, run, command, notes=notes, finished=summary)
    return _resumed(command, run, "last", cfg, held is not None, notes)


def _resumed(
    command: CommandLine,
    run: Run,
    checkpoint: str,
    composed: DictConfig | None,
    lock: bool,
    notes: Sequence[tuple[int, str]] = (),
) -> RunStart:
    """Return the start of a run that goes on: with its own config and the overrides, or with a composed one."""
    if lock:
        run.lock()  # before anything of it is read: what another process is changing says nothing
    try:
        cfg, saved, changes = _changed(command, run, composed)
        config, before = compose.to_config(cfg), compose.to_config(saved)
        notes = [*notes, *((logging.INFO, text) for text in resolve_paths(config, run))]
        if run.never_began():
            text = f"{run.directory} was stopped before its first checkpoint; it starts from the beginning."
            return RunStart(cfg, config, run, command, None, changes, before, [*notes, (logging.INFO, text)])
    except BaseException:
        run.release()
        raise
    return RunStart(cfg, config, run, command, checkpoint, changes, before, notes)


def _changed(
    command: CommandLine, run: Run, composed: DictConfig | None
) -> tuple[DictConfig, DictConfig, list[Change]]:
    return changed_config(run, command.overrides, command.imports, command.config_dirs, composed)


def _output_dir(config: Config) -> Path:
    return expanded(config.output_dir)


def _restart_warning(command: CommandLine) -> list[tuple[int, str]]:
    """Return a warning where a scheduler has started a job again, and this command begins from zero."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    if restarts in ("", "0"):
        return []
    line = shell_command("train", *command.flags(), "resume=auto", *command.overrides)
    text = (
        f"SLURM_RESTART_COUNT={restarts}: Slurm has started this job again, and it begins from zero; to go on: {line}"
    )
    return [(logging.WARNING, text)]
