"""SVHN from MATLAB files that SciPy has written."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets as theirs

from trainer.config.datasets import Svhn
from trainer.data.datasets.svhn import FILES, read_svhn
from trainer.data.files.download import Remote
from trainer.errors import DataError
from trainer.runs.build import build_data


def test_the_published_digests_are_those_of_torchvision() -> None:
    for part, remote in FILES.items():
        url, name, digest = theirs.SVHN.split_list[part]
        assert remote == Remote(name, f"md5:{digest}", (url,))


def test_images_and_digits_are_read(tmp_path: Path) -> None:
    files, pixels = {}, {}
    for part, count in (("train", 30), ("test", 20)):
        pixels[part] = np.random.default_rng(count).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        digits = (np.arange(count, dtype=np.uint8)[:, None]) % 10 + 1
        path = tmp_path / FILES[part].name
        savemat(path, {"X": pixels[part], "y": digits}, do_compression=True)
        files[part] = Remote(path.name, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", ())
    tensors = read_svhn(tmp_path, files)
    for part, count in (("train", 30), ("test", 20)):
        for i in range(count):
            assert torch.equal(tensors[f"{part}_images"][i], torch.from_numpy(pixels[part][..., i]).permute(2, 0, 1))
        assert tensors[f"{part}_targets"].tolist() == [(i % 10 + 1) % 10 for i in range(count)]
        assert tensors[f"{part}_targets"].dtype == torch.int64


def test_another_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))
    savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1))})
    with pytest.raises(DataError, match=r"train_32x32\.mat: the file there is not the published one"):
        build_data(Svhn(root=str(tmp_path)), 0)
