"""`trainer.log_gradients`: the numbers against a hand-written loop, the files, and that training does not notice."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import run_python, run_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F

from trainer import Config, Run, Trainer, assemble, cli
from trainer.config.data import Synthetic
from trainer.config.model import Attention, Mlp
from trainer.config.optimizer import SGD
from trainer.config.scheduler import ConstantLR
from trainer.config.trainer import TrainerConfig
from trainer.data.types import DataSpec
from trainer.loggers.base import LogRecord
from trainer.loggers.files import read_rows
from trainer.loggers.layer_stats import LayerStatsLogger, draw
from trainer.runs.build import build_network
from trainer.system.device import autocast
from trainer.training.layer_stats import LayerMeter

LR = 0.1
NUMBERS = {"gradient_mean", "gradient_max", "gradient_norm", "update_ratio"}


class Kept:
    """A sink that keeps the gradients it is given, by step."""

    def __init__(self) -> None:
        self.flows: dict[int, dict[str, Any]] = {}
        self.steps: list[int] = []

    def write(self, record: LogRecord) -> None:
        self.steps.append(record.step)
        if record.gradients:
            self.flows[record.step] = record.gradients

    def flush(self) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass


def config(log_gradients: str | None = "2", **settings: Any) -> Config:
    """80 training samples in batches of 32 (so 32, 32, 16), 9 steps."""
    return Config(
        model=Mlp(hidden=[12, 8], batch_norm=True),
        data=Synthetic(num_samples=100, num_features=6, batch_size=32),
        optimizer=SGD(lr=LR, momentum=0.9),
        scheduler=ConstantLR(),
        trainer=TrainerConfig(
            **({"epochs": 3, "log_every": "4"} | settings), log_gradients=log_gradients, device="cpu"
        ),
    )


def build(made: Config) -> tuple[Trainer, Kept]:
    """A trainer, and the logger to give to its `fit`."""
    return assemble(made), Kept()


def by_hand(trainer: Trainer, steps: int, clip: float = math.inf) -> dict[int, dict[str, dict[str, float]]]:
    """The numbers of every step, of a loop that everybody writes; moves the trainer's own model."""
    model, found = trainer.state.model, {}
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    model.train()
    for step, batch in zip(range(1, steps + 1), trainer.train.stream(0), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        layers: dict[str, dict[str, float]] = {}
        modules = {name: list(m.parameters()) for name, m in model.named_modules() if list(m.parameters(recurse=False))}
        before = {name: torch.cat([p.detach().flatten() for p in own]) for name, own in modules.items()}
        for name, own in modules.items():
            gradient = torch.cat([p.grad.flatten() for p in own if p.grad is not None])
            layers[name] = {
                "gradient_mean": gradient.abs().mean().item(),
                "gradient_max": gradient.abs().max().item(),
                "gradient_norm": gradient.norm().item(),
            }
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        for name, own in modules.items():
            moved = torch.cat([p.detach().flatten() for p in own]) - before[name]
            layers[name]["update_ratio"] = (moved.norm() / before[name].norm()).item()
        found[step] = layers
    return found


def assert_same(flows: dict[int, Any], expected: dict[int, Any]) -> None:
    for step, layers in flows.items():
        assert list(layers) == list(expected[step])
        for layer, numbers in layers.items():
            assert numbers == pytest.approx(expected[step][layer], rel=1e-4, abs=1e-9), (step, layer)


def test_the_numbers_are_those_of_a_hand_written_loop() -> None:
    trainer, kept = build(config())
    trainer.fit([kept])
    assert list(kept.flows) == [2, 4, 6, 8, 9], "each second step, and the last"
    assert list(kept.flows[2]) == ["layers.1", "layers.2", "layers.4", "layers.5", "layers.7"]
    assert_same(kept.flows, by_hand(build(config())[0], 9))


def test_gradients_are_those_before_clipping_and_updates_those_after() -> None:
    trainer, kept = build(config(clip_norm=0.05))
    trainer.fit([kept])
    expected = by_hand(build(config())[0], 9, clip=0.05)
    assert_same(kept.flows, expected)
    lengths = [math.hypot(*(layer["gradient_norm"] for layer in layers.values())) for layers in kept.flows.values()]
    assert min(lengths) > 0.05


def test_an_average_of_the_weights_changes_no_number() -> None:
    plain, averaged = build(config()), build(config(ema=0.9))
    for trainer, kept in (plain, averaged):
        trainer.fit([kept])
    assert averaged[1].flows == plain[1].flows


def test_micro_batches_give_the_numbers_of_the_batch() -> None:
    def flows(micro_batch: int | None) -> dict[int, Any]:
        made = config(micro_batch=micro_batch)
        made.model = Mlp(hidden=[12, 8])  # without BatchNorm
        trainer, kept = build(made)
        trainer.fit([kept])
        return kept.flows

    assert_same(flows(8), flows(None))


def fp16(scale: float) -> tuple[Trainer, dict[int, Any], list[float]]:
    """Three steps in float16 autocast on the CPU with a gradient scaler; the flows and the scales after each."""
    trainer, _ = build(config("1"))
    trainer.state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.optimizer_step.autocast = autocast(torch.device("cpu"), torch.float16)
    flows, scales = {}, []
    for report, _ in zip(trainer.steps(), range(3), strict=False):
        flows[report.step] = report.layer_stats.read() if report.layer_stats is not None else None
        scales.append(trainer.state.scaler.get_scale())
    return trainer, flows, scales


def test_scaled_gradients_are_measured_unscaled() -> None:
    _, large, _ = fp16(1024.0)
    _, small, _ = fp16(1.0)
    for step, layers in large.items():
        for layer, numbers in layers.items():
            assert numbers == pytest.approx(small[step][layer], rel=0.05, abs=1e-4)


def test_gradients_that_overflow_in_16_bits_leave_no_row() -> None:
    _, flows, scales = fp16(2.0**30)
    assert flows[1] == {} and scales[0] < 2.0**30, "the scaler has skipped the step and scales less"


def weights(trainer: Trainer) -> dict[str, Tensor]:
    memory = trainer.state.optimizer.state_dict()["state"]
    return trainer.state.model.state_dict() | {f"momentum {i}": one["momentum_buffer"] for i, one in memory.items()}


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1, "micro_batch": 8, "ema": 0.9}])
def test_training_is_the_same_to_the_bit(settings: dict[str, Any]) -> None:
    finals = []
    for log_gradients in (None, "1", "2"):
        trainer, _ = build(config(log_gradients, **settings))
        trainer.fit()
        finals.append(weights(trainer))
    for final in finals[1:]:
        assert all(torch.equal(value, finals[0][name]) for name, value in final.items())


def test_without_it_nothing_is_measured_and_no_record_is_added() -> None:
    trainer, kept = build(config(None, epochs=4))
    trainer.fit([kept])
    assert kept.flows == {}
    assert kept.steps == [3, 4, 6, 8, 9, 12], "validations each 3 steps, records each 4"
    trainer, _ = build(config(None))
    assert all(report.layer_stats is None for report in trainer.steps())


def test_records_come_where_gradients_are_due() -> None:
    trainer, kept = build(config("5", epochs=4))
    trainer.fit([kept])
    assert kept.steps == [3, 4, 5, 6, 8, 9, 10, 12]
    assert list(kept.flows) == [5, 10, 12]


def test_measuring_does_not_wait_for_the_device() -> None:
    """Tensors of the meta device have no numbers that could be waited for: reading one raises."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
    meter = LayerMeter(network)
    meter.before()
    flow = meter.after()
    assert flow.layers == ["0", "0", "1", "1"] and flow.sizes == [12, 4, 8, 2]
    with pytest.raises((NotImplementedError, RuntimeError)):
        flow.read()


def measured(network: nn.Module, loss: Tensor) -> dict[str, Any]:
    loss.backward()
    meter = LayerMeter(network)
    meter.before()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.5 * parameter.grad.to_dense()
    return meter.after().read()


def test_parameters_without_a_gradient_are_left_out() -> None:
    network = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1), "fixed": nn.Linear(1, 1)})
    network["fixed"].requires_grad_(False)
    found = measured(network, network["fixed"](network["used"](torch.ones(1, 2))).sum())
    assert list(found) == ["used"]


def test_a_parameter_of_the_network_itself_is_a_layer() -> None:
    network = build_network(Attention(dim=8, depth=1, heads=2), DataSpec((6,), 2, ("no", "yes")))
    found = measured(network, network(torch.randn(4, 6)).sum())
    assert list(found) == [
        "class_token", "tokens", "blocks.0.norm1", "blocks.0.norm2", "blocks.0.attention",
        "blocks.0.attention.out_proj", "blocks.0.mlp.0", "blocks.0.mlp.3", "norm", "head",
    ]  # fmt: skip


def test_sparse_gradients_count_as_the_whole_matrix() -> None:
    network = nn.Embedding(5, 2, sparse=True)
    nn.init.ones_(network.weight)
    found = measured(nn.Sequential(network), network(torch.tensor([1, 1, 3])).sum())
    assert found["0"] == pytest.approx(
        {"gradient_mean": 0.6, "gradient_max": 2, "gradient_norm": math.sqrt(10), "update_ratio": 0.5}
    )


def test_weights_that_are_all_zero_have_no_ratio() -> None:
    network = nn.Sequential(nn.Linear(2, 1))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    found = measured(network, network(torch.ones(1, 2)).sum())
    assert found["0"]["update_ratio"] is None and found["0"]["gradient_max"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_row_out(bad: float) -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    assert measured(network, network(torch.tensor([[1.0, bad]])).sum()) == {}


# The files


def record(step: int, size: float, layers: tuple[str, ...] = ("a", "b")) -> LogRecord:
    numbers = {"gradient_mean": size, "gradient_max": 2 * size, "gradient_norm": 3 * size, "update_ratio": size / 10}
    return LogRecord(step, 0, 0.0, gradients={layer: dict(numbers) for layer in layers})


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("L"))


def test_a_run_set_back_stays_one_curve_and_loses_the_picture_of_its_future(tmp_path: Path) -> None:
    first = LayerStatsLogger(tmp_path)
    for step in range(1, 6):
        first.write(record(step, float(step)))
    first.flush()
    first.close({})
    assert pixels(tmp_path / "gradient_flow.png").min() < 50
    second = LayerStatsLogger(tmp_path, start_step=3)
    assert not (tmp_path / "gradient_flow.png").exists()
    second.write(record(4, 40.0))
    second.rewind(3)
    second.write(record(4, 400.0))
    second.close({})
    rows = read_rows(tmp_path / "gradients.jsonl")
    assert [(row["step"], row["layers"]["a"]["gradient_mean"]) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 400)]
    assert (tmp_path / "gradient_flow.png").exists()


def test_a_picture_that_is_still_true_is_kept(tmp_path: Path) -> None:
    sink = LayerStatsLogger(tmp_path)
    sink.write(record(1, 1.0))
    sink.close({})
    LayerStatsLogger(tmp_path, start_step=1).close({})
    assert (tmp_path / "gradient_flow.png").exists()


def test_nothing_recorded_is_no_picture(tmp_path: Path) -> None:
    sink = LayerStatsLogger(tmp_path)
    sink.write(LogRecord(1, 0, 0.0, scalars={"train/loss": 1.0}))
    sink.close({})
    assert read_rows(tmp_path / "gradients.jsonl") == []
    assert not (tmp_path / "gradient_flow.png").exists()


def test_lines_that_are_none_do_not_stop_the_picture(tmp_path: Path) -> None:
    odd = [
        '{"step": 1}',
        '{"step": 1, "layers": [3]}',
        '{"step": 1, "layers": {"a": 3, "b": {"gradient_mean": "x", "gradient_max": 1e999, "update_ratio": null}}}',
        '{"step": 1, "lay',
    ]
    (tmp_path / "gradients.jsonl").write_text("\n".join(odd))
    sink = LayerStatsLogger(tmp_path, start_step=1)
    sink.write(record(2, 1.0))
    sink.close({})
    assert (tmp_path / "gradient_flow.png").exists()


def bar_pixels(image: bytes, grey: int, layers: int) -> list[int]:
    """Pixels of one grey in each of `layers` equal slices of the upper chart."""
    shown = np.array(Image.open(io.BytesIO(image)).convert("L"))
    upper = shown[: len(shown) // 2]
    return [int((part == grey).sum()) for part in np.array_split(upper, layers, axis=1)]


def drawn(**sizes: tuple[float, float]) -> bytes:
    """A picture of layers with those mean and largest magnitudes."""
    layers = {
        name: {"gradient_mean": mean, "gradient_max": largest, "gradient_norm": 1.0, "update_ratio": 1e-3}
        for name, (mean, largest) in sizes.items()
    }
    return draw([{"step": 1, "layers": layers}], list(layers))


MEAN, LARGEST = 64, 204  # the greys of the two bars: 0.25 and 0.8 of white


def test_a_larger_mean_has_a_larger_bar() -> None:
    low, high = bar_pixels(drawn(first=(1e-4, 1.0), last=(1e-1, 1.0)), MEAN, 2)
    assert high > 3 * low > 0


def test_a_larger_maximum_has_a_larger_bar() -> None:
    low, high = bar_pixels(drawn(first=(1e-5, 1e-4), last=(1e-5, 1e-1)), LARGEST, 2)
    assert high > 2 * low > 0


@pytest.mark.parametrize(
    ("layers", "size"),
    [(("$\\frac{$",), 1.0), (tuple(f"layer.{i}" for i in range(200)), 1.0), (("dead", "too"), 0.0), (("one",), 1e-30)],
)
def test_any_layers_can_be_drawn(layers: tuple[str, ...], size: float, tmp_path: Path) -> None:
    sink = LayerStatsLogger(tmp_path)
    sink.write(record(1, size, layers))
    sink.close({})
    height, width = pixels(tmp_path / "gradient_flow.png").shape
    assert 500 <= width <= 2400 and 500 <= height <= 2400


def test_a_run_leaves_lines_charts_and_a_picture(tmp_path: Path) -> None:
    words = ("model=mlp", "data=synthetic", "trainer.epochs=2", "trainer.log_gradients=10", "trainer.log_every=null")
    run_trainer(tmp_path, "train", *words)
    [run] = (tmp_path / "outputs").glob("*/*")
    rows = read_rows(run / "gradients.jsonl")
    total = json.loads((run / "summary.json").read_text())["total_steps"]
    assert [row["step"] for row in rows] == sorted({*range(10, total + 1, 10), total})
    assert all(list(row["layers"]) == ["layers.1", "layers.3", "layers.5"] for row in rows)
    assert all(numbers.keys() == NUMBERS for row in rows for numbers in row["layers"].values())
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    for layer in ("layers.1", "layers.3", "layers.5"):
        for name in NUMBERS:
            shown = [(event.step, event.value) for event in events.Scalars(f"{name}/{layer}")]
            assert shown == [(row["step"], pytest.approx(row["layers"][layer][name], rel=1e-6)) for row in rows]
    names = {name for row in read_rows(run / "metrics.jsonl") for name in row}
    assert not any(name.startswith(("gradient_", "update_")) for name in names)
    picture = pixels(run / "gradient_flow.png")
    assert (picture == 255).mean() > 0.3 and (picture < 80).mean() > 0.01


def test_a_run_without_it_has_no_such_file_and_loads_no_library(tmp_path: Path) -> None:
    words = ("train", "model=mlp", "data=synthetic", "trainer.epochs=1")
    imported = run_python(tmp_path, "-X", "importtime", "-m", "trainer", *words, cold=True).stderr
    [run] = (tmp_path / "outputs").glob("*/*")
    assert not list(run.glob("grad*"))
    assert "matplotlib.figure" not in imported


SMALL = ("model=mlp", "data=synthetic", "trainer.epochs=3", "trainer.save_every=7", "trainer.keep=99")


def final(run: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(run / "checkpoints/last/state.pt", weights_only=True)
    return saved["model_state_dict"] | {
        f"{i} {name}": x for i, one in saved["optimizer_state_dict"]["state"].items() for name, x in one.items()
    }


def assert_same_bits(one: Path, other: Path) -> None:
    ours, theirs = final(one), final(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(theirs[name])) for name in ours)


def trained(folder: Path, *arguments: str) -> Path:
    assert cli.run("train", [*SMALL, f"output_dir={folder}", *arguments]) == 0
    return next(folder.glob("*/*"))


def test_a_resumed_run_has_one_curve_and_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain")
    whole = trained(tmp_path / "whole", "trainer.log_gradients=4")
    assert_same_bits(plain, whole)
    rows = read_rows(whole / "gradients.jsonl")
    picture = (whole / "gradient_flow.png").read_bytes()
    assert cli.run("train", [f"resume={whole}/checkpoints/step-00000014"]) == 0
    assert read_rows(whole / "gradients.jsonl") == rows
    assert (whole / "gradient_flow.png").read_bytes() == picture
    assert_same_bits(plain, whole)


def test_a_run_that_goes_on_without_it_has_its_lines_cut_too(tmp_path: Path) -> None:
    run = trained(tmp_path, "trainer.log_gradients=4")
    assert cli.run("train", [f"resume={run}/checkpoints/step-00000014", "trainer.log_gradients=null"]) == 0
    assert [row["step"] for row in read_rows(run / "gradients.jsonl")] == [4, 8, 12]
    assert not (run / "gradient_flow.png").exists()


def test_a_record_that_waits_for_its_validation_keeps_its_gradients(tmp_path: Path) -> None:
    """As when a signal cuts a validation short: the record is in the checkpoint, for whoever resumes."""
    made = config("1", eval_every="3")
    run = Run.create(tmp_path)
    trainer = assemble(made, run)
    for report in trainer.steps():
        if report.step == 2:
            record = trainer.record(report)
            trainer.recorder.suspend(record)
            trainer.save(best=False)
            break
    assert trainer.store is not None
    trainer.store.wait()
    kept = Kept()
    assemble(made, run, resume="last").fit([kept])
    run.release()
    whole, expected = build(made)
    whole.fit([expected])
    assert record.gradients == expected.flows[2]
    assert kept.flows == {step: flow for step, flow in expected.flows.items() if step >= 2}


def test_a_step_that_is_skipped_leaves_no_row(tmp_path: Path) -> None:
    """With a number that is not finite in one batch, in both ways of finding it: at once, and when numbers are read."""
    for deferred in (False, True):
        trainer, kept = build(config("1", on_nan="skip", epochs=1))
        trainer.optimizer_step.deferred = deferred
        position = next(trainer.train.stream(1)).positions[0]
        trainer.train.inputs[position, 0] = math.nan
        trainer.fit([kept])
        assert list(kept.flows) == [1, 3], deferred
        assert all(math.isfinite(x) for layers in kept.flows.values() for n in layers.values() for x in n.values())
