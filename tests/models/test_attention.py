"""Attention against torch's own, with its gradients and masks, and the classifier made of it."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer import Config, assemble
from trainer.config.data import Digits, SyntheticImages
from trainer.config.model import Attention
from trainer.config.optimizer import SGD, AdamW
from trainer.config.table import Csv
from trainer.config.task import Regression
from trainer.config.trainer import TrainerConfig
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.models.attention import AttentionClassifier, MultiheadAttention, causal_mask, scaled_dot_product_attention
from trainer.models.tokens import ColumnTokens, PatchTokens, choose_patch
from trainer.runs.build import build_model, build_network

B, H, L, S, DIM = 3, 4, 5, 7, 8
DTYPES = (torch.float32, torch.float64)
MASKS = ("none", "boolean", "additive", "padding")


def digits(*shape: int) -> DataSpec:
    return DataSpec(shape, 10, tuple("0123456789"))


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def mask_of(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """A mask in the convention of `F.scaled_dot_product_attention`; each query keeps a key."""
    allowed = torch.rand(shape, generator=torch.Generator().manual_seed(5)) > 0.4
    allowed[..., 0] = True
    match kind:
        case "boolean":
            return allowed
        case "additive":
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(6), dtype=dtype)
            return noise.masked_fill(~allowed, -math.inf)
    return None


def close(ours: Any, theirs: Any, dtype: torch.dtype) -> None:
    limit = 1e-5 if dtype == torch.float32 else 1e-13  # of numbers up to 10 that are sums of dozens
    torch.testing.assert_close(ours, theirs, rtol=limit, atol=limit)


# The function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_attend_equals_torchs_function_and_its_gradients(kind: str, dtype: torch.dtype) -> None:
    q, k, v = draw(B, H, L, DIM, dtype=dtype), draw(B, H, S, DIM, dtype=dtype, seed=1), draw(B, H, S, 3, dtype=dtype)
    mask = mask_of(kind, (B, 1, L, S), dtype)
    ours, weights = scaled_dot_product_attention(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, mask)
    close(ours, theirs, dtype)
    close(weights.sum(-1), torch.ones(B, H, L, dtype=dtype), dtype)
    direction = draw(B, H, L, 3, dtype=dtype, seed=9).detach()
    close(torch.autograd.grad(ours, (q, k, v), direction), torch.autograd.grad(theirs, (q, k, v), direction), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [(L, L), (L, S), (S, L)])
def test_causal_attention_equals_torchs(lengths: tuple[int, int], dtype: torch.dtype) -> None:
    q, k = draw(B, H, lengths[0], DIM, dtype=dtype), draw(B, H, lengths[1], DIM, dtype=dtype, seed=1)
    ours, weights = scaled_dot_product_attention(q, k, k, causal=True)
    theirs = F.scaled_dot_product_attention(q, k, k, is_causal=True)
    close(ours, theirs, dtype)
    close(torch.autograd.grad(ours.sum(), (q, k)), torch.autograd.grad(theirs.sum(), (q, k)), dtype)
    assert not weights.triu(1).any()


@pytest.mark.parametrize("kind", ["boolean", "additive"])
def test_causal_and_mask_hold_together(kind: str) -> None:
    q, k = draw(B, H, L, DIM), draw(B, H, S, DIM, seed=1)
    mask = mask_of(kind, (B, 1, L, S), torch.float64)
    assert mask is not None
    late = torch.ones(L, S, dtype=torch.bool).triu(1)
    both = mask & ~late if mask.dtype == torch.bool else mask.masked_fill(late, -math.inf)
    close(
        scaled_dot_product_attention(q, k, k, mask, causal=True),
        scaled_dot_product_attention(q, k, k, both),
        torch.float64,
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    q, k, v = draw(2, 3, 4), draw(2, 5, 4, seed=1), draw(2, 5, 4, seed=2)
    mask = mask_of("boolean", (3, 5), torch.float64)
    assert torch.autograd.gradcheck(lambda *x: scaled_dot_product_attention(*x, mask), (q, k, v))


@pytest.mark.parametrize("kind", ["boolean", "additive"])
def test_a_query_that_may_look_at_nothing_gives_zeros_and_finite_gradients(kind: str) -> None:
    q, k, v = draw(B, L, DIM), draw(B, S, DIM, seed=1), draw(B, S, DIM, seed=2)
    allowed = torch.ones(L, S, dtype=torch.bool)
    allowed[2] = False
    mask = allowed if kind == "boolean" else torch.zeros(L, S).masked_fill(~allowed, -math.inf).double()
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    close(output, F.scaled_dot_product_attention(q, k, v, mask), torch.float64)
    assert not output[:, 2].any() and not weights[:, 2].any()
    gradients = torch.autograd.grad(output.sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][:, 2].any()


def test_dropout_drops_weights_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    q, v = torch.zeros(1, 20_000, 2), torch.ones(1, 10, 1)
    output, weights = scaled_dot_product_attention(q, torch.zeros(1, 10, 2), v, dropout=0.25)
    assert torch.equal(weights, torch.full((1, 20_000, 10), 0.1))  # those returned are whole
    kept = output * 10 * 0.75  # how many of ten were kept
    torch.testing.assert_close(kept, kept.round())
    assert output.mean().item() == pytest.approx(1, abs=0.01)
    assert kept.var().item() == pytest.approx(10 * 0.25 * 0.75, rel=0.05)


# The module


def pair(dtype: torch.dtype, **options: Any) -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    """Ours and torch's with the same weights."""
    torch.manual_seed(1)
    theirs = nn.MultiheadAttention(DIM, H, batch_first=True, bias=options.get("bias", True), dtype=dtype)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = MultiheadAttention(DIM, H, **options).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(output: Tensor, module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    direction = draw(*output.shape, dtype=output.dtype, seed=9).detach()
    return list(torch.autograd.grad(output, [*inputs, *module.parameters()], direction))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", MASKS)
def test_self_attention_equals_torchs_module(kind: str, causal: bool, fused: bool, dtype: torch.dtype) -> None:
    ours, theirs = pair(dtype, fused=fused)
    x = draw(B, L, DIM, dtype=dtype)
    mask = mask_of(kind, (L, L), dtype)
    padding = torch.arange(L) >= torch.tensor([[5], [3], [1]]) if kind == "padding" else None
    expected_mask = None if mask is None else ~mask if mask.dtype == torch.bool else mask  # torch's module: True is out
    if causal:
        late = torch.ones(L, L, dtype=torch.bool).triu(1)
        if expected_mask is None or expected_mask.dtype == torch.bool:
            expected_mask = late if expected_mask is None else expected_mask | late
        else:
            expected_mask = expected_mask.masked_fill(late, -math.inf)
    expected, expected_weights = theirs(
        x, x, x, key_padding_mask=padding, attn_mask=expected_mask, average_attn_weights=False
    )
    output = ours(x, mask=mask, key_padding=padding, causal=causal)
    close(output, expected, dtype)
    again, weights = ours(x, mask=mask, key_padding=padding, causal=causal, return_weights=True)
    close(again, expected, dtype)
    close(weights, expected_weights, dtype)
    close(gradients(output, ours, x), gradients(expected, theirs, x), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_attention_to_another_sequence_equals_torchs_module(bias: bool, fused: bool, dtype: torch.dtype) -> None:
    ours, theirs = pair(dtype, fused=fused, bias=bias)
    x, k, v = (draw(B, n, DIM, dtype=dtype, seed=n) for n in (L, S, S))
    padding = torch.arange(S) >= torch.tensor([[7], [3], [1]])
    expected, expected_weights = theirs(x, k, v, key_padding_mask=padding, average_attn_weights=False)
    output = ours(x, k, v, key_padding=padding)
    close(output, expected, dtype)
    close(ours(x, k, v, key_padding=padding, return_weights=True)[1], expected_weights, dtype)
    close(gradients(output, ours, x, k, v), gradients(expected, theirs, x, k, v), dtype)
    close(ours(x, k), theirs(x, k, k)[0], dtype)


def test_a_new_module_has_the_parameters_of_torchs() -> None:
    torch.manual_seed(7)
    theirs = nn.MultiheadAttention(DIM, H, batch_first=True).state_dict()
    torch.manual_seed(7)
    ours = MultiheadAttention(DIM, H).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}
    bound = math.sqrt(6 / (4 * DIM))  # Glorot & Bengio 2010 for (3·dim, dim)
    assert 0.9 * bound < ours["in_proj_weight"].abs().max() <= bound
    assert not ours["in_proj_bias"].any() and not ours["out_proj.bias"].any()


@pytest.mark.parametrize("fused", [False, True])
def test_dropout_is_of_training_alone(fused: bool) -> None:
    ours, _ = pair(torch.float32, fused=fused, dropout=0.5)
    x = draw(B, L, DIM, dtype=torch.float32)
    assert not torch.equal(ours(x), ours(x))
    torch.manual_seed(3)
    first = ours(x)
    torch.manual_seed(3)
    assert torch.equal(ours(x), first)
    ours.eval()
    assert torch.equal(ours(x), ours(x))


def test_heads_that_do_not_divide_dim_are_an_error() -> None:
    with pytest.raises(ValueError, match="heads=3 does not divide dim=8"):
        MultiheadAttention(8, 3)


# Tokens


def test_patches_are_those_of_a_strided_convolution_in_reading_order() -> None:
    tokens = PatchTokens(3, 6, 4, 2, 5)
    x = torch.randn(2, 3, 6, 4)
    kernel = tokens.project.weight.view(5, 3, 2, 2)
    expected = F.conv2d(x, kernel, tokens.project.bias, stride=2).flatten(2).transpose(1, 2) + tokens.positions
    torch.testing.assert_close(tokens(x), expected)
    assert tokens(x).shape == (2, 6, 5)
    torch.testing.assert_close(tokens(x.contiguous(memory_format=torch.channels_last)), expected)


def test_a_column_is_its_value_times_a_vector_plus_a_bias() -> None:
    tokens = ColumnTokens(3, 4)
    x = torch.tensor([[2.0, 0.0, -1.0]])
    expected = [2 * tokens.weight[0] + tokens.bias[0], tokens.bias[1], tokens.bias[2] - tokens.weight[2]]
    torch.testing.assert_close(tokens(x), torch.stack(expected).unsqueeze(0))


def test_a_category_is_a_learned_vector_plus_a_bias_and_an_unseen_one_the_bias_alone() -> None:
    tokens = ColumnTokens(3, 4, (2, 5))
    x = torch.tensor([[2.0, 1.0, 4.0], [-1.0, 0.0, 0.0]])
    first = [2 * tokens.weight[0], tokens.tables[0].weight[1], tokens.tables[1].weight[4]]
    unseen = [-tokens.weight[0], torch.zeros(4), torch.zeros(4)]
    expected = torch.stack([torch.stack(first), torch.stack(unseen)]) + tokens.bias
    torch.testing.assert_close(tokens(x), expected)
    tokens(x).sum().backward()
    assert not tokens.tables[0].weight.grad[0].any() and tokens.tables[0].weight.grad[1].any()
    assert all(0 < table.weight.abs().max() <= 0.5 for table in tokens.tables)


def test_category_codes_of_the_data_become_tokens() -> None:
    spec = DataSpec((5,), 2, ("no", "yes"), cardinalities=(3, 7))
    model = build_model(Config(model=Attention(dim=8, heads=2)), spec)
    assert isinstance(model, AttentionClassifier)
    x = torch.tensor([[0.5, -1.0, 2.0, 2.0, 6.0]])
    assert model.tokens(x).shape == (1, 5, 8)
    assert [table.num_embeddings for table in model.tokens.tables] == [3, 7]
    assert model(x).shape == (1, 2)


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((8, 8), 2),
        ((28, 28), 4),
        ((32, 32), 4),
        ((48, 48), 6),
        ((64, 64), 8),
        ((224, 224), 16),
        ((32, 64), 4),
        ((512, 512), 16),
        ((5, 5), 1),
        ((31, 31), 1),
        ((37, 37), None),
        ((224, 223), None),
    ],
)
def test_the_patch_is_chosen_from_the_size(size: tuple[int, int], patch: int | None) -> None:
    assert choose_patch(*size) == patch


# The classifier


def by_hand(model: AttentionClassifier, x: Tensor) -> Tensor:
    """The whole classifier from torch's own parts."""
    tokens = model.tokens(x)
    x = torch.cat([model.class_token.expand(len(x), 1, -1), tokens], 1)
    for block in model.blocks:
        theirs = nn.MultiheadAttention(x.size(-1), block.attention.heads, batch_first=True)
        theirs.load_state_dict(block.attention.state_dict())
        y = F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias)
        x = x + theirs(y, y, y, need_weights=False)[0]
        y = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias)
        first, last = block.mlp[0], block.mlp[3]
        x = x + F.gelu(y @ first.weight.T + first.bias) @ last.weight.T + last.bias
    y = F.layer_norm(x[:, 0], x.shape[-1:], model.norm.weight, model.norm.bias)
    return y @ model.head.weight.T + model.head.bias


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8), (14,)])
def test_the_classifier_is_the_composition_of_its_parts(shape: tuple[int, ...], fused: bool) -> None:
    torch.manual_seed(0)
    model = build_network(Attention(dim=16, depth=3, heads=2, fused=fused, dropout=0), digits(*shape))
    assert isinstance(model, AttentionClassifier)
    x = torch.randn(4, *shape)
    torch.testing.assert_close(model(x), by_hand(model, x))


def test_its_keys_are_its_sizes() -> None:
    model = build_network(
        Attention(dim=24, depth=5, heads=3, mlp_ratio=1.5, patch_size=8, dropout=0.2), digits(3, 32, 16)
    )
    assert isinstance(model, AttentionClassifier)
    assert model.tokens.positions.shape == (8, 24)
    assert len(model.blocks) == 5
    for block in model.blocks:
        assert (block.attention.heads, block.attention.dropout, block.attention.fused) == (3, 0.0, True)
        assert block.mlp[0].weight.shape == (36, 24)
    assert {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)} == {0.2}


@pytest.mark.parametrize("fused", [False, True])
def test_attention_maps_are_distributions_over_the_tokens(fused: bool) -> None:
    model = build_network(Attention(dim=16, depth=2, heads=4, fused=fused), digits(1, 8, 8)).eval()
    assert isinstance(model, AttentionClassifier)
    x = torch.randn(3, 1, 8, 8)
    maps = model.attention_maps(x)
    assert maps.shape == (2, 3, 4, 17, 17)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 4, 17))
    # The maps are of this very pass: mixing the values with them gives what the block adds.
    sequence = torch.cat([model.class_token.expand(3, 1, -1), model.tokens(x)], 1)
    attention = model.blocks[0].attention
    normed = model.blocks[0].norm1(sequence)
    values = F.linear(normed, attention.in_proj_weight[32:], attention.in_proj_bias[32:]).view(3, 17, 4, 4)
    mixed = torch.einsum("bhls,bshd->blhd", maps[0], values).flatten(2)
    torch.testing.assert_close(attention.out_proj(mixed), attention(normed))


def test_positions_tell_patches_apart_and_columns_tell_themselves() -> None:
    torch.manual_seed(0)
    image = build_network(Attention(dim=16, dropout=0), digits(1, 8, 8))
    x = torch.randn(2, 1, 8, 8)
    assert not torch.allclose(image(x), image(x.flip(3)), atol=1e-3)
    table = build_network(Attention(dim=16, dropout=0), digits(6))
    row = torch.randn(2, 6)
    assert not torch.allclose(table(row), table(row.flip(1)), atol=1e-3)


# Errors


@pytest.mark.parametrize(("dim", "heads"), [(64, 3), (3, 4), (65, 64)])
def test_heads_that_do_not_divide_name_both_keys_and_a_way_out(dim: int, heads: int) -> None:
    with pytest.raises(ConfigError) as error:
        Attention(dim=dim, heads=heads)
    assert f"model.dim={dim}: must be a multiple of model.heads={heads}" in str(error.value)
    offered = int(str(error.value).split("such as ")[1].rstrip("."))
    assert Attention(dim=offered, heads=heads).dim == offered


@pytest.mark.parametrize(("patch", "height", "width"), [(5, 32, 24), (3, 32, 24), (3, 24, 32), (64, 32, 24)])
def test_a_patch_that_does_not_divide_names_those_that_do(patch: int, height: int, width: int) -> None:
    with pytest.raises(ConfigError) as error:
        build_network(Attention(patch_size=patch), digits(3, height, width))
    assert f"model.patch_size={patch}: must divide the images of {height}×{width}" in str(error.value)
    assert "possible: 1, 2, 4, 8." in str(error.value)


def test_a_patch_of_a_table_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"model\.patch_size=2: the data is a table of 14 columns"):
        build_network(Attention(patch_size=2), digits(14))


def test_images_that_no_patch_divides_are_an_error_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"model\.patch_size=null: .* 97×97 .*data\.image_size"):
        build_network(Attention(), digits(3, 97, 97))


def test_data_of_another_shape_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"model=attention needs images .* 28×28; use model=mlp"):
        build_network(Attention(), digits(28, 28))


@pytest.mark.parametrize(
    ("key", "value"),
    [("dim", 0), ("depth", 0), ("heads", 0), ("mlp_ratio", 0.0), ("patch_size", 0), ("dropout", 1.0), ("dim", 1.5)],
)
def test_a_size_that_is_none_is_an_error(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{key}={value}"):
        Attention(**{key: value})


# Training


def test_it_learns_the_digits() -> None:
    settings = TrainerConfig(epochs=12, device="cpu", log_every=None)
    trainer = assemble(Config(model=Attention(depth=2), data=Digits(), optimizer=AdamW(lr=3e-3), trainer=settings))
    trainer.fit()
    assert trainer.state.scores["val/accuracy"] >= 0.95


def write_table(path: Path) -> Path:
    values = itertools.product(range(12), range(12), "xy")
    path.write_text("a,b,kind,target\n" + "".join(f"{a},{b},{k},{a * (1 + (k == 'x')) - b}\n" for a, b, k in values))
    return path


def test_it_learns_a_number_from_a_table(tmp_path: Path) -> None:
    """A product of two columns and a difference: what a linear model cannot give."""
    data = Csv(path=str(write_table(tmp_path / "table.csv")), target="target", target_type="number", batch_size=32)
    model = Attention(dim=16, depth=2, heads=2)
    settings = TrainerConfig(epochs=40, device="cpu", log_every=None)
    trainer = assemble(Config(model=model, data=data, task=Regression(), optimizer=AdamW(lr=5e-3), trainer=settings))
    trainer.fit()
    assert trainer.state.scores["val/r2"] > 0.98


@pytest.mark.parametrize("fused", [False, True])
def test_micro_batches_give_the_step_of_the_whole_batch(fused: bool) -> None:
    def first_weights(micro_batch: int | None) -> Tensor:
        data = SyntheticImages(num_samples=40, image_size=8, num_classes=3, batch_size=32)
        settings = TrainerConfig(steps=2, device="cpu", micro_batch=micro_batch)
        model = Attention(dim=16, depth=2, dropout=0, fused=fused)
        trainer = assemble(Config(model=model, data=data, optimizer=SGD(lr=0.1), trainer=settings))
        list(trainer.steps())
        return torch.cat([p.detach().flatten() for p in trainer.state.model.parameters()])

    torch.testing.assert_close(first_weights(8), first_weights(None), rtol=1e-4, atol=1e-5)


def test_the_causal_mask_is_lower_triangular() -> None:
    assert causal_mask(torch.zeros(3, 1), torch.zeros(4, 1)).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
    ]
