"""How a run ends and what it says to type next: the advice must work."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from support import TINY, the_run

from trainer import Config, assemble
from trainer.config.quoting import typed_override
from trainer.errors import ConfigError

QUIET = (*TINY, "trainer.log_every=null")


def advice(output: str) -> list[str]:
    """The words of the "next" line after `train`, as a shell gives them to it."""
    return pasted(output, "next")[1:]


def pasted(output: str, name: str) -> list[str]:
    """The words of the command in the line of that name, as a shell reads them."""
    line = re.search(rf"^{name} +(.*)$", output, flags=re.MULTILINE)
    assert line is not None, output
    script = f"show() {{ printf '%s\\0' \"$@\"; }}; show {line[1]}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def steps(folder: Path) -> int:
    return int(json.loads((the_run(folder) / "summary.json").read_text())["steps"])


def test_the_advice_after_completion_and_after_early_stopping_trains_on(train, tmp_path):
    output = train(*QUIET, "trainer.epochs=2").stdout
    done = steps(tmp_path)
    train(*advice(output))
    assert steps(tmp_path) == 2 * done


def test_the_advice_after_early_stopping_is_more_patience(train, tmp_path):
    still = (*QUIET, "optimizer.lr=1e-12", "trainer.patience=2", "trainer.epochs=50")
    output = train(*still).stdout
    assert "early stopping" in output
    done = steps(tmp_path)
    train(*advice(output))
    assert steps(tmp_path) > done


NASTY = "it's [red] a,b=1 :dog: #(ü) 50% $HOME \\"


def test_advice_can_be_pasted_whatever_the_folder_is_called(train, tmp_path):
    name = f"{NASTY}${{x}}"
    output = train(*QUIET, typed_override("output_dir", name), "trainer.epochs=1").stdout
    run = the_run(tmp_path)
    assert run.parent.parent == tmp_path / name
    assert f"{name}/" in output.splitlines()[0]
    program, option, folder = pasted(output, "watch")
    assert (program, option, (tmp_path / folder).resolve()) == ("tensorboard", "--logdir", run / "tensorboard")
    assert pasted(output, "next")[:-1] == pasted(output, "resume")
    output = train(*pasted(output, "next")[1:]).stdout
    assert f"{name}/" in output.splitlines()[0]
    assert steps(tmp_path) == 6
    assert "already made" in train(*pasted(output, "resume")[1:], "trainer.epochs=1", code=2).stderr


PLUGIN = """
from trainer import register
from trainer.config.model import Linear

@register("model", "theirs")
class Theirs(Linear):
    pass
"""


def test_a_forgotten_plug_in_is_answered_with_the_command_to_paste(train, tmp_path):
    (tmp_path / "my plug-in.py").write_text(PLUGIN)
    train("--import", "my plug-in.py", *QUIET, "model=linear", "trainer.epochs=1")
    run = the_run(tmp_path)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("model: linear", "model: theirs"))
    error = train(f"resume={run}", "trainer.epochs=2", code=2).stderr
    words = pasted(f"type {error.partition('plug-in.py')[2].partition(': ')[2]}", "type")
    assert words[:3] == ["train", "--import", "my plug-in.py"]
    train(*words[1:], "trainer.epochs=2")


def test_a_sweep_and_its_configs_may_be_in_folders_of_any_name(train, tmp_path):
    experiments = tmp_path / f"{NASTY}${{x}}" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "mine.yaml").write_text("# @package _global_\ntrainer:\n  epochs: 1\n")
    words = ("--config-dir", str(experiments.parent), "experiment=mine", typed_override("output_dir", NASTY))
    output = train("-m", *QUIET, *words, "seed=0,1").stdout
    assert f"sweep     2 trials in {NASTY}/" in output
    [results] = (tmp_path / NASTY).glob("*/*/results.csv")
    assert f"results   {results.relative_to(tmp_path)}" in output


def test_names_of_classes_are_shown_as_they_are(train, trainer, tmp_path):
    rows = "".join(f"{i % 7},{('[red]', ':dog:')[i % 2]}\n" for i in range(60))
    (tmp_path / "t.csv").write_text(f"x,label\n{rows}")
    train("data=csv", "data.path=t.csv", "data.target=label", "model=linear", "trainer.epochs=1")
    output = trainer("evaluate", str(the_run(tmp_path))).stdout
    assert re.findall(r"^(\S+) +\d+ +\S+ +\S+$", output, re.MULTILINE) == [":dog:", "[red]"]


def test_a_run_out_of_time_goes_on_when_it_is_resumed(train, tmp_path):
    output = train(*QUIET, "trainer.max_time=1s", "trainer.epochs=1000000", "trainer.eval_every=null", code=124).stdout
    assert json.loads((the_run(tmp_path) / "summary.json").read_text())["status"] == "stopped"
    done = steps(tmp_path)
    train(*advice(output), code=124)
    assert steps(tmp_path) > done


def test_a_trial_says_nothing_of_going_on(train):
    assert "next" not in train(*QUIET, "trainer.fast_dev_run=true").stdout


def test_a_change_that_ends_in_the_past_is_refused_and_leaves_the_run_alone(train, tmp_path):
    train(*QUIET, "trainer.epochs=4")
    run = the_run(tmp_path)
    before = {name: (run / name).read_bytes() for name in ("config.yaml", "summary.json", "metrics.jsonl")}
    error = train(f"resume={run}", "trainer.epochs=2", code=2).stderr
    assert "already made" in error and "trainer.epochs" in error
    assert before == {name: (run / name).read_bytes() for name in before}


@pytest.mark.parametrize("change", ["data.batch_size=32", "trainer.limit_train=1", "data.drop_last=true"])
def test_what_an_epoch_is_cannot_change_in_the_middle_of_a_run(train, tmp_path, change):
    train(*QUIET, "trainer.epochs=1")
    assert change.partition("=")[0] in train(f"resume={the_run(tmp_path)}", change, code=2).stderr


def test_resume_with_a_plus_is_no_key_of_the_run(train, tmp_path):
    train(*QUIET, "trainer.epochs=1")
    train("+resume=last", "trainer.epochs=2")
    assert "resume: null" in (the_run(tmp_path) / "config.yaml").read_text()


def test_a_sweep_out_of_time_is_no_failure(train, tmp_path):
    train("-m", *QUIET, "trainer.max_time=1s", "trainer.epochs=1000000", "seed=0,1")


def test_from_python_a_config_cannot_ask_to_resume():
    with pytest.raises(ConfigError, match="resume=moved"):
        assemble(Config(resume="moved"))


def test_explain_finds_the_section_of_a_bare_key(trainer):
    assert "Did you mean 'trainer.ema'?" in trainer("explain", "ema", code=2).stderr
