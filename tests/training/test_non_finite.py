"""Numbers that are not finite never reach the weights, and the samples that they come from are named."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from messages import heard
from torch import Tensor, nn

from trainer import Config, Run, Trainer, assemble, cli
from trainer.checkpoint import untrusted
from trainer.config.model import Linear, Mlp
from trainer.config.optimizer import SGD, Adam, AdamW, OptimizerConfig, RMSprop
from trainer.config.table import Csv
from trainer.config.trainer import TrainerConfig
from trainer.data.types import Batch, DataSpec
from trainer.errors import TrainerError
from trainer.loggers.files import FilesLogger, read_metrics
from trainer.training.non_finite import (
    DivergenceError,
    all_finite,
    check_finite,
    constants,
    find_inf,
    is_finite,
    locate_non_finite,
)
from trainer.training.state import Monitor

BAD = 61  # the row of the file whose target is beyond the squares of float32


def table(folder: Path, bad: bool = True) -> Path:
    """120 rows, one of them with a target whose squared error overflows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{i % 7},{i * 3 % 11},{i % 5}" for i in range(120)]
    if bad:
        rows[BAD] = "1,2,1e30"
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,y", *rows]) + "\n")
    return path


def config(folder: Path, bad: bool = True, optimizer: OptimizerConfig | None = None, **settings: Any) -> Config:
    data = Csv(
        path=str(table(folder, bad)),
        target="y",
        target_type="number",
        batch_size=16,
        transforms={"numeric": ["impute"]},
        val_fraction=0.25,
    )
    return Config(
        model=Mlp(hidden=[8], batch_norm=True),
        data=data,
        optimizer=optimizer or AdamW(lr=1e-3),
        trainer=TrainerConfig(**({"epochs": 2, "log_every": "1", "ema": 0.9} | settings)),
    )


def spoiled(trainer: Trainer, at: int = 4) -> Trainer:
    """One number of one sample is NaN from the batch of step `at` on: that of the first position of that batch."""
    position = [batch for batch, _ in zip(trainer.train.stream(0), range(at), strict=False)][-1].positions[0]
    trainer.train.inputs[position, 0] = math.nan
    return trainer


def bits(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of all that a step changes."""
    state = trainer.state
    found = {f"model.{k}": v.clone() for k, v in state.model.state_dict().items()}
    found |= {f"ema.{k}": v.clone() for k, v in (state.average.state_dict() or {}).items()}
    for i, memory in enumerate(state.optimizer.state.values()):
        found |= {f"{i}.{k}": v.clone() for k, v in memory.items() if isinstance(v, Tensor)}
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("optimizer", [AdamW(), SGD(lr=0.01, momentum=0.9), RMSprop()])
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_step_that_is_not_finite_changes_nothing(
    tmp_path: Path, optimizer: OptimizerConfig, micro_batch: int | None
) -> None:
    made = config(tmp_path, bad=False, optimizer=optimizer, micro_batch=micro_batch, on_nan="skip")
    trainer = spoiled(assemble(made))
    steps = trainer.steps()
    for _ in range(3):
        next(steps)
    before = bits(trainer)
    report = next(steps)
    assert not report.finite and trainer.state.step == 4
    assert same(bits(trainer), before)
    next(steps)
    assert not same(bits(trainer), before)


def test_the_row_of_the_file_is_named(tmp_path: Path) -> None:
    """Through the split for validation and a limit on the training data, which both renumber the samples."""
    made = config(tmp_path / "known", bad=False, limit_train="4")
    trainer = spoiled(assemble(made), at=2)
    position = int(trainer.train.inputs[:, 0].isnan().nonzero()[0])
    row = int(trainer.train.split.rows[position])
    lines = table(tmp_path / "known", bad=False).read_text().splitlines()[1:]
    _, b, y = map(float, lines[row].split(","))
    assert (b, y) == (trainer.train.inputs[position, 1].item(), trainer.train.targets[position].item())
    with pytest.raises(DivergenceError, match=rf"step 2: the inputs are not finite: sample {row} of the dataset"):
        list(trainer.steps())


def test_stopping_keeps_the_last_good_checkpoint_and_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=mlp", "data=csv", f"data.path={table(tmp_path)}", "data.target=y", "data.target_type=number"]
    more = ["data.transforms.numeric=[impute]", "optimizer=sgd", "optimizer.lr=1e25", f"output_dir={tmp_path / 'runs'}"]
    assert cli.run("train", [*words, *more, "trainer.save_every=1", "data.val_fraction=0.25"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: The run has diverged at step") and "optimizer.lr" in error
    assert "Traceback" not in error
    run = next((tmp_path / "runs").glob("*/*"))
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed"
    for path in (run / "checkpoints").glob("step-*"):
        model = torch.load(path / "state.pt", weights_only=True)["model_state_dict"]
        assert all(value.isfinite().all() for value in model.values())


def test_skipped_steps_are_told_and_left_out_of_the_scores(tmp_path: Path) -> None:
    made = config(tmp_path, bad=False, on_nan="skip", log_every="5", eval_every=None)
    trainer = spoiled(assemble(made))
    with heard() as told:
        losses = [report.loss.item() for report in trainer.steps()]
    assert [i for i, loss in enumerate(losses) if not math.isfinite(loss)] and len(told) >= 1
    assert all("is skipped: the inputs are not finite: sample" in text for text in told)

    again = spoiled(assemble(made, Run.create(tmp_path / "runs")))
    again.fit(recording(tmp_path / "logger", again))
    rows = read_metrics(tmp_path / "logger")
    first = [loss for loss in losses[:5] if math.isfinite(loss)]
    assert rows[0]["step"] == 5
    assert rows[0]["train_recent/loss"] == pytest.approx(sum(first) / len(first), rel=1e-6)


def recording(folder: Path, trainer: Trainer) -> list[FilesLogger]:
    folder.mkdir(exist_ok=True)
    return [FilesLogger(folder, trainer.state.recorded)]


def test_too_many_skips_in_a_row_end_the_run(tmp_path: Path) -> None:
    trainer = assemble(config(tmp_path, bad=False, on_nan="skip", on_nan_limit=3))
    trainer.train.inputs.fill_(math.nan)
    with pytest.raises(TrainerError, match=r"4 steps in a row, up to step 4.*trainer\.on_nan_limit=3"):
        trainer.fit()
    assert trainer.state.step == 3


def diverging(folder: Path, **settings: Any) -> Config:
    """A rate that is too large by far; a few halvings (well, millionths) make it learn."""
    made = config(folder, bad=False, optimizer=SGD(lr=1e18), save_every="4", ema=None, epochs=4, **settings)
    made.model = Mlp(hidden=[8])
    return made


def test_rolling_back_goes_on_from_the_last_checkpoint_with_a_lower_rate(tmp_path: Path) -> None:
    made = diverging(tmp_path, on_nan="rollback", on_nan_factor=1e-7)
    run = Run.create(tmp_path / "runs")
    trainer = assemble(made, run)
    with heard() as told:
        assert trainer.fit(recording(run.directory, trainer)) == "completed"
    assert trainer.state.rollbacks >= 2 and trainer.state.rate == 1e-7**trainer.state.rollbacks
    assert len(told) == trainer.state.rollbacks and "back to step 0 with 1e-07 times" in told[0]
    steps = [row["step"] for row in read_metrics(run.directory)]
    assert steps == sorted(set(steps)) and steps[-1] == trainer.timeline.total
    assert all(row["lr"] < 1e12 for row in read_metrics(run.directory))
    run.release()


def test_a_run_that_was_set_back_resumes_to_the_same_bits(tmp_path: Path) -> None:
    made = diverging(tmp_path, on_nan="rollback", on_nan_factor=1e-7)
    whole, halves = Run.create(tmp_path / "whole"), Run.create(tmp_path / "halves")
    straight = assemble(made, whole)
    straight.fit()
    first = assemble(made, halves)
    for report in _after_rollbacks(first):
        if report.step >= 10:
            break
    first.save(best=False)
    first.store.wait()
    second = assemble(made, halves, resume="last")
    assert (second.state.step, second.state.rollbacks) == (10, straight.state.rollbacks)
    second.fit()
    assert same(bits(straight), bits(second))
    whole.release()
    halves.release()


def _after_rollbacks(trainer: Trainer) -> Any:
    """The steps of a run that sets itself back, as `fit` makes them."""
    trainer.save(best=False)
    while True:
        try:
            for report in trainer.steps():
                if trainer.timeline.save.due(report.step):
                    trainer.save(best=False)
                yield report
        except DivergenceError as diverged:
            trainer.non_finite.roll_back(diverged)
        else:
            return


def test_rolling_back_has_an_end(tmp_path: Path) -> None:
    made = diverging(tmp_path, on_nan="rollback", on_nan_factor=1.0, on_nan_limit=2)
    run = Run.create(tmp_path / "runs")
    trainer = assemble(made, run)
    with pytest.raises(TrainerError, match=r"set back 2 times already \(trainer\.on_nan_limit\)"):
        trainer.fit()
    run.release()


@pytest.mark.parametrize("optimizer", [AdamW(), Adam(), SGD(lr=0.01, momentum=0.9)])
def test_found_later_as_on_a_gpu_the_weights_are_the_same(tmp_path: Path, optimizer: OptimizerConfig) -> None:
    """The fused optimizers leave the weights alone by themselves; the refusal comes when the numbers are read."""
    made = config(tmp_path, bad=False, optimizer=optimizer, on_nan="skip", ema=None, eval_every=None, log_every="3")
    told: dict[bool, list[str]] = {}
    trainers = {}
    for deferred in (False, True):
        trainer = spoiled(assemble(made))
        assert trainer.optimizer_step.deferred is False
        trainer.optimizer_step.deferred = deferred
        with heard() as told[deferred]:
            trainer.fit()
        trainers[deferred] = trainer
    assert told[True] == told[False] != []
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            trainers[True].state.model.state_dict().values(),
            trainers[False].state.model.state_dict().values(),
            strict=True,
        )
    )


def test_found_later_stops_a_run_at_the_next_record(tmp_path: Path) -> None:
    trainer = spoiled(assemble(config(tmp_path, bad=False, log_every="6", eval_every=None)))
    trainer.optimizer_step.deferred = True
    with pytest.raises(DivergenceError, match="step 4: the inputs are not finite"):
        trainer.fit()


class Exploding(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * math.inf


def test_a_gradient_alone_is_enough(tmp_path: Path) -> None:
    trainer = assemble(config(tmp_path, bad=False))
    trainer.state.model.register_forward_hook(lambda module, inputs, outputs: Exploding.apply(outputs))
    before = bits(trainer)
    with pytest.raises(DivergenceError, match="the gradient of the whole batch is not finite"):
        next(trainer.steps())
    assert same(bits(trainer), before)


def test_offenders_are_looked_for_in_the_outputs_too() -> None:
    class Root(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.sqrt()

    class Squares:
        def loss_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs - targets).square().sum()

    batch = Batch(torch.tensor([[4.0], [-1.0], [9.0], [-4.0]]), torch.zeros(4, 1))
    assert locate_non_finite(Root(), Squares(), batch) == ("the outputs are not finite", [1, 3])  # type: ignore[arg-type]
    batch = Batch(torch.tensor([[4.0], [1.0]]), torch.tensor([[0.0], [1e30]]))
    assert locate_non_finite(Root(), Squares(), batch) == ("the losses are not finite", [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_is_never_the_best(mode: str) -> None:
    monitor = Monitor("val/loss", mode)
    assert [monitor.observe(score, step) for step, score in enumerate((math.nan, math.inf, -math.inf))] == [False] * 3
    assert monitor.best is None
    assert monitor.observe(0.5, 4)
    assert not any(monitor.observe(score, 5) for score in (math.nan, math.inf, -math.inf))
    assert (monitor.best, monitor.best_step) == (0.5, 4)


def test_weights_that_overflow_are_not_saved_though_loss_and_gradient_were_finite(tmp_path: Path) -> None:
    made = config(tmp_path, bad=False, optimizer=SGD(lr=3e38), steps=1)
    run = Run.at(tmp_path / "run")
    trainer = assemble(made, run)
    with pytest.raises(DivergenceError, match="the weights are not finite"):
        trainer.fit()
    assert [path.name for path in trainer.store.steps()] == ["step-00000000"]
    run.release()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("part", "said"), [("model", "weights are"), ("ema", "averaged"), ("optimizer", "memory is")])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(
    tmp_path: Path, value: float, part: str, said: str
) -> None:
    trainer = assemble(config(tmp_path, bad=False))
    next(trainer.steps())
    saved = trainer.state.state_dict(1)
    assert check_finite(saved, frozenset()) is None
    numbers = [tensor for tensor in untrusted.tensors_in(saved[f"{part}_state_dict"]) if tensor.is_floating_point()]
    numbers[-1].view(-1)[-1] = value
    what = check_finite(saved, frozenset())
    assert what is not None and said in what


def test_kinds_of_numbers_that_are_finite_or_not() -> None:
    good = (
        torch.tensor([1, 2]),
        torch.tensor([True]),
        torch.zeros(0),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(()),
    )
    assert all(map(is_finite, (*good, torch.ones(2, dtype=torch.complex64))))
    assert not is_finite(torch.tensor([1, complex(0, math.nan)]))
    assert not is_finite(torch.tensor(math.inf, dtype=torch.float16))


def test_a_memory_that_overflows_is_not_saved_and_is_rolled_back(tmp_path: Path) -> None:
    """A gradient of 1e25 is finite, its square is not: Adam would leave these weights alone for ever."""
    run = Run.at(tmp_path / "run")
    made = config(tmp_path, bad=False, save_every="1", eval_every=None, on_nan="rollback", on_nan_limit=1)
    trainer = assemble(made, run)
    steps = 0

    def enlarge(gradient: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return gradient * (1e25 if steps == 5 else 1)

    next(trainer.state.model.parameters()).register_hook(enlarge)
    with heard() as told:
        assert trainer.fit() == "completed"
    assert trainer.state.rollbacks == 1 and "the optimizer's memory is not finite" in told[0]
    assert check_finite(trainer.store.load()[0], frozenset()) is None
    run.release()


def test_a_mask_of_infinities_is_no_divergence(tmp_path: Path) -> None:
    class Masked(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)
            self.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))

    @dataclass
    class MaskedConfig(Linear):
        def build(self, spec: DataSpec) -> nn.Module:
            return Masked(spec.features, spec.outputs)

    made = config(tmp_path, bad=False)
    made.model, run = MaskedConfig(), Run.at(tmp_path / "run")
    run.config.touch()  # a config of a class that is registered nowhere
    trainer = assemble(made, run)
    assert constants(trainer.state.model) == {"mask"}
    assert trainer.fit() == "completed"
    run.release()


def test_an_update_that_was_too_large_is_named_and_not_the_samples_after_it(tmp_path: Path) -> None:
    trainer = assemble(config(tmp_path, bad=False, optimizer=SGD(lr=3e38), eval_every=None))
    steps = trainer.steps()
    next(steps)
    with pytest.raises(DivergenceError, match="step 2: the weights are not finite since the step before"):
        next(steps)


def test_weights_that_overflow_in_the_last_step_are_rolled_back_too(tmp_path: Path) -> None:
    made = config(tmp_path, bad=False, optimizer=SGD(lr=3e38), steps=1, on_nan="rollback", on_nan_factor=1e-38)
    run = Run.at(tmp_path / "run")
    trainer = assemble(made, run)
    with heard() as told:
        assert trainer.fit() == "completed"
    assert len(told) == 1 and trainer.store.load()[0]["step"] == 1
    run.release()


def _sparse(*values: float) -> Tensor:
    """A gradient of an embedding with one row that occurs several times."""
    rows = torch.ones(1, len(values), dtype=torch.long)
    return torch.sparse_coo_tensor(rows, torch.tensor(values), (3,), check_invariants=True)


INF, NAN = math.inf, math.nan
# The loss, the gradients, and whether all of them are finite.
NUMBERS: dict[str, tuple[float, list[Tensor], bool]] = {
    "finite": (1.0, [torch.tensor([1.0, 2.0]), torch.tensor([1.0], dtype=torch.bfloat16)], True),
    "nothing but the loss": (1.0, [], True),
    "the loss": (NAN, [torch.ones(2)], False),
    "nan": (1.0, [torch.ones(2), torch.tensor([NAN, 1.0])], False),
    "infinities that cancel": (1.0, [torch.tensor([INF, -INF])], False),
    "in another dtype": (1.0, [torch.ones(2), torch.tensor([INF], dtype=torch.bfloat16)], False),
    "a sum that overflows": (1.0, [torch.tensor([3e38, 3e38])], True),
    "a sum that overflows, and nan": (1.0, [torch.tensor([3e38, 3e38]), torch.tensor([NAN])], False),
    "sparse": (1.0, [_sparse(1.0, 2.0)], True),
    "sparse and nan": (1.0, [_sparse(1.0, NAN)], False),
    "empty": (1.0, [torch.empty(0), _sparse()], True),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_the_numbers_of_a_step_are_found_out(case: str) -> None:
    loss, gradients, finite = NUMBERS[case]
    assert all_finite(torch.tensor(loss), gradients) is finite
    found = find_inf(torch.tensor(loss), gradients)
    assert (found.item(), found.dtype, found.ndim) == (0.0 if finite else 1.0, torch.float32, 0)
