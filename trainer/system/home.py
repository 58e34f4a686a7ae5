"""The user's home folder: `~` in paths, and caches, also where there is no home or it cannot be written."""

import getpass
import os
import tempfile
from pathlib import Path

from trainer.errors import ConfigError
from trainer.system.file_system import say_once


def provide_home() -> None:
    """Give this process a home folder and a user name where it has none, as in a container with a foreign user id.

    Python, torch and matplotlib ask for both, and most of them end in a traceback.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(temporary_folder())
        say_once("home", f"User {os.getuid()} has no home folder (see HOME): {os.environ['HOME']} takes its place.")
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"user{os.getuid()}"


def expanded(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder.

    Raises:
        ConfigError: for the home folder of a user who does not exist.
    """
    provide_home()
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such user; write the path without ~.") from error


def user_cache() -> Path:
    """Return the cache folder of the user for this program; it need not exist."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "trainer"


def is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself where it does not exist."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def temporary_folder() -> Path:
    """Make a folder of this user below the system's temporary folder; in a later process it is the same one.

    Where that cannot be made, return one that does not exist: a cache is then left out.
    """
    folder = Path(tempfile.gettempdir()) / f"trainer-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():  # another user has taken the name
            folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    except OSError:
        return folder / "missing"
    return folder
