"""Data drawn from the seed: nothing to download, any size."""

import torch

from trainer.config.data import Synthetic, SyntheticImages
from trainer.data.images.image_data import make_image_data
from trainer.data.splits import from_tensors
from trainer.data.types import Data, Split
from trainer.system import seeds


def make_synthetic(config: Synthetic, seed: int) -> Data:
    """Make features X ~ N(0, 1), float32 (num_samples, num_features), with the class [Σx > 0]."""
    generator = seeds.generator(seed, seeds.SYNTHETIC)
    inputs = torch.randn(config.num_samples, config.num_features, generator=generator)
    targets = (inputs.sum(1) > 0).long()
    return from_tensors(inputs, targets, ("sum <= 0", "sum > 0"), config=config, seed=seed)


def make_synthetic_images(config: SyntheticImages, seed: int) -> Data:
    """Make uint8 images (num_samples, channels, size, size): a random template for each class, plus noise."""
    generator = seeds.generator(seed, seeds.SYNTHETIC)
    shape = (config.channels, config.image_size, config.image_size)
    templates = 0.5 + 0.2 * torch.randn(config.num_classes, *shape, generator=generator)
    targets = torch.randint(config.num_classes, (config.num_samples,), generator=generator)
    images = torch.empty(config.num_samples, *shape, dtype=torch.uint8)
    for part, labels in zip(images.split(1024), targets.split(1024), strict=True):
        noise = config.noise * torch.randn(part.shape, generator=generator)
        part.copy_(((templates[labels] + noise) * 255).clamp_(0, 255))
    return make_image_data(config, Split(images, targets), None, tuple(map(str, range(config.num_classes))), seed)
