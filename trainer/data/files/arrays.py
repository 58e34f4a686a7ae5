"""Reading named arrays from .npz, .safetensors and idx files, which can run no code."""

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib.format import read_array, read_array_header_1_0, read_array_header_2_0, read_magic
from torch import Tensor

from trainer.data.files.idx import read_idx
from trainer.errors import DataError

KINDS = ".npz, .npy, .safetensors, or idx (…-ubyte, …-ubyte.gz)"


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in a file; [""] for .npy and idx, which have one array without a name.

    Raises:
        DataError: where it is no file of these kinds.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    match path.suffix.lower():
        case ".npz":
            with _open_npz(path) as archive:
                return [name.removesuffix(".npy") for name in archive.namelist()]
        case ".safetensors":
            return _safetensors(path, None)[0]
        case ".npy":
            return [""]
        case _ if "ubyte" in path.name or path.suffix.lower() in (".idx", ".gz"):
            return [""]
    raise DataError(f"{path}: not a kind of file that is read here: {KINDS}.")


def load_array(path: Path, name: str) -> Tensor | list[str]:
    """Read one array of a file, of whatever dtype and shape it has there; a column of text as a list.

    Raises:
        DataError: where it is damaged, holds anything but numbers or a column of text, or is larger than memory.
    """
    match path.suffix.lower():
        case ".npz":
            return _load_npz(path, name)
        case ".npy":
            try:
                with path.open("rb") as file:
                    _examine(file)
                    file.seek(0)
                    array = read_array(file, allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise _damaged(path, str(error)) from error
            return _as_tensor(array, path, "its array")
        case ".safetensors":
            tensor = _safetensors(path, name)[1]
            assert tensor is not None
            return tensor
    return read_idx(path)


def _load_npz(path: Path, name: str) -> Tensor | list[str]:
    with _open_npz(path) as archive:
        try:
            with archive.open(f"{name}.npy") as file:
                _examine(file)
            with archive.open(f"{name}.npy") as file:
                array = read_array(file, allow_pickle=False)
        except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, KeyError) as error:
            raise _damaged(path, f"array '{name}': {error}") from error
    return _as_tensor(array, path, f"array '{name}'")


def _as_tensor(array: np.ndarray, path: Path, what: str) -> Tensor | list[str]:
    if array.dtype.kind in "US" and array.ndim > 0 and array.size == len(array):
        texts = array.reshape(-1).tolist()
        return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts]
    try:
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.ascontiguousarray(native))
    except TypeError as error:
        raise DataError(f"{path}: {what} has values of type {array.dtype}, which are no numbers.") from error


def _open_npz(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _damaged(path, str(error)) from error


def _examine(file: IO[bytes]) -> None:
    """Raise `ValueError` for an array that could be opened only by running code, or with more memory than there is."""
    version = read_magic(file)
    read = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded: opening them can run code")
    needed, there = math.prod(shape) * dtype.itemsize, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if min(shape, default=0) < 0 or needed > there:
        raise ValueError(f"it claims {needed:,} bytes, more than this machine has memory")


def _safetensors(path: Path, name: str | None) -> tuple[list[str], Tensor | None]:
    """Return the names of all arrays, and the array `name`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys()), None if name is None else file.get_tensor(name)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: cannot be read ({' '.join(reason.split())[:200]}).")
