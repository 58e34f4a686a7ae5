"""Fashion-MNIST (H. Xiao, K. Rasul & R. Vollgraf, arXiv:1708.07747), from idx files."""

import gzip
import struct
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from trainer.config.data import FashionMnist
from trainer.data.images import image_data
from trainer.errors import DataError
from trainer.interfaces import Data, Split

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip


def build(config: FashionMnist, seed: int) -> Data:
    """uint8 images (N, 1, 28, 28)."""
    folder = _find(Path(config.root).expanduser())
    train, test = (_split(folder, part) for part in ("train", "t10k"))
    return image_data(config, train, None if config.holds_out else test, CLASSES, seed)


def _split(folder: Path, part: str) -> Split:
    files = (_file(folder, f"{part}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    (_, images), (path, labels) = ((file, read_idx(file, dimensions=d)) for file, d in zip(files, (3, 1), strict=True))
    if len(labels) != len(images) or (labels >= len(CLASSES)).any():
        raise DataError(f"{path}: must hold a class of 0 to 9 for each of the {len(images)} images.")
    return Split(images.unsqueeze(1), labels.long())


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes of an idx file (plain or .gz), as uint8 of the shape that its header gives.

    The format (Y. LeCun's MNIST page): two zero bytes, the type (8: unsigned byte), the number of
    dimensions, one big-endian uint32 for each, then the values.

    Raises:
        DataError: naming the file, when it is not such a file or is cut short.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path}: not an idx file of {dimensions}-dimensional unsigned bytes.")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy())
    if len(values) != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path}: holds {len(values)} values where its header says {'×'.join(map(str, shape))}.")
    return values.view(shape)


def _file(folder: Path, stem: str) -> Path:
    return next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), folder / stem)


def _find(root: Path) -> Path:
    """The folder with the files: `root` itself, or where torchvision puts them, downloading what is missing."""
    raw = root / "FashionMNIST" / "raw"
    for folder in (root, raw):
        if _file(folder, "train-images-idx3-ubyte").is_file():
            return folder
    try:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(root, download=True)
    except (ImportError, URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"data=fashion_mnist: the idx files are not in {root.resolve()} and could not be downloaded ({error}). "
            "Put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
            "t10k-labels-idx1-ubyte.gz there, or point data.root to the folder that has them. "
            "data=digits needs no files at all."
        ) from error
    return raw
