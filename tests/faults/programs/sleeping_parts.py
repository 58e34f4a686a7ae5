"""A model and datasets that sleep where the environment says, and tell of it in a file."""

import os
import time
from dataclasses import dataclass

import torch
from torch import nn

from trainer import key, register
from trainer.config.data import DataConfig
from trainer.config.model import ModelConfig
from trainer.data.splits import from_splits, from_tensors, split_index
from trainer.data.types import Split

PLACE, MARK = os.environ.get("STOPS_AT"), os.environ.get("STOPS_MARK")
SECONDS = float(os.environ.get("STOPS_SECONDS", "0"))


def enter(place):
    if place == PLACE:
        with open(MARK, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(SECONDS)


enter("importing")


class Net(nn.Module):
    def __init__(self, features, outputs, ballast):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs))
        for i in range(ballast):
            setattr(self, f"ballast{i}", nn.Parameter(torch.full((1 << 20,), float(i)), requires_grad=False))
        self.calls = 0

    def forward(self, inputs):
        if self.training:
            self.calls += 1
            if self.calls == 7:
                enter("step")
            if self.calls > 2:
                enter("training")
        else:
            enter("validation")
        return self.layers(inputs)


@register("model", "stops")
@dataclass
class Stops(ModelConfig):
    ballast: int = key(0, "MiB × 4 that are saved with the model")

    def build(self, spec):
        enter("building")
        return Net(spec.features, spec.outputs, self.ballast)


def made(samples):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(samples, 8, generator=generator)
    return inputs, (inputs.sum(1) > 0).long()


@register("data", "stops")
@dataclass
class Points(DataConfig):
    samples: int = key(200, "how many")

    def __post_init__(self):
        super().__post_init__()
        enter("composing")

    def build(self, seed):
        enter("reading")
        return from_tensors(*made(self.samples), ("no", "yes"), config=self, seed=seed)


class Files(torch.utils.data.Dataset):
    def __init__(self, inputs, train):
        self.inputs, self.train, self.reads = inputs, train, 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.reads += 1
        if self.train:
            if self.reads == 1:
                enter("first batch")
            if self.reads == 60:
                enter("loader worker")
            if self.reads > 20:
                enter("slow reading")
        else:
            enter("worker of the validation")
        return self.inputs[index]


@register("data", "stops_files")
@dataclass
class Streamed(Points):
    workers: int = key(2, "processes")

    def build(self, seed):
        inputs, targets = made(self.samples)
        train, val = split_index(targets, self.val_fraction, seed)
        splits = [Split(Files(inputs[part], i == 0), targets[part]) for i, part in enumerate((train, val))]
        return from_splits(*splits, ("no", "yes"), input_shape=(8,), workers=self.workers)
