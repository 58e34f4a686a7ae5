"""The training loop: written out, then with the package's Trainer, step for step.

The plain loop takes its batches from the Trainer's loader. There they are a function of the seed and the step: whoever
asks for step 17 gets the same samples in the same order. So all losses must agree, and on a CPU they do, bit for bit.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lesson import Lesson, start
from torch.optim.lr_scheduler import LambdaLR

from trainer import Config, Trainer, assemble
from trainer.config.data import Digits
from trainer.config.model import Mlp
from trainer.config.optimizer import AdamW
from trainer.config.trainer import TrainerConfig
from trainer.data.loaders.protocols import EvalLoader
from trainer.data.types import Batch
from trainer.system import seeds

LR, EPOCHS = 3e-3, 8
NAMES = ("loss", "lr", "val/loss", "val/accuracy")
History, Parts = dict[str, list[float]], dict[str, Any]


def train_epoch(parts: Parts, batches: Iterator[Batch], steps: range, history: History, lesson: Lesson) -> None:
    """One optimizer step for each of `steps`, which are one pass over the data."""
    model, optimizer, scheduler = parts.values()
    model.train()
    for step, batch in zip(steps, batches, strict=False):  # the batches never end
        seeds.reseed(lesson.device, seeds.fold(lesson.seed, seeds.DROPOUT, step))  # dropout draws as in the Trainer
        loss = F.cross_entropy(model(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history["loss"].append(loss.item())
        history["lr"].append(scheduler.get_last_lr()[0])
        scheduler.step()


@torch.inference_mode()
def validate(model: torch.nn.Module, batches: EvalLoader, history: History) -> None:
    """Mean loss and accuracy, without dropout and without gradients."""
    model.eval()
    loss = correct = 0.0
    for inputs, targets, weights, _ in batches:  # all of one size: the last is filled up with rows of weight 0
        logits = model(inputs)
        loss += (F.cross_entropy(logits, targets, reduction="none") @ weights).item()
        correct += ((logits.argmax(1) == targets) * weights).sum().item()
    history["val/loss"].append(loss / batches.samples)
    history["val/accuracy"].append(correct / batches.samples)


def plain_loop(lesson: Lesson, package: Trainer, model: torch.nn.Module, epochs: range, checkpoint: Path) -> History:
    """Train for some epochs of the run, from the checkpoint unless they are the first; one is written after each."""
    size = package.train.steps_per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), LR, fused=True)  # fused, as the Trainer's: the same rounding
    cosine = LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / (EPOCHS * size))) / 2)
    parts: Parts = {"model": model, "optimizer": optimizer, "scheduler": cosine}
    history: History = {name: [] for name in NAMES}
    if epochs.start > 0:
        saved = torch.load(checkpoint)
        history = saved["history"]
        for name, part in parts.items():
            part.load_state_dict(saved[f"{name}_state_dict"])
    batches = package.train.stream(epochs.start * size)
    for epoch in epochs:
        train_epoch(parts, batches, range(epoch * size, (epoch + 1) * size), history, lesson)
        validate(model, package.val, history)
        states = {f"{name}_state_dict": part.state_dict() for name, part in parts.items()}
        torch.save({"epoch": epoch + 1, **states, "history": history}, checkpoint)
    return history


def package_loop(trainer: Trainer) -> History:
    """Do the same with the Trainer. Its `fit()` is this and more: records, checkpoints, stopping."""
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
    settings = TrainerConfig(epochs=EPOCHS, device=str(lesson.device), precision="fp32")
    data = Digits(eval_batch_size=128)  # 359 images: the third batch is filled up
    trainer = assemble(Config(Mlp([64], dropout=0.2), data, AdamW(lr=LR), trainer=settings, seed=lesson.seed))
    theirs, path = trainer.state.model, lesson.keep("checkpoint.pt")
    ours, again = copy.deepcopy(theirs), copy.deepcopy(theirs)
    lesson.title("The plain loop")
    plain = plain_loop(lesson, trainer, ours, range(EPOCHS), path)
    lesson.show("accuracy after each epoch", [round(share, 4) for share in plain["val/accuracy"]])
    assert plain["val/accuracy"][-1] > 0.9
    assert len(plain["lr"]) == trainer.timeline.total
    assert plain["lr"][0] == LR > plain["lr"][-1] > 0

    lesson.title("Stopped after epoch 3, and going on from the checkpoint")
    plain_loop(lesson, trainer, again, range(3), path)
    lesson.show("list(torch.load('checkpoint.pt'))", list(torch.load(path)))
    resumed = plain_loop(lesson, trainer, copy.deepcopy(theirs), range(3, EPOCHS), path)
    assert lesson.show("resumed == plain", resumed == plain)  # all else follows from the step: order, dropout, rate

    lesson.title("The package's Trainer")
    package = package_loop(trainer)
    lesson.table(("val/loss, plain", "Trainer"), [*zip(plain["val/loss"], package["val/loss"], strict=True)])
    gaps = {name: max(abs(a - b) for a, b in zip(plain[name], package[name], strict=True)) for name in NAMES}
    lesson.show("largest differences", gaps)
    tolerance = 0 if lesson.device.type == "cpu" else 1e-3  # a GPU may add up in another order
    assert max(gaps.values()) <= tolerance
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=tolerance, atol=tolerance)

    with lesson.figure("training_loop", ncols=3, figsize=(12, 3.8)) as axes:
        for axis, name in zip(axes, ("loss", "val/accuracy", "lr"), strict=True):
            steps = torch.arange(1, len(plain[name]) + 1) * (trainer.timeline.total // len(plain[name]))
            axis.plot(steps, plain[name], color="0.75", linewidth=6, label="plain loop")
            axis.plot(steps, package[name], color="black", linestyle="--", linewidth=1.2, label="trainer.Trainer")
            axis.set(xlabel="optimizer step", ylabel=name)
            axis.legend()


if __name__ == "__main__":
    start(__doc__, main)
