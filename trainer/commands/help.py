"""`train --help`: every group with its options. Reads the registry and the names of the YAML files only."""

import inspect
from collections.abc import Sequence
from pathlib import Path

from trainer.config import registry
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.config.yaml_files import CHOICES, OPTIONS, options, yaml_files

USAGE = """\
usage: train [GROUP=OPTION ...] [KEY=VALUE ...] [-m [--dry-run]] [--import FILE_OR_MODULE] [--config-dir DIR]
             [--config FILE] [--cfg [--resolve]]

Train a model. Without arguments: a CNN on handwritten digits, in about ten seconds.

  train model=cnn data=cifar10                        choose options
  train optimizer.lr=1e-2 trainer.epochs=5            set keys
  train -m optimizer.lr=1e-2,1e-3 seed=0,1            sweep over all combinations
  train -m sweep=optuna "optimizer.lr=tag(log,interval(1e-4,1))" sweep.trials=50 sweep.jobs=2
  train resume=outputs/2026-11-22/14-03-51-k3f9-sweep go on with a sweep
  train model=cnn data=cifar10 resume=auto            go on with the run that this line has begun, or begin it
  train resume=outputs/2026-11-22/14-03-51-k3f9 trainer.epochs=40    extend a run

  -m, --multirun           a sweep: train every combination of values, or as sweep=... says; ends in a leaderboard
  --dry-run                with -m: print the trials instead of training
  --import FILE_OR_MODULE  register your own components first, e.g. --import my_models.py model=mine
  --config-dir DIR         your own YAML files, e.g. DIR/experiment/mine.yaml; they go before the packaged ones
  --config FILE            begin with the config of a run: RUN/config.yaml
  --cfg [--resolve]        print the config instead of training [with ${...} resolved]
  --version                print the version"""


def one_line(component: type[Section]) -> str:
    """Return the first line of a component's docstring."""
    return (inspect.getdoc(component) or "").splitlines()[0]


def options_of(group: str, config_dirs: Sequence[Path] = ()) -> dict[str, str]:
    """Return the options of a group, each with one line: of the component's docstring, or from the top of its file."""
    files = yaml_files(group, config_dirs)
    lines = {}
    for name in options(group, config_dirs):
        if group in OPTIONS and name in registry.names(group):
            lines[name] = one_line(registry.lookup(group, name))
        else:
            comments = [t for t in files[name].read_text(encoding="utf-8").splitlines() if t.startswith("#")]
            lines[name] = next((text.lstrip("# ") for text in comments if "@package" not in text), "")
    return lines


def help_text(config_dirs: Sequence[Path] = ()) -> str:
    """Return the whole help, with the options of further folders of YAML files."""
    lines = [USAGE, "", "groups and their options:"]
    for group in CHOICES:
        lines += ["", f"{group}="]
        lines += [f"  {name:<18}{line}" for name, line in options_of(group, config_dirs).items()]
    lines += ["", "keys:"]
    lines += [f"  {name:<18}{key.doc}" for name, (_, _, key) in Config.keys().items()]
    lines += ["", "The keys of an option: trainer list model; one key: trainer explain optimizer.lr"]
    return "\n".join(lines)
