"""Reading idx files, the format of MNIST and of datasets made to replace it."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.errors import DataError

UNSIGNED_BYTE = 8
LARGEST = 1 << 34  # bytes that a packed file may unpack to


def read_idx(path: Path, dimensions: int | None = None) -> Tensor:
    """Read an idx file of bytes, plain or .gz, as a uint8 tensor of the shape that its header gives.

    The format (Y. LeCun's MNIST page): two zero bytes, the type (8: unsigned byte), the number of
    dimensions, one big-endian uint32 for each, then the values.

    Args:
        path: the file.
        dimensions: how many dimensions there must be; None: any number.

    Raises:
        DataError: naming the file, where it is not such a file or is cut short.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            start = file.read(4)
            count = dimensions or (start[3] if len(start) == 4 else 0)
            if start != bytes([0, 0, UNSIGNED_BYTE, count]) or not count:
                of = f"{dimensions}-dimensional " if dimensions else ""
                raise DataError(f"{path}: not an idx file of {of}unsigned bytes.")
            sizes = file.read(4 * count)
            shape = struct.unpack(f">{count}I", sizes) if len(sizes) == 4 * count else (LARGEST,)
            wanted = math.prod(shape)
            # Never more than the header says, and never at once what only the header says.
            content = file.read(min(wanted, LARGEST) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Repair it, or remove it to have it downloaded.") from error
    if len(content) != wanted:
        much = f"more than {wanted}" if len(content) > wanted else str(len(content))
        raise DataError(f"{path}: holds {much} values where its header says {'×'.join(map(str, shape))}.")
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).view(shape)
