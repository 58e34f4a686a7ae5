"""W&B and MLflow, the real packages without a network: what arrives there, and what a resumed run adds to it."""

import json
import math
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient
from wandb.proto.wandb_internal_pb2 import Record

from trainer.config.logger import MlflowLog, WandbLog
from trainer.config.root import Config
from trainer.errors import ConfigError, TrainerError
from trainer.loggers.base import LoggerContext, LogRecord
from trainer.loggers.mlflow import MlflowLogger
from trainer.loggers.wandb import WandbLogger
from trainer.runs.build_parts import check_packages

OFFLINE = {"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)


def context_of(directory: Path, start: int = 0) -> LoggerContext:
    return LoggerContext(
        directory=directory,
        tensorboard=directory / "tensorboard",
        start_step=start,
        recorded=start,
        total_steps=10,
        steps_per_epoch=5,
        monitor="val/accuracy",
        mode="max",
        hparams={"optimizer.lr": 0.1, "model": "cnn"},
        labels=("a", "b"),
    )


def record(step: int, value: float, **fields: Any) -> LogRecord:
    return LogRecord(step, step // 5, step / 2, scalars={"train/loss": value}, **fields)


SUMMARY = {"status": "completed", "best": {"metric": "val/accuracy", "value": 0.75, "step": 5}}


def wandb_records(folder: Path) -> list[Record]:
    """The records of a run that has ended; its service writes them a moment after that."""
    deadline = time.monotonic() + 30
    found = parsed(folder)
    while not any(one.WhichOneof("record_type") == "exit" for one in found):
        assert time.monotonic() < deadline, f"the run in {folder} has no end"
        time.sleep(0.05)
        found = parsed(folder)
    return found


def parsed(folder: Path) -> list[Record]:
    """The records in a `.wandb` file: a LevelDB log of protocol buffers behind a header of 7 bytes."""
    [path] = folder.glob("run-*.wandb")
    data, place, found, parts = path.read_bytes(), 7, [], b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):
            break  # still being written
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def wandb_history(folder: Path, name: str) -> dict[int, float]:
    """The values of a score by step."""
    values = {}
    for one in wandb_records(folder):
        if one.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in one.history.item}
            if name in items:
                values[int(items["_step"])] = float(items[name])
    return values


def offline_folders(directory: Path) -> list[Path]:
    return sorted(directory.glob("wandb/offline-run-*"), key=lambda folder: folder.stat().st_ctime)


def test_wandb_has_scalars_pictures_histograms_and_the_best_score(tmp_path: Path) -> None:
    logger = WandbLogger(WandbLog(project="demo", tags=["x"]), context_of(tmp_path))
    matrix = torch.eye(2, dtype=torch.int64)
    logger.write(
        record(5, 0.5, confusion=matrix, histograms={"weights/w": torch.randn(50)}, gradients={"0": {"n": 2.0}})
    )
    logger.flush()
    logger.close(SUMMARY)
    [folder] = offline_folders(tmp_path)
    assert wandb_history(folder, "train/loss") == {5: 0.5}
    assert wandb_history(folder, "n/0") == {5: 2.0}
    assert len(list(folder.glob("files/media/images/val/confusion*.png"))) == 1
    [run] = [one.run for one in wandb_records(folder) if one.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project, run.display_name) == (
        (tmp_path / "wandb.id").read_text().strip(),
        "demo",
        tmp_path.name,
    )
    config = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optimizer.lr"] == 0.1 and config["model"] == "cnn"
    summaries = [item for one in wandb_records(folder) for item in one.summary.update]
    assert any("best_val/accuracy" in (item.key, *item.nested_key) and item.value_json == "0.75" for item in summaries)
    assert any("weights/w" in (i.key, *i.nested_key) for o in wandb_records(folder) for i in o.history.item)


def test_wandb_takes_no_step_twice_and_a_resumed_run_has_the_same_id(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = WandbLogger(WandbLog(), context_of(tmp_path))
    for step in range(1, 5):
        first.write(record(step, float(step)))
    first.rewind(2)
    for step in range(3, 7):
        first.write(record(step, 10.0 * step))
    first.close({"status": "stopped"})
    assert "WARNING" not in capfd.readouterr().err, "it is not asked to take a step twice"
    again = WandbLogger(WandbLog(), context_of(tmp_path, 6))
    again.write(record(7, 70.0))
    again.close(SUMMARY)
    one, two = offline_folders(tmp_path)  # made in one second, the second has a number behind the id
    assert len({path.stem for folder in (one, two) for path in folder.glob("*.wandb")}) == 1
    assert wandb_history(one, "train/loss") == {1: 1, 2: 2, 3: 3, 4: 4, 5: 50, 6: 60}
    assert wandb_history(two, "train/loss") == {7: 70}


def test_wandb_without_a_login_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no login is found
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"logger=wandb: No API key configured.* mode: offline"):
        WandbLogger(WandbLog(mode="online"), context_of(tmp_path))


def test_an_error_of_wandb_while_training_is_one_that_a_logger_may_have(tmp_path: Path) -> None:
    logger = WandbLogger(WandbLog(), context_of(tmp_path))
    logger.run.finish()
    with pytest.raises(TrainerError):
        logger.write(record(1, 1.0))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def mlflow_history(uri: str, directory: Path, name: str) -> list[tuple[int, float]]:
    client = MlflowClient(tracking_uri=uri)
    history = client.get_metric_history((directory / "mlflow.id").read_text().strip(), name)
    return [(metric.step, metric.value) for metric in history]


def test_mlflow_has_scalars_parameters_and_how_the_run_ended(tmp_path: Path, database: str) -> None:
    config = MlflowLog(tracking_uri=database, experiment="demo")
    logger = MlflowLogger(config, context_of(tmp_path))
    logger.write(record(1, 0.5, gradients={"0": {"n": 2.0}}))
    logger.write(record(2, math.nan))
    logger.flush()
    assert mlflow_history(database, tmp_path, "train/loss")[0] == (1, 0.5), "sent before a checkpoint"
    logger.write(record(3, 0.25))
    logger.close(SUMMARY)
    client = MlflowClient(tracking_uri=database)
    run = client.get_run((tmp_path / "mlflow.id").read_text().strip())
    assert run.info.status == "FINISHED" and run.info.run_name == tmp_path.name
    assert client.get_experiment(run.info.experiment_id).name == "demo"
    assert run.data.params == {"optimizer.lr": "0.1", "model": "cnn"}
    assert run.data.metrics["train/loss"] == 0.25 and run.data.metrics["n/0"] == 2.0
    assert run.data.metrics["best_val/accuracy"] == 0.75


def test_a_run_resumed_goes_on_in_mlflow_and_steps_that_were_not_sent_are_forgotten(
    tmp_path: Path, database: str
) -> None:
    config = MlflowLog(tracking_uri=database)
    first = MlflowLogger(config, context_of(tmp_path))
    for step in range(1, 5):
        first.write(record(step, float(step)))
    first.rewind(2)
    first.write(record(3, 30.0))
    first.close({"status": "stopped"})
    client = MlflowClient(tracking_uri=database)
    run_id = (tmp_path / "mlflow.id").read_text().strip()
    assert client.get_run(run_id).info.status == "KILLED"
    again = MlflowLogger(config, context_of(tmp_path, 3))
    assert client.get_run(run_id).info.status == "RUNNING"
    again.write(record(4, 40.0))
    again.close({"status": "failed"})
    assert (tmp_path / "mlflow.id").read_text().strip() == run_id
    assert client.get_run(run_id).info.status == "FAILED"
    assert mlflow_history(database, tmp_path, "train/loss") == [(1, 1), (2, 2), (3, 30), (4, 40)]


def test_mlflow_that_does_not_answer_or_has_lost_the_run_says_so(tmp_path: Path, database: str) -> None:
    with pytest.raises(ConfigError, match=r"logger=mlflow: .*tracking_uri"):
        MlflowLogger(MlflowLog(tracking_uri="nonsense://x"), context_of(tmp_path))
    (tmp_path / "mlflow.id").write_text("0123456789abcdef0123456789abcdef\n")
    with pytest.raises(ConfigError, match=r"mlflow\.id names its run: remove it for another one"):
        MlflowLogger(MlflowLog(tracking_uri=database), context_of(tmp_path))


def test_a_run_and_its_resumption_are_one_run_in_both_services(train: Any, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/mlflow.db"
    loggers = f"logger=[console,files,{{name: wandb, project: demo}},{{name: mlflow, tracking_uri: '{database}'}}]"
    words = ("data=synthetic", "data.num_samples=100", "model=linear", "trainer.epochs=2", "trainer.log_every=1")
    train(*words, loggers, **OFFLINE)
    [run] = tmp_path.glob("outputs/*/*")
    train(f"resume={run}", "trainer.epochs=3", **OFFLINE)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = {row["step"]: row["val/accuracy"] for row in rows if "val/accuracy" in row}
    assert len(expected) == 3
    assert mlflow_history(database, run, "val/accuracy") == sorted(expected.items())
    histories = [wandb_history(folder, "val/accuracy") for folder in offline_folders(run)]
    assert len(histories) == 2
    assert histories[0] | histories[1] == expected
    assert not histories[0].keys() & histories[1].keys()
    assert not (run / "tensorboard").exists(), "it was not asked for"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_one_sentence_with_the_command(name: str, train: Any, tmp_path: Path) -> None:
    (tmp_path / "hide.py").write_text(f"import sys\nsys.modules[{name!r}] = None\n")  # as if it were not installed
    said = train("--import", "hide.py", f"logger=[{name}]", code=2)
    assert said.stderr == (
        f"error: logger={name}: the package {name} is not installed; pip install 'trainer[{name}]', or leave "
        f"{name} out of logger.\n"
    )
    assert not (tmp_path / "outputs").exists()


def test_a_config_can_be_read_where_a_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = Config(logger=["files", "wandb"])
    with pytest.raises(ConfigError, match=r"pip install 'trainer\[wandb\]'"):
        check_packages(config)
