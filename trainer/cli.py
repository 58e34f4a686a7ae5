"""The two console scripts: `train`, and `trainer VERB` for everything else."""

import importlib
import sys
from collections.abc import Callable, Sequence

from trainer.errors import TrainerError

# verb: (module, one line of help). The module is imported when the verb is used.
VERBS = {
    "train": ("trainer.commands.train", "train a model (the same as the command `train`)"),
    "list": ("trainer.commands.list", "list the groups, or the options of one: trainer list model"),
    "explain": ("trainer.commands.explain", "explain a key: trainer explain optimizer.lr"),
}


def train() -> None:
    """Entry point of `train`."""
    sys.exit(run("train", sys.argv[1:]))


def main() -> None:
    """Entry point of `trainer`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: trainer VERB ...\n\nverbs:")
        print("\n".join(f"  {verb:<10}{line}" for verb, (_, line) in VERBS.items()))
        sys.exit(0)
    if arguments[0] == "--version":
        from trainer import __version__

        print(f"trainer {__version__}")
        sys.exit(0)
    sys.exit(run(arguments[0], arguments[1:]))


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run a verb; a user's mistake becomes one message and its exit code, a bug keeps its traceback."""
    try:
        return _command(verb)(arguments)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone (`train | head`); say nothing more to it, not even when Python flushes at exit.
        sys.stderr.close()
        return 1


def _command(verb: str) -> Callable[[Sequence[str]], int]:
    from trainer.errors import ConfigError, did_you_mean

    if verb not in VERBS:
        raise ConfigError(f"trainer {verb}: no such verb.{did_you_mean(verb, VERBS)} Verbs: {', '.join(VERBS)}.")
    main: Callable[[Sequence[str]], int] = importlib.import_module(VERBS[verb][0]).main
    return main
