"""The handwritten digits that the package ships.

UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin & C. Kaynak, 1998, doi:10.24432/C50P49),
licensed CC BY 4.0: its 1,797 test images, 8×8, each pixel a count of 0 to 16.
"""

import gzip
from importlib.resources import files

import numpy as np
import torch

from trainer.config.data import Digits
from trainer.data.images.image_data import make_image_data
from trainer.data.types import Data, Split


def load_digits(config: Digits, seed: int) -> Data:
    """Load uint8 images (N, 1, 8, 8); the pixel counts of 0 to 16 are scaled to 0 ... 255."""
    with files("trainer.data.datasets").joinpath("digits.csv.gz").open("rb") as packed, gzip.open(packed, "rt") as text:
        table = torch.from_numpy(np.loadtxt(text, delimiter=",", dtype=np.int64))
    images = (table[:, :64].view(-1, 1, 8, 8) * 255 // 16).to(torch.uint8)
    whole = Split(images, table[:, 64].contiguous())
    return make_image_data(config, whole, None, tuple(map(str, range(10))), seed)
