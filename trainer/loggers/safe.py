"""Logs are worth less than the training they tell of."""

from collections.abc import Callable
from typing import Any

from trainer.errors import TrainerError
from trainer.loggers.base import Logger, LogRecord


class SafeLogger:
    """A sink that may fail: the first `OSError` is reported, and nothing more is given to it.

    Args:
        sink: the one that writes.
        what: its files, as they are named to a person.
        tell: is told of the failure.
    """

    def __init__(self, sink: Logger, what: str, tell: Callable[[str], None]) -> None:
        self.sink, self.what, self.tell = sink, what, tell
        self.failed = False

    def write(self, record: LogRecord) -> None:
        """See `Sink`."""
        self._try(self.sink.write, record)

    def flush(self) -> None:
        """See `Sink`."""
        self._try(self.sink.flush)

    def rewind(self, step: int) -> None:
        """See `Sink`."""
        self._try(self.sink.rewind, step)

    def close(self, summary: dict[str, Any]) -> None:
        """See `Sink`; tried also after a failure, to release what can be released."""
        self._try(self.sink.close, summary, always=True)

    def _try(self, act: Callable[..., None], *arguments: Any, always: bool = False) -> None:
        if self.failed and not always:
            return
        try:
            act(*arguments)
        except (OSError, TrainerError) as error:
            if not self.failed:
                self.failed = True
                self.tell(f"{self.what} can no longer be written ({error}); training goes on without.")
