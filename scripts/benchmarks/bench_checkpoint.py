"""What a checkpoint costs: a durable, verified save against a bare `torch.save`, and how long training is held.

    python scripts/benchmarks/bench_checkpoint.py          # 10 MB and 500 MB
    python scripts/benchmarks/bench_checkpoint.py --quick  # 10 MB, few rounds: that it runs

All ways save the same state, that of a run: a perceptron with two hidden layers and its AdamW, after one step. They are
measured in interleaved rounds; medians, with the range in brackets.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainer import Config, Run, Trainer, assemble
from trainer.checkpoint import durable, untrusted
from trainer.checkpoint.snapshot import Snapshot
from trainer.config.data import Synthetic
from trainer.config.model import Mlp
from trainer.config.trainer import TrainerConfig

NUMBERS = 3  # of each weight: itself and the two moments of AdamW


def run_of(megabytes: int, folder: Path) -> Trainer:
    """A run whose state has that size, after its first step."""
    width = round((megabytes * 1e6 / 4 / NUMBERS) ** 0.5)
    settings = TrainerConfig(device="cpu", epochs=1000, micro_batch=1)
    config = Config(model=Mlp(hidden=[width, width]), data=Synthetic(batch_size=1), trainer=settings)
    trainer = assemble(config, Run.create(folder))
    next(trainer.steps())
    return trainer


def ways(trainer: Trainer, folder: Path) -> dict[str, Callable[[], float]]:
    """Each way of keeping the state of a run: does it, and returns the seconds that count."""
    state: dict[str, Any] = trainer.state.state_dict(1)
    tensors = [tensor.detach() for tensor in untrusted.tensors_in(state)]
    kept, store = [tensor.clone() for tensor in tensors], trainer.store
    assert store is not None

    def timed(act: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            act()
            return time.perf_counter() - began

        return run

    def into_kept_memory() -> None:
        for copy, tensor in zip(kept, tensors, strict=True):
            copy.copy_(tensor)

    def held() -> float:
        store.invalidate(trainer.state.step)
        began = time.perf_counter()
        trainer.save(best=False)
        seconds = time.perf_counter() - began
        store.wait()  # the writing is the background's; without it the next save would wait for it
        return seconds

    return {
        "bare torch.save": timed(lambda: torch.save(state, folder / "bare.pt")),
        "durable save, in the foreground": timed(lambda: durable.save_durably(folder / "ours", state, {})),
        "copy into fresh memory": timed(lambda: Snapshot().take(state)),
        "copy into kept memory": timed(into_kept_memory),
        "training held by Trainer.save": held,
    }


def measure(megabytes: int, rounds: int) -> None:
    """Print the table for a state of that size."""
    with tempfile.TemporaryDirectory() as folder:
        acts = ways(run_of(megabytes, Path(folder) / "runs"), Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in acts}
        for number in range(rounds + 1):
            for name, act in acts.items():
                spent = act()
                if number:  # the first round makes the memory and the files
                    seconds[name].append(spent)
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    print(f"{megabytes} MB, {rounds} rounds")
    for name, spent in seconds.items():
        low, high = min(spent) * 1e3, max(spent) * 1e3
        print(f"  {name:<33}{medians[name] * 1e3:>9.1f} ms ({low:.1f}–{high:.1f})")
    for ours, theirs in (
        ("durable save, in the foreground", "bare torch.save"),
        ("training held by Trainer.save", "copy into kept memory"),
        ("training held by Trainer.save", "copy into fresh memory"),
    ):
        print(f"  {ours} / {theirs}: {medians[ours] / medians[theirs]:.2f}")


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    for megabytes, rounds in ((10, 3),) if quick else ((10, 31), (500, 7)):
        measure(megabytes, rounds)


if __name__ == "__main__":
    main()
