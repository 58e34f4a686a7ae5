"""The losses that `task.loss` selects: against torch, torchvision and the papers' formulas; and those of plug-ins."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from trainer import LossConfig, register
from trainer.config.compose import compose, from_config, from_yaml, to_config, to_yaml
from trainer.config.loss import FocalLoss
from trainer.config.root import Config
from trainer.config.task import Auto, Classification, Regression
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.runs.build import build_task
from trainer.tasks.base import Task

CLASSES = DataSpec((4,), 3, ("a", "b", "c"), class_counts=(5, 10, 20))
NUMBERS = DataSpec((4,), 2, None, target_mean=(0.0, 0.0), target_std=(1.0, 1.0))


def drawn(samples: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(samples, 3, generator=draw), torch.randint(3, (samples,), generator=draw)


def validated(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """The loss that a validation gives, with two more rows that must not count."""
    evaluation = task.evaluation(torch.device("cpu"))
    rows = torch.cat([torch.ones(len(targets)), torch.zeros(2)])
    evaluation.update(torch.cat([outputs, outputs[:2] - 9]), torch.cat([targets, targets[:2]]), rows)
    return evaluation.scores()["loss"]


def focal_by_hand(logits: Tensor, targets: Tensor, gamma: float, alpha: list[float]) -> np.ndarray:
    """Equation 5 of Lin et al. 2017, in numpy and float64."""
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    p_t = p[np.arange(len(p)), targets.numpy()]
    return -np.array(alpha)[targets.numpy()] * (1 - p_t) ** gamma * np.log(p_t)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, [0.5, 1.0, 3.0]], ids=str)
def test_focal_loss_is_equation_5(gamma: float, alpha: list[float] | None) -> None:
    task = build_task(Classification(loss={"name": "focal", "gamma": gamma}, class_weights=alpha), CLASSES)
    logits, targets = drawn()
    each = focal_by_hand(logits, targets, gamma, alpha or [1.0] * 3)
    weight = np.array(alpha or [1.0] * 3)[targets.numpy()].sum()
    assert task.loss_sum(logits, targets).item() == pytest.approx(each.sum(), rel=1e-5)
    assert (task.loss_sum(logits, targets) / task.weight(targets)).item() == pytest.approx(
        each.sum() / weight, rel=1e-5
    )
    assert validated(task, logits, targets) == pytest.approx(each.sum() / weight, rel=1e-5)
    counts = torch.arange(40).remainder(3).float()
    assert task.loss_sum(logits, targets, counts).item() == pytest.approx((each * counts.numpy()).sum(), rel=1e-5)


def test_focal_loss_of_two_classes_is_that_of_torchvision() -> None:
    two = DataSpec((4,), 2, ("no", "yes"), class_counts=(5, 5))
    task = build_task(Classification(loss=FocalLoss(gamma=2.0), class_weights=[0.75, 0.25]), two)
    logit, target = drawn()[0][:, 0], torch.arange(40) % 2
    expected = sigmoid_focal_loss(logit, target.float(), alpha=0.25, gamma=2, reduction="sum")
    ours = task.loss_sum(torch.stack([torch.zeros(40), logit], 1), target)
    torch.testing.assert_close(ours, expected)


def test_focal_loss_with_gamma_0_is_the_cross_entropy_with_its_gradient() -> None:
    (ours, targets), (theirs, _) = drawn(), drawn()
    ours.requires_grad_()
    theirs.requires_grad_()
    build_task(Classification(loss={"name": "focal", "gamma": 0}), CLASSES).loss_sum(ours, targets).backward()
    F.cross_entropy(theirs, targets, reduction="sum").backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_the_gradient_of_focal_loss_is_finite_where_a_sample_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]], requires_grad=True)
    build_task(Classification(loss={"name": "focal", "gamma": gamma}), CLASSES).loss_sum(
        logits, torch.tensor([0, 0])
    ).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() == 0


def test_focal_loss_of_mixed_samples_is_shared_by_their_classes() -> None:
    task = build_task(Classification(loss="focal", class_weights=[0.5, 1.0, 3.0]), CLASSES)
    logits, targets = drawn()
    partners = targets.roll(1)
    mixed = 0.7 * F.one_hot(targets, 3).float() + 0.3 * F.one_hot(partners, 3).float()
    expected = 0.7 * task.loss_sum(logits, targets) + 0.3 * task.loss_sum(logits, partners)
    torch.testing.assert_close(task.loss_sum(logits, mixed), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]], ids=str)
def test_the_default_loss_has_the_bits_of_torchs_cross_entropy(smoothing: float, weights: list[float] | None) -> None:
    task = build_task(Classification(label_smoothing=smoothing, class_weights=weights), CLASSES)
    logits, targets = drawn()
    tensor = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(logits, targets, tensor, reduction="sum", label_smoothing=smoothing)
    assert torch.equal(task.loss_sum(logits, targets), expected)


@pytest.mark.parametrize(("loss", "function"), [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", F.huber_loss)])
def test_the_losses_of_numbers_have_the_bits_of_torch(loss: str, function: Any) -> None:
    task = build_task(Regression(loss=loss), NUMBERS)
    outputs, targets = torch.randn(30, 2), torch.randn(30, 2)
    assert torch.equal(task.loss_sum(outputs, targets), function(outputs, targets, reduction="none").sum())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Classification(loss="mse"), "task.loss=mse: is for regression, and the task is classification;"),
        (lambda: Classification(loss="mse"), "; losses for it: cross_entropy, focal."),
        (lambda: Regression(loss="focal"), "task.loss=focal: is for classification, and the task is regression;"),
        (lambda: Regression(loss="focal"), "; losses for it: huber, mae, mse."),
        (lambda: Classification(loss="focl"), "task.loss=focl: no loss 'focl'. Did you mean 'focal'?"),
        (lambda: Classification(loss={"name": "focal", "gama": 1}), "focal has no key 'gama'. Did you mean 'gamma'?"),
        (lambda: Classification(loss={"gamma": 1}), "does not say which loss; write {name: focal, gamma: 2}."),
        (lambda: Classification(loss={"name": "focal", "gamma": -1}), "task.loss: focal.gamma=-1.0: must be >= 0."),
        (lambda: Classification(loss="focal", label_smoothing=0.1), "task.label_smoothing=0.1: task.loss=focal does"),
        (lambda: Classification(loss="focal", label_smoothing=0.1), "set it to 0, or task.loss=cross_entropy."),
        (lambda: build_task(Auto(loss="focal"), NUMBERS), "task.loss=focal: is for classification"),
    ],
)  # fmt: skip
def test_a_loss_that_does_not_fit_is_one_sentence(make: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert words in str(error.value)


def test_auto_takes_a_loss_for_either_kind() -> None:
    logits, targets = drawn()
    ours = build_task(Auto(loss={"name": "focal", "gamma": 0}), CLASSES).loss_sum(logits, targets)
    torch.testing.assert_close(ours, F.cross_entropy(logits, targets, reduction="sum"))
    outputs, numbers = torch.randn(9, 2), torch.randn(9, 2)
    torch.testing.assert_close(
        build_task(Auto(loss="mae"), NUMBERS).loss_sum(outputs, numbers), (outputs - numbers).abs().sum()
    )


@pytest.mark.parametrize(
    ("overrides", "loss"),
    [
        (["task=classification"], "cross_entropy"),
        (["task.loss=focal"], "focal"),
        (["task.loss={name: focal, gamma: 1}"], {"name": "focal", "gamma": 1}),
        (["task.loss={name: focal, gamma: 1}", "task.loss={name: cross_entropy}"], {"name": "cross_entropy"}),
        (["task.loss={name: focal, gamma: 1}", "task.loss=focal"], "focal"),
    ],
)
def test_a_loss_is_typed_as_a_name_or_a_mapping_and_saved_as_typed(overrides: list[str], loss: Any) -> None:
    cfg = compose(overrides)
    assert to_config(cfg).task.loss == loss  # type: ignore[attr-defined]
    assert to_config(from_yaml(to_yaml(cfg), "x")).task.loss == loss  # type: ignore[attr-defined]


def test_a_loss_from_python_is_saved_with_its_name() -> None:
    saved = to_yaml(from_config(Config(task=Classification(loss=FocalLoss(gamma=1.5)))))
    assert to_config(from_yaml(saved, "x")).task.loss == {"name": "focal", "gamma": 1.5}  # type: ignore[attr-defined]


def test_a_loss_of_a_plug_in_is_one_class() -> None:
    @register("loss", "margin")
    @dataclass
    class Margin(LossConfig):
        """The multi-class hinge loss."""

        kinds = ("classification",)

        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return F.multi_margin_loss(outputs, targets, reduction="none")

    logits, targets = drawn()
    each = F.multi_margin_loss(logits, targets, reduction="none")
    task = build_task(Classification(loss="margin"), CLASSES)
    torch.testing.assert_close(task.loss_sum(logits, targets), each.sum())
    assert validated(task, logits, targets) == pytest.approx(each.mean().item(), rel=1e-5)
    weighted = build_task(Classification(loss="margin", class_weights=[1.0, 2.0, 0.5]), CLASSES)
    torch.testing.assert_close(
        weighted.loss_sum(logits, targets), (each * torch.tensor([1.0, 2.0, 0.5])[targets]).sum()
    )
    with pytest.raises(ConfigError, match=r"task.loss=margin: is for classification, and the task is regression"):
        Regression(loss="margin")


def test_a_loss_for_each_output_counts_with_its_mean_and_one_for_each_sample_for_all_its_outputs() -> None:
    @register("loss", "quartic")
    @dataclass
    class Quartic(LossConfig):
        """The fourth power of the error."""

        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            wanted = F.one_hot(targets, 3).float() if targets.dtype == torch.int64 else targets
            return (outputs - wanted) ** 4

    @register("loss", "distance")
    @dataclass
    class Distance(LossConfig):
        """The Euclidean distance of outputs and targets."""

        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs - targets).norm(dim=1)

    logits, targets = drawn()
    task = build_task(Classification(loss="quartic"), CLASSES)
    expected = ((logits - F.one_hot(targets, 3)) ** 4).mean()
    assert (task.loss_sum(logits, targets) / task.weight(targets)).item() == pytest.approx(expected.item(), rel=1e-5)
    outputs, numbers = torch.randn(9, 2), torch.randn(9, 2)
    task = build_task(Regression(loss="distance"), NUMBERS)
    expected = (outputs - numbers).norm(dim=1).mean()
    assert (task.loss_sum(outputs, numbers) / task.weight(numbers)).item() == pytest.approx(expected.item(), rel=1e-5)
    assert validated(task, outputs, numbers) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("task", [Classification, Regression])
def test_a_loss_that_is_reduced_over_the_batch_says_what_is_expected(task: Any) -> None:
    @register("loss", "reduced")
    @dataclass
    class Reduced(LossConfig):
        """A mean over the batch, where it should not be."""

        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return outputs.mean()

    spec, targets = (CLASSES, drawn()[1]) if task is Classification else (NUMBERS, torch.zeros(40, 2))
    with pytest.raises(
        ConfigError, match=r"task.loss=reduced: losses\(outputs, targets\) gives \(\) for a batch of 40"
    ):
        build_task(task(loss="reduced"), spec).loss_sum(torch.zeros(40, spec.outputs), targets)


def test_a_loss_without_its_method_says_which_to_write() -> None:
    @register("loss", "empty")
    @dataclass
    class Empty(LossConfig):
        """A loss that computes nothing."""

    with pytest.raises(ConfigError, match=r"loss=empty: .*Empty has no method losses\(self, outputs, targets\)"):
        build_task(Classification(loss="empty"), CLASSES)
