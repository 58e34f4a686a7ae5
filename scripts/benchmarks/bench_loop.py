"""Samples per second of this trainer against the loop that people write by hand, both in one run.

    python scripts/benchmarks/bench_loop.py                      # both cases, generated data
    python scripts/benchmarks/bench_loop.py --root cifar10-jpeg  # the CNN case on real images (train/<class>/*.jpg)
    python scripts/benchmarks/bench_loop.py --quick              # a minute, to see that it runs
    python scripts/benchmarks/bench_loop.py --case share         # what of a step is the data
    python scripts/benchmarks/bench_loop.py --case allocator     # a setting, on and off; also denormals, threads

Two cases, each the plainest form of what a tutorial teaches, against the same recipe here with logging,
TensorBoard and checkpoints on:

* cnn: CNNClassifier on 32×32 JPEG files; ImageFolder with PIL transforms (flip, rotation ±10°, normalise), a
  DataLoader with two workers, Adam, batch 64, `loss.item()` at each step;
* linear: model=linear on 100,000 × 10 synthetic rows; a Dataset with `__getitem__`, a DataLoader, Adam, batch 32,
  `loss.item()` at each step.

The contenders take turns, segment by segment, in one process on all cores, on data that both have ready. Ours is a
whole `Trainer.fit` with its records, a validation batch and its checkpoints at start and end; theirs is one pass of its
loop, the start of the DataLoader included.
Printed: the median over the rounds, the range, and the ratio of the medians.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_settings import CASES, measure_setting, measure_share
from PIL import Image
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from trainer import Config, Run, assemble
from trainer.config.data import ImageFolder, Synthetic
from trainer.config.datasets import CIFAR10_MEAN, CIFAR10_STD
from trainer.config.model import Cnn, Linear
from trainer.config.optimizer import Adam
from trainer.config.scheduler import ConstantLR
from trainer.config.trainer import TrainerConfig
from trainer.loggers.base import Logger
from trainer.loggers.console import PlainConsoleLogger, Progress
from trainer.loggers.files import FilesLogger
from trainer.loggers.tensorboard import TensorBoardLogger
from trainer.models.cnn import CNNClassifier
from trainer.models.linear import linear_model
from trainer.system.process import ALL_THREADS

Segment = Callable[[], float]  # trains for a fixed number of steps; returns samples per second


def by_hand(model: nn.Module, loader: DataLoader, steps: int, device: str) -> Segment:
    """The loop of the tutorials."""
    model.to(device)
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()

    def segment() -> float:
        torch.set_num_threads(ALL_THREADS)
        began, samples, running_loss = time.perf_counter(), 0, 0.0
        model.train()
        done = 0
        while done < steps:
            for batch in loader:
                inputs, targets = (part.to(device) for part in batch)
                optimizer.zero_grad()
                outputs = model(inputs)
                loss = criterion(outputs, targets)
                loss.backward()
                optimizer.step()
                running_loss += loss.item() * len(targets)
                samples += len(targets)
                done += 1
                if done == steps:
                    break
        return samples / (time.perf_counter() - began)

    return segment


def ours(config: Config, directory: Path) -> Segment:
    """The same recipe with this trainer: a whole `fit`, its records and its checkpoints at start and end included."""

    def segment() -> float:
        run = Run.create(directory)
        trainer = assemble(config, run)
        timeline, monitor = trainer.timeline, trainer.state.monitor.name
        progress = Progress(timeline.total, timeline.steps_per_epoch, monitor)
        loggers: list[Logger] = [
            PlainConsoleLogger(Console(file=io.StringIO()), progress),
            FilesLogger(run.directory),
            TensorBoardLogger(run.tensorboard, {}, trainer.context.data.spec.labels),
        ]
        began = time.perf_counter()
        trainer.fit(loggers)
        seconds = time.perf_counter() - began
        for logger in loggers:
            logger.close({})
        return timeline.total * config.data.batch_size / seconds

    return segment


class RandomRows(Dataset):
    """What a first custom dataset looks like."""

    def __init__(self, samples: int, features: int) -> None:
        self.x = torch.randn(samples, features)
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.y[index]


def cnn_case(root: Path, scratch: Path, steps: int, device: str) -> tuple[Segment, Segment]:
    """CNNClassifier on an image folder."""
    from torchvision import datasets, transforms

    pipeline = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10),
            transforms.ToTensor(),
            transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD),
        ]
    )
    folder = datasets.ImageFolder(str(root / "train"), pipeline)
    rows = torch.randperm(len(folder))[: steps * 64].tolist()  # one segment is one pass: workers start once in it
    loader = DataLoader(Subset(folder, rows), batch_size=64, shuffle=True, num_workers=2)
    config = Config(
        model=Cnn(),
        data=ImageFolder(root=str(root), batch_size=64, mean=CIFAR10_MEAN, std=CIFAR10_STD),
        optimizer=Adam(),
        scheduler=ConstantLR(),
        trainer=TrainerConfig(steps=steps, eval_every=None, limit_val="1", device=device, precision="fp32"),
    )
    return by_hand(CNNClassifier(len(folder.classes)), loader, steps, device), ours(config, scratch)


def linear_case(scratch: Path, steps: int, device: str) -> tuple[Segment, Segment]:
    """Logistic regression on synthetic rows."""
    loader = DataLoader(RandomRows(100_000, 10), batch_size=32, shuffle=True)
    config = Config(
        model=Linear(),
        data=Synthetic(num_samples=100_000, batch_size=32),
        optimizer=Adam(),
        scheduler=ConstantLR(),
        trainer=TrainerConfig(steps=steps, eval_every=None, limit_val="1", device=device, precision="fp32"),
    )
    return by_hand(linear_model(10, 2), loader, steps, device), ours(config, scratch)


def make_images(root: Path, count: int) -> None:
    """Random JPEG files, for where no real ones are at hand."""
    generator = np.random.default_rng(0)
    for part, number in (("train", count), ("test", 64)):
        for index in range(number):
            path = root / part / f"class{index % 10}" / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


def measure(name: str, hand: Segment, trainer: Segment, rounds: int) -> float:
    """Take turns, print the row of the case, return the ratio."""
    hand(), trainer()  # both warm: caches, allocator, first-step costs
    results = [(hand(), trainer()) for _ in range(rounds)]
    columns = list(zip(*results, strict=True))
    medians = [statistics.median(column) for column in columns]
    ranges = [f"{medians[i]:>10,.0f}  ({min(columns[i]):,.0f} to {max(columns[i]):,.0f})" for i in (0, 1)]
    ratio = medians[1] / medians[0]
    print(f"{name:<8} by hand {ranges[0]:<34} trainer {ranges[1]:<34} ratio {ratio:.2f}", flush=True)
    return ratio


def main() -> None:
    """Measure the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("cnn", "linear", "both", "share", *CASES), default="both")
    parser.add_argument("--root", type=Path, help="image folder with train/ and test/; generated when not given")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both (cpu)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short segments, two rounds")
    args = parser.parse_args()
    given = args.root and args.root.resolve()
    rounds = 2 if args.quick else args.rounds
    if args.case == "share":
        measure_share(rounds)
        return
    if args.case in CASES:
        measure_setting(args.case, rounds)
        return
    print(f"samples per second, {torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds in turn")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        scratch = Path(folder)
        if args.case in ("linear", "both"):
            measure("linear", *linear_case(scratch, 600 if args.quick else 6000, args.device), rounds)
        if args.case in ("cnn", "both"):
            root = given
            if root is None:
                root = scratch / "images"
                make_images(root, 1280 if args.quick else 12_800)
            measure("cnn", *cnn_case(root, scratch, 15 if args.quick else 150, args.device), rounds)


if __name__ == "__main__":
    main()
