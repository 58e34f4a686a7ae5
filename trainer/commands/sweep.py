"""`train -m` and `train resume=SWEEP`: many runs, and a table of what came out."""

from collections.abc import Sequence
from pathlib import Path

from trainer.config import compose
from trainer.config.sweep import OptunaSweep
from trainer.errors import ConfigError
from trainer.loggers.screen import Screen, say
from trainer.runs.find import is_sweep, sweep_to_resume
from trainer.sweeps.definition import Definition, check_trials, composer_of, replaced_files
from trainer.sweeps.directory import SweepDirectory, own_sweep
from trainer.sweeps.engines import open_engine
from trainer.sweeps.local import start_server
from trainer.sweeps.preview import preview
from trainer.sweeps.run_sweep import SweepRun
from trainer.sweeps.screen import SweepScreen
from trainer.sweeps.suggest import check_packages_of
from trainer.system.home import expanded
from trainer.system.signals import SignalHandler

RESUME = "resume"
# Words with which the process that trials are forked from is started once all is known, and not while it is composed.
SERVED_LATER = ("sweep=optuna", "sweep.engine=", f"{RESUME}=")


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
    if not dry_run and not any(word.startswith(SERVED_LATER) for word in overrides):
        start_server()
    with signals.interruptible:
        directory, device = _open(overrides, imports, config_dirs, dry_run)
    if directory is None:
        return 0
    console = Screen()
    for path in replaced_files(directory.definition):
        say(console, f"config    {path} in place of the packaged one")
    try:
        engine = open_engine(directory, device)
    except ConfigError:
        directory.discard()  # where nothing has begun: the message says why
        raise
    with SweepScreen(console, directory) as screen:
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
    parsed = compose.parse(overrides)
    again = any(o.key_or_group == RESUME and o.value() == "auto" for o in parsed)
    typed = [o.input_line or "" for o in parsed if o.key_or_group != RESUME or not (path or again)]
    if path is not None:
        directory = SweepDirectory.open(path, typed, imports)
        definition = directory.definition
    else:
        definition = Definition.of(typed, imports, config_dirs)
    if isinstance(definition.sweep, OptunaSweep):
        check_packages_of(definition.sweep)
    check_trials(definition)
    if dry_run:
        preview(definition)
        return None, ""
    first = composer_of(definition)(definition.overrides(0, tuple(p.ends[0] for p in definition.varied)))
    if path is None:
        directory = _make(definition, typed, expanded(str(first.output_dir)), again)
    return directory, str(first.trainer.device)


def _make(definition: Definition, typed: Sequence[str], output_dir: Path, again: bool) -> SweepDirectory:
    """Make the directory of a sweep, or open the one that the same command has made.

    Args:
        again: whether to look for that one, by `resume=auto`; without it, `sweep.dir` alone can name it.
    """
    named = definition.sweep.dir
    there = expanded(named) if named is not None else own_sweep(definition, output_dir) if again else None
    if there is None or not is_sweep(there):
        return SweepDirectory.create(definition, str(output_dir))
    keys = [o.input_line or "" for o in compose.parse(typed) if compose.is_of_sweep(o) and "." in o.key_or_group]
    directory = SweepDirectory.open(
        there, [text for text in keys if not text.startswith("sweep.dir=")], definition.imports
    )
    if not directory.definition.is_same(definition):
        words = " ".join(directory.definition.typed)
        raise ConfigError(
            f"sweep.dir={there}: holds another sweep ({words}); name a new directory, or go on with it: "
            f"train resume={there}"
        )
    return directory
