"""What a run is called, and what is noted of it."""

from dataclasses import dataclass

from trainer.config.registry import register
from trainer.config.section import FREE, Section, key
from trainer.errors import ConfigError


@register("run", "default")
@dataclass
class RunConfig(Section):
    """What tells a run from others; nothing of it changes what is trained."""

    on_resume = FREE

    name: str | None = key(
        None, "by which resume=auto knows the run again, also with other settings; null: by all that was typed"
    )

    tags: list[str] = key([], "words to find it by: trainer runs tag=WORD")
    notes: str | None = key(None, "what to remember of it")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and not self.name.strip():
            raise ConfigError("run.name: must not be blank; leave it out, or give a name.")
