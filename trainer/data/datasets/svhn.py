"""SVHN, cropped (Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.config.datasets import Published
from trainer.data.files.cache import cached
from trainer.data.files.download import Remote, datasets_folder, fetch
from trainer.data.images.image_data import make_image_data
from trainer.data.types import Data, Split
from trainer.errors import DataError

ADDRESS = "http://ufldl.stanford.edu/housenumbers/"
FILES = {
    part: Remote(name, f"md5:{digest}", (ADDRESS + name,))
    for part, name, digest in (
        ("train", "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        ("test", "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    )
}


def load_svhn(config: Published, seed: int) -> Data:
    """Load uint8 images (N, 3, 32, 32), from the cache after the first time.

    Args:
        config: says in which folder the files are, and how images are augmented, normalised and split.
        seed: of the run.

    Raises:
        DataError: see `read_svhn`.
    """
    folder = datasets_folder(config.root)
    tensors, hit = cached(folder, "svhn", lambda: read_svhn(folder, FILES))
    train, test = (Split(tensors[f"{part}_images"], tensors[f"{part}_targets"]) for part in ("train", "test"))
    official = None if config.holds_out else test
    return make_image_data(config, train, official, tuple("0123456789"), seed, "decoded cache" if hit else "")


def read_svhn(folder: Path, files: dict[str, Remote]) -> dict[str, Any]:
    """Read the two MATLAB files, downloaded where they are missing; class 10 of the files is the digit 0.

    Returns:
        For the cache: images uint8 (N, 3, 32, 32) and targets int64 (N,) of the train and the test split.

    Raises:
        DataError: where they are neither there nor can be downloaded, or SciPy, which reads them, is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(
            f"data=svhn: its files are MATLAB's, which SciPy reads, and SciPy cannot be imported here ({error}). "
            "Install it: pip install scipy"
        ) from error
    tensors: dict[str, Any] = {}
    for part, remote in files.items():
        content = loadmat(fetch(remote, folder))
        tensors[f"{part}_images"] = torch.from_numpy(np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)))
        tensors[f"{part}_targets"] = torch.from_numpy(content["y"][:, 0].astype(np.int64) % 10)
    return tensors
