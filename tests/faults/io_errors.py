"""A disk that is full or fails, at each call of a save: the checkpoints of before are intact, and the message says why.

    python tests/faults/io_errors.py           # a spread of the calls, ENOSPC and EIO in turn
    python tests/faults/io_errors.py --full    # both at every call

strace lets the k-th call of one kind fail (see crash_points.py, whose cases and children these are). Then two disks
that are really full: a small tmpfs (as root) for one save after another until nothing fits, and for a real `train`;
without root, a limit on the size of a file stands in for the first. Logs that cannot be written (/dev/full) must not
stop a run.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from common import arguments, can_trace, digest, loadable, train, verdict
from crash_points import (
    CASES,
    MEMORY,
    NEW,
    NEXT,
    OWN_CALLS,
    Case,
    attempt,
    begin,
    contents,
    payload,
    record,
    save,
    saving,
)

from trainer.checkpoint.store import Store
from trainer.errors import TrainerError

FAILING = ("write", "pwrite64", "writev", "fsync", "mkdir", "rename", "renameat2", "symlink", "openat", "ftruncate")
TINY = ("model=mlp", "model.hidden=[400,400]", "data=synthetic", "trainer.save_every=20", "trainer.log_every=20")


def injected(given_trials: int, full: bool, work: Path) -> tuple[int, list[str]]:
    """An error at each call of each save; trials and failures."""
    points: list[tuple[Case, int]] = []
    for case in (case for case in CASES if not case.extra):
        start = work / "starts" / case.name.replace(" ", "-") / "run"
        begin(case, start)
        shutil.copytree(start, work / "run", symlinks=True)
        case.calls = record(saving(case, work / "run" / "checkpoints"), work)
        shutil.rmtree(work / "run")
        writing = [i for i, call in enumerate(case.calls) if call.name in FAILING and " = -1 " not in call.text]
        # What is opened only to be read or listed fails at a start, not in a save.
        points += [(case, i) for i in writing if case.calls[i].name != "openat" or "O_CREAT" in case.calls[i].text]
    errors = ("ENOSPC", "EIO")
    trials = [(case, i, error) for case, i in points for error in errors]
    if not full:
        trials = trials[:: max(1, len(trials) // given_trials)]
    failures = []
    for number, (case, i, error) in enumerate(trials):
        error = error if full else errors[number % 2]
        failures += fail_at(case, i, error, work)
    return len(trials), failures


def fail_at(case: Case, i: int, error: str, work: Path) -> list[str]:
    """One save with one call that fails; what is wrong."""
    start, run = work / "starts" / case.name.replace(" ", "-") / "run", work / "trial" / "run"
    shutil.copytree(start, run, symlinks=True)
    checkpoints, call = run / "checkpoints", case.calls[i]
    old, new = contents(checkpoints), digest(payload(case.step, NEW))
    ahead = 0 if call.aside else OWN_CALLS
    outcome = attempt(
        saving(case, checkpoints, ahead),
        ["-o", "/dev/null", "-e", f"inject={call.name}:error={error}:when={call.number}"],
    )
    there, wrong = contents(checkpoints), []
    for name in ("last", "best"):
        allowed = {old[name], new} if name == "last" or case.best else {old[name]}
        if there[name] not in allowed:
            wrong.append(f"{name} loads {'nothing' if there[name] is None else 'another state'}")
    wrong += [f"{name} is damaged" for name in there if name.startswith("step-") and there[name] is None]
    if outcome.error is None:
        # A swap that fails is done in two renames; pruning may fail, since the new checkpoint is safe by then.
        if there["last"] != new:
            wrong.append("no error, and the state was not saved")
    elif "TrainerError" not in outcome.error["mro"] or outcome.error["code"] != 1:
        wrong.append(f"ended with {outcome.error['type']} instead of a TrainerError: {outcome.error['text'][:200]}")
    elif not re.search(r"checkpoints.*cannot be written.*MB are free", outcome.error["text"]):
        wrong.append(f"the message does not say where, why and what is free: {outcome.error['text'][:300]}")
    save(checkpoints, NEXT, NEXT, False)
    if contents(checkpoints)["last"] != digest(payload(NEXT, NEXT)):
        wrong.append("the next save is not what last loads")
    shutil.rmtree(work / "trial")
    where = f"{case.name}, {error} at call {i} ({call.text[:120]})"
    return [f"{where}: {'; '.join(wrong)}"] if wrong else []


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size; raises `CalledProcessError` where it may not be mounted."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def growing(checkpoints: Path) -> tuple[int, list[str]]:
    """Ever larger states until one does not fit, then small ones again."""
    store, saved, failures, refused = Store(checkpoints), -1, [], 0
    for step in range(40):
        state = {"step": step, "weights": torch.full((100_000 * (1 + step % 20),), float(step))}
        try:
            store.save(state, {"step": step}, best=step % 7 == 0)
            store.wait()
            saved = step
        except TrainerError as error:
            refused += 1
            if not re.search(r"cannot be written .*MB were needed and .*MB are free", str(error)):
                failures.append(f"full disk, step {step}: the message is not complete: {error}")
        found = loadable(checkpoints)
        if found != saved:
            failures.append(f"full disk, step {step}: last loads {found} instead of {saved}")
    return 40, failures if refused else [*failures, "full disk: everything fitted, nothing was tried"]


def limited(checkpoints: Path) -> tuple[int, list[str]]:
    """The same in this process under a limit on the size of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
    try:
        return growing(checkpoints)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def whole_run(disk: Path) -> tuple[int, list[str]]:
    """`train` on a disk that gets full: exit code 1, one message, and the run goes on once there is room."""
    failures = []
    words = (*TINY, f"output_dir={disk}", "trainer.epochs=30")
    ballast = disk / "ballast"
    process = train(*words, cwd=disk)
    began = time.monotonic()
    while not list(disk.glob("*/*/checkpoints/step-*")) and process.poll() is None and time.monotonic() - began < 60:
        time.sleep(0.01)
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:  # all the room that is left
        while file.write(b"x" * (1 << 16)):
            pass
    text = process.communicate(timeout=120)[0]
    run = next(disk.glob("*/*/config.yaml")).parent
    if process.returncode != 1 or "Traceback" in text or text.count("error:") != 1 or "cannot be written" not in text:
        failures.append(f"train on a full disk: exit code {process.returncode}: {text[-800:]}")
    if loadable(run / "checkpoints") is None:
        failures.append("train on a full disk: no checkpoint loads")
    ballast.unlink()
    again = train(f"resume={run}", cwd=disk)
    text = again.communicate(timeout=120)[0]
    if again.returncode or "completed" not in text:
        failures.append(f"after room was made: exit code {again.returncode}: {text[-800:]}")
    return 2, failures


def without_logs(folder: Path) -> tuple[int, list[str]]:
    """`train` whose train.log, metrics or TensorBoard cannot be written from the start of a resumed run on."""
    failures = []
    words = (*TINY, "output_dir=runs", "trainer.epochs=3")
    first = train(*words, cwd=folder)
    first.communicate(timeout=120)
    run = next(folder.glob("runs/*/*/config.yaml")).parent
    (run / "train.log").unlink()
    (run / "train.log").symlink_to("/dev/full")
    again = train(f"resume={run}", "trainer.epochs=6", cwd=folder)
    text = again.communicate(timeout=120)[0]
    if again.returncode or "train.log" not in text or "can no longer be written" not in text:
        failures.append(f"train.log on a full device: exit code {again.returncode}: {text[-800:]}")
    return 1, failures


def main() -> None:
    """All of it."""
    given = arguments(__doc__ or "", 60, 1000, "failing calls, or all there are")
    trials, failures = 0, []
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        folder = Path(name)
        if can_trace():
            save(folder / "warm", 1, 1, True)  # what is imported late is imported now
            contents(folder / "warm")
            trials, failures = injected(given.trials, given.full, folder)
        else:
            print("no strace: no errors are injected, only full disks are tried")
        campaigns = [limited(folder / "limited"), without_logs(folder)]
        try:
            with small_disk(folder / "small", "8m") as disk:
                campaigns.append(growing(disk / "checkpoints"))
            with small_disk(folder / "run", "24m") as disk:
                campaigns.append(whole_run(disk))
        except subprocess.CalledProcessError:
            print("no tmpfs may be mounted: the disks that are really full are left out")
        for count, texts in campaigns:
            trials += count
            failures += texts
    verdict("errors of the disk", trials, failures)


if __name__ == "__main__":
    main()
