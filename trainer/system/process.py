"""Settings of the whole process: how it allocates memory, how many threads compute, what becomes of tiny numbers.

They outlive the run that made them, so each run of a process makes its own, before anything else is built.
"""

import ctypes
import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import torch

ALL_THREADS = torch.get_num_threads()  # torch's own choice, before any run of this process has made another
TINY = 100_000
MIB = 1 << 20

# What glibc's mallopt(3) is told: the number of a parameter in malloc.h, and its value in bytes. Its defaults give a
# freed tensor back to the kernel, which hands out the pages of the next one one by one, each zeroed: 5,000 page faults
# in a step of model=cnn on 64×3×32×32. 32 MiB is the most that glibc takes for the first.
MALLOC = {"mmap_threshold": (-3, 32 * MIB), "trim_threshold": (-1, 1024 * MIB), "top_pad": (-2, 64 * MIB)}

_told: dict[str, int] = {}  # what it was told, by name


def configure(deterministic: bool, seed: int) -> None:
    """Deterministic algorithms, and the generators that plug-ins may use."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)  # imports the compiler: not for nothing
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    random.seed(seed)
    np.random.seed(seed % 2**32)


def configure_malloc(keep: bool) -> None:
    """Let glibc keep the memory that a step frees for the next one; nothing where the allocator is another.

    What is free stays with the process up to `trim_threshold`; larger blocks than `mmap_threshold` go back at once.
    glibc has no way back to its defaults, which adapt: a process that was told once stays told.
    """
    if keep and _is_glibc():
        _told.update({name: size for name, (number, size) in MALLOC.items() if _libc().mallopt(number, size)})


def malloc_words() -> str:
    """How this process allocates memory, for a person."""
    told = ", ".join(f"{name} {size // MIB} MiB" for name, size in _told.items())
    return f"{'glibc' if _is_glibc() else 'not glibc'}, {told or 'as it is'}"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # whatever this process is linked to


def _is_glibc() -> bool:
    """Whether malloc is glibc's own: not musl's, and not that of a library loaded before it (jemalloc, tcmalloc)."""
    if sys.platform != "linux" or not hasattr(_libc(), "gnu_get_libc_version"):
        return False
    used, own = (ctypes.cast(library.malloc, ctypes.c_void_p).value for library in (_libc(), ctypes.CDLL("libc.so.6")))
    return used == own


def configure_denormals(flush: bool) -> None:
    """Take numbers below 1.2e-38 (float32) for zero in all threads that compute, or not.

    The processor works on them in microcode, many times slower, and training makes them: Adam's mean of gradients
    that have become zero halves every seven steps, and comes to rest at 4e-45, not at 0.
    """
    torch.set_flush_denormal(flush)
    _share_arithmetic()


def _share_arithmetic() -> None:
    """Give torch's threads the floating-point settings of this one.

    New threads inherit them from the one that starts them, but OpenMP's stay for the life of the process, and may be
    older than the settings. A parallel region of `fesetenv`, without any Python in it, reaches each.
    """
    library, threads = ctypes.CDLL(None), torch.get_num_threads()
    if sys.platform != "linux" or threads == 1 or not hasattr(library, "GOMP_parallel"):
        return
    settings = ctypes.create_string_buffer(256)  # a fenv_t, which is 32 bytes or fewer
    library.fegetenv(settings)
    library.GOMP_parallel(ctypes.cast(library.fesetenv, ctypes.c_void_p), settings, threads, 0)


def configure_threads(threads: int | None, work: int = TINY) -> None:
    """Set the CPU threads: as many as `trainer.threads` says, or 1 for a tiny model, or torch's choice up to `cores`.

    Two threads that share a matrix product of a few thousand numbers spend longer meeting than computing: on 2 cores
    a step of model=linear on 32×10 numbers took 8 % less time with one.

    Args:
        work: multiplications in a forward step of the linear layers, parameters × samples; as long as it is unknown,
            the model is taken for one that is not tiny.
    """
    torch.set_num_threads(threads or (1 if work < TINY else min(ALL_THREADS, cores())))
    _share_arithmetic()


def cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that this process may use: of the machine, of its affinity, of the quota of its control groups.

    A container with a quota of 2 cores sees all 64 of its machine; 64 threads then wait for one another.

    Args:
        groups: where the control groups (version 2, or the cpu controller of version 1) are mounted.
        own: which of them this process is in.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return count
    allowed: list[float] = [count]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers or "cpu" in controllers.split(","):
            root = groups / "cpu" if controllers else groups
            folder = root / path.lstrip("/")
            allowed += [_quota(group) for group in (folder, *folder.parents) if group.is_relative_to(root)]
    return max(1, math.ceil(min(allowed)))


def _quota(group: Path) -> float:
    """The cores that a control group allows; infinity where it says nothing."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
    except OSError:
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
