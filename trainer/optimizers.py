"""From an optimizer config to the optimizer of torch.optim."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.config.optimizer import Muon, Optimizer, SparseAdam
from trainer.errors import ConfigError

# Keys of ours that are no arguments of torch's classes.
_OWN_KEYS = {"decay_norm_bias", "adamw_lr", "adamw_weight_decay"}


def build_optimizer(config: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
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


def _groups(config: Optimizer, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
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
    step.hooked = True  # what torch looks for before it wraps a step
    return type(cls.__name__, (cls,), {"step": step})


def _muon(config: Muon, model: nn.Module, kwargs: dict[str, Any]) -> "Both":
    """Muon for the hidden matrices, AdamW for the rest: embeddings, and the last matrix (the head)."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in embeddings][:-1]
    if not matrices:
        raise ConfigError("optimizer=muon trains hidden weight matrices, and this model has none; use adamw.")
    held = {id(p) for p in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in held]
    adamw = {"lr": config.adamw_lr, "weight_decay": config.adamw_weight_decay}
    return Both(
        _construct(config.option, torch.optim.Muon, [{"params": matrices}], kwargs),
        _construct(config.option, torch.optim.AdamW, _groups(config, others), adamw),
    )


class Both(torch.optim.Optimizer):
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
