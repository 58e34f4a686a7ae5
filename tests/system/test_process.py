"""Settings of the process: that they are made, that a key leaves them alone, that the run says which hold."""

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from messages import heard
from support import Command, run_python

from trainer import Config, Run, assemble
from trainer.config.data import Synthetic
from trainer.config.model import Linear
from trainer.config.trainer import TrainerConfig
from trainer.system import process

MLP = ("model=mlp", "model.hidden=[512,512]", "data=synthetic", "data.num_samples=500", "trainer.fast_dev_run=true")


def environment_of(folder: Path) -> dict[str, Any]:
    """The environment file of the only run."""
    (file,) = folder.glob("outputs/*/*/environment.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def program(text: str, **environment: str) -> list[str]:
    """The lines that a Python program prints, in a process of its own."""
    result = run_python(Path.cwd(), "-c", textwrap.dedent(text), env=environment)
    return result.stdout.splitlines()


def test_the_environment_file_says_what_holds(train: Command, tmp_path: Path) -> None:
    train(*MLP, OMP_NUM_THREADS="64")
    found = environment_of(tmp_path)
    assert found["cores"] == process.cores()
    assert found["threads"] == process.cores(), "64 were asked for by the environment"
    assert found["flush_denormals"] is True
    assert found["malloc"] == "glibc, mmap_threshold 32 MiB, trim_threshold 1024 MiB, top_pad 64 MiB"


def test_each_key_leaves_the_process_as_it_is(train: Command, tmp_path: Path) -> None:
    train(*MLP, "trainer.threads=3", "trainer.flush_denormals=false", "trainer.malloc=false")
    found = environment_of(tmp_path)
    assert found["threads"] == 3
    assert found["flush_denormals"] is False
    assert found["malloc"] == "glibc, as it is"


@pytest.mark.parametrize("keep", [True, False])
def test_memory_that_is_kept_is_not_faulted_in_again(keep: bool) -> None:
    """Each round touches 24 MiB in blocks of 3 MiB, 6144 pages, and frees them.

    glibc's threshold adapts, to what else was freed before; held where it begins, the comparison is a certain one.
    """
    lines = program(
        f"""
        import resource
        import torch
        from trainer.system import process

        def touch():
            return [torch.ones(3 << 18) for _ in range(8)]

        process.configure_malloc({keep})
        for _ in range(3):
            touch()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            touch()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        """,
        GLIBC_TUNABLES="glibc.malloc.mmap_threshold=131072",
    )
    faults = int(lines[0])
    assert faults < 600 if keep else faults > 6_000


def test_blocks_beyond_the_threshold_go_back_at_once() -> None:
    """What was kept does not add up: 20 tensors of 64 MiB, one after the other, leave none behind."""
    lines = program("""
        from pathlib import Path
        import torch
        from trainer.system import process

        def resident():
            status = Path("/proc/self/status").read_text()
            return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

        process.configure_malloc(True)
        before = resident()
        for size in range(20):
            torch.ones((64 << 18) + size)
        print(resident() - before)
    """)
    assert int(lines[0]) < 32 << 10


@pytest.mark.parametrize("older", [True, False])
def test_all_threads_follow_the_setting(older: bool) -> None:
    """OpenMP's threads inherit it when they start, and outlive every change: some are older than it, some younger.

    What is printed is the share of zeros in work that all four have a part in.
    """
    lines = program(f"""
        import torch
        from trainer.system import process

        torch.set_num_threads(4)

        def zeros():
            return ((torch.full((1 << 20,), 1e-40) * torch.ones(())) == 0).float().mean().item()

        if {older}:
            zeros()
        for flush in (True, False, True, False):
            process.configure_denormals(flush)
            print(zeros())
    """)
    assert lines == ["1.0", "0.0", "1.0", "0.0"]


def test_threads_that_come_later_flush_too() -> None:
    lines = program("""
        import torch
        from trainer.system import process

        process.configure_denormals(True)
        process.configure_threads(4)
        print(((torch.full((1 << 20,), 1e-40) * torch.ones(())) == 0).float().mean().item())
    """)
    assert lines == ["1.0"]


def test_a_run_that_goes_on_with_denormals_is_told(tmp_path: Path) -> None:
    def config(flush: bool) -> Config:
        return Config(model=Linear(), data=Synthetic(), trainer=TrainerConfig(epochs=1, flush_denormals=flush))

    run = Run.create(tmp_path)
    assemble(config(flush=True), run).fit()
    try:
        with heard() as told:
            assemble(config(flush=False), run, resume="last")
        assert float(torch.tensor(1e-40) * torch.ones(())) > 0
    finally:
        process.configure_denormals(True)
        run.release()
    assert len(told) == 1
    assert "flush_denormals True → False" in told[0]
    assert "same bits" in told[0]


def test_no_more_threads_than_the_cores_one_is_bound_to() -> None:
    lines = program(
        """
        import os
        import torch
        from trainer.system import process

        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(process.cores())
        process.configure_threads(None)
        print(torch.get_num_threads())
        process.configure_threads(5)
        print(torch.get_num_threads())
        """,
        OMP_NUM_THREADS="8",
    )
    assert lines == ["1", "1", "5"]


@pytest.mark.parametrize(
    ("groups", "own", "expected"),
    [
        ({"cpu.max": "100000 100000"}, "0::/", 1),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 1),
        ({"a/b/cpu.max": "50000 100000"}, "0::/a", None),
        ({"cpu/cpu.cfs_quota_us": "80000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpuset:/\n1:cpuacct,cpu:/", 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/", None),
        ({"cpu/x/cpu.cfs_quota_us": "10000", "cpu/x/cpu.cfs_period_us": "100000"}, "1:cpu:/x", 1),
        ({}, "0::/gone", None),
    ],
)
def test_the_quota_of_a_container_counts(
    tmp_path: Path, groups: dict[str, str], own: str, expected: int | None
) -> None:
    """`expected` None: the quota says nothing, and the affinity decides."""
    for name, text in groups.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    found = process.cores(tmp_path / "groups", tmp_path / "own")
    assert found == (expected or len(os.sched_getaffinity(0)))


def test_a_tiny_model_has_one_thread_and_a_larger_one_all() -> None:
    """The share of a step that two threads save is less than what their meeting costs."""
    lines = program(
        """
        import torch
        from trainer import Config, assemble
        from trainer.config.data import Synthetic
        from trainer.config.model import Linear, Mlp

        for model in (Linear(), Mlp(hidden=[512, 512])):
            assemble(Config(model=model, data=Synthetic()))
            print(torch.get_num_threads())
        """,
        OMP_NUM_THREADS="64",
    )
    assert lines == ["1", str(process.cores())]
