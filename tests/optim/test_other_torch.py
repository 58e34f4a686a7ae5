"""A torch that lacks a private name, or means something else by it: noticed, and trained with to the same bits."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.config import registry
from trainer.optim import fused
from trainer.runs.build import build_optimizer

# What a new torch may lack: the fast way that goes with it, and the name.
NAMES = {
    "the engine": ("backward", "autograd"),
    "_fused_adam_": ("adam", "_fused_adam_"),
    "_fused_adamw_": ("adam", "_fused_adamw_"),
    "_fused_sgd_": ("sgd", "_fused_sgd_"),
}
OPTIMIZERS = {
    "adam": {"amsgrad": True, "weight_decay": 0.1},
    "adamw": {"weight_decay": 0.1},
    "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "adagrad": {},
    "rmsprop": {},
}


class OtherTorch:
    """torch as `fused` sees it, with some names changed; those that are None are not there."""

    def __init__(self, **changed: Any) -> None:
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        if name in self._changed and self._changed[name] is None:
            raise AttributeError(f"this torch has no {name}")
        return self._changed.get(name, getattr(torch, name))


@pytest.fixture
def other_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let `fused` see another torch."""

    def change(**changed: Any) -> None:
        monkeypatch.setattr(fused, "torch", OtherTorch(**changed))
        fused.works.cache_clear()

    yield change
    fused.works.cache_clear()


def _optimizer(name: str, model: nn.Module, **values: Any) -> torch.optim.Optimizer:
    return build_optimizer(registry.lookup("optimizer", name)(lr=0.05, **values), model)


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def _loss(model: nn.Module) -> Tensor:
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    return (model(inputs) - inputs.sum(1, keepdim=True).sin()).square().sum()


def _train(name: str, steps: int = 5) -> tuple[list[Tensor], dict[int, Any]]:
    """The weights after some steps, and the state of the optimizer."""
    model = _model()
    optimizer = _optimizer(name, model, **OPTIMIZERS[name])
    for _ in range(steps):
        optimizer.zero_grad()
        fused.backward(_loss(model), torch.tensor(1 / 16))
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()], optimizer.state_dict()["state"]


def _assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("way", ["backward", "found_inf", "adam", "sgd"])
def test_this_torch_has_the_fast_ways(way: str) -> None:
    assert fused.works(way), (
        f"torch {torch.__version__} has lost or changed a private name behind {way!r}: training goes on the public "
        "way, to the same bits but slower. Find its new form for trainer/optim/fused.py, or remove it there."
    )


def test_this_torch_leaves_a_step_that_is_marked_as_hooked_alone() -> None:
    model, calls = _model(), []
    optimizer = _optimizer("adam", model)
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    optimizer.load_state_dict(optimizer.state_dict())  # after which torch looks for the mark again
    _loss(model).backward()
    optimizer.step()
    assert not calls, (
        f"torch {torch.__version__} no longer looks for `hooked` and wraps the step of every optimizer: 20 % of a step "
        "of a small model. See `unwrapped` in trainer/optim/fused.py."
    )


def test_first_steps_import_neither_the_compiler_nor_sympy() -> None:
    program = """
import sys
import torch
from trainer.config import registry
from trainer.optim import fused
from trainer.runs.build import build_optimizer
model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
for name in ("adamw", "sgd", "rmsprop", "muon"):
    optimizer = build_optimizer(registry.lookup("optimizer", name)(), model)
    for _ in range(2):
        optimizer.zero_grad()
        fused.backward(model(torch.ones(2, 3)).sum(), torch.ones(()))
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print(*[name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not result.stdout.strip(), (
        f"torch {torch.__version__} imports {result.stdout.strip()} in the first steps: each a second of every start. "
        "See `backward` and `unwrapped` in trainer/optim/fused.py."
    )


@pytest.mark.parametrize("hidden", NAMES)
def test_a_torch_without_a_name_trains_to_the_same_bits(hidden: str, other_torch: Callable[..., None]) -> None:
    expected = {name: _train(name) for name in OPTIMIZERS}
    way, attribute = NAMES[hidden]
    other_torch(**{attribute: None})
    assert not fused.works(way)
    assert all(fused.works(other) for other in ("backward", "adam", "sgd") if other != way)
    for name in OPTIMIZERS:
        _assert_same(_train(name), expected[name])


def _doubled_gradients(*arguments: Any, **named: Any) -> None:
    parameters, gradients, *rest = arguments
    torch._fused_sgd_(parameters, [2 * gradient for gradient in gradients], *rest, **named)


def _more_arguments(*arguments: Any, another: float, **named: Any) -> None:
    raise AssertionError("is not called without its new argument")


@pytest.mark.parametrize("changed", [_doubled_gradients, _more_arguments])
def test_a_torch_that_means_something_else_by_a_name_trains_to_the_same_bits(
    changed: Callable[..., None], other_torch: Callable[..., None]
) -> None:
    expected = _train("sgd")
    other_torch(_fused_sgd_=changed)
    assert not fused.works("sgd")
    _assert_same(_train("sgd"), expected)


class _Engine:
    """An engine that returns gradients and no longer accumulates them."""

    @staticmethod
    def run_backward(*arguments: Any, **named: Any) -> None:
        pass


def test_an_engine_that_does_something_else_is_not_used(
    other_torch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _train("sgd")
    monkeypatch.setattr(torch.autograd, "Variable", type("Variable", (), {"_execution_engine": _Engine()}))
    other_torch()
    assert not fused.works("backward")
    _assert_same(_train("sgd"), expected)


def test_a_torch_that_always_wraps_the_step_trains_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _train("adam")
    calls, patch = [], torch.optim.Optimizer._patch_step_function

    def always(self: Any) -> None:
        calls.append(1)
        patch(self)
        self.__class__.step = self.profile_hook_step(self.__class__.step)

    monkeypatch.setattr(torch.optim.Optimizer, "_patch_step_function", always)
    _assert_same(_train("adam"), expected)
    assert calls


def test_a_torch_with_another_protocol_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fused._plain_step

    def deaf(cls: type[torch.optim.Optimizer]) -> Any:
        def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
            names = [name for name in ("found_inf", "grad_scale") if hasattr(self, name)]
            held = {name: self.__dict__.pop(name) for name in names}
            try:
                return plain(cls)(self, closure)
            finally:
                self.__dict__.update(held)

        return step

    monkeypatch.setattr(fused, "_plain_step", deaf)
    fused.works.cache_clear()
    try:
        assert not fused.takes_found_inf(_optimizer("sgd", _model()))
        assert not fused.works("sgd"), "a direct step would not see that its gradients are scaled"
    finally:
        fused.works.cache_clear()
