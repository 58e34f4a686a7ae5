"""What writing TensorBoard events does to the process around it, and what a full disk does to them."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from trainer.loggers.base import LogRecord
from trainer.loggers.pictures import pictures
from trainer.loggers.tensorboard import TensorBoardLogger


def test_writing_leaves_the_threads_of_the_process_and_their_error_hook_alone(tmp_path: Path) -> None:
    hook, threads = threading.excepthook, threading.enumerate()
    logger = TensorBoardLogger(tmp_path, {}, None)
    logger.write(LogRecord(1, 0, 0.0, scalars={"train/loss": 1.0}))
    assert threading.excepthook is hook
    assert threading.enumerate() == threads
    logger.close({})
    assert threading.excepthook is hook


def test_an_event_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, {}, None)
    logger.write(LogRecord(7, 0, 0.0, scalars={"train/loss": 1.5}))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(7, 1.5)]
    logger.close({})


def test_events_say_what_those_of_torch_say(tmp_path: Path) -> None:
    matrix, weights = torch.eye(3, dtype=torch.int64), torch.randn(1000)
    record = LogRecord(5, 0, 0.0, scalars={"train/loss": 0.1}, confusion=matrix, histograms={"weights/w": weights})
    logger = TensorBoardLogger(tmp_path / "ours", {}, ("a", "b", "c"))
    logger.write(record)
    logger.close({})
    with SummaryWriter(str(tmp_path / "theirs")) as writer:
        writer.add_scalar("train/loss", 0.1, 5)
        writer.add_image("val/confusion", pictures(record, ("a", "b", "c"))["val/confusion"], 5, dataformats="HWC")
        writer.add_histogram("weights/w", weights, 5)
    ours, theirs = (EventAccumulator(str(tmp_path / name)) for name in ("ours", "theirs"))
    for events in (ours, theirs):
        events.Reload()
    for kind, tag in (("Scalars", "train/loss"), ("Images", "val/confusion"), ("Histograms", "weights/w")):
        [[one], [other]] = (getattr(events, kind)(tag) for events in (ours, theirs))
        assert dataclasses.replace(one, wall_time=other.wall_time) == other


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from trainer.loggers.base import LogRecord
from trainer.loggers.safe import SafeLogger
from trainer.loggers.tensorboard import TensorBoardLogger

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
logger = TensorBoardLogger(Path(sys.argv[1]), {}, None)
try:
    for step in range(1, 1000):
        logger.write(LogRecord(step, 0, 0.0, scalars={"train/loss": 1.0}))
except OSError as error:
    print(f"raised by step {step}: {type(error).__name__}")
"""


def test_a_full_disk_is_an_error_of_the_call_that_meets_it_and_nothing_else_is_printed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("raised by step "), done.stdout
    assert "Traceback" not in done.stderr
