"""Learned vectors (embeddings) for the categories of a table."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SCALE = 0.01  # standard deviation of initial vectors: small, so that the numeric columns matter more at first


def dimension(cardinality: int) -> int:
    """Return the length of a category's vector: min(600, round(1.6 · n^0.56)), the rule of fastai's tabular models.

    Howard and Gugger, fastai: A Layered API for Deep Learning, Information 11(2), 2020 (`emb_sz_rule`).
    """
    return min(600, round(1.6 * math.pow(cardinality, 0.56)))


class Embeddings(nn.Module):
    """Replaces the category codes among the inputs by learned vectors.

    Code 0 stands for a category that was not seen in training: its vector is 0 and stays so.

    Args:
        features: inputs, codes included.
        cardinalities: the number of codes of each of the last inputs.
        dim: length of the vectors; None: `dimension` of each.
        dropout: probability to drop a number of a vector.

    Attributes:
        features: numbers in the output for one sample.

    Shape:
        (B, features) float, its last columns whole numbers below their cardinality, to (B, self.features) float.
    """

    def __init__(
        self, features: int, cardinalities: Sequence[int], dim: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.numbers = features - len(cardinalities)
        dims = [dim or dimension(n) for n in cardinalities]
        self.tables = nn.ModuleList(_table(n, length) for n, length in zip(cardinalities, dims, strict=True))
        self.dropout = nn.Dropout(dropout)
        self.features = self.numbers + sum(dims)

    def forward(self, x: Tensor) -> Tensor:
        codes = x[:, self.numbers :].long()
        vectors = torch.cat([table(codes[:, i]) for i, table in enumerate(self.tables)], dim=1)
        return torch.cat([x[:, : self.numbers], self.dropout(vectors).to(x.dtype)], dim=1)


def _table(codes: int, dim: int) -> nn.Embedding:
    """Make the vectors of one category, that of code 0 being 0."""
    table = nn.Embedding(codes, dim, padding_idx=0)  # no gradient at 0
    with torch.no_grad():
        table.weight.normal_(std=SCALE)[0] = 0
    return table
