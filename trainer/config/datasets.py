"""The published datasets, and arrays in files; their keys."""

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.data import NO_FLIP, ImageDataConfig
from trainer.config.registry import register
from trainer.config.section import FREE, key, other_default

CIFAR10_MEAN, CIFAR10_STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


@dataclass
class Published(ImageDataConfig):
    """Base of the image datasets that are downloaded."""

    root: str | None = key(
        None,
        "folder of the files; missing ones are downloaded; null: $TRAINER_DATA, or ~/.cache/trainer/datasets",
        on_resume=FREE,
    )
    val_fraction: float = other_default(
        ImageDataConfig,
        "val_fraction",
        0.0,
        "fraction of the training images held out for validation; 0: validate on the official test images",
    )


@register("data", "cifar10")
@dataclass
class Cifar10(Published):
    """CIFAR-10: 60,000 photographs of 10 classes, 32×32 RGB; downloaded once."""

    augment: bool = other_default(ImageDataConfig, "augment", True)
    mean: list[float] | None = other_default(
        ImageDataConfig, "mean", CIFAR10_MEAN, "per channel, of pixels in [0, 1]; null: measured"
    )
    std: list[float] | None = other_default(ImageDataConfig, "std", CIFAR10_STD)


@register("data", "cifar100")
@dataclass
class Cifar100(Published):
    """CIFAR-100: 60,000 photographs of 100 classes, 32×32 RGB; downloaded once."""

    augment: bool = other_default(ImageDataConfig, "augment", True)


@register("data", "mnist")
@dataclass
class Mnist(Published):
    """MNIST: 70,000 handwritten digits, 28×28 grey; downloaded once."""

    flip: str = other_default(ImageDataConfig, "flip", "none", NO_FLIP)


@register("data", "fashion_mnist")
@dataclass
class FashionMnist(Published):
    """Fashion-MNIST: 70,000 articles of clothing of 10 classes, 28×28 grey; downloaded once."""


@register("data", "svhn")
@dataclass
class Svhn(Published):
    """SVHN: 99,289 house numbers cropped to single digits, 32×32 RGB; downloaded once, read by SciPy."""

    flip: str = other_default(ImageDataConfig, "flip", "none", NO_FLIP)


@register("data", "tensors")
@dataclass
class Tensors(ImageDataConfig):
    """Arrays in a .npz, .npy, .safetensors or idx file: images (uint8), or features of any shape."""

    of_pixels: ClassVar[bool] = False

    val_fraction: float = other_default(
        ImageDataConfig,
        "val_fraction",
        0.0,
        "fraction of the training samples held out; 0: the arrays to validate on where there are some, else 0.2",
    )
    path: str | None = key(None, "file of the inputs and, except for idx, the targets", on_resume=FREE)
    targets_path: str | None = key(None, "file of the targets, if it is another one", on_resume=FREE)
    val_path: str | None = key(None, "file of the validation inputs; null: see val_inputs", on_resume=FREE)
    val_targets_path: str | None = key(None, "file of the validation targets", on_resume=FREE)
    inputs: str | None = key(None, "name of the input array; null: found by its usual names (x, images, ...)")
    targets: str | None = key(None, "name of the target array; null: found by its usual names (y, labels, ...)")
    val_inputs: str | None = key(None, "name of the validation input array; null: x_val, x_test and the like")
    val_targets: str | None = key(None, "name of the validation target array; null: y_val, y_test and the like")
    layout: str = key(
        "auto",
        "axis order of images: samples, then channels first or last; auto: detected from the sizes",
        choices=("auto", "nchw", "nhwc"),
    )
    shape: list[int] | None = key(
        None, "of one sample, where the file has a flat row for each: [channels,height,width]", at_least=1
    )
    classes: list[str] = key([], "class names in the order of their numbers; empty: the numbers")
