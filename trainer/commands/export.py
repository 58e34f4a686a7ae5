"""`trainer export RUN --format onnx|torch|safetensors`: a trained network as a file that others run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainer.commands.evaluate import load_requested
from trainer.errors import ConfigError
from trainer.loggers.screen import TextConsole, say


def main(arguments: Sequence[str]) -> int:
    """Write the network and its description, and say how equal it is."""
    about = "Write a trained network with its preprocessing, after comparing it with the original."
    options = argparse.ArgumentParser(prog="trainer export", description=about)
    options.add_argument("run", help="a run directory or a checkpoint in one")
    options.add_argument("--format", default="onnx", metavar="FORMAT", help="onnx, torch or safetensors (onnx)")
    options.add_argument("--checkpoint", default="best", help="of a run directory: best, last or step-... (best)")
    options.add_argument("--output", type=Path, help="the file to write (model.onnx and the like in the run directory)")
    options.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    options.add_argument("--import", dest="imports", action="append", default=[], help="as given to train")
    args = options.parse_args(arguments)
    from trainer.runs.export import SUFFIXES, check_format, export

    check_format(args.format)
    args.device, args.on_error = "cpu", None
    _, trained, _ = load_requested(args, ())
    path = args.output or trained.checkpoint.parent.parent / f"model{SUFFIXES[args.format]}"
    for there in (path, path.with_name(f"{path.name}.json")):
        if there.exists() and not args.overwrite:
            raise ConfigError(f"{there}: is there already; give --overwrite, or another --output.")
    made = export(trained, args.format, path)
    screen = TextConsole()
    lines = [
        ("model", trained.words),
        ("written", f"{made.path}, {made.path.stat().st_size / 1e6:.1f} MB, and {made.description.name} beside it"),
        ("parity", f"largest difference {made.difference:.2g} on {made.samples} validation samples"),
    ]
    for name, text in lines:
        say(screen, f"{name:<10}{text}")
    return 0
