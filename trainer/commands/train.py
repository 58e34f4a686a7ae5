"""`train`: compose the config, make or find the run, train it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config import plugins
from trainer.errors import ConfigError, TrainerError
from trainer.system.signals import Interrupted, SignalHandler

OUT_OF_TIME = 124


def main(arguments: Sequence[str]) -> int:
    """Run `train`; returns the exit code."""
    with SignalHandler() as signals:
        return _main(arguments, signals)


def _main(arguments: Sequence[str], signals: SignalHandler) -> int:
    args = parse_arguments(arguments)
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
        with signals.interruptible:
            plugins.load(args.imports)
            from trainer.commands.sweep import sweep
        return sweep(args.overrides, args.imports, args.config_dir, signals)
    return train_run(args, signals)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; flags may stand anywhere among the overrides."""
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


def train_run(args: argparse.Namespace, signals: SignalHandler) -> int:
    """Train one run, new or resumed; return the exit code."""
    with signals.interruptible:
        plugins.load(args.imports)
        from trainer.config import compose
        from trainer.runs.start import understand

        start = understand(args.overrides, args.imports, args.config_dir, lock=not args.cfg)
        if args.cfg:
            print(compose.to_yaml(start.cfg), end="")
            return 0
        refuse_ranks()
        from trainer.loggers.screen import Screen
        from trainer.runs.directory import Run
        from trainer.runs.run_training import run_training
    run = start.run or Run.create(start.config.output_dir)
    try:
        return exit_code(run_training(start, run, Screen(), signals))
    except (TrainerError, Interrupted):
        if start.run is None and not run.began:
            run.discard()  # nothing was trained, and the message says why
        raise
    finally:
        run.release()


def exit_code(summary: dict[str, Any]) -> int:
    """Return 0 for a run that has ended, 128 + N after signal N, 124 (as timeout(1)) after `trainer.max_time`."""
    word, _, number = summary["reason"].partition(" ")
    if word == "signal":
        return 128 + int(number)
    return OUT_OF_TIME if summary["status"] == "stopped" else 0


def refuse_ranks() -> None:
    """Raise `ConfigError` under a launcher: that each process trains the whole run is never what was meant."""
    import os

    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: this version trains in one process; start it without torchrun."
        )
