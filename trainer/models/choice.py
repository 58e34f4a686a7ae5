"""`model=auto`: the model that suits the data."""

from trainer.config.model import Cnn, Mlp, ModelConfig, Tabular
from trainer.data.types import DataSpec

FEW = 2000  # training rows from which BatchNorm and embeddings have enough to learn from: a guess, not measured


def choose_model(spec: DataSpec) -> tuple[ModelConfig, str]:
    """Return the model that suits the data, with its defaults, and what it was chosen for."""
    if len(spec.input_shape) == 3:
        return Cnn(), "images"
    if len(spec.input_shape) > 1:
        return Mlp(), f"samples of shape {spec.shape_words()}"
    if spec.samples <= FEW:
        return Mlp(), f"a table of {spec.samples:,} training rows, up to {FEW:,}"
    return Tabular(), f"a table of {spec.samples:,} training rows, more than {FEW:,}"
