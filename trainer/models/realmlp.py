"""RealMLP, a multilayer perceptron whose details and defaults were tuned on many tables.

Holzmüller, Grinsztajn, Steinwart, Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data, NeurIPS
2024, arXiv:2407.04491: section 3 and appendix A.

Several members, each with weights of its own, can be trained side by side: their tensors have one more dimension in
front, and batched products are faster than one network after the other. `lead` is (members,), or () of one network.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config.model import RealMlp
from trainer.data.types import DataSpec
from trainer.models.members import average
from trainer.models.progress import FlatCosDropout
from trainer.models.table_only import check_is_table

Lead = tuple[int, ...]

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
        lead: of the members.

    Shape:
        (*lead, B, features) float to (*lead, B, features · dim).
    """

    def __init__(self, features: int, sigma: float = 0.1, frequencies: int = 16, dim: int = 4, lead: Lead = ()) -> None:
        super().__init__()
        self.frequency = parameter(sigma * torch.randn(*lead, features, frequencies), EMBEDDING_RATE)
        self.phase = parameter(torch.empty(*lead, features, frequencies).uniform_(-math.pi, math.pi), EMBEDDING_RATE)
        bound = 1 / math.sqrt(frequencies)
        weight = torch.empty(*lead, features, frequencies, dim - 1).uniform_(-bound, bound)
        self.weight = parameter(weight, EMBEDDING_RATE)
        self.bias = parameter(torch.empty(*lead, features, dim - 1).uniform_(-bound, bound), EMBEDDING_RATE)

    def forward(self, x: Tensor) -> Tensor:
        frequency, phase, bias = (part.unsqueeze(-3) for part in (self.frequency, self.phase, self.bias))
        waves = torch.cos(2 * math.pi * frequency * x[..., None] + phase)
        linear = torch.einsum("...bfi,...fio->...bfo", waves, self.weight) + bias
        return torch.cat([x[..., None], linear], dim=-1).flatten(-2)


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
        lead: of the members.

    Attributes:
        features: numbers in the output for one sample and member.

    Shape:
        (B, categories) float, whole numbers below their cardinality, to (*lead, B, self.features) float32.
    """

    def __init__(self, cardinalities: Sequence[int], most: int, lead: Lead = ()) -> None:
        super().__init__()
        self.tables, self.features, self.lead = nn.ModuleList(), 0, lead
        members = math.prod(lead)
        for codes in cardinalities:
            few = codes - 2 <= most
            vectors = LevelInputs(codes - 2) if few else nn.Embedding(codes, members * CATEGORY, padding_idx=0)
            self.tables.append(vectors)
            self.features += vectors.embedding_dim if few else CATEGORY

    def forward(self, x: Tensor) -> Tensor:
        codes = x.long()
        vectors = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        if not self.lead:
            return torch.cat(vectors, dim=1)
        [members] = self.lead
        return torch.cat(
            [
                each.expand(members, -1, -1)
                if isinstance(table, LevelInputs)
                else each.unflatten(1, (members, CATEGORY)).movedim(1, 0)
                for table, each in zip(self.tables, vectors, strict=True)
            ],
            dim=-1,
        )


class Scale(nn.Module):
    """Multiplies each input by a learned number, 1 at first: a soft selection of inputs, learned fast (section 3)."""

    def __init__(self, features: int, lead: Lead = ()) -> None:
        super().__init__()
        self.weight = parameter(torch.ones(*lead, features), SCALE_RATE)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.unsqueeze(-2)


class NtkLinear(nn.Module):
    """A linear layer in the neural tangent parametrisation: x W / √inputs + b (section 3).

    Args:
        inputs, outputs: numbers of a sample.
        lead: of the members.

    Shape:
        (*lead, B, inputs) float to (*lead, B, outputs).
    """

    def __init__(self, inputs: int, outputs: int, lead: Lead = ()) -> None:
        super().__init__()
        self.weight = parameter(torch.randn(*lead, outputs, inputs))
        self.bias = parameter(torch.randn(*lead, outputs), BIAS_RATE, decays=False)
        self.scale = 1 / math.sqrt(inputs)

    def fit(self, x: Tensor) -> None:
        """Draw weights with which each output has deviation 1 on the rows x, and biases that put its zero among them.

        A bias is minus a random average of five of the outputs, so that the kinks of the activation lie where the data
        is (appendix A.1: data-driven initialisation, after He et al.'s he+5).
        """
        nn.init.normal_(self.weight)
        outputs = x @ self.weight.mT * self.scale
        deviation = outputs.std(-2, correction=0)
        deviation[deviation == 0] = 1.0  # of inputs that are all the same
        self.weight.div_(deviation[..., None])
        outputs = outputs / deviation.unsqueeze(-2)
        corner = (*outputs.shape[:-2], CORNERS, outputs.shape[-1])
        shares = torch.empty(corner).exponential_()
        corners = outputs.gather(-2, torch.randint(x.shape[-2], corner))
        self.bias.copy_(-(corners * shares / shares.sum(-2, keepdim=True)).sum(-2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT * self.scale + self.bias.unsqueeze(-2)


class ParametricActivation(nn.Module):
    """Lies between the identity and an activation: x + a (f(x) - x), with a learned a for each unit, 1 at first."""

    def __init__(self, units: int, name: str, lead: Lead = ()) -> None:
        super().__init__()
        self.weight = parameter(torch.ones(*lead, units), ACTIVATION_RATE)
        self.function = F.selu if name == "selu" else F.mish

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.function(x) - x) * self.weight.unsqueeze(-2)


class RealMLP(nn.Module):
    """Periodic embeddings, a scaling layer, and hidden layers.

    Weights and biases begin at random, fitted to some training rows; see `NtkLinear.fit`.

    Args:
        features: inputs, category codes included.
        cardinalities: the number of codes of each of the last inputs.
        outputs: number of classes, or of predicted numbers.
        classes: whether outputs are logits; members then average probabilities.
        config: the widths, the activation, ... Dropout stays for the first half of training, and then falls to 0 along
            half a cosine; members have weights of their own, and their answers are averaged.

    Shape:
        (B, features) float to (B, outputs), of several members in training to (B, members, outputs).
    """

    def __init__(
        self, features: int, cardinalities: Sequence[int], outputs: int, classes: bool, config: RealMlp
    ) -> None:
        super().__init__()
        numbers = features - len(cardinalities)
        self.numbers, self.classes = numbers, classes
        self.lead: Lead = (config.members,) if config.members > 1 else ()
        activation = config.activation
        if activation == "auto":  # table A.1
            activation = "selu" if classes else "mish"
        embed, hidden = config.embed, config.hidden
        self.categories = CategoryInputs(cardinalities, config.onehot_levels, self.lead) if cardinalities else None
        self.periodic = PeriodicEmbeddings(numbers, lead=self.lead) if embed and numbers else nn.Identity()
        width = numbers * (4 if embed else 1) + (self.categories.features if self.categories else 0)
        layers: list[nn.Module] = [Scale(width, self.lead)]
        for before, after in pairwise([width, *hidden]):
            layers += [NtkLinear(before, after, self.lead), ParametricActivation(after, activation, self.lead)]
            layers.append(FlatCosDropout(config.dropout))
        layers.append(NtkLinear([width, *hidden][-1], outputs, self.lead))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(self._embedded(x))
        if not self.lead:
            return outputs
        outputs = outputs.movedim(0, 1)
        return outputs if self.training else average(outputs, self.classes)

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
        numbers: Tensor = self.periodic(x[:, : self.numbers].expand(*self.lead, -1, -1))
        if self.categories is None:
            return numbers
        return torch.cat([numbers, self.categories(x[:, self.numbers :])], dim=-1)


def realmlp_model(config: RealMlp, spec: DataSpec) -> nn.Module:
    """Make the network of `model=realmlp`; raises `ConfigError` where the data is no table."""
    check_is_table(spec, "realmlp")
    classes = spec.labels is not None
    network = RealMLP(spec.features, spec.cardinalities, spec.outputs, classes, config)
    if spec.labels is None:
        for weights in network.parameters():
            factor = getattr(weights, "lr_factor", 1.0) * config.lr_of_numbers
            weights.lr_factor = factor  # type: ignore[attr-defined]
    return network
