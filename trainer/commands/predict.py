"""`trainer predict RUN SOURCE...`: what a trained model says of new samples, as a table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.evaluate import CLASSES, averaged_over_views, load_requested, parser
from trainer.errors import ConfigError
from trainer.system import streams

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data.types import DataSpec, Samples
    from trainer.runs.predictions import Columns

ALL, TOP, NONE = "all", "top5", "none"
OURS = ("prediction", "probability", "p(")  # how the names of our columns begin
PLACES = 5  # of the likeliest classes


def main(arguments: Sequence[str]) -> int:
    """Print or write the predictions; what cannot be used of the source is told on the other stream."""
    about = "Predict for each row of a table, or each image: one line each."
    options = parser("predict", about)
    options.add_argument(
        "source",
        nargs="+",
        help="tables (targets are not needed), images, or folders of images; data.KEY=VALUE: how a table is written",
    )
    options.add_argument(
        "--output",
        type=Path,
        help="the file to write, .csv, .parquet or .jsonl; without it: CSV on the standard output",
    )
    options.add_argument("--keep", default="", help="columns of the table to write beside the prediction: id,name")
    options.add_argument(
        "--proba",
        choices=(ALL, TOP, NONE),
        help=f"probabilities of all classes, of the likeliest {PLACES}, or none (all, up to {CLASSES} classes)",
    )
    args = options.parse_args(arguments)
    sources, trained, device = load_requested(args, args.source)
    trained = averaged_over_views(trained, args.tta)
    if not sources:
        raise ConfigError("trainer predict: name the table or the images to predict for after the run.")
    from trainer.config.table import Csv
    from trainer.runs.build import read_samples
    from trainer.runs.inference import predict
    from trainer.runs.predictions import open_predictions

    keep = [name for name in args.keep.split(",") if name]
    parts = read_samples(trained.config.data, sources, trained.spec, trained.preprocessing, labelled=False, keep=keep)
    used, rejected = 0, list[str]()
    targets = trained.config.data.targets if isinstance(trained.config.data, Csv) else ()
    with open_predictions(args.output, sys.stdout) as write:
        for samples in parts:
            for note in samples.notes:
                streams.tell(f"note: {note}")
            rejected += samples.rejected
            columns = predictions(samples, predict(trained, samples, device), trained.spec, args.proba, targets)
            write(columns)
            used += len(samples.names)
    for reason in rejected:
        streams.tell(f"warning: left out: {reason}")
    where = "" if args.output is None else f", in {args.output}"
    streams.tell(f"{used + len(rejected):,} samples: {used:,} predicted, {len(rejected):,} left out{where}")
    return 0


def predictions(
    samples: "Samples", outputs: "Tensor", spec: "DataSpec", proba: str | None = None, targets: Sequence[str] = ()
) -> "Columns":
    """Return the columns of predictions: where each sample comes from, what is kept of it, and what is predicted.

    Args:
        samples: as they were read.
        outputs: of the network, float32 (N, outputs).
        spec: says the names of the classes.
        proba: which probabilities of classes; None: of all up to `CLASSES`, else of the predicted one.
        targets: the names of the predicted numbers, where they have names.

    Raises:
        ConfigError: for a column to keep that is named as one of ours.
    """
    columns: Columns = {}
    if samples.files is not None:
        columns["file"] = list(samples.files)
    columns[samples.place] = list(samples.names)
    for name, values in samples.kept.items():
        if name in columns or name.startswith(OURS):
            raise ConfigError(f"--keep {name}: is the name of a column that is written anyway; rename it in the table.")
        columns[name] = list(values)
    labels = spec.labels
    if labels is None:
        if spec.outputs == 1:
            return columns | {"prediction": outputs[:, 0].tolist()}
        names = targets if len(targets) == spec.outputs else [str(i) for i in range(spec.outputs)]
        return columns | {f"prediction_{name}": outputs[:, i].tolist() for i, name in enumerate(names)}
    probabilities = outputs.softmax(1)
    best, chosen = probabilities.topk(min(PLACES, spec.outputs) if proba == TOP else 1, dim=1)
    columns["prediction"] = [labels[i] for i in chosen[:, 0].tolist()]
    if proba == NONE:
        return columns
    if proba == ALL or (proba is None and spec.outputs <= CLASSES):
        return columns | {f"p({label})": probabilities[:, i].tolist() for i, label in enumerate(labels)}
    columns["probability"] = best[:, 0].tolist()
    for place in range(1, best.shape[1]):
        columns[f"prediction_{place + 1}"] = [labels[i] for i in chosen[:, place].tolist()]
        columns[f"probability_{place + 1}"] = best[:, place].tolist()
    return columns
