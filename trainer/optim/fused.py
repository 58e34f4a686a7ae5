"""Private names of torch, each beside its public way; no other module of this package uses one.

A fast way is taken only where a trial on a few numbers, made once a process, shows that it exists in this torch and
gives the bits of the public way. With a torch that has renamed, removed or changed a name, training goes on the public
way: the same bits, only slower. `tests/optim/test_fused.py` hides each name, and tells which one a new torch lacks.

What a name saves is said where it is used, as a share of a step of the small linear model: 10 features, batch 32, one
thread, torch 2.14.1, measured by `scripts/benchmarks/bench_private.py`. All together they save 45 % of a step with Adam
and 36 % with SGD. Names that save less than 3 % are not used.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

Group = dict[str, Any]  # the settings of a parameter group
Pairs = Iterator[tuple[Tensor | None, Tensor]]  # of a trial: what the fast way gives, and the public one

_ONE = torch.ones((), device="cpu")


def backward(loss: Tensor, gradient: Tensor) -> None:
    """Do `loss.backward(gradient)`; on the CPU by calling torch's autograd engine directly.

    Before the engine, torch looks for tracers, the compiler and other kinds of tensors. Saves 12 to 20 %, and in the
    first step the import of sympy: 1.3 s of the start of every run.

    Args:
        loss: a scalar of any floating dtype.
        gradient: a scalar of the same dtype on the same device.
    """
    if loss.is_cpu and type(loss) is Tensor and works("backward"):
        _run_engine(loss, gradient)
    else:
        loss.backward(gradient)


def _run_engine(loss: Tensor, gradient: Tensor) -> None:
    run = torch.autograd.Variable._execution_engine.run_backward
    run((loss,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)


def takes_found_inf(optimizer: Optimizer) -> bool:
    """Return whether `step_unless` works for this optimizer, so that a step need not wait for the device.

    It does for torch's fused optimizers, and for others that support `torch.amp.GradScaler` in the same way. Where it
    does not, the device must be asked before each step whether its numbers are finite. On the CPU it saves nothing.
    """
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and works("found_inf")


def step_unless(optimizer: Optimizer, found_inf: Tensor) -> None:
    """Do a step that leaves parameters and optimizer state alone where `found_inf` is 1; does not wait for the device.

    Args:
        optimizer: one that `takes_found_inf`.
        found_inf: float32 scalar on the device of the parameters, 1.0 or 0.0.
    """
    optimizer.grad_scale, optimizer.found_inf = None, found_inf  # type: ignore[attr-defined]  # as GradScaler sets them
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


def unwrapped(cls: type[Optimizer]) -> type[Optimizer]:
    """Return a subclass of an optimizer of torch without the wrappers that torch puts around its methods.

    Those that keep the compiler out import `torch._dynamo` in the first construction and the first step: 1.2 s of the
    start of every run, for nothing, since an optimizer is not compiled here (`trainer.compile` is the model's).
    `inspect.unwrap` takes them off. Another one calls the hooks of a step and records it for the profiler; torch leaves
    it away where `step` has the attribute `hooked`. Saves 20 %.

    Steps of Adam, AdamW and SGD go directly to torch's fused kernel where that is all there is to do; see `_direct`.
    """
    methods = ("add_param_group", "zero_grad", "load_state_dict", "state_dict")
    step = _plain_step(cls)
    for name, kernel in _KERNELS.items():
        if issubclass(cls, kernel.optimizer):
            step = _direct(name, step)
    step.hooked = True
    return type(cls.__name__, (cls,), {name: inspect.unwrap(getattr(cls, name)) for name in methods} | {"step": step})


def _plain_step(cls: type[Optimizer]) -> Any:
    return torch.no_grad()(inspect.unwrap(cls.step))


def _direct(name: str, whole: Callable[..., Any]) -> Any:
    """Return a step that goes directly to a fused kernel on the CPU, or is `whole`, torch's own, where it cannot.

    Before the kernel, torch looks for accelerators, groups the parameters by device and dtype, and checks what it has
    checked in the step before. Saves 21 to 25 % with Adam, of which the public function `torch.optim.adam.adam` would
    save a fifth, and 8 to 14 % with SGD.

    The first step, which lays out the state, is torch's own; so is each one with gradients that are sparse or scaled,
    with a closure, or with parameters of several dtypes.
    """
    kernel = _KERNELS[name]

    def step(self: Optimizer, closure: Callable[[], float] | None = None) -> float | None:
        if closure is None and not hasattr(self, "found_inf") and works(name) and _update(self, kernel):
            return None
        result: float | None = whole(self, closure)
        return result

    return step


class _Kernel(NamedTuple):
    """A fused kernel of torch.

    Attributes:
        optimizer: the class that it belongs to.
        state: given a group, the names of the tensors in the state of a parameter that the kernel takes, in its order.
        run: called for each group with its settings, parameters, gradients and the tensors of those names.
    """

    optimizer: type[Optimizer]
    state: Callable[[Group], list[str]]
    run: Callable[..., None]


def _update(optimizer: Optimizer, kernel: _Kernel) -> bool:
    """Do a step by its kernel alone; returns whether that was possible."""
    arguments = _arguments(optimizer, kernel)
    if arguments is None:
        return False
    enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    try:
        for group in arguments:
            kernel.run(*group)
    finally:
        torch.set_grad_enabled(enabled)
    return True


def _arguments(optimizer: Optimizer, kernel: _Kernel) -> list[tuple[Any, ...]] | None:
    """Return the arguments of the kernel for each group; None where it cannot take them as they are."""
    found: list[tuple[Any, ...]] = []
    dtype = optimizer.param_groups[0]["params"][0].dtype
    for group in optimizer.param_groups:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:  # all are frozen
            continue
        gradients = [parameter.grad for parameter in parameters]
        states = [optimizer.state.get(parameter, {}) for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.dtype is not dtype or not parameter.is_cpu or gradient.is_sparse:
                return None
        columns = [[state.get(name) for state in states] for name in kernel.state(group)]
        if any(tensor is None for column in columns for tensor in column):
            return None
        found.append((group, parameters, gradients, *columns))
    return found


def _adam_state(group: Group) -> list[str]:
    return ["step", "exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]


def _adam(group: Group, parameters: list[Tensor], gradients: list[Tensor], steps: list[Tensor], *means: Any) -> None:
    first, second, largest = (*means, []) if len(means) == 2 else means
    for step in steps:
        step.add_(_ONE)  # a Python 1 takes torch ten times as long
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    beta1, beta2 = group["betas"]
    kernel(
        parameters,
        gradients,
        first,
        second,
        largest,
        steps,
        amsgrad=group["amsgrad"],
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )


def _sgd_state(group: Group) -> list[str]:
    return ["momentum_buffer"] * bool(group["momentum"])


def _sgd(group: Group, parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor] | None = None) -> None:
    names = ("lr", "weight_decay", "momentum", "dampening", "nesterov", "maximize")
    settings = {name: group[name] for name in names}
    torch._fused_sgd_(parameters, gradients, momenta or [], is_first_step=False, **settings)


_KERNELS = {"adam": _Kernel(Adam, _adam_state, _adam), "sgd": _Kernel(SGD, _sgd_state, _sgd)}


@functools.cache
def works(way: str) -> bool:
    """Return whether a fast way exists in this torch and gives the bits of the public one; tried once a process.

    Args:
        way: backward, found_inf, adam (AdamW too) or sgd.
    """
    trial = _TRIALS[way]
    try:
        return all(fast is not None and torch.equal(fast, public) for fast, public in trial())
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False


@torch.enable_grad()
def _try_backward() -> Pairs:
    numbers = torch.ones(2, device="cpu", requires_grad=True)
    _run_engine((numbers * 3).sum(), _ONE)
    yield numbers.grad, torch.tensor([3.0, 3.0], device="cpu")  # the public way would import sympy


def _try_found_inf() -> Pairs:
    yield _trained(SGD, lambda sgd: step_unless(sgd, _ONE)), _trained(SGD, lambda sgd: None)
    yield _trained(SGD, lambda sgd: step_unless(sgd, 0 * _ONE)), _trained(SGD, _plain_step(SGD))


def _try_kernel(name: str, *settings: tuple[type[Optimizer], Group]) -> Pairs:
    yield from _try_found_inf()  # without it a direct step could not tell that its gradients are scaled
    for cls, group in settings:
        direct = functools.partial(_update, kernel=_KERNELS[name])
        yield _trained(cls, direct, **group), _trained(cls, _plain_step(cls), **group)


def _trained(cls: type[Optimizer], update: Callable[[Optimizer], Any], **settings: Any) -> Tensor:
    """Return two numbers after a step as torch writes it, which lays out the state, and then `update`."""
    numbers = nn.Parameter(torch.tensor([1.0, -2.0], device="cpu"))
    optimizer = unwrapped(cls)([numbers], fused=True, **settings)  # type: ignore[call-arg]
    for step in (_plain_step(cls), update):
        numbers.grad = torch.tensor([0.5, -3.0], device="cpu")
        step(optimizer)
    return numbers.detach()


_TRIALS: dict[str, Callable[[], Pairs]] = {
    "backward": _try_backward,
    "found_inf": _try_found_inf,
    "adam": functools.partial(_try_kernel, "adam", (Adam, {"amsgrad": True}), (AdamW, {})),
    "sgd": functools.partial(_try_kernel, "sgd", (SGD, {}), (SGD, {"momentum": 0.9})),
}
