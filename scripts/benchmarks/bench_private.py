"""What each private name of torch in `trainer/optim/fused.py` saves of a step of the small linear model.

    python scripts/benchmarks/bench_private.py
    python scripts/benchmarks/bench_private.py --rounds 5  # to see that it runs

A step is a whole one of `Trainer.steps()`, its batch included: model=linear, 10 features, batch 32, on one thread, with
Adam, and with SGD for its own kernel. One trainer in one process takes short turns with everything on and with one name
off, on its public way; what is measured is the processor time of this process, so that others on the machine disturb
less. Printed: medians over the turns, their ranges, and what the name saves of a step without it, between the turns of
either kind that were disturbed least (the lower deciles); the last line is what this comparison makes of no difference.
Below 3 % a name is not worth having. The row that begins with "not" is one that was given up: there "without" has it.
"""

import argparse
import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from bench_settings import ENDLESS, linear
from torch import Tensor

from trainer import assemble
from trainer.config.optimizer import SGD, Adam, OptimizerConfig
from trainer.config.trainer import TrainerConfig
from trainer.optim import fused
from trainer.training import step
from trainer.training.trainer import Trainer

Switch = Callable[[Trainer], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def without(*ways: str) -> Iterator[None]:
    """Let the trials of these fast ways fail, as they do with a torch that lacks the names."""
    works = fused.works
    fused.works = lambda way: way not in ways and works(way)  # type: ignore[assignment]
    try:
        yield
    finally:
        fused.works = works


@contextlib.contextmanager
def hooks(trainer: Trainer) -> Iterator[None]:
    """Wrap the optimizer's step as a torch does that does not look for `hooked`."""
    cls: Any = type(trainer.state.optimizer)
    unhooked = cls.step
    cls.step = torch.optim.Optimizer.profile_hook_step(unhooked)
    try:
        yield
    finally:
        cls.step = unhooked


@contextlib.contextmanager
def everything(trainer: Trainer) -> Iterator[None]:
    """Turn all of them off."""
    with without("backward", "adam", "sgd"), hooks(trainer):
        yield


@contextlib.contextmanager
def check_of_grad_scaler(trainer: Trainer) -> Iterator[None]:
    """Check the numbers of a step with the kernel of `torch.amp.GradScaler`, which has no public name."""
    found, one, public = torch.zeros(()), torch.ones(()), step.all_finite

    def all_finite(loss: Tensor, gradients: Sequence[Tensor]) -> bool:
        found.zero_()
        alike: dict[torch.dtype, list[Tensor]] = {loss.dtype: [loss]}
        for gradient in gradients:
            alike.setdefault(gradient.dtype, []).append(gradient._values() if gradient.is_sparse else gradient)
        for same in alike.values():
            torch._amp_foreach_non_finite_check_and_unscale_(same, found, one)
        return not found.item()

    step.all_finite = all_finite
    try:
        yield
    finally:
        step.all_finite = public


def as_it_is(trainer: Trainer) -> contextlib.AbstractContextManager[None]:
    """Leave everything on."""
    return contextlib.nullcontext()


# What is measured: the optimizer, and how its name is turned off.
CASES: dict[str, tuple[OptimizerConfig, Switch]] = {
    "_execution_engine.run_backward": (Adam(), lambda trainer: without("backward")),
    "_fused_adam_": (Adam(), lambda trainer: without("adam")),
    "_fused_sgd_": (SGD(), lambda trainer: without("sgd")),
    "hooked": (Adam(), hooks),
    "all of them, adam": (Adam(), everything),
    "all of them, sgd": (SGD(), everything),
    "not _amp_foreach_non_finite_check…": (Adam(), check_of_grad_scaler),
    "nothing, for comparison": (Adam(), as_it_is),
}


def endless(optimizer: OptimizerConfig) -> Trainer:
    """Return a trainer of the small linear model on one thread."""
    config = linear(TrainerConfig(steps=ENDLESS, eval_every=None, limit_val="1", threads=1))
    config.optimizer = optimizer
    return assemble(config)


def turn(trainer: Trainer, steps: Iterator[object], switch: Switch, count: int) -> float:
    """Return the processor time of a step in µs, over `count` steps."""
    with switch(trainer):
        for _ in range(3):
            next(steps)
        began = time.process_time()
        for _ in range(count):
            next(steps)
        return (time.process_time() - began) / count * 1e6


def main() -> None:
    """Measure all cases in turn and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    args = parser.parse_args()
    make = functools.cache(lambda kind: (trainer := endless(kind()), trainer.steps()))
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for number in range(-2, args.rounds):
        for name, (optimizer, switch) in CASES.items():
            trainer, steps = make(type(optimizer))
            order = (0, 1) if number % 2 else (1, 0)
            times = {i: turn(trainer, steps, (as_it_is, switch)[i], args.steps) for i in order}
            if number >= 0:  # the first two rounds warm up
                results[name].append((times[0], times[1]))
    print(f"µs of processor time a step, {args.rounds} rounds of {args.steps} steps, torch {torch.__version__}")
    print(f"{'':<36} {'with (range)':<24} {'without (range)':<24} saved")
    for name, pairs in results.items():
        columns = list(zip(*pairs, strict=True))
        texts = [f"{statistics.median(c):.0f} ({min(c):.0f} to {max(c):.0f})" for c in columns]
        quiet = [statistics.quantiles(c, n=10, method="inclusive")[0] for c in columns]
        saved = f"{quiet[1] - quiet[0]:5.1f} µs of {quiet[1]:.0f}, {1 - quiet[0] / quiet[1]:.1%}"
        print(f"{name:<36} {texts[0]:<24} {texts[1]:<24} {saved}", flush=True)


if __name__ == "__main__":
    main()
