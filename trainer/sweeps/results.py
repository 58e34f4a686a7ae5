"""What came out of a sweep: a row for each trial, means over seeds and folds, which is best, and how sure that is."""

import csv
import io
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.config.registry import GROUPS
from trainer.config.safe_yaml import load_yaml, read
from trainer.errors import ConfigError
from trainer.loggers.files import read_metrics
from trainer.sweeps.directory import NOT_STARTED, RUNNING, SweepDirectory
from trainer.sweeps.means import Row, compare, mark_pareto, mean_rows
from trainer.system import atomic_files


@dataclass(frozen=True)
class Results:
    """What came out so far.

    Attributes:
        keys: what the sweep varies.
        metric, mode: the score that ranks, and whether more ("max") or less ("min") is better; None: none is known yet.
        rows: one for each trial, the best first; those without a score come last.
        means: one for each setting that was repeated over seeds or folds, the best first; [] where none was.
        comparison: the first setting against the second, paired over what they share; None: nothing to compare.
        metrics: further scores, for a Pareto table.
    """

    keys: list[str]
    metric: str | None
    mode: str | None
    rows: list[Row]
    means: list[Row]
    comparison: Row | None
    metrics: list[str]


class ResultsReader:
    """Reads the rows of a sweep from its trials, those of finished ones once."""

    def __init__(self, directory: SweepDirectory) -> None:
        self.directory = directory
        self._values: dict[int, tuple[int, dict[str, str]]] = {}

    def read(self, running: Collection[int] = ()) -> Results:
        """Return what there is now.

        Args:
            running: the trials that this process runs.
        """
        definition = self.directory.definition
        rows = [self._row(number) for number in range(definition.count)]
        for number in running:
            rows[number]["status"] = RUNNING
        names = definition.sweep.metrics()
        found = {(row["metric"], row["mode"]) for row in rows if row["metric"]}
        metric, mode = min(found, key=lambda pair: (pair[0] not in names, pair)) if found else (None, None)
        rows.sort(key=lambda row: (_rank(row, metric, mode), row["trial"]))
        keys = definition.keys
        means = mean_rows(rows, keys, metric, mode)
        if len(names) > 1:
            mark_pareto(rows, names)
        return Results(keys, metric, mode, rows, means, compare(rows, means, keys, metric), names[1:])

    def write(self, running: Collection[int] = ()) -> Results:
        """Write `results.csv`, `results.json` and, where settings were repeated, `means.csv`; return what they say."""
        results, path = self.read(running), self.directory.path
        atomic_files.write_text(path / "results.csv", to_csv(results.rows))
        if results.means:
            atomic_files.write_text(path / "means.csv", to_csv(results.means))
        plain = {
            "metric": results.metric,
            "mode": results.mode,
            "keys": results.keys,
            "best": next((row for row in results.rows if row["best"] is not None), None),
            "trials": results.rows,
            "means": results.means,
            "comparison": results.comparison,
        }
        atomic_files.write_text(path / "results.json", json.dumps(plain, indent=2) + "\n")
        return results

    def values(self, number: int) -> dict[str, str]:
        """Return the values of the keys that vary, from the trial's own config; {} before it has one."""
        run = self.directory.run(number)
        try:
            changed = run.config.stat().st_mtime_ns
        except OSError:
            return {}
        if number not in self._values or self._values[number][0] != changed:
            self._values[number] = changed, own_values(run.config, self.directory.definition.keys)
        return self._values[number][1]

    def title(self, number: int) -> str:
        """Return `optimizer.lr=0.01 seed=0`."""
        return " ".join(f"{key}={value}" for key, value in self.values(number).items())

    def _row(self, number: int) -> Row:
        directory, definition = self.directory, self.directory.definition
        summary = directory.summary(number) or {}
        best, last, names = summary.get("best") or {}, summary.get("last") or {}, definition.sweep.metrics()
        directions = {best.get("metric"): best.get("mode")} | (summary.get("directions") or {})
        scores: dict[Any, Any] = {best.get("metric"): best.get("value")}
        if best and any(name not in scores for name in names):  # what the best checkpoint scores in other ways
            records = read_metrics(directory.run(number).directory)
            scores.update(next((record for record in records if record["step"] == best["step"]), {}))
        metric = next(iter(names), best.get("metric"))
        values, status = self.values(number), directory.status(number)
        return (
            {"trial": number}
            | {key: values.get(key, "") for key in definition.keys}
            | {
                "status": status,
                "metric": metric if best else "",
                "mode": directions.get(metric, "") if best else "",
                "best": scores.get(metric),
                "best_step": best.get("step"),
                "last": (last.get("scores") or {}).get(metric, last.get("value")),
                "seconds": summary.get("seconds"),
                "directory": "" if status == NOT_STARTED else str(directory.run(number).directory),
                "reason": summary.get("reason", ""),
            }
            | {name: scores.get(name) for name in names[1:]}
            | ({"directions": directions} if len(names) > 1 else {})
        )


def own_values(config: Path, keys: list[str]) -> dict[str, str]:
    """Return keys and values of a trial as they are typed; what a config does not hold is taken from its overrides."""
    try:
        plain = load_yaml(read(config))
        typed = load_yaml(read(config.with_name("overrides.yaml"))) or []
    except (ConfigError, yaml.YAMLError):
        return {}
    given = dict(str(text).lstrip("+").partition("=")[::2] for text in typed)
    values = {}
    for key in keys:
        found: Any = plain["options"] if key in GROUPS else plain
        for part in key.split("."):
            found = found.get(part, ...) if isinstance(found, dict) else ...
        values[key] = given.get(key, "") if found is ... else typed_value(found)
    return values


def typed_value(value: Any) -> str:
    """Return a value of a config as it is typed on the command line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return "[" + ",".join(typed_value(item) for item in value) + "]"
        case dict():
            return "{" + ",".join(f"{name}:{typed_value(item)}" for name, item in value.items()) + "}"
    return str(value)


def _rank(row: Row, metric: str | None, mode: str | None) -> float:
    """Return what sorts the best first, and what has no comparable score last."""
    if row["best"] is None or row["metric"] != metric or not math.isfinite(row["best"]):
        return math.inf
    return float(row["best"]) if mode == "min" else -float(row["best"])


def to_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
