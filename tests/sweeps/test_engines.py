"""Which engine runs the trials of a sweep."""

from pathlib import Path

import pytest
from sweeps.sweeping import WORDS, train


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
