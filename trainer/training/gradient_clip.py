"""The length of the gradient: measured, and bounded where `trainer.clip_norm` says so."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GradientClip:
    """Measures the gradient where that is needed, and scales it down where it is longer than allowed.

    Args:
        parameters: that are trained.
        max_norm: the longest L2 norm over all of them; None: any.

    Attributes:
        clips: whether there is a bound.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], max_norm: float | None) -> None:
        self.parameters, self.clips = parameters, max_norm is not None
        self._max_norm = max_norm or 0.0

    def __call__(self, gradients: Sequence[Tensor], wanted: bool) -> Tensor | None:
        """Return the norm before clipping, a scalar on the device; None where it is neither bounded nor wanted."""
        if not (self.clips or wanted):
            return None
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clips:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self._max_norm, norm)
        return norm
