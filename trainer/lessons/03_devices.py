"""Devices: choosing one, moving to it, its memory, and what a copy to it costs."""

import time

import torch
from lesson import Lesson, start
from torch import Tensor

from trainer.errors import ConfigError
from trainer.models.cnn import CNNClassifier
from trainer.system.device import choose_device, choose_precision
from trainer.system.memory import release

MIB = 1 << 20


def main(lesson: Lesson) -> None:
    device = choose_device("auto")  # whatever --device says: this lesson shows what there is
    for part in (choosing, moving, memory, copies):
        part(lesson, device)


def choosing(lesson: Lesson, device: torch.device) -> None:
    lesson.title("Choosing")
    cuda = lesson.show("torch.cuda.is_available()", torch.cuda.is_available())
    mps = lesson.show("torch.backends.mps.is_available()", torch.backends.mps.is_available())
    lesson.show('choose_device("auto"), as trainer.device=auto', device)
    assert device.type == ("cuda" if cuda else "mps" if mps else "cpu")
    lesson.show('choose_precision("auto", device): bf16 where a GPU has it', choose_precision("auto", device))
    lesson.refused('choose_device("cuda:99")', ConfigError, lambda: choose_device("cuda:99"))
    if cuda:
        lesson.show("torch.cuda.get_device_name(device)", torch.cuda.get_device_name(device))


def moving(lesson: Lesson, device: torch.device) -> None:
    lesson.title("Creating and moving")
    if device.type == "cpu":
        lesson.say("There is no GPU here. The device meta, of shapes without data, shows the rules all the same.")
    assert lesson.show("torch.zeros(3).device, unless told otherwise", torch.zeros(3).device).type == "cpu"
    there = lesson.show("there = torch.arange(3, device=device)", torch.arange(3, device=device))
    assert there.device.type == device.type
    assert lesson.show("there.to(device) is there, as nothing is left to do", there.to(device) is there)
    assert there.cpu().to(device).equal(there)
    meta = torch.ones(3, device="meta")
    lesson.refused('torch.ones(3) + torch.ones(3, device="meta")', RuntimeError, lambda: torch.ones(3) + meta)
    assert (meta + torch.tensor(1.0)).device.type == "meta", "a single number may come from the CPU"
    lesson.say("tensor.to gives a tensor, module.to changes the module. Inside `with device`, things are made there:")
    with torch.device("meta"):
        model = CNNClassifier()
    size = sum(parameter.numel() for parameter in model.parameters())
    assert lesson.show("CNNClassifier() on meta, parameters", size) == 698_794
    assert all(parameter.is_meta for parameter in model.parameters()), "built without memory"
    assert model.to_empty(device=device) is model and next(model.parameters()).device.type == device.type


def report(device: torch.device) -> tuple[int, int]:
    """Bytes that tensors take on a GPU, and that torch has taken from its driver."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()


def memory(lesson: Lesson, device: torch.device) -> None:
    lesson.title("Memory")
    whole = torch.zeros(MIB, device=device)
    assert lesson.show("whole = torch.zeros(1 << 20); whole.nbytes", whole.nbytes) == 4 * MIB
    part = whole[:10]
    assert lesson.show("part = whole[:10], bytes kept alive", part.untyped_storage().nbytes()) == 4 * MIB
    assert lesson.show("part.clone(), bytes kept alive", part.clone().untyped_storage().nbytes()) == 40
    if device.type == "cpu":
        lesson.say("torch keeps no account of the CPU's memory; the report of memory_allocated needs a GPU.")
        return
    stages = {"before": report(device)}
    block = torch.zeros(64 * MIB // 4, device=device)
    stages["64 MiB more"] = report(device)
    del block
    stages["deleted"] = report(device)
    release(device)  # as the trainer does before it tries a smaller micro-batch
    stages["released"] = report(device)
    rows = [(name, f"{used / MIB:.1f}", f"{taken / MIB:.1f}") for name, (used, taken) in stages.items()]
    lesson.table(("MiB", "in tensors", "taken from the driver"), rows)
    assert stages["64 MiB more"][0] >= stages["before"][0] + 64 * MIB
    assert stages["deleted"][0] < stages["64 MiB more"][0], "free for other tensors at once, though not for programs"


def seconds(source: Tensor, target: Tensor) -> float:
    """Time the fastest of 15 copies, each waited for: a GPU works while Python goes on."""
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        target.copy_(source, non_blocking=True)
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - begin)
    assert target.cpu().equal(source.cpu())
    return min(times)


def copies(lesson: Lesson, device: torch.device) -> None:
    lesson.title("What a copy costs")
    sizes = [1 << power for power in range(10, 25, 2)]
    curves: dict[str, list[float]] = {}
    for size in sizes:
        host = torch.randint(256, (size,), dtype=torch.uint8)
        pairs = {"CPU to CPU": (host, torch.empty_like(host))}
        if device.type != "cpu":
            pairs["CPU to device"] = host, torch.empty_like(host, device=device)
            pairs["device to CPU"] = host.to(device), torch.empty_like(host)
        if device.type == "cuda":
            pairs["pinned CPU to device"] = host.pin_memory(), torch.empty_like(host, device=device)
        for name, pair in pairs.items():
            curves.setdefault(name, []).append(seconds(*pair))
    if device.type != "cuda":
        lesson.say("Pinned memory, which a GPU reads while Python goes on, needs CUDA, and is left out here.")
    rows = [(f"{size:,}", *(f"{1e6 * curve[i]:.1f}" for curve in curves.values())) for i, size in enumerate(sizes)]
    lesson.table(("bytes", *(f"{name}, µs" for name in curves)), rows)
    rate = {name: f"{sizes[-1] / curve[-1] / 1e9:.1f} GB/s" for name, curve in curves.items()}
    lesson.show("a large copy", rate)
    lesson.say("A small copy costs its call, whatever its size: move one batch, not its samples one by one.")
    with lesson.figure("copies", figsize=(7, 4)) as ax:
        for (name, curve), style in zip(curves.items(), ("o-", "s--", "^:", "D-."), strict=False):
            ax.plot(sizes, [1e6 * value for value in curve], style, color="black", label=name)
        ax.set(xscale="log", yscale="log", xlabel="size, bytes", ylabel="time of a copy, µs")
        ax.legend()


if __name__ == "__main__":
    start(__doc__, main)
