"""The id of a run with a tracking service, kept in the run directory so that a resumed run goes on under it."""

import re
from pathlib import Path

from trainer.system import atomic_files


def read_id(directory: Path, service: str) -> str | None:
    """Return the id of a run with a service; None where it has none yet."""
    try:
        text = (directory / f"{service}.id").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text if re.fullmatch(r"[\w-]{1,64}", text) else None


def write_id(directory: Path, service: str, run_id: str) -> None:
    """Keep the id."""
    atomic_files.write_text(directory / f"{service}.id", run_id + "\n")
