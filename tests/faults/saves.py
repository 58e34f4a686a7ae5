"""Saves of a checkpoint in a forked child: under strace, which records their system calls or lets one of them fail."""

import contextlib
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from support import digest

from trainer.checkpoint.store import Store
from trainer.errors import CheckpointError

TRACED = "%file,%desc"
NO_FILES = {"mmap", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_ctl"}
BEGIN = "/the-save-begins-here"  # looked up by the writing thread: a mark in strace's log
OWN_CALLS = 16  # see `mark`
NEW, NEXT = 77, 20  # what the killed save saves, and the step of the save after it


@dataclass
class Call:
    """One system call of a save: `number` counts those of its kind in its thread, as strace's `when=` does."""

    name: str
    number: int
    text: str
    line: int
    end: int
    aside: bool = False  # not in the thread that writes, but in the one that fsyncs for it

    @property
    def paths(self) -> list[str]:
        """The path names and the names of the open files among its arguments."""
        return [named or opened for named, opened in re.findall(r'"(/[^"]*)"|<(/[^>]*)>', self.text)]


@dataclass
class Outcome:
    """How a child ended: killed, or with the error that its save has raised (None: none)."""

    killed: bool
    error: dict[str, Any] | None = None


@dataclass
class Case:
    """A save to be killed: what is there before, and what is saved."""

    name: str
    before: tuple[tuple[int, bool], ...]
    step: int
    best: bool
    extra: tuple[str, ...] = ()
    calls: list[Call] = field(default_factory=list)

    def start(self, work: Path) -> Path:
        """The run directory as it is before the save."""
        return work / "starts" / self.name.replace(" ", "-") / "run"


CASES = (
    Case("first save", (), 1, True),
    Case("second save", ((1, True),), 2, False),
    Case("overwrite", ((1, False), (2, False), (3, True)), 3, True),
    Case("overwrite, only one there", ((3, True),), 3, True),
    Case("prune, the best apart", ((1, True), (2, False), (3, False)), 4, False),
    Case("prune, the best moves", ((1, True), (2, False), (3, False)), 4, True),
    Case("prune, set back", ((1, False), (2, True), (8, False), (9, False)), 3, False),
)
# Where the file system cannot swap two directories (NFS), the old one is moved out of the way first.
NO_SWAP = ("-e", "inject=renameat2:error=EINVAL")
CASES += (
    Case("overwrite without swapping", ((1, False), (2, False), (3, True)), 3, True, NO_SWAP),
    Case("overwrite without swapping, only one there", ((3, True),), 3, True, NO_SWAP),
)


def payload(step: int, content: int) -> dict[str, Any]:
    """A state of 80 kB: enough for torch to write it in several pieces."""
    weights = torch.arange(20_000, dtype=torch.float32) * content
    return {"step": step, "weights": weights, "optimizer": {"state": [weights[:10] / 3], "lr": 0.1}}


def mark(ahead: int = OWN_CALLS) -> None:
    """In the writing thread, at the beginning of a save.

    strace counts calls per thread, and its `when=` holds in all of them: without these calls that do nothing, the first
    fsync of this thread could not be told from the first of the thread that fsyncs while this one hashes.
    """
    for _ in range(ahead):
        with contextlib.suppress(OSError):
            os.fsync(1_000_000)  # no such descriptor
    os.path.lexists(BEGIN)


def save(
    directory: Path, step: int, content: int, best: bool, before: Callable[[Any], None] = lambda payload: None
) -> None:
    """One save with its prune, from a store that has just been opened."""
    store = Store(directory, keep=2)
    store.save(payload(step, content), {"step": step}, best, before)
    store.wait()


def attempt(act: Callable[[], None], strace: list[str] | None) -> Outcome:
    """`act` in a forked child, under strace with these arguments; None: without."""
    told = mmap.mmap(-1, 1 << 16)  # shared memory: telling must not be a system call that could be hit
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)  # until strace has attached
        try:
            act()
            told[0:2] = b"{}"
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent judges it
            about = {"type": type(error).__name__, "mro": [c.__name__ for c in type(error).__mro__]}
            about |= {"code": getattr(error, "exit_code", None), "text": str(error)[:2000]}
            text = json.dumps(about).encode()
            told[0 : len(text)] = text
        os._exit(0)
    os.close(reader)
    tracer = None
    if strace is not None:
        command = ["strace", "-f", "-qq", "-y", "-p", str(child), "-e", f"trace={TRACED}", *strace]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        status = Path(f"/proc/{child}/status")
        while "TracerPid:\t0\n" in status.read_text(encoding="ascii"):
            if tracer.poll() is not None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise RuntimeError(f"strace cannot attach: {tracer.communicate()[1].strip()}")
            time.sleep(0.0005)
    os.write(writer, b"x")
    os.close(writer)
    status_word = os.waitpid(child, 0)[1]
    if tracer is not None:
        tracer.communicate()
    text = told[:].rstrip(b"\0")
    told.close()
    return Outcome(os.WIFSIGNALED(status_word), (json.loads(text) or None) if text else None)


def record(act: Callable[[], None], work: Path, extra: tuple[str, ...] = ()) -> list[Call]:
    """The calls that `act` makes from `mark` on; its main thread only waits meanwhile."""
    log = work / "strace.log"
    outcome = attempt(act, ["-o", str(log), "-s", "0", *extra])
    if outcome.killed or outcome.error:
        raise RuntimeError(f"a save without faults fails: {outcome}")
    return parse(log.read_text(encoding="utf-8", errors="replace"))


def parse(log: str) -> list[Call]:
    """The calls of a save in a log of `strace -f -y -o`, in order."""
    counts: dict[tuple[str, str], int] = {}
    calls: list[Call] = []
    open_calls: dict[str, Call] = {}
    writer = ""
    for number, text in enumerate(log.splitlines()):
        thread, _, rest = text.partition(" ")
        rest = rest.strip()
        if rest.startswith("<... ") and thread in open_calls:
            call = open_calls.pop(thread)
            call.end, call.text = number, call.text + rest
            continue
        found = re.match(r"(\w+)\(", rest)
        if not found:
            continue
        name = found[1]
        counts[thread, name] = counts.get((thread, name), 0) + 1
        call = Call(name, counts[thread, name], rest, number, number, aside=thread != writer)
        if "<unfinished ...>" in rest:
            open_calls[thread] = call
        if writer and name not in NO_FILES:
            calls.append(call)
        writer = thread if BEGIN in rest else writer
    return calls


def prepare(cases: Iterable[Case], work: Path, traced: bool) -> None:
    """Make the run directory of each case, with what is there before its save, and record the calls of that save."""
    save(work / "warm", 1, 1, True)  # what is imported late is imported now
    contents(work / "warm")
    for case in cases:
        start = case.start(work)
        start.mkdir(parents=True)
        for step, best in case.before:
            save(start / "checkpoints", step, step, best)
        if traced:
            shutil.copytree(start, work / "run", symlinks=True)
            case.calls = record(saving(case, work / "run" / "checkpoints"), work, case.extra)
            shutil.rmtree(work / "run")


def contents(checkpoints: Path) -> dict[str, str | None]:
    """What each name loads, as a hash of all its bits: `last`, `best`, and every `step-...` there is."""

    def found(name: str) -> str | None:
        try:
            return digest(Store(checkpoints).load(name)[0])
        except CheckpointError:
            return None

    return {name: found(name) for name in ("last", "best", *(path.name for path in Store(checkpoints).steps()))}


def saving(case: Case, checkpoints: Path, ahead: int = OWN_CALLS) -> Callable[[], None]:
    """The save of a case, with the mark at its beginning."""
    return lambda: save(checkpoints, case.step, NEW, case.best, lambda payload: mark(ahead))
