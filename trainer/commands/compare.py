"""`trainer compare RUN ... | SWEEP | DIR`: what differs between runs, in keys and in scores."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError
from trainer.loggers.console import format_value
from trainer.loggers.screen import TextConsole, say

if TYPE_CHECKING:
    from trainer.sweeps.collection import RunFacts

BLOCKS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # of a curve in the terminal
Curve = list[tuple[int, float]]  # steps and scores


def main(arguments: Sequence[str]) -> int:
    """Print the tables and curves; draw the curves."""
    about = "Compare runs: the keys that differ, scores, means over seeds and folds, a paired test, and curves."
    options = argparse.ArgumentParser(prog="trainer compare", description=about)
    options.add_argument("runs", nargs="+", metavar="RUN", help="a run, a sweep, or a folder of runs")
    options.add_argument("--metric", help="score to compare by, such as val/loss (the one that the runs monitor)")
    options.add_argument("--csv", type=Path, help="write the table to this file, too")
    options.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options.add_argument("--output", type=Path, default=Path("compare.png"), help="picture of the curves (compare.png)")
    args = options.parse_args(arguments)
    from trainer.runs.references import runs_folder
    from trainer.sweeps.collection import chosen_runs, differing_keys
    from trainer.sweeps.means import compare, mean_rows
    from trainer.sweeps.results import to_csv

    runs = chosen_runs(args.runs, runs_folder())
    if len(runs) < 2:
        raise ConfigError(f"trainer compare {' '.join(args.runs)}: that is one run; name two, a sweep, or a folder.")
    metric, mode = _metric(runs, args.metric)
    keys, curves = differing_keys(runs), [_curve(one, metric) for one in runs]
    rows = _rows(runs, keys, metric, mode, curves)
    means = mean_rows(rows, keys, metric, mode)
    tested = compare(rows, means, keys, metric)
    notes = _notes(runs, metric, rows)
    if args.csv is not None:
        args.csv.write_text(to_csv(rows), encoding="utf-8")
    ordered = _ordered(rows, runs, curves)
    drawn = _draw(args.output, rows, keys, metric, ordered)
    if args.json:
        found = {"metric": metric, "mode": mode, "keys": keys, "runs": rows, "means": means, "test": tested}
        print(json.dumps(found | {"notes": notes, "picture": str(args.output) if drawn else None}))
        return 0
    screen = TextConsole()
    _print(screen, rows, keys, metric, means, tested, ordered, notes)
    if drawn:
        say(screen, f"picture   {args.output}")
    return 0


def _metric(runs: Sequence["RunFacts"], wanted: str | None) -> tuple[str, str]:
    """Return the score that is compared, and which way it is better."""
    scores = [one.score for one in runs if one.score is not None]
    if wanted is None:
        if not scores:
            raise ConfigError("None of these runs has a score yet; a run that has validated is needed.")
        kinds = [(score.metric, score.mode) for score in scores]
        return max(kinds, key=kinds.count)
    name = wanted if "/" in wanted else f"val/{wanted}"
    for one in runs:
        directions: Any = (one.run.summary() or {}).get("directions") or {}
        if name in directions:
            return name, str(directions[name])
    mode = next((score.mode for score in scores if score.metric == name), None)
    if mode is None:
        known = sorted({key for one in runs for key in ((one.run.summary() or {}).get("directions") or {})})
        raise ConfigError(f"--metric {wanted}: none of these runs has it; they have {', '.join(known) or 'no score'}.")
    return name, mode


def _curve(one: "RunFacts", metric: str) -> Curve:
    from trainer.loggers.files import read_metrics

    rows = [(row["step"], row.get(metric)) for row in read_metrics(one.run.directory)]
    return [(int(step), value) for step, value in rows if isinstance(value, (int, float)) and math.isfinite(value)]


def _rows(
    runs: Sequence["RunFacts"], keys: Sequence[str], metric: str, mode: str, curves: Sequence[Curve]
) -> list[dict[str, Any]]:
    """Return a row for each run, the best first; those without this score come last."""
    from trainer.sweeps.results import own_values

    rows: list[dict[str, Any]] = []
    for one, curve in zip(runs, curves, strict=True):
        ordered = sorted(curve, key=lambda point: point[1], reverse=mode == "max")
        name = one.name or one.place
        values = own_values(one.run.config, list(keys))
        rows.append(
            {"run": name}
            | {key: values.get(key, "") for key in keys}
            | {
                "status": one.status,
                "metric": metric if curve else "",
                "best": ordered[0][1] if curve else None,
                "best_step": ordered[0][0] if curve else None,
                "last": curve[-1][1] if curve else None,
                "directory": str(one.run.directory),
            }
        )
    sign = 1 if mode == "min" else -1
    rows.sort(key=lambda row: (row["best"] is None, sign * (row["best"] or 0.0)))
    return rows


def _ordered(rows: Sequence[dict[str, Any]], runs: Sequence["RunFacts"], curves: Sequence[Curve]) -> list[Curve]:
    by_directory = {str(one.run.directory): curve for one, curve in zip(runs, curves, strict=True)}
    return [by_directory[row["directory"]] for row in rows]


def _notes(runs: Sequence["RunFacts"], metric: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what makes the comparison less than fair, a line each."""
    from trainer.sweeps.results import own_values

    notes = []
    keys = ["data", "data.path", "data.root", "data.num_samples", "data.val_fraction", "data.folds"]
    data = {tuple(own_values(one.run.config, keys).get(key, "") for key in keys) for one in runs}
    if len(data) > 1:
        notes.append(f"the runs have {len(data)} different datasets or splits: their scores are of other samples")
    if without := [row["run"] for row in rows if row["best"] is None]:
        notes.append(f"without {metric}: {', '.join(without)}")
    others = {one.score.metric for one in runs if one.score is not None} - {metric}
    if others:
        notes.append(f"some runs monitor another score ({', '.join(sorted(others))}); all are compared by {metric}")
    return notes


def _print(
    screen: TextConsole,
    rows: Sequence[dict[str, Any]],
    keys: Sequence[str],
    metric: str,
    means: Sequence[dict[str, Any]],
    tested: dict[str, Any] | None,
    curves: Sequence[Curve],
    notes: Sequence[str],
) -> None:
    from rich.table import Table
    from rich.text import Text

    def shown(value: float | None) -> str:
        return "–" if value is None else format_value(metric, value)

    table = Table("run", *keys, f"best {metric}", "at step", "last", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        step = "–" if row["best_step"] is None else str(row["best_step"])
        cells = (row["run"], *(row[key] for key in keys), shown(row["best"]), step, shown(row["last"]))
        table.add_row(*(Text(str(cell), overflow="fold") for cell in cells))
    screen.print(table)
    if means:
        settings = [key for key in means[0] if key in keys]
        table = Table(*settings, f"mean {metric}", "std", "runs", box=None, pad_edge=False, header_style="bold")
        for entry in means:
            cells = (
                *(entry[key] for key in settings),
                shown(entry["best_mean"]),
                shown(entry["best_std"]),
                entry["runs"],
            )
            table.add_row(*(Text(str(cell), overflow="fold") for cell in cells))
        screen.print(table)
    if tested is not None and tested["p"] is not None:
        sure = "differ" if tested["p"] < 0.05 else "do not differ significantly"
        text = f"the two best {sure}: by {shown(tested['difference'])} over {tested['pairs']} pairs"
        say(screen, f"test      {text} (paired t-test, p = {tested['p']:.2g})")
    for row, curve in zip(rows, curves, strict=True):
        if curve:
            say(screen, f"curve     {sparkline(curve, curves)}  {row['run']}")
    for note in notes:
        say(screen, f"note      {note}")


def sparkline(curve: Curve, curves: Sequence[Curve]) -> str:
    """Return a curve as blocks of eight heights, on the scales that all curves share."""
    values = [value for one in curves for _, value in one]
    last = max(step for one in curves for step, _ in one)
    low, span = min(values), (max(values) - min(values)) or 1.0
    places: dict[int, float] = {min(COLUMNS - 1, step * COLUMNS // (last + 1)): value for step, value in curve}
    width = max(places) + 1
    line, height = "", 0
    for place in range(width):
        if place in places:
            height = round((places[place] - low) / span * (len(BLOCKS) - 1))
        line += BLOCKS[height] if place >= min(places) else " "
    return line.ljust(COLUMNS)


def _draw(
    path: Path, rows: Sequence[dict[str, Any]], keys: Sequence[str], metric: str, curves: Sequence[Curve]
) -> bool:
    """Draw the curves over one another; return whether there was one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not any(curves):
        return False
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, curve in list(zip(rows, curves, strict=True))[:20]:
        if curve:
            label = " ".join(f"{key}={row[key]}" for key in keys) or row["run"]
            axes.plot(*zip(*curve, strict=True), marker=".", label=label[:60])
    axes.set_xlabel("step")
    axes.set_ylabel(metric)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    return True
