"""What a person sees of a sweep: a live table in a terminal, one line an event, the leaderboard at the end."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainer.config.quoting import import_flags, shell_command, typed_override
from trainer.loggers.console import format_duration, format_value
from trainer.loggers.files import read_metrics
from trainer.loggers.screen import is_live, say
from trainer.sweeps.directory import COMPLETED, FAILED, FINISHED, NOT_STARTED, SweepDirectory
from trainer.sweeps.means import REPEATS, Row
from trainer.sweeps.results import Results, ResultsReader

LONGEST_TABLE = 40  # rows of the leaderboard that are printed; results.csv has all
REFRESH = 0.5  # seconds


class SweepScreen:
    """Prints what happens to the trials of a sweep.

    Args:
        console: where to print.
        directory: of the sweep.
    """

    def __init__(self, console: Console, directory: SweepDirectory) -> None:
        self.console, self.directory = console, directory
        self.total = directory.definition.count
        self._began, self._seconds, self._done, self._shown = time.monotonic(), 0.0, 0, 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if is_live(console) else None

    def __enter__(self) -> "SweepScreen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print one line."""
        say(self.console, text)

    def opening(self, jobs: int) -> None:
        """Say what is about to be run, where, and how to go on with it."""
        at_a_time = "one at a time" if jobs == 1 else f"{jobs} at a time"
        statuses = [self.directory.status(number) for number in range(self.total)]
        words = f"{self.total} trials in {self.directory.path}, {at_a_time}"
        if begun := self.total - statuses.count(NOT_STARTED):
            finished = sum(status in FINISHED for status in statuses)
            words += f"; {finished} finished and {begun - finished} begun before"
        self.say(f"{'sweep':<10}{words}")
        self.say(f"{'resume':<10}{resume_sweep(self.directory)}")

    def event(self, done: int, row: Row, title: str) -> None:
        """Say how a trial has ended."""
        self._done += 1
        self.say(f"[{done}/{self.total}] {row['trial']:03d} {title}  {_outcome(row)}")

    def stopping(self, running: int) -> None:
        """Say that no further trial starts."""
        self.say(f"{'stopping':<10}{running} running trial{'s' * (running != 1)} save and stop")

    def update(self, reader: ResultsReader, started: Mapping[int, float]) -> None:
        """Draw the live table, where there is one."""
        now = time.monotonic()
        if self._live is None or now - self._shown < REFRESH:
            return
        self._shown = now
        keys = self.directory.definition.keys
        table = _table("trial", *keys, "step", "latest", "for")
        for number in sorted(started):
            values, records = reader.values(number), read_metrics(self.directory.run(number).directory)
            step = f"{records[-1]['step']:,}" if records else "–"
            cells = (f"{number:03d}", *(values.get(key, "") for key in keys), step, self._latest(records))
            table.add_row(*map(Text, (*cells, format_duration(now - started[number]))))
        self._live.update(Group(table, Text(self._caption(now, len(started)))), refresh=True)

    def _latest(self, records: list[Row]) -> str:
        """Return the last validation of a trial: the score that ranks, or the first that there is."""
        wanted = self.directory.definition.sweep.metrics()
        for record in reversed(records):
            found = [name for name in record if name.startswith("val/")]
            if found:
                name = next((name for name in wanted if name in found), found[0])
                return f"{name} {format_value(name, record[name])}"
        return "–"

    def _caption(self, now: float, running: int) -> str:
        statuses = [self.directory.status(number) for number in range(self.total)]
        ended = sum(status in (*FINISHED, FAILED) for status in statuses)
        words = f"{ended} of {self.total} trials ended, {running} running"
        if failed := statuses.count(FAILED):
            words += f", {failed} failed"
        if self._done:
            words += f", eta {format_duration((now - self._began) / self._done * (self.total - ended))}"
        return words

    def closing(self, results: Results) -> None:
        """Print the leaderboard, what was best, and what to type next."""
        self._leaderboard(results)
        if results.means:
            self._means(results)
        path = self.directory.path
        self.say(f"{'results':<10}{path / 'results.csv'}")
        best = next((row for row in results.rows if row["best"] is not None), None)
        if best is not None:
            score = format_value(best["metric"], best["best"])
            self.say(f"{'best':<10}{best['metric']} {score} in trial {best['trial']:03d}, {best['directory']}")
            self.say(f"{'next':<10}{shell_command('trainer', 'evaluate', best['directory'])}")
            self.say(f"{'next':<10}{shell_command('trainer', 'export', best['directory'])}")
        if any(row["status"] not in (*FINISHED, FAILED) for row in results.rows):
            self.say(f"{'next':<10}{resume_sweep(self.directory)}")
        elif any(row["status"] == FAILED for row in results.rows):
            self.say(f"{'next':<10}{resume_sweep(self.directory)} sweep.retry=failed")

    def _leaderboard(self, results: Results) -> None:
        metric = results.metric or "score"
        pareto = ["pareto"] if results.metrics else []
        table = _table(
            "trial", *results.keys, f"best {metric}", *results.metrics, "at step", "last", "time", "status", *pareto
        )
        for row in results.rows[:LONGEST_TABLE]:
            shown = row["metric"] or metric
            cells = [
                f"{row['trial']:03d}",
                *(row[key] for key in results.keys),
                _score(shown, row["best"]),
                *(_score(name, row.get(name)) for name in results.metrics),
                "–" if row["best_step"] is None else str(row["best_step"]),
                _score(shown, row["last"]),
                "–" if row["seconds"] is None else format_duration(row["seconds"]),
                row["status"],
                *(["*" if row["pareto"] else ""] if pareto else []),
            ]
            table.add_row(*map(Text, cells))
        self.console.print(table)
        if len(results.rows) > LONGEST_TABLE:
            self.say(f"… and {len(results.rows) - LONGEST_TABLE} more, in results.csv")

    def _means(self, results: Results) -> None:
        settings = [key for key in results.keys if key not in REPEATS]
        over = " and ".join(key for key in results.keys if key in REPEATS)
        metric = str(results.metric)
        table = _table(*settings, f"best {metric}", "95 % interval", "last", "runs")
        table.title, table.title_justify = f"mean ± std over {over}", "left"
        for entry in results.means[:LONGEST_TABLE]:
            half = entry["best_ci95"]
            interval = (
                "–"
                if half is None
                else " to ".join(format_value(metric, entry["best_mean"] + sign * half) for sign in (-1, 1))
            )
            cells = (
                *(entry[k] for k in settings),
                _mean(entry, "best"),
                interval,
                _mean(entry, "last"),
                str(entry["runs"]),
            )
            table.add_row(*map(Text, cells))
        self.console.print(table)
        if results.comparison is not None:
            self.say(f"{'compare':<10}{_comparison(results.comparison, metric, over)}")


def resume_sweep(directory: SweepDirectory) -> str:
    """Return what to type to go on with a sweep."""
    return shell_command("train", *import_flags(directory.definition.imports), typed_override("resume", directory.path))


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    return table


def _score(metric: str, value: Any) -> str:
    return "–" if value is None else format_value(metric, value)


def _outcome(row: Row) -> str:
    """Return how a trial has ended, in words."""
    score = "" if row["best"] is None else f"{row['metric']} {format_value(row['metric'], row['best'])}"
    if row["status"] in FINISHED:
        return "  ".join(filter(None, (score, row["status"] if row["status"] != COMPLETED or not score else "")))
    return f"{row['status']}: {(row['reason'].splitlines() or ['no reason known'])[0]} (see {row['directory']})"


def _mean(entry: Row, name: str) -> str:
    mean, std, metric = entry[f"{name}_mean"], entry[f"{name}_std"], entry["metric"]
    if mean is None:
        return "–"
    return format_value(metric, mean) + ("" if std is None else f" ± {format_value(metric, std)}")


def _comparison(found: Row, metric: str, over: str) -> str:
    first, second = (" ".join(f"{k}={v}" for k, v in found[name].items()) for name in ("first", "second"))
    if found["p"] is None:
        return (
            f"{first} and {second} have {found['pairs']} pairs of {over} in common: too few, or too equal, to compare"
        )
    sure = "differ" if found["p"] < 0.05 else "do not differ significantly"
    return (
        f"{first} and {second} {sure}: {metric} differs by {format_value(metric, found['difference'])} over "
        f"{found['pairs']} pairs of {over} (paired t-test, p = {found['p']:.2g})"
    )
