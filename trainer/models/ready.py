"""A network, made ready for training: lazy layers get their shape, and initial weights that depend on data get it."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainer.data.types import Data, DataSpec
from trainer.errors import ConfigError
from trainer.system import seeds

SAMPLES = 4096  # of the training split, at random; all where there are fewer


def checked_network(network: object, spec: DataSpec, name: str) -> nn.Module:
    """Return what a `build` of a plug-in made.

    A network with lazy layers (`torch.nn.LazyLinear`) is run once on zeros, so that its weights are there before the
    optimizer, the average and a checkpoint need them.

    Args:
        name: of the model, for messages.

    Raises:
        ConfigError: where it is no network.
    """
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{name}: build returned {type(network).__name__}, and a model is a torch.nn.Module.")
    if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
        training = network.training
        with torch.no_grad():
            network.eval()(torch.zeros(2, *spec.input_shape))
        network.train(training)
    return network


@runtime_checkable
class FitsInitialWeights(Protocol):
    """A module whose initial weights depend on the data."""

    def fit_initial_weights(self, inputs: Tensor) -> None:
        """Draw the weights for such inputs, float (B, ...), by torch's own generator."""
        ...


def fit_initial_weights(model: nn.Module, data: Data, seed: int) -> None:
    """Fit the weights of the network, on the CPU, to some samples: a function of the seed and the data."""
    fitted = [module for module in model.modules() if isinstance(module, FitsInitialWeights)]
    if not fitted:
        return
    seeds.reseed(torch.device("cpu"), seeds.fold(seed, seeds.INIT, 1))
    chosen, inputs = torch.randperm(len(data.train))[:SAMPLES], data.train.inputs
    samples = inputs[chosen] if isinstance(inputs, Tensor) else torch.stack([inputs[int(i)] for i in chosen])
    for module in fitted:
        module.fit_initial_weights(data.prepare(samples))
