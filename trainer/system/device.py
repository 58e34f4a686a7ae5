"""The device that training runs on, and the precision of its matrix products."""

import contextlib
import platform
from contextlib import AbstractContextManager
from typing import Any

import torch

from trainer.errors import ConfigError

PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def choose_device(name: str) -> torch.device:
    """Return the device for `trainer.device`; auto prefers CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: for a device that this machine or this build of torch does not have.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if cuda else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"trainer.device={name}: torch {torch.__version__} sees {count or 'no'} CUDA device"
                f"{'s' * (count != 1)}; use trainer.device=auto or cpu."
            )
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not mps:
        raise ConfigError(
            "trainer.device=mps: torch finds no Apple GPU that it can use; use trainer.device=auto or cpu."
        )
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products for `trainer.precision`.

    auto is bf16 on a CUDA device that supports it in hardware, otherwise fp32: on a CPU without bf16 instructions
    autocast is about ten times slower than fp32.

    Raises:
        ConfigError: for fp16 where gradients cannot be scaled.
    """
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if fast else torch.float32
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"trainer.precision=fp16 needs a CUDA device, and this run is on {device.type}; use bf16 or fp32."
        )
    return next(dtype for dtype, short in PRECISION_NAMES.items() if short == name)


def numerics(device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """Return what the bits of a result depend on beside the config, by name."""
    facts: dict[str, Any] = {
        "torch": str(torch.__version__),
        "device": device.type,
        "precision": PRECISION_NAMES[precision],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "flush_denormals": _flushes_denormals(),
    }
    if device.type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def _flushes_denormals() -> bool:
    """Return whether all compute threads treat numbers below 1.2e-38 as zero; tried, since torch does not tell."""
    chunk = 1 << 15  # the fewest numbers that torch gives to a thread
    tiny = torch.full((chunk * torch.get_num_threads(),), 1e-40) * torch.ones(())
    return not bool(tiny.count_nonzero())


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context that computes in `dtype` where that is safe; it costs nothing for fp32."""
    if dtype is torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)
