"""How a run ends and what it says to type next: the advice must work."""

import json
import re
from pathlib import Path

import pytest
from support import TINY, the_run

from trainer import Config, assemble
from trainer.errors import ConfigError

QUIET = (*TINY, "trainer.log_every=null")


def advice(output: str) -> list[str]:
    """The words of the "next" line after `train`, without the remark in brackets."""
    line = re.search(r"^next +train (.*)$", output, flags=re.MULTILINE)
    assert line is not None, output
    return re.sub(r" +\(.*\)$", "", line[1]).split()


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
