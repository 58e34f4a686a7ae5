"""The command line: what is refused and how, what is printed, and what it costs to ask."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import TINY, start_trainer

from trainer import cli
from trainer.commands.help import help_text
from trainer.config import registry
from trainer.config.yaml_files import options

WORDS = (*TINY, "trainer.epochs=1")
GROUPS = ("model", "data", "optimizer", "scheduler", "task", "trainer", "run", "sweep", "experiment")

MISTAKES = {  # what is typed: words of the message
    "model=cnnn": ["model=cnnn", "Did you mean 'cnn'?", "linear, mlp"],
    "modle=cnn": ["modle", "Did you mean 'model'?"],
    "optimizer.lrr=1e-3": ["optimizer.lrr", "Did you mean 'optimizer.lr'?"],
    "lr=1e-3": ["lr: no such key", "Did you mean 'optimizer.lr'?"],
    "seeed=1": ["seeed", "Did you mean 'seed'?"],
    "model.hidden=[8]": ["model.hidden", "model=mlp"],
    "scheduler=cos": ["scheduler=cos", "Did you mean 'cosine'?"],
    "experiment=nothing": ["experiment=nothing", "no such option"],
    "trainer.precision=fp33": ["trainer.precision=fp33", "Did you mean 'fp32'?"],
    "optimizer.lr=fast": ["optimizer.lr=fast", "expected float"],
    "trainer.epochs=1.5": ["trainer.epochs=1.5", "expected int"],
    "optimizer.betas=3": ["optimizer.betas=3", "list of float"],
    "optimizer.lr=-1": ["optimizer.lr=-1.0", "> 0"],
    "trainer.epochs=0": ["trainer.epochs=0", ">= 1"],
    "data.val_fraction=1": ["data.val_fraction=1", "< 1"],
    "scheduler.warmup=soon": ["scheduler.warmup=soon", "not a duration"],
    "+optimizer.foo=1": ["optimizer.foo", "no such key"],
    "++optimizer.foo=1": ["optimizer.foo", "no such key"],
    "+foo=1": ["foo", "no such key"],
    "hydra.run.dir=here": ["hydra.run.dir", "output_dir"],
    "~optimizer": ["~optimizer", "cannot be removed"],
    "trainer.device=gpu": ["trainer.device=gpu", "cuda"],
    "trainer.device=cuda:99": ["trainer.device=cuda:99", "trainer.device=auto"],
    "data=csv": ["data.path"],
    "data=csv data.path=missing.csv data.target=y": ["data.path=missing.csv", "no such file"],
    "model=cnn data=synthetic": ["model=cnn", "model=mlp"],
    "optimizer.lr=1e-2,1e-3": ["optimizer.lr=1e-2,1e-3", "-m"],
    "seed=range(0,3)": ["seed=range(0,3)", "-m"],
    "optimizer.lr": ["'optimizer.lr'", "key=value"],
    "trainer.monitor=val/acuracy": ["trainer.monitor=val/acuracy", "val/accuracy"],
    "seed=${oc.env:NO_SUCH_VARIABLE}": ["seed", "NO_SUCH_VARIABLE"],
    "resume=missing": ["resume=missing", "no such run directory"],
    "--config-dir missing": ["--config-dir missing", "no such folder"],
    "--import missing.py": ["--import missing.py", "no such file"],
    "--epochs 3": ["--epochs"],
    "--im": ["--im"],
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_message_with_the_way_out_and_leaves_nothing(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.run("train", typed.split())
    except SystemExit as stop:  # how argparse ends
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("error: ") == 1
    assert "Traceback" not in printed.err
    assert [word for word in MISTAKES[typed] if word not in printed.err] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", ["optimizer.lrr=1e-3", "data=csv data.path=missing.csv data.target=y", "--epochs 3"])
def test_the_process_exits_with_2_and_no_traceback(typed: str, train, tmp_path: Path) -> None:
    result = train(*typed.split(), code=2)
    assert result.stdout == ""
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "outputs").exists()


def test_several_processes_are_refused(train, tmp_path: Path) -> None:
    result = train(*WORDS, code=2, WORLD_SIZE="2")
    assert result.stderr.startswith("error: WORLD_SIZE=2")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_help_gives_every_group_and_option_a_line() -> None:
    sections = dict(re.findall(r"^(\w+)=\n((?:  .+\n)*)", help_text() + "\n", re.MULTILINE))
    assert set(sections) == set(GROUPS)
    for group in GROUPS:
        lines = dict(line.split(maxsplit=1) for line in sections[group].splitlines())
        assert sorted(lines) == options(group)
        assert all(len(text) > 10 for text in lines.values())
    assert {"cnn", "linear", "mlp"} <= set(options("model"))


def imported(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the top-level packages that it imports."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trainer", *arguments],
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    names = re.findall(r"^import time:.*\|\s*([\w.]+)$", result.stderr, re.MULTILINE)
    return result.stdout, {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("train --help", "model=\n  attention "),
        ("train --version", "trainer "),
        ("--help", "explain"),
        ("--version", "trainer "),
        ("list", "cnn, linear"),
        ("list model", "model=cnn\n"),
        ("explain optimizer.lr", "optimizer.lr: float"),
        ("learn", "4  autograd "),
    ],
)
def test_asking_imports_neither_torch_nor_hydra(arguments: str, shown: str) -> None:
    output, packages = imported(*arguments.split())
    assert shown in output
    assert "trainer" in packages
    assert packages & {"torch", "torchvision", "numpy", "hydra", "omegaconf", "rich"} == set()


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export", "runs", "compare", "clean"])
def test_the_help_of_a_verb_imports_no_torch(verb: str) -> None:
    output, packages = imported(verb, "--help")
    assert output.startswith(f"usage: trainer {verb}")
    assert packages & {"torch", "torchvision", "numpy", "hydra", "omegaconf"} == set()


def test_the_version_is_that_of_the_package(trainer, train) -> None:
    from trainer import __version__

    assert train("--version").stdout == trainer("--version").stdout == f"trainer {__version__}\n"


def test_cfg_prints_the_config_and_flags_may_stand_among_the_overrides(train, tmp_path: Path) -> None:
    experiments = tmp_path / "mine" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "small.yaml").write_text("# @package _global_\ntrainer:\n  epochs: 7\n")
    result = train("model=mlp", "--cfg", "optimizer.lr=3e-2", "--config-dir", "mine", "experiment=small", "seed=4")
    config = OmegaConf.create(result.stdout)
    assert (config.options.model, config.optimizer.lr, config.trainer.epochs, config.seed) == ("mlp", 0.03, 7, 4)
    assert not (tmp_path / "outputs").exists()


def test_list_names_every_option_with_its_keys(trainer) -> None:
    groups = dict(line.partition(" ")[::2] for line in trainer("list").stdout.splitlines())
    assert set(groups) == set(GROUPS)
    assert groups["model"].strip() == ", ".join(options("model"))
    text = trainer("list", "model").stdout
    assert re.findall(r"^model=(\w+)$", text, re.MULTILINE) == options("model")
    assert re.search(r"^    model.hidden=\[128,64\] +\w+", text, re.MULTILINE)


def test_list_names_the_transforms_with_their_keys(trainer) -> None:
    text = trainer("list", "transform").stdout
    assert re.findall(r"^(\w+)$", text, re.MULTILINE) == registry.names("transform")
    assert re.search(r"^clip\n    Clip .*\n    low: 0.01 +lower quantile", text, re.MULTILINE)


def test_explain_gives_type_default_range_and_meaning(trainer) -> None:
    text = trainer("explain", "optimizer.lr", "model=cnn", "seed", "task").stdout
    assert re.search(r"^optimizer.lr: float, default 0.001, > 0\n    learning rate", text, re.MULTILINE)
    assert "optimizer=adamw" in text
    assert re.search(r"^model=cnn: CNNClassifier.*\nmodel.conv_dropout: float, default 0.25, >= 0, < 1$", text, re.M)
    assert re.search(r"^seed: int, default 0, >= 0\n    seed of", text, re.MULTILINE)
    assert re.search(r"^  classification +One class", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("verb", "argument", "hint"),
    [
        ("explain", "optimizer.lrr", "Did you mean 'optimizer.lr'?"),
        ("explain", "model=cnnn", "Did you mean 'cnn'?"),
        ("explain", "sede", "Did you mean 'seed'?"),
        ("list", "nope", "Groups: model, data"),
        ("list", "modle", "Did you mean 'model'?"),
        ("lst", "model", "Did you mean 'list'?"),
    ],
)
def test_a_typo_in_a_question_is_refused_with_the_nearest_name(
    verb: str, argument: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(verb, [argument]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert hint in printed.err


BROKEN_MODEL = '''
from dataclasses import dataclass

from torch import nn

from trainer import Config, register
from trainer.config.model import ModelConfig


class Broken(nn.Linear):
    def forward(self, x):
        raise RuntimeError("the network of a test is broken")


@register("model", "broken")
@dataclass
class BrokenConfig(ModelConfig):
    """Fails in its first step."""

    def build(self, spec):
        return Broken(spec.features, spec.outputs)
'''


def test_a_bug_inside_a_run_keeps_its_traceback_there_and_in_the_log(train, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_MODEL)
    result = train("--import", "broken.py", *WORDS, "model=broken", code=1)
    [run] = (tmp_path / "outputs").glob("*/*")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["reason"] == "RuntimeError: the network of a test is broken"
    for text in (result.stderr, (run / "train.log").read_text()):
        assert "Traceback (most recent call last)" in text
        assert f'File "{tmp_path / "broken.py"}"' in text or 'File "broken.py"' in text
        assert "RuntimeError: the network of a test is broken" in text


def test_a_run_that_diverges_fails_with_a_message_and_no_traceback(train, tmp_path: Path) -> None:
    result = train(*WORDS, "optimizer=sgd", "optimizer.lr=1e38", "trainer.epochs=4", code=1)
    assert "Traceback" not in result.stderr
    assert re.match(r"error: .*diverged.*optimizer\.lr", result.stderr)
    [run] = (tmp_path / "outputs").glob("*/*")
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"


def test_a_reader_that_leaves_gets_no_traceback(tmp_path: Path) -> None:
    process = start_trainer(tmp_path, "train", *WORDS, "trainer.epochs=30")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("run ")
    process.stdout.close()
    error = process.stderr.read()
    process.wait(60)
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    assert "BrokenPipe" not in error


@pytest.mark.parametrize("arguments", ["train --help", "explain seed", "--help"])
def test_an_answer_into_a_closed_pipe_is_silent(arguments: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "trainer", *arguments.split()],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert result.stderr == ""
