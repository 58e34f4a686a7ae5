"""A disk that is full or fails, at each call of a save: the checkpoints of before are intact, and the message says why.

    pytest -m faults tests/faults/test_io_errors.py           # a spread of the calls, ENOSPC and EIO in turn
    pytest -m faults tests/faults/test_io_errors.py --full    # both at every call

strace lets the k-th call of one kind fail (see saves.py, whose cases and children these are). Then two disks
that are really full: a small tmpfs (as root) for one save after another until nothing fits, and for a real `train`;
without root, a limit on the size of a file stands in for the first. Logs that cannot be written (/dev/full) must not
stop a run.
"""

import contextlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faults.saves import CASES, NEW, NEXT, OWN_CALLS, Case, attempt, contents, payload, prepare, save, saving
from support import Verdict, digest, finish, loadable, run_trainer, start_trainer, the_run, wait_until

from trainer.checkpoint.store import Store
from trainer.errors import TrainerError

pytestmark = pytest.mark.faults

FAILING = ("write", "pwrite64", "writev", "fsync", "mkdir", "rename", "renameat2", "symlink", "openat", "ftruncate")
SWAPPING = [case for case in CASES if not case.extra]
ERRORS = ("ENOSPC", "EIO")
WORDS = ("model=mlp", "model.hidden=[400,400]", "data=synthetic", "trainer.save_every=20", "trainer.log_every=20")


@pytest.fixture(scope="module")
def work(memory: Path, can_trace: bool) -> Path:
    """A folder with the run directory of each case, whose calls are known then."""
    prepare(SWAPPING, memory, can_trace)
    return memory


@pytest.fixture(scope="module")
def points(work: Path, full: bool) -> list[tuple[Case, int, str]]:
    """The calls that are to fail, and with which error."""
    found: list[tuple[Case, int]] = []
    for case in SWAPPING:
        writing = [i for i, call in enumerate(case.calls) if call.name in FAILING and " = -1 " not in call.text]
        # What is opened only to be read or listed fails at a start, not in a save.
        found += [(case, i) for i in writing if case.calls[i].name != "openat" or "O_CREAT" in case.calls[i].text]
    every = [(case, i, error) for case, i in found for error in ERRORS]
    spread = every[:: max(1, len(every) // 60)]
    return every if full else [(case, i, ERRORS[number % 2]) for number, (case, i, _) in enumerate(spread)]


@pytest.mark.parametrize("case", SWAPPING, ids=lambda case: case.name)
def test_a_save_with_a_call_that_fails_says_so_and_leaves_what_was_there(
    case: Case, points: list[tuple[Case, int, str]], work: Path, can_trace: bool, verdict: Verdict
) -> None:
    if can_trace:  # otherwise no call can be let fail
        verdict(failing(case, i, error, work) for one, i, error in points if one is case)


def failing(case: Case, i: int, error: str, work: Path) -> str | None:
    """Let one call of a save fail; say what was wrong, if anything."""
    run = work / "trial" / "run"
    shutil.copytree(case.start(work), run, symlinks=True)
    checkpoints, call = run / "checkpoints", case.calls[i]
    old, new = contents(checkpoints), digest(payload(case.step, NEW))
    ahead = 0 if call.aside else OWN_CALLS
    inject = f"inject={call.name}:error={error}:when={call.number}"
    outcome = attempt(saving(case, checkpoints, ahead), ["-o", "/dev/null", "-e", inject])
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
    return f"{where}: {'; '.join(wrong)}" if wrong else None


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, memory: Path) -> Iterator[Path]:
    """A tmpfs of the size that the test is parametrised with."""
    folder = Path(tempfile.mkdtemp(dir=memory))
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def growing(checkpoints: Path) -> Iterator[str | None]:
    """Save ever larger states until one does not fit, then small ones again."""
    store, saved, refused = Store(checkpoints), -1, 0
    for step in range(40):
        state = {"step": step, "weights": torch.full((100_000 * (1 + step % 20),), float(step))}
        wrong = None
        try:
            store.save(state, {"step": step}, best=step % 7 == 0)
            store.wait()
            saved = step
        except TrainerError as error:
            refused += 1
            if not re.search(r"cannot be written .*MB were needed and .*MB are free", str(error)):
                wrong = f"step {step}: the message is not complete: {error}"
        found = loadable(checkpoints)
        yield f"step {step}: last loads {found} instead of {saved}" if found != saved else wrong
    if not refused:
        yield "everything fitted, nothing was tried"


def test_saves_under_a_limit_on_the_size_of_a_file(tmp_path: Path, verdict: Verdict) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
    try:
        outcomes = list(growing(tmp_path / "checkpoints"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    verdict(outcomes)


@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_saves_on_a_disk_that_gets_full(small_disk: Path, verdict: Verdict) -> None:
    verdict(growing(small_disk / "checkpoints"))


@pytest.mark.parametrize("small_disk", ["24m"], indirect=True)
def test_a_run_on_a_disk_that_gets_full_ends_in_a_message_and_goes_on_once_there_is_room(
    small_disk: Path, verdict: Verdict
) -> None:
    process = start_trainer(small_disk, "train", *WORDS, f"output_dir={small_disk}", "trainer.epochs=30")
    wait_until(lambda: list(small_disk.glob("*/*/checkpoints/step-*")), process)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:  # all the room that is left
        while file.write(b"x" * (1 << 16)):
            pass
    error = finish(process, code=1).stderr
    assert error.count("error:") == 1 and "cannot be written" in error and "Traceback" not in error
    run = the_run(small_disk)
    assert loadable(run / "checkpoints") is not None
    ballast.unlink()
    assert "completed" in run_trainer(small_disk, "train", f"resume={run}").stdout
    verdict([None, None])


def test_a_run_whose_log_is_on_a_full_device_trains_on(tmp_path: Path, verdict: Verdict) -> None:
    run_trainer(tmp_path, "train", *WORDS, "output_dir=runs", "trainer.epochs=3")
    run = the_run(tmp_path)
    (run / "train.log").unlink()
    (run / "train.log").symlink_to("/dev/full")
    again = run_trainer(tmp_path, "train", f"resume={run}", "trainer.epochs=6")
    assert re.search("train.log.*can no longer be written", again.stdout + again.stderr)
    verdict([None])
