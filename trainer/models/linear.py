"""A linear layer, written out, and the models made of it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CustomLinear(nn.Module):
    """An affine map `y = x Wᵀ + b`, as `torch.nn.Linear`, written out.

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
        bias: whether `b` is added.

    Shape:
        (..., in_features) float to (..., out_features).

    Attributes:
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    The weights start Kaiming-normal (He et al. 2015, eq. 10: variance 2 / in_features), the bias at zero.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)  # one kernel, where x @ self.weight.T + self.bias is three

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def linear_model(features: int, outputs: int, bias: bool = True) -> nn.Sequential:
    """Make logistic or linear regression: (B, ...) with `features` numbers per sample to (B, outputs)."""
    return nn.Sequential(nn.Flatten(), CustomLinear(features, outputs, bias))
