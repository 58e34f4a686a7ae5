"""Learned vectors for category codes: in front of any model of numbers, and in model=tabular."""

import dataclasses

import pytest
import torch

from trainer import Config
from trainer.config.model import Linear, Mlp, Tabular
from trainer.config.optimizer import Muon
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.embeddings import Embeddings, dimension
from trainer.runs.build import build_model, build_optimizer

SPEC = DataSpec((5,), 3, ("a", "b", "c"), cardinalities=(4, 9))
X = torch.tensor([[0.5, -1.0, 2.0, 1, 8], [1.5, 0.0, 0.0, 3, 0], [0.0, 1.0, 1.0, 0, 5]])


@pytest.mark.parametrize(("levels", "length"), [(2, 2), (10, 6), (100, 21), (1000, 77), (10**6, 600)])
def test_the_length_of_a_vector_is_fastais_rule(levels: int, length: int) -> None:
    assert dimension(levels) == length


def test_codes_become_the_rows_of_their_tables() -> None:
    front = Embeddings(5, (4, 9), dim=2)
    first, second = (table.weight for table in front.tables)
    expected = torch.cat([X[:, :3], first[[1, 3, 0]], second[[8, 0, 5]]], dim=1)
    assert torch.equal(front(X), expected)
    assert front.features == 3 + 2 + 2 == expected.shape[1]


def test_the_vector_of_what_was_not_seen_is_zero_and_stays_so() -> None:
    front = Embeddings(5, (4, 9), dim=2)
    (front(X) - 1).square().sum().backward()
    for table in front.tables:
        assert not table.weight[0].any() and not table.weight.grad[0].any()
    assert front.tables[0].weight.grad[1].any()


def test_dropout_takes_numbers_of_the_vectors_alone() -> None:
    front = Embeddings(5, (4, 9), dim=3, dropout=0.9)
    torch.manual_seed(0)
    out = front(X.expand(50, 3, 5).reshape(150, 5))
    assert torch.equal(out[:, :3], X[:, :3].repeat(50, 1))
    assert 0.05 < (out[:, 3:] != 0).float().mean() < 0.15


@pytest.mark.parametrize("model", [Linear(), Mlp(hidden=[7])])
def test_a_model_of_numbers_is_built_behind_the_vectors(model: Linear | Mlp) -> None:
    built = build_model(Config(model=model), SPEC)
    front, body = built
    assert isinstance(front, Embeddings)
    widened = 3 + dimension(4) + dimension(9)
    first = next(p for p in body.parameters() if p.ndim == 2)
    assert widened in first.shape
    assert torch.equal(built(X), body(front(X)))


def test_without_categories_nothing_stands_in_front() -> None:
    spec = dataclasses.replace(SPEC, cardinalities=())
    assert not any(isinstance(module, Embeddings) for module in build_model(Config(model=Mlp()), spec).modules())
    assert not any(isinstance(module, Embeddings) for module in build_model(Config(model=Tabular()), spec).modules())


def test_tabular_is_a_network_over_numbers_and_vectors() -> None:
    model = build_model(Config(model=Tabular(hidden=[6], embedding_dim=2, embedding_dropout=0.5)), SPEC)
    front, body = model
    assert [table.weight.shape for table in front.tables] == [(4, 2), (9, 2)]
    assert front.dropout.p == 0.5
    assert [type(layer).__name__ for layer in body.layers] == [
        "Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"
    ]  # fmt: skip
    model.eval()
    assert torch.equal(model(X), body(front(X)))
    assert model(X).shape == (3, 3)


def test_tabular_refuses_images_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"model=tabular needs the columns of a table.*1×8×8; use model=cnn"):
        build_model(Config(model=Tabular()), DataSpec((1, 8, 8), 10))


def test_muon_leaves_the_vectors_to_adamw() -> None:
    model = build_model(Config(model=Mlp(hidden=[7, 6])), SPEC)
    optimizer = build_optimizer(Muon(), model)
    matrices = {id(p) for p in optimizer.parts[0].param_groups[0]["params"]}
    tables = {id(table.weight) for table in model[0].tables}
    assert len(matrices) == 2 and not matrices & tables


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cardinalities": [4, "9"]}, "counts in"),
        ({"cardinalities": [-1]}, "counts in"),
        ({"cardinalities": [1 << 31]}, "counts in"),
        ({"cardinalities": [4] * 6}, "6 columns of codes"),
        ({"cardinalities": [4], "input_shape": [1, 2, 2]}, "1 columns of codes"),
    ],
)
def test_a_damaged_spec_is_refused(changes: dict[str, object], words: str) -> None:
    assert DataSpec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(ValueError, match=words):
        DataSpec.from_dict(SPEC.to_dict() | changes)
