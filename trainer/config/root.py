"""The whole of a run's config: one section for each group, and the few keys that belong to none."""

from dataclasses import dataclass, field
from typing import Any

from trainer.config import datasets, parts, scheduler_phases, table, transform  # noqa: F401  # importing a class registers it
from trainer.config.data import DataConfig, Digits
from trainer.config.logger import LoggerConfig
from trainer.config.model import Cnn, ModelConfig
from trainer.config.optimizer import AdamW, OptimizerConfig
from trainer.config.run import RunConfig
from trainer.config.scheduler import CosineLR, SchedulerConfig
from trainer.config.section import FIXED, FREE, Section, key
from trainer.config.sweep import GridSweep, SweepConfig
from trainer.config.task import Auto, TaskConfig
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError


@dataclass
class Config(Section):
    """Everything a run is made from. `Config()` is what `train` without arguments trains."""

    model: ModelConfig = field(default_factory=Cnn)
    data: DataConfig = field(default_factory=Digits)
    optimizer: OptimizerConfig = field(default_factory=AdamW)
    scheduler: SchedulerConfig = field(default_factory=CosineLR)
    task: TaskConfig = field(default_factory=Auto)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    seed: int = key(
        0,
        "seed of the split, the initial weights, the sample order, the augmentation and the dropout",
        at_least=0,
        on_resume=FIXED,
    )
    output_dir: str = key("outputs", "folder of the run directories", on_resume=FREE)
    resume: str | None = key(
        None,
        "continue a run: auto (what this command has begun) | last | best | a run directory | a checkpoint",
        on_resume=FREE,
    )
    init_from: str | None = key(
        None, "start from the weights of a run or checkpoint, and nothing else of it", on_resume=FIXED
    )
    logger: list[Any] = key(
        ["console", "files", "tensorboard"],
        "where the records of training and validation go (trainer list logger); train.log is always written",
        on_resume=FREE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.logger = [parts.plain(entry) for entry in self.logger]
        self.logger_configs()

    def logger_configs(self) -> list[LoggerConfig]:
        """Return what `logger` names, in its order.

        Raises:
            ConfigError: for a logger that does not exist, does not have such a key, or is named twice.
        """
        chosen: list[LoggerConfig] = parts.select("logger", self.logger, "logger", may_be_empty=True)
        names = [one.option for one in chosen]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"logger: {twice[0]} is there twice; leave one out.")
        return chosen

    @property
    def has_outside_parts(self) -> bool:
        """Whether a part that computes in training is from a plug-in: data, model, optimizer, schedule, task, loss."""
        parts: list[object] = [self.model, self.data, self.optimizer, self.scheduler, self.task]
        chosen = getattr(self.task, "loss_config", None)
        return any(is_outside(type(part)) for part in (*parts, chosen() if chosen else None))


@dataclass
class ComposedConfig(Config):
    """What the YAML files give together: the config of a run, and how a sweep works off many of them."""

    sweep: SweepConfig = field(default_factory=GridSweep)


def is_outside(thing: object) -> bool:
    """Return whether a class or function is from outside the package, and not one of Python's own."""
    module: str = getattr(thing, "__module__", "builtins")
    return module.partition(".")[0] not in (__name__.partition(".")[0], "builtins")
