"""Attention, written out, and a classifier built from it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config.model import Attention
from trainer.data.types import DataSpec
from trainer.models.tokens import tokens_for


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute scaled dot-product attention, `softmax(Q Kᵀ / √d) V` (Vaswani et al. 2017, eq. 1).

    Equal to `torch.nn.functional.scaled_dot_product_attention`, with causal and mask allowed together.

    Args:
        query, key, value: float, (..., L, d), (..., S, d), (..., S, v).
        mask: broadcastable to (..., L, S). Boolean: True where a query may attend to a key. Float: added to the scores.
        dropout: probability to drop a weight.
        causal: whether query i sees keys 0 to i only.

    Returns:
        The output (..., L, v), and the weights (..., L, S) before dropout: each row sums to 1, or is 0 where the mask
        leaves the query no key to attend to.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    mask = combine_masks(mask, causal_mask(query, key) if causal else None)
    if mask is None:
        weights = scores.softmax(-1)
    else:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        blind = (scores == -math.inf).all(-1, keepdim=True)  # the softmax of such a row, and its gradient, is NaN
        weights = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
    return F.dropout(weights, dropout) @ value, weights


def causal_mask(query: Tensor, key: Tensor) -> Tensor:
    """Make a boolean mask (L, S), True where the key is not later than the query."""
    return torch.ones(query.size(-2), key.size(-2), dtype=torch.bool, device=query.device).tril()


def combine_masks(mask: Tensor | None, allowed: Tensor | None) -> Tensor | None:
    """Restrict a mask to where the boolean `allowed` is True as well; None: nothing is masked."""
    if mask is None or allowed is None:
        return allowed if mask is None else mask
    return mask & allowed if mask.dtype == torch.bool else mask.masked_fill(~allowed, -math.inf)


class MultiheadAttention(nn.Module):
    """Attention in several subspaces side by side (Vaswani et al. 2017, section 3.2.2).

    Parameters, their names and their first values are those of `torch.nn.MultiheadAttention(batch_first=True)`: a state
    dict of one fits the other.

    Args:
        dim: width of queries, keys, values and outputs.
        heads: number of subspaces, a divisor of dim; each has dim / heads dimensions.
        dropout: probability to drop a weight, in training.
        bias: whether the four projections add a learned offset.
        fused: whether torch's fused kernel does the maths: the same up to rounding, and no (L, S) matrix in memory.

    Raises:
        ValueError: where heads does not divide dim.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, bias: bool = True, fused: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads={heads} does not divide dim={dim}")
        self.heads, self.dropout, self.fused = heads, dropout, fused
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))  # of queries, keys and values, in this order
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim)) if bias else None
        self.out_proj = nn.Linear(dim, dim, bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.out_proj.bias is not None:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        key_padding: Tensor | None = None,
        causal: bool = False,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute attention of the queries over the keys.

        Args:
            query: (B, L, dim).
            key: (B, S, dim); None: the query, which is self-attention.
            value: (B, S, dim); None: the key.
            mask, causal: see `scaled_dot_product_attention`; a mask is broadcast to (B, heads, L, S).
            key_padding: boolean (B, S), True where a key is padding and must not be attended to.
            return_weights: whether to return the weights too; the fused kernel has none, so it is not used then.

        Returns:
            (B, L, dim), and with `return_weights` the weights (B, heads, L, S).
        """
        q, k, v = (self._split(part) for part in self._project(query, key, value))
        mask = combine_masks(mask, None if key_padding is None else ~key_padding[:, None, None, :])
        dropout = self.dropout if self.training else 0.0
        if self.fused and not return_weights:
            if causal and mask is not None:  # the kernel takes one or the other
                mask, causal = combine_masks(mask, causal_mask(q, k)), False
            mixed, weights = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal), None
        else:
            mixed, weights = scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output if weights is None or not return_weights else (output, weights)

    def _project(self, query: Tensor, key: Tensor | None, value: Tensor | None) -> tuple[Tensor, ...]:
        """Project queries, keys and values, each (B, ..., dim)."""
        if key is None and value is None:
            joint: Tensor = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            return joint.chunk(3, -1)
        key = query if key is None else key
        sources = (query, key, key if value is None else value)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(F.linear(*parts) for parts in zip(sources, weights, biases, strict=True))

    def _split(self, x: Tensor) -> Tensor:
        """Split (B, L, dim) into (B, heads, L, dim / heads)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1))
        return heads.transpose(1, 2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, dropout={self.dropout}, fused={self.fused}"


class Block(nn.Module):
    """A transformer block: attention among the tokens, then an MLP on each, both pre-norm and with a residual.

    Shape:
        (B, N, dim) to the same.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float, fused: bool) -> None:
        super().__init__()
        width = max(1, round(dim * mlp_ratio))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = MultiheadAttention(dim, heads, fused=fused)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(dim, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class AttentionClassifier(nn.Module):
    """A transformer encoder on tokens with a class token before them, and a linear layer on the final class token.

    A Vision Transformer (Dosovitskiy et al. 2021) on the patches of an image, an FT-Transformer (Gorishniy et al. 2021)
    on the columns of a table.

    Args:
        tokens: turns a batch into tokens (B, N, dim); see `trainer.models.tokens`.
        outputs: number of classes, or of predicted numbers.
        dim, depth, heads: width of a token, number of blocks, attention heads of each.
        mlp_ratio: hidden width of each MLP, as a multiple of dim.
        dropout: probability to drop an output of a dense layer of a block, as in ViT (appendix B.1). Attention weights
            are not dropped: torch has no fused kernel for that on a CPU, where it would take twice the time.
        fused: see `MultiheadAttention`.
    """

    def __init__(
        self,
        tokens: nn.Module,
        outputs: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.class_token = nn.Parameter(torch.empty(dim).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio, dropout, fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self._sequence(x))[:, 0]))
        return logits

    def attention_maps(self, x: Tensor) -> Tensor:
        """Return the attention weights of each block, (depth, B, heads, 1 + N, 1 + N); token 0 is the class token."""
        x, maps = self._sequence(x), []
        for block in self.blocks.children():
            assert isinstance(block, Block)
            maps.append(block.attention(block.norm1(x), return_weights=True)[1])
            x = block(x)
        return torch.stack(maps)

    def _sequence(self, x: Tensor) -> Tensor:
        tokens = self.tokens(x)
        return torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], 1)


def attention_model(config: Attention, spec: DataSpec) -> AttentionClassifier:
    """Make the network of `model=attention`; raise `ConfigError` for data that cannot be cut into tokens."""
    return AttentionClassifier(
        tokens_for(spec, config.dim, config.patch_size),
        spec.outputs,
        dim=config.dim,
        depth=config.depth,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        dropout=config.dropout,
        fused=config.fused,
    )
