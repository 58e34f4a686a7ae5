"""What a checkpoint costs: a durable, verified save against a bare `torch.save`, and how long training is held.

    python scripts/bench_checkpoint.py          # 10 MB and 500 MB
    python scripts/bench_checkpoint.py --quick  # 10 MB, few rounds: that it runs

All ways save the same state of 20 tensors, in interleaved rounds; medians, with the range in brackets.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from trainer import storage
from trainer.checkpoints import Store

State = dict[str, torch.Tensor]


def ways(state: State, folder: Path) -> dict[str, Callable[[], float]]:
    """Each way of keeping a state: does it, and returns the seconds that count."""
    store, step = Store(folder / "store"), iter(range(10**9))
    kept = {name: tensor.clone() for name, tensor in state.items()}

    def timed(act: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            act()
            return time.perf_counter() - began

        return run

    def into_kept_memory() -> None:
        for name, tensor in state.items():
            kept[name].copy_(tensor)

    def held() -> float:
        number = next(step)
        began = time.perf_counter()
        store.save({"step": number, **state}, {}, best=False)
        seconds = time.perf_counter() - began
        store.wait()  # the writing is the background's; without it the next save would wait for it
        return seconds

    return {
        "bare torch.save": timed(lambda: torch.save(state, folder / "bare.pt")),
        "durable save, in the foreground": timed(lambda: storage.save(folder / "ours", state, {})),
        "copy into fresh memory": timed(lambda: {name: tensor.clone() for name, tensor in state.items()}),
        "copy into kept memory": timed(into_kept_memory),
        "training held by Store.save": held,
    }


def measure(megabytes: int, rounds: int) -> None:
    """Print the table for a state of that size."""
    state = {f"tensor{i}": torch.randn(megabytes * 250_000 // 20) for i in range(20)}
    with tempfile.TemporaryDirectory() as folder:
        acts = ways(state, Path(folder))
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
        ("training held by Store.save", "copy into kept memory"),
        ("training held by Store.save", "copy into fresh memory"),
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
