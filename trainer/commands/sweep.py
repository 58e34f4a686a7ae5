"""`train -m`: every combination of the given values, run by Hydra's launcher, and a table of what came out."""

import contextlib
import csv
import itertools
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from trainer.config import compose
from trainer.config.overlay import ROOT, overlaid
from trainer.config.quoting import typed_override
from trainer.errors import ConfigError
from trainer.loggers.console import format_duration, format_value
from trainer.loggers.screen import Screen, is_live, say
from trainer.runs.directory import Run, make_directory
from trainer.runs.run_training import run_training
from trainer.runs.start import RunStart
from trainer.runs.start_record import CommandLine
from trainer.system.signals import Interrupted, SignalHandler

NOT_STARTED = "not started"
REPEATS = ("seed", "data.fold")  # keys whose values are trials of the same thing


def sweep(overrides: Sequence[str], imports: Sequence[str], config_dirs: Sequence[Path], signals: SignalHandler) -> int:
    """Check every job, run them all, print and write the results; 0 when all completed, 1 when one failed.

    Raises:
        ConfigError: for a mistake in any of the jobs, before the first one starts.
    """
    jobs = expand(overrides)
    for job in jobs:
        config = compose.to_config(compose.compose(job, config_dirs))
        if config.resume is not None:
            raise ConfigError(f"resume={config.resume}: a sweep always begins anew; resume its runs one at a time.")
    directory = make_directory(config.output_dir, "-sweep")
    console = Screen()
    swept = _swept(jobs)
    for _, text in dict.fromkeys(note for job in jobs for note in CommandLine(job, (), config_dirs).notes()):
        say(console, text)
    say(console, f"sweep     {len(jobs)} runs in {directory}")
    task = _Job(console, signals, imports, swept, len(jobs))
    with contextlib.suppress(Interrupted):  # by a job that has not begun, or was stopped: no further one starts
        _launch(task, overrides, directory, config_dirs)
    results = collect(directory, jobs, swept)
    write_results(directory / "results.csv", results)
    print_results(console, results, swept)
    if means := mean_scores(results, swept):
        write_results(directory / "means.csv", means)
        print_means(console, means, swept)
    say(console, f"results   {directory / 'results.csv'}")
    if signals.signal is not None:
        return 128 + signals.signal
    return 1 if any(row["status"] in ("failed", NOT_STARTED) for row in results) else 0


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every job, in the order in which Hydra's sweeper numbers them."""
    choices = []
    for override in compose.parse(overrides):
        name = override.get_key_element().lstrip("+")
        if override.is_sweep_override():
            choices.append([f"{name}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([(override.input_line or "").lstrip("+")])
    return [list(job) for job in itertools.product(*choices)]


class _Job:
    """What the launcher calls with the config of each job. A job that fails says so and lets the others run."""

    def __init__(
        self, console: Console, signals: SignalHandler, imports: Sequence[str], swept: list[str], total: int
    ) -> None:
        self.console, self.signals, self.imports = console, signals, imports
        self.swept, self.total = swept, total

    def __call__(self, cfg: DictConfig) -> None:
        info = HydraConfig.get()
        number, overrides = int(info.job.num), list(info.overrides.task)
        run = Run.at(Path(info.runtime.output_dir))
        run.write_config(compose.to_yaml(cfg), overrides)  # before anything can fail
        title = " ".join(o for o in overrides if o.partition("=")[0] in self.swept)
        live = self.console if is_live(self.console) else None
        try:
            config = compose.to_config(cfg)
            summary = run_training(
                RunStart(cfg, config, run, CommandLine(overrides, self.imports)), run, live, self.signals
            )
            best = summary["best"]
            outcome = f"{best['metric']} {format_value(best['metric'], best['value'])}" if best else summary["status"]
        except Exception as error:  # noqa: BLE001  # a bug of one job must not take the others down; its log has the traceback
            outcome = (
                f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} (see {run.log})"
            )
        finally:
            run.release()
        say(self.console, f"[{number + 1}/{self.total}] {title}  {outcome}")
        if self.signals.signal is not None:
            raise Interrupted(self.signals.signal)  # passes through the launcher: no further job starts


def _launch(task: _Job, overrides: Sequence[str], directory: Path, config_dirs: Sequence[Path]) -> None:
    """Hand over to `hydra.main`, which reads its arguments from `sys.argv`."""
    compose.publish(config_dirs)
    arguments = [
        *(text.lstrip("+") for text in overrides),
        typed_override("hydra.sweep.dir", directory),
        "hydra.sweep.subdir=${hydra.job.num}",
        "hydra.output_subdir=null",
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
    ]
    with overlaid(config_dirs) as folder, _arguments(["train", "-m", *arguments]):
        hydra.main(version_base="1.3", config_path=str(folder), config_name=ROOT)(task)()


@contextlib.contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, argv
    # Hydra would otherwise turn an exception into a message and an exit of its own.
    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"
    try:
        yield
    finally:
        sys.argv = before
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _swept(jobs: list[list[str]]) -> list[str]:
    """Return the keys that differ between the jobs; all that were given where there is one job."""
    keys = [text.partition("=")[0] for text in jobs[0]]
    varied = [key for i, key in enumerate(keys) if len({job[i] for job in jobs}) > 1]
    return varied or keys


def collect(directory: Path, jobs: list[list[str]], swept: list[str]) -> list[dict[str, Any]]:
    """Return a row for each job from its `summary.json`, the best first; jobs without a score come last."""
    rows: list[dict[str, Any]] = []
    modes = set()
    for number, job in enumerate(jobs):
        run = Run(directory / str(number))
        summary = run.summary() or {"status": NOT_STARTED}
        values = dict(text.partition("=")[::2] for text in job)
        best, last = summary.get("best") or {}, summary.get("last") or {}
        modes.add(best.get("mode"))
        rows.append(
            {"job": number}
            | {key: values[key] for key in swept}
            | {
                "status": summary["status"],
                "metric": best.get("metric", ""),
                "best": best.get("value"),
                "best_step": best.get("step"),
                "last": last.get("value"),
                "seconds": summary.get("seconds"),
                "directory": str(run.directory),
            }
        )
    sign = 1 if "min" in modes else -1
    rows.sort(key=lambda row: (row["best"] is None, sign * (row["best"] or 0.0)))
    return rows


def mean_scores(rows: list[dict[str, Any]], swept: list[str]) -> list[dict[str, Any]]:
    """Return mean and deviation of jobs that differ in nothing but the seed or the fold; [] where none do.

    The deviation is that of a sample (divided by n - 1). Jobs without a score are not counted.
    """
    settings = [key for key in swept if key not in REPEATS]
    trials: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["best"] is not None:
            trials.setdefault(tuple(row[key] for key in settings), []).append(row)
    if settings == swept or max(map(len, trials.values()), default=0) < 2:
        return []
    means = []
    for values, group in trials.items():
        entry: dict[str, Any] = dict(zip(settings, values, strict=True)) | {"metric": group[0]["metric"]}
        for name in ("best", "last"):
            scores = [row[name] for row in group if row[name] is not None]
            entry[f"{name}_mean"] = statistics.fmean(scores) if scores else None
            entry[f"{name}_std"] = statistics.stdev(scores) if len(scores) > 1 else None
        means.append(entry | {"runs": len(group)})
    return means


def write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as CSV."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def print_results(console: Console, rows: list[dict[str, Any]], swept: list[str]) -> None:
    """Print the rows as a table, best first."""
    metric = next((row["metric"] for row in rows if row["metric"]), "score")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", *swept):
        table.add_column(name, justify="right", overflow="fold")
    for name in (f"best {metric}", "at step", "last", "time"):
        table.add_column(name, justify="right")
    table.add_column("status")
    for row in rows:
        shown = (row["best"], row["last"])
        best, last = ("–" if value is None else format_value(metric, value) for value in shown)
        table.add_row(
            str(row["job"]),
            *(row[key] for key in swept),
            best,
            "–" if row["best_step"] is None else str(row["best_step"]),
            last,
            "–" if row["seconds"] is None else format_duration(row["seconds"]),
            row["status"],
        )
    console.print(table)


def print_means(console: Console, means: list[dict[str, Any]], swept: list[str]) -> None:
    """Print means and deviations as a table."""
    metric = means[0]["metric"]

    def words(entry: dict[str, Any], name: str) -> str:
        mean, std = entry[f"{name}_mean"], entry[f"{name}_std"]
        if mean is None:
            return "–"
        return format_value(metric, mean) + ("" if std is None else f" ± {format_value(metric, std)}")

    settings = [key for key in swept if key not in REPEATS]
    over = " and ".join(key for key in swept if key in REPEATS)
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"mean ± std over {over}", title_justify="left")
    for name in (*settings, f"best {metric}", "last", "runs"):
        table.add_column(name, justify="right", overflow="fold")
    for entry in means:
        row = (*(entry[key] for key in settings), words(entry, "best"), words(entry, "last"), str(entry["runs"]))
        table.add_row(*row)
    console.print(table)
