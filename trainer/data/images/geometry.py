"""Geometric transforms of whole batches of images, with parameters of its own for each image.

A transform is described by where each output pixel comes from: its source column x and row y, in pixels, float32, both
broadcastable to (B, H, W). Transforms are composed on these coordinates, and the pixels are fetched once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

OUTSIDE = 1e6  # a coordinate that no rotation brings back into an image


def positions(images: Tensor, offsets: Tensor | None = None, reflect: bool = True) -> tuple[Tensor, Tensor]:
    """Return the columns (B or 1, 1, W) and rows (B or 1, H, 1) of the pixels of images, shifted by whole pixels.

    Args:
        images: (B, C, H, W); only their size and device are used.
        offsets: int64 (B, 2), by how many pixels the source is to the right and below; None: nothing is shifted.
        reflect: whether sources beyond an edge are mirrored at the outermost pixel, else they are black. Reflected
            shifts must be shorter than the side.
    """
    height, width = images.shape[-2:]
    x, y = (torch.arange(side, dtype=torch.float32, device=images.device) for side in (width, height))
    x, y = x[None, None, :], y[None, :, None]
    if offsets is None:
        return x, y
    right, below = offsets.float()[:, :, None, None].unbind(1)
    return _at_edges(x + right, width, reflect), _at_edges(y + below, height, reflect)


def _at_edges(source: Tensor, side: int, reflect: bool) -> Tensor:
    if reflect:
        return (side - 1) - ((side - 1) - source.abs()).abs()
    return source.masked_fill((source < 0) | (source > side - 1), OUTSIDE)


def affine(x: Tensor, y: Tensor, size: tuple[int, int], matrix: tuple[Tensor | float, ...]) -> tuple[Tensor, Tensor]:
    """Apply a matrix to source coordinates, about the centre of the image.

    Args:
        x, y: as `positions` returns them.
        size: (height, width) of the images.
        matrix: (a, b, c, d), numbers or (B,): the source is (a x + b y, c x + d y) from the centre.
    """
    a, b, c, d = (part[:, None, None] if isinstance(part, Tensor) else part for part in matrix)
    middle_x, middle_y = (size[1] - 1) / 2, (size[0] - 1) / 2
    x, y = x - middle_x, y - middle_y
    return (a * x + b * y).add_(middle_x), (c * x + d * y).add_(middle_y)


def turned(x: Tensor, y: Tensor, size: tuple[int, int], degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate each image counter-clockwise about its centre by an angle of its own.

    Args:
        x, y: as `positions` returns them.
        size: (height, width) of the images.
        degrees: (B,).
    """
    radians = degrees * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    return affine(x, y, size, (cos, -sin, sin, cos))


def nearest(images: Tensor, x: Tensor, y: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Fetch the pixels nearest to the source coordinates; black where these are outside the image.

    Args:
        images: (B, C, H, W), any dtype.
        x, y: the source coordinates.
        mirrored: bool (B,), which images are mirrored left to right before; None: none is.
    """
    batch, channels, height, width = images.shape
    # One gather from images with a black frame: no mask, and one pass less for each of the comparisons it would need.
    x, y, row = x.round().clamp_(-1, width), y.round().clamp_(-1, height), width + 2
    if mirrored is None:
        index = (x + (1 + row)) + y * row
    else:
        sign = torch.where(mirrored, -1.0, 1.0)[:, None, None]
        first = torch.where(mirrored, float(width), 1.0)[:, None, None] + row
        index = torch.add((x * sign).add_(first), y, alpha=row)
    index = index.long().expand(batch, height, width).reshape(batch, 1, height * width)
    framed = F.pad(images, (1, 1, 1, 1)).view(batch, channels, -1)
    return framed.gather(2, index.expand(-1, channels, -1)).view(batch, channels, height, width)


def bilinear(images: Tensor, x: Tensor, y: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Interpolate between the four pixels around each source; see `nearest`. The dtype stays, uint8 is rounded."""
    batch, _, height, width = images.shape
    if mirrored is not None:
        x = torch.where(mirrored[:, None, None], (width - 1) - x, x)
    # grid_sample counts from -1 to 1 between the outer edges of the outermost pixels.
    grid = torch.stack(
        [part.expand(batch, height, width) for part in ((2 * x + 1) / width - 1, (2 * y + 1) / height - 1)], dim=3
    )
    return as_before(F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False), images)


def as_before(values: Tensor, images: Tensor) -> Tensor:
    """Convert values back to the dtype of the images that they came from, uint8 rounded."""
    return values.round_().clamp_(0, 255).to(images.dtype) if images.dtype == torch.uint8 else values


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror left to right the images (B, C, H, W) that are true in `mirrored`, bool (B,)."""
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def flip_rotate(images: Tensor, mirrored: Tensor, degrees: Tensor) -> Tensor:
    """Mirror, then rotate each image counter-clockwise about its centre; nearest pixel, black outside.

    The result equals torchvision's per-image `hflip` followed by `rotate(interpolation=NEAREST, fill=0)`.

    Args:
        images: (B, C, H, W), any dtype.
        mirrored: bool (B,).
        degrees: float (B,).
    """
    height, width = images.shape[-2:]
    return nearest(images, *turned(*positions(images), (height, width), degrees), mirrored)


def resized_crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Enlarge the part of each image in its box to the size of the image, by bilinear interpolation; the dtype stays.

    Args:
        images: (B, C, H, W).
        boxes: int64 (B, 4): top, left, height and width.
    """
    height, width = images.shape[-2:]
    top, left, rows, columns = boxes.float()[:, :, None, None].unbind(1)
    x, y = positions(images)
    # Centres of pixels fall on centres of pixels, and what is beyond the box counts as its outermost pixel.
    x = ((x + 0.5) * columns / width - 0.5).clamp_(min=0).minimum(columns - 1) + left
    y = ((y + 0.5) * rows / height - 0.5).clamp_(min=0).minimum(rows - 1) + top
    return bilinear(images, x, y)


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels are in the box of their image, bool (B, 1, height, width).

    Args:
        boxes: [x1, y1, x2, y2) of each image, int64 (B, 4).
        height, width: of the images.
    """
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    columns, rows = torch.arange(width, device=boxes.device), torch.arange(height, device=boxes.device)
    inside_x, inside_y = (columns >= x1) & (columns < x2), (rows >= y1) & (rows < y2)
    return (inside_y[:, :, None] & inside_x[:, None, :]).unsqueeze(1)
