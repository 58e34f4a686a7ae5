"""CIFAR-10: read through torchvision, cached without it, and what to do where it cannot be had."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from trainer import storage
from trainer.config.data import CIFAR10_MEAN, CIFAR10_STD, Cifar10
from trainer.data.augment import Pipeline, Warp
from trainer.data.cifar import CLASSES, URL, read
from trainer.errors import DataError

FILES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
PER_FILE = 20
SECOND_LOAD = """
import sys
from trainer.config.data import Cifar10
data = Cifar10(root="files").build(0)
print(data.description, len(data.train), len(data.val), "torchvision" in sys.modules)
"""


class Bomb:
    """A pickle of this makes a folder when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(autouse=True)
def no_network_and_no_other_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every download goes to a proxy that is not there; the user's own cache is not looked at."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))


def pixels(file: int) -> np.ndarray:
    """Rows as in the original batches: 1,024 red bytes, then green, then blue."""
    return np.random.default_rng(file).integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)


def classes(file: int) -> list[int]:
    return [(file + 3 * i) % 10 for i in range(PER_FILE)]


def write_pickle(path: Path, content: object) -> tuple[str, str]:
    """Write it and return what torchvision lists of a file: its name and MD5."""
    path.write_bytes(pickle.dumps(content))
    return path.name, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def small_cifar(root: Path) -> type[CIFAR10]:
    """Six small batches below `root`, and torchvision's reader with their MD5s instead of the published ones."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    listed = [
        write_pickle(folder / name, {"data": pixels(file), "labels": classes(file)}) for file, name in enumerate(FILES)
    ]
    label_names, md5 = write_pickle(folder / "batches.meta", {"label_names": list(CLASSES)})

    class Small(CIFAR10):
        train_list = listed[:5]
        test_list = listed[5:]
        meta = {"filename": label_names, "key": "label_names", "md5": md5}  # noqa: RUF012

    return Small


def cached_cifar(root: Path) -> dict[str, Any]:
    tensors = read(root, small_cifar(root))
    storage.save(root / ".trainer-cache" / "cifar10", tensors, {})
    return tensors


def test_batches_become_images_in_channel_order(tmp_path: Path) -> None:
    tensors = read(tmp_path, small_cifar(tmp_path))
    train = np.concatenate([pixels(file) for file in range(5)]).reshape(-1, 3, 32, 32)
    assert torch.equal(tensors["train_images"], torch.from_numpy(train))
    assert torch.equal(tensors["test_images"], torch.from_numpy(pixels(5).reshape(-1, 3, 32, 32)))
    assert tensors["train_images"].is_contiguous()


def test_targets_are_the_labels_of_the_batches(tmp_path: Path) -> None:
    tensors = read(tmp_path, small_cifar(tmp_path))
    assert tensors["train_targets"].tolist() == [c for file in range(5) for c in classes(file)]
    assert tensors["test_targets"].tolist() == classes(5)
    assert tensors["train_targets"].dtype == torch.int64


def test_a_batch_with_another_md5_is_never_unpickled(tmp_path: Path) -> None:
    reader = small_cifar(tmp_path)
    write_pickle(tmp_path / CIFAR10.base_folder / "data_batch_3", Bomb(tmp_path / "executed"))
    with pytest.raises(DataError, match="could not be downloaded"):
        read(tmp_path, reader)
    assert not (tmp_path / "executed").exists()


def test_the_published_reader_does_not_open_files_that_are_not_cifar10(tmp_path: Path) -> None:
    small_cifar(tmp_path)
    write_pickle(tmp_path / CIFAR10.base_folder / "data_batch_1", Bomb(tmp_path / "executed"))
    with pytest.raises(DataError, match="could not be downloaded"):
        Cifar10(root=str(tmp_path)).build(0)
    assert not (tmp_path / "executed").exists()


def test_data_comes_from_the_cache(tmp_path: Path) -> None:
    tensors = cached_cifar(tmp_path)
    data = Cifar10(root=str(tmp_path)).build(0)
    assert data.description == "decoded cache"
    assert torch.equal(data.train.inputs, tensors["train_images"])
    assert torch.equal(data.val.targets, tensors["test_targets"])
    assert (data.spec.input_shape, data.spec.outputs, data.spec.labels) == ((3, 32, 32), 10, CLASSES)


def test_the_official_test_images_validate_unless_a_fraction_is_held_out(tmp_path: Path) -> None:
    cached_cifar(tmp_path)
    official, held_out = (Cifar10(root=str(tmp_path), val_fraction=f).build(0) for f in (0.0, 0.1))
    assert (len(official.train), len(official.val)) == (5 * PER_FILE, PER_FILE)
    assert (len(held_out.train), len(held_out.val)) == (4.5 * PER_FILE, 0.5 * PER_FILE)


def test_the_published_moments_and_the_augmentation_are_the_default(tmp_path: Path) -> None:
    cached_cifar(tmp_path)
    data = Cifar10(root=str(tmp_path)).build(0)
    assert (data.prepare.mean, data.prepare.std) == (CIFAR10_MEAN, CIFAR10_STD)
    assert isinstance(data.augment, Pipeline)
    assert data.augment.stages == (Warp("random", 10),)


def test_a_second_load_neither_imports_torchvision_nor_unpickles(tmp_path: Path) -> None:
    cached_cifar(tmp_path / "files")
    for name in FILES:
        write_pickle(tmp_path / "files" / CIFAR10.base_folder / name, Bomb(tmp_path / "executed"))
    result = subprocess.run(
        [sys.executable, "-c", SECOND_LOAD], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == f"decoded cache {5 * PER_FILE} {PER_FILE} False"
    assert not (tmp_path / "executed").exists()


def test_a_damaged_cache_is_not_trusted(tmp_path: Path) -> None:
    cached_cifar(tmp_path)
    state = tmp_path / ".trainer-cache" / "cifar10" / "state.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(DataError, match="could not be downloaded"):
        Cifar10(root=str(tmp_path)).build(0)


def test_missing_files_without_a_network_are_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Cifar10(root=str(tmp_path / "nothing")).build(0)
    for words in (str(tmp_path / "nothing"), URL, "cifar-10-python.tar.gz", "data.root", "data=digits"):
        assert words in str(caught.value)


def test_a_root_that_cannot_be_made_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="data=digits"):
        Cifar10(root=str(tmp_path / "file" / "data")).build(0)
