"""The key `logger`: what it selects, and a logger that a plug-in brings."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.config.compose import compose, from_config, from_yaml, to_config, to_yaml
from trainer.config.logger import WandbLog
from trainer.config.root import Config
from trainer.errors import ConfigError

PLUGIN = '''
from dataclasses import dataclass

from trainer import LoggerConfig, key, register


@register("logger", "diary")
@dataclass
class Diary(LoggerConfig):
    """What happened, one word a line."""

    file: str = key("diary.txt", "its name in the run directory")

    def open(self, context):
        self.path = context.directory / self.file
        self.note("open", context.start_step, context.recorded, context.total_steps, context.monitor, context.mode)

    def write(self, record):
        self.note("write", record.step, *(name for name in record.scalars if name.startswith("val/")))

    def flush(self):
        self.note("flush")

    def close(self, summary):
        self.note("close", summary["status"])

    def note(self, *words):
        with open(self.path, "a") as file:
            print(*words, file=file)


@register("logger", "least")
@dataclass
class Least(LoggerConfig):
    """Only what must be there; it fails at its second record."""

    def write(self, record):
        if record.step > 2:
            raise OSError("no paper left")
'''

WORDS = ("data=synthetic", "data.num_samples=100", "model=linear", "trainer.epochs=2", "trainer.log_every=1")


def test_a_logger_of_a_plug_in_is_one_class(train: Any, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    first = train("--import", "plugin.py", *WORDS, "logger=[files,{name: diary, file: notes.txt},least]")
    assert (first.stdout + first.stderr).count("logger=least can no longer be written (no paper left)") == 1
    assert "step 4/4" not in first.stdout, "the screen was not asked for"
    [run] = tmp_path.glob("outputs/*/*")
    assert "step 4/4" in (run / "train.log").read_text()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4
    assert not (run / "tensorboard").exists()
    notes = (run / "notes.txt").read_text().splitlines()
    assert notes[0] == "open 0 0 4 val/accuracy max"
    assert [line for line in notes if line.startswith("write")] == [
        "write 1",
        "write 2 val/loss val/accuracy val/macro_f1",
        "write 3",
        "write 4 val/loss val/accuracy val/macro_f1",
    ]
    assert notes.count("flush") >= 2
    assert notes[-1] == "close completed"

    missing = train(f"resume={run}", code=2).stderr
    assert "was started with --import plugin.py: train --import plugin.py resume=" in missing
    train("--import", "plugin.py", f"resume={run}", "trainer.epochs=3", "logger=[{name: diary, file: notes.txt}]")
    more = (run / "notes.txt").read_text().splitlines()[len(notes) :]
    assert more[0] == "open 4 4 6 val/accuracy max"
    assert more[-1] == "close completed"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4, "files were not asked for"


def test_the_parts_that_keys_select_are_listed_with_their_keys_and_what_they_are_for(trainer: Any) -> None:
    loggers, metrics, losses = (trainer("list", group).stdout for group in ("logger", "metric", "loss"))
    assert "metrics.jsonl and metrics.csv" in loggers and "    project: null" in loggers
    assert "mae\n    Mean absolute error, in units of the target.\n    for regression; smaller is better\n" in metrics
    assert "for classification; larger is better; keeps the outputs of a whole validation" in metrics
    assert "    gamma: 2 " in losses and "for classification\n" in losses


def test_files_that_are_not_asked_for_any_more_are_cut_back_to_the_checkpoint(train: Any, tmp_path: Path) -> None:
    train(*WORDS, "logger=[files]")
    [run] = tmp_path.glob("outputs/*/*")
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 99, "train/loss": 1.0}) + "\n")
    train(f"resume={run}", "trainer.epochs=3", "logger=[]")
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("loggers", "words"),
    [
        (["tensorbord"], "logger: no logger 'tensorbord'. Did you mean 'tensorboard'? Loggers: console, files, mlflow"),
        (["files", "files"], "logger: files is there twice; leave one out."),
        ([{"name": "wandb", "projct": "x"}], "logger: wandb has no key 'projct'. Did you mean 'project'?"),
        ([{"name": "wandb", "mode": "on"}], "logger: wandb.mode=on: not one of online, offline."),
        ([{"project": "x"}], "does not say which logger; write {name: wandb, project: demo}."),
        ("files", "logger=files: expected a list of any, such as [a,b]."),
    ],
)
def test_a_logger_that_does_not_exist_is_one_sentence(loggers: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config(logger=loggers)
    assert words in str(error.value)


def test_loggers_are_typed_as_names_and_mappings_and_saved_as_typed() -> None:
    cfg = compose(["logger=[files,{name: wandb, project: x, tags: [a, b]}]"])
    expected = ["files", {"name": "wandb", "project": "x", "tags": ["a", "b"]}]
    assert to_config(cfg).logger == expected
    assert to_config(from_yaml(to_yaml(cfg), "x")).logger == expected
    assert to_config(compose([])).logger == Config().logger == ["console", "files", "tensorboard"]


def test_a_logger_from_python_is_saved_with_its_name() -> None:
    saved = to_config(from_yaml(to_yaml(from_config(Config(logger=[WandbLog(project="x")]))), "x"))
    [one] = saved.logger_configs()
    assert one == WandbLog(project="x")


def test_a_logger_that_cannot_begin_ends_the_run_and_closes_those_before_it(train: Any, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        PLUGIN
        + """
    def open(self, context):
        raise ConfigError("logger=least: there is no paper.")
""".replace("ConfigError", "__import__('trainer.errors').errors.ConfigError")
    )
    path = tmp_path / "diary.txt"
    said = train("--import", "plugin.py", *WORDS, f"logger=[{{name: diary, file: {path}}},least]", code=2)
    assert said.stderr == "error: logger=least: there is no paper.\n"
    assert path.read_text().splitlines() == ["open 0 0 4 val/accuracy max", "close failed"]
    assert not (tmp_path / "outputs").exists()
