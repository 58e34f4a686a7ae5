"""Signals: a run that is told to stop does so soon, with the right exit code, and loses nothing.

    python tests/faults/stops.py             # each signal once in each of the main phases, and the special cases
    python tests/faults/stops.py --full      # every phase, 10 times

SIGTERM and SIGINT end a run with 143 and 130; SIGUSR1 saves and lets it go on. A plug-in sleeps where a trial wants the
signal to arrive (and says so in a file), so that every phase is really hit. Resumed, a run ends in the same bits as one
that was never stopped.

From the signal to the exit there may be one step, the save under way and the last one, and the seconds of LEAVING; 10 s
at most. What a save takes is measured on the same disk at the same time, and the time in which other programs have the
processor is not the run's.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import torch

from trainer.checkpoint import durable
from trainer.checkpoint.store import Store
from trainer.runs.directory import Run

PLUGIN = """
import os
import time
from dataclasses import dataclass

import torch
from torch import nn

from trainer import key, register
from trainer.config.data import DataConfig
from trainer.config.model import ModelConfig
from trainer.data.splits import from_splits, from_tensors, split_index
from trainer.data.types import Split

PLACE, MARK = os.environ.get("STOPS_AT"), os.environ.get("STOPS_MARK")
SECONDS = float(os.environ.get("STOPS_SECONDS", "0"))


def enter(place):
    if place == PLACE:
        with open(MARK, "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(SECONDS)


enter("importing")


class Net(nn.Module):
    def __init__(self, features, outputs, ballast):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs))
        for i in range(ballast):
            setattr(self, f"ballast{i}", nn.Parameter(torch.full((1 << 20,), float(i)), requires_grad=False))
        self.calls = 0

    def forward(self, inputs):
        if self.training:
            self.calls += 1
            if self.calls == 7:
                enter("step")
            if self.calls > 2:
                enter("training")
        else:
            enter("validation")
        return self.layers(inputs)


@register("model", "stops")
@dataclass
class Stops(ModelConfig):
    ballast: int = key(0, "MiB × 4 that are saved with the model")

    def build(self, spec):
        enter("building")
        return Net(spec.features, spec.outputs, self.ballast)


def made(samples):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(samples, 8, generator=generator)
    return inputs, (inputs.sum(1) > 0).long()


@register("data", "stops")
@dataclass
class Points(DataConfig):
    samples: int = key(200, "how many")

    def __post_init__(self):
        super().__post_init__()
        enter("composing")

    def build(self, seed):
        enter("reading")
        return from_tensors(*made(self.samples), ("no", "yes"), config=self, seed=seed)


class Files(torch.utils.data.Dataset):
    def __init__(self, inputs, train):
        self.inputs, self.train, self.reads = inputs, train, 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.reads += 1
        if self.train:
            if self.reads == 1:
                enter("first batch")
            if self.reads == 60:
                enter("loader worker")
            if self.reads > 20:
                enter("slow reading")
        else:
            enter("worker of the validation")
        return self.inputs[index]


@register("data", "stops_files")
@dataclass
class Streamed(Points):
    workers: int = key(2, "processes")

    def build(self, seed):
        inputs, targets = made(self.samples)
        train, val = split_index(targets, self.val_fraction, seed)
        splits = [Split(Files(inputs[part], i == 0), targets[part]) for i, part in enumerate((train, val))]
        return from_splits(*splits, ("no", "yes"), input_shape=(8,), workers=self.workers)
"""

STEPS = 60  # of a run, 10 an epoch
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LIMIT = 10.0  # seconds from a signal to the exit, whatever the phase and the machine
LEAVING = 1.5  # seconds of a run that is neither in a step nor in a save: a process with torch ends in some 0.3 s
SLOW_STEP = 1.5
TOGETHER = 3  # trials at a time; most of one is waiting
UNLIKE = ("time", "samples_per_second")  # what two runs of the same bits do not share in metrics.jsonl

# What is trained: the words of the command line.
EVERYWHERE = (
    "optimizer.lr=0.01",
    "trainer.epochs=6",
    "trainer.log_every=3",
    "trainer.save_every=10",
    "trainer.eval_every=10",
    "data.batch_size=16",
    "data.eval_batch_size=1",
    "trainer.threads=1",
    "trainer.device=cpu",
)
BALLAST = 32  # times 4 MiB
FAMILIES = {
    "small": ("model=stops", "data=stops"),
    "big": ("model=stops", "data=stops", f"model.ballast={BALLAST}"),
    "read here": ("model=stops", "data=stops_files", "data.workers=0"),
    "read by workers": ("model=stops", "data=stops_files"),
}


@dataclass(frozen=True)
class Phase:
    """Where a signal arrives.

    Attributes:
        name: for people; also the place where the plug-in sleeps, unless `place` names another.
        family: see FAMILIES.
        stop, go_on: seconds that the plug-in sleeps in a trial that is stopped, and in one that is not.
        step: seconds that the exit may wait for a step.
        begins: whether training has begun then, so that a checkpoint must be there.
        main: whether a quick campaign tries it.
        file: appears when the phase has been reached, below the folder of runs; None: the plug-in's mark.
        delay: longest random wait before the signal is sent.
        resumed: whether the run was stopped before, and is in this phase of going on.
        may_complete: whether the run may be found completed.
        early: whether the default action of the signal may end it.
        place: where the plug-in sleeps.
    """

    name: str
    family: str = "small"
    stop: float = 60.0
    go_on: float = 1.0
    step: float = 0.0
    begins: bool = True
    main: bool = True
    file: str | None = None
    delay: float = 0.05
    resumed: bool = False
    may_complete: bool = False
    early: bool = False
    place: str | None = None


PHASES = (
    Phase("starting", begins=False, main=False, file="", delay=1.5, early=True),
    Phase("importing", begins=False),
    Phase("composing", begins=False),
    Phase("reading", begins=False),
    Phase("building", begins=False, main=False),
    Phase("importing again", resumed=True, place="importing", main=False),
    Phase("reading again", resumed=True, place="reading"),
    Phase("first batch", "read here"),
    Phase("training", stop=0.02, go_on=0.02, delay=0.3),
    Phase("slow step", stop=SLOW_STEP, go_on=SLOW_STEP, step=SLOW_STEP, place="step"),
    Phase("validation", stop=0.5, go_on=0.005, delay=1.0),
    Phase("saving", "big", file="*/*/checkpoints/.tmp-step-*[1-9]0-*", may_complete=True),
    Phase("last save", "big", file=f"*/*/checkpoints/.tmp-step-{STEPS:08d}-*", may_complete=True),
    Phase("closing", file="*/*/summary.json", delay=0.3, may_complete=True),
    Phase("loader worker", "read by workers"),
    Phase("worker of the validation", "read by workers", go_on=0.05, main=False),
)


class Bench:
    """The folder of a campaign: the plug-in, and for each family the end of a run that was never stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plugin = folder, folder / "parts.py"
        self.plugin.write_text(PLUGIN)
        self._lock = threading.Lock()
        self._numbers = iter(range(1_000_000))
        self._references: dict[str, tuple[str, list[Any]]] = {}
        self._stopped: dict[str, Path] = {}

    def place(self) -> Path:
        """A fresh folder for a trial."""
        with self._lock:
            path = self.folder / f"trial{next(self._numbers)}"
        path.mkdir()
        return path

    def reference(self, family: str) -> tuple[str, list[Any]]:
        """The final state and the records of a run that was never stopped."""
        with self._lock:
            if family not in self._references:
                folder = self.folder / f"reference-{family.replace(' ', '-')}"
                folder.mkdir()
                process = self.start(folder, *FAMILIES[family], *EVERYWHERE)
                said, _ = process.communicate(timeout=120)
                if process.returncode:
                    raise SystemExit(f"The reference run of {family} failed:\n{said}")
                self._references[family] = outcome(the_run(folder))
        return self._references[family]

    def stopped(self, family: str) -> Path:
        """A run that was stopped by SIGTERM in the middle, to be copied."""
        with self._lock:
            if family not in self._stopped:
                folder = self.folder / f"stopped-{family.replace(' ', '-')}"
                folder.mkdir()
                mark = folder / "mark"
                process = self.start(folder, *FAMILIES[family], *EVERYWHERE, at="step", seconds=1.0, mark=mark)
                wait_for(mark.exists, process)
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)
                self._stopped[family] = the_run(folder)
        return self._stopped[family]

    def start(
        self, folder: Path, *words: str, at: str = "", seconds: float = 0.0, mark: Path | None = None
    ) -> "subprocess.Popen[str]":
        """Start `train` with the plug-in, which sleeps `seconds` at `at`."""
        environment = {"STOPS_AT": at, "STOPS_SECONDS": str(seconds), "STOPS_MARK": str(mark or folder / "mark")}
        return common.train("--import", str(self.plugin), *words, cwd=folder, env=environment)


def the_run(folder: Path) -> Path:
    """The only run below a folder."""
    return next(folder.glob("outputs/*/*/config.yaml")).parent


def outcome(run: Path) -> tuple[str, list[Any]]:
    """The hash of the final state, without what the clock says, and the records likewise."""
    payload, _ = Store(run / "checkpoints").load("last")
    state = common.digest({name: value for name, value in payload.items() if name != "seconds"})
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return state, [{name: value for name, value in row.items() if name not in UNLIKE} for row in rows]


def wait_for(reached: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 60.0) -> bool:
    """Wait until something has happened; False where the process has ended before, or time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        if process.poll() is not None:
            return reached()
        time.sleep(0.002)
    return False


def left_behind(group: int, grace: float = 1.0) -> list[str]:
    """The processes of a group that are still alive after a moment."""
    end = time.monotonic() + grace
    while True:
        alive = [f"process {pid} ({name})" for pid, name in members(group)]
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.05)


def members(group: int) -> Iterator[tuple[int, str]]:
    """The living processes of a process group; zombies, which nobody may have waited for, are none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it has ended
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state != "Z":
            yield int(entry.name), name


class Yardstick:
    """Saves the same state over and over, in a thread, while a run saves its own: what one save takes here and now."""

    def __init__(self, folder: Path, family: str) -> None:
        self.seconds, self._folder, self._stop = 0.0, folder, threading.Event()
        self._state = {"step": 0, "weights": torch.zeros((BALLAST if family == "big" else 0) << 20)}
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> "Yardstick":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _measure(self) -> None:
        while not self.seconds or not self._stop.wait(0.05):
            began = time.monotonic()
            durable.save_durably(self._folder, self._state, {})
            self.seconds = max(self.seconds, time.monotonic() - began)


def waited(pid: int) -> float:
    """Seconds that the main thread of a process was ready to run while other programs had the processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0  # it has ended, or the kernel does not count


def finish(process: "subprocess.Popen[str]", seconds: float, problems: list[str]) -> tuple[str, float]:
    """Wait for the end; what was said, and how long it took, without the time that other programs took from it."""
    began, before = time.monotonic(), waited(process.pid)
    lost = 0.0
    while process.poll() is None and time.monotonic() - began < seconds:
        lost = max(lost, waited(process.pid) - before)
        time.sleep(0.005)
    if process.returncode is None:
        problems.append(f"still runs after {seconds:.0f} s")
    took = time.monotonic() - began - lost
    if survivors := left_behind(process.pid) if process.returncode is not None else []:
        problems.append(f"outlived by {', '.join(survivors)}")
    if process.returncode is None or survivors:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    if "Traceback" in said:
        problems.append("a traceback was printed")
    return said, took


def leave(
    process: "subprocess.Popen[str]", folder: Path, family: str, problems: list[str], step: float = 0.0, saves: int = 2
) -> tuple[str, float]:
    """The end of a run that was told to stop, which may take one step, so many saves and LEAVING; as `finish`."""
    with Yardstick(folder / "yardstick", family) as save:
        said, took = finish(process, LIMIT, problems)
    if took > step + saves * save.seconds + LEAVING:
        problems.append(f"{took:.1f} s from the signal to the exit, where a save takes {save.seconds:.2f} s")
    return said, took


def resumes(bench: Bench, run: Path, family: str, problems: list[str], *words: str) -> None:
    """Let a run go on to its end, which must be that of one that was never stopped."""
    process = bench.start(run.parent, f"resume={run}", *words)
    said, _ = finish(process, 120, problems)
    if process.returncode:
        problems.append(f"resuming ended with {process.returncode}: {said[-300:]}")
        return
    state, rows = outcome(run)
    expected, expected_rows = bench.reference(family)
    if state != expected:
        problems.append("the final state is not that of a run that was never stopped")
    if rows != expected_rows:
        problems.append("the records are not those of a run that was never stopped")


def tried(bench: Bench, phase: Phase, number: signal.Signals, seed: int, thorough: bool) -> tuple[list[str], float]:
    """One signal in one phase: what went wrong, and the seconds from the signal to the exit."""
    problems: list[str] = []
    draw = random.Random(seed)
    folder = bench.place()
    stops = number != signal.SIGUSR1
    words = (*FAMILIES[phase.family], *EVERYWHERE)
    if phase.resumed:
        copy = folder / "outputs/of/earlier"
        shutil.copytree(bench.stopped(phase.family), copy, symlinks=True)
        words = (f"resume={copy}",)
    mark, place = folder / "mark", phase.place or phase.name
    process = bench.start(folder, *words, at=place, seconds=phase.stop if stops else phase.go_on, mark=mark)

    def reached() -> bool:
        return mark.exists() if phase.file is None else any((folder / "outputs").glob(phase.file or "../outputs"))

    if phase.file != "" and not wait_for(reached, process):
        finish(process, 0, problems)
        return [*problems, "the phase was never reached"], 0.0
    time.sleep(draw.random() * phase.delay)
    process.send_signal(number)
    if stops:
        said, took = leave(process, folder, phase.family, problems, phase.step)
    else:
        said, took = finish(process, 60.0, problems)
    check(phase, number, folder, process.returncode, said, problems)
    if thorough and not problems and (folder / "outputs").exists():
        if stops:
            resumes(bench, the_run(folder), phase.family, problems)
        elif outcome(the_run(folder)) != bench.reference(phase.family):
            problems.append("the end is not that of a run that never saved on the way")
    if problems:
        problems[-1] += f" (code {process.returncode}; said: ...{said[-200:]!r}; in {folder})"
    else:
        shutil.rmtree(folder)
    return problems, took if stops else 0.0


def check(phase: Phase, number: int, folder: Path, code: int, said: str, problems: list[str]) -> None:
    """Compare how a run has ended with how it should."""
    outputs, stops = folder / "outputs", number != signal.SIGUSR1
    runs = list(outputs.glob("*/*/config.yaml"))
    if phase.early and code == -number:
        problems += [f"left {outputs}"] if outputs.exists() else []
        return
    completed = [json.loads(s.read_text())["status"] == "completed" for s in outputs.glob("*/*/summary.json")] == [True]
    expected = 128 + number if stops and not (phase.may_complete and completed) else 0
    if code != expected:
        problems.append(f"exit code {code} instead of {expected}")
    if not phase.begins and stops:
        problems += [f"left {outputs}"] if outputs.exists() else []
        return
    if not runs:
        problems.append("there is no run")
        return
    run = runs[0].parent
    step = common.loadable(run / "checkpoints")
    if step is None:
        problems.append("no checkpoint can be loaded")
    if not stops:
        if "as SIGUSR1 asked" not in said and not phase.may_complete:
            problems.append("no line says that it was saved")
        if not completed or step != STEPS:
            problems.append(f"not completed, at step {step}")
        return
    summary = json.loads((run / "summary.json").read_text()) if (run / "summary.json").exists() else {}
    told = (summary.get("status"), summary.get("reason"))
    if phase.resumed and expected:  # nothing was trained: the run has ended as it had before
        expected_words = ("stopped", f"signal {int(signal.SIGTERM)}")
        problems += [] if told == expected_words else [f"the summary says {told}"]
        return
    if told not in ((("stopped", f"signal {int(number)}"),) if expected else (("completed", "completed"),)):
        problems.append(f"the summary says {told}")
    if summary.get("steps") != step:
        problems.append(f"the summary says step {summary.get('steps')}, and last is {step}")


def twice(bench: Bench, seed: int) -> list[str]:
    """A second Ctrl-C during a save ends the run at once; what can be loaded stays loadable."""
    problems: list[str] = []
    folder = bench.place()
    process = bench.start(folder, *FAMILIES["big"], *EVERYWHERE)
    saving = "outputs/*/*/checkpoints/.tmp-step-*[1-9]0-*"
    if not wait_for(lambda: any(folder.glob(saving)), process):
        problems.append("no save was seen")
    process.send_signal(signal.SIGINT)
    time.sleep(0.02 + 0.1 * random.Random(seed).random())
    process.send_signal(signal.SIGINT)
    _, took = leave(process, folder, "big", problems, saves=1)  # no process ends before the fsync that it is in
    if process.returncode != 130:
        problems.append(f"exit code {process.returncode} after {took:.2f} s")
    if common.loadable(the_run(folder) / "checkpoints") is None:
        problems.append("no checkpoint can be loaded")
    resumes(bench, the_run(folder), "big", problems)
    return problems


def twice_in_a_step(bench: Bench, seed: int) -> list[str]:
    """A second Ctrl-C does not wait for the end of a step that takes a minute, which the first one does."""
    problems: list[str] = []
    folder = bench.place()
    process = bench.start(folder, *FAMILIES["small"], *EVERYWHERE, at="step", seconds=60)
    if not wait_for((folder / "mark").exists, process):
        problems.append("the step was never reached")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2 + 0.2 * random.Random(seed).random())
    if process.poll() is not None:
        problems.append("the first Ctrl-C did not wait for the step")
    process.send_signal(signal.SIGINT)
    _, took = leave(process, folder, "small", problems)
    told = (Run(the_run(folder)).summary() or {}).get("reason")
    if process.returncode != 130 or told != "interrupted twice":
        problems.append(f"exit code {process.returncode} after {took:.2f} s, {told}")
    resumes(bench, the_run(folder), "small", problems)
    return problems


def whole_group(bench: Bench, seed: int) -> list[str]:
    """SIGTERM to the run and its loader workers: it still has its batch, saves, and ends with its code."""
    problems: list[str] = []
    folder = bench.place()
    process = bench.start(folder, *FAMILIES["read by workers"], *EVERYWHERE, at="slow reading", seconds=0.01)
    wait_for(lambda: any(path.stat().st_size for path in folder.glob("outputs/*/*/metrics.jsonl")), process)
    time.sleep(random.Random(seed).random() * 0.3)
    os.killpg(process.pid, signal.SIGTERM)
    said, took = leave(process, folder, "read by workers", problems)
    if process.returncode != 143:
        problems.append(f"exit code {process.returncode} after {took:.2f} s: {said[-200:]}")
    if not common.loadable(the_run(folder) / "checkpoints"):
        problems.append("no checkpoint after the first can be loaded")
    resumes(bench, the_run(folder), "read by workers", problems)
    return problems


def out_of_time(bench: Bench, seed: int) -> list[str]:
    """trainer.max_time saves and stops in time, in the middle of a long validation too."""
    problems: list[str] = []
    folder = bench.place()
    words = (*FAMILIES["small"], *EVERYWHERE, "trainer.max_time=2s")
    process = bench.start(folder, *words, at="validation", seconds=0.2)
    if not wait_for((folder / "mark").exists, process):
        problems.append("validation was never reached")
    said, took = finish(process, LIMIT, problems)
    run = the_run(folder)
    summary = json.loads((run / "summary.json").read_text())
    if process.returncode != 124 or (summary["status"], summary["reason"]) != ("stopped", "max_time"):
        problems.append(f"exit code {process.returncode}, {summary['status']}, {summary['reason']}: {said[-200:]}")
    if summary.get("seconds", 9.9) > 2.5 or took > 4.0:
        problems.append(f"{summary.get('seconds')} s of training, {took:.1f} s from the validation to the exit")
    resumes(bench, run, "small", problems, "trainer.max_time=null")
    return problems


def stuck_worker(bench: Bench, seed: int) -> list[str]:
    """A worker that gives no batch ends the run after data.timeout, with one message that names it."""
    problems: list[str] = []
    folder = bench.place()
    words = (*FAMILIES["read by workers"], *EVERYWHERE, "data.timeout=3")
    process = bench.start(folder, *words, at="loader worker", seconds=300)
    if not wait_for((folder / "mark").exists, process):
        problems.append("no worker was stuck")
    said, took = finish(process, 3 + LIMIT, problems)
    if process.returncode != 1 or said.count("error:") != 1 or "data.timeout" not in said:
        problems.append(f"exit code {process.returncode} after {took:.1f} s: {said[-300:]}")
    if not common.loadable(the_run(folder) / "checkpoints") and seed < 0:
        problems.append("no checkpoint can be loaded")
    resumes(bench, the_run(folder), "read by workers", problems)
    return problems


def killed_worker(bench: Bench, seed: int) -> list[str]:
    """A worker that is killed ends the run with one message."""
    problems: list[str] = []
    folder = bench.place()
    mark = folder / "mark"
    process = bench.start(folder, *FAMILIES["read by workers"], *EVERYWHERE, at="slow reading", seconds=0.02)
    wait_for(mark.exists, process)
    time.sleep(random.Random(seed).random() * 0.2)
    os.kill(int(mark.read_text().splitlines()[0]), signal.SIGKILL)
    said, took = finish(process, LIMIT, problems)
    if process.returncode != 1 or said.count("error:") != 1 or "worker" not in said:
        problems.append(f"exit code {process.returncode} after {took:.1f} s: {said[-300:]}")
    resumes(bench, the_run(folder), "read by workers", problems)
    return problems


def orphaned(bench: Bench, seed: int) -> list[str]:
    """A run that is killed takes its workers with it, also one that is stuck."""
    problems: list[str] = []
    folder = bench.place()
    process = bench.start(folder, *FAMILIES["read by workers"], *EVERYWHERE, at="loader worker", seconds=300)
    if not wait_for((folder / "mark").exists, process):
        problems.append("no worker was stuck")
    process.kill()
    finish(process, LIMIT, problems)
    return problems


def swept(bench: Bench, seed: int) -> list[str]:
    """One signal stops a sweep: the job saves, no further one starts, and the exit code is the signal's."""
    problems: list[str] = []
    number, code = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[seed % 2]
    place, begun = (("step", True), ("validation", True), ("reading", False))[seed // 2 % 3]
    folder = bench.place()
    words = (*FAMILIES["small"], *EVERYWHERE, "seed=0,1,2")
    process = bench.start(folder, "-m", *words, at=place, seconds=1.0 if begun else 60.0)
    if not wait_for((folder / "mark").exists, process):
        problems.append(f"{place} was never reached")
    process.send_signal(number)
    said, took = leave(process, folder, "small", problems, step=1.0)
    if process.returncode != code:
        problems.append(f"exit code {process.returncode} instead of {code}, after {took:.1f} s: {said[-300:]}")
    table = next(folder.glob("outputs/*/*/results.csv"), None)
    if table is None or table.read_text().count("not started") != 2:
        problems.append(f"results.csv: {table and table.read_text()}")
    elif begun and common.loadable(table.parent / "0/checkpoints") is None:
        problems.append("no checkpoint of the job can be loaded")
    return problems


SPECIAL = (twice, twice_in_a_step, whole_group, out_of_time, stuck_worker, killed_worker, orphaned, swept)


def main() -> None:
    """Run the trials, a few at a time; print the longest time to exit of each phase."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--only")
    mine, sys.argv[1:] = own.parse_known_args()
    args = common.arguments(
        (__doc__ or "") + " --only NAME: one phase or case.", quick=1, full=10, unit="repeats of each"
    )
    torch.set_num_threads(1)
    phases = [phase for phase in PHASES if phase.main or args.full or args.trials > 1]
    cases = [case for case in SPECIAL if mine.only in (None, case.__name__)]
    phases = [phase for phase in phases if mine.only in (None, phase.name)]
    failures: list[str] = []
    longest: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="stops-", ignore_cleanup_errors=True) as name:
        bench = Bench(Path(name))

        def one(phase: Phase, number: signal.Signals, repeat: int) -> None:
            problems, took = tried(bench, phase, number, args.seed + repeat, thorough=repeat == 0)
            failures.extend(f"{phase.name}, {number.name}, repeat {repeat}: {problem}" for problem in problems)
            longest[phase.name] = max(longest[phase.name], took)

        def special(what: Callable[[Bench, int], list[str]], repeat: int) -> None:
            problems = what(bench, args.seed + repeat)
            failures.extend(f"{what.__name__}, repeat {repeat}: {problem}" for problem in problems)

        jobs: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            (special, (what, repeat)) for repeat in range(args.trials) for what in cases
        ]
        jobs += [
            (one, (phase, number, repeat))
            for repeat in range(args.trials)
            for phase in phases
            for number in SIGNALS
            if not (phase.early and number == signal.SIGUSR1)
        ]
        with ThreadPoolExecutor(TOGETHER) as pool:
            for done in [pool.submit(act, *given) for act, given in jobs]:
                done.result()
    for phase in phases:
        print(f"{phase.name:<26}{longest[phase.name]:5.2f} s at most from the signal to the exit")
    sys.stdout.flush()
    common.verdict("stops", len(jobs), failures)


if __name__ == "__main__":
    main()
