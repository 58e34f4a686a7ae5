"""From an optimizer config to the optimizer of torch.optim."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.config.optimizer import Muon, OptimizerConfig, SparseAdam
from trainer.errors import ConfigError
from trainer.optim import fused

# Keys of ours that are no arguments of torch's classes.
_OWN_KEYS = {"decay_norm_bias", "lr_mult", "layer_decay", "adamw_lr", "adamw_weight_decay"}


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of the trainable parameters of `model`, fused where torch offers that on their device.

    Raises:
        ConfigError: where torch refuses the values, or the model has nothing this optimizer can train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError("The model has no parameter to train.")
    if isinstance(config, SparseAdam) and not any(getattr(module, "sparse", False) for module in model.modules()):
        raise ConfigError("optimizer=sparse_adam trains sparse embeddings only, and this model has none; use adam.")
    kwargs: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value := getattr(config, field.name), list) else value
        for field in dataclasses.fields(config)
        if field.name not in _OWN_KEYS
    }
    groups = _groups(config, parameters, kwargs["lr"])
    if isinstance(config, Muon):
        return _muon(config, model, kwargs)
    return _construct(config.option, getattr(torch.optim, config.torch_name()), groups, kwargs)


def _groups(config: OptimizerConfig, parameters: list[nn.Parameter], rate: float) -> list[dict[str, Any]]:
    """Return the groups of parameters: those with a learning rate of their own, and the 1-d ones without decay apart.

    A parameter with an attribute `lr_factor` is trained at that multiple of the learning rate; one with an attribute
    `decays` decays or does not, as that says, however many dimensions it has.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    decays = config.decay_norm_bias or not hasattr(config, "weight_decay")
    for parameter in parameters:
        own = bool(getattr(parameter, "decays", parameter.ndim > 1))
        found.setdefault((lr_factor(parameter), decays or own), []).append(parameter)
    groups = []
    for factor, decay in sorted(found, key=lambda key: (key[0] != 1, key[0], not key[1])):
        group: dict[str, Any] = {"params": found[factor, decay]}
        group |= {} if decay else {"weight_decay": 0.0}
        groups.append(group if factor == 1 else group | {"lr": factor * rate})
    return groups


def lr_factor(parameter: nn.Parameter) -> float:
    """Return the multiple of the learning rate at which a parameter is trained: its attribute of that name, or 1."""
    return float(getattr(parameter, "lr_factor", 1.0))


def _construct(
    option: str, cls: type[torch.optim.Optimizer], groups: list[dict[str, Any]], kwargs: dict[str, Any]
) -> torch.optim.Optimizer:
    device = groups[0]["params"][0].device
    if "fused" in inspect.signature(cls).parameters and device.type in ("cpu", "cuda", "mps"):
        # torch implements the fused Adagrad on fewer devices than its other fused optimizers.
        kwargs = kwargs | {"fused": cls is not torch.optim.Adagrad or device.type != "mps"}
    try:
        return fused.unwrapped(cls)(groups, **kwargs)
    except ValueError as error:
        raise ConfigError(f"optimizer={option}: {error}.") from error


def _muon(config: Muon, model: nn.Module, kwargs: dict[str, Any]) -> "CombinedOptimizer":
    """Return Muon for the hidden matrices and AdamW for the rest: embeddings, vectors, the last matrix (the head)."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in embeddings][:-1]
    if not matrices:
        raise ConfigError("optimizer=muon trains hidden weight matrices, and this model has none; use adamw.")
    held = {id(p) for p in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in held]
    adamw = {"lr": config.adamw_lr, "weight_decay": config.adamw_weight_decay}
    return CombinedOptimizer(
        _construct(config.option, torch.optim.Muon, _groups(config, matrices, config.lr), kwargs),
        _construct(config.option, torch.optim.AdamW, _groups(config, others, config.adamw_lr), adamw),
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
        """Return the state of both, by parameter."""
        return {**self.parts[0].state, **self.parts[1].state}

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do one step of each."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of both."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return both state dicts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` has returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [*self.parts[0].param_groups, *self.parts[1].param_groups]
