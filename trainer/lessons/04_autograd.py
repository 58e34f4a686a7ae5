"""Autograd: the graph that a computation records, and the gradients it gives."""

import torch
from lesson import Lesson, start
from torch import Tensor
from torch.autograd import gradcheck

from trainer.models.linear import CustomLinear


def main(lesson: Lesson) -> None:
    for part in (backward, graph, chain_rule, without_graph, accumulation, custom_function):
        part(lesson)


def backward(lesson: Lesson) -> None:
    lesson.title("backward")
    x = torch.tensor(2.0, device=lesson.device, requires_grad=True)
    y = x**2 + 3 * x + 1
    assert lesson.show("y = x² + 3x + 1 at x = 2", y.item()) == 11
    assert lesson.show("y.grad_fn.name()", y.grad_fn.name()) == "AddBackward0" and x.is_leaf and not y.is_leaf
    y.backward()
    assert lesson.show("y.backward(); x.grad, which is 2x + 3", x.grad).item() == 7
    lesson.refused("y.backward() once more, the graph being freed", RuntimeError, y.backward)
    lesson.say("Gradients of z = (x·w)² against the closed forms 2(x·w)w and 2(x·w)x:")
    x, w = (torch.randn(4, device=lesson.device, requires_grad=True) for _ in range(2))
    (x @ w).square().backward()
    torch.testing.assert_close(lesson.show("x.grad", x.grad), (2 * (x @ w) * w).detach())
    torch.testing.assert_close(lesson.show("w.grad", w.grad), (2 * (x @ w) * x).detach())


def graph(lesson: Lesson) -> None:
    lesson.title("The graph")
    lesson.say("Each result knows the function that made it, grad_fn; its next_functions lead back to the leaves.")
    x = torch.tensor(1.0, device=lesson.device, requires_grad=True)
    loss = ((2 * x) + 3) ** 2
    functions, edges, arriving = [loss.grad_fn], [], {}
    for function in functions:  # grows while it is walked
        function.register_prehook(lambda gradients, to=function: arriving.update({to: gradients[0].item()}))
        sources = [source for source, _ in function.next_functions if source is not None]  # None: a constant
        edges += [(function, source) for source in sources]
        functions += sources
    names = lesson.show("L = ((2x) + 3)², from L back to x", [function.name() for function in functions])
    assert names == ["PowBackward0", "AddBackward0", "MulBackward0", "torch::autograd::AccumulateGrad"]
    loss.backward()
    assert lesson.show("dL/dL, dL/d(2x+3), dL/d(2x), dL/dx at x = 1", list(arriving.values())) == [1, 10, 10, 20]
    with lesson.figure("graph", figsize=(10, 1.5)) as ax:
        place = {function: (-number, 0) for number, function in enumerate(functions)}
        arrow, box = {"arrowstyle": "-|>", "shrinkA": 55, "shrinkB": 55}, {"boxstyle": "round", "fc": "white"}
        for function, source in edges:
            ax.annotate("", place[source], place[function], arrowprops=arrow)
            ax.text(place[source][0] + 0.5, 0.15, f"gradient {arriving[source]:g}", ha="center")
        for function, made in zip(functions, ("L = (2x + 3)²", "2x + 3", "2x", "x.grad"), strict=True):
            text = f"{made}\n{function.name().removeprefix('torch::autograd::')}"
            ax.text(*place[function], text, ha="center", va="center", bbox=box)
        ax.set(xlim=(0.5 - len(functions), 0.5), ylim=(-0.6, 0.6))
        ax.axis("off")


def chain_rule(lesson: Lesson) -> None:
    lesson.title("The chain rule, checked")
    x, layer = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), CustomLinear(3, 2).double()
    layer(x).tanh().sum().backward()
    by_hand = (1 - layer(x).detach().tanh() ** 2) @ layer.weight.detach()  # dL/dx = dL/dy · dy/dx
    torch.testing.assert_close(lesson.show("x.grad of tanh(x Wᵀ + b).sum()", x.grad), by_hand)
    assert lesson.show("gradcheck(lambda x: layer(x).tanh(), x)", gradcheck(lambda x: layer(x).tanh(), x))


def without_graph(lesson: Lesson) -> None:
    lesson.title("Without a graph")
    x = torch.ones(3, device=lesson.device, requires_grad=True)
    with torch.no_grad():
        quiet = lesson.show("with torch.no_grad(): quiet = x * 2", x * 2)
    with torch.inference_mode():
        faster = lesson.show("with torch.inference_mode(): faster = x * 2", x * 2)
    cut = lesson.show("cut = (x * 2).detach()", (x * 2).detach())
    assert not any(y.requires_grad for y in (quiet, faster, cut))
    (x * cut).sum().backward()
    assert lesson.show("(x * cut).sum().backward(); x.grad, not 4", x.grad).tolist() == [2, 2, 2], "cut is a constant"
    lesson.refused("x * faster", RuntimeError, lambda: x * faster)
    with torch.no_grad():
        x -= 0.1 * x.grad  # how an optimizer steps: in place, unrecorded
    assert x.is_leaf and x.requires_grad


def accumulation(lesson: Lesson) -> None:
    lesson.title("Gradients add up")
    layer, x = CustomLinear(3, 1).to(lesson.device), torch.randn(8, 3, device=lesson.device)
    layer(x).square().mean().backward()
    whole = lesson.show("weight.grad after backward", layer.weight.grad.clone())
    layer(x).square().mean().backward()
    torch.testing.assert_close(lesson.show("weight.grad after the same again", layer.weight.grad), 2 * whole)
    layer.zero_grad()
    assert lesson.show("weight.grad after zero_grad, hence before each step", layer.weight.grad) is None
    for part in x.split(2):
        (layer(part).square().sum() / len(x)).backward()
    torch.testing.assert_close(layer.weight.grad, whole)
    lesson.show("the same from 4 micro-batches of 2, as with trainer.micro_batch=2", layer.weight.grad)


class SiLU(torch.autograd.Function):
    """x · σ(x), keeping x alone for the way back (Elfwing et al. 2018)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * x.sigmoid() * (1 + x * (1 - x.sigmoid()))


class Wrong(SiLU):
    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].sigmoid()  # forgets that σ(x) varies too


def custom_function(lesson: Lesson) -> None:
    lesson.title("A function of our own")
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(lesson.show("SiLU.apply(x)", SiLU.apply(x)), torch.nn.functional.silu(x))
    assert lesson.show("gradcheck(SiLU.apply, x)", gradcheck(SiLU.apply, x))
    lesson.refused("gradcheck(Wrong.apply, x)", RuntimeError, lambda: gradcheck(Wrong.apply, x))


if __name__ == "__main__":
    start(__doc__, main)
