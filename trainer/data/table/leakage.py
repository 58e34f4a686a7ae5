"""Target leakage: columns that determine the target by themselves, mostly since they are known only after it."""

import math

import numpy as np

from trainer.data.table.column_statistics import Values
from trainer.data.table.preprocess import Preprocessor
from trainer.data.table.table import Table

ROWS = 10_000  # training rows that are examined, evenly spaced
CHANCE = math.log(1e-6)  # a column is reported where chance would give it with less than this probability
CORRELATED = 0.999
REPEATED = 0.9  # share of rows whose value occurs again, from which values count as levels of a category


def find_leaks(fitted: Preprocessor, table: Table, targets: Values, rows: Values, classes: bool) -> dict[str, str]:
    """Find the input columns that determine the target, and describe how; see `describe_leak`.

    Args:
        fitted: the inputs.
        table: all rows.
        targets: of all rows, class codes (N,) or numbers (N, columns).
        rows: the training rows, int64.
        classes: whether the targets are class codes.
    """
    rows = rows[:: -(-len(rows) // ROWS) or 1]
    each = [targets[rows]] if classes else targets[rows].T
    found = {
        column.name: next(
            filter(None, (describe_leak(column.lazy(table).at(rows), one, classes) for one in each)), None
        )
        for column in fitted.columns
    }
    return {name: how for name, how in found.items() if how is not None}


def describe_leak(values: Values, targets: Values, classes: bool) -> str | None:
    """Describe how a column determines the target; None where it does not.

    Args:
        values: the column (rows,), NaN where it is missing; categories as codes.
        targets: class codes (rows,), or numbers (rows,) or (rows, 1).
        classes: whether the targets are class codes.
    """
    values, wanted = values.astype(np.float64), targets.reshape(-1)
    missing = np.isnan(values)
    if classes and missing.any() and _pure(missing.astype(np.float64), wanted):
        return "its being missing tells the class"
    values, wanted = values[~missing], wanted[~missing].astype(np.float64)
    if len(values) < 2 or missing.mean() > 1 - REPEATED or wanted.min() == wanted.max():
        return None
    if not classes:
        return _correlated(values, wanted)
    if _pure(values, wanted):
        return "each of its values occurs with one class only"
    return "the classes lie apart in it" if _apart(values, wanted) else None


def _pure(values: Values, classes: Values) -> bool:
    """Return whether each value that occurs again has one class only, beyond what chance would give.

    A value of n rows has one class by chance with probability Σ pᵢⁿ, where pᵢ are the shares of the classes.
    """
    order = np.lexsort((classes, values))
    values, classes = values[order], classes[order]
    same = values[1:] == values[:-1]
    if (classes[1:] != classes[:-1])[same].any():
        return False
    counts = np.unique(values, return_counts=True)[1]
    if counts[counts > 1].sum() < REPEATED * len(values):
        return False
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    sizes, times = np.unique(counts, return_counts=True)
    by_chance = float(times @ np.logaddexp.reduce(np.outer(sizes, np.log(shares)), axis=1))
    return bool(by_chance < CHANCE)


def _apart(values: Values, classes: Values) -> bool:
    """Return whether thresholds split the values into the classes, beyond what chance would give.

    Of all orders of the rows a share of K! / (n! / Π nᵢ!) has each of the K classes in one run.
    """
    order = np.argsort(values, kind="stable")
    values, classes = values[order], classes[order]
    change = classes[1:] != classes[:-1]
    counts = np.unique(classes, return_counts=True)[1].tolist()
    if change.sum() != len(counts) - 1 or (values[1:] == values[:-1])[change].any():
        return False
    ways = math.lgamma(len(values) + 1) - sum(math.lgamma(count + 1) for count in counts)
    return math.lgamma(len(counts) + 1) - ways < CHANCE


def _correlated(values: Values, numbers: Values) -> str | None:
    """Describe a near-perfect linear correlation; None where there is none."""
    if len(values) < 20 or values.min() == values.max():
        return None
    correlation = float(np.corrcoef(values, numbers)[0, 1])
    return f"its correlation with the target is {correlation:.4f}" if abs(correlation) > CORRELATED else None
