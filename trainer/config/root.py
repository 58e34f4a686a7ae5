"""The whole of a run's config: one section for each group, and the few keys that belong to none."""

from dataclasses import dataclass, field

from trainer.config.data import Data, Digits
from trainer.config.model import Cnn, Model
from trainer.config.optimizer import AdamW, Optimizer
from trainer.config.scheduler import Cosine, Scheduler
from trainer.config.section import FIXED, FREE, Section, key
from trainer.config.task import Auto, Task
from trainer.config.trainer import Trainer


@dataclass
class Config(Section):
    """Everything a run is made from. `Config()` is what `train` alone trains."""

    model: Model = field(default_factory=Cnn)
    data: Data = field(default_factory=Digits)
    optimizer: Optimizer = field(default_factory=AdamW)
    scheduler: Scheduler = field(default_factory=Cosine)
    task: Task = field(default_factory=Auto)
    trainer: Trainer = field(default_factory=Trainer)

    seed: int = key(
        0,
        "decides the split, the initial weights, the order, the augmentation and the dropout",
        at_least=0,
        on_resume=FIXED,
    )
    output_dir: str = key("outputs", "folder of the run directories", on_resume=FREE)
    resume: str | None = key(
        None, "continue a run: auto | last | best | a run directory | a checkpoint", on_resume=FREE
    )
    init_from: str | None = key(
        None, "start from the weights of a run or checkpoint; nothing else of it is taken", on_resume=FIXED
    )
