"""Soak: memory, file descriptors and threads of a long run stay what they were.

    pytest -m faults tests/faults/test_soak.py            # 10 cycles of 1,000 steps
    pytest -m faults tests/faults/test_soak.py --full     # 200 cycles: 200,000 steps

One process makes one run, as `train` does it (programs/soak.py): every 1,000 steps it validates, writes its records and
TensorBoard's, and saves. At each validation a logger reads /proc. After the first cycles nothing may grow.
"""

import json
from pathlib import Path

import pytest
from faults.programs.soak import Reading
from support import Verdict, run_python

pytestmark = pytest.mark.faults

WARM_UP = 0.1  # share of the cycles
FEWEST = 3  # cycles of warm-up at least: the second save is the first that finds its memory there
GROWTH = 2.0  # MB that the memory may grow in all, measured by its slope


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


def test_nothing_grows_over_a_long_run(tmp_path: Path, full: bool, verdict: Verdict) -> None:
    cycles = 200 if full else 10
    program = str(Path(__file__).parent / "programs" / "soak.py")
    output = run_python(tmp_path, program, str(cycles), timeout=3600, cold=True).stdout
    readings = [Reading(*values) for values in json.loads(output)]
    assert len(readings) == cycles
    warm = min(max(FEWEST, round(WARM_UP * cycles)), cycles - 2)
    rest = readings[warm:]
    rise = slope([reading.resident for reading in rest]) * (len(rest) - 1)
    assert grown(rest) == []
    last = rest[-1]
    note = f"memory {rise:+.2f} MB over the last {len(rest)} cycles"
    verdict([None] * cycles, f"{note}, {last.descriptors} descriptors, {last.threads} threads")
