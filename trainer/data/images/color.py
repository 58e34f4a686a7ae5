"""Changes of colour for whole batches of images, with a strength of its own for each image.

All but the last four take and return float pixels (B, C, H, W) in [0, 1], with one or three channels, and take a factor
(B,) of which 1 changes nothing; on each image they equal torchvision's functions of the same names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(images: Tensor) -> Tensor:
    """Convert uint8 pixels to float32 in [0, 1]."""
    return images.float().div_(255)


def from_unit(values: Tensor) -> Tensor:
    """Convert float pixels in [0, 1] to uint8, rounded."""
    return values.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _blend(values: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """Return factor · values + (1 - factor) · other, clamped to [0, 1]; the factor is (B,)."""
    factor = factor[:, None, None, None]
    return (values * factor + (1 - factor) * other).clamp_(0, 1)


def _grey(values: Tensor) -> Tensor:
    """Return the luma of Rec. 601, (B, 1, H, W)."""
    if values.shape[1] == 1:
        return values
    red, green, blue = values.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def brightness(values: Tensor, factor: Tensor) -> Tensor:
    """Change the brightness: 0 is black, 2 twice as bright."""
    return _blend(values, 0.0, factor)


def contrast(values: Tensor, factor: Tensor) -> Tensor:
    """Change the contrast: 0 is the mean grey of the image, 2 twice as far from it."""
    return _blend(values, _grey(values).mean((1, 2, 3), keepdim=True), factor)


def saturation(values: Tensor, factor: Tensor) -> Tensor:
    """Change the saturation: 0 is grey, 2 twice as far from it."""
    return _blend(values, _grey(values), factor)


def sharpness(values: Tensor, factor: Tensor) -> Tensor:
    """Change the sharpness: 0 is smoothed, 2 as much sharper; the outermost pixels stay."""
    if min(values.shape[-2:]) <= 2:
        return values
    kernel = values.new_ones(3, 3)
    kernel[1, 1] = 5
    channels = values.shape[1]
    kernel = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    smooth = values.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(values, kernel, groups=channels)
    return _blend(values, smooth, factor)


def hue(values: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue by `turn` (B,), a share of the circle in [-0.5, 0.5]; in HSV (A. R. Smith, SIGGRAPH 1978)."""
    if values.shape[1] == 1:
        return values
    red, green, blue = values.unbind(1)
    value, low = values.amax(1), values.amin(1)
    chroma = value - low
    divisor = torch.where(chroma == 0, 1, chroma)
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    angle = (sector + 6 * turn[:, None, None]).remainder(6)  # in sixths of the circle
    # Each channel is at its highest in a third of the circle, and falls off to either side.
    channels = [
        value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1) for k in ((n + angle).remainder(6) for n in (5, 3, 1))
    ]
    return torch.stack(channels, dim=1)


# Of uint8 images (B, C, H, W):


def posterize(images: Tensor, bits: int) -> Tensor:
    """Keep the highest `bits` of each pixel, 0 to 8, and set the others to 0."""
    return images & (256 - (1 << (8 - bits)))


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert the pixels that are `threshold` or brighter."""
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to 0 … 255; a channel of a single value stays."""
    values = images.float()
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    flat = low == high
    stretched = (values - low) * (255 / torch.where(flat, 1, high - low))
    return torch.where(flat, values, stretched).round_().clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Equalise the histogram of each channel of each image, as PIL's `ImageOps.equalize` does."""
    batch, channels, height, width = images.shape
    pixels = images.reshape(batch * channels, height * width).long()
    counts = torch.zeros(batch * channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, pixels, torch.ones_like(pixels))
    step = (height * width - counts.gather(1, pixels.amax(1, keepdim=True))) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    spread = torch.where(step > 0, table.gather(1, pixels), pixels)
    return spread.view_as(images).to(torch.uint8)
