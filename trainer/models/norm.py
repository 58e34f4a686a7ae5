"""Normalisation inside a network: over the batch, or over groups of the channels of one sample."""

from torch import nn

from trainer.errors import ConfigError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
MOST_GROUPS, LEAST_CHANNELS = 8, 4  # of a GroupNorm, and of each of its groups


def norm_groups(channels: int) -> int:
    """Return how many groups GroupNorm makes of so many channels.

    At most 8 of the same size and of at least 4 channels: 8 for 32, 64 and 128 channels, 5 for 100. Wu & He 2018 take
    32 for the 64 to 2,048 channels of a ResNet and find little difference between 2 and 32; ours have fewer channels.
    """
    return max(
        n for n in range(1, MOST_GROUPS + 1) if channels % n == 0 and (n == 1 or channels // n >= LEAST_CHANNELS)
    )


def make_norm(kind: str, batch_norm: type[nn.Module], channels: int) -> nn.Module:
    """Make the normalisation of a layer with that many channels.

    Args:
        kind: `batch` or `group`.
        batch_norm: the class for `batch`, which knows the dimensions.
        channels: of the layer.

    Raises:
        ConfigError: for one channel that would be normalised alone, to 0.
    """
    if kind == "batch":
        return batch_norm(channels)
    if channels == 1:
        raise ConfigError("model.norm=group needs layers of at least 2 units: one alone is always normalised to 0.")
    return nn.GroupNorm(norm_groups(channels), channels)
