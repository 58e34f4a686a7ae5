"""What a file system may lack, by the error of the call that it refuses, and one line to say so."""

import errno
import logging

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})  # flock
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})  # symlink
NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})  # fsync

_LOG = logging.getLogger("trainer")
_said: set[str] = set()
_waiting: list[str] = []


def say_once(what: str, text: str) -> None:
    """Log `text` the first time that this process meets `what`; before anything listens, keep it for `take_notes`."""
    if what in _said:
        return
    _said.add(what)
    if _LOG.handlers:
        _LOG.info(text)
    else:
        _waiting.append(text)


def take_notes() -> list[str]:
    """Return what `say_once` has kept, and forget it."""
    notes = _waiting[:]
    _waiting.clear()
    return notes
