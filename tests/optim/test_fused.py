"""The fast ways through torch: where each is taken, and that it gives what the public way gives."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.config import registry
from trainer.optim import fused
from trainer.runs.build import build_optimizer

OPTIMIZERS = {
    "adam": {"amsgrad": True, "weight_decay": 0.1},
    "adamw": {"weight_decay": 0.1},
    "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "adagrad": {},
}


def _optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(registry.lookup("optimizer", name)(lr=0.05, **OPTIMIZERS.get(name, {})), model)


def _twins(name: str) -> tuple[nn.Linear, torch.optim.Optimizer, nn.Linear, torch.optim.Optimizer]:
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    return model, _optimizer(name, model), twin, _optimizer(name, twin)


def _assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


class _Own(Tensor):
    """A kind of tensor with a backward pass of its own."""

    def backward(self, *arguments: Any, **named: Any) -> None:
        super().backward(*arguments, **named)
        raise InterruptedError


def test_another_kind_of_tensor_goes_backward_in_its_own_way() -> None:
    weight = torch.ones(4, requires_grad=True)
    with pytest.raises(InterruptedError):
        fused.backward((weight * 3).sum().as_subclass(_Own), torch.tensor(0.5))
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.5] * 4


def test_gradients_add_up_and_may_be_sparse() -> None:
    weight = torch.ones(3, 2, requires_grad=True)
    for factor in (0.5, 0.25):
        fused.backward(nn.functional.embedding(torch.tensor([1, 1]), weight, sparse=True).sum(), torch.tensor(factor))
    assert weight.grad is not None
    assert weight.grad.is_sparse
    assert weight.grad.to_dense().tolist() == [[0.0, 0.0], [1.5, 1.5], [0.0, 0.0]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_left_out_where_its_numbers_are_not_finite(name: str) -> None:
    model, optimizer, twin, plain = _twins(name)
    assert fused.takes_found_inf(optimizer)
    for found in (0.0, 1.0, 0.0, 1.0):
        for parameter in (*model.parameters(), *twin.parameters()):
            parameter.grad = torch.full_like(parameter, 0.5 - found)
        fused.step_unless(optimizer, torch.tensor(found))
        if not found:
            plain.step()
        _assert_same(list(model.parameters()), list(twin.parameters()))
        _assert_same(optimizer.state_dict()["state"], plain.state_dict()["state"])
        assert not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize("name", ["rmsprop", "muon"])
def test_optimizers_that_would_step_all_the_same_are_not_asked_to_leave_one_out(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1))
    assert not fused.takes_found_inf(_optimizer(name, model))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_scaler_of_torch_is_listened_to(name: str) -> None:
    """Gradients that it has scaled: a step that overflows is left out, another one is made with them unscaled."""
    model, optimizer, twin, plain = _twins(name)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for overflows in (False, True, False):
        inputs = torch.full((4, 3), torch.inf if overflows else 0.5)
        for each in (model, twin):
            each.zero_grad()
        scaler.scale(model(inputs).sum()).backward()
        twin(inputs).sum().backward()
        if not overflows:
            plain.step()
        scaler.step(optimizer)
        scaler.update()
        _assert_same(list(model.parameters()), list(twin.parameters()))


class _Counted(torch.optim.Adam):
    """Counts the steps that are torch's own."""

    calls = 0

    def step(self, closure: Any = None) -> Any:
        self.calls += 1
        return torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))(self, closure)


CASES: dict[str, Callable[[torch.optim.Optimizer, nn.Parameter], Any]] = {
    "with a closure": lambda optimizer, weight: optimizer.step(lambda: 1.0),
    "scaled": lambda optimizer, weight: fused.step_unless(optimizer, torch.zeros(())),
    "of two dtypes": lambda optimizer, weight: optimizer.step(),
    "plain": lambda optimizer, weight: optimizer.step(),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_direct_after_the_first_one_where_the_kernel_can_take_it(case: str) -> None:
    weight, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    if case == "of two dtypes":
        other = nn.Parameter(torch.ones(2, dtype=torch.float64))
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in (weight, other)]
    optimizer, plain = fused.unwrapped(_Counted)([weight, other], fused=True), torch.optim.Adam(theirs, fused=True)
    for step in range(4):
        for parameter in (weight, other, *theirs):
            parameter.grad = torch.full_like(parameter, step - 1.5)
        CASES[case](optimizer, weight)
        plain.step()
        assert torch.is_grad_enabled()
    assert optimizer.calls == (1 if case == "plain" else 4)  # type: ignore[attr-defined]
    _assert_same([weight, other], theirs)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_sparse_gradient_is_left_to_torch(name: str) -> None:
    model = nn.Sequential(nn.Embedding(5, 2, sparse=True))
    optimizer = _optimizer(name, model)
    model[0].weight.grad = torch.ones(5, 2)
    optimizer.step()
    model[0].weight.grad = torch.ones(5, 2).to_sparse(1)
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
