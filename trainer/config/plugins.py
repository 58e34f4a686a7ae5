"""Components from outside the package: installed ones by entry point, others named on the command line."""

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from trainer.errors import ConfigError

ENTRY_POINT = "trainer.plugins"
PACKAGE = Path(__file__).parent.parent
_outside: set[str] = set()  # the names of the modules and packages of the plug-ins
# (module, name; None: any) that earlier versions of the README told plug-ins to import -> the public name.
MOVED = {
    ("trainer.config.data", "Data"): "DataConfig",
    ("trainer.config.model", "Model"): "ModelConfig",
    ("trainer.data.split", None): "from_tensors",
}


def load(imports: Sequence[str]) -> None:
    """Import the installed plug-ins, then each file (`my_models.py`) or module (`mylab.models`) that was named.

    Only the command line names code: a config selects among what is registered and imports nothing.

    Raises:
        ConfigError: for a file or module that does not exist. What goes wrong inside one keeps its traceback.
    """
    for point in entry_points(group=ENTRY_POINT):
        _outside.add(point.module.partition(".")[0])
        with _explain_moved_names(f"plug-in {point.value}"):
            point.load()
    for name in imports:
        with _explain_moved_names(f"--import {name}"):
            if name.endswith(".py"):
                _load_file(Path(name))
            else:
                _outside.add(name.partition(".")[0])
                _load_module(name)


def outside_traceback(error: BaseException) -> str | None:
    """Return the traceback of an error that went through the code of a plug-in, without the frames of this package.

    None for any other error: its traceback is what a report of a bug needs.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not any(str(frame.f_globals.get("__name__")).partition(".")[0] in _outside for frame in frames):
        return None
    told = traceback.TracebackException.from_exception(error)
    chain: list[traceback.TracebackException | None] = [told]
    for each in chain:
        if each is not None:
            kept = [line for line in each.stack if not _is_own(line.filename)]
            each.stack = traceback.StackSummary.from_list(kept)
            chain += [each.__cause__, each.__context__]
    return "".join(told.format()).rstrip()


def _is_own(filename: str) -> bool:
    """Return whether a frame is of this package, or of what has started it."""
    return filename.startswith(("<frozen ", f"{PACKAGE}/")) or Path(filename).stem in ("train", "trainer")


@contextlib.contextmanager
def _explain_moved_names(what: str) -> Iterator[None]:
    """Turn a failed import of a name that was documented elsewhere into a message that says where it is now."""
    try:
        yield
    except ImportError as error:
        for (module, name), new in MOVED.items():
            if error.name == module and (name is None or f"'{name}'" in error.msg):
                raise ConfigError(
                    f"{what}: {error.msg.partition(' (')[0]}: write `from trainer import {new}`."
                ) from error
        raise


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"--import {path}: no such file.")
    name = f"trainer_import_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _outside.add(name)
    # In sys.modules before it runs: dataclasses and worker processes look their module up by name.
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _load_module(name: str) -> None:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the module is there; something that it imports is not
        raise ConfigError(f"--import {name}: no such module here; a file is named with its .py.") from error
