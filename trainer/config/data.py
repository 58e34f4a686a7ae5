"""The datasets that can be selected, and their keys."""

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.registry import register
from trainer.config.section import FIXED, FREE, FUTURE, Section, key, other_default
from trainer.errors import ConfigError

NO_FLIP = "with augment: none, since a mirrored digit is another sign; or random, alternating"


@dataclass
class DataConfig(Section):
    """Base of the data configs: `build(seed)` reads or makes the data."""

    on_resume: ClassVar[str] = FIXED

    val_fraction: float = key(
        0.2,
        "share held out for validation, drawn with the seed and (for classes) stratified",
        at_least=0,
        below=1,
    )
    folds: int | None = key(
        None, "cross-validation: cut into so many parts and validate on one, instead of val_fraction", at_least=2
    )
    fold: int = key(0, "which part, from 0 on; train -m data.fold=0,1,2 runs several and gives mean ± std", at_least=0)
    sampling: str = key(
        "shuffle",
        "shuffle: each training sample once an epoch; balanced: each class equally often, drawn with replacement",
        choices=("shuffle", "balanced"),
    )
    batch_size: int = key(64, "samples per optimizer step, over all micro-batches", at_least=1)
    eval_batch_size: int = key(512, "samples at a time in validation", at_least=1, on_resume=FREE)
    drop_last: bool = key(False, "leave out the last, smaller batch of an epoch")
    timeout: float = key(
        300.0, "seconds to wait for a batch of the loader workers before the run fails", above=0, on_resume=FREE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold and self.fold >= (self.folds or 1):
            known = "data.folds is not set" if self.folds is None else f"data.folds={self.folds}"
            raise ConfigError(f"data.fold={self.fold}: {known}; the parts are numbered from 0 to data.folds - 1.")

    @property
    def holds_out(self) -> bool:
        """Whether samples for validation are to be taken from the training samples."""
        return bool(self.folds or self.val_fraction)


@dataclass
class ImageDataConfig(DataConfig):
    """Base of the image datasets: how images are augmented (training only) and normalised."""

    augment: bool = key(
        False, "whether training images are varied at random, one draw for each sample", on_resume=FUTURE
    )
    flip: str = key(
        "random",
        "with augment: mirror left-right with probability 1/2, or each image in every other epoch "
        "(true: random, false: none)",
        choices=("none", "random", "alternating"),
        on_resume=FUTURE,
    )
    rotation: float = key(
        10.0, "with augment: turn by up to so many degrees either way", at_least=0, at_most=180, on_resume=FUTURE
    )
    rotation_mode: str = key(
        "nearest", "turn to the nearest pixel or between pixels", choices=("nearest", "bilinear"), on_resume=FUTURE
    )
    shift: int = key(0, "with augment: shift by up to so many pixels along each axis", at_least=0, on_resume=FUTURE)
    shift_padding: str = key(
        "reflect", "what is beyond the edges when shifting", choices=("reflect", "zero"), on_resume=FUTURE
    )
    crop_scale: float = key(
        1.0,
        "with augment: enlarge a random part of at least this share of the area, sides 3:4 to 4:3; 1: off",
        above=0,
        at_most=1,
        on_resume=FUTURE,
    )
    randaugment: int = key(
        0, "with augment: so many operations of RandAugment on each image", at_least=0, on_resume=FUTURE
    )
    randaugment_magnitude: int = key(
        9, "how strong RandAugment's operations are, 0 to 30", at_least=0, at_most=30, on_resume=FUTURE
    )
    brightness: float = key(0.0, "with augment: times 1 ± up to this", at_least=0, on_resume=FUTURE)
    contrast: float = key(0.0, "with augment: times 1 ± up to this", at_least=0, on_resume=FUTURE)
    saturation: float = key(0.0, "with augment: times 1 ± up to this", at_least=0, on_resume=FUTURE)
    hue: float = key(
        0.0, "with augment: turn by up to this share of the colour circle", at_least=0, at_most=0.5, on_resume=FUTURE
    )
    cutout: int = key(
        0,
        "with augment: side in pixels of a square that is blotted out with the mean colour; 0: off",
        at_least=0,
        on_resume=FUTURE,
    )
    mixup: float = key(
        0.0,
        "with augment: α of mixup, which blends each image and its target with another; 0: off",
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
        None, "per channel, of pixels in [0, 1]; null: measured on the training images", on_resume=FUTURE
    )
    std: list[float] | None = key(None, "per channel, of pixels in [0, 1]; null: measured", above=0, on_resume=FUTURE)

    def __post_init__(self) -> None:
        self.flip = {"true": "random", "false": "none"}.get(str(self.flip).lower(), self.flip)
        super().__post_init__()


@register("data", "digits")
@dataclass
class Digits(ImageDataConfig):
    """1,797 handwritten digits, 8×8 grey (UCI, CC BY 4.0), shipped with the package."""

    flip: str = other_default(ImageDataConfig, "flip", "none", NO_FLIP)


@register("data", "synthetic")
@dataclass
class Synthetic(DataConfig):
    """X ~ N(0, 1), and the class is whether the features sum to more than 0."""

    num_samples: int = key(1000, "how many samples, training and validation together", at_least=2)
    num_features: int = key(10, "features of a sample", at_least=1)


@register("data", "synthetic_images")
@dataclass
class SyntheticImages(ImageDataConfig):
    """A random template for each class under noise: images of any size, for trials and benchmarks."""

    num_samples: int = key(1000, "how many images, training and validation together", at_least=2)
    num_classes: int = key(10, "how many classes", at_least=2)
    image_size: int = key(32, "height and width in pixels", at_least=1)
    channels: int = key(3, "1 (grey) or 3 (RGB)", at_least=1)
    noise: float = key(0.5, "standard deviation of the noise, where the template's is 0.2", at_least=0)


@register("data", "image_folder")
@dataclass
class ImageFolder(ImageDataConfig):
    """Your own images: one folder for each class, under train/ and val/ (or test/), or just one level."""

    root: str | None = key(
        None, "folder with train/ and val/ (or test/), or with one folder for each class", on_resume=FREE
    )
    val_fraction: float = other_default(
        DataConfig,
        "val_fraction",
        0.0,
        "share of the training images held out; 0: val/ or test/ where there is one, else 0.2",
    )
    image_size: int | None = key(
        None, "resize to this many pixels (shorter side, then the centre); null: all are alike", at_least=1
    )
    channels: int = key(3, "3 (RGB) or 1 (grey)", at_least=1, at_most=3)
    augment: bool = other_default(ImageDataConfig, "augment", True)
    cache_bytes: int = key(
        4_000_000_000,
        "decode once into memory and a cache file up to this size; larger sets are streamed",
        at_least=0,
        on_resume=FREE,
    )
    on_error: str = key(
        "raise",
        "a file that is no readable image ends the run, or is left out and listed (to stream, all are read once first)",
        choices=("raise", "skip"),
    )
    workers: int = key(
        2, "processes that decode when streaming; 0: the training process does it", at_least=0, on_resume=FREE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels == 2:
            raise ConfigError("data.channels=2: images are read as 1 (grey) or 3 (RGB) channels.")
