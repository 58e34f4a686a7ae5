"""TabM: several multilayer perceptrons that share nearly all of their weights, trained side by side.

Gorishniy, Kotelnikov, Babenko, TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling, ICLR 2025,
arXiv:2410.24210: section 3. The layers are those of BatchEnsemble (Wen, Tran, Ba 2020, arXiv:2002.06715, eq. 1 to 5).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainer.config.model import TabM
from trainer.data.types import DataSpec
from trainer.models.embeddings import Embeddings
from trainer.models.members import average
from trainer.models.table_only import check_is_table


class EnsembleLinear(nn.Module):
    """A linear layer whose members share the weights: ((x ∘ r) W) ∘ s + b, with r, s and b of each member.

    Args:
        inputs, outputs: numbers of a sample.
        members: how many.
        signs: whether r begins as random signs, as in the first layer, where they tell the members apart; else as 1.

    Shape:
        (B, members, inputs) float to (B, members, outputs).
    """

    def __init__(self, inputs: int, outputs: int, members: int, signs: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        r = torch.randint(0, 2, (members, inputs)) * 2.0 - 1 if signs else torch.ones(members, inputs)
        self.r, self.s = nn.Parameter(r), nn.Parameter(torch.ones(members, outputs))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound).repeat(members, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x * self.r, self.weight) * self.s + self.bias


class Heads(nn.Module):
    """A linear layer of its own for each member.

    Shape:
        (B, members, inputs) float to (B, members, outputs).
    """

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bki,kio->bko", x, self.weight) + self.bias


class TabMNetwork(nn.Module):
    """Members over the same inputs: all of their outputs in training, their average else.

    Args:
        features: inputs, category codes included.
        cardinalities: the number of codes of each of the last inputs.
        outputs: number of classes, or of predicted numbers.
        hidden: the width of each hidden layer.
        members: how many.
        dropout: probability to drop a hidden unit.
        classes: whether outputs are logits; the average is then that of the probabilities.

    Shape:
        (B, features) float to (B, members, outputs) in training, else (B, outputs).
    """

    def __init__(
        self,
        features: int,
        cardinalities: Sequence[int],
        outputs: int,
        hidden: Sequence[int],
        members: int,
        dropout: float,
        classes: bool,
    ) -> None:
        super().__init__()
        self.members, self.classes = members, classes
        self.front = Embeddings(features, cardinalities) if cardinalities else nn.Identity()
        width = self.front.features if isinstance(self.front, Embeddings) else features
        layers: list[nn.Module] = []
        for before, after in pairwise([width, *hidden]):
            layers += [EnsembleLinear(before, after, members, signs=not layers), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.heads = Heads([width, *hidden][-1], outputs, members)

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.front(x)[:, None].expand(-1, self.members, -1)
        outputs: Tensor = self.heads(self.layers(inputs))
        return outputs if self.training else average(outputs, self.classes)


def tabm_model(config: TabM, spec: DataSpec) -> nn.Module:
    """Make the network of `model=tabm`; raises `ConfigError` where the data is no table."""
    check_is_table(spec, "tabm")
    classes = spec.labels is not None
    return TabMNetwork(
        spec.features, spec.cardinalities, spec.outputs, config.hidden, config.members, config.dropout, classes
    )
