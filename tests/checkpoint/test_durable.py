"""Storage: a saved directory is whole or absent whatever kills the writer, and damage is found before use."""

import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import AnyProcess, run_python
from warm import python

from trainer.checkpoint import durable
from trainer.errors import CheckpointError
from trainer.system import atomic_files

# A process that imports torch once and then forks a writer on request: each writer is a real process to kill.
FORKING_WRITER = """
import os, sys
from pathlib import Path
import torch
from trainer.checkpoint import durable
from trainer.system import atomic_files

directory, done = Path(sys.argv[1]), Path(sys.argv[2])
for line in sys.stdin:
    child = os.fork()
    if not child:
        number = int(line)
        while True:
            number += 1
            durable.save_durably(directory, {"number": number, "weights": torch.full((100_000,), float(number))}, {})
            atomic_files.write_text(done, str(number))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""

# Saves in a child that kills itself with SIGKILL at its k-th system event, for every k until it gets through.
KILLED_AT_EACH_EVENT = """
import json, os, signal, sys
from pathlib import Path
import torch
from trainer.checkpoint import durable
from trainer.system import atomic_files

base, old, outcomes = Path(sys.argv[1]), sys.argv[2] == "old", []
WATCHED = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.symlink", "os.scandir", "shutil.rmtree"}

def content(number):
    return {"number": number, "weights": torch.full((1000,), float(number))}

for k in range(1, 200):
    directory = base / str(k) / "checkpoint"
    directory.parent.mkdir(parents=True)
    if old:
        durable.save_durably(directory, content(1), {})
    atomic_files.write_text(directory.parent / "note.txt", "old " * 1000)
    child = os.fork()
    if not child:
        seen = [0]
        def count(event, arguments):
            if event in WATCHED:
                seen[0] += 1
                if seen[0] == k:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        durable.save_durably(directory, content(2), {})
        atomic_files.write_text(directory.parent / "note.txt", "new " * 1000)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    try:
        number = durable.load_verified(directory)["number"] if old or directory.exists() else "absent"
    except Exception as error:
        number = repr(error)
    outcomes.append([k, number, (directory.parent / "note.txt").read_text()])
    if os.WIFEXITED(status):
        break
print(json.dumps(outcomes))
"""


class Touch:
    """Unpickles by making a file: what a hostile checkpoint would do, without the harm."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def content(number: int) -> dict[str, Any]:
    return {
        "step": number,
        "note": None,
        "nested": {"rates": [0.1, 0.2], "name": "sgd"},
        "weights": torch.arange(1000.0) * number,
        "half": torch.arange(7, dtype=torch.bfloat16),
        "whole": torch.tensor([2**60, -3]),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write_manifest_for(directory: Path) -> None:
    data = (directory / "state.pt").read_bytes()
    manifest = {"file": "state.pt", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(durable.with_checksum(manifest)))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "step-00000001"
    durable.save_durably(directory, content(1), {"step": 1, "scores": {"val/loss": 0.5}})
    return directory


@pytest.mark.parametrize("mmap", [False, True])
def test_what_is_saved_is_what_is_loaded(saved: Path, mmap: bool) -> None:
    assert same(durable.load_verified(saved, mmap=mmap), content(1))


def test_the_payload_loads_with_plain_torch(saved: Path) -> None:
    assert same(torch.load(saved / "state.pt", weights_only=True), content(1))


def test_the_manifest_has_the_size_the_hash_and_the_notes(saved: Path) -> None:
    manifest, data = json.loads((saved / "manifest.json").read_text()), (saved / "state.pt").read_bytes()
    assert manifest["bytes"] == len(data)
    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
    assert (manifest["step"], manifest["scores"]) == (1, {"val/loss": 0.5})
    assert durable.read_manifest(saved) == manifest


def test_saving_makes_missing_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    durable.save_durably(tmp_path / "a" / "b" / "c", content(1), {})
    assert names(tmp_path / "a" / "b") == ["c"]
    assert names(tmp_path / "a" / "b" / "c") == ["manifest.json", "state.pt"]


def test_an_existing_directory_is_replaced(saved: Path) -> None:
    (saved / "stray").write_text("of the old one")
    durable.save_durably(saved, content(2), {"step": 2})
    assert same(durable.load_verified(saved), content(2))
    assert durable.read_manifest(saved)["step"] == 2
    assert names(saved.parent) == [saved.name]
    assert names(saved) == ["manifest.json", "state.pt"]


def test_any_flipped_bit_is_detected(saved: Path) -> None:
    path, draw = saved / "state.pt", random.Random(0)
    good = path.read_bytes()
    for bit in draw.sample(range(8 * len(good)), 200):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError) as caught:
            durable.load_verified(saved)
        assert str(path) in str(caught.value)
    path.write_bytes(good)
    assert same(durable.load_verified(saved), content(1))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.01])
def test_another_length_is_detected(saved: Path, share: float) -> None:
    path = saved / "state.pt"
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CheckpointError, match="bytes instead of") as caught:
        durable.load_verified(saved)
    assert str(path) in str(caught.value)


def test_a_zeroed_block_is_detected(saved: Path) -> None:
    path = saved / "state.pt"
    with open(path, "r+b") as file:
        file.seek(1024)
        file.write(bytes(512))
    with pytest.raises(CheckpointError, match="SHA-256") as caught:
        durable.load_verified(saved)
    assert str(path) in str(caught.value)


def test_a_missing_payload_is_detected(saved: Path) -> None:
    (saved / "state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        durable.load_verified(saved)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.write_text(""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe\x00"), id="not text"),
        pytest.param(lambda path: path.write_text(path.read_text()[:-20]), id="cut short"),
        pytest.param(lambda path: path.write_text("[1, 2]"), id="a list"),
        pytest.param(lambda path: path.write_text('{"bytes": 3}'), id="without hash"),
        pytest.param(lambda path: path.write_text(path.read_text().replace("0.5", "0.4")), id="another note"),
        pytest.param(lambda path: path.write_text(path.read_text().replace("manifest_", "")), id="no seal"),
        pytest.param(lambda path: edit_manifest(path, sha256="0" * 64), id="another hash"),
        pytest.param(lambda path: edit_manifest(path, sha256=None), id="null hash"),
        pytest.param(lambda path: edit_manifest(path, bytes=1), id="another size"),
        pytest.param(lambda path: edit_manifest(path, bytes="many"), id="size of another type"),
    ],
)
def test_a_damaged_manifest_is_detected(saved: Path, edit: Callable[[Path], Any]) -> None:
    edit(saved / "manifest.json")
    with pytest.raises(CheckpointError) as caught:
        durable.load_verified(saved)
    assert str(saved) in str(caught.value)


def edit_manifest(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(durable.with_checksum(json.loads(path.read_text()) | changes)))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
@pytest.mark.parametrize("mmap", [False, True])
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path: Path, write: Callable[..., Any], mmap: bool) -> None:
    hostile, proof = tmp_path / "hostile", tmp_path / "proof"
    hostile.mkdir()
    write({"step": 1, "weights": Touch(proof)}, hostile / "state.pt")
    write_manifest_for(hostile)
    with pytest.raises(CheckpointError) as caught:
        durable.load_verified(hostile, mmap=mmap)
    assert str(hostile / "state.pt") in str(caught.value)
    assert not proof.exists()


def test_the_hostile_pickle_would_run_where_code_is_allowed(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    torch.save({"weights": Touch(proof)}, tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize("value", [[1, 2], torch.ones(3), 7])
def test_a_payload_that_is_no_dictionary_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "state.pt")
    write_manifest_for(tmp_path)
    with pytest.raises(CheckpointError, match="not a dictionary"):
        durable.load_verified(tmp_path)


def test_garbage_with_a_matching_manifest_is_refused(tmp_path: Path) -> None:
    draw = random.Random(1)
    for start in (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}q\x00("):
        for size in (0, 1, 30, 3000):
            (tmp_path / "state.pt").write_bytes(start + draw.randbytes(size))
            write_manifest_for(tmp_path)
            with pytest.raises(CheckpointError, match=r"state\.pt"):
                durable.load_verified(tmp_path)


def test_a_save_that_fails_leaves_the_old_content_and_no_debris(saved: Path) -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        durable.save_durably(saved, {"weights": torch.ones(10), "function": lambda: None}, {})
    assert same(durable.load_verified(saved), content(1))
    assert names(saved.parent) == [saved.name]


def test_a_file_that_cannot_grow_leaves_the_old_content_and_no_debris(saved: Path) -> None:
    script = f"""
import resource, signal, torch
from pathlib import Path
from trainer.checkpoint import durable
from trainer.system import atomic_files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
durable.save_durably(Path({str(saved)!r}), {{"weights": torch.ones(1_000_000)}}, {{}})
"""
    assert "Error" in run_python(saved.parent, "-c", script, code=1).stderr
    assert same(durable.load_verified(saved), content(1))
    assert names(saved.parent) == [saved.name]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AnyProcess]:
    places = (str(tmp_path / "checkpoint"), str(tmp_path / "done"))
    process = python("-c", FORKING_WRITER, *places, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0


def test_a_writer_killed_at_random_leaves_what_it_had_saved(tmp_path: Path, writer: AnyProcess) -> None:
    assert writer.stdin is not None
    assert writer.stdout is not None
    draw, number = random.Random(2), 0
    for _ in range(15):
        writer.stdin.write(f"{number}\n")
        writer.stdin.flush()
        child = int(writer.stdout.readline())
        wait_until_done(tmp_path, number + 1)
        time.sleep(draw.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert writer.stdout.readline() == "gone\n"
        payload = durable.load_verified(tmp_path / "checkpoint")
        assert payload["number"] in (done(tmp_path), done(tmp_path) + 1)
        assert torch.equal(payload["weights"], torch.full((100_000,), float(payload["number"])))
        number = payload["number"]


def done(folder: Path) -> int:
    path = folder / "done"
    return int(path.read_text()) if path.exists() else 0


def wait_until_done(folder: Path, number: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while done(folder) < number:
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.001)


def killed_at_each_event(folder: Path, old: str) -> list[tuple[int, Any, str]]:
    """[event, the number that loads or what went wrong, the text] for every event of one save and one text."""
    outcomes = json.loads(run_python(folder, "-c", KILLED_AT_EACH_EVENT, str(folder), old).stdout)
    assert len(outcomes) > 10
    assert outcomes[-1] == [len(outcomes), 2, "new " * 1000]
    assert {text for _, _, text in outcomes} == {"old " * 1000, "new " * 1000}
    return [(event, number, text) for event, number, text in outcomes]


def test_a_writer_killed_at_any_system_event_leaves_a_whole_directory_or_none(tmp_path: Path) -> None:
    assert {number for _, number, _ in killed_at_each_event(tmp_path, "none")} == {"absent", 2}


def test_a_writer_killed_at_any_system_event_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    assert {number for _, number, _ in killed_at_each_event(tmp_path, "old")} == {1, 2}


def test_a_reader_never_sees_half_a_text(tmp_path: Path) -> None:
    path, texts, stop = tmp_path / "config.yaml", ("a" * 300_000, "b" * 300_000), threading.Event()
    atomic_files.write_text(path, texts[0])
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(200):
        atomic_files.write_text(path, texts[i % 2])
    stop.set()
    reader.join()
    assert seen == set(texts)
    assert names(tmp_path) == ["config.yaml"]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    atomic_files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_files.write_text(path, "new \ud800")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (torch.ones(1).expand(1_000_000_000_000), "claims a tensor of 4000000000000 bytes"),
        (torch.empty(1_000_000, device="meta"), "asks for .*meta_tensor"),
        (torch.ones(10).to_sparse(), "asks for .*sparse_tensor"),
    ],
)
def test_a_tensor_that_is_not_as_large_as_it_claims_is_refused(tmp_path: Path, odd: torch.Tensor, reason: str) -> None:
    durable.save_durably(tmp_path / "checkpoint", {"weights": odd}, {})
    with pytest.raises(CheckpointError, match=reason):
        durable.load_verified(tmp_path / "checkpoint")
