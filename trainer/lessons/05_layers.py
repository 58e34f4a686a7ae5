"""Layers: what each one computes, its shapes and parameters, how weights start.

The linear layer (`CustomLinear`) and the classifier (`CNNClassifier`) are the package's own.
"""

import torch
from lesson import Lesson, start
from torch import nn

from trainer.models.cnn import CNNClassifier
from trainer.models.linear import CustomLinear


def linear(lesson: Lesson) -> None:
    lesson.title("Linear: y = x Wᵀ + b, written out and built in")
    ours, builtin = CustomLinear(4, 3).to(lesson.device), nn.Linear(4, 3, device=lesson.device)
    ours.load_state_dict(builtin.state_dict())  # the same names and shapes: weight (out, in), bias (out,)
    x = torch.randn(5, 4, device=lesson.device)
    lesson.show("CustomLinear(4, 3)(x)[0], x: 5×4", ours(x)[0].tolist())
    lesson.show("nn.Linear(4, 3)(x)[0], same weights", builtin(x)[0].tolist())
    torch.testing.assert_close(ours(x), builtin(x))
    for layer in (ours, builtin):
        layer(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, builtin.weight.grad)


def count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def convolution(lesson: Lesson) -> None:
    lesson.title("Conv2d and MaxPool2d: one window, at every place of the image")
    image = torch.arange(25.0, device=lesson.device).view(1, 1, 5, 5)
    sobel = nn.Conv2d(1, 1, 3, bias=False, device=lesson.device).requires_grad_(False)
    sobel.weight[:] = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])  # how much brighter it gets to the right
    lesson.show("image", image[0, 0])
    edges = lesson.show("Sobel kernel over it: 3×3 places", sobel(image)[0, 0])
    assert edges[1, 2] == (image[0, 0, 1:4, 2:5] * sobel.weight[0, 0]).sum()  # one place: the window times the kernel
    pooled = lesson.show("MaxPool2d(2): the largest of each 2×2", nn.MaxPool2d(2)(image)[0, 0])
    assert pooled.tolist() == [[6, 8], [16, 18]]  # 5 is odd: the last row and column are left out
    assert len(pooled) == output_size(5, kernel=2, stride=2, padding=0, dilation=1)

    lesson.say("\nOutput size: ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1")
    rows = []  # size, kernel, stride, padding, dilation
    for setting in ((32, 3, 1, 1, 1), (32, 3, 1, 0, 1), (32, 5, 2, 2, 1), (32, 3, 1, 2, 2), (33, 4, 3, 1, 2)):
        size, *options = setting
        layer, predicted = nn.Conv2d(3, 8, *options), output_size(*setting)
        shape = layer(torch.zeros(1, 3, size, size)).shape
        assert shape == (1, 8, predicted, predicted)
        assert count(layer) == 8 * (3 * options[0] ** 2 + 1)  # whatever the size of the image
        rows.append([*setting, predicted, shape[-1], count(layer)])
    lesson.table(["size", "kernel", "stride", "padding", "dilation", "formula", "measured", "parameters, 3→8"], rows)


def train_and_eval(lesson: Lesson) -> None:
    lesson.title("BatchNorm2d: the batch's statistics in train mode, remembered ones in eval")
    norm, x = nn.BatchNorm2d(2, device=lesson.device), 5 + 3 * torch.randn(16, 2, 8, 8, device=lesson.device)
    variance, mean = torch.var_mean(norm(x), (0, 2, 3), correction=0)
    lesson.show("train: mean of each channel", mean.tolist())
    lesson.show("train: variance of each channel", variance.tolist())
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(variance, torch.ones_like(mean), atol=1e-4, rtol=0)
    lesson.show("running_mean after one batch: 0.9·0 + 0.1·mean", norm.running_mean.tolist())
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))
    assert not torch.allclose(norm(x[:1]), norm(x)[:1])  # a sample's output depends on its neighbours ...
    norm.eval()
    torch.testing.assert_close(norm(x[:1]), norm(x)[:1])  # ... and no longer does

    lesson.title("Dropout: zeros in train mode, nothing in eval")
    ones, dropout = torch.ones(100_000, device=lesson.device), nn.Dropout(0.25)
    y = dropout(ones)
    lesson.show("train: values, scaled so that the mean stays", y.unique().tolist())
    assert y.max() == torch.tensor(1 / 0.75)
    assert abs(lesson.show("train: share of zeros", (y == 0).float().mean().item()) - 0.25) < 0.01
    assert torch.equal(dropout.eval()(ones), ones)


def parameters(lesson: Lesson) -> None:
    lesson.title("CNNClassifier: where its parameters are")
    model, rows, x = CNNClassifier(), [], torch.zeros(2, 3, 32, 32)
    for name, layer in [*model.features.named_children(), *model.classifier.named_children()]:
        x = layer(x)
        rows.append([name, type(layer).__name__, "×".join(map(str, x.shape[1:])), f"{count(layer):,}"])
    lesson.table(["", "layer", "output of a sample", "parameters"], rows)
    total, first = lesson.show("parameters of all", count(model)), count(model.classifier[1])
    assert total == count(model.features) + count(model.classifier) == 698_794
    lesson.say(f"Convolutions share weights over all places: {first / total:.0%} are in the first linear layer.")
    assert first > total / 2


def initialisation(lesson: Lesson, width: int = 256, depth: int = 20) -> None:
    lesson.title("Initialisation: what depth does to the size of the activations")
    lesson.say("n inputs and a ReLU change the mean square by n·Var(w)/2 (He et al. 2015, 2.2).")
    variants = (  # name, layer, Var(w) where it is not the layer's own, the factor
        ("N(0, 4/n), too large", nn.Linear, 4 / width, 2),
        ("He, N(0, 2/n): CustomLinear's own", CustomLinear, None, 1),
        ("Glorot, N(0, 1/n)", nn.Linear, 1 / width, 1 / 2),
        ("uniform ±1/√n: nn.Linear's own", nn.Linear, None, 1 / 6),
    )
    rows = []
    with lesson.figure("initialisation", figsize=(8, 5)) as axes, torch.no_grad():
        for (name, kind, variance, factor), marker in zip(variants, "^osx", strict=True):
            x, squares = torch.randn(512, width, device=lesson.device), []
            for _ in range(depth):
                layer = kind(width, width, bias=False).to(lesson.device)
                if variance is not None:
                    nn.init.normal_(layer.weight, std=variance**0.5)
                x = layer(x).relu()
                squares.append(x.square().mean().item())
            measured = (squares[-1] / squares[0]) ** (1 / (depth - 1))
            assert abs(measured / factor - 1) < 0.15, (name, measured)
            rows.append([name, f"{factor:.3f}", f"{measured:.3f}", f"{squares[-1]:.2g}"])
            axes.semilogy(range(1, depth + 1), squares, color="black", marker=marker, linewidth=0.8, label=name)
        axes.set(xlabel="layer", ylabel="mean square of the activations", title=f"ReLU layers of width n = {width}")
        axes.set_xticks(range(2, depth + 1, 2))
        axes.legend(loc="lower left")
    lesson.table(["weights", "factor a layer", "measured", f"after {depth} layers"], rows)


def main(lesson: Lesson) -> None:
    for part in (linear, convolution, train_and_eval, parameters, initialisation):
        part(lesson)


if __name__ == "__main__":
    start(__doc__, main)
