"""Trials as tasks of Ray and as jobs of submitit: the same results as here, whatever becomes of a machine.

pytest -m faults tests/faults/test_clusters.py --full     # all of it; without --full nothing
"""

import importlib
import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import finish, payload, start_trainer, wait_until
from sweeps.sweeping import bits, sweep, table, train, trials

WORDS = ("model=mlp", "data=synthetic", "data.num_samples=200", "trainer.threads=1", "optimizer.lr=0.1,0.01")
LONG = (
    *WORDS,
    "trainer.epochs=9000",
    "trainer.eval_every=400ep",
    "trainer.save_every=100ep",
    "trainer.log_every=1000ep",
)
SLURM = ("sweep.engine=slurm", "sweep.slurm.cluster=local")

SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep as this machine runs it, undisturbed."""
    return sweep(tmp_path_factory.mktemp("whole"), "-m", *LONG, "sweep.jobs=2")[0]


def assert_equal(found: Path, whole: Path) -> None:
    assert table(found) == table(whole)
    assert [bits(run) for run in trials(found) if run.name != "slurm"] == [bits(run) for run in trials(whole)]


def last_step(run: Path) -> int:
    return int(payload(run)["step"]) if (run / "checkpoints" / "last").exists() else -1


def limit(tmp_path: Path, whole: Path) -> None:
    """A job at its time limit saves, is queued again and goes on."""
    process = start_trainer(tmp_path, "train", "-m", *LONG, *SLURM, "sweep.dir=mine")
    run = tmp_path / "mine" / "001"
    wait_until(lambda: last_step(run) > 100, process)
    jobs = [job for job in psutil.Process(process.pid).children(recursive=True) if "_submit" in " ".join(job.cmdline())]
    for job in jobs:
        job.send_signal(signal.SIGUSR2)  # what Slurm sends before the limit
    assert "2 at a time" in finish(process).stdout
    logs = "".join(path.read_text() for path in (tmp_path / "mine" / "slurm").glob("*_log.*"))
    assert "Requeued job" in logs
    assert_equal(tmp_path / "mine", whole)


def stop(tmp_path: Path, whole: Path) -> None:
    """Jobs that are stopped save, and go on when the sweep is resumed."""
    process = start_trainer(tmp_path, "train", "-m", *LONG, *SLURM, "sweep.dir=mine")
    run = tmp_path / "mine" / "001"
    wait_until(lambda: last_step(run) > 100, process)
    process.send_signal(signal.SIGTERM)
    done = finish(process, code=143)
    assert "save and stop" in done.stdout
    assert json.loads((run / "summary.json").read_text())["reason"] == f"signal {int(signal.SIGTERM)}"
    train(tmp_path, "resume=mine")
    assert_equal(tmp_path / "mine", whole)


def loss(tmp_path: Path, whole: Path) -> None:
    """A trial whose machine is lost goes on on another one."""
    utils: Any = importlib.import_module("ray.cluster_utils")
    cluster = utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": SOON}
    )
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        env = {"RAY_ADDRESS": cluster.address}
        process = start_trainer(tmp_path, "train", "-m", *LONG, "sweep.engine=ray", "sweep.dir=mine", env=env)
        wait_until(lambda: all(last_step(tmp_path / "mine" / name) > 100 for name in ("000", "001")), process)
        cluster.remove_node(nodes[0], allow_graceful=False)
        done = finish(process)
    finally:
        cluster.shutdown()
    assert "2 at a time" in done.stdout
    assert_equal(tmp_path / "mine", whole)


TRIALS = {"loss": loss, "limit": limit, "stop": stop}


@pytest.mark.full
@pytest.mark.parametrize("what", TRIALS)
def test_a_sweep_on_a_cluster_ends_as_one_on_this_machine(what: str, tmp_path: Path, whole: Path) -> None:
    TRIALS[what](tmp_path, whole)
