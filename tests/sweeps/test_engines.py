"""Which engine runs the trials of a sweep."""

import signal
import threading
from pathlib import Path

import pytest
from sweeps.sweeping import WORDS, sweep, train, trials

from trainer.sweeps.attended import REQUEST, attend, request
from trainer.sweeps.engine import TrialTask


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep.engine=slurm",), "there is no sbatch here"),
        (("sweep.engine=slurm", "sweep.slurm={cluster: local, partitoin: x}"), "partitoin"),
        (("sweep.cpus=2",), "sweep.cpus is not for sweep.engine=local"),
        (("sweep.engine=ray", "sweep.slurm={partition: x}"), "sweep.slurm is not for sweep.engine=ray"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_leaves_nothing(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    _, error = train(tmp_path, "-m", *WORDS, "seed=0,1", *words, code=2)
    assert message in error
    assert not list(tmp_path.glob("**/sweep.yaml"))


def test_a_trial_that_still_waits_to_begin_gets_what_was_asked_of_it(tmp_path: Path) -> None:
    """It would train for hours."""
    directory, _ = sweep(tmp_path, "-m", *WORDS, "seed=0,1", "trainer.epochs=100000000", "sweep.max_time=3s", code=124)
    task = TrialTask(trials(directory)[0], (), ("seed",), 0)
    request(task, signal.SIGTERM)
    codes: list[int] = []
    attending = threading.Thread(target=lambda: codes.append(attend(task)))
    attending.start()
    attending.join(60)
    was_lost = attending.is_alive()
    while attending.is_alive():
        request(task, signal.SIGKILL)
        attending.join(1)
    assert not was_lost
    assert codes in ([-signal.SIGTERM], [0])
    assert not (task.directory / REQUEST).exists()
