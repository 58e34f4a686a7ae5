"""The optimizers of torch.optim by their usual names, with torch's own defaults.

LBFGS is absent: its step needs a closure. `sparse_adam` is for models with sparse embeddings only.
"""

from dataclasses import dataclass

from trainer.config.registry import register
from trainer.config.section import FIXED, Section, key
from trainer.errors import ConfigError

LR = "learning rate, scaled by the schedule"
EPS = "added to the denominator for numerical stability"
BETAS = "decay rates of the running means of the gradient and of its square"
DECAY = "weight decay (L2 penalty added to the gradient)"


@dataclass
class OptimizerConfig(Section):
    """Base of the optimizer configs; the fields are arguments of the class of torch.optim named by `torch_name`."""

    decay_norm_bias: bool = key(True, "apply weight decay to norms and biases (all 1-d parameters) too")
    lr_mult: dict[str, float] = key(
        {},
        "multiples of the learning rate by the names of parts of the network, or patterns: {backbone: 0.1}",
        on_resume=FIXED,
        kw_only=True,
    )
    layer_decay: float | None = key(
        None,
        "each part of the network is trained at this multiple of the learning rate of the part after it, the head at "
        "the whole rate; null: off",
        above=0,
        at_most=1,
        on_resume=FIXED,
        kw_only=True,
    )

    def torch_name(self) -> str:
        """Return the name of the class of torch.optim."""
        return type(self).__name__


@register("optimizer", "sgd")
@dataclass
class SGD(OptimizerConfig):
    """Stochastic gradient descent, with optional (Nesterov) momentum."""

    lr: float = key(1e-3, LR, above=0)
    momentum: float = key(0.0, "share of the last update that is kept", at_least=0, below=1)
    dampening: float = key(0.0, "share of the gradient held back from the momentum", at_least=0, at_most=1)
    weight_decay: float = key(0.0, DECAY, at_least=0)
    nesterov: bool = key(False, "Nesterov momentum; needs momentum > 0 and dampening 0")


@register("optimizer", "adam")
@dataclass
class Adam(OptimizerConfig):
    """Adam (Kingma & Ba 2015): steps scaled by running means of the gradient and its square."""

    lr: float = key(1e-3, LR, above=0)
    betas: list[float] = key([0.9, 0.999], BETAS, at_least=0, below=1, length=2)
    eps: float = key(1e-8, EPS, at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)
    amsgrad: bool = key(False, "use the largest second moment so far (AMSGrad, Reddi et al. 2018)")


@register("optimizer", "adamw")
@dataclass
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: float = key(1e-3, LR, above=0)
    betas: list[float] = key([0.9, 0.999], BETAS, at_least=0, below=1, length=2)
    eps: float = key(1e-8, EPS, at_least=0)
    weight_decay: float = key(1e-2, "decoupled weight decay: weights shrink by lr × this at each step", at_least=0)
    amsgrad: bool = key(False, "use the largest second moment so far (AMSGrad, Reddi et al. 2018)")


@register("optimizer", "nadam")
@dataclass
class NAdam(OptimizerConfig):
    """Adam with Nesterov momentum (Dozat 2016)."""

    lr: float = key(2e-3, LR, above=0)
    betas: list[float] = key([0.9, 0.999], BETAS, at_least=0, below=1, length=2)
    eps: float = key(1e-8, EPS, at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)
    momentum_decay: float = key(4e-3, "how fast the momentum warms up", at_least=0)
    decoupled_weight_decay: bool = key(False, "decoupled weight decay, as in AdamW")


@register("optimizer", "radam")
@dataclass
class RAdam(OptimizerConfig):
    """Adam with a rectified variance in the first steps (Liu et al. 2020)."""

    lr: float = key(1e-3, LR, above=0)
    betas: list[float] = key([0.9, 0.999], BETAS, at_least=0, below=1, length=2)
    eps: float = key(1e-8, EPS, at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)
    decoupled_weight_decay: bool = key(False, "decoupled weight decay, as in AdamW")


@register("optimizer", "adamax")
@dataclass
class Adamax(OptimizerConfig):
    """Adam with the infinity norm (Kingma & Ba 2015, section 7)."""

    lr: float = key(2e-3, LR, above=0)
    betas: list[float] = key([0.9, 0.999], BETAS, at_least=0, below=1, length=2)
    eps: float = key(1e-8, EPS, at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)


@register("optimizer", "rmsprop")
@dataclass
class RMSprop(OptimizerConfig):
    """Steps scaled by a running mean of the squared gradient (Hinton 2012, lecture 6e)."""

    lr: float = key(1e-2, LR, above=0)
    alpha: float = key(0.99, "decay of the running mean of the squared gradient", at_least=0, below=1)
    eps: float = key(1e-8, EPS, at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)
    momentum: float = key(0.0, "share of the last update that is kept", at_least=0, below=1)
    centered: bool = key(False, "scale by the variance instead of the raw second moment")


@register("optimizer", "adagrad")
@dataclass
class Adagrad(OptimizerConfig):
    """Steps scaled by the sum of all squared gradients (Duchi et al. 2011)."""

    lr: float = key(1e-2, LR, above=0)
    lr_decay: float = key(0.0, "decay of the learning rate by 1 / (1 + steps × this)", at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)
    initial_accumulator_value: float = key(0.0, "initial value of the sum of squared gradients", at_least=0)
    eps: float = key(1e-10, EPS, at_least=0)


@register("optimizer", "adadelta")
@dataclass
class Adadelta(OptimizerConfig):
    """Steps scaled by the ratio of two running means; needs no learning rate of its own (Zeiler 2012)."""

    lr: float = key(1.0, LR, above=0)
    rho: float = key(0.9, "decay of the running means", at_least=0, at_most=1)
    eps: float = key(1e-6, EPS, at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)


@register("optimizer", "adafactor")
@dataclass
class Adafactor(OptimizerConfig):
    """Adam with a factored second moment, to save memory (Shazeer & Stern 2018)."""

    lr: float = key(1e-2, LR, above=0)
    beta2_decay: float = key(-0.8, "exponent of the decay of the second moment", at_most=0)
    eps: list[float | None] = key(
        [None, 1e-3], "two: for the squared gradient (null: the dtype's), for the scale of the weights", length=2
    )
    d: float = key(1.0, "clipping threshold of an update", at_least=1)
    weight_decay: float = key(0.0, "decoupled weight decay", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps[1] is None:
            raise ConfigError(f"optimizer.eps={self.eps}: the second must be a number.")


@register("optimizer", "asgd")
@dataclass
class ASGD(OptimizerConfig):
    """Averaged stochastic gradient descent (Polyak & Juditsky 1992)."""

    lr: float = key(1e-2, "learning rate; torch applies the schedule one step late", above=0)
    lambd: float = key(1e-4, "decay term", at_least=0)
    alpha: float = key(0.75, "exponent of the decay of the learning rate", at_least=0)
    t0: float = key(1e6, "step at which averaging starts", at_least=0)
    weight_decay: float = key(0.0, DECAY, at_least=0)


@register("optimizer", "rprop")
@dataclass
class Rprop(OptimizerConfig):
    """Only the sign of the gradient counts (Riedmiller & Braun 1993); meant for full batches."""

    lr: float = key(1e-2, "initial step size; later ones follow the signs of the gradient, not the schedule", above=0)
    etas: list[float] = key(
        [0.5, 1.2], "factors that shrink a step (sign flipped) and grow it (sign kept)", above=0, length=2
    )
    step_sizes: list[float] = key([1e-6, 50.0], "smallest and largest step size", above=0, length=2)


@register("optimizer", "sparse_adam")
@dataclass
class SparseAdam(OptimizerConfig):
    """Adam that updates only the rows a sparse embedding used; for models of such embeddings only."""

    lr: float = key(1e-3, LR, above=0)
    betas: list[float] = key([0.9, 0.999], BETAS, at_least=0, below=1, length=2)
    eps: float = key(1e-8, EPS, above=0)


@register("optimizer", "muon")
@dataclass
class Muon(OptimizerConfig):
    """Orthogonalised momentum for the hidden weight matrices (Jordan 2024); AdamW for all other parameters.

    Muon is defined for matrices: norms, biases, convolutions and the last matrix are left to AdamW.
    """

    lr: float = key(1e-3, LR, above=0)
    weight_decay: float = key(0.1, "decoupled weight decay of the matrices", at_least=0)
    momentum: float = key(0.95, "share of the last update that is kept", at_least=0, below=1)
    nesterov: bool = key(True, "Nesterov momentum")
    ns_coefficients: list[float] = key(
        [3.4445, -4.775, 2.0315], "coefficients of the Newton-Schulz iteration", length=3
    )
    eps: float = key(1e-7, EPS, at_least=0)
    ns_steps: int = key(5, "Newton-Schulz iterations", at_least=1, below=100)
    adjust_lr_fn: str | None = key(
        None,
        "how the learning rate follows the shape of a matrix; null: original",
        choices=("original", "match_rms_adamw"),
    )
    adamw_lr: float = key(1e-3, "learning rate of AdamW for the other parameters", above=0)
    adamw_weight_decay: float = key(1e-2, "weight decay of AdamW for the other parameters", at_least=0)
