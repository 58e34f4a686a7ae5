"""Tensors: how they are made, arithmetic, products, broadcasting, and NumPy."""

import itertools

import numpy as np
import torch
from lesson import Lesson, start
from matplotlib.patches import Rectangle

from trainer.models.linear import CustomLinear
from trainer.system import seeds

SHAPES = [((3, 1), (4,)), ((2, 1, 5), (7, 1)), ((8, 3, 32, 32), (3, 1, 1)), ((), (2, 2)), ((2, 3), (2,))]


def main(lesson: Lesson) -> None:
    for part in (creation, properties, elementwise, products, broadcasting, tensor_or_array):
        part(lesson)


def creation(lesson: Lesson) -> None:
    lesson.title("Creation")
    device = lesson.device
    whole = lesson.show("torch.tensor([[1, 2], [3, 4]])", torch.tensor([[1, 2], [3, 4]], device=device))
    assert whole.dtype == torch.int64 and torch.tensor([1.0]).dtype == torch.float32
    assert lesson.show("torch.zeros(2, 3)", torch.zeros(2, 3, device=device)).sum() == 0
    assert lesson.show("torch.ones(2, 3)", torch.ones(2, 3, device=device)).sum() == 6
    assert lesson.show("torch.eye(3)", torch.eye(3, device=device)).trace() == 3
    steps = lesson.show("torch.arange(0, 10, 3)", torch.arange(0, 10, 3, device=device))
    assert steps.tolist() == [0, 3, 6, 9], "the end is left out"
    ends = lesson.show("torch.linspace(0, 1, 5)", torch.linspace(0, 1, 5, device=device))
    assert ends.tolist() == [0, 0.25, 0.5, 0.75, 1], "the end belongs to it"

    lesson.say("rand is uniform in [0, 1), randn normal with mean 0 and deviation 1:")
    uniform, normal = torch.rand(10_000, device=device), torch.randn(10_000, device=device)
    for name, x in (("torch.rand(10_000)", uniform), ("torch.randn(10_000)", normal)):
        lesson.show(name, f"mean {x.mean():.3f}, std {x.std():.3f}, min {x.min():.3f}, max {x.max():.3f}")
    assert abs(uniform.std() - 12**-0.5) < 0.02 and abs(normal.std() - 1) < 0.05
    lesson.say("Random numbers are a function of their seed; trainer/system/seeds.py names the streams of a run:")
    orders = [torch.randperm(5, generator=seeds.generator(lesson.seed, seeds.ORDER, epoch)) for epoch in (0, 1, 0)]
    lesson.show("torch.randperm(5, generator=seeds.generator(seed, ORDER, epoch)) for epoch 0, 1, 0", orders)
    assert orders[0].equal(orders[2])


def properties(lesson: Lesson) -> None:
    lesson.title("What a tensor knows of itself")
    x = torch.rand(2, 3, 4, device=lesson.device, requires_grad=True)
    names = ("shape", "ndim", "numel()", "dtype", "device", "requires_grad", "stride()", "nbytes")
    values = (x.shape, x.ndim, x.numel(), x.dtype, x.device, x.requires_grad, x.stride(), x.nbytes)
    lesson.table(("x = torch.rand(2, 3, 4)", ""), list(zip(names, values, strict=True)))
    assert (x.ndim, x.numel(), x.nbytes) == (3, 24, 24 * 4), "a float32 takes 4 bytes"


def elementwise(lesson: Lesson) -> None:
    lesson.title("Element by element")
    a, b = lesson.show("a, b", torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=lesson.device))
    assert lesson.show("a + b", a + b).tolist() == [5, 7, 9]
    assert lesson.show("a * b", a * b).tolist() == [4, 10, 18], "not a matrix product"
    assert lesson.show("a ** 2", a**2).tolist() == [1, 4, 9]
    assert lesson.show("(a > 1) & (b < 6)", (a > 1) & (b < 6)).tolist() == [False, True, False]
    assert lesson.show("a.add_(1)", a.add_(1)) is a and a[0] == 2, "a trailing _ changes the tensor itself"


def products(lesson: Lesson) -> None:
    lesson.title("Products")
    a, b = torch.randn(2, 3, device=lesson.device), torch.randn(3, 4, device=lesson.device)
    by_hand = torch.stack([torch.stack([(row * column).sum() for column in b.T]) for row in a])
    for product in (lesson.show("a.mm(b), of (2, 3) and (3, 4)", a.mm(b)), a.matmul(b), a @ b):
        torch.testing.assert_close(product, by_hand)
    batch = torch.randn(5, 2, 3, device=lesson.device)
    each = torch.stack([matrix @ b for matrix in batch])
    lesson.show("batch.bmm(b.expand(5, 3, 4)), five products at once", batch.bmm(b.expand(5, 3, 4)).shape)
    torch.testing.assert_close(batch.bmm(b.expand(5, 3, 4)), each)
    torch.testing.assert_close(batch @ b, each)  # @ broadcasts what comes before the last two dimensions
    torch.testing.assert_close(lesson.show("a[0].dot(a[1])", a[0].dot(a[1])), (a[0] * a[1]).sum())


def rule(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that broadcasting gives, or None where it refuses."""
    result = []
    for sizes in itertools.zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        larger = {size for size in sizes if size != 1}
        if len(larger) > 1:
            return None
        result.append(larger.pop() if larger else 1)
    return tuple(result[::-1])


def broadcasting(lesson: Lesson) -> None:
    lesson.title("Broadcasting")
    lesson.say("Align the shapes at the right. Sizes must be equal; one that is 1 or absent is repeated.")
    lesson.table(("shapes", "", "together"), [(*map(str, pair), rule(*pair) or "refused") for pair in SHAPES])
    for left, right in SHAPES[:-1]:
        assert rule(left, right) == (torch.empty(left) + torch.empty(right)).shape
    lesson.refused("torch.ones(2, 3) + torch.ones(2)", RuntimeError, lambda: torch.ones(2, 3) + torch.ones(2))
    column, row = torch.tensor([[0], [10], [20]]), torch.arange(1, 5)
    total = column + row
    assert total[2, 3] == 24 and column.expand(3, 4).stride() == (1, 0), "repeated without a copy"
    lesson.say("A layer is a product and a broadcast sum: x (4, 3) @ weight.T (3, 2) + bias (2,).")
    layer, x = CustomLinear(3, 2), torch.randn(4, 3)
    torch.nn.init.normal_(layer.bias)  # it starts at 0
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)
    parts = (("a: (3, 1)", column, column.shape), ("+  b: (4,)", row, (1, 4)), ("=  (3, 4)", total, total.shape))
    with lesson.figure("broadcasting", ncols=3, figsize=(9, 3.2), sharey=True) as axes:
        axes[0].set_ylabel("dimension 0")
        for ax, (title, values, own) in zip(axes, parts, strict=True):
            ax.set(title=title, xlabel="dimension 1", xlim=(-0.6, 3.6), ylim=(2.6, -0.6), yticks=range(3), aspect=1)
            for (i, j), value in np.ndenumerate(values.expand(3, 4).numpy()):
                repeated = i >= own[0] or j >= own[1]  # grey and hatched
                look = {"fc": "0.95", "ec": "0.75", "hatch": "///"} if repeated else {"fc": "white", "ec": "black"}
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, zorder=2 - repeated, **look))
                ax.text(j, i, value, ha="center", va="center", color="0.4" if repeated else "black", zorder=3)


def tensor_or_array(lesson: Lesson) -> None:
    lesson.title("Tensor or array")
    array = np.zeros(3, dtype=np.float32)
    shared, copied = torch.from_numpy(array), torch.tensor(array)
    array[0], shared[1] = 7, 5
    lesson.show("torch.from_numpy(array), after array[0] = 7", shared)
    lesson.show("torch.tensor(array), a copy", copied)
    assert shared.tolist() == array.tolist() == [7, 5, 0] and copied[0] == 0, "one memory, both ways"
    default = (np.ones(1).dtype, torch.ones(1).dtype)
    rows = [("default float", *default), ("sum over a dimension", "x.sum(axis=0)", "x.sum(dim=0)")]
    rows += [("lives on", "the CPU", "cpu, cuda, mps"), ("gradients", "none", "x.requires_grad_()")]
    lesson.table(("", "numpy.ndarray", "torch.Tensor"), rows)
    assert default == (np.float64, torch.float32) and torch.from_numpy(np.ones(1)).dtype == torch.float64


if __name__ == "__main__":
    start(__doc__, main)
