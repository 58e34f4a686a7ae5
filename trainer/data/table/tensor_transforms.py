"""The transforms of a table's columns as operations on tensors, for networks that are exported with them.

Columns whose transforms have none here (calendars, quantiles, those of plug-ins) are taken as they are transformed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.config.transform import (
    Clip,
    Embed,
    Impute,
    Log1p,
    MinMax,
    MissingIndicator,
    Nothing,
    OneHot,
    Ordinal,
    Robust,
    SmoothClip,
    Standardize,
    TransformConfig,
)
from trainer.data.table.preprocess import FittedColumn, Preprocessor
from trainer.data.table.transforms import State

KNOWN = (
    Clip,
    Embed,
    Impute,
    Log1p,
    MinMax,
    MissingIndicator,
    Nothing,
    OneHot,
    Ordinal,
    Robust,
    SmoothClip,
    Standardize,
)


def is_tensor_work(column: FittedColumn) -> bool:
    """Return whether all transforms of a column are operations on tensors."""
    return all(type(transform) in KNOWN for transform in column.transforms)


class TableTransforms(nn.Module):
    """Turns the columns of a table into the inputs of a network, as `Preprocessor` does.

    Its input is float64 (B, columns): for each column a number, seconds since 1970, or the code of a category (1 to its
    levels in their order, 0 for any other), with NaN where a value is missing; a column that is no tensor work has as
    many entries as it becomes inputs. Its output is float32 (B, inputs).
    """

    def __init__(self, fitted: Preprocessor) -> None:
        super().__init__()
        self.fitted = fitted.columns

    def forward(self, columns: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        place = 0
        for column in self.fitted:
            if is_tensor_work(column):
                inputs += apply(column, columns[:, place])
                place += 1
            else:
                width = column.width()
                inputs += columns[:, place : place + width].unbind(1)
                place += width
        return torch.stack(inputs, dim=1).float()


def apply(column: FittedColumn, values: Tensor) -> list[Tensor]:
    """Transform values of a column, float64 (B,), to inputs, each (B,), in the order of `FittedColumn.apply`."""
    columns, extra = [values], list[Tensor]()
    for transform, states in zip(column.transforms, column.states, strict=True):
        given = [part for one, state in zip(columns, states, strict=True) for part in _step(transform, one, state)]
        if transform.beside:
            extra += given
        else:
            columns = given
    return columns + extra


def _step(transform: TransformConfig, values: Tensor, state: State) -> Sequence[Tensor]:
    match transform:
        case Impute():
            return [torch.where(values.isnan(), float(state["value"]), values)]
        case MissingIndicator():
            return [values.isnan().to(values.dtype)] if state["present"] else []
        case Standardize() | Robust() | MinMax():
            return [(values - float(state["center"])) / (float(state["scale"]) or 1.0)]
        case Log1p():
            return [values.sign() * values.abs().log1p()]
        case Clip():
            return [values.clamp(float(state["low"]), float(state["high"]))]
        case SmoothClip():
            return [values / (1 + (values / transform.limit).square()).sqrt()]
        case OneHot():
            return [(values == code).to(values.dtype) for code in range(1, state["levels"] + 2)]
    assert isinstance(transform, (Nothing, Ordinal, Embed))
    return [values]
