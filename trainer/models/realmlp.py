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
from trainer.models.progress import FlatCosDropout
from trainer.models.table_only import check_is_table

CATEGORY = 8  # length of the vector of a category of many levels
ON = 1.664  # one-hot: what the robust scaling and the smooth clipping of the paper make of the 1 of a rare level
CORNERS = 5  # rows whose average is the zero of a unit at first
# Factors of the learning rate, of these parameters against the weights (table A.1).
SCALE_RATE, BIAS_RATE, EMBEDDING_RATE, ACTIVATION_RATE = 6.0, 0.1, 0.1, 0.1


def parameter(values: Tensor, lr_factor: float = 1.0, decays: bool = True) -> nn.Parameter:
    """Make a parameter with a learning rate and a decay of its own; see `trainer.optim.optimizers`.

    The scales of inputs and the parameters of activations decay, which selects among the inputs; biases do not.
    """
    made = nn.Parameter(values)
    made.lr_factor, made.decays = lr_factor, decays  # type: ignore[attr-defined]
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


class LevelInputs(nn.Module):
    """Replaces a code by one input a level, see `CategoryInputs`.

    Shape:
        (B,) int64 to (B, self.embedding_dim) float32.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        rows = torch.tensor([[-ON / 2], [ON / 2]]) if levels == 2 else ON * torch.eye(levels)
        none = torch.zeros(1, rows.shape[1])
        self.vectors: Tensor
        self.register_buffer("vectors", torch.cat([none, rows, none]), persistent=False)
        self.embedding_dim = rows.shape[1]

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.vectors)


class CategoryInputs(nn.Module):
    """Replaces the codes of categories: of few levels by one input a level, of more by a learned vector.

    A category of two levels is one input, negative or positive. A level that training has not seen is zeros, and so is
    a missing one of few levels.

    Args:
        cardinalities: the number of codes of each category: its levels, and those for unseen and for missing.
        most: levels up to which they are few.

    Attributes:
        features: numbers in the output for one sample.

    Shape:
        (B, categories) float, whole numbers below their cardinality, to (B, self.features) float32.
    """

    def __init__(self, cardinalities: Sequence[int], most: int) -> None:
        super().__init__()
        self.tables, self.features = nn.ModuleList(), 0
        for codes in cardinalities:
            vectors = LevelInputs(codes - 2) if codes - 2 <= most else nn.Embedding(codes, CATEGORY, padding_idx=0)
            self.tables.append(vectors)
            self.features += vectors.embedding_dim

    def forward(self, x: Tensor) -> Tensor:
        codes = x.long()
        return torch.cat([table(codes[:, i]) for i, table in enumerate(self.tables)], dim=1)


class Scale(nn.Module):
    """Multiplies each input by a learned number, 1 at first: a soft selection of inputs, learned fast (section 3)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = parameter(torch.ones(features), SCALE_RATE)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class NtkLinear(nn.Module):
    """A linear layer in the neural tangent parametrisation: x W / √inputs + b (section 3).

    Args:
        inputs, outputs: numbers of a sample.

    Shape:
        (B, inputs) float to (B, outputs).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = parameter(torch.randn(outputs, inputs))
        self.bias = parameter(torch.randn(outputs), BIAS_RATE, decays=False)
        self.scale = 1 / math.sqrt(inputs)

    def fit(self, x: Tensor) -> None:
        """Draw weights with which each output has deviation 1 on the rows x, and biases that put its zero among them.

        A bias is minus a random average of five of the outputs, so that the kinks of the activation lie where the data
        is (appendix A.1: data-driven initialisation, after He et al.'s he+5).
        """
        nn.init.normal_(self.weight)
        outputs = F.linear(x, self.weight) * self.scale
        deviation = outputs.std(0, correction=0)
        deviation[deviation == 0] = 1.0  # of inputs that are all the same
        self.weight.div_(deviation[:, None])
        outputs = outputs / deviation
        units = outputs.shape[1]
        shares = torch.empty(CORNERS, units).exponential_()
        corners = outputs.gather(0, torch.randint(len(x), (CORNERS, units)))
        self.bias.copy_(-(corners * shares / shares.sum(0)).sum(0))

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

    Weights and biases begin at random, fitted to some training rows; see `NtkLinear.fit`.

    Args:
        features: inputs, category codes included.
        cardinalities: the number of codes of each of the last inputs.
        outputs: number of classes, or of predicted numbers.
        hidden: the width of each hidden layer.
        activation: selu or mish.
        dropout: probability at first; it stays for the first half of training, and falls to 0 along half a cosine.
        embed: whether numbers have periodic embeddings.
        onehot_levels: of a category, up to which each is an input.

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
        onehot_levels: int = 9,
    ) -> None:
        super().__init__()
        numbers = features - len(cardinalities)
        self.numbers = numbers
        self.categories = CategoryInputs(cardinalities, onehot_levels) if cardinalities else None
        self.periodic = PeriodicEmbeddings(numbers) if embed and numbers else nn.Identity()
        width = numbers * (4 if embed else 1) + (self.categories.features if self.categories else 0)
        layers: list[nn.Module] = [Scale(width)]
        for before, after in pairwise([width, *hidden]):
            layers += [NtkLinear(before, after), ParametricActivation(after, activation), FlatCosDropout(dropout)]
        layers.append(NtkLinear([width, *hidden][-1], outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(self._embedded(x))
        return outputs

    @torch.no_grad()
    def fit_initial_weights(self, inputs: Tensor) -> None:
        """See `trainer.models.ready`; from the first layer to the last, each on what those before it give."""
        training = self.training
        x = self.eval()._embedded(inputs)
        for layer in self.layers:
            if isinstance(layer, NtkLinear):
                layer.fit(x)
            x = layer(x)
        self.train(training)

    def _embedded(self, x: Tensor) -> Tensor:
        numbers: Tensor = self.periodic(x[:, : self.numbers])
        if self.categories is None:
            return numbers
        return torch.cat([numbers, self.categories(x[:, self.numbers :])], dim=1)


def realmlp_model(config: RealMlp, spec: DataSpec) -> nn.Module:
    """Make the network of `model=realmlp`; raises `ConfigError` where the data is no table."""
    check_is_table(spec, "realmlp")
    activation = config.activation
    if activation == "auto":  # table A.1
        activation = "mish" if spec.labels is None else "selu"
    sizes = spec.features, spec.cardinalities, spec.outputs, config.hidden
    network = RealMLP(*sizes, activation, config.dropout, config.embed, config.onehot_levels)
    if spec.labels is None:
        for weights in network.parameters():
            factor = getattr(weights, "lr_factor", 1.0) * config.lr_of_numbers
            weights.lr_factor = factor  # type: ignore[attr-defined]
    return network
