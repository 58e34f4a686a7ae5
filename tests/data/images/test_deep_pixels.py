"""Pixels of more than 8 bits or three bands, sizes that are no squares, and what is warned about."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from trainer.config.data import ImageFolder
from trainer.data.datasets.image_folder import load_image_folder
from trainer.data.images.deep_pixels import as_bytes, deep_pixels
from trainer.data.images.image_files import Decoder, UnreadableImageError
from trainer.data.images.image_samples import read_image_samples
from trainer.data.images.image_walk import is_image
from trainer.data.images.normalize import pixel_range
from trainer.data.types import Data
from trainer.errors import CheckpointError, ConfigError

RAMP = (np.arange(64).reshape(8, 8) * 16 + 1000).astype(np.uint16)  # 1000 to 2008: within one upper byte or eight


def folder(root: Path, *classes: np.ndarray, ending: str = "png", count: int = 6) -> Path:
    for number, pixels in enumerate(classes):
        for i in range(count):
            path = root / f"class{number}" / f"{i}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if ending == "tif":
                tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
            else:
                Image.fromarray(pixels).save(path)
    return root


def load(root: Path, **keys: Any) -> Data:
    return load_image_folder(ImageFolder(root=str(root), augment=False, workers=0, **keys), 0)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_by_the_range_that_is_there(tmp_path: Path, ending: str, channels: int) -> None:
    data = load(folder(tmp_path, RAMP, RAMP, ending=ending), channels=channels)
    pixels = data.train.inputs
    assert isinstance(pixels, torch.Tensor)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(pixels[0, 0].unique()) == 64  # each step of 16 is seen; the upper byte has 5 values
    assert any("more than 8 bits: 1,00" in note and "become 0 to 255" in note for note in data.notes)
    [(low, high)] = pixel_range(data.preprocessing)
    assert low == pytest.approx(1001, abs=8)
    assert high == pytest.approx(2007, abs=8)
    given = load(tmp_path, channels=channels, range=[0, 65535])
    assert isinstance(given.train.inputs, torch.Tensor)
    assert given.train.inputs.max() == 8
    streamed = load(tmp_path, channels=channels, cache_bytes=0)
    assert torch.equal(streamed.train.inputs[0], pixels[0])  # type: ignore[index]
    # New images are scaled as those of the training were, whatever range they have themselves.
    Image.fromarray(np.full((8, 8), 1500, np.uint16)).save(tmp_path / "new.png")
    config = ImageFolder(channels=channels, workers=0)
    new = read_image_samples(config, str(tmp_path / "new.png"), data.spec, data.preprocessing, labelled=False)
    assert new.split.inputs[0].unique().tolist() == [round((1500 - low) * 255 / (high - low))]  # type: ignore[index]


def test_colours_of_sixteen_bits_keep_them(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    assert np.array_equal(deep_pixels(tmp_path / "a.tif"), colours)
    decoded = Decoder((8, 8), 3, False, scale=[(1000.0, 2008.0)])(tmp_path / "a.tif")
    assert np.array_equal(decoded[0].astype(int), np.rint((RAMP - 1000.0) * 255 / 1008).astype(int))
    planes = np.moveaxis(colours, 2, 0)
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(deep_pixels(tmp_path / "b.tif"), colours)


def test_each_band_is_a_channel_with_a_range_of_its_own(tmp_path: Path) -> None:
    bands = np.stack([RAMP * (i + 1) for i in range(5)], axis=2)
    root = folder(tmp_path, bands, bands, ending="tif")
    data = load(root, channels=5)
    assert isinstance(data.train.inputs, torch.Tensor)
    assert data.spec.input_shape == (5, 8, 8)
    assert torch.equal(data.train.inputs[0, 0], data.train.inputs[0, 4])
    assert len(pixel_range(data.preprocessing)) == 5
    assert load(root, channels=5, image_size=[4, 6], resize="pad").spec.input_shape == (5, 4, 6)
    with pytest.raises(UnreadableImageError, match=r"it has 5 bands, and 4 are needed \(data\.channels\)"):
        load(root, channels=4)
    with pytest.raises(UnreadableImageError, match=r"a TIFF of other bands than grey or RGB; data\.channels=N"):
        load(root)


def test_a_fourth_band_that_is_left_out_is_told_and_alpha_is_none(tmp_path: Path) -> None:
    four = np.stack([RAMP.astype(np.uint8)] * 4, axis=2)
    for kind, extra in (("band", "unspecified"), ("alpha", "unassalpha")):
        for label in ("a", "b"):
            for i in range(4):
                path = tmp_path / kind / label / f"{i}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, four, photometric="rgb", extrasamples=[extra])
    told = [warning for warning in load(tmp_path / "band").warnings if "data.channels=4 reads all" in warning]
    assert told
    assert told[0].startswith("8 of 8 images have 4 bands")
    assert not any("bands" in warning for warning in load(tmp_path / "alpha").warnings)
    assert load(tmp_path / "alpha", channels=4).spec.input_shape == (4, 8, 8)


def test_sizes_are_rectangles_and_resizing_cuts_squashes_or_pads(tmp_path: Path) -> None:
    strip = np.zeros((8, 64, 3), np.uint8)
    strip[:, :8] = 255  # what tells the classes apart is at one end
    root = folder(tmp_path, strip, np.zeros_like(strip))
    white = {}
    for how in ("crop", "squash", "pad"):
        data = load(root, image_size=16, resize=how)
        assert isinstance(data.train.inputs, torch.Tensor)
        white[how] = int((data.train.inputs > 200).any(dim=(1, 2, 3)).sum())
        cut = [warning for warning in data.warnings if "keeps 12% of an image" in warning]
        assert bool(cut) == (how == "crop")
    assert white["crop"] == 0 < white["squash"]
    assert white["pad"] > 0
    assert load(root, image_size=[8, 64]).spec.input_shape == (3, 8, 64)
    assert any("have one colour all over" in warning for warning in load(root).warnings)
    for wrong in ("wide", [8], [8, 0], 0, True, [8, 8, 3]):
        with pytest.raises(ConfigError, match=r"data\.image_size=.*a side in pixels"):
            ImageFolder(image_size=wrong)
    with pytest.raises(ConfigError, match="black comes first"):
        ImageFolder(range=[5, 5])


def test_a_file_of_more_pixels_than_allowed_is_not_read(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    Decoder((8, 8), 3, True, max_pixels=1200)(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match=r"40×30 pixels, over 1,199: .* data\.max_pixels"):
        Decoder((8, 8), 3, True, max_pixels=1199)(tmp_path / "a.png")


def test_dicom_and_heic_are_read_by_their_content(tmp_path: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    Image.new("RGB", (64, 64), (200, 40, 40)).save(tmp_path / "photo.heic", quality=90)
    (tmp_path / "photo.heic").rename(tmp_path / "photo")
    assert is_image(tmp_path / "photo")
    red = Decoder((64, 64), 3, False)(tmp_path / "photo")
    assert abs(int(red[0].mean()) - 200) < 12
    scan = pydicom.Dataset()
    scan.file_meta = pydicom.dataset.FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    scan.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    scan.Rows, scan.Columns, scan.SamplesPerPixel, scan.PixelRepresentation = 8, 8, 1, 0
    scan.BitsAllocated, scan.BitsStored, scan.HighBit = 16, 12, 11
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        scan.PhotometricInterpretation = kind
        scan.PixelData = RAMP.tobytes()
        scan.save_as(tmp_path / kind, enforce_file_format=True)
        assert is_image(tmp_path / kind)
        expected = RAMP if kind == "MONOCHROME2" else 65535 - RAMP
        assert np.array_equal(deep_pixels(tmp_path / kind)[..., 0], expected)
    grey = Decoder((8, 8), 1, False, scale=[(1000.0, 2008.0)])(tmp_path / "MONOCHROME2")
    assert np.array_equal(grey[0], as_bytes(RAMP[..., None], [(1000.0, 2008.0)])[..., 0])


def test_a_damaged_range_is_an_error() -> None:
    assert pixel_range(json.dumps({"mean": [0], "std": [1]})) == []
    for range_ in ([[1]], [[2, 1]], ["x"], 5, [[0, "y"]]):
        with pytest.raises(CheckpointError, match="range of pixels is damaged"):
            pixel_range(json.dumps({"range": range_}))
