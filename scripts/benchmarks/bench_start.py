"""Seconds before the first step, where they go, and what `--help` costs.

    python scripts/benchmarks/bench_start.py
    python scripts/benchmarks/bench_start.py --quick   # one process of each, to see that it runs

Each figure is the median of five processes. "ours" is what lies between the end of `import torch` and the end of
the first optimizer step of `train` on the digits: imports, config, data, model, the first checkpoint, the step.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

HELP = "import sys; from trainer.cli import run; run('train', ['--help']); assert 'torch' not in sys.modules"
FIRST_STEP = """
import time
began = time.perf_counter()
import torch
imported = time.perf_counter()
from trainer.commands import train
from trainer.training import trainer
class Done(BaseException): pass
plain = trainer.Trainer.train_step
def first(self, batch):
    plain(self, batch)
    print("\\nBENCH", imported - began, time.perf_counter() - imported)
    raise Done
trainer.Trainer.train_step = first
try:
    train.main([])
except Done:
    pass
"""


def wall(code: str, folder: str) -> tuple[float, str]:
    """Seconds that a fresh interpreter takes for the code, and what it prints."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure both, interleaved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one process of each beside the first")
    rounds = 2 if parser.parse_args().quick else 6
    helps, torches, ours = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            helps.append(wall(HELP, folder)[0])
            line = next(text for text in wall(FIRST_STEP, folder)[1].splitlines() if text.startswith("BENCH"))
            _, imported, stepped = line.split()
            torches.append(float(imported))
            ours.append(float(stepped))
    for name, values in (("train --help", helps), ("import torch", torches), ("ours, to the first step", ours)):
        kept = values[1:]  # the first filled the disk's cache
        print(f"{name:<26}{statistics.median(kept):.2f} s  ({min(kept):.2f} to {max(kept):.2f})")


if __name__ == "__main__":
    main()
