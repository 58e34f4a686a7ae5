"""Soak: memory, file descriptors and threads of a long run stay what they were.

    python tests/faults/soak.py            (10 cycles of 1,000 steps)
    python tests/faults/soak.py --full     (200 cycles: 200,000 steps)

One process makes one run, as `train` does it: every 1,000 steps it validates, writes its records and TensorBoard's,
and saves. At each validation a logger reads /proc. After the first cycles nothing may grow.
"""

import io
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from common import arguments, verdict
from rich.console import Console

from trainer.config import compose
from trainer.loggers.base import LogRecord
from trainer.runs.assemble import assemble
from trainer.runs.directory import Run
from trainer.runs.run_loggers import open_loggers
from trainer.system.signals import SAVING, SignalHandler

CYCLE = 1000  # steps
WARM_UP = 0.1  # share of the cycles
FEWEST = 3  # cycles of warm-up at least: the second save is the first that finds its memory there
LOOKS = 5  # at the process, for one reading
GROWTH = 2.0  # MB that the memory may grow in all, measured by its slope
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


def slope(values: list[float]) -> float:
    """What the line of least squares rises by from one value to the next."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    squares = sum((i - middle) ** 2 for i in range(len(values)))
    return sum((i - middle) * (value - mean) for i, value in enumerate(values)) / squares


def grown(readings: list[Reading]) -> list[str]:
    """What has grown, in words."""
    memory = [reading.resident for reading in readings]
    rise = slope(memory) * (len(memory) - 1)
    found = [f"memory grew by {rise:.1f} MB from {memory[0]:.1f} MB"] if rise > GROWTH else []
    for name, values in (
        ("file descriptors", [reading.descriptors for reading in readings]),
        ("threads", [reading.threads for reading in readings]),
    ):
        if len(set(values)) > 1:
            first = next(i for i, value in enumerate(values) if value != values[0])
            found.append(f"{name}: {values[0]}, but {values[first]} at step {readings[first].step}, {values[-1]} last")
    return found


def main() -> None:
    """Run the campaign."""
    chosen = arguments("Soak: memory, file descriptors and threads stay what they were.", 10, 200, "cycles")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        readings = soak(Path(folder), chosen.trials)
    seconds = time.monotonic() - began
    warm = min(max(FEWEST, round(WARM_UP * len(readings))), len(readings) - 2)
    for reading in readings[:: max(1, len(readings) // 10)]:
        print(
            f"step {reading.step:>7}  {reading.resident:7.1f} MB  {reading.descriptors} descriptors  "
            f"{reading.threads} threads"
        )
    rest = readings[warm:]
    failures = grown(rest)
    if len(readings) != chosen.trials:
        failures.append(f"{len(readings)} validations instead of {chosen.trials}")
    rise = slope([reading.resident for reading in rest]) * (len(rest) - 1)
    print(f"{readings[-1].step:,} steps in {seconds:.0f} s; memory {rise:+.2f} MB over the last {len(rest)} cycles")
    verdict("soak", len(readings), failures)


if __name__ == "__main__":
    main()
