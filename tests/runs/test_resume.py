"""A run that was stopped, killed or moved goes on to the very bits that it would have had without."""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import AnyProcess, digest, payload, rows, run_trainer, start_trainer, the_run, wait_until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer import Config, Run, Trainer, assemble, cli, load_model
from trainer.config import compose
from trainer.config.data import SyntheticImages
from trainer.config.datasets import Tensors
from trainer.config.model import Cnn, Mlp
from trainer.config.optimizer import SGD, AdamW
from trainer.config.scheduler import PlateauLR
from trainer.config.table import Csv
from trainer.config.task import Classification
from trainer.config.trainer import TrainerConfig
from trainer.data.loaders.selection import make_loaders
from trainer.data.types import DataSpec
from trainer.errors import CheckpointError
from trainer.loggers.files import FilesLogger, read_metrics
from trainer.runs import restoring
from trainer.runs.build import build_data
from trainer.system.signals import SignalHandler

STATE = ("step", "epoch", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict")
MORE = ("ema_state_dict", "monitor", "tally", "scores")


def bits(run: Path) -> dict[str, str]:
    """What a run has come to: hashes of all of its state, and its curve without the clock."""
    saved = payload(run)
    found = {key: digest(saved[key]) for key in (*STATE, *MORE)}
    return found | {"rows": "\n".join(map(str, rows(run))), "best": os.path.realpath(run / "checkpoints/best")[-13:]}


# In this process


class StopAt(SignalHandler):
    """An interruption that asks to stop after a given step; a validation that is due at it is cut short."""

    def __init__(self, step: int | None) -> None:
        self.step, self.trainer = step, None
        super().__init__()

    @property
    def signal(self) -> int | None:
        return signal.SIGTERM if self.trainer is not None and self.trainer.state.step == self.step else None

    @signal.setter
    def signal(self, number: int | None) -> None:
        """Nothing else asks."""


def session(directory: Path, made: Config, resume: str | None = None, stop: int | None = None) -> str:
    """One process's worth of a run: from its start or checkpoint to its end or to `stop`; returns why it ended."""
    run, signals = Run.at(directory), StopAt(stop)
    trainer = assemble(made, run, resume=resume, signals=signals)
    signals.trainer = trainer
    files = FilesLogger(directory, trainer.state.recorded)
    reason = trainer.fit([files])
    files.close({})
    run.release()
    return reason


def write_csv(path: Path, number: bool) -> Path:
    draw = random.Random(3)
    lines = ["a,b,kind,target"]
    for _ in range(130):
        a, b, kind = draw.gauss(0, 1), draw.gauss(5, 3), draw.choice(["x", "y", "z"])
        value = a + 0.2 * b + (kind == "x") + draw.gauss(0, 0.3)
        target = f"{value:.5f}" if number else ("yes" if value > 1 else "no")
        lines.append(f"{a:.5f},{b:.5f},{kind},{target}")
    path.write_text("\n".join(lines) + "\n")
    return path


def csv_classes(folder: Path) -> Config:
    """104 rows in batches of 16: 7 steps an epoch, 28 in all."""
    data = Csv(path=str(write_csv(folder / "classes.csv", number=False)), target="target", batch_size=16)
    settings = TrainerConfig(epochs=4, log_every="5", save_every="3")
    return Config(model=Mlp(hidden=[16, 8], dropout=0.3), data=data, trainer=settings, seed=1)


def csv_numbers(folder: Path) -> Config:
    data = Csv(path=str(write_csv(folder / "numbers.csv", number=True)), target="target", batch_size=16)
    settings = TrainerConfig(epochs=4, log_every="5", save_every="3", clip_norm=1.0)
    return Config(model=Mlp(hidden=[16, 8], dropout=0.3), data=data, trainer=settings, optimizer=SGD(lr=0.05), seed=2)


def on_disk(folder: Path) -> Config:
    made = csv_classes(folder)
    made.data.memory = "disk"
    return made


def class_weights(folder: Path) -> Config:
    made = csv_classes(folder)
    made.task = Classification(class_weights=[0.3, 1.7], label_smoothing=0.1)
    made.optimizer = SGD(lr=0.05, momentum=0.9, nesterov=True)
    return made


def everything(folder: Path) -> Config:
    """A CNN with dropout, augmentation, averaging, accumulation, a plateau and patience: 4 steps an epoch."""
    data = SyntheticImages(num_samples=75, num_classes=3, image_size=8, batch_size=16, augment=True)
    settings = TrainerConfig(
        epochs=7,
        ema=0.9,
        micro_batch=6,
        patience=20,
        clip_norm=2.0,
        log_every="3",
        save_every="3",
        monitor="val/loss",
        threads=1,
    )
    scheduler = PlateauLR(patience=0, factor=0.5, warmup="2", threshold=0.2)
    return Config(model=Cnn(), data=data, trainer=settings, scheduler=scheduler, optimizer=AdamW(lr=1e-3), seed=3)


def fine_tuning(folder: Path) -> Config:
    """The same with a body that is frozen up to step 10, its BatchNorm too, and then trained at a smaller rate."""
    made = everything(folder)
    made.model = Cnn(freeze="all-but-head", unfreeze_at="10")
    made.optimizer = AdamW(lr=1e-3, layer_decay=0.8, lr_mult={"0": 0.5})
    return made


def stops_early(folder: Path) -> Config:
    made = csv_classes(folder)
    made.trainer = TrainerConfig(epochs=50, patience=2, min_delta=10.0, log_every="3", save_every="5")
    return made


CASES: dict[str, tuple[Callable[[Path], Config], int]] = {
    "csv_classes": (csv_classes, 28),
    "csv_numbers": (csv_numbers, 28),
    "on_disk": (on_disk, 28),
    "class_weights": (class_weights, 28),
    "everything": (everything, 28),
    "fine_tuning": (fine_tuning, 28),
    "stops_early": (stops_early, 21),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Config, dict[str, str]]]:
    """The config of a case and the bits of the run that nothing stopped; each is trained once."""
    known: dict[str, tuple[Config, dict[str, str]]] = {}

    def result(case: str) -> tuple[Config, dict[str, str]]:
        if case not in known:
            folder = tmp_path_factory.mktemp(case)
            make, steps = CASES[case]
            made = make(folder)
            reason = session(folder / "run", made)
            assert reason == ("early stopping" if case == "stops_early" else "completed")
            assert payload(folder / "run")["step"] == steps
            known[case] = made, bits(folder / "run")
        return known[case]

    return result


@pytest.mark.parametrize("stop", [4, 7, 13, *(pytest.param(step, marks=pytest.mark.full) for step in (1, 8, 14, 20))])
@pytest.mark.parametrize("case", CASES)
def test_stopped_after_any_step_it_ends_in_the_same_bits(
    tmp_path: Path, uninterrupted: Callable[..., Any], case: str, stop: int
) -> None:
    made, expected = uninterrupted(case)
    assert session(tmp_path / "run", made, stop=stop) == f"signal {int(signal.SIGTERM)}"
    assert payload(tmp_path / "run")["step"] == stop
    session(tmp_path / "run", made, resume="last")
    assert bits(tmp_path / "run") == expected


@pytest.mark.parametrize("case", CASES)
def test_stopped_again_and_again_it_ends_in_the_same_bits(
    tmp_path: Path, uninterrupted: Callable[..., Any], case: str
) -> None:
    made, expected = uninterrupted(case)
    session(tmp_path / "run", made, stop=2)
    for stop in (4, 7, 12, 18):
        session(tmp_path / "run", made, resume="last", stop=stop)
    session(tmp_path / "run", made, resume="last")
    assert bits(tmp_path / "run") == expected


@pytest.mark.parametrize("back_to", [9, *(pytest.param(step, marks=pytest.mark.full) for step in (0, 12))])
def test_set_back_to_an_earlier_checkpoint_it_ends_in_the_same_bits(
    tmp_path: Path, uninterrupted: Callable[..., Any], back_to: int
) -> None:
    made, expected = uninterrupted("everything")
    made = compose.to_config(compose.from_config(made))
    made.trainer.keep = 99
    session(tmp_path / "run", made)
    session(tmp_path / "run", made, resume=f"step-{back_to:08d}")
    assert bits(tmp_path / "run") == expected


def test_set_back_the_best_is_of_the_past_and_not_of_the_abandoned_future(tmp_path: Path) -> None:
    made = csv_classes(tmp_path)
    made.trainer = TrainerConfig(epochs=6, keep=99, monitor="val/loss")
    session(tmp_path / "run", made)
    assert payload(tmp_path / "run", "best")["step"] > 7
    session(tmp_path / "run", made, resume="step-00000007", stop=8)
    assert payload(tmp_path / "run")["monitor"]["best_step"] == 7
    assert payload(tmp_path / "run", "best")["step"] == 7


def test_a_damaged_last_is_passed_over_and_the_bits_are_the_same(
    tmp_path: Path, uninterrupted: Callable[..., Any]
) -> None:
    made, expected = uninterrupted("everything")
    session(tmp_path / "run", made, stop=17)
    os.truncate(tmp_path / "run/checkpoints/last/state.pt", 1000)
    session(tmp_path / "run", made, resume="last")
    assert bits(tmp_path / "run") == expected


# As real processes

CNN = (
    "model=cnn",
    "data=synthetic_images",
    "data.num_samples=600",
    "data.image_size=16",
    "data.batch_size=32",
    "data.augment=true",
    "trainer.epochs=4",
    "trainer.log_every=4",
    "trainer.save_every=3",
    "trainer.ema=0.95",
    "trainer.threads=1",
)  # 15 steps an epoch, 60 in all


def begin(folder: Path, *words: str) -> AnyProcess:
    """Start `train`; what it prints goes to a file, so that nothing waits for a reader."""
    with open(folder / "output.txt", "w") as output:
        return start_trainer(folder, "train", *words, stdout=output, stderr=output)


def train_to_the_end(folder: Path, *words: str) -> str:
    return run_trainer(folder, "train", *words).stdout


def last_row(folder: Path) -> int:
    found = list((folder / "outputs").glob("*/*/metrics.jsonl"))
    recorded = read_metrics(found[0].parent) if found else []
    return int(recorded[-1]["step"]) if recorded else 0


def stop_after(process: AnyProcess, folder: Path, step: int, number: int) -> int:
    """Send a signal once the record of `step` (or a later one) is there; returns the exit code."""
    wait_until(lambda: last_row(folder) >= step, process)
    process.send_signal(number)
    return process.wait(60)


def curve(run: Path, name: str = "train/loss") -> dict[int, list[float]]:
    """What TensorBoard itself reads from the event files: step -> values."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found: dict[int, list[float]] = {}
    for event in events.Scalars(name):
        found.setdefault(event.step, []).append(event.value)
    return found


def assert_tensorboard_shows_the_rows(run: Path) -> None:
    for name in ("train/loss", "train_recent/loss", "val/loss"):
        expected = {row["step"]: [pytest.approx(row[name], rel=1e-6)] for row in rows(run) if name in row}
        assert curve(run, name) == expected


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CNN run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train_to_the_end(folder, *CNN)
    return the_run(folder)


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.full), (signal.SIGINT, 130)]
)
def test_a_process_stopped_by_a_signal_is_resumed_to_the_same_bits(
    tmp_path: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    process = begin(tmp_path, *CNN)
    assert stop_after(process, tmp_path, 25, number) == code
    run = the_run(tmp_path)
    summary, stopped = json.loads((run / "summary.json").read_text()), payload(run)["step"]
    assert (summary["status"], summary["reason"], summary["steps"]) == ("stopped", f"signal {int(number)}", stopped)
    assert 25 <= stopped < 60
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    assert f"resumed at step {stopped}" in train_to_the_end(tmp_path, f"resume={moved}")
    assert bits(moved) == bits(whole)
    assert json.loads((moved / "summary.json").read_text())["status"] == "completed"
    assert_tensorboard_shows_the_rows(moved)


def test_a_process_killed_three_times_is_resumed_to_the_same_bits(tmp_path: Path, whole: Path) -> None:
    draw, step, arguments = random.Random(4), 0, CNN
    for _ in range(3):
        process = begin(tmp_path, *arguments)
        step += draw.randrange(4, 16)
        assert stop_after(process, tmp_path, step, signal.SIGKILL) == -signal.SIGKILL
        assert not (the_run(tmp_path) / "summary.json").exists()
        saved = payload(the_run(tmp_path))["step"]
        assert last_row(tmp_path) - saved <= 6  # the interval of saving, and that of the record
        arguments = ("resume=auto", *CNN)
    train_to_the_end(tmp_path, "resume=auto", *CNN)
    assert bits(the_run(tmp_path)) == bits(whole)
    assert_tensorboard_shows_the_rows(the_run(tmp_path))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("pictures"), random.Random(5)
    for label in ("cat", "dog", "owl"):
        for part, count in (("train", 40), ("val", 8)):
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                Image.frombytes("RGB", (12, 12), draw.randbytes(432)).save(root / part / label / f"{i}.png")
    return root


def streamed(pictures: Path, workers: int) -> tuple[str, ...]:
    """120 images in batches of 16, augmented, through so many workers: 8 steps an epoch, 48 in all."""
    data = ("data=image_folder", f"data.root={pictures}", "data.cache_bytes=0", "data.batch_size=16")
    data += ("data.image_size=16", f"data.workers={workers}", "data.augment=true")
    return (*data, "trainer.epochs=6", "trainer.log_every=3", "trainer.save_every=3", "trainer.threads=1")


@pytest.fixture(scope="module")
def whole_streamed(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The run over images, without workers, that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole-streamed")
    train_to_the_end(folder, *streamed(pictures, 0))
    return the_run(folder)


@pytest.mark.parametrize("workers", [2, *(pytest.param(count, marks=pytest.mark.full) for count in (0, 1))])
def test_a_streaming_run_killed_and_stopped_is_resumed_to_the_same_bits(
    tmp_path: Path, pictures: Path, whole_streamed: Path, workers: int
) -> None:
    (tmp_path / "b").mkdir()
    stopped = begin(tmp_path / "b", *streamed(pictures, workers))
    assert stop_after(stopped, tmp_path / "b", 9, signal.SIGTERM) == 143
    killed = begin(tmp_path / "b", "resume=auto", *streamed(pictures, workers))
    assert stop_after(killed, tmp_path / "b", 25, signal.SIGKILL) == -signal.SIGKILL
    train_to_the_end(
        tmp_path / "b", "resume=auto", *streamed(pictures, workers)
    )  # at once, while orphaned workers may live
    assert bits(the_run(tmp_path / "b")) == bits(whole_streamed)
    assert_tensorboard_shows_the_rows(the_run(tmp_path / "b"))


def test_a_run_killed_before_its_first_checkpoint_does_not_block_resuming(tmp_path: Path) -> None:
    process = begin(tmp_path, *CNN)
    wait_until(lambda: list((tmp_path / "outputs").glob("*/*/config.yaml")), process)
    process.kill()
    process.wait()
    assert not list((tmp_path / "outputs").glob("*/*/checkpoints/step-*"))
    train_to_the_end(tmp_path, "resume=auto", *CNN, "trainer.fast_dev_run=true")


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[AnyProcess]:
    process = begin(
        tmp_path, "model=linear", "trainer.steps=100000000", "trainer.log_every=20", "trainer.save_every=50"
    )
    wait_until(lambda: last_row(tmp_path) > 0, process)
    yield process
    process.kill()
    process.wait()


def test_a_run_that_is_being_written_is_refused_naming_the_process(
    tmp_path: Path, busy: AnyProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(tmp_path)
    config = (run / "config.yaml").read_text()
    assert cli.run("train", [f"resume={run}", "trainer.steps=5"]) == 2
    assert f"process {busy.pid} " in capsys.readouterr().err
    assert (run / "config.yaml").read_text() == config
    assert busy.poll() is None


# The forms of resume, and what may change


SMALL = ("model=mlp", "model.hidden=[8]", "data=synthetic", "data.num_samples=100", "data.batch_size=16")
EPOCHS = ("trainer.epochs=3", "trainer.log_every=1", "trainer.keep=9")  # 5 steps an epoch, 15 in all


def train(folder: Path, *arguments: str) -> int:
    """The command line in this process, in a folder."""
    folder.mkdir(exist_ok=True)
    with contextlib.chdir(folder):
        return cli.run("train", arguments)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert train(folder, *SMALL, *EPOCHS) == 0
    return folder


@pytest.fixture
def finished(tmp_path: Path, trained_once: Path) -> Path:
    """A finished run in `tmp_path`, to be changed."""
    shutil.copytree(trained_once / "outputs", tmp_path / "outputs", symlinks=True)
    return the_run(tmp_path)


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run, but for its lock."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("form", "step"),
    [
        ("last", 15),
        ("best", None),
        ("{run}", 15),
        ("{run}/checkpoints/last", 15),
        ("{run}/checkpoints/best", None),
        ("{run}/checkpoints/step-00000010", 10),
        ("{run}/checkpoints/step-00000005/state.pt", 5),
    ],
)
def test_every_form_of_resume_finds_its_checkpoint(
    tmp_path: Path, finished: Path, form: str, step: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = payload(finished, "best")["step"] if step is None else step
    expected = bits(finished)
    capsys.readouterr()
    assert train(tmp_path, f"resume={form.format(run=finished)}") == 0
    assert f"resumed at step {wanted}" in capsys.readouterr().out
    assert bits(the_run(tmp_path)) == expected


@pytest.mark.parametrize(
    "form", ["last", "best", "nowhere", "{tmp}", "{run}/checkpoints/step-00000007", "{run}/tensorboard"]
)
def test_a_form_that_leads_nowhere_is_an_error(
    tmp_path: Path, finished: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    assert train(empty, "resume=" + form.format(run=finished, tmp=tmp_path)) == 2
    assert "resume=" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_a_finished_run_is_extended_and_the_change_is_shown(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(finished)
    capsys.readouterr()
    assert train(tmp_path, f"resume={finished}", "trainer.epochs=5") == 0
    out = capsys.readouterr().out
    assert "trainer.epochs: 3 → 5" in out
    assert "resumed at step 15" in out
    assert [row["step"] for row in rows(finished)] == list(range(1, 26))
    assert rows(finished)[:15] == before
    assert payload(finished)["step"] == 25
    assert compose.from_yaml((finished / "config.yaml").read_text(), "").trainer.epochs == 5
    assert set(curve(finished)) == set(range(5, 26, 5))
    assert set(curve(finished, "lr")) == set(range(1, 26))


def test_with_a_constant_rate_an_extended_run_equals_one_that_was_long_from_the_start(tmp_path: Path) -> None:
    long, extended = tmp_path / "long", tmp_path / "extended"
    assert train(long, *SMALL, *EPOCHS, "scheduler=constant", "trainer.epochs=5") == 0
    assert train(extended, *SMALL, *EPOCHS, "scheduler=constant") == 0
    assert train(extended, f"resume={the_run(extended)}", "trainer.epochs=5") == 0
    assert bits(the_run(extended)) == bits(the_run(long))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, finished: Path) -> None:
    expected = bits(finished)
    assert train(tmp_path, f"resume={finished}") == 0
    assert bits(finished) == expected
    assert json.loads((finished / "summary.json").read_text())["status"] == "completed"


@pytest.mark.parametrize(
    "change",
    [
        "model=linear",
        "model.hidden=[9]",
        "seed=1",
        "data=digits",
        "data.val_fraction=0.3",
        "data.num_samples=101",
        "optimizer=sgd",
        "trainer.epochs=many",
        "trainer.epoch=5",
        # Right in themselves, but not for this run: found only while the parts are put together.
        "trainer.monitor=val/rmse",
        "trainer.device=cuda:99",
        "scheduler.warmup=1000",
    ],
)
def test_a_change_that_a_run_does_not_survive_is_refused_and_leaves_it_untouched(
    tmp_path: Path, finished: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert train(tmp_path, f"resume={finished}", change) == 2
    assert change.partition("=")[0] in capsys.readouterr().err
    after = contents(finished)
    after.pop("train.log")  # the failure may be noted there
    assert after == {name: data for name, data in before.items() if name != "train.log"}


def test_where_no_checkpoint_is_good_a_run_is_not_begun_anew(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = list((finished / "checkpoints").glob("step-*/state.pt"))
    for path in damaged:
        os.truncate(path, 1000)
    before = contents(finished)
    assert train(tmp_path, f"resume={finished}") == 2
    printed = capsys.readouterr()
    assert "no undamaged checkpoint" in printed.err
    assert all(f"warning: {path}: damaged" in printed.out for path in damaged) and len(damaged) == 4
    after = contents(finished)
    assert {name: data for name, data in after.items() if name != "train.log"} == {
        name: data for name, data in before.items() if name != "train.log"
    }


def test_a_change_that_a_run_survives_is_applied(tmp_path: Path, finished: Path) -> None:
    assert train(tmp_path, f"resume={finished}", "trainer.epochs=4", "optimizer.lr=0.5", "scheduler=constant") == 0
    assert [row["lr"] for row in rows(finished)][-5:] == [0.5] * 5


def test_init_from_takes_the_weights_and_nothing_else(tmp_path: Path, finished: Path) -> None:
    other = tmp_path / "other"
    assert (
        train(other, *SMALL, "trainer.epochs=1", f"init_from={finished}/checkpoints/last", "trainer.eval_every=0") == 0
    )
    first, source = payload(the_run(other), "step-00000000"), payload(finished)
    assert digest(first["model_state_dict"]) == digest(source["model_state_dict"])
    assert (first["step"], first["monitor"]["best"], first["optimizer_state_dict"]["state"]) == (0, None, {})
    assert rows(the_run(other))[-1]["step"] == 5


def test_init_from_a_run_takes_its_best_checkpoint_as_all_else_does(tmp_path: Path) -> None:
    made = csv_classes(tmp_path)
    made.trainer = TrainerConfig(epochs=6, keep=99, monitor="val/loss", mode="max", threads=1)  # the first is best
    session(tmp_path / "run", made)
    best, last = (payload(tmp_path / "run", name)["model_state_dict"] for name in ("best", "last"))
    assert digest(best) != digest(last)
    for source, expected in (("run", best), ("run/checkpoints/last", last)):
        started = csv_classes(tmp_path)
        started.init_from = str(tmp_path / source)
        assert digest(assemble(started).state.model.state_dict()) == digest(expected)


def test_init_from_another_network_is_an_error(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert train(other, *SMALL, "model.hidden=[9]", f"init_from={finished}") == 2
    assert "init_from=" in capsys.readouterr().err
    assert not (other / "outputs").exists()


def test_a_run_with_init_from_is_resumed_from_its_own_checkpoint(tmp_path: Path, finished: Path) -> None:
    other = tmp_path / "other"
    assert train(other, *SMALL, *EPOCHS, f"init_from={finished}") == 0
    expected = bits(the_run(other))
    shutil.rmtree(finished)
    assert train(other, f"resume={the_run(other)}/checkpoints/step-00000005") == 0
    assert bits(the_run(other)) == expected


@pytest.mark.parametrize("step", [0, 5, 10])
def test_metrics_after_the_restored_step_are_cut_and_tensorboard_shows_each_step_once(
    tmp_path: Path, finished: Path, step: int
) -> None:
    changes = ("trainer.steps=12", "optimizer.lr=0.01")  # another future than the one that is cut
    assert train(tmp_path, f"resume={finished}/checkpoints/step-{step:08d}", *changes) == 0
    recorded = [row["step"] for row in rows(finished)]
    assert recorded == list(range(1, 13))
    table = (finished / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["step", *map(str, recorded)]
    assert_tensorboard_shows_the_rows(finished)


def test_the_summary_of_a_resumed_run_is_that_of_the_whole(tmp_path: Path, finished: Path) -> None:
    before = json.loads((finished / "summary.json").read_text())
    assert train(tmp_path, f"resume={finished}/checkpoints/step-00000005") == 0
    after = json.loads((finished / "summary.json").read_text())
    assert {k: v for k, v in after.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}


AVERAGING = ("trainer.ema=0.9", "trainer.ema_warmup=false")


@pytest.mark.parametrize(
    "extra",
    [
        (),
        AVERAGING,
        (*AVERAGING, "trainer.monitor=val/accuracy"),
        (*AVERAGING, "trainer.monitor=val_ema/accuracy"),
    ],
)
@pytest.mark.parametrize("checkpoint", ["best", pytest.param("last", marks=pytest.mark.full)])
def test_a_loaded_model_scores_what_the_summary_says(
    tmp_path: Path, extra: tuple[str, ...], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *SMALL, "trainer.epochs=6", "optimizer.lr=0.05", *extra) == 0
    run = the_run(tmp_path)
    config = compose.to_config(compose.from_yaml((run / "config.yaml").read_text(), ""))
    _, val = make_loaders(
        build_data(config.data, config.seed),
        batch_size=16,
        eval_batch_size=20,
        drop_last=False,
        seed=config.seed,
        device=torch.device("cpu"),
    )
    model = load_model(run, checkpoint)
    assert not model.training
    (batch,) = val
    with torch.no_grad():
        accuracy = (model(batch.inputs).argmax(1) == batch.targets).double().mean().item()
    told = json.loads((run / "summary.json").read_text())[checkpoint]
    assert accuracy == pytest.approx(told["value"], abs=1e-9)
    averaged = told["metric"].startswith("val_ema/")
    if any("monitor" in word for word in extra):
        assert extra[-1] == f"trainer.monitor={told['metric']}"
    capsys.readouterr()
    assert cli.run("evaluate", [str(run / "checkpoints" / checkpoint)]) == 0
    out = capsys.readouterr().out
    assert ("averaged weights" in out) == averaged and f"accuracy  {told['value']:.4f}" in out
    words = ("trainer.eval_every=0", "trainer.fast_dev_run=true", f"init_from={run}/checkpoints/{checkpoint}")
    assert train(tmp_path / "next", *SMALL, *words) == 0
    assert ("averaged weights" in capsys.readouterr().out) == averaged
    saved = {name: payload(run, checkpoint)[f"{name}_state_dict"] for name in ("model", "ema")}
    taken = payload(the_run(tmp_path / "next"), "step-00000000")["model_state_dict"]
    for name, tensor in taken.items():
        assert torch.equal(tensor, saved["ema"][f"module.{name}"] if averaged else saved["model"][name])


def test_steps_by_hand_save_and_resume_too(tmp_path: Path) -> None:
    made = csv_classes(tmp_path)
    straight = assemble(made, Run.at(tmp_path / "straight"))
    for _ in straight.steps():
        pass
    run = Run.at(tmp_path / "run")
    first = assemble(made, run)
    for report in first.steps():
        if report.step == 9:
            first.save(best=False)
            break
    assert first.store is not None
    first.store.wait()
    second = assemble(made, run, resume="last")
    assert [report.step for report in second.steps()] == list(range(10, 29))
    assert state_bits(second) == state_bits(straight)


def state_bits(trainer: Trainer) -> str:
    saved = trainer.state.state_dict(7)
    return digest([saved["model_state_dict"], saved["optimizer_state_dict"]])


def test_every_field_of_the_spec_is_compared_mapped_or_measured_anew() -> None:
    """What a network is made for must stay; classes are mapped by name; statistics may change with the data."""
    context = assemble(Config(model=Mlp(), data=SyntheticImages(num_samples=40, num_classes=3))).context
    now = context.data.spec.to_dict()
    refused = {"input_shape": [3, 8, 8], "outputs": 4, "labels": ["0", "1", "x"], "cardinalities": [4]}
    refused |= {"target_steps": [["log1p", 0.0, 1.0]]}
    free = {"class_counts": [9, 9, 9], "samples": 7}
    free |= {name: [2.5] for name in ("target_mean", "target_std", "target_low", "target_high")}
    assert refused.keys() | free.keys() == {field.name for field in dataclasses.fields(DataSpec)}
    run = Run(Path("a-run"))
    for name, value in (refused | free).items():
        payload: dict[str, Any] = {"data_spec": now | {name: value}}
        with pytest.raises(CheckpointError, match="a-run has learned") if name in refused else contextlib.nullcontext():
            restoring._check_classes(payload, context, run)
            restoring._check_kind(payload, context, run)


def test_classes_in_another_order_are_mapped_by_their_names(tmp_path: Path) -> None:
    """As where the names of classes are given, and now in another order; the run ends in the bits of the other."""
    path, made = tmp_path / "d.npz", {}
    inputs, targets = torch.randn(60, 4), torch.arange(60) % 3
    for order in ("abc", "cab"):
        np.savez(path, x=inputs.numpy(), y=np.array([order.index("abc"[t]) for t in targets]))
        data = Tensors(path=str(path), classes=list(order), batch_size=8)
        made[order] = Config(model=Mlp(hidden=[6]), data=data, trainer=TrainerConfig(epochs=3, threads=1))
    np.savez(path, x=inputs.numpy(), y=targets.numpy())
    session(tmp_path / "straight", made["abc"])
    session(tmp_path / "run", made["abc"], stop=7)
    np.savez(path, x=inputs.numpy(), y=np.array(["cab".index("abc"[t]) for t in targets]))
    session(tmp_path / "run", made["cab"], resume="last")
    assert payload(tmp_path / "run")["data_spec"]["labels"] == ["a", "b", "c"]
    left, right = (payload(tmp_path / name)["model_state_dict"] for name in ("straight", "run"))
    assert digest(left) == digest(right)


def test_other_columns_of_a_table_are_refused(tmp_path: Path) -> None:
    rows = [f"{i % 7},{i % 5},{'u' if i % 2 else 'v'}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]))
    words = ("model=linear", "data=csv", "data.path=t.csv", "data.target=y", "trainer.steps=4", "output_dir=o")
    assert train(tmp_path, *words) == 0
    (tmp_path / "t.csv").write_text("\n".join(["a,c,y", *rows]))
    done = run_trainer(tmp_path, "train", "resume=last", "output_dir=o", "trainer.steps=8", code=2)
    assert "has learned from 2 columns, and the data now has 2 (gone: b (numeric); new: c (numeric))" in done.stderr


@pytest.mark.parametrize("renamed", ["frog", "aardvark"])
def test_classes_that_are_not_those_that_were_learned_are_refused(tmp_path: Path, renamed: str) -> None:
    """A renamed folder would permute the labels; one more class would shift them."""
    for number, label in enumerate(("cat", "dog", "eel")):
        for i in range(8):
            path = tmp_path / "d" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number * 90, i * 9, 40)).save(path)
    words = ("model=linear", "data=image_folder", "data.root=d", "data.workers=0", "trainer.epochs=1")
    assert train(tmp_path, *words) == 0
    run = the_run(tmp_path)
    (tmp_path / "d" / "dog").rename(tmp_path / "d" / renamed)
    done = run_trainer(tmp_path, "train", f"resume={run}", "trainer.epochs=2", code=2)
    assert done.stderr.count("\n") == 1
    for word in ("has learned the 3 classes cat, dog, eel", "gone: dog", f"new: {renamed}", f"init_from={run}"):
        assert word in done.stderr
    (tmp_path / "d" / renamed).rename(tmp_path / "d" / "dog")
    assert train(tmp_path, f"resume={run}", "trainer.epochs=2") == 0
