"""RealMLP, a multilayer perceptron whose details and defaults were tuned on many tables.

Holzmüller, Grinsztajn, Steinwart, Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data, NeurIPS
2024, arXiv:2407.04491: section 3 and appendix A.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config.model import RealMlp
from trainer.data.types import DataSpec
from trainer.models.embeddings import Embeddings
from trainer.models.progress import FlatCosDropout
from trainer.models.table_only import check_is_table

CATEGORY = 8  # length of the vector of a category
# Factors of the learning rate, of these parameters against the weights (table A.1).
SCALE_RATE, BIAS_RATE, EMBEDDING_RATE, ACTIVATION_RATE = 6.0, 0.1, 0.1, 0.1


def parameter(values: Tensor, lr_factor: float = 1.0) -> nn.Parameter:
    """Make a parameter that is trained at a multiple of the learning rate; see `trainer.optim.optimizers`."""
    made = nn.Parameter(values)
    made.lr_factor = lr_factor  # type: ignore[attr-defined]
    return made


class PeriodicEmbeddings(nn.Module):
    """Replaces each number x by (x, V cos(2π (w x + b)) + c): periodic, with a bias, and x itself (PBLD, section 3).

    Args:
        features: how many numbers.
        sigma: standard deviation of the initial frequencies w.
        frequencies: for each number.
        dim: numbers that each becomes, itself included.

    Shape:
        (B, features) float to (B, features · dim).
    """

    def __init__(self, features: int, sigma: float = 0.1, frequencies: int = 16, dim: int = 4) -> None:
        super().__init__()
        self.frequency = parameter(sigma * torch.randn(features, frequencies), EMBEDDING_RATE)
        self.phase = parameter(torch.empty(features, frequencies).uniform_(-math.pi, math.pi), EMBEDDING_RATE)
        bound = 1 / math.sqrt(frequencies)
        self.weight = parameter(torch.empty(features, frequencies, dim - 1).uniform_(-bound, bound), EMBEDDING_RATE)
        self.bias = parameter(torch.empty(features, dim - 1).uniform_(-bound, bound), EMBEDDING_RATE)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.cos(2 * math.pi * self.frequency * x[..., None] + self.phase)
        linear = torch.einsum("bfi,fio->bfo", waves, self.weight) + self.bias
        return torch.cat([x[..., None], linear], dim=-1).flatten(1)


class Scale(nn.Module):
    """Multiplies each input by a learned number, 1 at first: a soft selection of inputs, learned fast (section 3)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = parameter(torch.ones(features), SCALE_RATE)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class NtkLinear(nn.Module):
    """A linear layer in the neural tangent parametrisation: x W / √inputs + b, with W of variance 1 (section 3).

    Args:
        inputs, outputs: numbers of a sample.
        zero: whether weights and biases begin at 0, as those of the last layer do.

    Shape:
        (B, inputs) float to (B, outputs).
    """

    def __init__(self, inputs: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        self.weight = parameter(torch.zeros(outputs, inputs) if zero else torch.randn(outputs, inputs))
        self.bias = parameter(torch.zeros(outputs) if zero else torch.randn(outputs), BIAS_RATE)
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) * self.scale + self.bias


class ParametricActivation(nn.Module):
    """Lies between the identity and an activation: x + a (f(x) - x), with a learned a for each unit, 1 at first."""

    def __init__(self, units: int, name: str) -> None:
        super().__init__()
        self.weight = parameter(torch.ones(units), ACTIVATION_RATE)
        self.function = F.selu if name == "selu" else F.mish

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.function(x) - x) * self.weight


class RealMLP(nn.Module):
    """Periodic embeddings, a scaling layer, and hidden layers.

    Biases and weights begin at random, as those of the simplified variant do, not fitted to the training rows.

    Args:
        features: inputs, category codes included.
        cardinalities: the number of codes of each of the last inputs.
        outputs: number of classes, or of predicted numbers.
        hidden: the width of each hidden layer.
        activation: selu or mish.
        dropout: probability at first; it stays for the first half of training, and falls to 0 along half a cosine.
        embed: whether numbers have periodic embeddings.

    Shape:
        (B, features) float to (B, outputs).
    """

    def __init__(
        self,
        features: int,
        cardinalities: Sequence[int],
        outputs: int,
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        embed: bool = True,
    ) -> None:
        super().__init__()
        numbers = features - len(cardinalities)
        self.numbers = numbers
        self.categories = Embeddings(len(cardinalities), cardinalities, CATEGORY) if cardinalities else None
        self.periodic = PeriodicEmbeddings(numbers) if embed and numbers else nn.Identity()
        width = numbers * (4 if embed else 1) + CATEGORY * len(cardinalities)
        layers: list[nn.Module] = [Scale(width)]
        for before, after in pairwise([width, *hidden]):
            layers += [NtkLinear(before, after), ParametricActivation(after, activation), FlatCosDropout(dropout)]
        layers.append(NtkLinear([width, *hidden][-1], outputs, zero=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.periodic(x[:, : self.numbers])
        if self.categories is not None:
            inputs = torch.cat([inputs, self.categories(x[:, self.numbers :])], dim=1)
        outputs: Tensor = self.layers(inputs)
        return outputs


def realmlp_model(config: RealMlp, spec: DataSpec) -> nn.Module:
    """Make the network of `model=realmlp`; raises `ConfigError` where the data is no table."""
    check_is_table(spec, "realmlp")
    activation = config.activation
    if activation == "auto":  # table A.1
        activation = "mish" if spec.labels is None else "selu"
    return RealMLP(
        spec.features, spec.cardinalities, spec.outputs, config.hidden, activation, config.dropout, config.embed
    )
