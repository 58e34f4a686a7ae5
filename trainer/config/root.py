"""The whole of a run's config: one section for each group, and the few keys that belong to none."""

from dataclasses import dataclass, field

from trainer.config import datasets, table, transform  # noqa: F401  # a class is registered when it is imported
from trainer.config.data import DataConfig, Digits
from trainer.config.model import Cnn, ModelConfig
from trainer.config.optimizer import AdamW, OptimizerConfig
from trainer.config.scheduler import CosineLR, SchedulerConfig
from trainer.config.section import FIXED, FREE, Section, key
from trainer.config.task import Auto, TaskConfig
from trainer.config.trainer import TrainerConfig


@dataclass
class Config(Section):
    """Everything a run is made from. `Config()` is what `train` without arguments trains."""

    model: ModelConfig = field(default_factory=Cnn)
    data: DataConfig = field(default_factory=Digits)
    optimizer: OptimizerConfig = field(default_factory=AdamW)
    scheduler: SchedulerConfig = field(default_factory=CosineLR)
    task: TaskConfig = field(default_factory=Auto)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    seed: int = key(
        0,
        "seed of the split, the initial weights, the sample order, the augmentation and the dropout",
        at_least=0,
        on_resume=FIXED,
    )
    output_dir: str = key("outputs", "folder of the run directories", on_resume=FREE)
    resume: str | None = key(
        None, "continue a run: auto | last | best | a run directory | a checkpoint", on_resume=FREE
    )
    init_from: str | None = key(
        None, "start from the weights of a run or checkpoint, and nothing else of it", on_resume=FIXED
    )
