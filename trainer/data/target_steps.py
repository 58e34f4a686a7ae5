"""Transforms of numbers to predict that can be undone: trained on the transformed, predicted in the original unit."""

from collections.abc import Sequence

from torch import Tensor, nn

Step = tuple[str, float, float]  # LOG1P, or SCALE with centre and width: (x - centre) / width
LOG1P, SCALE = "log1p", "scale"
LARGEST = 80.0  # logarithm of the largest number that is made: float32 ends at 88


def apply_steps(values: Tensor, steps: Sequence[Step]) -> Tensor:
    """Transform numbers, float (B, outputs)."""
    for name, centre, width in steps:
        values = values.sign() * values.abs().log1p() if name == LOG1P else (values - centre) / width
    return values


def undo_steps(values: Tensor, steps: Sequence[Step]) -> Tensor:
    """Return numbers, float (B, outputs), to the original unit."""
    for name, centre, width in reversed(steps):
        if name == SCALE:
            values = values * width + centre
            continue
        values = values.sign() * values.abs().clamp(max=LARGEST).expm1()
    return values


class UndoSteps(nn.Module):
    """The last layer of a regressor whose target is transformed: from what it learns to the original unit.

    Shape:
        (B, outputs) float to the same.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        return undo_steps(x, self.steps)

    def extra_repr(self) -> str:
        return ", ".join(name for name, _, _ in self.steps)
