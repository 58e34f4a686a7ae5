"""The user's folders of YAML files: what they replace, what is read of them, and what is refused."""

import contextlib
from pathlib import Path

import pytest
import yaml
from support import Command

from trainer import cli
from trainer.config import compose
from trainer.config.root import Config
from trainer.errors import ConfigError
from trainer.runs.start_record import CommandLine

GLOBAL = "# @package _global_\n"


def write(folder: Path, **files: str) -> Path:
    """Write files by `group__name__suffix`; return the folder."""
    for name, text in files.items():
        *group, stem, suffix = name.split("__")
        path = folder.joinpath(*group) / f"{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def composed(folder: Path, *overrides: str) -> Config:
    return compose.to_config(compose.compose(overrides, [folder]))


@pytest.mark.parametrize("text", ["hidden: [7]\n", "{}\n"])
def test_a_file_that_does_not_say_what_it_is_a_variant_of_is_told_how(tmp_path: Path, text: str) -> None:
    mine = write(tmp_path, model__small__yml=text)
    with pytest.raises(ConfigError, match=r"The file chosen for model .* begin it with 'defaults: \[SCHEMA, _self_\]'"):
        composed(mine, "model=small")


def test_a_file_with_a_packaged_name_takes_its_place_and_that_is_known(tmp_path: Path) -> None:
    mine = write(
        tmp_path,
        optimizer__adamw__yaml="defaults: [_adamw, _self_]\nlr: 0.123\n",
        trainer__default__yaml="defaults: [_default, _self_]\nepochs: 2\n",
        experiment__digits__yaml=GLOBAL + "trainer:\n  epochs: 3\n",
        experiment__own__yaml=GLOBAL + "seed: 4\n",
    )
    plain = composed(mine)
    assert (plain.optimizer.lr, plain.trainer.epochs) == (0.123, 2)
    assert composed(mine, "experiment=digits").trainer.epochs == 3
    names = [path.relative_to(mine).as_posix() for path in compose.user_files(["experiment=digits"], [mine])]
    assert sorted(names) == ["experiment/digits.yaml", "optimizer/adamw.yaml", "trainer/default.yaml"]
    assert "optimizer/adamw.yaml" not in {
        path.relative_to(mine).as_posix() for path in compose.user_files(["optimizer=sgd", "experiment=own"], [mine])
    }


def test_the_first_of_several_folders_goes_first(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / name, experiment__mine__yaml=f"{GLOBAL}seed: {seed}\n") for name, seed in (("a", 1), ("b", 2))
    ]
    assert compose.to_config(compose.compose(["experiment=mine"], folders)).seed == 1


def test_a_root_without_defaults_sets_keys_and_an_experiment_goes_over_it(tmp_path: Path) -> None:
    mine = write(
        tmp_path,
        train__yaml="trainer:\n  epochs: 1\nseed: 7\n",
        experiment__mine__yml=GLOBAL + "seed: 8\n",
    )
    assert (composed(mine).trainer.epochs, composed(mine).seed) == (1, 7)
    assert (composed(mine, "experiment=mine").trainer.epochs, composed(mine, "experiment=mine").seed) == (1, 8)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    mine = write(tmp_path, experiment__mine__yml=GLOBAL, experiment__mine__yaml=GLOBAL)
    with pytest.raises(ConfigError, match=r"mine\.yaml and mine\.yml have one name; remove one of them"):
        composed(mine, "experiment=mine")
    assert composed(mine, "seed=3").seed == 3  # neither is used


def test_a_file_may_name_one_of_a_folder_of_its_own(tmp_path: Path) -> None:
    text = GLOBAL + "defaults:\n  - /base/common@_global_\n"
    mine = write(tmp_path, base__common__yaml="seed: 77\n", experiment__mine__yaml=text)
    assert composed(mine, "experiment=mine").seed == 77


def test_only_files_that_are_used_are_read(tmp_path: Path) -> None:
    mine = write(
        tmp_path, model__cnn__yaml="hidden: [\n", experiment__broken__yaml="a: [\n", experiment__ok__yaml=GLOBAL
    )
    assert composed(mine, "model=mlp", "experiment=ok").model.option == "mlp"
    for words in ((), ("model=mlp", "experiment=broken")):
        with pytest.raises(ConfigError, match="not a YAML file"):
            composed(mine, *words)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("seed: 3\n", "it begins with the line '# @package _global_'"),
        (GLOBAL + "defaults:\n  - /model: mlp\n", "write 'override /model: mlp'"),
        (GLOBAL + "defaults:\n  - model: mlp\n", "write 'override /model: mlp'"),
        (GLOBAL + "defaults:\n  - override model: mlp\n", "write 'override /model: mlp'"),
    ],
)
def test_an_experiment_that_would_not_do_what_it_says_is_told_how(tmp_path: Path, text: str, mend: str) -> None:
    mine = write(tmp_path, experiment__mine__yaml=text)
    with pytest.raises(ConfigError) as refused:
        composed(mine, "experiment=mine")
    assert mend in str(refused.value) and "mine.yaml" in str(refused.value)


TINY = ("data=synthetic", "model=linear", "trainer.threads=1", "trainer.steps=3")


def test_the_config_of_a_run_is_the_beginning_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = write(tmp_path / "mine", optimizer__adamw__yaml="defaults: [_adamw, _self_]\nlr: 0.123\n")
    with contextlib.chdir(tmp_path):
        assert cli.run("train", ["--config-dir", str(mine), *TINY, "seed=5"]) == 0
        assert f"config    {mine}/optimizer/adamw.yaml in place of the packaged one" in capsys.readouterr().out
        (first,) = tmp_path.glob("outputs/*/*/config.yaml")
        assert cli.run("train", ["--config", str(first), "trainer.steps=2"]) == 0
        (second,) = set(tmp_path.glob("outputs/*/*/config.yaml")) - {first}
        before, after = (yaml.safe_load(path.read_text()) for path in (first, second))
        assert after["trainer"].pop("steps") == 2 and before["trainer"].pop("steps") == 3
        assert before == after and after["seed"] == 5
        loaded = f"{first.read_text()}".replace("init_from: null", f"init_from: {first.parent}")
        first.write_text(loaded)
        assert CommandLine.parse([], [], [], first).compose().init_from is None  # only what is typed is loaded
        capsys.readouterr()
        assert cli.run("train", ["--config", str(first), f"resume={first.parent}"]) == 2
        assert "takes the config of that run" in capsys.readouterr().err


def test_help_lists_the_users_options_and_cfg_resolves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write(tmp_path, experiment__mine__yml="# @package _global_\n# What I train.\n")
    assert cli.run("train", ["--config-dir", str(mine), "--help"]) == 0
    assert "  mine              What I train.\n" in capsys.readouterr().out
    monkeypatch.setenv("WHERE", "runs")
    word = "output_dir=${oc.env:WHERE}"
    for flags, expected in ((["--cfg"], "${oc.env:WHERE}"), (["--cfg", "--resolve"], "runs")):
        assert cli.run("train", [*flags, word]) == 0
        assert f"output_dir: {expected}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["--info"], "train --cfg prints the config"),
        (["--hydra-help"], "train --help"),
        (["-cn", "other"], "experiment=NAME chooses a file"),
        (["--config-path", "x"], "--config-dir DIR"),
        (["-sc", "install=bash"], "trainer completion bash"),
        (["--optimizer.lr=0.1"], "without dashes: optimizer.lr=0.1"),
        (["--lr", "0.1"], "without dashes: lr=VALUE"),
        (["hydra.run.dir=x", "--cfg"], "the folder of the runs is output_dir"),
        (["optimizer.betas.0=0.8", "--cfg"], "write the whole list: optimizer.betas=[…]"),
        (["trainer.gradient_clip_val=1", "--cfg"], "Did you mean 'trainer.clip_norm'?"),
        (["trainer.accumulate_grad_batches=4", "--cfg"], "Did you mean 'trainer.micro_batch'?"),
        (["--resolve"], "--resolve belongs to --cfg"),
        (["-m", "--config", "config.yaml", "seed=0,1"], "is for one run"),
        (["conf.yaml"], "--config RUN/config.yaml"),
        (["@conf.yaml"], "--config RUN/config.yaml"),
        (["optimizer.lr", "=", "0.1"], "key=value without blanks, such as optimizer.lr=VALUE"),
        (["optimizer.lr=", "0.1"], "without blanks, such as optimizer.lr=0.1"),
        (["optimizer.betas[0]=0.8"], "write the whole list: optimizer.betas=[…]"),
        (["trainer.clip_norm=None"], "write trainer.clip_norm=null"),
        (["trainer.epochs=3.0"], "write trainer.epochs=3."),
    ],
)
def test_words_of_other_programs_are_answered_in_one_sentence(
    words: list[str], way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("train", words) == 2
    said = capsys.readouterr().err
    assert way in said and said.count("\n") == 1


def test_list_and_explain_show_files_and_plug_ins_of_the_user(trainer: Command, tmp_path: Path) -> None:
    write(tmp_path / "mine", experiment__short__yml="# A short one.\n" + GLOBAL + "seed: 4\n")
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\nfrom trainer import Linear, register\n\n\n"
        '@register("model", "own")\n@dataclass\nclass Own(Linear):\n    """Of a plug-in."""\n'
    )
    flags = ("--config-dir", "mine", "--import", "own.py")
    assert "experiment=short\n    A short one." in trainer("list", "experiment", *flags).stdout
    assert "short" in trainer("explain", *flags, "experiment").stdout
    assert "own" in trainer("list", *flags).stdout
    assert trainer("explain", *flags, "model=own").stdout.startswith("model=own: Of a plug-in.")
    assert "--config-dir none: no such folder." in trainer("list", "--config-dir", "none", code=2).stderr
