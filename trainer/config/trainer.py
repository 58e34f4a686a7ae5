"""The settings of the training loop."""

import re
from dataclasses import dataclass

from trainer.config import durations
from trainer.config.registry import register
from trainer.config.section import FIXED, FREE, Section, key
from trainer.errors import ConfigError

EPOCHS = 20  # of a run whose length nobody says


@register("trainer", "default")
@dataclass
class TrainerConfig(Section):
    """How long, where and how precisely to train; what to log and save."""

    epochs: int | None = key(
        None, f"passes over the training data; null: {EPOCHS}, and of a table at least 1,000 steps", at_least=1
    )
    steps: int | None = key(None, "optimizer steps; overrides epochs", at_least=1)
    max_time: str | None = key(
        None,
        "wall-clock limit of this process, such as 90min: it then saves and stops with exit code 124",
        on_resume=FREE,
    )

    device: str = key("auto", "auto | cpu | cuda | cuda:N | mps; auto: the best available")
    precision: str = key(
        "auto", "auto: bf16 on a GPU that supports it, else fp32", choices=("auto", "fp32", "bf16", "fp16")
    )
    compile: bool = key(False, "compile the model with torch.compile: a slower start, faster steps")
    channels_last: bool | None = key(
        None, "store images channels-last; null: for convolutions on a CPU or in 16 bits, where it is faster"
    )
    micro_batch: int | None = key(
        None,
        "samples per forward pass; gradients are accumulated over the batch, but BatchNorm's statistics are of these "
        "samples; null: the whole batch",
        at_least=1,
    )
    auto_micro_batch: bool = key(
        False,
        "halve micro_batch and retry when the device runs out of memory; the batch size stays the same",
        on_resume=FREE,
    )
    deterministic: bool = key(
        False, "use only deterministic algorithms, or fail; a GPU needs it for bit-identical runs"
    )
    threads: int | None = key(None, "CPU threads; null: torch's own choice, at most the available cores", at_least=1)
    flush_denormals: bool = key(True, "treat numbers below 1.2e-38 as zero: a CPU is many times slower on them")
    malloc: bool = key(True, "let glibc keep freed memory for the next step, up to 1 GiB", on_resume=FREE)

    clip_norm: float | None = key(
        None, "maximum L2 norm of the gradient over all parameters; larger gradients are scaled down", above=0
    )
    on_nan: str = key(
        "stop",
        "on a non-finite loss or gradient, whose step is never made: stop; skip the step; rollback to the last "
        "checkpoint with a lower learning rate",
        choices=("stop", "skip", "rollback"),
        on_resume=FREE,
    )
    on_nan_limit: int = key(
        5, "stop after this many skipped steps in a row, or rollbacks in a run", at_least=1, on_resume=FREE
    )
    on_nan_factor: float = key(0.5, "factor on the learning rate at each rollback", above=0, at_most=1, on_resume=FREE)
    ema: float | None = key(
        None,
        "decay of a moving average of the weights, e.g. 0.999: it is validated beside them (val_ema/…), and the better "
        "of the two is used",
        above=0,
        below=1,
    )
    ema_warmup: bool = key(True, "let that decay rise from 0, so that the first weights do not stay in the average")

    monitor: str | None = key(
        None,
        "score that decides which checkpoint is best, such as loss; null: the task's own; with ema: that of the better "
        "weights, unless it is named val/… or val_ema/…",
    )
    mode: str = key(
        "auto",
        "minimise or maximise the monitored score; auto: the score's own direction",
        choices=("auto", "min", "max"),
    )
    patience: int | None = key(None, "stop after this many validations without improvement; null: never", at_least=1)
    min_delta: float = key(0.0, "smallest improvement of the score that resets the patience", at_least=0)
    best_of_equals: str = key(
        "first", "the weights to keep where several have the best score", choices=("first", "last")
    )

    log_every: str | None = key(
        "50", "how often to record training metrics; null: at the end only", duration=True, on_resume=FREE
    )
    eval_every: str | None = key(
        "auto",
        f"how often to validate; auto: after each epoch, or {EPOCHS} times where a table takes more than {EPOCHS} "
        "epochs by itself; null: at the end only",
        duration=True,
        auto=True,
    )
    save_every: str | None = key(
        "1ep", "how often to save a checkpoint; null: at the end only", duration=True, on_resume=FREE
    )
    keep: int = key(2, "number of latest checkpoints to keep, beside the best", at_least=2, on_resume=FREE)
    log_histograms: str | None = key(
        None,
        "how often to record histograms of weights and gradients in TensorBoard; null: never",
        duration=True,
        on_resume=FREE,
    )
    log_gradients: str | None = key(
        None,
        "how often to record the size of the gradients and updates of each layer (gradients.jsonl, TensorBoard and, at "
        "the end, gradient_flow.png); null: never",
        duration=True,
        on_resume=FREE,
    )

    limit_train: str | None = key(
        None, "train on part of the data: a number of batches, or a share such as 10%", on_resume=FIXED
    )
    limit_val: str | None = key(None, "validate on part of the data: a number of batches, or a share such as 10%")
    fast_dev_run: bool = key(
        False, "try everything once: 3 steps, one validation batch, one checkpoint", on_resume=FIXED
    )
    overfit_batches: int | None = key(
        None, "train and validate on the same N batches, without augmentation", at_least=1, on_resume=FIXED
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", self.device):
            raise ConfigError(f"trainer.device={self.device}: not one of auto, cpu, cuda, cuda:N, mps.")
        if self.max_time is not None:
            durations.parse_seconds(self.max_time, "trainer.max_time")
        for name in ("limit_train", "limit_val"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(
                r"[1-9]\d*|100(\.0+)?%|[1-9]\d?(\.\d+)?%|0?\.\d*[1-9]\d*%", value
            ):
                raise ConfigError(
                    f"trainer.{name}={value}: must be a number of batches, such as 10, or a share, such as 5%."
                )
        if (
            self.eval_every is None
            or (self.eval_every != "auto" and not durations.parse_duration(self.eval_every, "trainer.eval_every").value)
        ) and self.patience is not None:
            raise ConfigError("trainer.patience needs validation: set trainer.eval_every, e.g. to 1ep.")
