"""Logs that cannot be written are reported once; training goes on."""

import logging
from typing import Any

import pytest

from trainer.loggers.base import LogRecord
from trainer.loggers.safe import SafeLogger


class Full:
    """A logger on a device that is always full."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _write(self, call: str) -> None:
        self.calls.append(call)
        with open("/dev/full", "w") as file:
            file.write(call)

    def write(self, record: LogRecord) -> None:
        self._write("write")

    def flush(self) -> None:
        self._write("flush")

    def rewind(self, step: int) -> None:
        self._write("rewind")

    def close(self, summary: dict[str, Any]) -> None:
        self._write("close")


def test_the_first_failure_is_told_and_then_only_closing_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    logger = Full()
    safe = SafeLogger(logger, "metrics.jsonl")
    for _ in range(3):
        safe.write(LogRecord(1, 0, 0.0))
        safe.flush()
        safe.rewind(0)
    safe.close({})
    assert logger.calls == ["write", "close"]
    [said] = caplog.records
    assert (said.name, said.levelno) == ("trainer", logging.WARNING)
    words = "metrics.jsonl can no longer be written ([Errno 28] No space left on device); training goes on without."
    assert said.getMessage() == words


def test_a_bug_in_a_logger_is_no_full_disk() -> None:
    class Broken(Full):
        def write(self, record: LogRecord) -> None:
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        SafeLogger(Broken(), "x").write(LogRecord(1, 0, 0.0))


def test_a_run_whose_logs_fail_trains_to_the_same_end(train, tmp_path) -> None:
    words = ["model=linear", "data=synthetic", "data.num_samples=64", "trainer.epochs=2"]
    train(*words, "output_dir=whole")
    # A job of a sweep has a directory that is known before it runs.
    plugin = tmp_path / "full.py"
    plugin.write_text(
        "import trainer.loggers.files as files\n"
        "before = files.FilesLogger.__init__\n"
        "def on_a_full_disk(self, *given, **options):\n"
        "    before(self, *given, **options)\n"
        "    self.lines.close()\n"
        "    self.lines._file = open('/dev/full', 'a')\n"
        "files.FilesLogger.__init__ = on_a_full_disk\n"
    )
    said = train("--import", str(plugin), *words, "output_dir=full")
    assert (said.stdout + said.stderr).count("can no longer be written") == 1
    runs = [next(tmp_path.glob(f"{name}/*/*/summary.json")).read_text() for name in ("whole", "full")]
    scores = [[line for line in text.splitlines() if "val/" in line] for text in runs]
    assert scores[0] == scores[1] and scores[0]
