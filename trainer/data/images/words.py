"""What is done to images, in words for the first screen."""

from trainer.config.data import ImageDataConfig
from trainer.data.images.normalize import Normalize


def augment_note(config: ImageDataConfig) -> tuple[str, ...]:
    """Return a line on how training images are augmented; none where they are not."""
    words = _augment_words(config)
    return (f"{'augment':<10}{', '.join(words)}",) if config.augment and words else ()


def _augment_words(config: ImageDataConfig) -> list[str]:
    flips = {"random": "mirrored at random", "alternating": "mirrored in every other epoch"}
    words = [flips[config.flip]] if config.flip in flips else []
    words += [f"turned up to ±{config.rotation:g}°"] if config.rotation else []
    words += [f"moved up to ±{config.shift} pixels"] if config.shift else []
    words += [f"cropped to {config.crop_scale:.0%} or more of the area"] if config.crop_scale < 1 else []
    words += [f"RandAugment of {config.randaugment} operations"] if config.randaugment else []
    for name in ("brightness", "contrast", "saturation", "hue"):
        words += [f"{name} ±{value:g}"] if (value := getattr(config, name)) else []
    words += [f"a square of {config.cutout} pixels cut out"] if config.cutout else []
    for name, title in (("mixup", "mixup"), ("cutmix", "CutMix")):
        words += [f"{title} (α {value:g})"] if (value := getattr(config, name)) else []
    return words


def normalize_note(config: ImageDataConfig, normalize: Normalize) -> str:
    """Return a line on how pixels are normalised, and by whose numbers."""
    source = "given" if config.mean is not None and config.std is not None else "measured on the training images"
    mean, std = (", ".join(f"{value:.3f}" for value in part[:3]) for part in (normalize.mean, normalize.std))
    more = " …" if len(normalize.mean) > 3 else ""
    return f"{'normalise':<10}mean {mean}{more}, deviation {std}{more} ({source})"
