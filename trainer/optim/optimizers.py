"""From an optimizer config to the optimizer of torch.optim."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config.optimizer import Muon, OptimizerConfig, SparseAdam
from trainer.errors import ConfigError

Group = dict[str, Any]  # the settings of a parameter group
Step = Callable[..., Any]
Names = Callable[[Group], list[str]]
Kernel = Callable[..., None]

_ONE = torch.ones(())
# Keys of ours that are no arguments of torch's classes.
_OWN_KEYS = {"decay_norm_bias", "adamw_lr", "adamw_weight_decay"}


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of `model`, fused where torch offers it on their device.

    Raises:
        ConfigError: where torch refuses the values, or the model has nothing this optimizer can train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError("The model has no parameter to train.")
    if isinstance(config, SparseAdam) and not any(getattr(module, "sparse", False) for module in model.modules()):
        raise ConfigError("optimizer=sparse_adam trains sparse embeddings only, and this model has none; use adam.")
    kwargs = {
        field.name: tuple(value) if isinstance(value := getattr(config, field.name), list) else value
        for field in dataclasses.fields(config)
        if field.name not in _OWN_KEYS
    }
    groups = _groups(config, parameters)
    if isinstance(config, Muon):
        return _muon(config, model, kwargs)
    return _construct(config.option, getattr(torch.optim, config.torch_name()), groups, kwargs)


def _groups(config: OptimizerConfig, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """One group, or two: weights, and the 1-d parameters (norms, biases) that decay does not touch."""
    if config.decay_norm_bias or not hasattr(config, "weight_decay"):
        return [{"params": parameters}]
    weights = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [group for group in ({"params": weights}, {"params": others, "weight_decay": 0.0}) if group["params"]]


def _construct(
    option: str, cls: type[torch.optim.Optimizer], groups: list[dict[str, Any]], kwargs: dict[str, Any]
) -> torch.optim.Optimizer:
    device = groups[0]["params"][0].device
    if "fused" in inspect.signature(cls).parameters and device.type in ("cpu", "cuda", "mps"):
        # torch implements the fused Adagrad on fewer devices than its other fused optimizers.
        kwargs = kwargs | {"fused": cls is not torch.optim.Adagrad or device.type != "mps"}
    try:
        return _eager(cls)(groups, **kwargs)
    except ValueError as error:
        raise ConfigError(f"optimizer={option}: {error}.") from error


def _eager(cls: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The class with its step as written, without the wrappers that prepare it for being compiled.

    They import `torch._dynamo` at the first construction and the first step: 1.2 s of the start of every run, for
    nothing, since an optimizer is not compiled here (`trainer.compile` is the model's). The hooks and the profiler's
    record, which nobody reads here, go with them: some 20 µs a step. Where torch changes its wrappers, this finds
    none and only the time is lost.
    """
    for name in ("add_param_group", "zero_grad", "load_state_dict", "state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            # The mark that the wrapper would leave on its first call, after the import.
            setattr(method, "__dynamo_disable", method)  # as an attribute its name would be mangled
    step = torch.no_grad()(inspect.unwrap(cls.step))
    for base, names, kernel in ((torch.optim.Adam, _adam_memory, _adam), (torch.optim.SGD, _sgd_memory, _sgd)):
        if issubclass(cls, base):
            step = _straight(step, names, kernel)
    step.hooked = True  # what torch looks for before it wraps a step
    return type(cls.__name__, (cls,), {"step": step})


def _straight(whole: Step, names: Names, kernel: Kernel) -> Step:
    """A step on the CPU that goes straight to torch's fused kernel where that is all that is left to do.

    On the way there torch looks for accelerators, sorts the parameters by device and type, and checks what it has
    checked in the step before: 40 µs, where the kernel of a small model takes 2. The first step, which lays out the
    memory, is torch's own; so is each one with gradients that are sparse or scaled, or parameters of several types.

    Args:
        whole: torch's step.
        names: what the kernel needs of the memory of a parameter, in its order, with the settings of a group.
        kernel: called for each group with its settings, parameters, gradients, and the tensors of those names.
    """

    def step(self: torch.optim.Optimizer, closure: Callable[[], float] | None = None) -> float | None:
        ready = None if closure is not None or hasattr(self, "found_inf") else _gather(self, names)
        if ready is None:
            result: float | None = whole(self, closure)
            return result
        enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        try:
            for arguments in ready:
                kernel(*arguments)
        finally:
            torch.set_grad_enabled(enabled)
        return None

    return step


def _gather(optimizer: torch.optim.Optimizer, names: Names) -> list[tuple[Any, ...]] | None:
    """The arguments of the kernel for each group; None where it cannot take them as they are."""
    ready: list[tuple[Any, ...]] = []
    dtype = optimizer.param_groups[0]["params"][0].dtype
    for group in optimizer.param_groups:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters]
        memories = [optimizer.state.get(parameter, {}) for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.dtype is not dtype or not parameter.is_cpu or gradient.is_sparse:
                return None
        columns = [[memory.get(name) for memory in memories] for name in names(group)]
        if any(tensor is None for column in columns for tensor in column):
            return None
        ready.append((group, parameters, gradients, *columns))
    return ready


def _adam_memory(group: Group) -> list[str]:
    return ["step", "exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]


def _adam(
    group: Group,
    parameters: list[Tensor],
    gradients: list[Tensor],
    steps: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    largest: list[Tensor] | None = None,
) -> None:
    for step in steps:
        step.add_(_ONE)  # a Python 1 takes torch ten times as long
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    beta1, beta2 = group["betas"]
    kernel(
        parameters,
        gradients,
        first,
        second,
        largest or [],
        steps,
        amsgrad=group["amsgrad"],
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )


def _sgd_memory(group: Group) -> list[str]:
    return ["momentum_buffer"] * bool(group["momentum"])


def _sgd(group: Group, parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor] | None = None) -> None:
    torch._fused_sgd_(
        parameters,
        gradients,
        momenta or [],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=False,
    )


def _muon(config: Muon, model: nn.Module, kwargs: dict[str, Any]) -> "CombinedOptimizer":
    """Muon for the hidden matrices, AdamW for the rest: embeddings, and the last matrix (the head)."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in embeddings][:-1]
    if not matrices:
        raise ConfigError("optimizer=muon trains hidden weight matrices, and this model has none; use adamw.")
    held = {id(p) for p in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in held]
    adamw = {"lr": config.adamw_lr, "weight_decay": config.adamw_weight_decay}
    return CombinedOptimizer(
        _construct(config.option, torch.optim.Muon, [{"params": matrices}], kwargs),
        _construct(config.option, torch.optim.AdamW, _groups(config, others), adamw),
    )


class CombinedOptimizer(torch.optim.Optimizer):
    """Two optimizers over disjoint parameters that step, save and load as one."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.parts = (first, second)
        # The groups are shared with the parts, not copied: a schedule that sets a rate here sets it there.
        self.param_groups = [*first.param_groups, *second.param_groups]
        self.defaults = {}

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """The state of both, by parameter."""
        return {**self.parts[0].state, **self.parts[1].state}

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of each."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of both."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Both state dicts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [*self.parts[0].param_groups, *self.parts[1].param_groups]
