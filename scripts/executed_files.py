"""Count the files of the package that `train model=cnn data=cifar10` executes up to its first optimizer step.

    python scripts/executed_files.py

A file is executed if a function in it has run; one that was only imported has made its classes and constants, and is
counted apart. The run is real: the command line, its config, a run directory, a checkpoint of step 0, and one step on
80 made-up images in the cache of the data set.
"""

import argparse
import importlib
import inspect
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType

import torch  # before the counting: what torch does is not of interest

PACKAGE = Path(__file__).parent.parent / "trainer"
FIRST_STEP = ("training/step.py", "TrainStep.__call__")  # counting ends when this has returned for the first time
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # these may make constants on import
COMMAND = (
    "train",
    "model=cnn",
    "data=cifar10",
    "data.root=cifar",
    "data.batch_size=32",
    "trainer.steps=1",
    "trainer.device=cpu",
    "trainer.threads=1",
)


class Executed:
    """Note the first function of each file that runs, in order, until the first step has been made.

    Attributes:
        first: file of the package -> name of the function.
        imported: the modules that were imported by then; empty until the first step has been made.
    """

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        self.imported: list[str] = []
        self._seen: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Handle an event of `sys.setprofile`."""
        code = frame.f_code
        if event == "return" and code.co_qualname == FIRST_STEP[1] and self._file(code) == FIRST_STEP[0]:
            sys.setprofile(None)
            threading.setprofile(None)
            self.imported = [name for name in sys.modules if name.partition(".")[0] == PACKAGE.name]
        elif event == "call" and code not in self._seen and not self.imported:
            self._seen.add(code)
            file = self._file(code)
            is_function = code.co_flags & inspect.CO_OPTIMIZED and code.co_name not in COMPREHENSIONS
            if file is not None and is_function:
                self.first.setdefault(file, code.co_qualname)

    def _file(self, code: CodeType) -> str | None:
        path = Path(code.co_filename)
        return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def make_images(root: Path) -> None:
    """Put random images of CIFAR-10's shape where the data set keeps its decoded files."""
    from trainer.checkpoint.durable import save_durably

    tensors: dict[str, object] = {"labels": [f"class {i}" for i in range(10)]}
    for part, count in (("train", 64), ("test", 16)):
        tensors[f"{part}_images"] = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
        tensors[f"{part}_targets"] = torch.arange(count) % 10
    save_durably(root / ".trainer-cache" / "cifar10-named", tensors, {})


def measure() -> Executed:
    """Run the command in a temporary folder."""
    executed = Executed()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_images(Path("cifar"))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE.name]:
            del sys.modules[name]  # the command imports them itself
        sys.setprofile(executed)
        threading.setprofile(executed)
        code = importlib.import_module("trainer.cli").run(COMMAND[0], COMMAND[1:])
        sys.setprofile(None)
        if code or not executed.imported:
            sys.exit(
                f"the run ended with exit code {code}, and {FIRST_STEP[1]} has returned: {bool(executed.imported)}"
            )
        os.chdir(PACKAGE.parent)
    return executed


def main() -> None:
    """Print the files in the order in which they are first executed, then the counts."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    executed = measure()
    for number, (file, function) in enumerate(executed.first.items(), 1):
        print(f"{number:3}  {file:<36} {function}")
    print(f"{len(executed.first)} files executed, {len(executed.imported)} modules imported")


if __name__ == "__main__":
    main()
