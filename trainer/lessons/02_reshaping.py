"""Reshaping and indexing: what is a view of the same memory, and what copies."""

import torch
from lesson import Lesson, start
from torch import Tensor

from trainer.config.data import Digits
from trainer.runs.build import build_data


def main(lesson: Lesson) -> None:
    for part in (reshaping, dimensions, indexing, views_and_copies, pictures):
        part(lesson)


def shared(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are views of one memory."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def reshaping(lesson: Lesson) -> None:
    lesson.title("view and reshape")
    x = lesson.show("x = torch.arange(12).view(3, 4)", torch.arange(12, device=lesson.device).view(3, 4))
    flat = x.view(-1)  # -1: whatever is left
    flat[0] = 100
    assert lesson.show("x.view(-1)[0] = 100; x[0, 0]", x[0, 0]) == 100 and shared(x, flat), "one memory"
    lesson.say("A tensor is a stretch of memory with strides: how far to step for the next index of a dimension.")
    assert lesson.show("x.stride()", x.stride()) == (4, 1)
    assert lesson.show("x.T.stride()", x.T.stride()) == (1, 4) and shared(x, x.T), "transposing moves no number"
    lesson.say("Row by row, x.T jumps about in memory. No strides describe that as one dimension, so view fails:")
    lesson.refused("x.T.view(-1)", RuntimeError, lambda: x.T.view(-1))
    assert not x.T.is_contiguous()
    copy = lesson.show("x.T.reshape(-1) copies instead", x.T.reshape(-1))
    assert not shared(copy, x) and shared(x.reshape(2, 6), x), "reshape copies only where it must"
    lesson.refused("x.view(5, 2)", RuntimeError, lambda: x.view(5, 2))


def dimensions(lesson: Lesson) -> None:
    lesson.title("Dimensions")
    batch = torch.rand(8, 3, 32, 24, device=lesson.device)
    shapes = {
        "batch, images (N, C, H, W)": batch,
        "batch.transpose(2, 3)": batch.transpose(2, 3),
        "batch.permute(0, 2, 3, 1)": batch.permute(0, 2, 3, 1),
        "batch.flatten(1)": batch.flatten(1),
        "batch[:1].squeeze(0)": batch[:1].squeeze(0),
        "batch.unsqueeze(1)": batch.unsqueeze(1),
    }
    lesson.table(("expression", "shape", "strides"), [(name, tuple(x.shape), x.stride()) for name, x in shapes.items()])
    assert shapes["batch.permute(0, 2, 3, 1)"][5, 10, 20, 2] == batch[5, 2, 10, 20]
    assert shapes["batch.flatten(1)"].shape == (8, 3 * 32 * 24)
    assert batch.squeeze(0).shape == batch.shape, "a dimension that is not 1 stays"
    assert all(shared(x, batch) for x in shapes.values()), "all of them are views"
    assert not shared(batch.permute(0, 2, 3, 1).flatten(1), batch), "flatten copies where view would fail"


def indexing(lesson: Lesson) -> None:
    lesson.title("Indexing")
    x = lesson.show("x = torch.arange(12).view(3, 4)", torch.arange(12, device=lesson.device).view(3, 4))
    assert lesson.show("x[1, 2]", x[1, 2]).item() == 6
    assert lesson.show("x[-1]", x[-1]).tolist() == [8, 9, 10, 11]
    assert lesson.show("x[:, 1:4:2]", x[:, 1:4:2]).tolist() == [[1, 3], [5, 7], [9, 11]]
    assert lesson.show("x[..., None].shape", x[..., None].shape) == (3, 4, 1)
    assert lesson.show("x[x > 7]", x[x > 7]).tolist() == [8, 9, 10, 11], "a mask gives one dimension"
    assert lesson.show("x[[2, 0]]", x[[2, 0]]).tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert lesson.show("x[[0, 1, 2], [3, 2, 1]]", x[[0, 1, 2], [3, 2, 1]]).tolist() == [3, 6, 9], "pairs, no block"
    assert lesson.show("x[[[0], [2]], [1, 3]]", x[[[0], [2]], [1, 3]]).tolist() == [[1, 3], [9, 11]], "broadcast"
    index = torch.tensor([[0], [1], [3]], device=lesson.device)
    picked = lesson.show("x.gather(1, [[0], [1], [3]]), one of each row", x.gather(1, index)).flatten()
    assert picked.tolist() == [0, 5, 11]
    lesson.refused("x[::-1], a negative step", ValueError, lambda: x[::-1])
    x[x > 7] = 0
    assert lesson.show("x[x > 7] = 0 writes into x itself: x", x).sum() == 28


def views_and_copies(lesson: Lesson) -> None:
    lesson.title("View or copy?")
    x = torch.arange(12.0, device=lesson.device).view(3, 4)
    results = {
        "x[1]": x[1], "x[:, ::2]": x[:, ::2], "x.T": x.T, "x.view(2, 6)": x.view(2, 6), "x[None]": x[None],
        "x.expand(5, 3, 4)": x.expand(5, 3, 4), "x.detach()": x.detach(), "x.float() of float32": x.float(),
        "x[[0, 1]]": x[[0, 1]], "x[x > 3]": x[x > 3], "x.T.reshape(12)": x.T.reshape(12), "x.flip(0)": x.flip(0),
        "x.clone()": x.clone(), "x.repeat(5, 1, 1)": x.repeat(5, 1, 1), "x.T.contiguous()": x.T.contiguous(),
        "x.half()": x.half(),
    }  # fmt: skip
    views = [name for name, result in results.items() if shared(result, x)]
    copies = [name for name in results if name not in views]
    lesson.table(("views of x", "copies"), list(zip(views, copies, strict=True)))
    assert views == list(results)[:8]
    before = x.clone()
    for name in copies:
        results[name].zero_()
    assert x.equal(before), "what is written into a copy stays there"
    x[1][2] = -1  # a view of a view
    assert x[1, 2] == -1
    x[[0, 1]][0] = -1  # into a copy, which is then forgotten
    assert x[0, 0] == 0


def pictures(lesson: Lesson) -> None:
    lesson.title("Images are tensors")
    images = build_data(Digits(), lesson.seed).train.inputs
    lesson.show("Digits().build(seed).train.inputs", f"{images.dtype}, {tuple(images.shape)}")
    image = images[0, 0]
    looks = {
        "image": image, "image.T": image.T, "image.flip(1)": image.flip(1), "image[2:6, :]": image[2:6, :],
        "image[::2, ::2]": image[::2, ::2], "image > 127": (image > 127) * 255,
    }  # fmt: skip
    with lesson.figure("views", ncols=6, figsize=(12, 2.7)) as axes:
        for ax, (title, pixels) in zip(axes, looks.items(), strict=True):
            ax.imshow(pixels, cmap="gray_r", vmin=0, vmax=255)
            ax.set(title=title, xlabel="dimension 1", xticks=range(0, pixels.shape[1], 2))
            ax.set_yticks(range(0, pixels.shape[0], 2))
        axes[0].set_ylabel("dimension 0")
    assert image.T.T.equal(image) and image[::2, ::2].shape == (4, 4)


if __name__ == "__main__":
    start(__doc__, main)
