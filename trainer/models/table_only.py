"""The check of the networks that take the columns of a table, and nothing else."""

from trainer.data.types import DataSpec
from trainer.errors import ConfigError


def check_is_table(spec: DataSpec, model: str) -> None:
    """Raise `ConfigError` where samples are not the columns of a table."""
    if len(spec.input_shape) != 1:
        raise ConfigError(
            f"model={model} needs the columns of a table, but the data gives samples of shape {spec.shape_words()}; "
            "use model=cnn or model=mlp."
        )
