"""`train`: compose the config, make or find the run, train it."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import plugins
from trainer.errors import ConfigError, TrainerError
from trainer.system.signals import Interrupted, SignalHandler

OUT_OF_TIME = 124


def main(arguments: Sequence[str]) -> int:
    """Run `train`; returns the exit code."""
    with SignalHandler() as interruption:
        return _main(arguments, interruption)


def _main(arguments: Sequence[str], interruption: SignalHandler) -> int:
    args = parse(arguments)
    if args.help:
        from trainer.commands.help import help_text

        plugins.load(args.imports)
        print(help_text())
        return 0
    if args.version:
        from trainer.version import __version__

        print(f"trainer {__version__}")
        return 0
    if args.multirun:
        with interruption.droppable:
            plugins.load(args.imports)
            from trainer.commands.sweep import sweep
        return sweep(args.overrides, args.imports, args.config_dir, interruption)
    return train(args, interruption)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; flags may stand anywhere among the overrides."""
    parser = argparse.ArgumentParser(prog="train", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--import", dest="imports", action="append", default=[])
    parser.add_argument("--config-dir", type=Path, action="append", default=[])
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    args = parser.parse_intermixed_args(arguments)
    for folder in args.config_dir:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder.")
    return args


@dataclass
class Start:
    """What a run starts from, once the command line was understood.

    Attributes:
        cfg, config: the same config, as composed and as checked dataclasses.
        overrides: what was typed, without `resume`.
        run: the run to go on with, locked; None: a new one.
        checkpoint: the one to go on from; None: the beginning.
        changes: keys changed on resuming (see `trainer.runs.changes.Change`).
        before: the config before those changes.
    """

    cfg: Any
    config: Any
    overrides: list[str]
    run: Any = None
    checkpoint: str | None = None
    changes: list[Any] = field(default_factory=list)
    before: Any = None


def train(args: argparse.Namespace, interruption: SignalHandler) -> int:
    """Train one run, new or resumed."""
    with interruption.droppable:
        plugins.load(args.imports)
        start = _start(args)
        if args.cfg:
            from trainer.config import compose

            print(compose.to_yaml(start.cfg), end="")
            return 0
        refuse_ranks()
        from trainer.loggers.console import Screen
        from trainer.runs.directory import Run
        from trainer.runs.run_training import Execution
    run = start.run or Run.create(start.config.output_dir)
    execution = Execution(
        start.cfg,
        start.config,
        run,
        Screen(),
        interruption,
        start.overrides,
        args.imports,
        start.checkpoint,
        start.changes,
        start.before,
    )
    try:
        summary = execution()
    except (TrainerError, Interrupted):
        if start.run is None and not execution.started:
            run.discard()  # nothing was trained, and the message says why
        raise
    finally:
        run.release()
    return exit_code(summary)


def _start(args: argparse.Namespace) -> Start:
    """Compose the config of a new run, or find and lock the run to resume.

    Raises:
        ConfigError, CheckpointError: for what was typed, and for a run that another process is writing.
    """
    from trainer.config import compose
    from trainer.runs.changes import changed_config
    from trainer.runs.find import locate

    parsed = compose.parse(args.overrides)
    given = {o.key_or_group: o.value() for o in parsed if not o.is_sweep_override()}
    swept = [o.input_line for o in parsed if o.is_sweep_override()]
    if swept:
        raise ConfigError(f"{swept[0]}: several values are a sweep; add -m, or write a list as [a,b].")
    overrides = [o.input_line for o in parsed if o.key_or_group != "resume" and o.input_line]
    output_dir = Path(str(given.get("output_dir", "outputs"))).expanduser()
    run, checkpoint = None, None
    if given.get("resume") is not None:
        run, checkpoint = locate(str(given["resume"]), output_dir)
        if run is None:
            print(f"resume={given['resume']}: no unfinished run in {output_dir}; starting a new one.")
    if run is None:
        cfg = compose.compose(overrides, args.config_dir)
        return Start(cfg, compose.to_config(cfg), overrides)
    if not args.cfg:
        run.lock()  # before anything of it is read: what another process is changing says nothing
    try:
        cfg, saved, changes = changed_config(run, overrides, args.imports, args.config_dir)
        config, before = compose.to_config(cfg), compose.to_config(saved)
        if run.never_began():
            print(f"{run.directory} was stopped before its first checkpoint; it starts from the beginning.")
            checkpoint = None
    except BaseException:
        run.release()
        raise
    return Start(cfg, config, overrides, run, checkpoint, changes, before)


def exit_code(summary: dict[str, Any]) -> int:
    """0 for a run that has ended; 130 or 143 where a signal has stopped it, 124 (as timeout(1)) where max_time has."""
    word, _, number = summary["reason"].partition(" ")
    if word == "signal":
        return 128 + int(number)
    return OUT_OF_TIME if summary["status"] == "stopped" else 0


def refuse_ranks() -> None:
    """Several processes that each train the whole run into their own directory are never what was meant."""
    import os

    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: this version trains in one process; start it without torchrun."
        )
