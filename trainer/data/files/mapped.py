"""Arrays in `.npy` files: rows written in any order, then mapped into memory or read in parts."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.on_disk import OnDisk
from trainer.errors import DataError
from trainer.system.cores import cores

PIECE = 1 << 26  # bytes of a file that one thread digests
READ = 1 << 20  # bytes that are read at a time
THREADS = min(8, cores())


class Rows(Protocol):
    """The destination of rows that several threads make, in any order, and that together become one tensor."""

    def put(self, first: int, values: NDArray[Any], index: NDArray[np.int64] | slice) -> None:
        """Write `values[index]` as the rows from `first` on; raise `OSError` where a disk does not take them."""
        ...

    def tensor(self) -> Tensor:
        """Return all rows as one tensor; nothing may be put afterwards."""
        ...


class MemoryRows:
    """Rows in memory, float32 of the given shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._array = np.empty(shape, dtype=np.float32)

    def put(self, first: int, values: NDArray[Any], index: NDArray[np.int64] | slice) -> None:
        """See `Rows.put`."""
        if isinstance(index, slice):
            self._array[first : first + len(values)] = values[index]
        else:  # with mode="raise" numpy would go through a buffer: three times as long
            np.take(values, index, axis=0, out=self._array[first : first + len(index)], mode="clip")

    def tensor(self) -> Tensor:
        """See `Rows.tensor`."""
        return torch.from_numpy(self._array)


class FileRows:
    """Rows in a `.npy` file, float32 of the given shape. Its space is reserved at once: a full disk is noticed here.

    Raises:
        OSError: where there is no space, or the file cannot be made.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._shape, self._dtype = shape, np.dtype(np.float32)
        self._row = int(np.prod(shape[1:], dtype=np.int64)) * self._dtype.itemsize
        self._file = path.open("w+b", buffering=0)
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        if shape[0] * self._row and hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(self._file.fileno(), 0, self._start + shape[0] * self._row)

    def put(self, first: int, values: NDArray[Any], index: NDArray[np.int64] | slice) -> None:
        """See `Rows.put`."""
        rows = values[index] if isinstance(index, slice) else np.take(values, index, axis=0, mode="clip")
        left, offset = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data, self._start + first * self._row
        while left:
            written = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[written:], offset + written

    def tensor(self) -> Tensor:
        """See `Rows.tensor`; the file may have been unlinked meanwhile."""
        with self._file:
            rows = np.memmap(self._file, self._dtype, mode="c", offset=self._start, shape=self._shape)
        return torch.from_numpy(rows)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a whole array to a `.npy` file; raise `OSError` where the disk does not take it."""
    np.save(path, array, allow_pickle=False)


def map_array(path: Path) -> Tensor:
    """Map a `.npy` file into memory: nothing is read until it is used. Writing to the tensor does not change the file.

    Raises:
        OSError, ValueError: where it is no such file.
    """
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def open_array(path: Path) -> OnDisk:
    """Open a `.npy` file, of which only what is asked for is read. The file may be unlinked meanwhile.

    A mapping would do the same, but the system then reads far more around each place, 8 MB on some machines.

    Raises:
        OSError, ValueError: where it is no such file.
        DataError: later, where it cannot be read any more.
    """
    file = path.open("rb", buffering=0)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    begin, row = file.tell(), int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize

    def read(start: int, stop: int) -> Tensor:
        rows = np.empty((stop - start, *shape[1:]), dtype=dtype)
        left, offset = rows.reshape(-1).view(np.uint8).data, begin + start * row
        while left:
            try:
                count = os.preadv(file.fileno(), [left], offset)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror}); resume the run once it can.") from error
            if not count:
                raise DataError(f"{path}: was cut short while it was read; remove {path.parent} and resume the run.")
            left, offset = left[count:], offset + count
        return torch.from_numpy(rows)

    return OnDisk(read, shape)


def digest_files(paths: Sequence[Path]) -> list[str]:
    """Compute the XXH3 digest (128 bits) of the content of each file, which detects a change or damage, not an attack.

    It is ten times as fast as SHA-256, and the pieces of a file are digested in parallel.

    Raises:
        OSError: where one cannot be read.
    """
    pieces = [(path, start) for path in paths for start in range(0, path.stat().st_size or 1, PIECE)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda piece: _digest(*piece), pieces))
    parts: dict[Path, list[bytes]] = {path: [] for path in paths}
    for (path, _), part in zip(pieces, found, strict=True):
        parts[path].append(part)
    return [xxhash.xxh3_128_hexdigest(b"".join(parts[path])) for path in paths]


def _digest(path: Path, start: int) -> bytes:
    state, left = xxhash.xxh3_128(), PIECE
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        buffer = memoryview(bytearray(min(READ, os.fstat(file.fileno()).st_size)))
        while left and (count := file.readinto(buffer[: min(left, READ)])):
            state.update(buffer[:count])
            left -= count
    return state.digest()
