"""What a run's config means: values are compared as they came out when the run was started, not as they are written."""

import json
import shutil
from pathlib import Path

import pytest

from trainer import Run, cli
from trainer.config import compose
from trainer.config.section import FREE, FUTURE
from trainer.errors import ConfigError
from trainer.runs.changes import changed_config
from trainer.runs.loading import load_trained
from trainer.runs.meaning import Meaning, saved_config, write_meaning

SECRET = "a-secret-that-nobody-may-read"
KEYS = [
    "seed=${oc.env:T_SEED,1}",
    "data.batch_size=${oc.env:T_BATCH,16}",
    "optimizer.lr=${oc.env:T_LR,0.03}",
    "optimizer.weight_decay=${optimizer.lr}",
    "output_dir=${oc.env:T_OUT}/${now:%Y-%f}",
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run as it is started with values from the environment, and a checkpoint of it."""
    monkeypatch.setenv("T_OUT", SECRET)
    made = Run(tmp_path / "run")
    (made.checkpoints / "step-00000001").mkdir(parents=True)
    cfg = compose.compose(KEYS)
    write_meaning(made, cfg)
    made.write_config(compose.to_yaml(cfg), KEYS)
    return made


def changes(run: Run, *overrides: str) -> list[tuple[str, object, object, str]]:
    return [(c.key, c.before, c.after, c.kind) for c in changed_config(run, overrides)[2]]


def test_the_same_environment_changes_nothing_and_a_date_is_that_of_the_start(run: Run) -> None:
    assert changes(run) == []
    first = compose.to_config(changed_config(run, [])[0]).output_dir
    assert compose.to_config(changed_config(run, [])[0]).output_dir == first  # to the microsecond
    assert compose.to_config(saved_config(run)[1]).output_dir == first


def test_another_environment_is_a_change_by_hand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_LR", "0.5")
    assert changes(run) == [
        ("optimizer.lr", 0.03, 0.5, FUTURE),
        ("optimizer.weight_decay", 0.03, 0.5, FUTURE),
    ]
    cfg, before, found = changed_config(run, [])
    assert compose.to_config(cfg).optimizer.lr == 0.5  # type: ignore[attr-defined]
    assert compose.to_config(before).optimizer.lr == 0.03  # type: ignore[attr-defined]  # for the schedule's comparison
    assert compose.flat(cfg)["optimizer.lr"] == "${oc.env:T_LR,0.03}"
    assert found[0].words(7) == (
        "optimizer.lr: 0.03 → 0.5, changed by the environment (${oc.env:T_LR,0.03}), after step 7"
    )
    assert "changed by another key (${optimizer.lr})" in found[1].words(7)


@pytest.mark.parametrize(("name", "value", "key"), [("T_SEED", "9", "seed=9"), ("T_BATCH", "64", "data.batch_size=64")])
def test_the_environment_cannot_change_what_a_hand_cannot(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, key: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^{key}: changed by the environment .* was trained with .* or type"):
        changed_config(run, [])
    with pytest.raises(ConfigError, match=rf"^{key}: "):  # by hand
        changed_config(run, [key])
    assert changes(run, "seed=1", "data.batch_size=16") == []  # what it was, typed


def test_a_secret_is_never_written_or_shown_and_its_change_is_noticed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(SECRET in path.read_text() for path in run.directory.iterdir() if path.is_file())
    monkeypatch.setenv("T_OUT", "rotated")
    (change,) = changed_config(run, [])[2]
    assert (change.key, change.kind) == ("output_dir", FREE)
    assert change.words(7) == "output_dir: changed by the environment (${oc.env:T_OUT}/${now:%Y-%f})"


def test_digests_of_one_secret_differ_between_runs(run: Run) -> None:
    first = json.loads((run.directory / "resolved.json").read_text())
    second = Meaning.of(compose.compose(KEYS), "")
    assert first["digests"].keys() == second.digests.keys() == {"output_dir"}
    assert first["salt"] != second.salt
    assert second.is_same("output_dir", compose.flat(compose.compose(KEYS), resolve=True)["output_dir"]) is False


def test_a_fixed_text_from_elsewhere_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T_SOURCE", SECRET)
    run = Run(tmp_path)
    (run.checkpoints / "step-00000001").mkdir(parents=True)
    cfg = compose.compose(["init_from=${oc.env:T_SOURCE}"])
    write_meaning(run, cfg)
    run.write_config(compose.to_yaml(cfg), [])
    monkeypatch.setenv("T_SOURCE", "another")
    with pytest.raises(ConfigError, match=r"^init_from: changed by the environment .* trained with another value") as e:
        changed_config(run, [])
    assert SECRET not in str(e.value)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"folder": 1}'])
def test_a_run_without_such_a_record_goes_on(run: Run, content: str | None) -> None:
    path = run.directory / "resolved.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert changes(run) == []
    assert changes(run, "optimizer.lr=0.25")[0][:3] == ("optimizer.lr", "${oc.env:T_LR,0.03}", 0.25)


def test_a_value_put_into_the_record_by_hand_that_is_none_is_refused(run: Run) -> None:
    path = run.directory / "resolved.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": "x"'))
    with pytest.raises(ConfigError, match=r"resolved\.json: seed=x"):
        changed_config(run, [])


def test_a_relative_path_that_leads_to_another_file_from_here_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.csv").write_text("a,y\n1,2\n")
    monkeypatch.chdir(tmp_path / "there")
    run = Run(tmp_path / "run")
    (run.checkpoints / "step-00000001").mkdir(parents=True)
    cfg = compose.compose(["data=csv", "data.path=rows.csv", "data.target=y"])
    write_meaning(run, cfg)
    run.write_config(compose.to_yaml(cfg), [])
    assert changes(run) == []
    monkeypatch.chdir(tmp_path / "here")
    there, here = str(tmp_path / "there/rows.csv"), str(tmp_path / "here/rows.csv")
    assert changes(run) == [("data.path", there, here, FREE)]
    write_meaning(run, cfg)  # the run has gone on with that file
    assert changes(run) == []
    (tmp_path / "there/rows.csv").unlink()
    shutil.copy("rows.csv", tmp_path / "there/rows.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert changes(run) == []  # it leads nowhere from here


def test_a_file_of_the_users_folder_that_has_changed_meanwhile_is_compared_by_its_values(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine/trainer").mkdir(parents=True)
    path = tmp_path / "mine/trainer/long.yaml"
    path.write_text("defaults: [_default, _self_]\nepochs: null\n")
    assert [c.key for c in changed_config(run, ["trainer=long"], (), [path.parent.parent])[2]] == []
    path.write_text("defaults: [_default, _self_]\nepochs: 3\n")
    (change,) = changed_config(run, ["trainer=long"], (), [path.parent.parent])[2]
    assert (change.key, change.before, change.after) == ("trainer.epochs", None, 3)


def test_resuming_evaluating_and_printing_take_what_the_run_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "model=mlp",
        "model.hidden=[${oc.env:T_WIDTH,8}]",
        "data=synthetic",
        "data.num_samples=64",
        "trainer.epochs=2",
        f"output_dir={tmp_path}",
        "logger=[files]",
        "optimizer.lr=${oc.env:T_LR,0.03}",
        "trainer.threads=1",
    ]
    assert cli.run("train", words) == 0
    directory = next(path.parent for path in tmp_path.rglob("config.yaml"))
    assert cli.run("train", ["--cfg", f"resume={directory}"]) == 0
    assert "lr: ${oc.env:T_LR,0.03}" in capsys.readouterr().out
    monkeypatch.setenv("T_WIDTH", "16")  # another network: the checkpoint would not fit
    assert load_trained(directory).config.model.hidden == [8]  # type: ignore[attr-defined]
    assert cli.run("train", [f"resume={directory}", "trainer.epochs=3"]) == 2
    assert "model.hidden=[16]: changed by the environment" in capsys.readouterr().err
    monkeypatch.delenv("T_WIDTH")
    monkeypatch.setenv("T_LR", "0.5")
    assert cli.run("train", [f"resume={directory}", "trainer.epochs=3"]) == 0
    said = capsys.readouterr().out
    assert "optimizer.lr: 0.03 → 0.5, changed by the environment" in said
    assert cli.run("train", [f"resume={directory}", "trainer.epochs=4"]) == 0
    assert "optimizer.lr" not in capsys.readouterr().out  # it was told once, and is what the run has now


def test_what_only_hydra_knows_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("train", ["--cfg", "output_dir=${hydra:runtime.output_dir}"]) == 2
    assert "output_dir: a run has no ${hydra:...}; write the value" in capsys.readouterr().err
