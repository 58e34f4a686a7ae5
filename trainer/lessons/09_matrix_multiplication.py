"""Matrix multiplication, an exercise solved: loops, broadcasting, einsum, blocks.

The exercise: compute C = A B in four ways without `@`, and show that each is as right as its arithmetic allows. In any
order of summation, each entry of the computed Ĉ satisfies

    |Ĉ - C| ≤ γ_n |A| |B|    with γ_n = n u / (1 - n u),

where n products are added up and u is the unit roundoff: 2⁻²⁴ in float32, 2⁻⁵³ in float64 (N. J. Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., SIAM 2002, eq. 3.13).
"""

import timeit
from fractions import Fraction

import torch
from lesson import Lesson, start
from torch import Tensor

BLOCK = 32


def loops(a: Tensor, b: Tensor) -> Tensor:
    """Compute the definition: C[i, j] = Σ_k A[i, k] B[k, j]."""
    c = a.new_zeros(len(a), b.shape[1])
    for i in range(len(a)):
        for j in range(b.shape[1]):
            for k in range(len(b)):
                c[i, j] += a[i, k] * b[k, j]
    return c


def broadcasting(a: Tensor, b: Tensor) -> Tensor:
    """All products at once, (n, k, 1) * (1, k, m) → (n, k, m), summed over k. It needs memory for n·k·m numbers."""
    return (a[:, :, None] * b[None, :, :]).sum(1)


def einsum(a: Tensor, b: Tensor) -> Tensor:
    """Write the definition as a string: an index that is missing in the result is summed over."""
    return torch.einsum("ik,kj->ij", a, b)


def blocked(a: Tensor, b: Tensor) -> Tensor:
    """Compute it in blocks: C[I, J] = Σ_K A[I, K] B[K, J]: no product needs more memory than BLOCK³ numbers."""
    c = a.new_zeros(len(a), b.shape[1])
    for i in range(0, len(a), BLOCK):
        for j in range(0, b.shape[1], BLOCK):
            for k in range(0, len(b), BLOCK):
                block = broadcasting(a[i : i + BLOCK, k : k + BLOCK], b[k : k + BLOCK, j : j + BLOCK])
                c[i : i + BLOCK, j : j + BLOCK] += block
    return c


SOLUTIONS = {f.__name__: f for f in (loops, broadcasting, einsum, blocked)} | {"mm": torch.mm, "@": torch.matmul}
LARGEST = {"loops": 16, "broadcasting": 256, "blocked": 256}  # beyond, they take seconds, or gigabytes
STYLES = ("o-", "s-", "^--", "D-", "x:", "+-")


def gamma(n: int, dtype: torch.dtype) -> float:
    """γ_n; `eps` is the gap between 1 and the next number, and rounding errs by half a gap at most."""
    nu = n * torch.finfo(dtype).eps / 2
    return nu / (1 - nu)


def exact(a: Tensor, b: Tensor) -> list[Fraction]:
    """Return the entries of the product of these very numbers, in rational arithmetic: nothing is rounded."""
    rows, columns = ([[Fraction(x) for x in row] for row in part.tolist()] for part in (a, b.T))
    return [sum(x * y for x, y in zip(row, column, strict=True)) for row in rows for column in columns]


def worst(c: Tensor, truth: list[Fraction], scale: list[Fraction]) -> float:
    """Return the largest |Ĉ - C| / (|A| |B|)."""
    entries = map(Fraction, c.flatten().tolist())
    return max(float(abs(x - t) / s) for x, t, s in zip(entries, truth, scale, strict=True))


def verify(lesson: Lesson) -> None:
    lesson.title("Errors, against exact rational arithmetic")
    assert (torch.finfo(torch.float32).eps / 2, torch.finfo(torch.float64).eps / 2) == (2**-24, 2**-53)
    shapes = (23, 41), (41, 17)  # all sizes differ, and none is a multiple of a block: mistakes with indices show
    lesson.say("A is 23×41, B is 41×17; the error is the largest |Ĉ - C| / (|A| |B|).")
    rows = []
    for dtype in (torch.float32, torch.float64)[: 1 if lesson.device.type == "mps" else 2]:  # MPS has no float64
        a, b = (torch.randn(shape, device=lesson.device, dtype=dtype) for shape in shapes)
        truth, scale, bound = exact(a, b), exact(a.abs(), b.abs()), gamma(41, dtype)
        for name, multiply in SOLUTIONS.items():
            error = worst(c := multiply(a, b), truth, scale)
            assert c.shape == (23, 17)
            assert error <= bound, (name, dtype, error, bound)
            rows.append((name, str(dtype)[6:], f"{error:.1e}", f"{bound:.1e}", f"{error / bound:.1%}"))
        assert not torch.equal(loops(a, b), blocked(a, b))  # another order of summation: other last digits
        halved = worst(a.half() @ b.half(), truth, scale)
        assert halved > gamma(41, torch.float32)  # less precise arithmetic does not pass
    lesson.table(("", "dtype", "error", "bound γ_41", "error / bound"), rows)
    lesson.say("The bound is for the worst case; here most roundings up and down cancel.")
    lesson.show("error in float16", f"{halved:.1e}")


def measure(lesson: Lesson) -> None:
    lesson.title(f"Time in float32, µs (CPU threads: {torch.get_num_threads()})")
    sizes, rows, times = (4, 8, 16, 32, 64, 128, 256, 512), [], {name: [] for name in SOLUTIONS}
    for n in sizes:
        a, b = torch.randn(2, n, n, device=lesson.device)
        slack = 2 * gamma(n, a.dtype) * (a.abs() @ b.abs())  # two results, each within the bound
        for name, multiply in SOLUTIONS.items():
            if n <= LARGEST.get(name, n):
                assert ((multiply(a, b) - a @ b).abs() <= slack).all(), (name, n)
                timer = timeit.Timer(lambda f=multiply, a=a, b=b: f(a, b)[0, 0].item())  # item() waits for a GPU
                number = 1 + int(0.005 / timer.timeit(1))  # about 5 ms
                times[name].append(min(timer.repeat(5, number)) / number)  # the least disturbed
        rows.append((n, *(f"{t[-1] * 1e6:,.0f}" if n <= LARGEST.get(name, n) else "" for name, t in times.items())))
    lesson.table(("n", *SOLUTIONS), rows)
    with lesson.figure("matrix_multiplication", figsize=(8, 5.5)) as axes:
        for (name, seconds), style in zip(times.items(), STYLES, strict=True):
            axes.loglog(sizes[: len(seconds)], seconds, style, color="black", linewidth=0.9, label=name)
        axes.loglog(
            sizes[3:], [1e-11 * n**3 for n in sizes[3:]], color="0.7", linewidth=4, label="slope of n³", zorder=0
        )
        axes.set_xticks(sizes, map(str, sizes), minor=False)
        axes.minorticks_off()
        axes.set(xlabel="n, of n×n matrices", ylabel="seconds (fastest of 5)", title="Time of a product in float32")
        axes.legend()


def main(lesson: Lesson) -> None:
    verify(lesson)
    measure(lesson)


if __name__ == "__main__":
    start(__doc__, main)
