"""What a statistician would ask of a table before training on it: each doubt is a sentence with a way out."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainer.config.quoting import shell_override
from trainer.config.table import Csv
from trainer.data.table.column_statistics import Values, known, sample
from trainer.data.table.column_types import Column
from trainer.data.table.columns import Categories
from trainer.data.table.preprocess import Preprocessor
from trainer.data.table.row_parser import excerpt
from trainer.data.table.table import Table
from trainer.data.types import Split

LISTED = 5  # names or values in a sentence
RARE = 5  # rows of a class below which nothing can be said of it
SKEWED = 3.0  # skewness of a target with a long tail: that of an exponential distribution is 2
FEW_ROWS = 30  # below which a shape tells nothing
REPEATED, CHANCE = 0.01, 4.0  # share of repeated validation rows that is told: at least, and times what chance gives
BLOCK = 1 << 16  # inputs that are hashed at a time
EXAMINED = 10_000  # rows that are compared, and of which distinct values are counted


def find_doubts(
    config: Csv,
    table: Table,
    columns: Sequence[Column],
    fitted: Preprocessor,
    targets: Tensor,
    labels: tuple[str, ...] | None,
    sides: tuple[Values, Values],
) -> list[str]:
    """Return what may be wrong with a table that is about to be trained on, one sentence each.

    Args:
        config: says the purpose of columns.
        table: all rows.
        columns: what each column is.
        fitted: what the inputs become.
        targets: of all rows, class codes (N,) or numbers (N, columns).
        labels: the names of the classes; None for numbers.
        sides: the rows for training and for validation, int64.
    """
    doubts = _constant(columns, table)
    if labels is not None:
        doubts += _classes(config.targets[0], targets, labels, sides)
    elif len(config.targets) == 1:
        doubts += _long_tail(config.targets[0], config, targets.numpy()[sides[0], 0])
    doubts += [f"validation: {sentence}" for sentence in unknown_levels(fitted, table, sides[1])]
    if config.group is not None and config.group in table.columns.column_names:
        doubts += _divided_groups(config.group, table, sides)
    return doubts


def unknown_levels(fitted: Preprocessor, table: Table, rows: Values | None = None) -> list[str]:
    """Return a sentence for each column with values that were never seen in training, with their counts.

    Args:
        fitted: on the training rows.
        table: with the columns.
        rows: those that count, int64; None: all.
    """
    found = []
    for column in fitted.columns:
        if column.kind != "categorical":
            continue
        new = Categories(table.columns[column.name]).unknown(column.levels, rows)
        if new:
            total = table.columns.num_rows if rows is None else len(rows)
            found.append(
                f"{column.name}: {new.total():,} of {total:,} rows have levels never seen in training: {_list(new)}."
            )
    return found


def repeated_rows(splits: Sequence[Split]) -> list[str]:
    """Return the warning that validation rows are training rows, too, where more are than chance explains."""
    train, val = splits
    if not isinstance(train.inputs, Tensor) or not isinstance(val.inputs, Tensor):
        return []  # on disk
    compared = torch.arange(0, len(val), -(-len(val) // EXAMINED))
    some = train.inputs[:: -(-len(train) // EXAMINED)].numpy()
    distinct = [len(np.unique(column)) for column in some.T]
    by_chance = len(train) / math.prod(distinct)  # where all rows that could be are equally likely
    # Only training rows with a known value in the most telling column can be one of those.
    at = int(np.argmax(distinct))
    telling = pa.array(np.unique(val.inputs[compared, at].numpy()))
    alike = np.flatnonzero(pc.is_in(pa.array(train.inputs[:, at].numpy()), value_set=telling))
    if not len(alike):
        return []
    of_val = _hashes(val.inputs[compared], val.targets[compared])
    of_train = _hashes(train.inputs[alike], train.targets[alike])
    repeated = int(np.isin(of_val, of_train).sum())
    if repeated < max(3.0, max(REPEATED, CHANCE * by_chance) * len(compared)):
        return []
    text = (
        f"{repeated:,} of {len(compared):,} validation rows are training rows, too, target and all: the scores say how"
    )
    text += (
        " well rows are remembered. Remove repeated rows, or keep what belongs together on one side with data.group."
    )
    return [text]


def _hashes(inputs: Tensor, targets: Tensor) -> Values:
    """Return a number for each row that is the same for equal rows, uint64 (N,)."""
    bits = inputs.numpy().view(np.uint32), targets.reshape(len(targets), -1).float().numpy().view(np.uint32)
    hashes = np.zeros(len(inputs), dtype=np.uint64)
    for seed, part in enumerate(bits):
        odd = np.random.default_rng(seed).integers(0, 1 << 63, part.shape[1], dtype=np.uint64) | np.uint64(1)
        step = max(1, BLOCK // part.shape[1])
        for start in range(0, len(part), step):  # few enough for the cache of a core
            mixed = (part[start : start + step] + np.uint64(1)) * odd
            hashes[start : start + step] += (mixed ^ (mixed >> np.uint64(31))).sum(axis=1)
    return hashes


def _constant(columns: Sequence[Column], table: Table) -> list[str]:
    """Tell of inputs with one value in all rows."""
    names = [
        one.name
        for one in columns
        if one.is_input and one.distinct == 1 and not one.missing and len(pc.unique(table.columns[one.name])) == 1
    ]
    if not names:
        return []
    verb = "has one value" if len(names) == 1 else "have one value each"
    return [f"{_names(names)} {verb} in all rows, and tell{'s' * (len(names) == 1)} nothing."]


def _classes(name: str, targets: Tensor, labels: tuple[str, ...], sides: tuple[Values, Values]) -> list[str]:
    """Tell of classes on one side only, of rare ones, and of those that differ in their spelling alone."""
    train, val = (torch.bincount(targets[torch.from_numpy(rows)], minlength=len(labels)) for rows in sides)
    doubts = []
    for here, there, side, other in ((val, train, "validation", "training"), (train, val, "training", "validation")):
        only = [labels[i] for i in ((here > 0) & (there == 0)).nonzero().flatten().tolist()]
        if only:
            what = "cannot be predicted" if side == "validation" else "is not validated"
            doubts.append(
                f"{_names(only, 'class')} of {name}: in {side} rows only, not in {other}. Files may spell classes in "
                f"two ways; what is in {side} only {what}."
            )
    rare = [f"{labels[i]} ({int(train[i])})" for i in ((train > 0) & (train < RARE)).nonzero().flatten().tolist()]
    if rare:
        doubts.append(f"{_names(rare, 'class')} of {name} with fewer than {RARE} training rows: too few to learn from.")
    spelled = Counter(label.strip().casefold() for label in labels)
    alike = [label for label in labels if spelled[label.strip().casefold()] > 1]
    if alike:
        doubts.append(
            f"{_names(alike, 'class')} of {name} differ in upper and lower case alone; if they are meant to be "
            "the same, spell them alike."
        )
    return doubts


def _long_tail(name: str, config: Csv, numbers: Values) -> list[str]:
    """Suggest a logarithm for a target without negative values and with a long tail."""
    there = known(sample(numbers)).astype(np.float64)
    if len(there) < FEW_ROWS or there.min() < 0 or name in config.transforms or there.std() == 0:
        return []
    skewness = float((((there - there.mean()) / there.std()) ** 3).mean())
    logs = np.log1p(there)
    flat = logs.std() == 0 or abs(float((((logs - logs.mean()) / logs.std()) ** 3).mean())) > abs(skewness)
    if skewness < SKEWED or flat:
        return []
    way_out = shell_override(f"data.transforms.{name}", ["log1p"])
    text = (
        f"the target {name} has a long tail (skewness {skewness:.1f}), and a few rows decide the loss; {way_out} trains"
    )
    return [f"{text} on its logarithm."]


def _divided_groups(name: str, table: Table, sides: tuple[Values, Values]) -> list[str]:
    """Tell of groups with rows on both sides, as files or a column of their own can divide them."""
    positions = Categories(table.columns[name]).positions()
    train, val = (positions[rows][positions[rows] >= 0] for rows in sides)
    both = np.intersect1d(train, val)
    if not len(both):
        return []
    return [f"{len(both):,} groups of {name} have rows in training and in validation: the scores are too good."]


def _list(counts: Counter[str]) -> str:
    shown = ", ".join(excerpt(value)[1:-1] for value, _ in counts.most_common(LISTED))
    return shown + (f" and {len(counts) - LISTED:,} more" if len(counts) > LISTED else "")


def _names(names: Sequence[str], noun: str = "column") -> str:
    plural = "es" if noun == "class" else "s"
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return f"{noun}{plural * (len(names) > 1)} {', '.join(names[:LISTED])}{more}"
