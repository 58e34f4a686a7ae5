"""What is wanted of the files of a table, whatever their format."""

from collections.abc import Callable
from dataclasses import dataclass

from trainer.config.table import Csv
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.row_validator import Rejection


@dataclass(frozen=True)
class ReadOptions:
    """How to read every file of a table.

    Attributes:
        config: says what means missing, which columns are numbers, and more.
        columns: the columns to read, in this order.
        text: the columns that become strings, whatever they hold.
        exact: the columns whose numbers are not rounded to float32.
        targets: columns in which a missing value makes a row unusable.
        reject: is called with each row that cannot be used; may raise.
        store: holds the columns that were read.
        settled: whether a trained model has settled what each column is.
    """

    config: Csv
    columns: list[str]
    text: frozenset[str]
    exact: frozenset[str]
    targets: tuple[str, ...]
    reject: Callable[[Rejection], None]
    store: ColumnStore
    settled: bool = False
