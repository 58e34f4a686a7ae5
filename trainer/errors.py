"""The errors that a user can cause and fix: printed as one message, without a traceback.

Any other exception is a bug of ours (or of a plug-in) and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class TrainerError(Exception):
    """A run that could not go on; the message names what happened and the way out. Exit code 1."""

    exit_code = 1


class ConfigError(TrainerError):
    """A key, option or value that the user typed, or one in a YAML file. Exit code 2."""

    exit_code = 2


class DataError(TrainerError):
    """A dataset that is missing, damaged or cannot be learned from. Exit code 2."""

    exit_code = 2


class CheckpointError(TrainerError):
    """A checkpoint or run directory that is missing, damaged or of another network. Exit code 2."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" with the nearest known word, or "" where none is near."""
    words = list(known)
    near = [match for match in words if match.casefold() == word.casefold()]
    near = near or difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    alike = {match: difflib.SequenceMatcher(None, match, word).ratio() for match in near}
    best = [match for match in near if alike[match] == alike[near[0]]]  # equally near: the first by letters
    return f" Did you mean '{min(best)}'?" if best else ""
