"""The store: `last` and `best` always stand for complete checkpoints, and damage is passed over aloud."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run_python

from trainer.checkpoint.store import NullStore, Store
from trainer.errors import CheckpointError

# Saves step 3 as last and best over steps 1 (best) and 2 in a child that kills itself at its k-th system event.
KILLED_AT_EACH_EVENT = """
import json, os, signal, sys
from pathlib import Path
import torch
from trainer.checkpoint.store import Store

base, outcomes = Path(sys.argv[1]), []
WATCHED = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.symlink", "os.scandir", "shutil.rmtree"}

def save(store, step, best):
    store.save({"step": step, "weights": torch.full((100,), float(step))}, {"step": step}, best)
    store.wait()

def found(directory, name):
    try:
        return Store(directory).load(name)[0]["step"]
    except Exception as error:
        return repr(error)

for k in range(1, 400):
    directory = base / str(k)
    save(Store(directory), 1, True)
    save(Store(directory), 2, False)
    child = os.fork()
    if not child:
        seen = [0]
        def count(event, arguments):
            if event in WATCHED:
                seen[0] += 1
                if seen[0] == k:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        save(Store(directory, keep=2), 3, True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    outcomes.append([found(directory, "last"), found(directory, "best")])
    save(Store(directory, keep=2), 4, True)
    outcomes[-1] += [found(directory, "last"), found(directory, "best")]
    if os.WIFEXITED(status):
        break
print(json.dumps(outcomes))
"""


def payload(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((50,), float(step))}


def save(store: Store, *steps: int, best: bool = False) -> None:
    for step in steps:
        store.save(payload(step), {"step": step}, best)
        store.wait()


def found(store: Store) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in store.steps()]


def flip_a_bit(directory: Path) -> None:
    path = directory / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "checkpoints", keep=3)


def test_last_and_best_point_to_complete_checkpoints_after_every_save(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(1, 12):
        store.save(payload(step), {"step": step}, best=step in (1, 4, 9))
        store.wait()
        last, path = store.load("last")
        assert (last["step"], path.name) == (step, f"step-{step:08d}")
        best = max(s for s in (1, 4, 9) if s <= step)
        assert store.load("best")[0]["step"] == best
        assert torch.equal(last["weights"], payload(step)["weights"])
    assert not caplog.messages


def test_the_manifest_has_the_notes(store: Store) -> None:
    store.save(payload(3), {"step": 3, "epoch": 1, "scores": {"val/loss": 0.25}}, best=False)
    store.wait()
    path = store.resolve("last")
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["step"], manifest["epoch"], manifest["scores"]) == (3, 1, {"val/loss": 0.25})


def test_the_names_are_relative_links_so_that_a_run_can_be_moved(store: Store, tmp_path: Path) -> None:
    save(store, 1, best=True)
    save(store, 2)
    assert (store.directory / "last").readlink() == Path("step-00000002")
    assert (store.directory / "best").readlink() == Path("step-00000001")
    moved = tmp_path / "elsewhere" / "checkpoints"
    moved.parent.mkdir()
    shutil.move(store.directory, moved)
    assert Store(moved).load("last")[0]["step"] == 2
    assert Store(moved).load("best")[1] == moved / "step-00000001"


def test_the_newest_few_are_kept_and_the_best_with_them(store: Store) -> None:
    save(store, 1)
    save(store, 2, best=True)
    save(store, 3, 4, 5, 6, 7)
    assert found(store) == [2, 5, 6, 7]
    assert store.load("best")[0]["step"] == 2


def test_the_best_among_the_newest_takes_no_further_place(store: Store) -> None:
    save(store, 1, 2, 3)
    save(store, 4, best=True)
    assert found(store) == [2, 3, 4]


def test_a_best_that_is_beaten_is_removed_with_its_age(store: Store) -> None:
    save(store, 1, best=True)
    save(store, 2, 3, 4)
    assert found(store) == [1, 2, 3, 4]
    save(store, 5, best=True)
    assert found(store) == [3, 4, 5]


def test_saving_a_step_again_as_best_moves_the_name(store: Store) -> None:
    save(store, 1, best=True)
    save(store, 2)
    save(store, 2, best=True)
    assert store.load("best")[0]["step"] == 2


def test_a_damaged_last_is_reported_and_the_one_before_is_taken(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    save(store, 1, 2, 3)
    flip_a_bit(store.directory / "step-00000003")
    loaded, path = store.load()
    assert (loaded["step"], path.name) == (2, "step-00000002")
    assert len(caplog.messages) == 1
    assert str(store.directory / "step-00000003" / "state.pt") in caplog.messages[0]
    assert "SHA-256" in caplog.messages[0]
    assert [(record.name, record.levelname) for record in caplog.records] == [("trainer", "WARNING")]


def test_every_damaged_one_is_reported_on_the_way_to_a_good_one(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    save(store, 1, 2, 3)
    flip_a_bit(store.directory / "step-00000003")
    (store.directory / "step-00000002" / "manifest.json").unlink()
    assert store.load()[0]["step"] == 1
    assert ["step-00000003" in caplog.messages[0], "step-00000002" in caplog.messages[1], len(caplog.messages)] == [
        True,
        True,
        2,
    ]


def test_where_none_is_good_it_refuses(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    save(store, 1, 2)
    for path in store.steps():
        flip_a_bit(path)
    with pytest.raises(CheckpointError, match="no undamaged checkpoint"):
        store.load()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("name", ["best", "step-00000002"])
def test_a_damaged_one_that_was_asked_for_by_name_is_not_replaced(store: Store, name: str) -> None:
    save(store, 1)
    save(store, 2, best=True)
    save(store, 3)
    flip_a_bit(store.directory / "step-00000002")
    with pytest.raises(CheckpointError, match=name):
        store.load(name)


def test_a_directory_that_is_empty_counts_as_damaged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    save(store, 1, 2)
    (store.directory / "step-00000003").mkdir()
    (store.directory / "last").unlink()
    assert store.load()[0]["step"] == 2
    assert "step-00000003" in caplog.messages[0]


def test_a_lost_or_dangling_last_stands_for_the_newest(store: Store) -> None:
    save(store, 1, 2)
    (store.directory / "last").unlink()
    assert store.resolve("last").name == "step-00000002"
    (store.directory / "last").symlink_to("step-00000009")
    assert store.load()[0]["step"] == 2


def test_a_run_set_back_leaves_no_stale_future(store: Store) -> None:
    save(store, 3, 6, 9, 12)
    again = Store(store.directory, keep=3)
    assert again.load("step-00000006")[0]["step"] == 6
    save(again, 8)
    assert found(again) == [6, 8]
    assert again.load("last")[0]["step"] == 8


def test_a_step_made_again_replaces_the_old_one(store: Store) -> None:
    save(store, 3, 6)
    again = Store(store.directory)
    again.save({"step": 6, "weights": torch.zeros(2)}, {}, best=False)
    assert torch.equal(again.load()[0]["weights"], torch.zeros(2))


def test_leftovers_of_a_killed_save_are_no_checkpoints(store: Store) -> None:
    save(store, 1, 2)
    shutil.copytree(store.directory / "step-00000002", store.directory / ".tmp-step-00000007-0a1b2c3d")
    assert found(store) == [1, 2]
    assert store.load()[0]["step"] == 2


def test_leftovers_of_a_killed_save_are_removed_by_the_next(store: Store) -> None:
    save(store, 1)
    shutil.copytree(store.directory / "step-00000001", store.directory / ".tmp-step-00000002-0a1b2c3d")
    save(Store(store.directory), 2)
    assert sorted(path.name for path in store.directory.iterdir()) == ["last", "step-00000001", "step-00000002"]


def test_a_wrong_name_lists_what_there_is(store: Store) -> None:
    save(store, 1, 2)
    with pytest.raises(CheckpointError, match=r"'step-00000005' \(found: step-00000001, step-00000002\)"):
        store.resolve("step-00000005")
    with pytest.raises(CheckpointError, match=r"'best' \(found: step-00000001, step-00000002\)"):
        store.load("best")


@pytest.mark.parametrize("name", ["last", "best", "step-00000001"])
def test_where_there_is_nothing_it_says_so(store: Store, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"'{name}' \(found: none\)"):
        store.load(name)


def test_killed_at_any_system_event_both_names_still_load(tmp_path: Path) -> None:
    outcomes = json.loads(run_python(tmp_path, "-c", KILLED_AT_EACH_EVENT, str(tmp_path)).stdout)
    assert len(outcomes) > 10
    assert outcomes[-1] == [3, 3, 4, 4]
    assert {last for last, *_ in outcomes} == {2, 3}
    assert {best for _, best, *_ in outcomes} == {1, 3}
    assert {tuple(after) for _, _, *after in outcomes} == {(4, 4)}


def test_a_null_store_has_the_methods_of_a_store_and_keeps_nothing() -> None:
    for name in ("save", "check", "wait", "join", "invalidate", "load", "rewind", "steps"):
        assert inspect.signature(getattr(NullStore, name)) == inspect.signature(getattr(Store, name)), name
    store, called = NullStore(), []
    store.save(payload(1), {"step": 1}, True, called.append)
    store.check(), store.wait(), store.join(), store.invalidate(1), store.rewind(1, 1)
    assert (store.seconds, store.steps(), called) == (0, [], [])
    with pytest.raises(CheckpointError, match="'last': this run has no directory"):
        store.load()


def test_names_that_a_copy_has_made_folders_stand_for_the_same_checkpoints(tmp_path: Path) -> None:
    """`cp -rL`, archives and cloud folders follow links; the best was then taken to be absent."""
    store = Store(tmp_path / "run", keep=5)
    for step in (1, 2, 3):
        save(store, step, best=step == 2)
    store.wait()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    copy = Store(tmp_path / "copy", keep=5)
    assert not (tmp_path / "copy/best").is_symlink()
    assert copy.load("best")[0]["step"] == 2
    assert copy.load("last")[0]["step"] == 3
    save(copy, 4, best=True)
    assert [copy.load(name)[0]["step"] for name in ("best", "last")] == [4, 4]
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        *("best", "last"),
        *(f"step-{step:08d}" for step in (1, 2, 3, 4)),
    ]
