"""From pixels in memory to data: split, normalised and augmented, the same for every image dataset."""

import dataclasses

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images.augment import augment_from
from trainer.data.images.mixing import mixing_from
from trainer.data.images.normalize import normalize_from
from trainer.data.images.words import augment_note
from trainer.data.splits import from_splits, split_samples
from trainer.data.types import Data, Split


def make_image_data(
    config: ImageDataConfig,
    train: Split,
    official: Split | None,
    labels: tuple[str, ...] | None,
    seed: int,
    description: str = "",
) -> Data:
    """Make data from uint8 images.

    Args:
        config: says how to augment and normalise, and how to split where there is no official split.
        train: images uint8 (N, C, H, W) and targets.
        official: the dataset's own validation images; None: validation images are drawn from `train`.
        labels: the names of the classes; None: the targets are numbers.
        seed: of the run.
        description: a few words for the first screen.
    """
    if official is not None:
        val = official
    else:
        train, val = (train.subset(index) for index in split_samples(config, train.targets, seed))
    assert isinstance(train.inputs, Tensor) and train.inputs.dtype == torch.uint8
    normalize = normalize_from(config, train.inputs)
    data = from_splits(
        train,
        val,
        labels,
        prepare=normalize,
        augment=augment_from(config, train.inputs.shape[1:], normalize),
        mix=mixing_from(config, None if labels is None else len(labels)),
        description=description,
        preprocessing=normalize.to_json(),
    )
    return dataclasses.replace(data, notes=augment_note(config))
