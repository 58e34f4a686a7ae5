"""The multilayer perceptron."""

from itertools import pairwise

from torch import Tensor, nn

from trainer.models.norm import make_norm

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class MLP(nn.Module):
    """Linear layers with a non-linearity between them, on the flattened input.

    Args:
        features: numbers in a flattened sample.
        outputs: number of classes, or of predicted numbers.
        hidden: the width of each hidden layer.
        activation: relu, gelu, silu, tanh or sigmoid.
        dropout: probability to drop a hidden unit.
        norm: normalisation of each hidden layer before the non-linearity: `batch`, `group`, or None.

    Shape:
        (B, ...) float with `features` numbers per sample to (B, outputs).
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        hidden: list[int],
        activation: str = "relu",
        dropout: float = 0.0,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([features, *hidden]):
            layers.append(nn.Linear(before, after))
            if norm:
                layers.append(make_norm(norm, nn.BatchNorm1d, after))
            layers.append(_ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(([features, *hidden])[-1], outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
