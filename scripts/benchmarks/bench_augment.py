"""Images per second of flip + rotation ±10° + normalise on 32×32 images: ours in batches against PIL, image by image.

    python scripts/benchmarks/bench_augment.py
    python scripts/benchmarks/bench_augment.py --root cifar10-jpeg  # real images (train/<class>/*.jpg)
    python scripts/benchmarks/bench_augment.py --quick              # seconds, to see that it runs

Three contenders take turns, on images that are decoded already:

* ours: the training batches of `ResidentLoader`, as a run on the CPU gets them (gathered, varied, normalised), 64 each;
* dataloader: torchvision's transforms (RandomHorizontalFlip, RandomRotation, ToTensor, Normalize) on PIL images in a
  `DataLoader` with two workers that stay alive, batch 64; the start of the workers is not counted;
* pil: the same transforms in a plain loop on one thread.

Printed: the median over the rounds, the range, and the ratios of the medians.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainer.config.data import SyntheticImages
from trainer.config.datasets import CIFAR10_MEAN, CIFAR10_STD
from trainer.data.images.augment import augment_from
from trainer.data.images.normalize import Normalize
from trainer.data.loaders.collate import Collate
from trainer.data.loaders.resident import ResidentLoader
from trainer.data.loaders.sampler import Sampler
from trainer.data.types import Split
from trainer.system.process import configure_malloc

BATCH, DEGREES = 64, 10
Round = Callable[[], float]  # images per second of one round


class Pictures(Dataset):
    """PIL images and what is done to them, as torchvision's datasets are."""

    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(DEGREES),
                transforms.ToTensor(),
                transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), index


def ours(pixels: np.ndarray, count: int) -> Round:
    """Batches of the resident loader, without end."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)
    augment = augment_from(SyntheticImages(augment=True, rotation=DEGREES), images.shape[1:], normalize)
    order = Sampler(len(images), BATCH, drop_last=True, seed=0)
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    stream = ResidentLoader(split, Collate(order, normalize, augment), torch.device("cpu")).stream(0)
    return lambda: _drain(stream, count)


def dataloader(pictures: Pictures, count: int) -> Round:
    """One pass after another of a `DataLoader`, cut off after `count` images."""
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)

    def passes() -> Iterator[object]:
        while True:
            yield from loader

    stream = passes()
    return lambda: _drain(stream, count)


def pil(pictures: Pictures, count: int) -> Round:
    """A plain loop."""

    def batches() -> Iterator[object]:
        for start in itertools.count(0, BATCH):
            yield [pictures[(start + i) % len(pictures)] for i in range(BATCH)]

    stream = batches()

    def round_() -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _drain(stream, count)
        finally:
            torch.set_num_threads(threads)

    return round_


def _drain(stream: Iterator[object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count // BATCH):
        next(stream)
    return count // BATCH * BATCH / (time.perf_counter() - began)


def load(root: Path | None, count: int) -> np.ndarray:
    """uint8 (count, 32, 32, 3)."""
    if root is None:
        return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    paths = itertools.islice(sorted((root / "train").rglob("*.jpg")), 0, None, max(1, 50_000 // count))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in itertools.islice(paths, count)])


def main() -> None:
    """Measure, print, and give the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, help="image folder with train/<class>/*.jpg of 32×32; random when not given"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="short rounds, three of them")
    args = parser.parse_args()
    configure_malloc(keep=True)  # as each run does; the workers and the plain loop have it too
    rounds, scale = (3, 1) if args.quick else (args.rounds, 10)
    pixels = load(args.root, 10_000 if not args.quick else 2000)
    pictures = Pictures([Image.fromarray(image) for image in pixels])
    contenders = {
        "ours": ours(pixels, 19_200 * scale),
        "dataloader": dataloader(pictures, 3200 * scale),
        "pil": pil(pictures, 1280 * scale),
    }
    print(f"images per second, {torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds in turn")
    for contender in contenders.values():
        contender()  # warm: workers started, caches filled
    results = [{name: contender() for name, contender in contenders.items()} for _ in range(rounds)]
    medians = {name: statistics.median(result[name] for result in results) for name in contenders}
    for name, median in medians.items():
        values = [result[name] for result in results]
        print(f"{name:<11}{median:>10,.0f}  ({min(values):,.0f} to {max(values):,.0f})")
    print(f"ours / dataloader {medians['ours'] / medians['dataloader']:.2f}")
    print(f"ours / pil        {medians['ours'] / medians['pil']:.2f}")


if __name__ == "__main__":
    main()
