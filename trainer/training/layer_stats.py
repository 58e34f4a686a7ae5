"""How gradients and updates are spread over the layers of a network: whether they vanish or explode on the way."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.training.non_finite import stored_numbers

# Of a layer: `gradient_mean` and `gradient_max` (of its magnitudes), `gradient_norm` (its length) and `update_ratio`.
LayerFlow = dict[str, float | None]


class LayerStats(NamedTuple):
    """What one step did to each parameter, still on the device.

    Attributes:
        layers, sizes: the layer and the count of numbers of each parameter that had a gradient.
        gradients: float32 (3, parameters): sum of magnitudes, largest magnitude and length of each gradient.
        updates: float32 (2, parameters): length of each parameter before the step, and of the step.
    """

    layers: list[str]
    sizes: list[int]
    gradients: Tensor
    updates: Tensor

    def read(self) -> dict[str, LayerFlow]:
        """Return the numbers by layer, from input to output; {} where a gradient was not finite. Waits for the device.

        `update_ratio` is |Δw| / |w|, by a rule of thumb about 1e-3 (Karpathy, CS231n); None for weights that are all 0.
        """
        sums, largest, lengths = self.gradients.tolist()
        if not all(map(math.isfinite, (*sums, *lengths))):
            return {}
        before, steps = self.updates.tolist()
        found: dict[str, LayerFlow] = {}
        for layer in dict.fromkeys(self.layers):
            own = [i for i, name in enumerate(self.layers) if name == layer]
            weight, update = (math.hypot(*(numbers[i] for i in own)) for numbers in (before, steps))
            found[layer] = {
                "gradient_mean": sum(sums[i] for i in own) / sum(self.sizes[i] for i in own),
                "gradient_max": max(largest[i] for i in own),
                "gradient_norm": math.hypot(*(lengths[i] for i in own)),
                "update_ratio": update / weight if weight else None,
            }
        return found


class LayerMeter:
    """Measures a step of a network's parameters, without waiting for the device.

    A layer is a module that owns parameters, under its name in the network; a parameter of the network itself is one
    of its own.
    """

    def __init__(self, network: nn.Module) -> None:
        self._named = [(name.rpartition(".")[0] or name, p) for name, p in network.named_parameters()]
        self._moved: list[tuple[str, nn.Parameter]] = []

    def before(self, wanted: bool = True) -> None:
        """Measure the gradients where that is wanted, and keep the parameters: a copy of them, until `after`."""
        if wanted:
            self._measure()

    def after(self) -> LayerStats | None:
        """Return what the step has changed; None where it was not measured, or no parameter has a gradient."""
        return self._compare() if self._moved else None

    @torch.no_grad()
    def _measure(self) -> None:
        self._moved = [(layer, p) for layer, p in self._named if p.grad is not None]
        if not self._moved:
            return
        gradients = [stored_numbers(p.grad) for _, p in self._moved if p.grad is not None]
        self._gradients = torch.stack([_norms(gradients, order) for order in (1, math.inf, 2)])
        self._kept = [p.detach().clone() for _, p in self._moved]

    @torch.no_grad()
    def _compare(self) -> LayerStats:
        before = _norms(self._kept, 2)
        for kept, (_, parameter) in zip(self._kept, self._moved, strict=True):
            kept.sub_(parameter)
        updates = torch.stack([before, _norms(self._kept, 2)])
        layers, sizes = [layer for layer, _ in self._moved], [p.numel() for _, p in self._moved]
        self._moved, self._kept = [], []
        return LayerStats(layers, sizes, self._gradients, updates)


def _norms(tensors: list[Tensor], order: float) -> Tensor:
    """Return the norm of each, as one float32 vector; 0 where a tensor is empty."""
    filled = [tensor if tensor.numel() else tensor.new_zeros(1) for tensor in tensors]
    return torch.stack([torch.linalg.vector_norm(tensor, order).float() for tensor in filled])
