"""Attention: who looks at whom.

Scaled dot-product attention step by step, the causal mask, several heads, and what a trained classifier looks at.
"""

import math

import torch
from lesson import Lesson, start
from torch import Tensor, nn
from torch.nn import functional as F

from trainer import Config, assemble
from trainer.config.data import Digits
from trainer.config.model import Attention
from trainer.config.optimizer import AdamW
from trainer.config.scheduler import CosineLR
from trainer.config.trainer import TrainerConfig
from trainer.models.attention import AttentionClassifier, MultiheadAttention, scaled_dot_product_attention


def step_by_step(lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    lesson.title("softmax(Q Kᵀ / √d) V, step by step")
    lesson.say("Four tokens of d = 3 numbers: each asks with a query, offers a key, and hands over a value.")
    q, k, v = torch.randn(3, 4, 3, device=lesson.device)
    scores = lesson.show("scores = q @ k.T / math.sqrt(3)", q @ k.T / math.sqrt(3))
    weights = lesson.show("weights = scores.softmax(-1)", scores.softmax(-1))
    lesson.show("weights.sum(-1)   # each row is a distribution over the keys", weights.sum(-1))
    output = lesson.show("weights @ v       # each output is an average of the values", weights @ v)
    torch.testing.assert_close(output, scaled_dot_product_attention(q, k, v)[0])
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v))
    lesson.say("The package's attend(q, k, v) and torch's F.scaled_dot_product_attention give the same.")
    return q, k, v


def why_the_root(lesson: Lesson) -> None:
    lesson.title("Why divide by √d")
    lesson.say("q · k is a sum of d products: its deviation grows as √d, and the softmax would pick a single key.")
    rows = []
    for d in (4, 64, 1024):
        q, k = torch.randn(2, 1000, d, device=lesson.device)
        products = q @ k[:16].T
        plain, scaled = (scores.softmax(-1).amax(-1).mean().item() for scores in (products, products / math.sqrt(d)))
        rows.append((d, products.std().item(), plain, scaled))
    lesson.table(
        ["d", "deviation of q · k", "largest of 16 weights", "with / √d"],
        [(d, *map("{:.2f}".format, r)) for d, *r in rows],
    )
    assert all(abs(deviation / math.sqrt(d) - 1) < 0.2 for d, deviation, _, _ in rows)
    assert rows[-1][2] > 0.9 and all(scaled < 0.4 for *_, scaled in rows)


def causal(lesson: Lesson, q: Tensor, k: Tensor, v: Tensor) -> None:
    lesson.title("The causal mask: no token looks at a later one")
    allowed = lesson.show(
        "allowed = torch.ones(4, 4, dtype=torch.bool).tril()", torch.ones(4, 4, dtype=torch.bool).tril()
    )
    scores = (q @ k.T / math.sqrt(3)).masked_fill(~allowed.to(lesson.device), -math.inf)
    weights = lesson.show("scores.masked_fill(~allowed, -inf).softmax(-1)", scores.softmax(-1))
    output, ours = scaled_dot_product_attention(q, k, v, causal=True)
    torch.testing.assert_close(weights, ours)
    assert weights[0, 0] == 1 and not weights.triu(1).any()
    later = v.clone()
    later[3] += 100
    assert torch.equal(scaled_dot_product_attention(q, k, later, causal=True)[0][:3], output[:3])
    lesson.say(
        "Changing the last token changes nothing for those before it: this is how a model can be trained to predict."
    )


def several_heads(lesson: Lesson) -> None:
    lesson.title("Several heads: attention in subspaces, side by side")
    ours = MultiheadAttention(dim=12, heads=3).to(lesson.device)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True, device=lesson.device)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 12, device=lesson.device)
    q, k, v = (
        part.view(2, 5, 3, 4).transpose(1, 2)
        for part in F.linear(x, ours.in_proj_weight, ours.in_proj_bias).chunk(3, -1)
    )
    lesson.show("q.shape   # batch, heads, tokens, 12 / 3", tuple(q.shape))
    by_hand = ours.out_proj(scaled_dot_product_attention(q, k, v)[0].transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(by_hand, ours(x))
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])
    fused = MultiheadAttention(12, 3, fused=True).to(lesson.device)
    fused.load_state_dict(ours.state_dict())
    largest = lesson.show("(ours(x) - fused(x)).abs().max()", (ours(x) - fused(x)).abs().max().item())
    assert largest < 1e-5
    lesson.say("By hand, the package's module, torch's module with the same weights, and the fused kernel agree.")


def what_it_looks_at(lesson: Lesson) -> None:
    lesson.title("What a classifier of digits looks at")
    settings = TrainerConfig(epochs=15, device=str(lesson.device), log_every=None, eval_every="15ep")
    model = Attention(dim=32, depth=2)  # 16 patches of 2×2 pixels and a class token
    rate = {"optimizer": AdamW(lr=4e-3), "scheduler": CosineLR(warmup="10%")}
    trainer = assemble(Config(model=model, data=Digits(), trainer=settings, seed=lesson.seed, **rate))
    trainer.fit()
    accuracy = lesson.show("accuracy after 15 epochs", trainer.state.scores["val/accuracy"])
    assert accuracy > 0.9
    network = trainer.state.evaluated.eval()
    assert isinstance(network, AttentionClassifier)
    batch = next(iter(trainer.val))
    firsts = [int((batch.targets == digit).nonzero()[0]) for digit in range(6)]
    with torch.inference_mode():
        maps = network.attention_maps(batch.inputs[firsts])
    lesson.show("maps.shape   # blocks, images, heads, tokens, tokens", tuple(maps.shape))
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps.sum(-1)))
    looks = maps[:, :, :, 0, 1:].mean((0, 2)).view(6, 4, 4).cpu()  # of the class token, over the patches
    assert looks.amax((1, 2)).min() > 1.5 / 17, "it does not look everywhere alike"
    with lesson.figure("attention_map", nrows=2, ncols=6, figsize=(11, 4.4)) as axes:
        for column, image in enumerate(batch.inputs[firsts].cpu()):
            axes[0, column].imshow(image[0], cmap="gray", extent=(0, 4, 4, 0))
            shown = axes[1, column].imshow(looks[column], cmap="gray", vmin=0, vmax=looks.max(), extent=(0, 4, 4, 0))
            axes[0, column].set_title(f"a {column}")
            axes[1, column].set_xlabel("patch column")
        axes[0, 0].set_ylabel("patch row (the image)")
        axes[1, 0].set_ylabel("patch row (the weights)")
        axes[0, 0].figure.colorbar(shown, ax=axes[1, :], label="weight of the class token")


def main(lesson: Lesson) -> None:
    q, k, v = step_by_step(lesson)
    why_the_root(lesson)
    causal(lesson, q, k, v)
    several_heads(lesson)
    what_it_looks_at(lesson)


if __name__ == "__main__":
    start(__doc__, main)
