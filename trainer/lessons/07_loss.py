"""Loss: cross-entropy from its definition, overflow, smoothing, class weights."""

import math

import torch
import torch.nn.functional as F
from lesson import Lesson, start
from torch import Tensor

from trainer.data.types import DataSpec
from trainer.tasks.classification import ClassificationTask


def main(lesson: Lesson) -> None:
    for part in (definition, overflow, smoothing, class_weights):
        part(lesson)


def naive(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the definition as it stands: the mean of −log p(target), p = exp(z) / Σ exp(z)."""
    probabilities = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -probabilities[torch.arange(len(targets)), targets].log().mean()


def definition(lesson: Lesson) -> None:
    lesson.title("Cross-entropy, three times")
    logits = torch.randn(4, 3, device=lesson.device, requires_grad=True)
    targets = torch.tensor([0, 2, 1, 2], device=lesson.device)
    lesson.show("logits z of 4 samples and 3 classes", logits.detach())
    loss = lesson.show("the definition, −log(exp(z_target) / Σ exp(z)), mean", naive(logits, targets).detach())
    log_softmax = logits - logits.logsumexp(1, keepdim=True)
    torch.testing.assert_close(log_softmax, F.log_softmax(logits, 1))
    two_steps = lesson.show("F.nll_loss(F.log_softmax(z, 1), targets)", F.nll_loss(log_softmax, targets).detach())
    fused = F.cross_entropy(logits, targets)
    lesson.show("F.cross_entropy(z, targets)", fused.detach())
    torch.testing.assert_close(two_steps, loss)
    torch.testing.assert_close(fused.detach(), loss)
    even = F.cross_entropy(torch.zeros(1, 10), torch.tensor([3])).item()
    assert lesson.show("a network that knows nothing of 10 classes: log 10", f"{even:.4f}") == f"{math.log(10):.4f}"
    fused.backward()
    by_hand = (logits.softmax(1) - F.one_hot(targets, 3)) / len(targets)
    torch.testing.assert_close(lesson.show("z.grad is (softmax(z) − one_hot) / N", logits.grad), by_hand.detach())
    twice = F.cross_entropy(logits.softmax(1), targets).item()
    lesson.show("F.cross_entropy(z.softmax(1), targets): the softmax taken twice, a silent mistake", f"{twice:.4f}")
    assert abs(twice - loss.item()) > 1e-3


def overflow(lesson: Lesson) -> None:
    lesson.title("Why the naive softmax overflows")
    lesson.show("log(torch.finfo(torch.float32).max)", f"{math.log(torch.finfo(torch.float32).max):.2f}")
    assert lesson.show("exp of 88 and 89", torch.tensor([88.0, 89.0]).exp()).isinf().tolist() == [False, True]
    z = torch.linspace(-120, 120, 241)
    rows = torch.stack([z, torch.zeros(241)], 1)[:, None]  # 241 batches of one sample, logits (z, 0), whose class is 0
    bad, good = (torch.stack([loss(row, torch.tensor([0])) for row in rows]) for loss in (naive, F.cross_entropy))
    lines = [(f"{z[i]:g}", f"{bad[i]:.4g}", f"{good[i]:.4g}") for i in (0, 60, 120, 180, 240)]
    lesson.table(("z of logits (z, 0), class 0", "naive", "F.cross_entropy"), lines)
    assert bad[z >= 89].isnan().all(), "inf / inf"
    assert bad[z <= -104].isinf().all(), "−log 0: exp(−104) is less than the smallest float32"
    torch.testing.assert_close(good, F.softplus(-z))  # −log σ(z)
    lesson.say("The remedy: log Σ exp(z) = m + log Σ exp(z − m) with m = max z; no exponent is above 0.")
    large = torch.tensor([1000.0, 999.0, -1000.0])
    stable = large.max() + (large - large.max()).exp().sum().log()
    torch.testing.assert_close(lesson.show("log Σ exp of (1000, 999, −1000)", stable), large.logsumexp(0))
    assert large.exp().sum().log().isinf()
    with lesson.figure("overflow", figsize=(7, 4)) as ax:
        ax.plot(z, good, color="0.6", linewidth=5, label="F.cross_entropy")
        ax.plot(z, bad, color="black", linestyle="--", label="naive, where it is finite")
        for region, name, place in ((z[bad.isinf()], "inf", -112), (z[bad.isnan()], "nan", 105)):
            ax.axvspan(region.min(), region.max(), facecolor="none", edgecolor="0.7", hatch="///")
            ax.text(place, 60, name, ha="center", bbox={"fc": "white", "ec": "none"})
        ax.set(xlabel="z, of logits (z, 0) and class 0", ylabel="cross-entropy", title="float32")
        ax.legend()


def smoothing(lesson: Lesson) -> None:
    lesson.title("Label smoothing")
    lesson.say(
        "A share ε of the target is spread over all classes: q = (1 − ε) one_hot + ε / K; the loss is −Σ q log p."
    )
    spec = DataSpec((2,), 3, ("a", "b", "c"))
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    q = 0.9 * F.one_hot(targets, 3) + 0.1 / 3
    by_hand = -(q * logits.log_softmax(1)).sum()
    task = ClassificationTask(spec, label_smoothing=0.1)  # task.label_smoothing=0.1 on the command line
    torch.testing.assert_close(task.loss_sum(logits, targets), by_hand)
    margin = torch.linspace(-2, 8, 1001)
    pairs = torch.stack([margin, torch.zeros(1001)], 1)
    with lesson.figure("label_smoothing", figsize=(7, 4)) as ax:
        for epsilon, style in ((0.0, "-"), (0.1, "--"), (0.2, ":")):
            zeros = torch.zeros(1001, dtype=torch.long)
            loss = F.cross_entropy(pairs, zeros, reduction="none", label_smoothing=epsilon)
            ax.plot(margin, loss, style, color="black", label=f"ε = {epsilon:g}")
            if epsilon:
                lowest = lesson.show(f"ε = {epsilon}: the loss is lowest at z", round(margin[loss.argmin()].item(), 2))
                assert abs(lowest - math.log((1 - epsilon / 2) / (epsilon / 2))) < 0.011, "where p is 1 − ε + ε / K"
                ax.plot(lowest, loss.min(), "ko")
        ax.set(xlabel="z, of logits (z, 0) and class 0", ylabel="loss", ylim=(0, 2.5))
        ax.set_title("With smoothing there is such a thing as too sure (dots: the lowest)")
        ax.legend()


def class_weights(lesson: Lesson) -> None:
    lesson.title("Class weights")
    targets = torch.tensor([0] * 90 + [1] * 10)
    spec = DataSpec.of((2,), targets, ("common", "rare"))
    task = ClassificationTask(spec, class_weights="balanced")
    weights = lesson.show("balanced weights of 90 and 10 samples, n / (K · count)", task.class_weights)
    torch.testing.assert_close(weights * torch.tensor(spec.class_counts), torch.tensor([50.0, 50.0]))
    logits, targets = torch.randn(40, 2), targets[60:]  # a batch: 30 common, 10 rare
    each = F.cross_entropy(logits, targets, reduction="none")
    by_hand = (weights[targets] * each).sum() / weights[targets].sum()
    mean = lesson.show("F.cross_entropy(z, y, weights), Σ w·loss / Σ w", F.cross_entropy(logits, targets, weights))
    torch.testing.assert_close(mean, by_hand)
    lesson.say("A mean of the means of micro-batches is another number; sums add up, and the engine adds sums:")
    parts = list(zip(logits.split(16), targets.split(16), strict=True))
    of_means = lesson.show("mean of means", torch.stack([F.cross_entropy(*part, weights) for part in parts]).mean())
    sums = sum(task.loss_sum(*part) for part in parts) / sum(task.weight(y) for _, y in parts)
    torch.testing.assert_close(lesson.show("Σ loss_sum / Σ weight", sums), mean)
    assert abs(of_means - mean) > 1e-4


if __name__ == "__main__":
    start(__doc__, main)
