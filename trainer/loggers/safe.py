"""A logger that may fail without stopping the training."""

import logging
from collections.abc import Callable
from typing import Any

from trainer.errors import TrainerError
from trainer.loggers.base import Logger, LogRecord

_log = logging.getLogger("trainer")


class SafeLogger:
    """Passes everything on until the first `OSError` or `TrainerError`: that is reported, and no more is passed on.

    Args:
        logger: the one that writes.
        what: it writes, as that is named to a person.
    """

    def __init__(self, logger: Logger, what: str) -> None:
        self.logger, self.what, self.failed = logger, what, False

    def write(self, record: LogRecord) -> None:
        """Take one record; see `Logger`."""
        self._try(self.logger.write, record)

    def flush(self) -> None:
        """Make durable what was written; see `Logger`."""
        self._try(self.logger.flush)

    def rewind(self, step: int) -> None:
        """Forget the records after `step`; see `Logger`."""
        self._try(self.logger.rewind, step)

    def close(self, summary: dict[str, Any]) -> None:
        """End with the run; tried also after a failure, to release what can be released."""
        self._try(self.logger.close, summary, always=True)

    def _try(self, act: Callable[..., None], *arguments: Any, always: bool = False) -> None:
        if self.failed and not always:
            return
        try:
            act(*arguments)
        except (OSError, TrainerError) as error:
            if not self.failed:
                self.failed = True
                _log.warning("%s can no longer be written (%s); training goes on without.", self.what, error)
