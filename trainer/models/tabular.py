"""A fully connected network over numbers and embedded categories."""

from torch import nn

from trainer.config.model import Tabular
from trainer.interfaces import DataSpec
from trainer.models.embeddings import Embeddings
from trainer.models.mlp import MLP


def tabular(config: Tabular, spec: DataSpec) -> nn.Module:
    """The network for a table whose last inputs may be category codes.

    Guo and Berkhahn, Entity Embeddings of Categorical Variables, arXiv:1604.06737, 2016.

    Shape:
        (B, features) float to (B, outputs).
    """
    front = Embeddings(spec.features, spec.cardinalities, config.embedding_dim, config.embedding_dropout)
    body = MLP(
        front.features, spec.outputs, config.hidden, config.activation, config.dropout, batch_norm=config.batch_norm
    )
    return nn.Sequential(front, body) if spec.cardinalities else body
