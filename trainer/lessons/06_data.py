"""Data: a Dataset, splits, what DataLoader's arguments cost, transforms."""

import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from lesson import Lesson, start
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, random_split

from trainer.config.data import Digits
from trainer.config.datasets import CIFAR10_MEAN, CIFAR10_STD, Cifar10
from trainer.data.images.augment import Pipeline, Warp
from trainer.data.images.normalize import measure
from trainer.data.loaders.selection import make_loaders
from trainer.data.splits import split_index
from trainer.data.types import BatchContext, Data
from trainer.runs.build import build_data
from trainer.system import seeds

ARGUMENTS = [{"batch_size": 1}, {"batch_size": 64}, {"shuffle": True}, {"num_workers": 1}, {"num_workers": 2}]
ARGUMENTS += [{"num_workers": 2, "persistent_workers": True}, *[{"pin_memory": True}] * torch.cuda.is_available()]


class Images(Dataset):
    """A map-style dataset: it has a length, and a sample for each index."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels[index].float() / 255, self.labels[index]


def main(lesson: Lesson) -> None:
    data = build_data(Digits(), lesson.seed)  # the data of `train data=digits`
    dataset = Images(data.train.inputs, data.train.targets)
    for part in (splits, batches, costs, transforms, constants):
        part(lesson, data, dataset)


def splits(lesson: Lesson, data: Data, dataset: Images) -> None:
    lesson.title("A dataset and its splits")
    image, label = dataset[0]
    lesson.show("len(dataset); image, label = dataset[0]", (len(dataset), image.shape, image.dtype, label))
    drawn = (random_split(dataset, [0.8, 0.2], seeds.generator(lesson.seed, seeds.SPLIT)) for _ in range(2))
    (train, val), (_, again) = drawn
    lesson.show("train, val = random_split(dataset, [0.8, 0.2], generator)", (len(train), len(val)))
    assert sorted(train.indices + val.indices) == list(range(1438)) and val.indices == again.indices
    share, plain = dataset.labels.bincount() / 5, dataset.labels[val.indices].bincount(minlength=10)
    ours = dataset.labels[split_index(dataset.labels, 0.2, lesson.seed)[1]].bincount()
    rows = (("a fifth of each", share), ("random_split", plain), ("trainer's split_index", ours))
    lesson.table(("digit", *range(10)), [(name, *(f"{count:g}" for count in row.tolist())) for name, row in rows])
    assert (ours - share).abs().max() < 1, "stratified: a fifth of each class, rounded down or up"


def batches(lesson: Lesson, data: Data, dataset: Images) -> None:
    lesson.title("DataLoader")
    images, _ = next(iter(DataLoader(dataset, batch_size=64)))
    assert lesson.show("a batch of 64, stacked", images.shape) == (64, 1, 8, 8) and images[5].equal(dataset[5][0])
    sizes = [len(labels) for _, labels in DataLoader(dataset, batch_size=64)]
    lesson.show("batches of an epoch, size of the last, which drop_last=True leaves out", (len(sizes), sizes[-1]))
    assert sum(sizes) == 1438 and len(DataLoader(dataset, batch_size=64, drop_last=True)) == len(sizes) - 1
    generators = [seeds.generator(lesson.seed, seeds.ORDER, epoch) for epoch in (0, 0, 1)]
    orders = [torch.cat([y for _, y in DataLoader(dataset, 64, shuffle=True, generator=g)]) for g in generators]
    lesson.show("shuffle=True, the first labels of epochs 0, 0 and 1", [order[:8].tolist() for order in orders])
    assert orders[0].equal(orders[1]) and not orders[0].equal(orders[2])
    assert orders[0].bincount().equal(dataset.labels.bincount()), "every sample once"


def milliseconds(epoch: Callable[[], Iterable]) -> list[float]:
    """How long each of three passes takes."""
    marks = [time.perf_counter()]
    for _ in range(3):
        assert sum(len(batch[1]) for batch in epoch()) == 1438
        marks.append(time.perf_counter())
    return [1000 * (after - before) for before, after in itertools.pairwise(marks)]


def costs(lesson: Lesson, data: Data, dataset: Images) -> None:
    lesson.title("What the arguments cost")
    times = {}
    for arguments in ARGUMENTS:
        name = ", ".join(f"{key}={value}" for key, value in arguments.items())
        times[name] = milliseconds(DataLoader(dataset, **{"batch_size": 64} | arguments).__iter__)
    ours, _ = make_loaders(data, batch_size=64, eval_batch_size=64, drop_last=False, seed=0, device=lesson.device)
    times["trainer's resident loader"] = milliseconds(lambda: itertools.islice(ours.stream(0), ours.steps_per_epoch))
    rows = [(name, f"{first:.1f}", f"{min(later):.1f}") for name, (first, *later) in times.items()]
    lesson.table(("batch_size=64, and", "first epoch, ms", "later, ms"), rows)
    lesson.say("Workers cost a start; they pay where a sample is dear to read. In memory, one index_select is a batch.")
    with lesson.figure("loader_costs", figsize=(8, 3.5)) as ax:
        bars = ax.barh(list(times), [min(later) for _, *later in times.values()], color="white", edgecolor="black")
        bars[-1].set_hatch("///")
        ax.bar_label(bars, fmt="%.1f ms", padding=3)
        ax.set(xscale="log", xlim=(0.1, 3000), xlabel="1,438 images, the faster of two later epochs, ms")
        ax.invert_yaxis()


def transforms(lesson: Lesson, data: Data, dataset: Images) -> None:
    lesson.title("Transforms")
    pixels, vary = data.train.inputs[:8], Pipeline([Warp(flip="none", degrees=25)])
    context = BatchContext(lesson.seed, step=1, epoch=0, positions=torch.arange(8))
    turned, again = vary(pixels, context), vary(pixels, context)
    lesson.say("data.augment turns each image by an angle of its own, a function of the seed and the step.")
    assert turned.equal(again) and not turned.equal(pixels)
    assert lesson.show("data.prepare(pixels)[0, 0, 0]", data.prepare(pixels)[0, 0, 0]).dtype == torch.float32
    torch.testing.assert_close(data.prepare.undo(data.prepare(pixels)), pixels / 255)
    with lesson.figure("transforms", nrows=2, figsize=(9, 2.9), sharex=True) as axes:
        for ax, name, images in zip(axes, ("as stored", "turned"), (pixels, turned), strict=True):
            ax.imshow(torch.cat([*images[:, 0]], 1), cmap="gray_r")
            ax.set(ylabel=name, yticks=[], xticks=range(0, 65, 8))
        axes[1].set_xlabel("pixels")


def constants(lesson: Lesson, data: Data, dataset: Images) -> None:
    lesson.title("Normalisation constants")
    images, ready = data.train.inputs, data.prepare(data.train.inputs)
    (mean,), (std,) = lesson.show("measure(images), mean and std of each channel", measure(images))
    pixels = images.double() / 255
    torch.testing.assert_close([mean, std], [pixels.mean().item(), pixels.std(correction=0).item()])
    own = lesson.show("the images' own stds, on average", pixels.flatten(1).std(1, correction=0).mean().item())
    assert own < std and abs(ready.mean()) < 1e-4 and abs(ready.std() - 1) < 1e-3
    root = Path(lesson.arguments.root)
    if not [*root.glob("cifar-10*"), *root.glob(".trainer-cache/cifar10*")]:
        lesson.say(f"CIFAR-10 is not in {root}/. To have it: train data=cifar10 data.root={root} trainer.steps=1")
        return
    found = build_data(Cifar10(root=str(root), mean=None, std=None), lesson.seed).prepare  # null: measured
    lesson.show("CIFAR-10, measured mean and std of R, G, B", (found.mean, found.std))
    lesson.show("conf/data/cifar10.yaml", (CIFAR10_MEAN, CIFAR10_STD))
    torch.testing.assert_close(found.mean + found.std, CIFAR10_MEAN + CIFAR10_STD, atol=1e-4, rtol=0)


if __name__ == "__main__":
    root = {"default": "data", "help": "folder of CIFAR-10, where it is there (default data)"}
    start(__doc__, main, lambda parser: parser.add_argument("--root", **root))
