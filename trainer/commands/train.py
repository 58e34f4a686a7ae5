"""`train`: compose the config, make or find the run, train it."""

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config import plugins
from trainer.errors import ConfigError, TrainerError
from trainer.system.signals import Interrupted, SignalHandler

OUT_OF_TIME = 124

# What tells each of several processes how many there are, and how to start one instead.
LAUNCHERS = {
    "WORLD_SIZE": "without torchrun",
    "SLURM_STEP_NUM_TASKS": "with srun --ntasks=1",  # of the step; SLURM_NTASKS is there in a batch script, too
    "OMPI_COMM_WORLD_SIZE": "without mpirun",  # Open MPI
    "PMI_SIZE": "without mpirun",  # MPICH, Intel MPI, and srun --mpi=pmi2
    "MV2_COMM_WORLD_SIZE": "without mpirun",  # MVAPICH2
}


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
    if not args.cfg or args.multirun:
        refuse_ranks()
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
    with contextlib.ExitStack() as held:
        with signals.interruptible:
            load_plugins(args)
            from trainer.config import compose
            from trainer.runs.start import begin, understand
            from trainer.runs.start_record import CommandLine

            command = CommandLine.parse(args.overrides, args.imports, args.config_dir)
            start = understand(command, None if args.cfg else held)
            if args.cfg:
                print(compose.to_yaml(start.cfg), end="")
                return 0
            from trainer.loggers.screen import Screen
            from trainer.runs.run_training import run_training, say_finished
        if start.finished is not None:
            say_finished(start, Screen())
            return 0
        run = start.run or begin(start)
    try:
        return exit_code(run_training(start, run, Screen(), signals))
    except (TrainerError, Interrupted):
        if start.run is None and not run.began:
            run.discard()  # nothing was trained, and the message says why
        raise
    finally:
        run.release()


def load_plugins(args: argparse.Namespace) -> None:
    """Import what `--import` names; a file that is not here, from the folder in which the run to resume was started."""
    names = args.imports
    if not all(Path(name).exists() for name in names if name.endswith(".py")):
        from trainer.runs.start_folder import resolve_imports

        resume = [text.partition("=")[2] for text in args.overrides if text.lstrip("+").startswith("resume=")]
        names = resolve_imports(names, resume[-1] if resume else None)
    plugins.load(names)


def exit_code(summary: dict[str, Any]) -> int:
    """Return 0 for a run that has ended, 128 + N after signal N, 124 (as timeout(1)) after `trainer.max_time`."""
    word, _, number = summary["reason"].partition(" ")
    if word == "signal":
        return 128 + int(number)
    return OUT_OF_TIME if summary["status"] == "stopped" else 0


def refuse_ranks() -> None:
    """Raise `ConfigError` under a launcher: that each process trains the whole run is never what was meant."""
    for name, launcher in LAUNCHERS.items():
        if os.environ.get(name, "1") not in ("", "0", "1"):
            raise ConfigError(f"{name}={os.environ[name]}: this version trains in one process; start it {launcher}.")
