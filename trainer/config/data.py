"""The datasets that can be selected, and their keys."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config.registry import register
from trainer.config.section import FIXED, FREE, FUTURE, Section, key, other_default
from trainer.errors import ConfigError

NO_FLIP = "with augment: mirror left-right; none, since a mirrored digit is another sign"


@dataclass
class DataConfig(Section):
    """Base of the data configs; a plug-in's class has `build(seed)`, which reads or makes the data."""

    on_resume: ClassVar[str] = FIXED
    least_steps: ClassVar[int] = 0  # of a run whose length nobody says

    val_fraction: float = key(
        0.2,
        "fraction of the samples held out for validation, drawn with the seed and stratified by class",
        at_least=0,
        below=1,
    )
    folds: int | None = key(
        None, "cross-validation: split into this many folds and validate on one, instead of val_fraction", at_least=2
    )
    fold: int = key(
        0, "the fold to validate on, from 0; train -m data.fold=0,1,2 runs several and reports mean ± std", at_least=0
    )
    sampling: str = key(
        "shuffle",
        "shuffle: each training sample once per epoch; balanced: each class equally often, drawn with replacement",
        choices=("shuffle", "balanced"),
    )
    batch_size: int = key(64, "samples per optimizer step, all micro-batches together", at_least=1)
    eval_batch_size: int = key(512, "samples per batch in validation", at_least=1, on_resume=FREE)
    drop_last: bool = key(False, "drop the last, smaller batch of each epoch")
    timeout: float = key(
        300.0, "seconds to wait for a batch from the loader workers before the run fails", above=0, on_resume=FREE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold and self.fold >= (self.folds or 1):
            known = "data.folds is not set" if self.folds is None else f"data.folds={self.folds}"
            raise ConfigError(f"data.fold={self.fold}: {known}; the parts are numbered from 0 to data.folds - 1.")

    @property
    def holds_out(self) -> bool:
        """Say whether samples for validation are taken from the training samples."""
        return bool(self.folds or self.val_fraction)


@dataclass
class ImageDataConfig(DataConfig):
    """Base of the image datasets: how images are augmented (training only) and normalised.

    Attributes:
        of_pixels: whether what is normalised are pixels from 0 to 1, and not numbers of any size.
    """

    of_pixels: ClassVar[bool] = True

    augment: bool = key(False, "augment training images at random, independently for each sample", on_resume=FUTURE)
    flip: str = key(
        "random",
        "with augment: mirror left-right; random: with probability 1/2; alternating: in every other epoch "
        "(true: random, false: none)",
        choices=("none", "random", "alternating"),
        on_resume=FUTURE,
    )
    rotation: float = key(10.0, "with augment: rotate by up to ±N degrees", at_least=0, at_most=180, on_resume=FUTURE)
    rotation_mode: str = key(
        "nearest", "interpolation when rotating", choices=("nearest", "bilinear"), on_resume=FUTURE
    )
    shift: int = key(0, "with augment: translate by up to ±N pixels along each axis", at_least=0, on_resume=FUTURE)
    shift_padding: str = key(
        "reflect", "padding beyond the edges when translating", choices=("reflect", "zero"), on_resume=FUTURE
    )
    crop_scale: float = key(
        1.0,
        "with augment: crop at least this fraction of the area, aspect ratio 3:4 to 4:3, and resize it back; 1: off",
        above=0,
        at_most=1,
        on_resume=FUTURE,
    )
    randaugment: int = key(0, "with augment: RandAugment operations per image; 0: off", at_least=0, on_resume=FUTURE)
    randaugment_magnitude: int = key(
        9, "magnitude of RandAugment's operations", at_least=0, at_most=30, on_resume=FUTURE
    )
    brightness: float = key(
        0.0, "with augment: scale the brightness by a factor in [1−x, 1+x]", at_least=0, on_resume=FUTURE
    )
    contrast: float = key(
        0.0, "with augment: scale the contrast by a factor in [1−x, 1+x]", at_least=0, on_resume=FUTURE
    )
    saturation: float = key(
        0.0, "with augment: scale the saturation by a factor in [1−x, 1+x]", at_least=0, on_resume=FUTURE
    )
    hue: float = key(
        0.0, "with augment: rotate the hue by up to ±x of the colour circle", at_least=0, at_most=0.5, on_resume=FUTURE
    )
    cutout: int = key(
        0,
        "with augment: side in pixels of a square that is filled with the mean colour; 0: off",
        at_least=0,
        on_resume=FUTURE,
    )
    mixup: float = key(
        0.0,
        "with augment: α of mixup, which blends each image and its target with another's; 0: off",
        at_least=0,
        on_resume=FUTURE,
    )
    cutmix: float = key(
        0.0,
        "with augment: α of CutMix, which pastes a box of another image and mixes the targets; 0: off",
        at_least=0,
        on_resume=FUTURE,
    )
    mean: list[float] | None = key(
        None, "mean of each channel, of pixels in [0, 1]; null: measured on the training images", on_resume=FUTURE
    )
    std: list[float] | None = key(
        None,
        "standard deviation of each channel, of pixels in [0, 1]; null: measured",
        above=0,
        on_resume=FUTURE,
    )

    def __post_init__(self) -> None:
        self.flip = {"true": "random", "false": "none"}.get(str(self.flip).lower(), self.flip)
        super().__post_init__()
        for name, values in (("mean", self.mean), ("std", self.std)) if self.of_pixels else ():
            if values and max(values) > 1:
                divided = ",".join(f"{value / 255:.3g}" for value in values)
                raise ConfigError(
                    f"data.{name}={values}: pixels are from 0 to 1 here; divided by 255: data.{name}=[{divided}]."
                )


@register("data", "digits")
@dataclass
class Digits(ImageDataConfig):
    """1,797 handwritten digits, 8×8 grey (UCI, CC BY 4.0), shipped with the package."""

    flip: str = other_default(ImageDataConfig, "flip", "none", NO_FLIP)


@register("data", "synthetic")
@dataclass
class Synthetic(DataConfig):
    """X ~ N(0, 1); the class says whether the features sum to more than 0."""

    num_samples: int = key(1000, "number of samples, training and validation together", at_least=2)
    num_features: int = key(10, "features of each sample", at_least=1)


@register("data", "synthetic_images")
@dataclass
class SyntheticImages(ImageDataConfig):
    """Noisy copies of one random template per class: images of any size, for tests and benchmarks."""

    num_samples: int = key(1000, "number of images, training and validation together", at_least=2)
    num_classes: int = key(10, "number of classes", at_least=2)
    image_size: int = key(32, "height and width in pixels", at_least=1)
    channels: int = key(3, "1 (grey) or 3 (RGB)", at_least=1)
    noise: float = key(0.5, "standard deviation of the noise (the templates have 0.2)", at_least=0)


@register("data", "image_folder")
@dataclass
class ImageFolder(ImageDataConfig):
    """Your own images: one folder per class, under train/ and val/ (or test/), or just one level."""

    root: str | None = key(
        None, "folder with train/ and val/ (or test/), or with one folder for each class", on_resume=FREE
    )
    val_fraction: float = other_default(
        DataConfig,
        "val_fraction",
        0.0,
        "fraction of the training images held out; 0: val/ or test/ where there is one, else 0.2",
    )
    labels: str | None = key(
        None,
        "a table with the class of each image (CSV, JSON lines, Parquet), instead of a folder for each; null: a "
        "metadata.csv or .jsonl beside the images, where there is one",
        on_resume=FREE,
    )
    file_column: str | None = key(None, "column of the files' names; null: the one that names files which are there")
    label_column: str | None = key(None, "column of the classes; null: by its name, or the only other one")
    split_column: str | None = key(None, "column of train, val or test; null: by its name")
    group_column: str | None = key(
        None, "column of what stays together on one side of a split, such as a patient; null: by its name"
    )
    label_pattern: str | None = key(
        None, "a regular expression whose first group is the class in the path or name of a file: '^([a-z]+)\\.'"
    )
    image_size: Any = key(None, "side in pixels, or [height, width]; null: all have one size")
    resize: str = key(
        "crop",
        "to another image_size; crop: by the shorter side, then cut to the centre; squash: both sides; pad: by the "
        "longer side, black around it",
        choices=("crop", "squash", "pad"),
    )
    channels: int = key(3, "3 (RGB), 1 (grey), or the number of bands of each file", at_least=1, at_most=512)
    range: list[float] | None = key(
        None,
        "of more than 8 bits, what becomes black and white; null: measured on the training images (0.1 to 99.9 %)",
        length=2,
    )
    max_pixels: int | None = key(
        None, "of a file, over which it is not read; null: 89 million, against decompression bombs", at_least=1
    )
    augment: bool = other_default(ImageDataConfig, "augment", True)
    cache_bytes: int = key(
        4_000_000_000,
        "decode once into memory and a cache file of up to this size; larger datasets are streamed",
        at_least=0,
        on_resume=FREE,
    )
    on_error: str = key(
        "raise",
        "raise: stop at a file that is not a readable image; skip: leave it out and list it (all files are then read "
        "once before streaming)",
        choices=("raise", "skip"),
    )
    workers: int = key(
        2, "processes that decode images when streaming; 0: the training process", at_least=0, on_resume=FREE
    )
    weight_column: str | None = key(
        None, "column of how much each image counts in the training loss; null: sample_weight", kw_only=True
    )
    shape: Any = key(
        None,
        "of one image, where the table of data.labels has a column for each pixel: 1x28x28 (channels, height, width)",
        kw_only=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = self.image_size if isinstance(self.image_size, list) else [self.image_size, self.image_size]
        whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
        if self.image_size is not None and not (whole and len(sides) == 2):
            raise ConfigError(
                f"data.image_size={self.image_size}: must be a side in pixels, such as 224, or [height,width]."
            )
        self._check_shape()
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ConfigError(f"data.range={self.range}: black comes first, and white is more.")

    def _check_shape(self) -> None:
        """Give the shape one form, [channels, height, width]."""
        if self.shape is None:
            return
        sides = self.shape if isinstance(self.shape, list) else re.split(r"[x×*,]", str(self.shape))
        if len(sides) not in (2, 3) or not all(str(side).isdecimal() and int(side) for side in sides):
            raise ConfigError(f"data.shape={self.shape}: expected channels, height and width, such as 1x28x28.")
        self.shape = [1] * (len(sides) == 2) + [int(side) for side in sides]
        if self.labels is None:
            raise ConfigError("data.shape: is for a table with a column for each pixel; name it: data.labels=TABLE.")
        if self.image_size is not None:
            raise ConfigError(f"data.image_size={self.image_size}: the images of a table have the size of data.shape.")

    @property
    def size(self) -> tuple[int, int] | None:
        """The height and width of all images; None: as they are."""
        if self.image_size is None:
            return None
        return tuple(self.image_size) if isinstance(self.image_size, list) else (self.image_size, self.image_size)
