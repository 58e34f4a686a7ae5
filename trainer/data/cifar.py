"""CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch

from trainer.config.data import Cifar10
from trainer.data.cache import cached
from trainer.data.images import image_data
from trainer.errors import DataError
from trainer.interfaces import Data, Split

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-python.tar.gz"
URL = "https://www.cs.toronto.edu/~kriz/" + ARCHIVE


def build(config: Cifar10, seed: int) -> Data:
    """uint8 images (N, 3, 32, 32), from the cache after the first time."""
    root = Path(config.root).expanduser()
    tensors, hit = cached(root, "cifar10", lambda: read(root))
    train, test = (Split(tensors[f"{part}_images"], tensors[f"{part}_targets"]) for part in ("train", "test"))
    return image_data(config, train, None if config.holds_out else test, CLASSES, seed, "decoded cache" if hit else "")


def read(root: Path, dataset: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Read, and where needed download, the original batches through torchvision.

    They are pickles; torchvision opens one only after its MD5 was found to be the published one.

    Args:
        root: folder that holds `cifar-10-batches-py` or the archive.
        dataset: the class that reads them; torchvision's CIFAR10 unless given.

    Raises:
        DataError: where they are neither there nor to be had, with what to do.
    """
    dataset = dataset or _torchvision_cifar10()
    try:
        root.mkdir(parents=True, exist_ok=True)
        parts = {name: dataset(root, train=name == "train", download=True) for name in ("train", "test")}
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"data=cifar10: the files are not in {root.resolve()} and could not be downloaded ({error}). "
            f"Tried {URL}. Without a network: put {ARCHIVE} into that folder yourself, or point data.root to "
            "the folder that has it. data=digits needs no files at all."
        ) from error
    tensors: dict[str, Any] = {}
    for name, part in parts.items():
        tensors[f"{name}_images"] = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        tensors[f"{name}_targets"] = torch.tensor(part.targets)
    return tensors


def _torchvision_cifar10() -> Callable[..., Any]:
    try:
        from torchvision.datasets import CIFAR10
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise DataError(
            f"data=cifar10 is read by torchvision, which cannot be imported here: {error}. "
            "Install it together with torch: pip install --upgrade torch torchvision"
        ) from error
    reader: Callable[..., Any] = CIFAR10
    return reader
