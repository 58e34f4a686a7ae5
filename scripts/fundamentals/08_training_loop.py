"""The training loop: written out, then with the package's Trainer, step for step.

Both train one network on the digits that the package ships. The plain loop starts from the Trainer's first weights and
takes its batches from the Trainer's loader, which makes each batch as a function of the seed and the step: whoever asks
for step 17 gets the same samples in the same order. So all losses must agree, and on a CPU they do to the last bit.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lesson import Lesson, start
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from trainer import Config, Trainer, assemble, seeds
from trainer.config.data import Digits
from trainer.config.model import Mlp
from trainer.config.optimizer import AdamW
from trainer.config.trainer import Trainer as Settings
from trainer.interfaces import Batch, EvalLoader

LR, EPOCHS = 3e-3, 8
NAMES = ("loss", "lr", "val/loss", "val/accuracy")
History, Parts = dict[str, list[float]], dict[str, Any]


def train_epoch(parts: Parts, batches: Iterator[Batch], steps: range, history: History, lesson: Lesson) -> None:
    """One optimizer step for each of `steps`, which are one pass over the data."""
    model, optimizer, scheduler = parts.values()
    model.train()
    for step in steps:
        batch = next(batches)
        seeds.reseed(lesson.device, seeds.fold(lesson.seed, seeds.DROPOUT, step))  # dropout draws as in the Trainer
        loss = F.cross_entropy(model(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history["loss"].append(loss.item())
        history["lr"].append(scheduler.get_last_lr()[0])
        scheduler.step()


@torch.inference_mode()
def validate(model: nn.Module, batches: EvalLoader, history: History) -> None:
    """Mean loss and accuracy, without dropout and without gradients."""
    model.eval()
    loss = correct = samples = 0.0
    for inputs, targets, weights, _ in batches:  # all of one size: the last is filled up with rows of weight 0
        logits = model(inputs)
        loss += (F.cross_entropy(logits, targets, reduction="none") * weights).sum().item()
        correct += ((logits.argmax(1) == targets) * weights).sum().item()
        samples += weights.sum().item()
    history["val/loss"].append(loss / samples)
    history["val/accuracy"].append(correct / samples)


def plain_loop(lesson: Lesson, package: Trainer, model: nn.Module, checkpoint: Parts | None = None) -> History:
    """All epochs, or those after a checkpoint; writes a checkpoint after each."""
    size = package.train.steps_per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), LR, fused=True)  # fused, as the Trainer's: the same rounding
    cosine = LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / (EPOCHS * size))) / 2)
    parts: Parts = {"model": model, "optimizer": optimizer, "scheduler": cosine}
    done, history = 0, {name: [] for name in NAMES}
    if checkpoint is not None:
        done, history = checkpoint["epoch"], checkpoint["history"]
        for name, part in parts.items():
            part.load_state_dict(checkpoint[f"{name}_state_dict"])
    batches = package.train.stream(done * size)
    for epoch in range(done, EPOCHS):
        train_epoch(parts, batches, range(epoch * size, (epoch + 1) * size), history, lesson)
        validate(model, package.val, history)
        states = {f"{name}_state_dict": part.state_dict() for name, part in parts.items()}
        torch.save({"epoch": epoch + 1, **states, "history": history}, lesson.folder / f"epoch-{epoch + 1}.pt")
    return history


def package_loop(trainer: Trainer) -> History:
    """The same with the Trainer. Its `fit()` is this and more: records, checkpoints, stopping."""
    history = {name: [] for name in NAMES}
    for report in trainer.steps():
        history["loss"].append(report.loss.item())
        history["lr"].append(report.lr)
        if report.step % trainer.train.steps_per_epoch == 0:
            scores, _ = trainer.validate()
            for name in NAMES[2:]:
                history[name].append(scores[name])
    return history


def main(lesson: Lesson) -> None:
    settings = Settings(epochs=EPOCHS, device=str(lesson.device), precision="fp32")
    model, optimizer = Mlp(hidden=[64], dropout=0.2), AdamW(lr=LR)
    trainer = assemble(Config(model=model, data=Digits(), optimizer=optimizer, trainer=settings, seed=lesson.seed))
    theirs = trainer.state.model

    lesson.title("The plain loop")
    ours = copy.deepcopy(theirs)
    plain = plain_loop(lesson, trainer, ours)
    epochs = zip(range(1, EPOCHS + 1), plain["val/loss"], plain["val/accuracy"], strict=True)
    lesson.table(("epoch", *NAMES[2:]), [(epoch, f"{loss:.4f}", f"{share:.2%}") for epoch, loss, share in epochs])
    assert plain["val/accuracy"][-1] > 0.9

    lesson.title("Going on from a checkpoint")
    checkpoint = torch.load(lesson.folder / "epoch-3.pt")
    lesson.show("list(torch.load('epoch-3.pt'))", list(checkpoint))
    same = lesson.show("resumed == plain", plain_loop(lesson, trainer, copy.deepcopy(theirs), checkpoint) == plain)
    assert same  # the dictionary holds all that matters; order, dropout and rate follow from the step

    lesson.title("The package's Trainer")
    package = package_loop(trainer)
    rows = []
    for name in NAMES:
        pairs = list(zip(plain[name], package[name], strict=True))
        rows.append((name, len(pairs), f"{pairs[-1][0]:.4g}", f"{pairs[-1][1]:.4g}", max(abs(a - b) for a, b in pairs)))
    lesson.table(("", "values", "last, plain", "last, Trainer", "largest difference"), rows)
    tolerance = 0 if lesson.device.type == "cpu" else 1e-3  # a GPU may add up in another order
    assert all(row[-1] <= tolerance for row in rows)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=tolerance, atol=tolerance)

    with lesson.figure("training_loop", ncols=3, figsize=(12, 3.8)) as axes:
        for axis, name in zip(axes, ("loss", "val/accuracy", "lr"), strict=True):
            every = trainer.plan.total // len(plain[name])
            steps = range(every, trainer.plan.total + 1, every)
            axis.plot(steps, plain[name], color="0.75", linewidth=6, label="plain loop")
            axis.plot(steps, package[name], color="black", linestyle="--", linewidth=1.2, label="trainer.Trainer")
            axis.set(xlabel="optimizer step", ylabel=name)
            axis.legend()


if __name__ == "__main__":
    start(__doc__, main)
