"""How the first screen tells what is done to images."""

from trainer.config.data import ImageFolder
from trainer.data.images.normalize import Normalize
from trainer.data.images.words import augment_note, normalize_note


def test_what_is_done_to_images_is_told_in_words() -> None:
    assert augment_note(ImageFolder()) == ("augment   mirrored at random, turned up to ±10°",)
    assert augment_note(ImageFolder(augment=False)) == ()
    assert augment_note(ImageFolder(flip="none", rotation=0)) == ()
    [line] = augment_note(
        ImageFolder(flip="alternating", rotation=0, shift=2, crop_scale=0.5, cutout=8, mixup=0.2, brightness=0.1)
    )
    for words in (
        *("mirrored in every other epoch", "moved up to ±2 pixels", "cropped to 50% or more of the area"),
        *("brightness ±0.1", "a square of 8 pixels cut out", "mixup (α 0.2)"),
    ):
        assert words in line
    assert "turned" not in line
    measured, given = (
        normalize_note(config, Normalize([0.5], [0.25]))
        for config in (ImageFolder(), ImageFolder(mean=[0.5], std=[0.25]))
    )
    assert measured == "normalise mean 0.500, deviation 0.250 (measured on the training images)"
    assert given.endswith("(given)")
