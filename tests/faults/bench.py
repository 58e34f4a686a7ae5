"""What campaigns of signals share: runs that sleep where they are told to, how they end, and how long that takes."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from support import AnyProcess, digest, payload, rows, start_trainer, the_run, wait_until

from trainer.checkpoint import durable

PLUGIN = Path(__file__).parent / "programs" / "sleeping_parts.py"
STEPS = 60  # of a run, 10 an epoch
LIMIT = 10.0  # seconds from a signal to the exit, whatever the phase and the machine
LEAVING = 1.5  # seconds of a run that is neither in a step nor in a save: a process with torch ends in some 0.3 s
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


class Bench:
    """The folder of a campaign, and for each family the end of a run that was never stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._references: dict[str, tuple[str, list[Any]]] = {}
        self._stopped: dict[str, Path] = {}

    def reference(self, family: str) -> tuple[str, list[Any]]:
        """The final state and the records of a run that was never stopped."""
        if family not in self._references:
            folder = self._make("reference", family)
            process = start(folder, *FAMILIES[family], *EVERYWHERE)
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said
            self._references[family] = outcome(the_run(folder))
        return self._references[family]

    def stopped(self, family: str) -> Path:
        """A run that was stopped by SIGTERM in the middle, to be copied."""
        if family not in self._stopped:
            folder = self._make("stopped", family)
            process = start(folder, *FAMILIES[family], *EVERYWHERE, at="step", seconds=1.0)
            wait_until((folder / "mark").exists, process)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            self._stopped[family] = the_run(folder)
        return self._stopped[family]

    def _make(self, what: str, family: str) -> Path:
        folder = self.folder / f"{what}-{family.replace(' ', '-')}"
        folder.mkdir()
        return folder

    def resumes(self, run: Path, family: str, *words: str) -> None:
        """Let a run go on to its end, which must be that of one that was never stopped."""
        process = start(run.parent, f"resume={run}", *words)
        said, _ = finish(process, 120)
        assert process.returncode == 0, said
        self.agrees(run, family)

    def agrees(self, run: Path, family: str) -> None:
        """The end of a run must be that of one that was never stopped."""
        (state, records), (expected_state, expected_records) = outcome(run), self.reference(family)
        assert state == expected_state, "the final state is not that of a run that was never stopped"
        assert records == expected_records, "the records are not those of a run that was never stopped"


def start(folder: Path, *words: str, at: str = "", seconds: float = 0.0, cold: bool = False) -> AnyProcess:
    """Start `train` with the plug-in, which sleeps `seconds` at `at` and then has left the file `mark`."""
    sleeping = {"STOPS_AT": at, "STOPS_SECONDS": str(seconds), "STOPS_MARK": str(folder / "mark")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return start_trainer(folder, "train", "--import", str(PLUGIN), *words, env=sleeping, cold=cold, **streams)


def outcome(run: Path) -> tuple[str, list[Any]]:
    """The hash of the final state, without what the clock says, and the records likewise."""
    return digest({name: value for name, value in payload(run).items() if name != "seconds"}), rows(run)


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


def finish(process: AnyProcess, seconds: float) -> tuple[str, float]:
    """Wait for the end; what was said, and how long it took, without the time that other programs took from it."""
    began, before = time.monotonic(), waited(process.pid)
    lost = 0.0
    while process.poll() is None and time.monotonic() - began < seconds:
        lost = max(lost, waited(process.pid) - before)
        time.sleep(0.005)
    took, code = time.monotonic() - began - lost, process.returncode
    survivors = [] if code is None else left_behind(process.pid)
    if code is None or survivors:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    assert code is not None, f"still ran after {seconds:.0f} s: {said[-500:]}"
    assert not survivors, f"outlived by {', '.join(survivors)}"
    assert "Traceback" not in said, said
    return said, took


def leave(process: AnyProcess, folder: Path, family: str, step: float = 0.0, saves: int = 2) -> tuple[str, float]:
    """The end of a run that was told to stop, which may take one step, so many saves and LEAVING; as `finish`."""
    with Yardstick(folder / "yardstick", family) as save:
        said, took = finish(process, LIMIT)
    assert took <= step + saves * save.seconds + LEAVING, (
        f"{took:.1f} s from the signal to the exit, where a save takes {save.seconds:.2f} s"
    )
    return said, took
