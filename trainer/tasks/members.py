"""Outputs of several members of one network, (B, members, outputs): trained one by one, scored together."""

from collections.abc import Callable

from torch import Tensor

NDIM = 3  # of the outputs of members


def member_losses(
    loss_sum: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None,
) -> Tensor:
    """Return the mean over the members of their summed losses, a scalar.

    Args:
        loss_sum: of outputs (B, outputs), targets and weights; see `Task.loss_sum`.
        outputs: float (B, members, outputs).
        targets, weights: of the samples.
    """
    members = outputs.shape[1]
    each = None if weights is None else weights.repeat_interleave(members, 0)
    return loss_sum(outputs.flatten(0, 1), targets.repeat_interleave(members, 0), each) / members
