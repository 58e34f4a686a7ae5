"""Settings of the whole process: how it allocates memory, how many threads compute, whether tiny numbers become zero.

They outlast the run that set them, so each run of a process sets its own before anything else is built.
"""

import ctypes
import os
import random
import sys

import numpy as np
import torch

from trainer.system.cores import cores

ALL_THREADS = torch.get_num_threads()  # torch's own choice, before a run of this process changed it
TINY_MODEL = 100_000
MIB = 1 << 20

# Arguments for glibc's mallopt(3): the number of a parameter in malloc.h, and its value in bytes. With the defaults a
# freed tensor goes back to the kernel, which zeroes each page of the next one: 5,000 page faults in a step of model=cnn
# on 64×3×32×32. 32 MiB is the most that glibc accepts for the first.
MALLOC = {"mmap_threshold": (-3, 32 * MIB), "trim_threshold": (-1, 1024 * MIB), "top_pad": (-2, 64 * MIB)}

_most_threads: list[int] = []  # the last one counts: what `limit_threads` was told
_malloc_settings: dict[str, int] = {}  # those that glibc has accepted, by name


def configure(deterministic: bool, seed: int) -> None:
    """Choose deterministic algorithms or not, and seed the generators that plug-ins may use."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)  # imports the compiler, so only where it changes
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    random.seed(seed)
    np.random.seed(seed % 2**32)


def configure_malloc(keep: bool) -> None:
    """Let glibc keep the memory that a step frees for the next step; do nothing for another allocator.

    Up to `trim_threshold` of free memory stays with the process; blocks larger than `mmap_threshold` are returned at
    once. glibc cannot return to its adaptive defaults, so the settings last as long as the process.
    """
    if keep and _is_glibc():
        _malloc_settings.update(
            {name: size for name, (number, size) in MALLOC.items() if _libc().mallopt(number, size)}
        )


def malloc_words() -> str:
    """Say in words how this process allocates memory."""
    settings = ", ".join(f"{name} {size // MIB} MiB" for name, size in _malloc_settings.items())
    return f"{'glibc' if _is_glibc() else 'not glibc'}, {settings or 'as it is'}"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # whatever this process is linked to


def _is_glibc() -> bool:
    """Return whether malloc is glibc's own: not musl's, and not that of a preloaded library (jemalloc, tcmalloc)."""
    if sys.platform != "linux" or not hasattr(_libc(), "gnu_get_libc_version"):
        return False
    used, own = (ctypes.cast(library.malloc, ctypes.c_void_p).value for library in (_libc(), ctypes.CDLL("libc.so.6")))
    return used == own


def configure_denormals(flush: bool) -> None:
    """Choose whether all threads that compute treat numbers below 1.2e-38 (float32) as zero.

    The processor handles them in microcode, many times slower, and training makes them: Adam's mean of gradients
    that have become zero halves every seven steps, and stops at 4e-45, not at 0.
    """
    torch.set_flush_denormal(flush)
    _share_arithmetic()


def _share_arithmetic() -> None:
    """Give torch's threads the floating-point settings of this one.

    New threads inherit them from the one that starts them, but those of OpenMP live as long as the process and may be
    older than the settings. A parallel region that calls `fesetenv`, without any Python in it, reaches each.
    """
    library, threads = ctypes.CDLL(None), torch.get_num_threads()
    if sys.platform != "linux" or threads == 1 or not hasattr(library, "GOMP_parallel"):
        return
    settings = ctypes.create_string_buffer(256)  # a fenv_t, which is 32 bytes or fewer
    library.fegetenv(settings)
    library.GOMP_parallel(ctypes.cast(library.fesetenv, ctypes.c_void_p), settings, threads, 0)


def limit_threads(threads: int) -> None:
    """Let runs of this process use no more CPU threads unless `trainer.threads` says so: others share the machine."""
    _most_threads.append(threads)
    torch.set_num_threads(min(ALL_THREADS, threads))


def configure_threads(threads: int | None, work: int = TINY_MODEL) -> None:
    """Set the CPU threads: as many as `trainer.threads` says, or 1 for a tiny model, or torch's choice up to `cores`.

    Two threads that share a matrix product of a few thousand numbers wait longer than they compute: on 2 cores
    a step of model=linear on 32×10 numbers took 8 % less time with one.

    Args:
        work: multiplications in a forward step of the linear layers, parameters × samples; while it is unknown, the
            model counts as one that is not tiny.
    """
    torch.set_num_threads(threads or (1 if work < TINY_MODEL else min(ALL_THREADS, cores(), *_most_threads[-1:])))
    _share_arithmetic()
