"""Randomness as a function of (seed, what for, position)."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainer.system import seeds

CPU = torch.device("cpu")
PURPOSES = (
    seeds.INIT,
    seeds.SPLIT,
    seeds.ORDER,
    seeds.AUGMENT,
    seeds.DROPOUT,
    seeds.SYNTHETIC,
    seeds.SUBSET,
    seeds.FLIP,
    seeds.MIX,
)
words = st.integers(0, 2**63)


def test_no_two_purposes_are_the_same() -> None:
    assert len(set(PURPOSES)) == 9


def test_fold_is_distinct_for_each_seed_purpose_and_counter() -> None:
    positions = [*range(300), *(10**k for k in range(3, 10))]
    triples = list(itertools.product([*range(50), 2**31, 2**32, 2**63], PURPOSES, positions))
    folded = [seeds.fold(*triple) for triple in triples]
    assert len(set(folded)) == len(triples)


def test_fold_with_and_without_a_counter_is_distinct() -> None:
    pairs = list(itertools.product(range(200), PURPOSES))
    folded = {seeds.fold(*pair) for pair in pairs} | {seeds.fold(*pair, 0) for pair in pairs}
    assert len(folded) == 2 * len(pairs)


@settings(deadline=None)
@given(words, words, words)
def test_fold_is_a_function_into_63_bits(seed: int, purpose: int, counter: int) -> None:
    assert seeds.fold(seed, purpose, counter) == seeds.fold(seed, purpose, counter)
    assert 0 <= seeds.fold(seed, purpose, counter) < 2**63


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
        (1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423]),
    ],
)
def test_fold_gives_the_published_outputs_of_splitmix64(seed: int, published: list[int]) -> None:
    assert [seeds.fold(seed, counter) for counter in range(3)] == [output >> 1 for output in published]


def test_a_neighbouring_step_flips_half_of_the_bits() -> None:
    flips = [(seeds.fold(0, 5, step) ^ seeds.fold(0, 5, step + 1)).bit_count() for step in range(1000)]
    assert 30.5 < sum(flips) / len(flips) < 32.5  # 31.5 of 63 bits, standard error 0.13
    assert min(flips) > 8


def _dropout_mask(seed: int) -> Tensor:
    seeds.reseed(CPU, seed)
    return nn.Dropout(0.5)(torch.ones(4, 64))


def test_reseeding_reproduces_dropout_masks() -> None:
    first, other, again = _dropout_mask(3), _dropout_mask(4), _dropout_mask(3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_reseeding_gives_what_manual_seed_gives_on_the_cpu() -> None:
    seeds.reseed(CPU, 11)
    drawn = torch.rand(8)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(8))


def test_the_same_generator_gives_the_same_draws() -> None:
    draws = [torch.rand(8, generator=seeds.generator(1, seeds.ORDER, 2)) for _ in range(2)]
    assert torch.equal(*draws)


def test_a_generator_neither_sees_nor_moves_the_default_one() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    stream = torch.rand(100, generator=seeds.generator(1, seeds.SPLIT))
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(torch.rand(100, generator=seeds.generator(1, seeds.SPLIT)), stream)


def test_drawing_from_one_generator_does_not_move_another() -> None:
    alone = torch.rand(8, generator=seeds.generator(1, seeds.AUGMENT, 5))
    first, second = seeds.generator(1, seeds.AUGMENT, 4), seeds.generator(1, seeds.AUGMENT, 5)
    torch.rand(1000, generator=first)
    assert torch.equal(torch.rand(8, generator=second), alone)


def test_streams_of_neighbouring_positions_are_uncorrelated() -> None:
    keys = [(seed, purpose, step) for seed in (0, 1) for purpose in PURPOSES[:4] for step in range(4)]
    streams = torch.stack([torch.rand(4000, generator=seeds.generator(*key)) for key in keys])
    correlation = torch.corrcoef(streams) - torch.eye(len(keys))
    assert correlation.abs().max() < 0.08  # 5 standard errors of 1 / sqrt(4000)


def test_folding_many_counters_at_once_is_folding_each() -> None:
    counters = torch.tensor([0, 1, 2, 1000, 2**31, 2**62 - 1])
    for seed in (0, 1, 2**62 + 12345, 2**63, 2**64 - 1):
        assert seeds.fold_each(seed, counters).tolist() == [seeds.fold(seed, c) for c in counters.tolist()]
