"""What a run says to a person, as a list."""

import contextlib
import logging
from collections.abc import Callable, Iterator

log = logging.getLogger("trainer")


class _Listener(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the message on as it was said."""
        self.tell(record.getMessage())


@contextlib.contextmanager
def told_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` with every message of the logger "trainer"."""
    handler, level = _Listener(tell), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Yield a list that grows with every message of the logger "trainer"."""
    said: list[str] = []
    with told_to(said.append):
        yield said
