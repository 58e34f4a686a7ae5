"""The contract with parts from outside the package, checked before the first step."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import run_trainer, the_run
from torch import Tensor, nn

from trainer import Config, ModelConfig, Run, Trainer, assemble
from trainer.config.data import DataConfig, Synthetic
from trainer.config.model import Linear
from trainer.config.optimizer import SGD
from trainer.config.scheduler import ConstantLR
from trainer.config.task import Regression, TaskConfig
from trainer.config.trainer import TrainerConfig
from trainer.data.splits import from_tensors
from trainer.data.types import Data, DataSpec
from trainer.errors import ConfigError
from trainer.models.rescale import Rescale
from trainer.tasks.base import Evaluation, Task
from trainer.tasks.classification import ClassificationTask
from trainer.tasks.regression import RegressionTask


def made(make: Callable[[DataSpec], Any]) -> ModelConfig:
    """Return the config of a model that a function makes from the spec."""

    @dataclass
    class Made(ModelConfig):
        def build(self, spec: DataSpec) -> Any:
            return make(spec)

    return Made()


def config(make: Callable[[DataSpec], Any], **sections: Any) -> Config:
    parts: dict[str, Any] = {
        "model": made(make),
        "data": Synthetic(num_samples=100, num_features=6, batch_size=32),
        "optimizer": SGD(lr=0.1),
        "scheduler": ConstantLR(),
        "trainer": TrainerConfig(steps=4, threads=1, eval_every=None),
    }
    return Config(**parts | sections)


REFUSED = "made.<locals>.Made"


class Odd(nn.Module):
    """A linear layer whose outputs something is done to."""

    def __init__(self, spec: DataSpec, change: Callable[[Tensor], Any], outputs: int | None = None) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(spec.features, outputs or spec.outputs), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.layer(x.flatten(1)))


@pytest.mark.parametrize(
    ("change", "outputs", "came"),
    [
        (lambda y: (y, y), None, "a tuple of 2"),
        (lambda y: [y], None, "a list of 1"),
        (lambda y: {"logits": y}, None, "a dict with logits"),
        (lambda y: None, None, "None"),
        (lambda y: float(y.detach().sum()), None, "a float"),
        (lambda y: y.mean(1), None, "a float32 tensor of shape (4,)"),
        (lambda y: y[:, None], None, "a float32 tensor of shape (4, 1, 2)"),
        (lambda y: y[:3], None, "a float32 tensor of shape (3, 2)"),
        (lambda y: y.argmax(1, keepdim=True).expand(-1, 2), None, "an int64 tensor of shape (4, 2)"),
        (lambda y: y, 1, "a float32 tensor of shape (4, 1)"),
        (lambda y: y, 4, "a float32 tensor of shape (4, 4)"),
    ],
)
def test_outputs_that_no_loss_takes_are_told_in_one_sentence(
    change: Callable[[Tensor], Any], outputs: int | None, came: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        assemble(config(lambda spec: Odd(spec, change, outputs)))
    expected = "task=classification takes a float tensor of shape (4, 2): (samples, classes)."
    assert str(refused.value) == f"model={REFUSED}: its forward returned {came} for 4 samples; {expected}"


@pytest.mark.parametrize("change", [Tensor.half, Tensor.double])
def test_outputs_of_another_float_type_train(change: Callable[[Tensor], Tensor]) -> None:
    assert assemble(config(lambda spec: Odd(spec, change))).fit() == "completed"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda spec: nn.Flatten(), "it has no parameters, so there is nothing to train"),
        (lambda spec: nn.Linear(6, 2).requires_grad_(False), "all of its parameters are frozen"),
        (lambda spec: None, "build returned NoneType, and a model is a torch.nn.Module"),
        (lambda spec: nn.Linear(9, 2), r"it takes no inputs of shape \(4, 6\): mat1 and mat2"),
        (lambda spec: Odd(spec, Tensor.detach), "the loss does not depend on the weights"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_sentence(make: Callable[[DataSpec], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assemble(config(make))


def test_weights_that_the_loss_does_not_depend_on_are_named() -> None:
    def make(spec: DataSpec) -> nn.Module:
        model = Odd(spec, lambda y: y)
        model.spare = nn.Linear(1, 1)
        return model

    (warning,) = assemble(config(make)).context.data.warnings
    assert "the loss does not depend on spare.weight, spare.bias" in warning


def test_the_check_leaves_no_trace() -> None:
    def make(spec: DataSpec) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    trainer, plain = assemble(config(make)), make(DataSpec((6,), 2))
    assert all(p.grad is None for p in trainer.state.model.parameters()) and trainer.state.model.training
    fresh = plain.state_dict()
    for name, tensor in trainer.state.model.state_dict().items():
        if "running" in name or "tracked" in name:
            assert torch.equal(tensor, fresh[name])


def lazy(spec: DataSpec) -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(spec.outputs))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_lazy_layers_have_their_weights_before_the_optimizer_asks_for_them(tmp_path: Path, ema: float | None) -> None:
    settings = TrainerConfig(steps=4, threads=1, ema=ema, save_every="2")
    whole, halves = Run.at(tmp_path / "whole"), Run.at(tmp_path / "halves")
    lazily = config(lazy, trainer=settings)
    straight = assemble(lazily, whole)
    assert sum(p.numel() for p in straight.state.model.parameters()) == 6 * 8 + 8 + 16 + 8 * 2 + 2
    straight.fit()
    first = assemble(config(lazy, trainer=TrainerConfig(steps=2, threads=1, ema=ema)), halves)
    first.fit()
    second = assemble(lazily, halves, resume="last")
    second.fit()
    for name, tensor in straight.state.model.state_dict().items():
        assert torch.equal(tensor, second.state.model.state_dict()[name])


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_parametrized_layers_train_with_an_average(norm: Callable[[nn.Module], nn.Module]) -> None:
    settings = TrainerConfig(steps=4, threads=1, ema=0.9)
    trainer = assemble(config(lambda spec: norm(nn.Linear(6, 2)), trainer=settings))
    assert trainer.fit() == "completed"
    assert all(np.isfinite(score) for score in trainer.state.scores.values())


class Tripled(ClassificationTask):
    """A classification whose loss is three times as large."""

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return 3 * super().loss_sum(outputs, targets, weights)


class Quadrupled(RegressionTask):
    """A regression whose loss is four times as large."""

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return 4 * super().loss_sum(outputs, targets, weights)


@pytest.mark.parametrize(
    ("own", "plain", "labels", "factor"),
    [(Tripled, ClassificationTask, ("a", "b"), 3), (Quadrupled, RegressionTask, None, 4)],
)
def test_the_loss_that_a_task_trains_is_the_one_that_is_validated(
    own: Any, plain: Any, labels: tuple[str, ...] | None, factor: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(10, 2 if labels else 1, generator=generator)
    targets = torch.arange(10) % 2 if labels else torch.randn(10, 1, generator=generator)
    spec = DataSpec.of((3,), targets, labels)
    scores = []
    for task in (own(spec), plain(spec)):
        evaluation = task.evaluation(torch.device("cpu"))
        evaluation.update(outputs, targets, None)
        evaluation.update(outputs[:4], targets[:4], torch.tensor([1.0, 1.0, 1.0, 0.0]))
        scores.append(evaluation.scores()["loss"])
    assert scores[0] == pytest.approx(factor * scores[1], rel=1e-6)


@dataclass
class Far(DataConfig):
    """Numbers far from 0."""

    def build(self, seed: int) -> Data:
        x = torch.randn(100, 6, generator=torch.Generator().manual_seed(seed))
        return from_tensors(x, 3e5 + 8e4 * x[:, 0], None, config=self, seed=seed)


@pytest.mark.parametrize(
    ("model", "rescale", "wrapped"),
    [
        (Linear(), None, True),
        (Linear(), False, False),
        (made(lambda spec: nn.Linear(6, 1)), None, False),
        (made(lambda spec: nn.Linear(6, 1)), True, True),
    ],
)
def test_outputs_are_rescaled_as_the_task_says_and_never_in_silence(
    model: ModelConfig, rescale: bool | None, wrapped: bool
) -> None:
    trainer = assemble(config(lambda spec: None, model=model, data=Far(), task=Regression(rescale=rescale)))
    assert any(isinstance(module, Rescale) for module in trainer.state.model.modules()) == wrapped
    told = [text for text in trainer.context.data.warnings if "task.rescale=true" in text]
    assert len(told) == (not wrapped)


class Reciting(RegressionTask):
    """Notes the dtype of the outputs that a validation is given, and whether a loss that is trained is in bf16."""

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled():
            AUTOCAST.append(torch.is_autocast_enabled("cpu"))
        return super().loss_sum(outputs, targets, weights)

    def evaluation(self, device: torch.device) -> Evaluation:
        found = super().evaluation(device)
        update = found.update

        def noting(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
            DTYPES.append(outputs.dtype)
            update(outputs, targets, weights)

        found.update = noting  # type: ignore[method-assign]
        return found


DTYPES: list[torch.dtype] = []
AUTOCAST: list[bool] = []


@dataclass
class ReciteConfig(Regression):
    """Its config."""

    def build(self, spec: DataSpec) -> Task:
        return Reciting(spec)


def test_in_bf16_the_loss_is_checked_as_it_is_trained_and_validations_get_float32() -> None:
    settings = TrainerConfig(precision="bf16", steps=2, threads=1)
    plain = made(lambda spec: nn.Linear(6, 1))
    assemble(config(lambda spec: None, model=plain, data=Far(), task=ReciteConfig(), trainer=settings)).fit()
    assert set(DTYPES) == {torch.float32}
    assert AUTOCAST == [True] * 3  # of the check, and of two steps


class Noisy(nn.Module):
    """Draws from numpy and from Python, as many hand-written layers do."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.layer = nn.Linear(spec.features, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        scale = np.random.rand() + random.random() if self.training else 1.0
        out: Tensor = self.layer(x * scale)
        return out


def trained(folder: Path, *steps: int) -> dict[str, Tensor]:
    """Train to each of the steps in turn, each time as a resumed run; return the weights."""
    run, resume = Run.at(folder), None
    for count in steps:
        trainer: Trainer = assemble(config(Noisy, trainer=TrainerConfig(steps=count, threads=1)), run, resume=resume)
        trainer.fit()
        resume = "last"
    return trainer.state.model.state_dict()


def test_the_generators_of_numpy_and_python_are_functions_of_seed_and_step(tmp_path: Path) -> None:
    whole, halves = trained(tmp_path / "whole", 8), trained(tmp_path / "halves", 3, 8)
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


class Drawing(torch.utils.data.Dataset[Tensor]):
    """Samples that are drawn when they are read."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([np.random.rand(), random.random(), torch.rand(1).item()])


@dataclass
class Drawn(DataConfig):
    """Them, with classes."""

    processes: int = 0

    def build(self, seed: int) -> Data:
        from trainer import from_splits
        from trainer.data.types import Split

        split = Split(Drawing(), torch.arange(40) % 2)
        return from_splits(split, split, ("a", "b"), input_shape=(3,), workers=self.processes)


def test_a_sample_that_is_drawn_when_it_is_read_is_a_function_of_seed_step_and_index() -> None:
    def read(workers: int, start: int) -> Tensor:
        drawn = Drawn(processes=workers, batch_size=8)
        stream = assemble(config(lambda spec: nn.Linear(3, 2), data=drawn)).train.stream(start)
        batches = [next(stream).inputs for _ in range(7 - start)]
        stream.close()
        return torch.stack(batches[-3:])

    first = read(0, 0)
    assert torch.equal(first, read(0, 4)) and torch.equal(first, read(2, 0)) and torch.equal(first, read(2, 3))
    assert len(first.unique()) == first.numel()


PLUGIN = '''
from dataclasses import dataclass
from torch import nn
from trainer import ModelConfig, register

class Broken(nn.Linear):
    def forward(self, x):
        return self.helper(super().forward(x))
    def helper(self, y):
        raise ValueError("my own mistake")

@register("model", "broken")
@dataclass
class BrokenConfig(ModelConfig):
    """Raises."""
    def build(self, spec):
        return Broken(spec.features, spec.outputs)
'''


def test_an_error_of_a_plug_in_shows_its_frames_and_not_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    done = run_trainer(tmp_path, "train", "--import", "mine.py", "model=broken", "data=synthetic", code=1)
    assert done.stderr.count("mine.py") == 2 and "ValueError: my own mistake" in done.stderr
    assert "runs/contract.py" not in done.stderr and "cli.py" not in done.stderr
    assert "frames of the trainer are left out" in done.stderr
    assert "runs/contract.py" in (the_run(tmp_path) / "train.log").read_text(encoding="utf-8")


def test_a_task_whose_scores_are_not_those_it_promises_is_refused() -> None:
    @dataclass
    class Promising(TaskConfig):
        def build(self, spec: DataSpec) -> Any:
            task = ClassificationTask(spec)
            task.score_names = ("loss", "wisdom")
            return task

    with pytest.raises(ConfigError, match="gives the scores loss, and not wisdom, which its score_names promise"):
        assemble(config(lambda spec: nn.Linear(6, 2), task=Promising()))
