"""`model=auto`: the model that suits the data."""

from trainer.config.model import Cnn, Mlp, ModelConfig, Tabular
from trainer.data.types import DataSpec

# Training rows up to which mlp scores higher than tabular (0.520 against 0.514 over 84 draws of the 29 tables of
# scripts/benchmarks/bench_tables.py, one split each); beyond, neither does (0.521 against 0.524, 16 draws).
FEW = 2600


def choose_model(spec: DataSpec) -> tuple[ModelConfig, str]:
    """Return the model that suits the data, with its defaults, and what it was chosen for."""
    if len(spec.input_shape) == 3:
        return Cnn(), "images"
    if len(spec.input_shape) > 1:
        return Mlp(), f"samples of shape {spec.shape_words()}"
    if spec.samples <= FEW:
        return Mlp(), f"a table of {spec.samples:,} training rows, up to {FEW:,}"
    return Tabular(), f"a table of {spec.samples:,} training rows, more than {FEW:,}"
