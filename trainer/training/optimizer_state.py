"""Loading the memory of an optimizer: checked, since torch's fused kernels take what they are given."""

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

# What optimizers remember of each element of a parameter. The fused kernels read as many as the parameter has.
_MOMENTS = {
    *("acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer", "prev"),
    *("square_avg", "step_size", "sum"),
}


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimizer's memory; its settings (rate, decay, ...) stay those of the config, which may be new.

    Raises:
        ValueError, LookupError: for the memory of other parameters, or of another optimizer.
    """
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        parameters = group["params"]
        group.clear()
        group.update(own, params=parameters)
        for parameter in parameters:
            _lay_out(optimizer.state.get(parameter, {}), parameter)
    for part in getattr(optimizer, "parts", (optimizer,)):
        _check_names(part)


def _lay_out(memory: dict[str, Any], parameter: Tensor) -> None:
    """Bring the moments of a parameter into its layout: the fused kernels take the two for alike without looking.

    Raises:
        ValueError: for moments of another shape.
    """
    for name, value in memory.items():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if name in _MOMENTS and value is not None and shape != tuple(parameter.shape):
            raise ValueError(f"{name} of {shape} for a parameter of {tuple(parameter.shape)}")
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
            memory[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _check_names(optimizer: torch.optim.Optimizer) -> None:
    """Raise `ValueError` where a parameter's memory lacks what the optimizer will look up.

    What that is, a step on a number of its own shows: names differ from class to class and with the settings.
    """
    like = optimizer.param_groups[0]["params"][0]
    number = torch.zeros(1, 1, dtype=like.dtype, device=like.device, requires_grad=True)
    zero = torch.zeros_like(number)
    number.grad = zero.to_sparse() if isinstance(optimizer, torch.optim.SparseAdam) else zero
    twin = copy.copy(optimizer)
    twin.param_groups, twin.state = [{**optimizer.param_groups[0], "params": [number]}], defaultdict(dict)
    twin.step()
    for memory in optimizer.state.values():
        lacking = twin.state[number].keys() - memory.keys()
        if memory and lacking:
            raise ValueError(f"the optimizer's memory lacks {', '.join(sorted(lacking))}")
