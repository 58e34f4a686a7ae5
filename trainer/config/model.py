"""The models that can be selected, and their keys. A model is built from the shape of the data."""

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.registry import register
from trainer.config.section import FIXED, FUTURE, Section, key, other_default
from trainer.errors import ConfigError

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "sigmoid")
NORMS = ("batch", "group")
ALL_BUT_HEAD = "all-but-head"


@dataclass
class ModelConfig(Section):
    """Base of the model configs; a plug-in's class has `build(spec)`, which makes the network for data of that shape.

    Attributes:
        takes_categories: whether it reads `spec.cardinalities` itself; otherwise category codes become embeddings in
            front of it, and it is built for their numbers.
    """

    on_resume: ClassVar[str] = FIXED
    takes_categories: ClassVar[bool] = False

    freeze: str | None = key(
        None,
        "parts that are not trained: all-but-head, the first N, or those whose name matches a pattern such as layer1 "
        "or features.*; their BatchNorm keeps its statistics",
        kw_only=True,
    )
    unfreeze_at: str | None = key(
        None,
        "when the frozen parts begin to be trained; null: never",
        duration=True,
        wall_clock=False,
        kw_only=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unfreeze_at is not None and self.freeze is None:
            raise ConfigError(f"model.unfreeze_at={self.unfreeze_at}: nothing is frozen; see model.freeze.")


@register("model", "auto")
@dataclass
class AutoModel(ModelConfig):
    """The model that suits the data, with its defaults: by the shape of a sample, and of a table by its size."""

    takes_categories: ClassVar[bool] = True


@register("model", "attention")
@dataclass
class Attention(ModelConfig):
    """Transformer on the patches of an image (ViT) or the columns of a table (FT-Transformer)."""

    takes_categories: ClassVar[bool] = True

    dim: int = key(64, "width of a token; a multiple of heads", at_least=1)
    depth: int = key(4, "blocks of attention and an MLP", at_least=1)
    heads: int = key(4, "attention heads of each block", at_least=1)
    mlp_ratio: float = key(2.0, "hidden width of each block's MLP, as a multiple of dim", above=0)
    patch_size: int | None = key(
        None, "side of an image patch in pixels; null: 2 for 8×8, 4 for 32×32, at most 16", at_least=1
    )
    dropout: float = key(
        0.1, "dropout probability after the dense layers of a block", at_least=0, below=1, on_resume=FUTURE
    )
    fused: bool = key(
        True, "compute attention with torch's fused kernel: equal up to rounding, and faster", on_resume=FUTURE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.heads:
            below, above = self.dim - self.dim % self.heads, self.dim + self.heads - self.dim % self.heads
            raise ConfigError(
                f"model.dim={self.dim}: must be a multiple of model.heads={self.heads}, such as {below or above}."
            )


@register("model", "cnn")
@dataclass
class Cnn(ModelConfig):
    """CNNClassifier: three convolution blocks and a three-layer head, for images."""

    conv_dropout: float = key(
        0.25, "dropout probability of whole channels after each block", at_least=0, below=1, on_resume=FUTURE
    )
    dropout: float = key(0.5, "dropout probability in the head", at_least=0, below=1, on_resume=FUTURE)
    norm: str = key(
        "batch",
        "normalise each convolution over the batch, or over at most 8 groups of channels of each sample, which no "
        "micro-batch changes",
        choices=NORMS,
    )


@register("model", "linear")
@dataclass
class Linear(ModelConfig):
    """CustomLinear on the flattened input: logistic or linear regression."""

    bias: bool = key(True, "add a learned bias")


@dataclass
class HiddenLayers(ModelConfig):
    """Base of the fully connected networks: the keys of their hidden layers."""

    hidden: list[int] = key([128, 64], "width of each hidden layer; []: a single linear layer", at_least=1)
    activation: str = key("relu", "activation function after each hidden layer", choices=ACTIVATIONS)
    dropout: float = key(0.0, "dropout probability of hidden units", at_least=0, below=1, on_resume=FUTURE)
    batch_norm: bool = key(False, "batch normalisation of each hidden layer, before the activation")
    norm: str | None = key(
        None,
        "normalise each hidden layer over the batch, or over at most 8 groups of units of each sample, which no "
        "micro-batch changes; null: as batch_norm says",
        choices=NORMS,
    )

    def layer_norm(self) -> str | None:
        """Return the normalisation of a hidden layer: `batch`, `group`, or None."""
        return self.norm or ("batch" if self.batch_norm else None)


@register("model", "mlp")
@dataclass
class Mlp(HiddenLayers):
    """Fully connected network on the flattened input."""


@register("model", "realmlp")
@dataclass
class RealMlp(ModelConfig):
    """RealMLP for tables: periodic embeddings, a scaling layer, tuned details; see experiment=tabular_best."""

    takes_categories: ClassVar[bool] = True

    hidden: list[int] = key([256, 256, 256], "width of each hidden layer", at_least=1)
    activation: str = key(
        "auto", "activation function; auto: selu for classes, mish for numbers", choices=("auto", "selu", "mish")
    )
    dropout: float = key(
        0.15,
        "dropout probability of hidden units in the first half of training; then it falls to 0 along half a cosine",
        at_least=0,
        below=1,
        on_resume=FUTURE,
    )
    embed: bool = key(True, "give each number a periodic embedding")
    onehot_levels: int = key(
        9, "levels of a category up to which each is an input; of more: a learned vector", at_least=2
    )
    members: int = key(1, "networks side by side, each with weights of its own, that answer together", at_least=1)
    clamp: bool = key(True, "cut predicted numbers to the range of the training rows")
    lr_of_numbers: float = key(5.0, "learning rate where numbers are predicted, in multiples of optimizer.lr", above=0)


@register("model", "tabm")
@dataclass
class TabM(ModelConfig):
    """TabM for tables: many networks that share nearly all of their weights, and answer together."""

    takes_categories: ClassVar[bool] = True

    members: int = key(32, "networks that answer together", at_least=1)
    hidden: list[int] = key([512, 512, 512], "width of each hidden layer", at_least=1)
    dropout: float = key(0.1, "dropout probability of hidden units", at_least=0, below=1, on_resume=FUTURE)


@register("model", "tabular")
@dataclass
class Tabular(HiddenLayers):
    """Fully connected network on the numbers of a table and an embedding of each category."""

    takes_categories: ClassVar[bool] = True

    hidden: list[int] = other_default(HiddenLayers, "hidden", [200, 100])
    dropout: float = other_default(HiddenLayers, "dropout", 0.1)
    batch_norm: bool = other_default(HiddenLayers, "batch_norm", True)
    embedding_dim: int | None = key(
        None, "size of the embedding of a category; null: min(600, 1.6 · levels^0.56) per column", at_least=1
    )
    embedding_dropout: float = key(
        0.0, "dropout probability of the entries of an embedding", at_least=0, below=1, on_resume=FUTURE
    )


@register("model", "torchvision")
@dataclass
class Torchvision(ModelConfig):
    """Any classifier of torchvision.models, by its name, for images."""

    arch: str = key("resnet18", "a name from torchvision.models.list_models, such as resnet50, vit_b_16")
    weights: str | None = key(
        None,
        "to start from: a file (of torch or safetensors), or published weights by name, such as DEFAULT, which are "
        "downloaded once; a head of another size keeps its initial weights",
    )


@register("model", "timm")
@dataclass
class Timm(ModelConfig):
    """Any network of timm (extra `timm`), by its name, for images."""

    arch: str = key("resnet18", "a name from timm.list_models, such as convnext_tiny, vit_small_patch16_224")
    weights: str | None = key(
        None,
        "to start from: a file (of torch or safetensors), or published weights by their tag or as DEFAULT, which are "
        "downloaded once; the head is new",
    )
