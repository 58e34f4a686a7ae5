"""Gradient flow: why deep networks did not learn, and what helped.

Each layer multiplies the gradient by a factor. Below 1 it vanishes on its way to the first layer, above 1 it explodes:
by activation, initialisation, BatchNorm and residuals. Then the same picture from a real run.
"""

import argparse
from collections.abc import Callable

import torch
from lesson import Lesson, start
from torch import Tensor, nn
from torch.nn import functional as F

from trainer import Config, assemble
from trainer.config.data import Digits
from trainer.config.model import Mlp
from trainer.config.trainer import TrainerConfig
from trainer.loggers.files import read_rows
from trainer.loggers.layer_stats import LayerStatsLogger
from trainer.runs.build import build_data
from trainer.training.layer_stats import LayerFlow, LayerMeter

WIDTH = 64


class Layer(nn.Module):
    """A linear layer, BatchNorm where wanted, an activation, and the input added where wanted."""

    def __init__(self, activation: Callable[[Tensor], Tensor], init: float | None, norm: bool, residual: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        if init:  # He et al. 2015: 2, since ReLU passes half of it on; Glorot & Bengio 2010: 1
            nn.init.normal_(self.linear.weight, std=(init / WIDTH) ** 0.5)
        self.norm = nn.BatchNorm1d(WIDTH) if norm else nn.Identity()
        self.activation, self.residual = activation, residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm(self.linear(x)))
        return x + y if self.residual else y


# Activation, variance of the weights times WIDTH (None: torch's default, 1/3), BatchNorm, residual; and what becomes of
# the gradient.
VARIANTS: dict[str, tuple[Callable[[Tensor], Tensor], float | None, bool, bool, str]] = {
    "sigmoid": (torch.sigmoid, None, False, False, "vanishes"),
    "tanh": (torch.tanh, None, False, False, "vanishes"),
    "ReLU": (torch.relu, None, False, False, "vanishes"),
    "tanh, 5 × Xavier": (torch.tanh, 25, False, False, "explodes"),
    "tanh, Xavier": (torch.tanh, 1, False, False, "holds"),
    "ReLU, He": (torch.relu, 2, False, False, "holds"),
    "sigmoid, BatchNorm": (torch.sigmoid, None, True, False, "holds"),
    "sigmoid, residual": (torch.sigmoid, None, False, True, "holds"),
}
FACTORS = {"vanishes": (0, 0.85), "explodes": (1.4, 2), "holds": (0.87, 1.15)}  # that a layer multiplies it by


def flow(lesson: Lesson, name: str, x: Tensor, y: Tensor) -> list[LayerFlow]:
    """Return the gradient of each hidden layer of a new network, measured as the trainer does."""
    depth = lesson.arguments.depth
    torch.manual_seed(lesson.seed)
    layers = [Layer(*VARIANTS[name][:4]) for _ in range(depth)]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, 10)).to(lesson.device)
    F.cross_entropy(network(x), y).backward()
    meter = LayerMeter(network)
    meter.before()
    found = meter.after().read()
    return [found[f"{i}.linear"] for i in range(depth)]


def compare(lesson: Lesson, x: Tensor, y: Tensor) -> None:
    depth = lesson.arguments.depth
    lesson.title(f"The mean gradient on its way back through {depth} layers, before any training")
    flows = {name: flow(lesson, name, x, y) for name in VARIANTS}
    rows = []
    for name, (*_, fate) in VARIANTS.items():
        first, last = (flows[name][i]["gradient_mean"] or 0.0 for i in (0, -1))
        factor = (first / last) ** (1 / (depth - 1))
        rows.append((name, f"{last:.1e}", f"{first:.1e}", f"{first / last:.1e}", f"{factor:.2f}", fate))
        assert FACTORS[fate][0] < factor < FACTORS[fate][1], f"{name}: {factor}"
    lesson.table(["network", "last layer", "first layer", "first / last", "per layer", "it"], rows)
    lesson.say("σ' is at most 1/4, and small weights shrink it further: the first layers of a sigmoid net get nothing.")
    lesson.say("Weights five times too large make it grow; a good initialisation, BatchNorm and residuals keep it.")
    largest = max(layer["gradient_max"] or 0 for layers in flows.values() for layer in layers)
    with lesson.figure("gradient_flow_variants", nrows=2, ncols=4, figsize=(14, 6.5), sharex=True, sharey=True) as axes:
        for axis, (name, layers) in zip(axes.flat, flows.items(), strict=True):
            places = range(1, depth + 1)
            axis.bar(places, [n["gradient_max"] for n in layers], 0.9, color="0.8", edgecolor="0.5", label="largest")
            axis.bar(places, [n["gradient_mean"] for n in layers], 0.45, color="black", label="mean")
            axis.set(title=name, yscale="log", ylim=(1e-16, 10 * largest))
            axis.set(xlabel="layer (1 is the first)", ylabel="|gradient|")
            axis.label_outer()
        axes[0, 0].legend(loc="upper left")


def in_a_run(lesson: Lesson) -> None:
    depth = 8
    lesson.title("The same in a run: trainer.log_gradients")
    lesson.say(f"As train model=mlp model.hidden=[{WIDTH},...] model.activation=sigmoid trainer.log_gradients=10 does:")
    settings = TrainerConfig(epochs=2, log_gradients="10", log_every=None, device=str(lesson.device))
    logger, model = LayerStatsLogger(lesson.folder), Mlp(hidden=[WIDTH] * depth, activation="sigmoid")
    config = Config(model=model, data=Digits(), trainer=settings, seed=lesson.seed)
    trainer = assemble(config)
    trainer.fit([logger])
    logger.close({})
    rows = read_rows(lesson.folder / "gradients.jsonl")
    lesson.show("[row['step'] for row in rows]", [row["step"] for row in rows])
    layers = rows[-1]["layers"]
    first, *_, last = layers.values()
    lesson.table(
        ["layer", *first], [(name, *(f"{x:.1e}" for x in numbers.values())) for name, numbers in layers.items()]
    )
    assert first["gradient_mean"] < 1e-2 * last["gradient_mean"]
    accuracy = lesson.show("accuracy, of ten classes", trainer.state.scores["val/accuracy"])
    assert accuracy < 0.3, "it has not begun to learn"
    lesson.say(f"picture  {lesson.folder / 'gradient_flow.png'}")


def main(lesson: Lesson) -> None:
    data = build_data(Digits(), lesson.seed)
    x = data.prepare(data.train.inputs[:256]).flatten(1).to(lesson.device)
    compare(lesson, x, data.train.targets[:256].to(lesson.device))
    in_a_run(lesson)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--depth", type=int, default=20, choices=range(12, 41), metavar="12-40", help="layers (default 20)"
    )


if __name__ == "__main__":
    start(__doc__, main, options)
