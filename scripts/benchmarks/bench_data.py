"""Tables: how fast a file becomes tensors, what memory that takes, what a second run saves, and training from disk.

    python scripts/benchmarks/bench_data.py                 # all cases; files of 1 GB and 4 GB
    python scripts/benchmarks/bench_data.py --case read     # the first three; or disk
    python scripts/benchmarks/bench_data.py --quick         # small files, to see that it runs
    python scripts/benchmarks/bench_data.py --folder DIR    # where the files are made, and kept for the next time

* read: seconds from a file of numbers (20 columns and the target) to tensors that are split, standardised and ready to
  train on, against pyarrow alone: `pyarrow.csv.read_csv(file)`, which gives columns, and the same told all types.
* memory: the most that the process grew while it did so, against the size of the tensors.
* cache: the same file once more, as a second run finds it.
* disk: `data.memory=disk` on a file four times as large as the memory allowed. Memory is what the process has for
  itself (RssAnon of Linux, with the interpreter and torch): pages of mapped files are the kernel's to take back.
  Then samples per second of a training from disk against one from memory, in one process, by turns.

Each build is a process of its own, and the contenders take turns. Medians, and the range.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

COLUMNS = [*(f"x{i}" for i in range(20)), "y"]
CHUNK = 250_000
TYPES = {name: pa.float32() for name in COLUMNS}


def make(path: Path, rows: int) -> Path:
    """A file of normal numbers with four decimals, 155 bytes a row; the one that is there, if it has as many rows."""
    known = path.with_suffix(".rows")
    if known.exists() and known.read_text() == str(rows):
        return path
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=20).astype(np.float32)
    schema = pa.schema(TYPES)
    with pyarrow.csv.CSVWriter(path, schema) as out:
        for start in range(0, rows, CHUNK):
            x = rng.normal(size=(min(CHUNK, rows - start), 20)).astype(np.float32)
            y = x @ slopes + rng.normal(size=len(x)).astype(np.float32)
            columns = [np.round(column, 4) for column in (*x.T, y)]
            out.write_table(pa.table(columns, schema=schema))
    known.write_text(str(rows))
    return path


def memory(field: str) -> int:
    """Bytes of this process, from /proc/self/status: VmRSS or RssAnon."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


class Watch:
    """The most memory of one kind that the process had, looked at every 10 ms."""

    def __init__(self, field: str) -> None:
        self.most = self.before = memory(field)
        self._field, self._ended = field, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, memory(self._field))

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()


# What runs in a process of its own; each prints a line of JSON.


def alone(path: Path, typed: bool) -> dict[str, float]:
    """pyarrow as it is called by hand."""
    options = pyarrow.csv.ConvertOptions(column_types=TYPES) if typed else None
    began = time.perf_counter()
    table = pyarrow.csv.read_csv(path, convert_options=options)
    return {"seconds": time.perf_counter() - began, "rows": table.num_rows}


def build(path: Path, on_disk: bool) -> dict[str, float]:
    """From the file to tensors."""
    import torch

    from trainer.config.table import Csv
    from trainer.data.table.table_data import load_table
    from trainer.system.process import configure_malloc

    configure_malloc(True)  # as a run does
    torch.zeros(1)
    watch, own = Watch("VmRSS"), Watch("RssAnon")
    began = time.perf_counter()
    data = load_table(Csv(path=str(path), target="y", memory="disk" if on_disk else "ram"), seed=0)
    seconds = time.perf_counter() - began
    for each in (watch, own):
        each.end()
    tensors = sum(part.targets.nbytes + 4 * int(np.prod(part.inputs.shape)) for part in (data.train, data.val))
    return {"seconds": seconds, "tensors": tensors, "grew": watch.most - watch.before, "own": own.most}


def train(path: Path, steps: int, rounds: int) -> dict[str, object]:
    """Samples per second from disk and from memory, and the most memory of the whole of the first."""
    from trainer import Config, Run, assemble
    from trainer.config.model import Mlp
    from trainer.config.table import Csv
    from trainer.config.trainer import TrainerConfig

    def start(held: str) -> Callable[[], float]:
        keep = 20_000_000_000 if held == "disk" else 0  # what is to be compared with is in memory, not in the cache
        data = Csv(path=str(path), target="y", memory=held, batch_size=128, cache_bytes=keep)
        settings = TrainerConfig(steps=steps * (rounds + 1), limit_val="10")
        trainer = assemble(Config(model=Mlp(), data=data, trainer=settings), Run.create(folder))
        loop = trainer.steps()

        def segment() -> float:
            began = time.perf_counter()
            for _ in range(steps):
                next(loop)
            return steps * data.batch_size / (time.perf_counter() - began)

        return segment

    with tempfile.TemporaryDirectory() as folder:
        watch = Watch("RssAnon")
        disk = start("disk")
        speeds: dict[str, list[float]] = {"disk": [], "ram": []}
        disk()
        watch.end()
        ram = start("ram")
        ram()
        for _ in range(rounds):
            speeds["disk"].append(disk())
            speeds["ram"].append(ram())
    return {"own": watch.most, **speeds}


def child(*arguments: object) -> dict[str, float]:
    """What a fresh process finds."""
    command = [sys.executable, __file__, "--child", json.dumps([str(one) for one in arguments])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def forget(path: Path) -> None:
    """Remove what runs have kept of the file."""
    shutil.rmtree(path.parent / ".trainer-cache", ignore_errors=True)


def words(values: list[float], unit: str = "s", digits: int = 2) -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} {unit} ({low:,.{digits}f} to {high:,.{digits}f})"


def measure_reading(path: Path, rounds: int) -> None:
    """The cases read, memory and cache: they share their processes."""
    plain, typed, builds, again = [], [], [], []
    for _ in range(rounds):
        plain.append(child("alone", path, ""))
        typed.append(child("alone", path, "typed"))
        forget(path)
        builds.append(child("build", path, ""))
        again.append(child("build", path, ""))
    took = {
        name: [one["seconds"] for one in runs]
        for name, runs in (("plain", plain), ("typed", typed), ("build", builds), ("again", again))
    }
    middle = {name: statistics.median(values) for name, values in took.items()}
    size, tensors = path.stat().st_size, builds[0]["tensors"]
    print(f"read    {size / 1e9:.2f} GB to {tensors / 1e6:,.0f} MB of tensors: {words(took['build'])}")
    print(f"        pyarrow.csv.read_csv(file): {words(took['plain'])}, {middle['plain'] / middle['build']:.2f}×")
    print(f"        the same, told the types: {words(took['typed'])}, {middle['typed'] / middle['build']:.2f}×")
    grew = [one["grew"] / tensors for one in builds]
    print(f"memory  at most {words(grew, 'times the tensors')}, of which mapped files are a part")
    sooner = middle["build"] / middle["again"]
    print(f"cache   a second run: {words(took['again'], digits=3)}: {sooner:.0f}× sooner")


def measure_disk(path: Path, steps: int, rounds: int) -> None:
    """The case disk."""
    allowed = path.stat().st_size / 4
    forget(path)
    found = child("train", path, steps, rounds)
    disk, ram = found["disk"], found["ram"]
    print(f"disk    {4 * allowed / 1e9:.2f} GB of file, {allowed / 1e6:,.0f} MB allowed: ", end="")
    print(f"{found['own'] / 1e6:,.0f} MB used")
    print(f"        from disk {words(disk, 'samples/s', 0)}, from memory {words(ram, 'samples/s', 0)}: ", end="")
    print(f"{statistics.median(disk) / statistics.median(ram):.2f}×")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("read", "disk"), help="one of them (read, memory, cache are one); else both")
    parser.add_argument("--quick", action="store_true", help="small files, one round")
    parser.add_argument("--folder", type=Path, help="where the files are made and kept; a temporary one when not given")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        name, path, *numbers = json.loads(args.child)
        if name == "train":
            found = train(Path(path), *map(int, numbers))
        else:
            found = {"alone": alone, "build": build}[name](Path(path), bool(numbers[0]))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if args.case != "disk":
            path = make(folder / "numbers.csv", 100_000 if args.quick else 6_500_000)
            measure_reading(path, 1 if args.quick else 5)
        if args.case != "read":
            path = make(folder / "larger.csv", 100_000 if args.quick else 26_000_000)
            measure_disk(path, 200 if args.quick else 5_000, 1 if args.quick else 5)


if __name__ == "__main__":
    main()
