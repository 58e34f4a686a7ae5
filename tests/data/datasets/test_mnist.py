"""MNIST and Fashion-MNIST from idx files: where they are looked for, what they hold, and which files are refused."""

import gzip
import re
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainer.config.datasets import FashionMnist, Mnist
from trainer.data.datasets.mnist import FASHION_MNIST, MNIST
from trainer.data.files.idx import read_idx
from trainer.errors import DataError
from trainer.runs.build import build_data

SIZES = {"train": 30, "t10k": 20}


def images(part: str) -> Tensor:
    generator = torch.Generator().manual_seed(SIZES[part])
    return torch.randint(0, 256, (SIZES[part], 28, 28), dtype=torch.uint8, generator=generator)


def labels(part: str) -> Tensor:
    return (torch.arange(SIZES[part]) * 7 % 10).to(torch.uint8)


def idx(values: Tensor) -> bytes:
    """As the authors' files are: magic number, sizes, bytes."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.numpy().tobytes()


def write_all(folder: Path, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in SIZES:
        for name, values in (("images-idx3-ubyte", images(part)), ("labels-idx1-ubyte", labels(part))):
            content = idx(values)
            (folder / f"{part}-{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download goes to a proxy that is not there."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_files_are_found_flat_and_as_torchvision_lays_them_out(tmp_path: Path, layout: str, packed: bool) -> None:
    write_all(tmp_path / layout, packed)
    data = build_data(FashionMnist(root=str(tmp_path)), 0)
    for split, part in ((data.train, "train"), (data.val, "t10k")):
        assert torch.equal(split.inputs, images(part).unsqueeze(1))
        assert torch.equal(split.targets, labels(part).long())
    assert data.spec.input_shape == (1, 28, 28)
    assert data.spec.labels == FASHION_MNIST.classes
    assert data.spec.class_counts == (3,) * 10


def test_dotted_names_and_a_folder_of_their_own_are_found(tmp_path: Path) -> None:
    """As some unpackers write them."""
    write_all(tmp_path / "fashion", packed=False)
    for path in list((tmp_path / "fashion").iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    data = build_data(FashionMnist(root=str(tmp_path)), 0)
    assert torch.equal(data.train.inputs, images("train").unsqueeze(1))
    with pytest.raises(DataError, match=r"MNIST/raw/train-images-idx3-ubyte\.gz: it is not there"):
        build_data(Mnist(root=str(tmp_path)), 0)  # whose files have the same names


def test_plain_and_packed_files_may_be_mixed(tmp_path: Path) -> None:
    write_all(tmp_path, packed=True)
    packed = tmp_path / "t10k-images-idx3-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert torch.equal(build_data(FashionMnist(root=str(tmp_path)), 0).val.inputs[:, 0], images("t10k"))


def test_a_fraction_holds_out_training_images(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    data = build_data(FashionMnist(root=str(tmp_path), val_fraction=0.2), 0)
    assert (len(data.train), len(data.val)) == (24, 6)
    held_out_from = images("train").flatten(1)
    assert all((held_out_from == image.flatten()).all(1).any() for image in data.val.inputs)


def test_normalisation_is_measured_on_the_training_images(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    data = build_data(FashionMnist(root=str(tmp_path)), 0)
    assert data.prepare(data.train.inputs).double().mean().abs() < 1e-5


def cut(content: bytes) -> bytes:
    return content[:-1]


def cut_to_the_header(content: bytes) -> bytes:
    return content[:7]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def as_floats(content: bytes) -> bytes:
    return content[:2] + b"\x0d" + content[3:]


def other_dimensions(content: bytes) -> bytes:
    return content[:3] + b"\x02" + content[4:]


def empty(content: bytes) -> bytes:
    return content[:0]


@pytest.mark.parametrize("damage", [cut, cut_to_the_header, lengthen, as_floats, other_dimensions, empty])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stem", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_file_that_is_not_as_it_should_be_is_named(tmp_path: Path, stem: str, packed: bool, damage: object) -> None:
    write_all(tmp_path, packed)
    path = tmp_path / f"{stem}{'.gz' * packed}"
    content = path.read_bytes()
    path.write_bytes(gzip.compress(damage(gzip.decompress(content))) if packed else damage(content))
    with pytest.raises(DataError, match=str(path)):
        build_data(FashionMnist(root=str(tmp_path)), 0)


@pytest.mark.parametrize("place", [0, 2, 15, 60, 2000, -6, -1])
def test_a_flipped_byte_in_a_packed_file_is_noticed(tmp_path: Path, place: int) -> None:
    write_all(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        build_data(FashionMnist(root=str(tmp_path)), 0)


def test_a_packed_file_cut_short_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, packed=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=str(path)):
        build_data(FashionMnist(root=str(tmp_path)), 0)


@pytest.mark.usefixtures("no_network")
def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        build_data(FashionMnist(root=str(tmp_path)), 0)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels("t10k")))
    with pytest.raises(DataError, match=str(tmp_path)):
        build_data(FashionMnist(root=str(tmp_path)), 0)


def test_values_of_the_header_give_the_shape(tmp_path: Path) -> None:
    values = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    (tmp_path / "x").write_bytes(idx(values))
    assert torch.equal(read_idx(tmp_path / "x", dimensions=3), values)


def test_mnist_is_read_likewise_and_is_not_mirrored(tmp_path: Path) -> None:
    write_all(tmp_path / "MNIST" / "raw", packed=True)
    data = build_data(Mnist(root=str(tmp_path), augment=True), 0)
    assert torch.equal(data.train.inputs[:, 0], images("train"))
    assert data.spec.labels == MNIST.classes == tuple("0123456789")
    assert Mnist().flip == "none"


def test_a_header_that_claims_more_than_there_is_asks_for_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + b"abc")
    with pytest.raises(DataError, match="holds 3 values where its header says 4294967295×"):
        read_idx(tmp_path / "x")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("dataset", [Mnist, FashionMnist])
def test_missing_files_without_a_network_are_an_error_with_a_way_out(tmp_path: Path, dataset: type) -> None:
    with pytest.raises(DataError, match=r"could not be downloaded") as caught:
        build_data(dataset(root=str(tmp_path)), 0)
    for words in (str(tmp_path), "train-images-idx3-ubyte.gz", "data.root", "data=digits"):
        assert words in str(caught.value)


@pytest.mark.usefixtures("no_network")
def test_what_is_missing_goes_where_torchvision_puts_it(tmp_path: Path) -> None:
    write_all(tmp_path / "FashionMNIST" / "raw", packed=False)
    missing = tmp_path / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    missing.unlink()
    with pytest.raises(DataError, match=re.escape(f"{missing}.gz: it is not there")):
        build_data(FashionMnist(root=str(tmp_path)), 0)
