"""Train for so many cycles of 1,000 steps, in a folder; print what the kernel says of this process at each."""

import io
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from trainer.config import compose
from trainer.loggers.base import LogRecord
from trainer.runs.assemble import assemble
from trainer.runs.directory import Run
from trainer.runs.run_loggers import open_loggers
from trainer.system.signals import SAVING, SignalHandler

CYCLE = 1000  # steps
LOOKS = 5  # at the process, for one reading
WORDS = (
    "model=mlp",
    "model.hidden=[256,256]",  # 0.9 MB of state: one that is kept at each save would be seen
    "data=synthetic",
    "trainer.threads=1",
    f"trainer.eval_every={CYCLE}",
    f"trainer.save_every={CYCLE}",
)


class Reading(NamedTuple):
    """What the kernel says of this process."""

    step: int
    resident: float  # MB
    descriptors: int
    threads: int


def read(step: int) -> Reading:
    """A reading of this moment; what is open for an instant only (TensorBoard opens its file anew to write) is not in.

    A checkpoint that is still being written in the background is waited for.
    """
    for thread in threading.enumerate():
        if thread.name == SAVING:
            thread.join()
    readings = []
    for _ in range(LOOKS):
        lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
        status = {name: value.split() for name, _, value in lines}
        descriptors = len(list(Path("/proc/self/fd").iterdir())) - 1  # the listing holds one itself
        readings.append(Reading(step, int(status["VmRSS"][0]) / 1024, descriptors, int(status["Threads"][0])))
        time.sleep(0.002)
    return Reading(step, *(min(values) for values in list(zip(*readings, strict=True))[1:]))


class Probe:
    """A sink that takes a reading at each validation."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []

    def write(self, record: LogRecord) -> None:
        if any(name.startswith("val/") for name in record.scalars):
            self.readings.append(read(record.step))

    def flush(self) -> None:
        """Nothing is written."""

    def rewind(self, step: int) -> None:
        """Nothing is written."""

    def close(self, summary: dict[str, Any]) -> None:
        """Nothing is open."""


def soak(folder: Path, cycles: int) -> list[Reading]:
    """Train so many cycles; returns the reading of each."""
    cfg = compose.compose([*WORDS, f"trainer.steps={cycles * CYCLE}", f"output_dir={folder}"])
    config, probe, run = compose.to_config(cfg), Probe(), Run.create(folder)
    with SignalHandler() as signals:
        trainer = assemble(config, run, signals=signals)
        loggers = open_loggers(cfg, trainer.context, run, None, Console(file=io.StringIO()))
        trainer.fit([*loggers, probe])
        for logger in loggers:
            logger.close({})
    run.release()
    return probe.readings


if __name__ == "__main__":
    print(json.dumps(soak(Path(), int(sys.argv[1]))))
