"""The convolutional classifier, which the lessons use too."""

from itertools import pairwise

from torch import Tensor, nn

from trainer.config.model import Cnn
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.norm import make_norm


class CNNClassifier(nn.Module):
    """Three convolution blocks (32, 64, 128 channels) and a three-layer head.

    Args:
        num_classes: size of the output.
        in_channels: channels of the images.
        image_size: (height, width) in pixels, at least 8×8.
        conv_dropout: probability to drop a channel after each block (Dropout2d).
        dropout: probability to drop a unit of the head.
        norm: after each convolution: `batch`, or `group` of at most 8 groups (see `norm_groups`).

    Shape:
        (B, in_channels, height, width) float to (B, num_classes) logits.

    With the defaults: 3×32×32 images, 698,794 parameters.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: tuple[int, int] = (32, 32),
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(in_channels, 32, 32, dropout=conv_dropout, norm=norm),
            *_block(32, 64, 64, dropout=conv_dropout, norm=norm),
            *_block(64, 128, dropout=conv_dropout, norm=norm),
        )
        height, width = (side // 8 for side in image_size)  # three poolings halve each side
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(128 * height * width, 256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _block(*channels: int, dropout: float, norm: str) -> list[nn.Module]:
    """Make 3×3 convolutions through the given channels, each with norm and ReLU; then pooling and dropout."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), make_norm(norm, nn.BatchNorm2d, after)]
        layers.append(nn.ReLU(inplace=True))
    return [*layers, nn.MaxPool2d(2), nn.Dropout2d(dropout)]


def cnn_model(config: Cnn, spec: DataSpec) -> CNNClassifier:
    """Make the network of `model=cnn`; raise `ConfigError` unless the data is images of 8×8 pixels or more."""
    if len(spec.input_shape) != 3:
        raise ConfigError(
            f"model=cnn needs images (channels × height × width), but the data gives samples of shape "
            f"{spec.shape_words()}; use model=mlp or model=linear."
        )
    channels, height, width = spec.input_shape
    if min(height, width) < 8:
        raise ConfigError(
            f"model=cnn halves the image three times and needs 8×8 pixels or more; the data gives {height}×{width}."
        )
    return CNNClassifier(
        num_classes=spec.outputs,
        in_channels=channels,
        image_size=(height, width),
        conv_dropout=config.conv_dropout,
        dropout=config.dropout,
        norm=config.norm,
    )
