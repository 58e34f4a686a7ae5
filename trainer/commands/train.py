"""`train`: compose the config, make or find the run, train it."""

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from trainer.config import plugins
from trainer.config.yaml_files import check_folders
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
        print(help_text(args.config_dir))
        return 0
    if args.version:
        from trainer.version import __version__

        print(f"trainer {__version__}")
        return 0
    several = args.multirun or _resumes_sweep(args.overrides)
    if not args.cfg or several:
        refuse_ranks()
    if several:
        with signals.interruptible:
            plugins.load(args.imports)
            from trainer.commands.sweep import sweep

        return sweep(args.overrides, args.imports, args.config_dir, signals, args.dry_run)
    if args.dry_run:
        raise ConfigError("--dry-run shows the trials of a sweep; add -m. A single config is shown by --cfg.")
    return train_run(args, signals)


def _resumes_sweep(overrides: Sequence[str]) -> bool:
    if not any(text.startswith("resume=") for text in overrides):
        return False
    from trainer.runs.find import sweep_to_resume

    return sweep_to_resume(overrides) is not None


# Flags of Hydra and of other programs -> what does that here.
INSTEAD = {
    "--info": "train --cfg prints the config, trainer explain KEY a key",
    "--hydra-help": "train --help",
    "--config-name": "experiment=NAME chooses a file of keys, --config RUN/config.yaml the config of a run",
    "--config-path": "--config-dir DIR adds a folder of YAML files",
    "--shell-completion": 'eval "$(trainer completion bash)" makes Tab complete (also zsh, fish)',
    "--package": "keys are written with their section: trainer.epochs=3",
    "--experimental-rerun": "train --config RUN/config.yaml",
    "-o": "output_dir=DIR",
}
SHORT = {"-i": "--info", "-cn": "--config-name", "-cp": "--config-path", "-sc": "--shell-completion", "-p": "--package"}


class _Parser(argparse.ArgumentParser):
    """Answers a flag that does not exist in one sentence, with the way out."""

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError` for what argparse says."""
        _, unknown, flags = message.partition("unrecognized arguments: ")
        if not unknown:
            raise ConfigError(f"{message}; see train --help.")
        flag, _, value = flags.split()[0].partition("=")
        if instead := INSTEAD.get(flag):
            raise ConfigError(f"{flag}: no such flag; instead: {instead}.")
        typed = flag.lstrip("-") + (f"={value}" if value else "=VALUE")
        raise ConfigError(f"{flag}: no such flag; keys are written without dashes: {typed}. Flags: train --help.")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; flags may stand anywhere among the overrides."""
    parser = _Parser(prog="train", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--import", dest="imports", action="append", default=[])
    parser.add_argument("--config-dir", type=Path, action="append", default=[])
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--config", type=Path)
    parser.add_argument("-c", "--cfg", action="store_true")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    args = parser.parse_intermixed_args([SHORT.get(word, word) for word in arguments])
    if args.cfg and "job" in args.overrides:  # as Hydra's own --cfg job
        args.overrides.remove("job")
    if args.resolve and not args.cfg:
        raise ConfigError("--resolve belongs to --cfg: train --cfg --resolve prints the config with ${...} resolved.")
    if args.multirun and args.config is not None:
        raise ConfigError(f"--config {args.config}: is for one run; a sweep begins with experiment=NAME and keys.")
    check_folders(args.config_dir)
    return args


def train_run(args: argparse.Namespace, signals: SignalHandler) -> int:
    """Train one run, new or resumed; return the exit code."""
    with contextlib.ExitStack() as held:
        with signals.interruptible:
            load_plugins(args)
            from trainer.config import compose
            from trainer.runs.start import begin, understand
            from trainer.runs.start_record import CommandLine

            command = CommandLine.parse(args.overrides, args.imports, args.config_dir, args.config)
            start = understand(command, None if args.cfg else held)
            if args.cfg:
                print(compose.to_yaml(start.cfg, args.resolve), end="")
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
