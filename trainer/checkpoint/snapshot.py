"""A copy of a state that stays as it is while training continues."""

from typing import Any

import torch
from torch import Tensor


class Snapshot:
    """Copy nested dictionaries, lists and tuples of tensors to the CPU, each time into the same memory.

    Fresh memory for every copy would cost more than the copying: its pages are zeroed by the kernel on first touch.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}

    def take(self, payload: Any) -> Any:
        """Return the payload with every tensor copied to the CPU; it stays as it is until the next `take`."""
        used: dict[tuple[Any, ...], Tensor] = {}
        devices: set[torch.device] = set()

        def copied(part: Any, path: tuple[Any, ...]) -> Any:
            if isinstance(part, Tensor):
                used[path] = self._buffer(part, path).copy_(part.detach(), non_blocking=True)
                devices.add(part.device)
                return used[path]
            if isinstance(part, dict):
                return type(part)((key, copied(value, (*path, key))) for key, value in part.items())
            if isinstance(part, (list, tuple)):
                return type(part)(copied(value, (*path, i)) for i, value in enumerate(part))
            return part

        whole = copied(payload, ())
        self._buffers = used  # frees what is no longer part of the state
        for device in devices:
            if device.type != "cpu":
                torch.accelerator.synchronize(device)  # until now the copies were only queued
        return whole

    def _buffer(self, tensor: Tensor, path: tuple[Any, ...]) -> Tensor:
        buffer = self._buffers.get(path)
        if buffer is not None and _form(buffer) == _form(tensor):
            return buffer
        # The layout in memory (channels-last) is part of the state: its order is the order of the sums.
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.stride()
