"""What the first screen says of durations that do not come out in whole steps."""

from pathlib import Path

from support import TINY

from trainer import cli
from trainer.config.root import Config
from trainer.config.scheduler import CosineLR, MultiStepLR
from trainer.config.trainer import TrainerConfig
from trainer.runs.summary import rounded_lines
from trainer.training.timeline import Timeline


def rounded(trainer: TrainerConfig, **sections: CosineLR | MultiStepLR) -> list[tuple[str, str]]:
    return rounded_lines(Config(trainer=trainer, **sections), Timeline.of(trainer, steps_per_epoch=23))


def test_rounded_durations_of_the_engine_and_the_schedule_are_one_line() -> None:
    trainer = TrainerConfig(epochs=10, eval_every="0.3ep", log_every="7", save_every="20min")
    assert rounded(trainer, scheduler=CosineLR(warmup="7%")) == [
        ("rounded", "scheduler.warmup=7% is 16 steps (6.96%), trainer.eval_every=0.3ep is 7 steps (0.304ep)")
    ]
    schedule = MultiStepLR(milestones=["50%", "33%"])
    assert rounded(TrainerConfig(epochs=10), scheduler=schedule) == [
        ("rounded", "scheduler.milestones=33% is 76 steps (33.04%)")
    ]


def test_where_every_duration_fits_there_is_no_line() -> None:
    assert rounded(TrainerConfig(epochs=10, log_every=None, eval_every="0")) == []


def test_the_first_screen_has_the_line(tmp_path: Path, capsys) -> None:
    words = [*TINY, "trainer.epochs=1", f"output_dir={tmp_path}", "trainer.fast_dev_run=true"]
    assert cli.run("train", [*words, "trainer.save_every=0.5ep"]) == 0
    assert "rounded   trainer.save_every=0.5ep is 2 steps" in capsys.readouterr().out
