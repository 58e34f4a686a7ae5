"""Errors of running out of memory, on a device or on the CPU."""

import torch

from trainer.errors import TrainerError

_SIGNS = ("DefaultCPUAllocator: can't allocate memory", "not enough memory: you tried to allocate", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out; the CPU and MPS say so by a plain `RuntimeError`."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def exhausted(device: torch.device, doing: str, remedy: str) -> TrainerError:
    """Return the error for a device whose memory is full: what it was doing, and what to set."""
    return TrainerError(f"{device} is out of memory {doing}; {remedy}.")


def release(device: torch.device) -> None:
    """Free the cached blocks of the device, so that their memory can be used for blocks of other sizes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
