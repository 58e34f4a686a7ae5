"""Randomness as a pure function of `(seed, purpose, position)`, so that no generator state is ever saved."""

import random

import numpy as np
import torch
from torch import Tensor

# The purpose of a draw: two purposes never share a stream, even at the same position.
INIT, SPLIT, ORDER, AUGMENT, DROPOUT, SYNTHETIC, SUBSET, FLIP, MIX, SAMPLE = range(1, 11)

_MASK = (1 << 64) - 1


def fold(seed: int, *counters: int) -> int:
    """Mix a seed with counters into 63 well-spread bits.

    The finaliser of SplitMix64 (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators",
    OOPSLA 2014) over a running sum: neighbouring seeds and steps give unrelated streams.
    """
    z = seed & _MASK
    for counter in counters:
        z = (z + (counter + 1) * 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        z ^= z >> 31
    return z >> 1


def fold_each(seed: int, counters: Tensor) -> Tensor:
    """Return `fold(seed, counter)` for each of many counters, int64 of the same shape, on their device."""
    # int64 wraps around as `fold` does by its mask; only a shift to the right must be told not to keep the sign.
    z = (counters + 1) * _signed(0x9E3779B97F4A7C15) + _signed(seed & _MASK)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(z ^ _shifted(z, 31), 1)


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _shifted(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def generator(seed: int, *counters: int) -> torch.Generator:
    """Return a CPU generator at the start of the stream `fold(seed, *counters)`: the same draws on every device."""
    return torch.Generator().manual_seed(fold(seed, *counters))


def reseed_all(device: torch.device, seed: int) -> None:
    """Do what `reseed` does, and seed numpy's and Python's generators, which code from outside may draw from.

    That costs 10 to 15 µs more.
    """
    reseed(device, seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def reseed(device: torch.device, seed: int) -> None:
    """Seed the default generator of the one device in use.

    `torch.manual_seed` seeds every back end and costs about 215 µs; this costs about 3 µs, little
    enough for every step.
    """
    match device.type:
        case "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        case "mps":
            torch.mps.manual_seed(seed)
        case _:
            torch.default_generator.manual_seed(seed)
