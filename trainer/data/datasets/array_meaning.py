"""What arrays of people mean: one-hot rows and whole floats are classes, images may have channels last, or 16 bits."""

import torch
from torch import Tensor

CHANNELS = (1, 3, 4)
BYTES, DEEP = 255, 65535
TAILS = (0.001, 0.999)  # shares of the pixels between which the range of more than 8 bits lies
PIXELS = 4_000_000  # values that a range is measured on
FEW = 5  # samples of a class, on average, from which whole floats are taken for classes


def one_hot(targets: Tensor) -> Tensor | None:
    """Return the classes int64 (N,) of rows with a single 1 among zeros (N, classes); None for other rows."""
    if targets.ndim != 2 or targets.shape[1] < 2:
        return None
    binary = ((targets == 0) | (targets == 1)).all()
    return targets.argmax(1) if binary and (targets.sum(1) == 1).all() else None


def are_several_labels(targets: Tensor) -> bool:
    """Return whether rows (N, classes) are zeros and ones, and not one-hot: any number of labels for a sample."""
    return targets.ndim == 2 and targets.shape[1] > 1 and bool(((targets == 0) | (targets == 1)).all())


def whole_classes(targets: Tensor) -> Tensor | None:
    """Return floats (N,) or (N, 1) as classes int64 (N,) where they are 0, 1, 2, ... without a gap; None for others."""
    if not len(targets):
        return None
    values = targets.reshape(len(targets), -1)
    if values.shape[1] != 1 or not values.is_floating_point() or not values.isfinite().all():
        return None
    values = values[:, 0]
    if not (values == values.round()).all() or values.min() < 0 or values.max() > len(values) / FEW:
        return None
    classes = values.long()
    return classes if len(classes.unique()) == int(classes.max()) + 1 > 1 else None


def channels_last(shape: torch.Size) -> bool | None:
    """Return whether images (N, A, B, C) have their channels last; None where their shape does not tell.

    Channels are 1, 3 or 4, or the axis that differs where the other two are alike.
    """
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first != last:
        return last
    if shape[1] == shape[2] != shape[3]:
        return True
    return False if shape[2] == shape[3] != shape[1] else None


def as_pixels(values: Tensor) -> tuple[Tensor, str]:
    """Return images (N, C, H, W) of whole numbers as uint8, and what was done; other values as they are, and "".

    Floats from 0 to 255 are bytes; numbers of more than 8 bits are scaled by the range that most of them have.
    """
    if values.dtype == torch.uint8 or values.ndim != 4:
        return values, ""
    if values.is_floating_point():
        if not 1 < values.max() <= BYTES or values.min() < 0 or not (values == values.round()).all():
            return values, ""
        return values.to(torch.uint8), f"{values.dtype} of whole numbers from 0 to 255 are bytes"
    values = values.to(torch.int64)  # torch has few functions for uint16
    if values.min() < 0 or values.max() > DEEP:
        return values, ""
    flat = values.flatten()[:: max(1, values.numel() // PIXELS)].double()
    low, high = (torch.quantile(flat[:PIXELS], share).item() for share in TAILS)
    scaled = (values.float() - low) * (BYTES / max(high - low, 1))
    return scaled.round_().clamp_(0, BYTES).to(torch.uint8), f"{low:,.5g} to {high:,.5g} become 0 to 255"
