"""SIGKILL at each system call of a save: 0 states without a loadable, verified checkpoint, 0 leftovers afterwards.

    python tests/faults/crash_points.py           # a spread of crash points, under a minute
    python tests/faults/crash_points.py --full    # every one

One process imports torch and forks a child for each trial; strace attaches to the child and kills it as it enters the
k-th call of one kind. A call that is entered with SIGKILL pending is not carried out (Linux, ptrace(2)), so this is
the state *before* that call; the state *after* it is the one before the next call, which is a trial of its own. The
calls come from a first run under strace, whose log is also checked for the order that a power failure needs (what is
renamed was fsynced before, the directory after): no kill can show a missing fsync. Where there is no strace, Python's
own audit events are the crash points: fewer, without those inside torch, and the order is not checked.
"""

import contextlib
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import arguments, can_trace, digest, verdict

from trainer.checkpoint.store import Store
from trainer.errors import CheckpointError
from trainer.runs.directory import Run

TRACED = "%file,%desc"
NO_FILES = {"mmap", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_ctl"}
CHANGING = {"write", "writev", "pwrite64", "fsync", "fdatasync", "mkdir", "symlink", "ftruncate", "rmdir"} | {
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdirat", "symlinkat", "openat"),
}
AUDITED = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.symlink", "os.scandir", "shutil.rmtree"}
BEGIN = "/the-save-begins-here"  # looked up by the writing thread: a mark in strace's log
OWN_CALLS = 16  # see `mark`
NEW, NEXT = 77, 20  # what the killed save saves, and the step of the save after it
MEMORY = Path("/dev/shm")  # a kill does not lose what is in the page cache: a disk would only make it slow


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
                sys.exit(f"strace cannot attach: {tracer.communicate()[1].strip()}")
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
        sys.exit(f"a save without faults fails: {outcome}")
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


def begin(case: Case, run: Path) -> None:
    """Make a run directory with what is there before the save."""
    run.mkdir(parents=True)
    for step, best in case.before:
        save(run / "checkpoints", step, step, best)


def contents(checkpoints: Path) -> dict[str, str | None]:
    """What each name loads, as a hash of all its bits: `last`, `best`, and every `step-...` there is."""

    def found(name: str) -> str | None:
        try:
            return digest(Store(checkpoints).load(name)[0])
        except CheckpointError:
            return None

    return {name: found(name) for name in ("last", "best", *(path.name for path in Store(checkpoints).steps()))}


def leftovers(checkpoints: Path) -> list[str]:
    """Names that are neither a checkpoint's nor `last` or `best`."""
    there = checkpoints.iterdir() if checkpoints.is_dir() else iter(())
    return [path.name for path in there if not re.fullmatch(r"last|best|step-\d{8}", path.name)]


def judge(case: Case, checkpoints: Path, old: dict[str, str | None], passed: list[Call]) -> list[str]:
    """What is wrong after a kill: at once, after the next start, and after the next save.

    Args:
        old: the contents before the save.
        passed: the calls that were carried out: a name that was moved must load the new state.
    """
    new, after = digest(payload(case.step, NEW)), digest(payload(NEXT, NEXT))
    placed = any(renamed_to(call, f"/step-{case.step:08d}") for call in passed)
    wrong = []

    def check(when: str, there: dict[str, str | None]) -> None:
        for name in ("last", "best"):
            moved = any(renamed_to(call, f"/{name}") for call in passed)
            moved = moved or (placed and not case.before and name == "last")
            allowed = {new} if moved else {old[name], new if case.best or name == "last" else old[name]}
            if there[name] not in allowed:
                wrong.append(f"{when}, {name} loads {'nothing' if there[name] is None else 'another state'}")
        wrong.extend(f"{when}, {name} is damaged" for name in there if is_damaged(name, there))

    check("at once", contents(checkpoints))
    again = checkpoints.parent.with_name("again") / "checkpoints"  # the same state, for a start that first cleans up
    shutil.copytree(checkpoints.parent, again.parent, symlinks=True)
    Run(again.parent).reopen()
    check("after the next start", contents(again))
    wrong.extend(f"the next start leaves {name}" for name in leftovers(again))
    for which in (checkpoints, again):
        save(which, NEXT, NEXT, False)
        there = contents(which)
        if there["last"] != after:
            wrong.append("the next save is not what last loads")
        if old["best"] is not None and there["best"] is None:
            wrong.append("after the next save, best is lost")
        wrong.extend(f"the next save leaves {name}" for name in leftovers(which))
        wrong.extend(f"after the next save, {name} is damaged" for name in there if is_damaged(name, there))
    return list(dict.fromkeys(wrong))


def is_damaged(name: str, there: dict[str, str | None]) -> bool:
    """Whether something has the name of a checkpoint and does not load."""
    return name.startswith("step-") and there[name] is None


def renamed_to(call: Call, end: str) -> bool:
    """Whether a call gives something the name that ends so."""
    return call.name.startswith("rename") and " = 0" in call.text and call.paths[-1].endswith(end)


def made_checkpoints(call: Call) -> bool:
    """Whether a call makes the folder of the checkpoints."""
    return call.name.startswith("mkdir") and call.paths[-1].endswith("/checkpoints")


def misordered(case: Case) -> list[str]:
    """What a power failure could undo: calls of a save that come in the wrong order, or not at all."""
    done = [call for call in case.calls if " = -1 " not in call.text]
    wrong: list[str] = []

    def first(what: str, after: int, test: Callable[[Call], bool]) -> Call | None:
        found = next((call for call in done if call.line > after and test(call)), None)
        if found is None:
            wrong.append(f"there is no {what}")
        return found

    def synced(end: str) -> Callable[[Call], bool]:
        return lambda call: call.name in ("fsync", "fdatasync") and re.search(end, call.paths[0]) is not None

    if not case.before:
        made = first("mkdir of checkpoints/", -1, made_checkpoints)
        first("fsync of the run directory after it got checkpoints/", made.end if made else -1, synced("/run$"))
    target = f"/step-{case.step:08d}"
    placed = first("rename to the step's name", -1, lambda call: renamed_to(call, target))
    if placed is None:
        return wrong
    for end in ("/state.pt", "/manifest.json", ""):
        path = rf"/\.tmp-step-\d+-[0-9a-f]+{re.escape(end)}$"
        call = first(f"fsync of .tmp-step-...{end}", -1, synced(path))
        if call is not None and call.end > placed.line:
            wrong.append(f"the rename to the step's name does not wait for the fsync of .tmp-step-...{end}")
        writes = [c for c in done if c.name in ("write", "writev", "pwrite64") and re.search(path, c.paths[0])]
        if call is not None and any(c.line > call.line for c in writes):
            wrong.append(f".tmp-step-...{end} is written to after its fsync")
    folder = synced("/checkpoints$")
    durable = first("fsync of checkpoints/ after the rename to the step's name", placed.end, folder)
    pruned = [c for c in done if c.name.startswith("rename") and re.search(r"/step-\d+$", c.paths[0])]
    pruned = [c for c in pruned if not c.paths[0].endswith(target)]
    removed = [c for c in done if c.name in ("unlink", "unlinkat", "rmdir")]
    if durable is not None and any(c.line < durable.end for c in removed):
        wrong.append("something is removed before the new checkpoint is durable")
    for name in ["last", *(["best"] if case.best else [])]:
        end = f"/{name}"
        named = first(f"rename to {name}", -1, lambda call, end=end: renamed_to(call, end))  # type: ignore[misc]
        if named is None:
            continue
        if durable is not None and named.line < durable.end:
            wrong.append(f"{name} is moved before the checkpoint is durable")
        kept = first(f"fsync of checkpoints/ after the rename to {name}", named.end, folder)
        if kept is not None and any(c.line < kept.end for c in pruned):
            wrong.append(f"an old checkpoint loses its name before the move of {name} is durable")
    return wrong


def chosen(points: list[tuple[Case, int]], trials: int) -> list[tuple[Case, int]]:
    """So many of the crash points, evenly spread; first those before calls that change something."""
    if trials >= len(points):
        return points
    changing = [(case, i) for case, i in points if not case.calls or case.calls[i].name in CHANGING]
    others = [point for point in points if point not in changing]

    def spread(of: list[tuple[Case, int]], count: int) -> list[tuple[Case, int]]:
        count = min(count, len(of))
        return [of[i * len(of) // count] for i in range(count)] if count else []

    some = spread(changing, trials * 4 // 5)
    return some + spread(others, trials - len(some))


def audited(act: Callable[[], None], at: int) -> Callable[[], None]:
    """Without strace: `act`, killed at its `at`-th audit event."""

    def killing() -> None:
        seen = 0

        def count(event: str, _: Any) -> None:
            nonlocal seen
            seen += event in AUDITED
            if event in AUDITED and seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        act()

    return killing


def main() -> None:
    """Find the calls of each case, then kill a child at each."""
    given = arguments(__doc__ or "", 170, 5000, "crash points, or all there are")
    traced = can_trace()
    cases = [case for case in CASES if traced or not case.extra]
    if not traced:
        print("no strace: killed at Python's audit events instead, and the order of the fsyncs is not checked")
    failures, trials, began = [], 0, time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        work = Path(folder)
        save(work / "warm", 1, 1, True)  # what is imported late is imported now
        contents(work / "warm")
        points: list[tuple[Case, int]] = []
        for case in cases:
            start = work / "starts" / case.name.replace(" ", "-") / "run"
            begin(case, start)
            if traced:
                shutil.copytree(start, work / "run", symlinks=True)
                case.calls = record(saving(case, work / "run" / "checkpoints"), work, case.extra)
                shutil.rmtree(work / "run")
                trials += 1
                failures += [f"{case.name}, order of a save: {text}" for text in misordered(case)]
                usable = [i for i, call in enumerate(case.calls) if not (case.extra and call.name == "renameat2")]
                points += [(case, i) for i in usable]
                print(f"{case.name}: {len(case.calls)} system calls")
            else:
                points += [(case, i) for i in range(60)]
        for case, i in chosen(points, given.trials):
            tried, texts = trial(case, i, work, traced)
            trials += tried
            failures += texts
    print(f"{time.monotonic() - began:.0f} s")
    verdict("crash points of a save", trials, failures)


def saving(case: Case, checkpoints: Path, ahead: int = OWN_CALLS) -> Callable[[], None]:
    """The save of a case, with the mark at its beginning."""
    return lambda: save(checkpoints, case.step, NEW, case.best, lambda payload: mark(ahead))


def trial(case: Case, i: int, work: Path, traced: bool) -> tuple[int, list[str]]:
    """One kill; how many trials that was (none, where the save had fewer calls) and what was wrong."""
    start = work / "starts" / case.name.replace(" ", "-") / "run"
    run = work / "trial" / "run"
    shutil.copytree(start, run, symlinks=True)
    checkpoints = run / "checkpoints"
    old = contents(checkpoints)
    if traced:
        call = case.calls[i]
        inject = f"inject={call.name}:signal=KILL:when={call.number}"
        ahead = 0 if call.aside else OWN_CALLS
        outcome = attempt(saving(case, checkpoints, ahead), ["-o", "/dev/null", *case.extra, "-e", inject])
        where = f"{case.name}, killed before call {i} ({call.text[:150]})"
    else:
        outcome = attempt(audited(saving(case, checkpoints), i + 1), None)
        where = f"{case.name}, killed at audit event {i + 1}"
    if not outcome.killed:
        shutil.rmtree(work / "trial")
        missed = [f"{where}: it was not killed ({outcome.error})"] if traced or outcome.error else []
        return len(missed), missed
    wrong = judge(case, checkpoints, old, case.calls[:i])
    shutil.rmtree(work / "trial")
    return 1, [f"{where}: {'; '.join(wrong)}"] if wrong else []


if __name__ == "__main__":
    main()
