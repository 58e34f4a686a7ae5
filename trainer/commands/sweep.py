"""`train -m` and `train resume=SWEEP`: many runs, and a table of what came out."""

from collections.abc import Sequence
from pathlib import Path

from trainer.config import compose
from trainer.config.section import FIXED
from trainer.config.sweep import OptunaSweep
from trainer.errors import ConfigError
from trainer.loggers.console import Screen
from trainer.runs.find import is_sweep, sweep_to_resume
from trainer.sweeps.definition import Definition, check_trials, composer_of
from trainer.sweeps.directory import SweepDirectory
from trainer.sweeps.engines import open_engine
from trainer.sweeps.preview import preview
from trainer.sweeps.run_sweep import SweepRun
from trainer.sweeps.screen import SweepScreen
from trainer.sweeps.suggest import check_packages_of
from trainer.system.signals import SignalHandler


def sweep(
    overrides: Sequence[str],
    imports: Sequence[str],
    config_dirs: Sequence[Path],
    signals: SignalHandler,
    dry_run: bool = False,
) -> int:
    """Check every trial, run them all, print and write the results; return the exit code.

    0: all completed; 1: one failed; 124: `sweep.max_time` was over; 130 and 143: stopped after saving.

    Raises:
        ConfigError: for a mistake in any of the trials, before the first one starts.
    """
    with signals.interruptible:
        directory, device = _open(overrides, imports, config_dirs, dry_run)
    if directory is None:
        return 0
    engine = open_engine(directory.definition.sweep, device)
    with SweepScreen(Screen(), directory) as screen:
        screen.opening(engine.jobs)
        run = SweepRun(directory, engine, screen, signals)
        code = run.run()
        results = run.write()
    screen.closing(results)
    return code


def _open(
    overrides: Sequence[str], imports: Sequence[str], config_dirs: Sequence[Path], dry_run: bool
) -> tuple[SweepDirectory | None, str]:
    """Return the sweep that was typed, and the device of its trials; None: it was only shown."""
    path = sweep_to_resume(overrides)
    if path is not None:
        changes = [o.input_line or "" for o in compose.parse(overrides) if o.key_or_group != "resume"]
        directory = SweepDirectory.open(path, changes, imports)
        definition = directory.definition
    else:
        definition = Definition.of(overrides, imports, config_dirs)
    if isinstance(definition.sweep, OptunaSweep):
        check_packages_of(definition.sweep)
    check_trials(definition)
    shared = composer_of(definition)(definition.overrides(0, tuple(p.ends[0] for p in definition.varied)))
    if dry_run:
        preview(definition)
        return None, ""
    if path is None:
        directory = _new(definition, imports, overrides, str(shared.output_dir))
    return directory, str(shared.trainer.device)


def _new(definition: Definition, imports: Sequence[str], overrides: Sequence[str], output_dir: str) -> SweepDirectory:
    """Make the directory of a sweep, or open the one that the same command has made."""
    there = None if definition.sweep.dir is None else Path(definition.sweep.dir).expanduser()
    if there is None or not is_sweep(there):
        return SweepDirectory.create(definition, output_dir)
    own = [o.input_line or "" for o in compose.parse(overrides) if compose.is_of_sweep(o) and "." in o.key_or_group]
    directory = SweepDirectory.open(there, [text for text in own if not text.startswith("sweep.dir=")], imports)
    saved, fixed = (
        directory.definition,
        [key for key in definition.sweep.keys() if definition.sweep.change(key) == FIXED],
    )
    if (
        list(saved.typed) != list(definition.typed)
        or saved.sweep.option != definition.sweep.option
        or any(getattr(saved.sweep, key) != getattr(definition.sweep, key) for key in fixed)
    ):
        raise ConfigError(
            f"sweep.dir={there}: holds another sweep ({' '.join(saved.typed)}); name a new directory, or go on with "
            f"it: train resume={there}"
        )
    return directory
