"""A fully connected network over numbers and embedded categories."""

from torch import nn

from trainer.config.model import Tabular
from trainer.data.types import DataSpec
from trainer.models.embeddings import Embeddings
from trainer.models.mlp import MLP
from trainer.models.table_only import check_is_table


def tabular_model(config: Tabular, spec: DataSpec) -> nn.Module:
    """Make the network of `model=tabular`: embeddings of the category codes, if there are any, before an MLP.

    Guo and Berkhahn, Entity Embeddings of Categorical Variables, arXiv:1604.06737, 2016.

    Shape:
        (B, features) float to (B, outputs).

    Raises:
        ConfigError: where the data is no table.
    """
    check_is_table(spec, "tabular")
    front = Embeddings(spec.features, spec.cardinalities, config.embedding_dim, config.embedding_dropout)
    body = MLP(front.features, spec.outputs, config.hidden, config.activation, config.dropout, config.layer_norm())
    return nn.Sequential(front, body) if spec.cardinalities else body
