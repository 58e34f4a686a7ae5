"""CIFAR-10 and CIFAR-100: which files are opened, what they become, and what to do where they cannot be had."""

import hashlib
import os
import pickle
import shutil
import tarfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import run_python
from torchvision import datasets as theirs

from trainer.checkpoint import durable
from trainer.config.datasets import CIFAR10_MEAN, CIFAR10_STD, Cifar10, Cifar100
from trainer.data.datasets.cifar import CIFAR10, CIFAR100, IMAGES, CifarFiles, read_cifar, unpickled
from trainer.data.files.download import Remote
from trainer.data.images.augment import Pipeline, Warp
from trainer.errors import DataError
from trainer.runs.build import build_data

PER_FILE = 20
SECOND_LOAD = """
import sys
from trainer.config.datasets import Cifar10
from trainer.runs.build import build_data
data = build_data(Cifar10(root="files"), 0)
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


def write_pickle(path: Path, content: object) -> str:
    """Write it, and return its MD5."""
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def small(root: Path, source: CifarFiles = CIFAR10, packed: bool = False) -> CifarFiles:
    """Files of 20 images each, below `root`; and the set with their MD5s instead of the published ones."""
    folder = root / source.folder
    folder.mkdir(parents=True)

    def batches(names: dict[str, str], first: int) -> dict[str, str]:
        return {
            name: write_pickle(folder / name, {"data": pixels(file), source.labels: classes(file)})
            for file, name in enumerate(names, first)
        }

    train, test = batches(source.train, 0), batches(source.test, 5)
    (meta,) = source.meta
    names = {meta: write_pickle(folder / meta, {source.names: [f"class {i}" for i in range(10)]})}
    archive = replace(source.archive, digest="md5:none", urls=())
    if packed:
        path = root / source.archive.name
        with tarfile.open(path, "w:gz") as file:
            file.add(folder, source.folder)
        archive = Remote(path.name, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", ())
        for name in train | test | names:
            (folder / name).unlink()
    return replace(source, archive=archive, train=train, test=test, meta=names)


def cached_cifar(root: Path) -> dict[str, Any]:
    tensors = read_cifar(root, small(root))
    durable.save_durably(root / ".trainer-cache" / "cifar10-named", tensors, {})
    return tensors


@pytest.mark.parametrize(("ours", "published"), [(CIFAR10, theirs.CIFAR10), (CIFAR100, theirs.CIFAR100)])
def test_the_published_digests_are_those_of_torchvision(ours: CifarFiles, published: Any) -> None:
    assert ours.archive == Remote(published.filename, f"md5:{published.tgz_md5}", (published.url,))
    assert ours.folder == published.base_folder
    assert list(ours.train.items()) == [tuple(entry) for entry in published.train_list]
    assert list(ours.test.items()) == [tuple(entry) for entry in published.test_list]
    assert ours.meta == {published.meta["filename"]: published.meta["md5"]}
    assert ours.names == published.meta["key"]


@pytest.mark.parametrize("packed", [False, True])
def test_batches_become_images_in_channel_order(tmp_path: Path, packed: bool) -> None:
    tensors = read_cifar(tmp_path, small(tmp_path, packed=packed))
    train = np.concatenate([pixels(file) for file in range(5)]).reshape(-1, 3, 32, 32)
    assert torch.equal(tensors["train_images"], torch.from_numpy(train))
    assert torch.equal(tensors["test_images"], torch.from_numpy(pixels(5).reshape(-1, 3, 32, 32)))
    assert tensors["train_images"].is_contiguous()


@pytest.mark.parametrize("packed", [False, True])
def test_targets_are_the_labels_of_the_batches(tmp_path: Path, packed: bool) -> None:
    tensors = read_cifar(tmp_path, small(tmp_path, packed=packed))
    assert tensors["train_targets"].tolist() == [c for file in range(5) for c in classes(file)]
    assert tensors["test_targets"].tolist() == classes(5)
    assert tensors["train_targets"].dtype == torch.int64
    assert tensors["labels"] == [f"class {i}" for i in range(10)]


@pytest.mark.parametrize("packed", [False, True])
def test_cifar100_has_its_fine_classes(tmp_path: Path, packed: bool) -> None:
    tensors = read_cifar(tmp_path, small(tmp_path, CIFAR100, packed))
    assert torch.equal(tensors["train_images"], torch.from_numpy(pixels(0).reshape(-1, 3, 32, 32)))
    assert tensors["train_targets"].tolist() == classes(0)
    assert tensors["test_targets"].tolist() == classes(5)


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    """As the published ones are written: protocol 2, text and arrays as strings of bytes."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    by_python_3 = pickle.dumps({"data": array}, protocol=2)
    assert b"_codecs" in by_python_3
    raw = array.tobytes()
    by_python_2 = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(raw)])
        + raw
        + b"tbu."
    )
    for content in (by_python_3, by_python_2):
        assert np.array_equal(unpickled(content)["data"], array)


def test_a_batch_with_another_md5_is_never_unpickled(tmp_path: Path) -> None:
    source = small(tmp_path)
    write_pickle(tmp_path / CIFAR10.folder / "data_batch_3", Bomb(tmp_path / "executed"))
    with pytest.raises(DataError, match="not as published: "):
        read_cifar(tmp_path, source)
    assert not (tmp_path / "executed").exists()


def test_the_published_digests_do_not_open_files_that_are_not_cifar10(tmp_path: Path) -> None:
    small(tmp_path, packed=True)
    with pytest.raises(DataError, match="is not the published file"):
        build_data(Cifar10(root=str(tmp_path)), 0)


@pytest.mark.parametrize("content", ["bomb", "dict", "ordered"])
def test_even_a_pickle_with_the_right_digest_makes_nothing_but_arrays(tmp_path: Path, content: str) -> None:
    source = small(tmp_path)
    value = {"bomb": Bomb(tmp_path / "executed"), "dict": {"data": os.system}, "ordered": OrderedDict(a=1)}[content]
    digest = write_pickle(tmp_path / CIFAR10.folder / "data_batch_3", value)
    with pytest.raises(DataError, match="it asks for"):
        read_cifar(tmp_path, replace(source, train=source.train | {"data_batch_3": digest}))
    assert not (tmp_path / "executed").exists()


def test_data_comes_from_the_cache(tmp_path: Path) -> None:
    tensors = cached_cifar(tmp_path)
    data = build_data(Cifar10(root=str(tmp_path)), 0)
    assert data.description == "decoded cache"
    assert torch.equal(data.train.inputs, tensors["train_images"])
    assert torch.equal(data.val.targets, tensors["test_targets"])
    assert (data.spec.input_shape, data.spec.outputs, data.spec.labels) == (
        (3, 32, 32),
        10,
        tuple(f"class {i}" for i in range(10)),
    )


def test_the_official_test_images_validate_unless_a_fraction_is_held_out(tmp_path: Path) -> None:
    cached_cifar(tmp_path)
    official, held_out = (build_data(Cifar10(root=str(tmp_path), val_fraction=f), 0) for f in (0.0, 0.1))
    assert (len(official.train), len(official.val)) == (5 * PER_FILE, PER_FILE)
    assert (len(held_out.train), len(held_out.val)) == (4.5 * PER_FILE, 0.5 * PER_FILE)


def test_the_published_moments_and_the_augmentation_are_the_default(tmp_path: Path) -> None:
    cached_cifar(tmp_path)
    data = build_data(Cifar10(root=str(tmp_path)), 0)
    assert (data.prepare.mean, data.prepare.std) == (CIFAR10_MEAN, CIFAR10_STD)
    assert isinstance(data.augment, Pipeline)
    assert data.augment.stages == (Warp("random", 10),)


def test_a_second_load_neither_imports_torchvision_nor_unpickles(tmp_path: Path) -> None:
    cached_cifar(tmp_path / "files")
    for name in CIFAR10.train | CIFAR10.test:
        write_pickle(tmp_path / "files" / CIFAR10.folder / name, Bomb(tmp_path / "executed"))
    result = run_python(tmp_path, "-c", SECOND_LOAD)
    assert result.stdout.strip() == f"decoded cache {5 * PER_FILE} {PER_FILE} False"
    assert not (tmp_path / "executed").exists()


def test_a_damaged_cache_is_not_trusted(tmp_path: Path) -> None:
    cached_cifar(tmp_path)
    state = tmp_path / ".trainer-cache" / "cifar10-named" / "state.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(DataError, match="not as published: "):
        build_data(Cifar10(root=str(tmp_path)), 0)


@pytest.mark.parametrize(("dataset", "source"), [(Cifar10, CIFAR10), (Cifar100, CIFAR100)])
def test_missing_files_without_a_network_are_an_error_with_a_way_out(
    tmp_path: Path, dataset: type, source: CifarFiles
) -> None:
    with pytest.raises(DataError) as caught:
        build_data(dataset(root=str(tmp_path / "nothing")), 0)
    for words in (str(tmp_path / "nothing"), *source.archive.urls, source.archive.name, "data.root", "data=digits"):
        assert words in str(caught.value)


def test_a_root_that_cannot_be_made_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="data=digits"):
        build_data(Cifar10(root=str(tmp_path / "file" / "data")), 0)


def test_files_put_there_by_hand_are_found_and_named_before_any_download(tmp_path: Path) -> None:
    source = small(tmp_path / "d")
    expected = read_cifar(tmp_path / "d", source)
    inner = tmp_path / "d" / source.folder
    shutil.copytree(inner, tmp_path / "e" / source.folder / source.folder)  # unpacked into a folder of its name
    for root in (inner, tmp_path / "e", tmp_path / "e" / source.folder):
        found = read_cifar(root, source)
        assert torch.equal(found["train_images"], expected["train_images"]), root
    (inner / "data_batch_5").unlink()
    (inner / "data_batch_2").write_bytes(b"x")
    with pytest.raises(DataError, match="has 6 of 7 files of the dataset; missing: data_batch_5; not as"):
        read_cifar(tmp_path / "d", source)


def test_the_version_for_c_programs_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMAGES, "batch", PER_FILE)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [*CIFAR10.train, *CIFAR10.test]
    for i, name in enumerate(names):
        rows = np.concatenate([np.array(classes(i), np.uint8)[:, None], pixels(i)], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    with pytest.raises(DataError, match=r"has 6 of 7 files of the dataset; missing: batches\.meta\.txt"):
        read_cifar(tmp_path, CIFAR10)
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    read = read_cifar(tmp_path, CIFAR10)
    assert read["labels"] == list("abcdefghij")
    assert torch.equal(read["train_images"][:PER_FILE].flatten(1), torch.from_numpy(pixels(0)))
    assert read["test_targets"].tolist() == classes(5)
    os.truncate(folder / "data_batch_3.bin", 3073)
    with pytest.raises(DataError, match=r"not as published: data_batch_3\.bin"):
        read_cifar(tmp_path, CIFAR10)
