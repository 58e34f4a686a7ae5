"""SIGKILL at each system call of a save: 0 states without a loadable, verified checkpoint, 0 leftovers afterwards.

    pytest -m faults tests/faults/test_crash_points.py           # a spread of crash points, under a minute
    pytest -m faults tests/faults/test_crash_points.py --full    # every one

One process imports torch and forks a child for each trial; strace attaches to the child and kills it as it enters the
k-th call of one kind. A call that is entered with SIGKILL pending is not carried out (Linux, ptrace(2)), so this is
the state *before* that call; the state *after* it is the one before the next call, which is a trial of its own. The
calls come from a first run under strace, whose log is also checked for the order that a power failure needs (what is
renamed was fsynced before, the directory after): no kill can show a missing fsync. Where there is no strace, Python's
own audit events are the crash points: fewer, without those inside torch, and the order is not checked.
"""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.saves import CASES, NEW, NEXT, OWN_CALLS, Call, Case, attempt, contents, payload, prepare, save, saving
from support import Verdict, digest

from trainer.runs.directory import Run

pytestmark = pytest.mark.faults

CHANGING = {"write", "writev", "pwrite64", "fsync", "fdatasync", "mkdir", "symlink", "ftruncate", "rmdir"} | {
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdirat", "symlinkat", "openat"),
}
AUDITED = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.symlink", "os.scandir", "shutil.rmtree"}


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


@pytest.fixture(scope="module")
def work(memory: Path, can_trace: bool) -> Path:
    """A folder with the run directory of each case, whose calls are known then."""
    prepare(CASES, memory, can_trace)
    return memory


@pytest.fixture(scope="module")
def points(work: Path, can_trace: bool, full: bool) -> list[tuple[Case, int]]:
    """The crash points to be tried: a case, and the number of the call before which its save is killed."""
    if not can_trace:
        return chosen([(case, i) for case in CASES if not case.extra for i in range(60)], 5000 if full else 170)
    usable = [
        (case, i)
        for case in CASES
        for i, call in enumerate(case.calls)
        if not (case.extra and call.name == "renameat2")
    ]
    return chosen(usable, 5000 if full else 170)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_calls_of_a_save_are_in_the_order_that_a_power_failure_needs(
    case: Case, work: Path, can_trace: bool, verdict: Verdict
) -> None:
    if can_trace:  # otherwise nothing is known of its calls
        verdict(["; ".join(misordered(case))])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_save_killed_anywhere_leaves_a_checkpoint_and_nothing_else(
    case: Case, points: list[tuple[Case, int]], work: Path, can_trace: bool, verdict: Verdict
) -> None:
    mine = [i for one, i in points if one is case]
    if mine:  # without strace there is no way to kill a save that cannot swap directories
        verdict(killed(case, i, work, can_trace) for i in mine)


def killed(case: Case, i: int, work: Path, traced: bool) -> str | None:
    """Kill the save of a case before its i-th call; say what was wrong, if anything."""
    run = work / "trial" / "run"
    shutil.copytree(case.start(work), run, symlinks=True)
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
    try:
        if not outcome.killed:  # without strace, a save may have fewer events
            return f"{where}: it was not killed ({outcome.error})" if traced or outcome.error else None
        wrong = judge(case, checkpoints, old, case.calls[:i])
        return f"{where}: {'; '.join(wrong)}" if wrong else None
    finally:
        shutil.rmtree(work / "trial")
