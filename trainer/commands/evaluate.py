"""`trainer evaluate RUN [SOURCE]`: the scores of a trained model on its validation data, or on new data."""

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.config import plugins
from trainer.errors import ConfigError
from trainer.loggers.console import format_value
from trainer.loggers.screen import TextConsole, say
from trainer.system import streams

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainer.data.types import Samples
    from trainer.runs.loading import Trained

KEY = re.compile(r"data\.\w+(\.[^=]+)?=")  # how a word begins that is no source
CLASSES = 30  # up to so many are listed one by one
WORST = 10  # of more classes, those that are listed


def parser(verb: str, about: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that `evaluate` and `predict` share."""
    arguments = argparse.ArgumentParser(prog=f"trainer {verb}", description=about)
    arguments.add_argument("run", help="a run directory or a checkpoint in one")
    arguments.add_argument("--checkpoint", default="best", help="of a run directory: best, last or step-... (best)")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    arguments.add_argument(
        "--on-error", choices=("raise", "skip"), help="what to do where a sample cannot be used (data.on_error)"
    )
    arguments.add_argument(
        "--tta", default="", help="images: average over views of each: flip (mirrored), shift (moved); both: flip,shift"
    )
    arguments.add_argument("--import", dest="imports", action="append", default=[], help="as given to train")
    return arguments


def load_requested(args: argparse.Namespace, words: Sequence[str]) -> "tuple[list[str], Trained, torch.device]":
    """Load the trained model that is asked for, and choose the device to run it on.

    Args:
        args: of `parser`.
        words: sources, and data.KEY=VALUE of how they are read.

    Returns:
        The sources; the model, whose config says what was asked for; and the device.
    """
    from trainer.runs.start_folder import resolve_imports

    plugins.load(resolve_imports(args.imports, args.run))
    from trainer.config.trainer import TrainerConfig
    from trainer.runs.loading import load_trained
    from trainer.system.device import choose_device

    device = choose_device(TrainerConfig(device=args.device).device)
    trained = load_trained(args.run, args.checkpoint)
    sources = [word for word in words if not KEY.match(word)]
    overrides = [word for word in words if KEY.match(word)]
    if args.on_error is not None:
        if not hasattr(trained.config.data, "on_error"):
            raise ConfigError(f"--on-error {args.on_error}: data={trained.config.data.option} has no data.on_error.")
        overrides.append(f"data.on_error={args.on_error}")
    if sources or overrides:
        from trainer.runs.loading import for_other_files

        trained = dataclasses.replace(trained, config=for_other_files(trained.config, overrides, bool(sources)))
    return sources, trained, device


def averaged_over_views(trained: "Trained", kinds: str) -> "Trained":
    """Return the model for `--tta`."""
    from trainer.runs.views import with_views

    return dataclasses.replace(trained, model=with_views(trained.model, kinds, trained.spec))


def main(arguments: Sequence[str]) -> int:
    """Print the scores."""
    about = "Score a trained model on its validation data, or on labelled rows of a table or images."
    options = parser("evaluate", about)
    source = (
        "a table with targets or of images with their classes, or a folder of images for each class; without it: what "
        "the run validated on. "
        "data.KEY=VALUE: how a table is written, or data.root=FOLDER: where the run's own files are now"
    )
    options.add_argument("source", nargs="*", help=source)
    options.add_argument("--json", action="store_true", help="print one line of JSON")
    options.add_argument(
        "--all", action="store_true", help=f"list every class; without it, of more than {CLASSES}, the {WORST} worst"
    )
    args = options.parse_args(arguments)
    sources, trained, device = load_requested(args, args.source)
    trained = averaged_over_views(trained, args.tta)
    from trainer.data.types import Data
    from trainer.runs.build import build_data_and_task, build_task, read_samples
    from trainer.runs.inference import evaluate

    config = trained.config
    samples, rejected, notes = 0, list[str](), list[str]()

    def counted(parts: "Iterator[Samples]") -> "Iterator[Samples]":
        nonlocal samples
        for part in parts:
            samples += len(part.split)
            rejected.extend(part.rejected)
            notes.extend(part.notes)
            yield part

    data: Data | Iterator[Samples]
    if not sources:
        data, task = build_data_and_task(config, trained.spec.labels)
        samples = len(data.val)
    else:
        data = counted(read_samples(config.data, sources, trained.spec, trained.preprocessing, labelled=True))
        task = build_task(config.task, trained.spec)
    task.to(device)
    scores, confusion = evaluate(trained, data, task, device)
    for reason in rejected:
        streams.tell(f"warning: left out: {reason}")
    if args.json:
        found = {"checkpoint": str(trained.checkpoint), "step": trained.step, "samples": samples, **scores}
        print(json.dumps(found | {"rejected": len(rejected), "notes": notes} | _per_class(trained, confusion)))
        return 0
    screen = TextConsole()
    where = " ".join(sources) or f"{config.data.option}, as it was validated on"
    lines = [
        ("model", f"{trained.words}{f', averaged over views: {args.tta}' if args.tta else ''}"),
        ("data", f"{where}: {samples:,} samples"),
    ]
    lines += [(name, format_value(f"val/{name}", value)) for name, value in scores.items()]
    lines += [("rejected", f"{len(rejected)}, first: {rejected[0]}")] if rejected else []
    lines += [("note", note) for note in notes]
    for name, text in lines:
        say(screen, f"{name:<10}{text}")
    if confusion is not None:
        _print_classes(screen, trained, confusion, args.all)
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


def _print_classes(screen: TextConsole, trained: "Trained", confusion: "Tensor", every: bool) -> None:
    """Print a row for each class; of many the worst first, and without `every` no more than those."""
    from rich.table import Table

    rows = list(zip(trained.spec.labels or (), class_scores(confusion), strict=True))
    left = 0
    if len(rows) > CLASSES:
        rows.sort(key=lambda row: 2.0 if row[1].recall is None else row[1].recall)
        left = 0 if every else len(rows) - WORST

    table = Table("class", box=None, pad_edge=False, header_style="bold")
    for name in ("samples", "precision", "recall"):
        table.add_column(name, justify="right")
    for label, one in rows[: len(rows) - left]:
        shares = ("–" if value is None else f"{value:.4f}" for value in (one.precision, one.recall))
        table.add_row(label, f"{one.samples:,}", *shares)
    screen.print(table)
    if left:
        say(screen, f"{left:,} more classes, none recalled less; all: --all")
