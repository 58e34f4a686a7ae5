"""The cases of `bench_loop.py` that weigh the settings of the process, and what of a step is the data.

A setting of the process cannot be taken back, so each value has a process of its own; they take turns, a few steps at a
time, and what is compared is the processor time of a step (for threads, which trade it for less waiting: the time on
the clock).
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from trainer import Config, assemble
from trainer.config.data import Digits, Synthetic, SyntheticImages
from trainer.config.model import Cnn, Linear, Mlp
from trainer.config.optimizer import Adam
from trainer.config.scheduler import ConstantLR
from trainer.config.trainer import TrainerConfig
from trainer.data.types import Batch
from trainer.system.cores import cores
from trainer.training.trainer import Trainer

ENDLESS = 1 << 40


class Case(NamedTuple):
    """What is trained, and the two values of a setting that are compared.

    Attributes:
        config: makes the config with that setting.
        before: steps that each process makes first.
        steps: of a turn.
        clock: of a step; processor or wall-clock time.
        values: the setting as it is by default, and the other way.
    """

    config: Callable[[TrainerConfig], Config]
    before: int
    steps: int
    clock: Callable[[], float]
    setting: str
    values: tuple[object, object]


def cnn(settings: TrainerConfig) -> Config:
    """CNNClassifier on 64 images with flips and rotation."""
    data = SyntheticImages(num_samples=6400, batch_size=64, augment=True)
    return Config(model=Cnn(), data=data, optimizer=Adam(), scheduler=ConstantLR(), trainer=settings)


def linear(settings: TrainerConfig) -> Config:
    """Logistic regression on 32 rows of 10 numbers."""
    data = Synthetic(num_samples=100_000, batch_size=32)
    return Config(model=Linear(), data=data, optimizer=Adam(), scheduler=ConstantLR(), trainer=settings)


def digits(lr: float) -> Callable[[TrainerConfig], Config]:
    """An MLP on the digits, long after it has learned them: units that have died have gradients of zero for good."""

    def config(settings: TrainerConfig) -> Config:
        model, data = Mlp(hidden=[512, 512]), Digits(batch_size=64)
        return Config(model=model, data=data, optimizer=Adam(lr=lr), scheduler=ConstantLR(), trainer=settings)

    return config


CASES = {
    "allocator": {"cnn, batch 64": Case(cnn, 100, 8, time.process_time, "malloc", (True, False))},
    "denormals": {
        f"mlp on digits, adam lr {lr}": Case(digits(lr), 1500, 100, time.process_time, "flush_denormals", (True, False))
        for lr in (0.001, 0.01)
    },
    "threads": {"cnn, batch 64": Case(cnn, 10, 8, time.perf_counter, "threads", (cores(), 4 * cores()))},
}


def trained(config: Callable[[TrainerConfig], Config], **settings: object) -> Trainer:
    """A trainer that goes on for as long as it is asked to."""
    return assemble(config(TrainerConfig(steps=ENDLESS, eval_every=None, limit_val="1", **settings)))  # type: ignore[arg-type]


def answer(case: Case, value: object) -> None:
    """In a process of its own: for each line that comes in, a turn; says seconds and page faults for each step."""
    threads = {} if case.setting == "threads" else {"threads": 1}
    steps = trained(case.config, **threads, **{case.setting: value}).steps()
    for _ in range(case.before):
        next(steps)
    for _ in sys.stdin:
        faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, case.clock()
        for _ in range(case.steps):
            next(steps)
        seconds = case.clock() - began
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        print(seconds / case.steps, faults / case.steps, flush=True)


def measure_setting(group: str, rounds: int) -> None:
    """Print a line for each value of each case of a group, and what the default saves."""
    for name, case in CASES[group].items():
        command = [sys.executable, __file__, group, name]
        asked = [
            subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(2)
        ]
        turns = [[[float(word) for word in _ask(process).split()] for process in asked] for _ in range(rounds)]
        for process in asked:
            process.communicate()
        for value, results in zip(case.values, zip(*turns, strict=True), strict=True):
            seconds, faults = (statistics.median(column) for column in zip(*results, strict=True))
            step = f"{seconds * 1e3:.2f} ms, {faults:,.0f} page faults a step"
            print(f"{group}: {name}, trainer.{case.setting}={value}: {step}")
        ratio = statistics.median(other[0] / default[0] for default, other in turns)
        print(f"{group}: {name}, ratio {ratio:.2f}", flush=True)


def _ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process.stdout.readline()


def measure_share(rounds: int) -> None:
    """Print which part of a training step it takes to make its batch."""
    for name, config, steps in (("cnn, batch 64", cnn, 8), ("linear, batch 32", linear, 1000)):
        trainer = trained(config)
        stream = trainer.train.stream(0)
        shares = [_share(trainer, stream, steps) for _ in range(rounds + 1)][1:]
        print(
            f"share: {name}, the data takes {statistics.median(shares):.1%} of a step "
            f"({min(shares):.1%} to {max(shares):.1%})",
            flush=True,
        )


def _share(trainer: Trainer, stream: Iterator[Batch], steps: int) -> float:
    made, began = 0.0, time.perf_counter()
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(stream)
        made += time.perf_counter() - start
        trainer.train_step(batch)
    return made / (time.perf_counter() - began)


if __name__ == "__main__":
    group, name, number = sys.argv[1:]
    answer(CASES[group][name], CASES[group][name].values[int(number)])
