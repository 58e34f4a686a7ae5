"""`trainer evaluate RUN [SOURCE]`: the scores of a trained model on its validation data, or on new data."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.config import plugins
from trainer.errors import ConfigError
from trainer.loggers.console import format_value
from trainer.loggers.screen import TextConsole, say

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainer.runs.loading import Trained

CLASSES = 30  # up to so many are listed one by one


def parser(verb: str, about: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that `evaluate` and `predict` share."""
    arguments = argparse.ArgumentParser(prog=f"trainer {verb}", description=about)
    arguments.add_argument("run", help="a run directory or a checkpoint in one")
    arguments.add_argument("--checkpoint", default="best", help="of a run directory: best, last or step-... (best)")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    arguments.add_argument(
        "--on-error", choices=("raise", "skip"), help="what to do where a sample cannot be used (data.on_error)"
    )
    arguments.add_argument("--import", dest="imports", action="append", default=[], help="as given to train")
    return arguments


def load_requested(args: argparse.Namespace) -> "tuple[Trained, torch.device]":
    """Load the trained model that is asked for, and choose the device to run it on."""
    from trainer.runs.start_folder import resolve_imports

    plugins.load(resolve_imports(args.imports, args.run))
    from trainer.config.trainer import TrainerConfig
    from trainer.runs.loading import load_trained
    from trainer.system.device import choose_device

    device = choose_device(TrainerConfig(device=args.device).device)
    trained = load_trained(args.run, args.checkpoint)
    if args.on_error is not None:
        data, changes = trained.config.data, {"on_error": args.on_error}
        if not hasattr(data, "on_error"):
            raise ConfigError(f"--on-error {args.on_error}: data={data.option} has no data.on_error.")
        config = dataclasses.replace(trained.config, data=dataclasses.replace(data, **changes))
        trained = dataclasses.replace(trained, config=config)
    return trained, device


def main(arguments: Sequence[str]) -> int:
    """Print the scores."""
    about = "Score a trained model on its validation data, or on labelled rows of a table or images."
    options = parser("evaluate", about)
    source = "a table with targets, or a folder of images for each class; without it: what the run validated on"
    options.add_argument("source", nargs="?", help=source)
    options.add_argument("--json", action="store_true", help="print one line of JSON")
    args = options.parse_args(arguments)
    trained, device = load_requested(args)
    from trainer.data.types import Data, Samples
    from trainer.runs.build import build_data_and_task, build_task, read_samples
    from trainer.runs.inference import evaluate

    config = trained.config
    data: Data | Samples
    if args.source is None:
        data, task = build_data_and_task(config)
    else:
        data = read_samples(config.data, args.source, trained.spec, trained.preprocessing, labelled=True)
        task = build_task(config.task, trained.spec)
    task.to(device)
    scores, confusion = evaluate(trained, data, task, device)
    samples = len(data.val) if isinstance(data, Data) else len(data.split)
    rejected = () if isinstance(data, Data) else data.rejected
    if args.json:
        found = {"checkpoint": str(trained.checkpoint), "step": trained.step, "samples": samples, **scores}
        print(json.dumps(found | {"rejected": len(rejected)} | _per_class(trained, confusion)))
        return 0
    screen = TextConsole()
    where = args.source or f"{config.data.option}, as it was validated on"
    lines = [
        ("model", trained.words),
        ("data", f"{where}: {samples:,} samples"),
    ]
    lines += [(name, format_value(f"val/{name}", value)) for name, value in scores.items()]
    lines += [("rejected", f"{len(rejected)}, first: {rejected[0]}")] if rejected else []
    for name, text in lines:
        say(screen, f"{name:<10}{text}")
    if confusion is not None and trained.spec.outputs <= CLASSES:
        _print_classes(screen, trained, confusion)
    return 0


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised; precision is None where it was never predicted, recall where there was none."""

    samples: int
    precision: float | None
    recall: float | None


def class_scores(confusion: "Tensor") -> list[ClassScores]:
    """Return the scores of each class, from a confusion matrix, int64 (classes, classes), rows are true classes."""
    hits, true, predicted = confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist()
    return [
        ClassScores(n, hit / m if m else None, hit / n if n else None)
        for hit, n, m in zip(hits, true, predicted, strict=True)
    ]


def _per_class(trained: "Trained", confusion: "Tensor | None") -> dict[str, object]:
    if confusion is None or trained.spec.labels is None:
        return {}
    scores = (dataclasses.asdict(one) for one in class_scores(confusion))
    return {"classes": dict(zip(trained.spec.labels, scores, strict=True))}


def _print_classes(screen: TextConsole, trained: "Trained", confusion: "Tensor") -> None:
    from rich.table import Table

    table = Table("class", box=None, pad_edge=False, header_style="bold")
    for name in ("samples", "precision", "recall"):
        table.add_column(name, justify="right")
    for label, one in zip(trained.spec.labels or (), class_scores(confusion), strict=True):
        shares = ("–" if value is None else f"{value:.4f}" for value in (one.precision, one.recall))
        table.add_row(label, f"{one.samples:,}", *shares)
    screen.print(table)
