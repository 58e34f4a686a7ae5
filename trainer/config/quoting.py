"""What is printed to be typed again: overrides that the grammar reads back as they were, and commands for a shell."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

# Text that Hydra's grammar takes as it stands; anything else is quoted, also what is allowed in some places only.
_AS_IT_STANDS = re.compile(r"(?!(?:null|true|false|inf|nan)\Z)(?:[a-z_/]|\.\.?/)[\w./-]*", re.ASCII | re.IGNORECASE)


def typed_override(key: str, value: object, resolved: bool = True) -> str:
    """Return `key=value` such that, parsed by Hydra and resolved by OmegaConf, it gives exactly this value.

    Args:
        value: text, a path, a number, a truth value, None, or a list of these.
        resolved: whether OmegaConf will resolve it; where nothing does, `${` needs no escape and would keep it.
    """
    return f"{key}={_typed_value(value, resolved)}"


def shell_command(*words: object) -> str:
    """Return the words as one command that can be pasted into a shell (bash, zsh, any POSIX sh)."""
    return shlex.join(map(str, words))


def shell_override(key: str, value: object) -> str:
    """Return an override as the one word that is typed in a shell."""
    return shell_command(typed_override(key, value))


def import_flags(imports: Sequence[str]) -> list[str]:
    """Return the words that name plug-ins on a command line."""
    return [word for name in imports for word in ("--import", name)]


def _typed_value(value: object, resolved: bool) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list() | tuple():
            return f"[{','.join(_typed_value(item, resolved) for item in value)}]"
        case Path() if str(value).startswith("~"):
            return _typed_value(str(Path(value).absolute()), resolved)  # a folder of that name, not somebody's home
        case _:
            text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value)) if resolved else str(value)
            return text if _AS_IT_STANDS.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """Quote by Hydra's grammar, where backslashes count before quotes and at the end alone."""
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)
    return f'"{text}"'
