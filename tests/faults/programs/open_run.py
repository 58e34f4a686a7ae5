"""Open the damaged run `run` of this folder in every way; leave how that ended, and how memory grew, in `told.json`.

With arguments it is not opened: they are what is trained with.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from trainer import cli, load_model
from trainer.errors import TrainerError


def opened(run: Path, words: list[str]) -> list[tuple[str, str, float]]:
    """Open a run, or train: (what was done, how it ended, seconds)."""
    done = []

    def act(what: str, action: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            ended = str(action())
        except TrainerError as error:
            ended = "2" if error.exit_code == 2 else "1"
            print(f"error: {error}", file=sys.stderr)
        except BaseException:  # noqa: BLE001  # whatever comes out is the finding
            ended = "raised"
            traceback.print_exc()
        done.append((what, ended, time.monotonic() - began))

    if words:
        act("train", lambda: cli.run("train", words))
    else:
        act("load_model", lambda: load_model(run, "last") and 0)
        act("resume", lambda: cli.run("train", [f"resume={run}", "trainer.epochs=3", "trainer.max_time=1s"]))
    return done


def status(name: str) -> int:
    """A size in /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    done = opened(Path("run"), sys.argv[1:])
    sys.stdout.flush()
    Path("told.json").write_text(json.dumps({"done": done, "grown": status("VmHWM") - before}))
