"""Sinks: the metrics files, TensorBoard with its pictures, and what is printed."""

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support import run_trainer, the_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.loggers.base import Activity, LogRecord
from trainer.loggers.console import LiveConsoleLogger, PlainConsoleLogger, Progress, format_duration, format_value
from trainer.loggers.files import FilesLogger, read_metrics
from trainer.loggers.pictures import confusion_picture, image_grid, pictures
from trainer.loggers.tensorboard import TensorBoardLogger

EVERYTHING = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}


def record(step: int, **scalars: float) -> LogRecord:
    """A record with names such as train__loss for train/loss."""
    return LogRecord(step, step // 10, step / 2, scalars={name.replace("__", "/"): v for name, v in scalars.items()})


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_record_is_one_object_and_one_row_on_disk_at_once(tmp_path: Path) -> None:
    sink = FilesLogger(tmp_path)
    sink.write(record(10, train__loss=0.1 + 0.2, lr=1e-3))
    sink.write(record(20, train__loss=0.25, lr=1e-4))
    expected = [
        {"step": 10, "epoch": 1, "time": 5.0, "train/loss": 0.1 + 0.2, "lr": 1e-3},
        {"step": 20, "epoch": 2, "time": 10.0, "train/loss": 0.25, "lr": 1e-4},
    ]
    assert read_metrics(tmp_path) == expected
    assert [{name: float(text) for name, text in row.items()} for row in table(tmp_path)] == expected
    sink.close({})


def test_a_score_that_comes_later_becomes_a_column_that_is_empty_before(tmp_path: Path) -> None:
    sink = FilesLogger(tmp_path)
    sink.write(record(1, train__loss=3.0))
    sink.write(record(2, train__loss=2.0, val__loss=2.5))
    sink.write(record(3, train__loss=1.0))
    sink.close({})
    rows = table(tmp_path)
    assert list(rows[0]) == ["step", "epoch", "time", "train/loss", "val/loss"]
    assert [row["val/loss"] for row in rows] == ["", "2.5", ""]
    assert [row["train/loss"] for row in rows] == ["3.0", "2.0", "1.0"]
    assert ["val/loss" in row for row in read_metrics(tmp_path)] == [False, True, False]


def test_rows_after_the_restored_step_are_cut_from_both_files(tmp_path: Path) -> None:
    first = FilesLogger(tmp_path)
    for step in range(1, 6):
        first.write(record(step, train__loss=float(step)))
    first.close({})
    second = FilesLogger(tmp_path, start_step=3)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
    second.write(record(4, train__loss=40.0, val__loss=4.0))
    second.close({})
    assert [(row["step"], row["train/loss"]) for row in read_metrics(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert [(row["step"], row["val/loss"]) for row in table(tmp_path)] == [
        ("1", ""),
        ("2", ""),
        ("3", ""),
        ("4", "4.0"),
    ]


def test_a_new_run_starts_with_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    FilesLogger(tmp_path).close({})
    assert read_metrics(tmp_path) == table(tmp_path) == []


def test_a_last_line_that_a_kill_cut_short_is_left_out_and_written_over(tmp_path: Path) -> None:
    sink = FilesLogger(tmp_path)
    sink.write(record(1, train__loss=1.0))
    sink.close({})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train/lo')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    again = FilesLogger(tmp_path, start_step=1)
    again.write(record(2, train__loss=2.0))
    again.close({})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(text)["train/loss"] for text in lines] == [1.0, 2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null_and_an_empty_cell(value: float, tmp_path: Path) -> None:
    sink = FilesLogger(tmp_path)
    sink.write(record(1, val__r2=value, val__loss=1.0))
    sink.close({})
    [text] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["val/r2"] is None
    assert table(tmp_path)[0]["val/r2"] == ""


def test_a_record_without_numbers_leaves_no_row(tmp_path: Path) -> None:
    sink = FilesLogger(tmp_path)
    sink.write(LogRecord(1, 0, 0.5))
    sink.close({})
    assert read_metrics(tmp_path) == []


CLASSES, EPOCHS = 3, 2


@dataclass
class Board:
    """A run on images, its events and its files."""

    directory: Path
    events: EventAccumulator


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("board")
    overrides = [
        "data=synthetic_images", "data.num_samples=200", f"data.num_classes={CLASSES}", "data.image_size=8",
        "model=linear", f"trainer.epochs={EPOCHS}", "trainer.log_every=1", "trainer.log_histograms=1ep",
    ]  # fmt: skip
    run_trainer(folder, "train", *overrides)
    directory = the_run(folder)
    events = EventAccumulator(str(directory / "tensorboard"), size_guidance=EVERYTHING)
    events.Reload()
    return Board(directory, events)


def decoded(encoded: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(encoded)))


def test_tensorboard_has_the_scalars_of_the_metrics_file(board: Board) -> None:
    rows = read_metrics(board.directory)
    names = {name for row in rows for name in row} - {"step", "epoch", "time"}
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "grad_norm"} <= names
    for name in names:
        shown = [(event.step, event.value) for event in board.events.Scalars(name)]
        assert shown == [(row["step"], float(np.float32(row[name]))) for row in rows if name in row]
    others = set(board.events.Tags()["scalars"]) - names
    assert all(name.startswith("hparams/") for name in others)


def test_tensorboard_has_the_first_images_and_a_confusion_matrix_for_each_validation(board: Board) -> None:
    assert set(board.events.Tags()["images"]) == {"train/images", "val/confusion"}
    [images] = board.events.Images("train/images")
    height, width, channels = decoded(images.encoded_image_string).shape
    assert (width, channels) == (8 * 100, 3)
    assert height >= 4 * 96  # 32 images in rows of 8
    validations = [row["step"] for row in read_metrics(board.directory) if "val/loss" in row]
    matrices = board.events.Images("val/confusion")
    assert [event.step for event in matrices] == validations
    assert len(validations) == EPOCHS
    assert decoded(matrices[0].encoded_image_string).std() > 10


def test_tensorboard_has_the_hyperparameters_with_the_final_scores(board: Board) -> None:
    summary = json.loads((board.directory / "summary.json").read_text())
    scalars = {name: board.events.Scalars(name)[-1].value for name in board.events.Tags()["scalars"]}
    for name, value in summary["last"]["scores"].items():
        assert scalars[f"hparams/{name}"] == pytest.approx(value)
    assert scalars["hparams/best_val/accuracy"] == pytest.approx(summary["best"]["value"])
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = board.events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["optimizer.lr"].number_value == 1e-3
    assert values["model"].string_value == "linear"
    assert values["data.num_classes"].number_value == CLASSES


def test_tensorboard_has_histograms_of_weights_and_gradients_where_asked(board: Board) -> None:
    names = set(board.events.Tags()["histograms"])
    assert {name.partition("/")[0] for name in names} == {"weights", "gradients"}
    weights = next(name for name in names if name.startswith("weights/") and name.endswith("weight"))
    shown = board.events.Histograms(weights)
    assert len(shown) == EPOCHS
    assert shown[0].histogram_value.num == 3 * 8 * 8 * CLASSES
    assert shown[0].histogram_value.min < 0 < shown[0].histogram_value.max


def events_of(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    accumulator.Reload()
    return accumulator


def test_a_run_set_back_stays_one_curve_in_tensorboard(tmp_path: Path) -> None:
    for start, steps in ((0, range(1, 6)), (3, range(4, 8))):
        sink = TensorBoardLogger(tmp_path, {}, None, start)
        for step in steps:
            sink.write(record(step, train__loss=float(step + 100 * start)))
        sink.close({})
    shown = [(event.step, event.value) for event in events_of(tmp_path).Scalars("train/loss")]
    assert shown == [(1, 1), (2, 2), (3, 3), (4, 304), (5, 305), (6, 306), (7, 307)]


def test_a_score_that_is_undefined_at_the_end_does_not_stop_tensorboard(tmp_path: Path) -> None:
    sink = TensorBoardLogger(tmp_path, {"seed": 0}, None)
    sink.write(record(1, val__loss=1.0, val__r2=math.nan))
    best = {"metric": "val/loss", "value": 1.0}
    sink.close({"last": {"scores": {"val/loss": 1.0, "val/r2": None}}, "best": best})
    assert [event.value for event in events_of(tmp_path).Scalars("hparams/val/loss")] == [1.0]


def test_an_untouched_tensorboard_sink_leaves_no_folder(tmp_path: Path) -> None:
    TensorBoardLogger(tmp_path / "tensorboard", {}, None).close({"status": "failed"})
    assert not (tmp_path / "tensorboard").exists()


def test_the_grid_has_a_tile_for_each_image_in_its_colour(tmp_path: Path) -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    grid = image_grid(colours[:, :, None, None].expand(3, 3, 8, 8), ["red", "green", "blue"], columns=2, side=32)
    assert grid.dtype == np.uint8
    assert grid.shape == (2 * (32 + 18 + 2), 2 * (32 + 4), 3)
    assert grid[18, 18].tolist() == [255, 0, 0]
    assert grid[18, 36 + 18].tolist() == [0, 255, 0]
    assert grid[52 + 18, 18].tolist() == [0, 0, 255]
    assert (grid[36:50, :32] < 128).any()  # a label under the first
    assert (grid[52:, 40:] == 255).all()  # no fourth image


def test_the_grid_shows_grey_images_and_needs_no_labels() -> None:
    grid = image_grid(torch.full((1, 1, 4, 4), 0.5), None, columns=1, side=16)
    assert grid.shape == (16 + 2 + 2, 16 + 4, 3)
    assert grid[10, 10].tolist() == [128, 128, 128]


def cell_colours(picture: np.ndarray, classes: int, margin: int = 110, cell: int = 36) -> np.ndarray:
    """The mean brightness of each cell's lower edge, where no count is written."""
    edges = [[picture[margin + (r + 1) * cell - 4, margin + c * cell + 2 : margin + (c + 1) * cell - 2].mean()
              for c in range(classes)] for r in range(classes)]  # fmt: skip
    return np.array(edges)


def test_a_diagonal_confusion_matrix_is_dark_on_its_diagonal_alone() -> None:
    picture = confusion_picture(torch.diag(torch.tensor([5, 50, 500])), ("a", "b", "c"))
    assert picture.dtype == np.uint8
    assert picture.shape == (110 + 3 * 36 + 8, 110 + 3 * 36 + 8, 3)
    brightness = cell_colours(picture, 3)
    assert (np.diag(brightness) < 100).all()
    assert (brightness[~np.eye(3, dtype=bool)] == 255).all()


def test_rows_of_a_confusion_matrix_are_true_classes_and_shaded_by_their_share() -> None:
    brightness = cell_colours(confusion_picture(torch.tensor([[75, 25], [0, 0]]), ("a", "b")), 2)
    assert brightness[0, 0] < brightness[0, 1] < 255
    assert brightness[1].tolist() == [255, 255]


def test_a_confusion_matrix_of_many_classes_is_small() -> None:
    labels = tuple(map(str, range(100)))
    assert max(confusion_picture(torch.eye(100, dtype=torch.int64), labels).shape) < 800


def test_a_record_gives_the_pictures_that_it_has() -> None:
    assert pictures(record(1, train__loss=1.0), None) == {}
    drawn = pictures(LogRecord(1, 0, 0.0, images=torch.rand(2, 1, 8, 8), confusion=torch.eye(2).long()), ("a", "b"))
    assert set(drawn) == {"train/images", "val/confusion"}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("val/accuracy", 0.5, "0.5000"),
        ("val/accuracy", 1.0, "1.0000"),
        ("train/loss", 0.0, "0.0000"),
        ("train/loss", 0.00012345, "0.000123"),
        ("train/loss", 123456.0, "1.23e+05"),
        ("val/r2", -12.25, "-12.2500"),
        ("lr", 0.001, "0.001"),
        ("lr", 2.5e-05, "2.5e-05"),
    ],
)
def test_a_score_is_printed_readably(name: str, value: float, text: str) -> None:
    assert format_value(name, value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (9.4, "9s"), (59.4, "59s"), (59.6, "1m00s"), (200, "3m20s"), (3599.7, "1h00m"), (7500, "2h05m")],
)
def test_a_duration_is_printed_as_people_say_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_line_has_position_scores_rate_time_left_and_best() -> None:
    text = io.StringIO()
    sink = PlainConsoleLogger(
        Console(file=text, width=40), Progress(total=90, steps_per_epoch=10, monitor="val/accuracy")
    )
    full = record(30, train__loss=0.5, val__loss=0.625, val__accuracy=0.75, lr=1e-3, grad_norm=9.0)
    full.scalars["samples_per_second"], full.best = 12345.6, 0.8125
    sink.write(full)
    assert re.fullmatch(
        r"epoch 3/9  step 30/90  train.loss 0\.5000  val.loss 0\.6250 .*accuracy 0\.7500  "
        r"lr 0\.001  12,346 samples/s  eta \w+  best .*0\.8125\n",
        text.getvalue(),
    )


def test_a_step_belongs_to_the_epoch_that_it_is_in() -> None:
    progress = Progress(total=25, steps_per_epoch=10, monitor="val/loss")
    shown = [progress.position(step) for step in (1, 10, 11, 25)]
    assert shown == [f"epoch {place}/25" for place in ("1/3  step 1", "1/3  step 10", "2/3  step 11", "3/3  step 25")]


def test_plain_lines_come_for_each_validation_and_seldom_between() -> None:
    text = io.StringIO()
    sink = PlainConsoleLogger(Console(file=text, width=40), Progress(total=100, steps_per_epoch=10, monitor="val/loss"))
    for step in range(1, 50):
        sink.write(record(step, train__loss=1.0))
    for step in (50, 51):
        sink.write(record(step, train__loss=1.0, val__loss=1.0))
    sink.close({})
    steps = [row.split("  ")[1] for row in text.getvalue().splitlines()]
    assert steps == ["step 1/100", "step 50/100", "step 51/100"]


def test_a_live_display_leaves_the_validations_only() -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system=None)
    sink = LiveConsoleLogger(console, Progress(total=4, steps_per_epoch=2, monitor="val/loss"), Activity(1))
    sink.write(record(1, train__loss=1.5))
    sink.write(record(2, train__loss=1.25, val__loss=2.5))
    sink.close({})
    rows = text.getvalue().split("\n")
    assert sum("2.5000" in row and "━" not in row for row in rows) == 1
    assert any("━" in row for row in rows)
    assert text.getvalue().endswith("\x1b[2K")  # the bar's own line is erased
