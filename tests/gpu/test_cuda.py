"""What only a GPU can show: `pytest -m gpu` on a machine with one. Runs are real, by the command line."""

import gc
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import digest, payload, rows, run_trainer, start_trainer, the_run, wait_until

from trainer import Config, Run, assemble
from trainer.config.data import Synthetic, SyntheticImages
from trainer.config.model import Cnn, Mlp
from trainer.config.optimizer import SGD
from trainer.config.trainer import TrainerConfig
from trainer.data.loaders.collate import Collate
from trainer.data.loaders.sampler import Sampler
from trainer.data.loaders.workers import WorkerLoader
from trainer.data.types import Split, as_float

pytestmark = pytest.mark.gpu

IMAGES = (
    "model=cnn",
    "data=synthetic_images",
    "data.num_samples=2000",
    "data.image_size=16",
    "data.batch_size=32",
    "data.augment=true",
    "trainer.ema=0.95",
    "trainer.log_every=4",
    "trainer.save_every=7",
    "trainer.epochs=4",
)  # 50 steps an epoch


def train(folder: Path, *words: str, code: int = 0) -> Any:
    folder.mkdir(exist_ok=True)
    return run_trainer(folder, "train", *words, code=code)


def bits(run: Path) -> dict[str, str]:
    saved = payload(run)
    parts = ("model_state_dict", "optimizer_state_dict", "scaler_state_dict", "ema_state_dict", "monitor", "scores")
    return {part: digest(saved[part]) for part in parts} | {"rows": digest(rows(run))}


def test_a_run_takes_the_gpu_and_bf16_and_says_so(tmp_path: Path) -> None:
    run = the_run_of(tmp_path, *IMAGES)
    told = json.loads((run / "environment.json").read_text())
    assert torch.cuda.get_device_name() in json.dumps(told)
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    assert payload(run)["environment"]["precision"] == "bf16"


def the_run_of(folder: Path, *words: str) -> Path:
    train(folder, *words)
    return the_run(folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_is_resumed_to_the_same_bits(tmp_path: Path, precision: str, number: signal.Signals) -> None:
    words = (*IMAGES, f"trainer.precision={precision}", "trainer.deterministic=true")
    whole = the_run_of(tmp_path / "whole", *words)
    (tmp_path / "cut").mkdir()
    with open(tmp_path / "output.txt", "w") as output:
        process = start_trainer(tmp_path / "cut", "train", *words, stdout=output, stderr=output)
    wait_until(lambda: any((tmp_path / "cut").glob("**/step-000000[1-9]*")), process)
    process.send_signal(number)
    process.wait(60)
    run = the_run(tmp_path / "cut")
    assert payload(run)["step"] < payload(whole)["step"]
    train(tmp_path / "cut", f"resume={run}")
    assert bits(run) == bits(whole)


def test_the_same_command_twice_gives_the_same_bits(tmp_path: Path) -> None:
    words = (*IMAGES, "trainer.deterministic=true")
    assert bits(the_run_of(tmp_path / "a", *words)) == bits(the_run_of(tmp_path / "b", *words))


def test_the_model_is_compiled(tmp_path: Path) -> None:
    run = the_run_of(tmp_path, *IMAGES, "trainer.compile=true", "trainer.epochs=2")
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"


def test_a_checkpoint_crosses_between_the_devices(tmp_path: Path) -> None:
    run = the_run_of(tmp_path, *IMAGES)
    printed = [run_trainer(tmp_path, "evaluate", str(run), "--device", device).stdout for device in ("cuda", "cpu")]
    assert all("accuracy" in text for text in printed)
    train(tmp_path, f"resume={run}", "trainer.epochs=5", "trainer.device=cpu", "trainer.precision=fp32")
    train(tmp_path, f"resume={run}", "trainer.epochs=6", "trainer.device=cuda", "trainer.precision=bf16")
    assert payload(run)["step"] == 300


@pytest.mark.parametrize("device", ["cuda:1", "cuda:7"])
def test_a_device_that_is_not_there_is_named(tmp_path: Path, device: str) -> None:
    if torch.cuda.device_count() > int(device[-1]):
        device = f"cuda:{torch.cuda.device_count()}"
    error = train(tmp_path, f"trainer.device={device}", code=2).stderr
    assert f"trainer.device={device}" in error
    assert "Traceback" not in error


def test_micro_batches_shrink_until_they_fit_and_the_gradient_is_that_of_the_batch(tmp_path: Path) -> None:
    """A process may use 1.5 GB of the device; a batch takes about 7."""
    words = ("data=synthetic", "data.num_samples=10000", "data.batch_size=4096", "trainer.steps=3", "model=mlp")
    words = (*words, "model.hidden=[200000]", "trainer.precision=fp32", "data.eval_batch_size=128")
    whole = the_run_of(tmp_path / "whole", *words)
    limit = tmp_path / "limit.py"
    limit.write_text(
        "import torch\n"
        "total = torch.cuda.get_device_properties(0).total_memory\n"
        "torch.cuda.set_per_process_memory_fraction(1.5e9 / total)\n"
    )
    words = (*words, "--import", str(limit))
    refused = train(tmp_path / "refused", *words, code=1).stderr
    assert "out of memory" in refused
    assert "trainer.auto_micro_batch=true" in refused
    done = train(tmp_path / "small", *words, "trainer.auto_micro_batch=true")
    assert "from here on" in done.stdout + done.stderr
    ours, theirs = (payload(run)["model_state_dict"] for run in (the_run(tmp_path / "small"), whole))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("on_nan", ["stop", "skip", "rollback"])
def test_steps_that_are_not_finite_are_answered_as_on_the_cpu(tmp_path: Path, on_nan: str) -> None:
    inputs = np.random.default_rng(0).random((2000, 4), np.float32)
    targets = (inputs[:, 0] > 0.5).astype(np.int64)
    inputs[1500] = 3e38  # its outputs are not finite
    np.savez(tmp_path / "t.npz", x=inputs, y=targets)
    words = ("model=mlp", "data=tensors", f"data.path={tmp_path}/t.npz", "trainer.epochs=2")
    words = (*words, f"trainer.on_nan={on_nan}", "trainer.precision=fp32")
    told = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        done = run_trainer(tmp_path / device, "train", *words, f"trainer.device={device}", code=None)
        assert "Traceback" not in done.stderr
        told[device] = (
            done.returncode,
            [line.split(":")[0] for line in done.stderr.splitlines() if "is skipped" in line or "not finite" in line],
        )
    assert told["cpu"] == told["cuda"]


def test_fp16_keeps_its_scale(tmp_path: Path) -> None:
    run = the_run_of(tmp_path, *IMAGES, "trainer.precision=fp16")
    scaler = payload(run)["scaler_state_dict"]
    assert scaler["scale"] >= 1
    assert scaler["_growth_tracker"] >= 0


def plain_steps(config: Config, folder: Path, mode: str) -> int:
    """Train 40 steps between two records; with `error` a step that waits for the device fails."""
    trainer = assemble(config, Run.create(folder))
    stream = trainer.steps()
    for _ in range(5):
        next(stream)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        for _ in range(40):
            next(stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return int(trainer.state.step)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("ema", [None, 0.99])
def test_a_step_between_two_records_never_waits_for_the_device(
    tmp_path: Path, clip: float | None, ema: float | None
) -> None:
    settings = TrainerConfig(steps=200, log_every="150", eval_every=None, device="cuda", clip_norm=clip, ema=ema)
    table = Config(model=Mlp(), data=Synthetic(num_samples=10_000), trainer=settings)
    assert plain_steps(table, tmp_path / "table", "error") == 45
    images = Config(model=Cnn(), data=SyntheticImages(num_samples=2000, augment=True), trainer=settings)
    assert plain_steps(images, tmp_path / "images", "error") == 45
    momentum = Config(model=Mlp(), data=Synthetic(num_samples=10_000), trainer=settings, optimizer=SGD(momentum=0.9))
    assert plain_steps(momentum, tmp_path / "sgd", "error") == 45


def test_predict_writes_what_the_cpu_predicts(tmp_path: Path) -> None:
    rows_of = ["a,b,target"] + [f"{i % 17 / 17},{i % 5 / 5},{'yes' if i % 17 > 8 else 'no'}" for i in range(500)]
    (tmp_path / "t.csv").write_text("\n".join(rows_of) + "\n")
    words = ("model=mlp", "data=csv", f"data.path={tmp_path}/t.csv", "data.target=target", "trainer.epochs=5")
    run = the_run_of(tmp_path, *words)
    written = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.csv"
        run_trainer(tmp_path, "predict", str(run), "t.csv", "--output", str(out), "--device", device)
        written[device] = out.read_text().splitlines()
    assert len(written["cpu"]) == len(written["cuda"]) == 501
    assert [line.split(",")[-3] for line in written["cpu"]] == [line.split(",")[-3] for line in written["cuda"]]


class Holder:
    """A tensor of the GPU in a circle, for the collector alone."""

    def __init__(self) -> None:
        self.itself, self.tensor = self, torch.ones(1, device="cuda")


class Collecting(torch.utils.data.Dataset[torch.Tensor]):
    """Numbers; whoever reads one collects its garbage."""

    def __getitem__(self, index: int) -> torch.Tensor:
        gc.collect()
        return torch.tensor([float(index)])


def test_a_worker_outlives_a_tensor_of_the_gpu_that_was_dropped_before_it_began() -> None:
    gc.collect()
    gc.disable()
    try:
        Holder()
        split = Split(Collecting(), torch.arange(12))
        collate = Collate(Sampler(12, 3, False, 0), as_float)
        stream = WorkerLoader(split, collate, torch.device("cpu"), 2, 60.0).stream(0)
        assert len([next(stream) for _ in range(4)]) == 4
        stream.close()
    finally:
        gc.enable()
