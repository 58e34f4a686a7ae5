"""`trainer predict RUN SOURCE`: what a trained model says of new samples, as CSV."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.evaluate import load_requested, parser
from trainer.system import streams

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data.types import DataSpec, Samples

CLASSES = 30  # up to so many have a column of probabilities each


def main(arguments: Sequence[str]) -> int:
    """Print or write the predictions; what cannot be used of the source is told on the other stream."""
    about = "Predict for each row of a table, or each image: one line of CSV each."
    options = parser("predict", about)
    options.add_argument("source", help="a table (targets are not needed), an image, or a folder of images")
    options.add_argument("--output", type=Path, help="the file to write; without it: the standard output")
    args = options.parse_args(arguments)
    trained, device = load_requested(args)
    from trainer.runs.build import read_samples
    from trainer.runs.inference import predict
    from trainer.system import atomic_files

    samples = read_samples(trained.config.data, args.source, trained.spec, trained.preprocessing, labelled=False)
    lines = rows(samples, predict(trained, samples, device), trained.spec)
    if args.output is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
    else:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(lines)
        atomic_files.write_text(args.output, text.getvalue())
    for reason in samples.rejected:
        streams.tell(f"warning: left out: {reason}")
    used, rejected = len(samples.names), len(samples.rejected)
    where = "" if args.output is None else f", in {args.output}"
    streams.tell(f"{used + rejected:,} samples: {used:,} predicted, {rejected:,} left out{where}")
    return 0


def rows(samples: "Samples", outputs: "Tensor", spec: "DataSpec") -> Iterator[list[object]]:
    """Yield the header and a row for each sample: where it comes from, the prediction, the probabilities of classes.

    With more than `CLASSES` classes only the probability of the predicted one is given.
    """
    if spec.labels is None:
        names = ["prediction"] if spec.outputs == 1 else [f"prediction_{i}" for i in range(spec.outputs)]
        yield [samples.place, *names]
        for name, values in zip(samples.names, outputs.tolist(), strict=True):
            yield [name, *(f"{value:.7g}" for value in values)]
        return
    probabilities = outputs.softmax(1)
    best, chosen = probabilities.max(1)
    each = spec.outputs <= CLASSES
    yield [samples.place, "prediction", *([f"p({label})" for label in spec.labels] if each else ["probability"])]
    shares = probabilities.tolist() if each else best.unsqueeze(1).tolist()
    for name, place, values in zip(samples.names, chosen.tolist(), shares, strict=True):
        yield [name, spec.labels[place], *(f"{value:.6f}" for value in values)]
