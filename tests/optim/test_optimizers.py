"""The optimizers: torch's own arithmetic bit for bit, decay groups, and state that survives saving."""

import copy
import inspect
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.config import optimizer as config
from trainer.config import registry
from trainer.errors import ConfigError
from trainer.runs.build import build_optimizer

OPTIMIZERS = [
    name for name in registry.names("optimizer") if registry.lookup("optimizer", name).__module__.startswith("trainer.")
]
DENSE = [name for name in OPTIMIZERS if name != "sparse_adam"]
PLAIN = [name for name in DENSE if name != "muon"]
FUSED = {"sgd", "adam", "adamw", "adagrad"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads that share a few numbers spend longer meeting than computing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))


def _embedding() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 3, sparse=True))


def _model(name: str) -> nn.Sequential:
    return _embedding() if name == "sparse_adam" else _mlp()


def _loss(model: nn.Module) -> Tensor:
    """A fixed problem: a smooth function of four numbers, or the target of each of ten words."""
    draw = torch.Generator().manual_seed(1)
    if any(isinstance(module, nn.Embedding) for module in model.modules()):
        words = torch.randint(0, 8, (32,), generator=draw)  # two words never occur
        return (model(words) - words[:, None] / 8).square().mean()
    inputs = torch.randn(32, 4, generator=draw)
    targets = inputs.sum(1, keepdim=True).sin() + 0.5
    return (model(inputs) - targets).square().mean()


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = _loss(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _assert_equal(first: nn.Module, second: nn.Module) -> None:
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def _torch_optimizer(name: str, parameters: Any, **arguments: Any) -> torch.optim.Optimizer:
    cls = getattr(torch.optim, registry.lookup("optimizer", name)().torch_name())
    fused = {"fused": True} if "fused" in inspect.signature(cls).parameters else {}
    return cls(parameters, **arguments, **fused)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_reduces_the_loss(name: str) -> None:
    model = _model(name)
    losses = _train(model, build_optimizer(registry.lookup("optimizer", name)(), model), 40)
    assert losses[-1] < losses[0] * 0.999
    assert losses[-1] < losses[len(losses) // 2]


@pytest.mark.parametrize("name", [*PLAIN, "sparse_adam"])
def test_the_defaults_give_the_trajectory_of_torchs_own_class_bit_for_bit(name: str) -> None:
    ours, theirs = _model(name), _model(name)
    losses = _train(ours, build_optimizer(registry.lookup("optimizer", name)(), ours), 10)
    assert losses == _train(theirs, _torch_optimizer(name, theirs.parameters()), 10)
    _assert_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}),
        ("adam", {"lr": 0.01, "betas": [0.5, 0.6], "amsgrad": True, "weight_decay": 0.1}),
        ("adamw", {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.5}),
        ("nadam", {"decoupled_weight_decay": True, "weight_decay": 0.1, "momentum_decay": 0.1}),
        ("rmsprop", {"centered": True, "momentum": 0.5, "alpha": 0.5}),
        ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
        ("adafactor", {"eps": [1e-6, 1e-2], "d": 2.0, "beta2_decay": -0.5}),
        ("rprop", {"etas": [0.4, 1.5], "step_sizes": [1e-5, 1.0]}),
    ],
)
def test_every_value_reaches_torch(name: str, values: dict[str, Any]) -> None:
    ours, theirs = _mlp(), _mlp()
    _train(ours, build_optimizer(registry.lookup("optimizer", name)(**values), ours), 8)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    _train(theirs, _torch_optimizer(name, theirs.parameters(), **arguments), 8)
    _assert_equal(ours, theirs)


@pytest.mark.parametrize("name", PLAIN)
def test_the_step_is_fused_where_torch_offers_it(name: str) -> None:
    model = _mlp()
    fused = build_optimizer(registry.lookup("optimizer", name)(), model).param_groups[0].get("fused")
    assert bool(fused) == (name in FUSED)


def test_muon_trains_the_hidden_matrices_and_adamw_the_rest_as_torch_does() -> None:
    ours, theirs = _mlp(), _mlp()
    _train(ours, build_optimizer(config.Muon(adamw_lr=2e-3), ours), 10)
    hidden = [theirs[0].weight, theirs[3].weight]
    rest = [parameter for parameter in theirs.parameters() if all(parameter is not matrix for matrix in hidden)]
    muon, adamw = torch.optim.Muon(hidden), torch.optim.AdamW(rest, lr=2e-3, weight_decay=1e-2, fused=True)
    for _ in range(10):
        theirs.zero_grad()
        _loss(theirs).backward()
        muon.step()
        adamw.step()
    _assert_equal(ours, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_for_bit_from_a_saved_state(name: str) -> None:
    component = registry.lookup("optimizer", name)
    whole = _model(name)
    optimizer = build_optimizer(component(), whole)
    _train(whole, optimizer, 4)
    resumed, file = copy.deepcopy(whole), io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = build_optimizer(component(), resumed)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert _train(whole, optimizer, 4) == _train(resumed, again, 4)
    _assert_equal(whole, resumed)


# Rprop's steps have sizes of their own, and ASGD's rate is the one that it worked out a step ago.
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("rprop", "asgd")])
def test_a_rate_set_from_outside_counts_also_after_loading_a_state(name: str) -> None:
    model = _model(name)
    optimizer = build_optimizer(registry.lookup("optimizer", name)(), model)
    _train(model, optimizer, 2)
    state = optimizer.state_dict()
    optimizer = build_optimizer(registry.lookup("optimizer", name)(), model)
    optimizer.load_state_dict(copy.deepcopy(state))
    before = copy.deepcopy(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    _train(model, optimizer, 1)
    _assert_equal(model, before)


@pytest.mark.parametrize(
    "name", [name for name in DENSE if "weight_decay" in registry.lookup("optimizer", name).keys()]
)
def test_without_decay_of_norms_and_biases_they_are_in_a_group_of_their_own(name: str) -> None:
    model = _mlp()
    decay = {"adamw_weight_decay": 0.3} if name == "muon" else {}
    optimizer = build_optimizer(
        registry.lookup("optimizer", name)(decay_norm_bias=False, weight_decay=0.3, **decay), model
    )
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {key: (0.3 if p.ndim > 1 else 0.0) for key, p in ((id(p), p) for p in model.parameters())} == decays


def test_with_decay_of_norms_and_biases_there_is_one_group() -> None:
    model = _mlp()
    (group,) = build_optimizer(config.AdamW(weight_decay=0.3), model).param_groups
    assert group["weight_decay"] == 0.3
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_a_model_of_vectors_only_has_no_empty_group() -> None:
    model = nn.LayerNorm(4)
    (group,) = build_optimizer(config.AdamW(decay_norm_bias=False, weight_decay=0.3), model).param_groups
    assert group["weight_decay"] == 0.0
    assert len(group["params"]) == 2


def test_frozen_parameters_are_left_out() -> None:
    model = _mlp()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = build_optimizer(config.AdamW(), model)
    _train(model, optimizer, 3)
    assert torch.equal(model[0].weight, before)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters())) - 2


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (config.SGD(nesterov=True), "optimizer=sgd: Nesterov momentum requires a momentum"),
        (
            config.SGD(nesterov=True, momentum=0.9, dampening=0.5),
            "optimizer=sgd: Nesterov momentum requires a momentum",
        ),
        (config.Rprop(etas=[1.5, 0.5]), "optimizer=rprop: Invalid eta values"),
        (config.SparseAdam(), "optimizer=sparse_adam trains sparse embeddings only"),
    ],
    ids=["nesterov without momentum", "nesterov with dampening", "etas swapped", "sparse_adam on a dense model"],
)
def test_what_torch_refuses_is_a_config_error(component: config.OptimizerConfig, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_optimizer(component, _mlp())
    assert str(error.value).startswith(words)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("adam", {"betas": [0.9]}),
        ("adam", {"betas": []}),
        ("adamw", {"betas": [0.9, 0.9, 0.9]}),
        ("rprop", {"etas": [0.5]}),
        ("rprop", {"step_sizes": [1e-6]}),
        ("adafactor", {"eps": [None]}),
        ("adafactor", {"eps": [None, None]}),
        ("muon", {"ns_coefficients": [1.0]}),
    ],
    ids=str,
)
def test_a_list_of_another_length_is_a_config_error(name: str, values: dict[str, Any]) -> None:
    model = _mlp()
    with pytest.raises(ConfigError, match="optimizer"):
        _train(model, build_optimizer(registry.lookup("optimizer", name)(**values), model), 1)


@pytest.mark.parametrize("name", DENSE)
def test_a_model_without_parameters_to_train_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no parameter to train"):
        build_optimizer(registry.lookup("optimizer", name)(), _mlp().requires_grad_(False))


@pytest.mark.parametrize("model", [nn.Linear(3, 1), nn.LayerNorm(3)], ids=["a head alone", "no matrix"])
def test_muon_refuses_a_model_without_hidden_matrices(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match="optimizer=muon trains hidden weight matrices"):
        build_optimizer(config.Muon(), model)
