"""Arrays in files as a dataset: what is found in them, what it becomes, and which files are refused."""

import contextlib
import gzip
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor

from trainer.config.datasets import Tensors
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError, TrainerError
from trainer.runs.build import build_data

N = 40
GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (N, 8, 9), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (N, 8, 9, 3), dtype=np.uint8)
ROWS = GENERATOR.normal(size=(N, 5)).astype(np.float32)
CLASSES = np.arange(N) % 4
NUMBERS = GENERATOR.normal(size=N)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def safetensors(path: Path, **arrays: Any) -> Path:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


WRITERS = {".npz": npz, ".safetensors": safetensors}


def build(path: Path, **keys: Any) -> Data:
    return build_data(Tensors(path=str(path), **keys), 0)


def together(data: Data) -> tuple[Tensor, Tensor]:
    """All samples and targets in the order of the file."""
    parts = (data.train, data.val)
    order = torch.cat([part.rows for part in parts]).argsort()
    return tuple(torch.cat([getattr(part, name) for part in parts])[order] for name in ("inputs", "targets"))


def message(path: Path, kind: type[TrainerError], **keys: Any) -> str:
    with pytest.raises(kind) as caught:
        build(path, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", WRITERS)
def test_bytes_of_two_sides_are_images(tmp_path: Path, suffix: str) -> None:
    data = build(WRITERS[suffix](tmp_path / f"a{suffix}", x=GREY, y=CLASSES))
    inputs, targets = together(data)
    assert torch.equal(inputs, torch.from_numpy(GREY).unsqueeze(1))
    assert targets.tolist() == CLASSES.tolist()
    assert (data.spec.input_shape, data.spec.labels) == ((1, 8, 9), ("0", "1", "2", "3"))
    assert (len(data.train), len(data.val)) == (32, 8)
    assert data.prepare(data.train.inputs).mean().abs() < 1e-5, "normalised as measured"


@pytest.mark.parametrize(
    ("layout", "array"), [("auto", COLOUR), ("auto", COLOUR.transpose(0, 3, 1, 2)), ("nhwc", COLOUR)]
)
@pytest.mark.parametrize("suffix", WRITERS)
def test_channels_may_come_last_or_first(tmp_path: Path, suffix: str, layout: str, array: np.ndarray) -> None:
    data = build(WRITERS[suffix](tmp_path / f"a{suffix}", x=array, y=CLASSES), layout=layout)
    assert torch.equal(together(data)[0], torch.from_numpy(COLOUR).permute(0, 3, 1, 2))


def test_where_both_could_be_channels_the_layout_is_asked_for(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=COLOUR[:, :3], y=CLASSES)
    assert "data.layout=nchw" in message(path, ConfigError)
    assert build(path, layout="nhwc").spec.input_shape == (3, 3, 9)
    assert build(path, layout="nchw").spec.input_shape == (3, 9, 3)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int16, np.uint8, np.bool_, ">f8", ">i4"])
def test_rows_of_numbers_are_features(tmp_path: Path, suffix: str, kind: Any) -> None:
    rows = (ROWS * 10).astype(kind)
    path = WRITERS[suffix](tmp_path / f"a{suffix}", features=rows, labels=CLASSES)
    inputs, _ = together(build(path))
    assert inputs.dtype == torch.float32
    assert np.array_equal(inputs.numpy(), rows.astype(np.float32))


@pytest.mark.parametrize("targets", [NUMBERS, NUMBERS[:, None], np.stack([NUMBERS, -NUMBERS], 1)])
@pytest.mark.parametrize("inputs", [ROWS, GREY], ids=["features", "images"])
def test_numbers_are_predicted(tmp_path: Path, inputs: np.ndarray, targets: np.ndarray) -> None:
    data = build(npz(tmp_path / "a.npz", x=inputs, y=targets))
    assert data.spec.labels is None
    assert data.spec.outputs == (2 if targets.ndim == 2 and targets.shape[1] == 2 else 1)
    torch.testing.assert_close(together(data)[1], torch.from_numpy(targets).float().view(N, -1))


def test_classes_may_have_names(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=ROWS, y=CLASSES)
    assert build(path, classes=list("abcd")).spec.labels == tuple("abcd")
    assert "has class 3 and 3 classes" in message(path, DataError, classes=list("abc"))
    numbers = npz(tmp_path / "b.npz", x=ROWS, y=NUMBERS)
    assert "data.classes is given" in message(numbers, ConfigError, classes=list("ab"))


def test_arrays_to_validate_on_are_found_beside_the_others(tmp_path: Path) -> None:
    arrays = {"x_train": ROWS[:30], "y_train": CLASSES[:30], "x_test": ROWS[30:], "y_test": CLASSES[30:]}
    path = npz(tmp_path / "mnist.npz", **arrays)
    data = build(path)
    assert np.array_equal(data.train.inputs.numpy(), ROWS[:30])
    assert np.array_equal(data.val.inputs.numpy(), ROWS[30:])
    assert data.val.targets.tolist() == CLASSES[30:].tolist()
    held_out = build(path, val_fraction=0.1)
    assert (len(held_out.train), len(held_out.val)) == (27, 3)


def test_arrays_of_any_name_are_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", faces=GREY, ages=NUMBERS, more=GREY[:4], older=NUMBERS[:4])
    text = message(path, ConfigError)
    assert text.startswith("data.inputs is needed: which array of")
    assert "faces, ages, more, older" in text
    assert "Did you mean 'faces'?" in message(path, ConfigError, inputs="face")
    assert "data.targets is needed" in message(path, ConfigError, inputs="faces")
    data = build(path, inputs="faces", targets="ages", val_inputs="more", val_targets="older")
    assert (len(data.train), len(data.val)) == (N, 4)


def test_targets_and_validation_may_be_in_files_of_their_own(tmp_path: Path) -> None:
    paths = {
        "path": npz(tmp_path / "a.npz", x=ROWS),
        "targets_path": safetensors(tmp_path / "b.safetensors", y=CLASSES),
        "val_path": npz(tmp_path / "c.npz", x=ROWS[:7]),
        "val_targets_path": npz(tmp_path / "d.npz", y=CLASSES[:7]),
    }
    data = build_data(Tensors(**{key: str(path) for key, path in paths.items()}), 0)
    assert (len(data.train), len(data.val)) == (N, 7)
    assert data.val.targets.tolist() == CLASSES[:7].tolist()


def idx(path: Path, values: np.ndarray) -> Path:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("end", ["-ubyte", "-ubyte.gz", ".idx"])
def test_idx_files_come_in_pairs(tmp_path: Path, end: str) -> None:
    paths = {
        "path": idx(tmp_path / f"train-images{end}", GREY),
        "targets_path": idx(tmp_path / f"train-labels{end}", CLASSES.astype(np.uint8)),
        "val_path": idx(tmp_path / f"test-images{end}", GREY[:9]),
        "val_targets_path": idx(tmp_path / f"test-labels{end}", CLASSES[:9].astype(np.uint8)),
    }
    data = build_data(Tensors(augment=True, **{key: str(path) for key, path in paths.items()}), 0)
    assert torch.equal(data.train.inputs[:, 0], torch.from_numpy(GREY))
    assert torch.equal(data.val.inputs[:, 0], torch.from_numpy(GREY[:9]))
    assert data.val.targets.tolist() == CLASSES[:9].tolist()
    assert data.augment is not None


def test_images_are_augmented_and_features_are_not(tmp_path: Path) -> None:
    assert build(npz(tmp_path / "a.npz", x=GREY, y=CLASSES), augment=True, mixup=0.2).mix is not None
    assert "data.augment=true: needs images" in message(
        npz(tmp_path / "b.npz", x=ROWS, y=CLASSES), ConfigError, augment=True
    )


class Bomb:
    """A pickle of this makes a folder when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=np.array([Bomb(tmp_path / "executed")] * N, dtype=object), y=CLASSES)
    assert "it holds Python objects" in message(path, DataError)
    assert not (tmp_path / "executed").exists()


def test_an_array_that_claims_more_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    assert "more than this machine has memory" in message(tmp_path / "a.npz", DataError)


def changed(array: np.ndarray, row: int, value: float) -> np.ndarray:
    other = array.copy()
    other[row] = value
    return other


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "not finite": ({"x": changed(ROWS, 7, np.nan), "y": CLASSES}, "array 'x': row 7 (of 40, from 0) is not finite"),
    "infinite target": ({"x": ROWS, "y": changed(NUMBERS, 3, np.inf)}, "array 'y': row 3 (of 40, from 0) is"),
    "too large for float32": ({"x": ROWS.astype(float) * 1e200, "y": CLASSES}, "is not finite"),
    "complex": ({"x": ROWS + 1j, "y": CLASSES}, "complex"),
    "complex targets": ({"x": ROWS, "y": NUMBERS + 1j}, "array 'y'"),
    "text": ({"x": np.array([["a"]] * N), "y": CLASSES}, "takes numbers"),
    "negative class": ({"x": ROWS, "y": CLASSES - 1}, "classes are numbers from 0 on"),
    "absurd class": ({"x": ROWS, "y": CLASSES * 10**9}, "has class 3000000000"),
    "one class": ({"x": ROWS, "y": CLASSES * 0}, "has class 0 and 1 class;"),
    "fewer targets": ({"x": ROWS, "y": CLASSES[:-1]}, "array 'y': has the shape (39), for 40 samples"),
    "several classes each": ({"x": ROWS, "y": np.stack([CLASSES] * 2, 1)}, "one class for each sample"),
    "a single number": ({"x": np.float32(3), "y": CLASSES}, "one row for each sample"),
    "no rows": ({"x": ROWS[:0], "y": CLASSES[:0]}, "'y'"),
    "no columns": ({"x": CLASSES.astype(float), "y": CLASSES}, "array 'x': has the shape (40)"),
    "another width to validate on": (
        {"x": ROWS, "y": CLASSES, "x_val": ROWS[:5, :3], "y_val": CLASSES[:5]}, "array 'x_val': has the shape (5, 3)"
    ),
    "another type to validate on": (
        {"x": GREY, "y": CLASSES, "x_val": GREY[:5] / 2, "y_val": CLASSES[:5]}, "the type torch.float64"
    ),
    "numbers to validate classes on": (
        {"x": ROWS, "y": CLASSES, "x_val": ROWS[:5], "y_val": CLASSES[:5].astype(float)}, "array 'y'"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "words"), WRONG.values(), ids=WRONG.keys())
def test_arrays_that_cannot_be_learned_from_are_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    text = message(npz(tmp_path / "a.npz", **arrays), DataError)
    assert str(tmp_path / "a.npz") in text
    assert words in text


@pytest.mark.parametrize("suffix", WRITERS)
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}", x=ROWS, y=CLASSES)
    whole = path.read_bytes()
    for content in (b"", b"nothing of the kind" * 9, whole[: len(whole) // 2], whole[:-1], b"\xff" * 8 + whole[8:]):
        path.write_bytes(content)
        assert str(path) in message(path, DataError)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_flipped_byte_gives_data_or_the_error_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}", x=ROWS, y=CLASSES)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(DataError, ConfigError):  # and no other
            build(path)


@pytest.mark.parametrize("name", ["a.pt", "a.pkl", "a"])
def test_other_kinds_of_files_are_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "not a kind of file that is read here" in message(tmp_path / name, DataError)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "a.npz", DataError)
    with pytest.raises(ConfigError, match=r"data\.path is needed"):
        build_data(Tensors(), 0)
