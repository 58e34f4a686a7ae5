"""A network from outside the package, made ready: layers that take their shape from the first input have one."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from trainer.data.types import DataSpec
from trainer.errors import ConfigError


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
