"""Memory of a training process on CIFAR-10-sized data: its peak, and whether it grows from epoch to epoch.

    python scripts/benchmarks/bench_memory.py                      # 50,000 + 10,000 generated 32×32 images
    python scripts/benchmarks/bench_memory.py --root cifar10-jpeg  # an image folder

Ten epochs of `model=cnn`, batch 64, each on a tenth of the images; all of them are in memory. Linux only: reads /proc.
"""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

from trainer import Config, Run, assemble
from trainer.config.data import ImageFolder, SyntheticImages
from trainer.config.model import Cnn
from trainer.config.optimizer import Adam
from trainer.config.trainer import TrainerConfig
from trainer.loggers.base import LogRecord
from trainer.loggers.files import FilesLogger
from trainer.loggers.tensorboard import TensorBoardLogger


class MemoryLogger:
    """Prints the resident memory at each validation."""

    def write(self, record: LogRecord) -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        print(f"epoch {record.epoch:>2}  resident {resident / 1e6:.3f} GB", flush=True)

    def flush(self) -> None:
        """Nothing is kept."""

    def rewind(self, step: int) -> None:
        """What was printed stays."""

    def close(self, summary: dict[str, Any]) -> None:
        """Nothing to release."""


def main() -> None:
    """Train and watch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="image folder with train/ and test/; generated when not given")
    root = parser.parse_args().root
    images = {"augment": True, "batch_size": 64}
    data = (
        ImageFolder(root=str(root), **images)
        if root
        else SyntheticImages(num_samples=60_000, val_fraction=1 / 6, **images)
    )
    settings = TrainerConfig(epochs=10, limit_val="4", limit_train="10%", log_every=None)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(folder)
        trainer = assemble(
            Config(model=Cnn(), data=data, optimizer=Adam(), trainer=settings),
            run,
        )
        trainer.fit([MemoryLogger(), FilesLogger(run.directory), TensorBoardLogger(run.tensorboard, {}, None)])
    print(f"peak      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.3f} GB")


if __name__ == "__main__":
    main()
