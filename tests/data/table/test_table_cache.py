"""Tables that are cached ready to train on: what is found again and when, and that nobody notices the difference."""

import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support import finish, run_python
from warm import python

from trainer.config.table import Csv
from trainer.config.transform import Clip, Impute, MinMax, Standardize
from trainer.data.on_disk import OnDisk
from trainer.data.table import table_cache
from trainer.data.table.cache_key import APART
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError, TrainerError
from trainer.runs.build import build_data

ROWS = 20_000
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
DEFAULT = table_cache.WORTHWHILE  # bytes from which on tables are cached
LARGE = 1 << 20  # and in these tests
CACHED = f"from trainer.data.table import table_cache\ntable_cache.WORTHWHILE = {LARGE}\n"  # begins each program below


@pytest.fixture(autouse=True)
def small_tables_are_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cache, "WORTHWHILE", LARGE)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that is just large enough to be cached: two numbers, a category, a date, a class; one row has a gap."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    words = np.array(["an apple in autumn", "a berry in summer", "a cherry in spring"])[draw.integers(0, 3, ROWS)]
    numbers, days = draw.normal(size=(ROWS, 2)), draw.integers(1, 29, ROWS)
    classes = np.where(numbers[:, 0] + draw.normal(size=ROWS) > 0, "yes", "no")
    lines = [
        f"{a:.9f},{b:.9f},{word},2024-02-{day:02d},{name}"
        for (a, b), word, day, name in zip(numbers, words, days, classes, strict=True)
    ]
    lines[77] = lines[77].replace(lines[77].split(",")[2], "NA")
    path.write_text("\n".join(["a,b,word,day,y", *lines]) + "\n")
    assert path.stat().st_size >= LARGE
    return path


@pytest.fixture
def table(tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table in a folder of its own; the user's cache is another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    return Path(shutil.copy(original, tmp_path / "data"))


def build(path: Path, seed: int = 0, **keys: Any) -> Data:
    return build_data(Csv(path=str(path), **{"target": "y", **keys}), seed)


def entries(path: Path) -> list[Path]:
    return sorted(entry for entry in path.parent.glob(".trainer-cache/table-*") if entry.is_dir())


def found_again(data: Data) -> bool:
    return "prepared before" in data.description


def assert_same(one: Data, other: Data) -> None:
    for name in ("spec", "notes", "warnings", "files", "preprocessing"):
        assert getattr(one, name) == getattr(other, name), name
    for part, twin in ((one.train, other.train), (one.val, other.val)):
        inputs, others = (split.inputs[:] for split in (part, twin))
        assert torch.equal(inputs, others)
        for name in ("targets", "rows", "weights"):
            tensor, its = getattr(part, name), getattr(twin, name)
            assert (tensor is None and its is None) or (tensor.dtype == its.dtype and torch.equal(tensor, its)), name


def test_a_second_run_finds_what_the_first_one_made(table: Path) -> None:
    plain = build(table, cache_bytes=0)
    assert entries(table) == [] and not list(table.parent.glob(".trainer-cache/*"))
    first, second = build(table), build(table)
    assert (found_again(plain), found_again(first), found_again(second)) == (False, False, True)
    assert_same(plain, first)
    assert_same(plain, second)
    assert len(entries(table)) == 1
    assert not [path for path in table.parent.glob(".trainer-cache/*") if path.name.startswith(".tmp")]


def test_weights_and_numbers_are_found_again(table: Path) -> None:
    keys = {"target": "a", "weight": "b", "transforms": {}}
    text = table.read_text().replace("-", "")  # a weight is not negative
    table.write_text(text.replace("202402", "2024-02-"))
    assert table.stat().st_size >= LARGE
    first, second = build(table, on_error="skip", **keys), build(table, on_error="skip", **keys)
    assert found_again(second) and second.train.weights is not None and second.spec.labels is None
    assert_same(first, second)


@pytest.mark.parametrize(
    "keys",
    [
        {"seed": 1},
        {"val_fraction": 0.3},
        {"folds": 3, "fold": 1},
        {"ignore": ["a"]},
        {"missing": ["NA", "0"]},
        {"transforms": {"numeric": ["impute", "robust"]}},
        {"categories": "embedding"},
        {"target_type": "class"},
        {"on_error": "skip"},
    ],
)
def test_another_seed_or_key_is_another_table(table: Path, keys: dict[str, Any]) -> None:
    build(table)
    made = build(table, **keys)
    assert not found_again(made)
    assert_same(made, build(table, cache_bytes=0, **keys))
    assert found_again(build(table)) and found_again(build(table, **keys)), "both are cached"


def test_each_key_of_the_config_counts_or_has_a_reason_not_to() -> None:
    names = {field.name for field in dataclasses.fields(Csv)}
    assert names > APART
    counted = set(dataclasses.asdict(Csv(path="x", target="y"))) - APART
    assert counted == names - APART and {"target", "missing", "val_fraction", "split", "on_error"} <= counted


def test_which_files_are_for_validation_counts(table: Path) -> None:
    rows = table.read_text().splitlines()
    for name, part in (("p0", rows[1::3]), ("p1", rows[2::3]), ("p2", rows[3::3])):
        (table.parent / f"{name}.csv").write_text("\n".join([rows[0], *part]) + "\n")
    paths = [str(table.parent / f"{name}.csv") for name in ("p0", "p1", "p2")]
    sizes = []
    for train, val in ((paths, None), (paths[:1], paths[1:]), (paths[:2], paths[2:])):
        data = build_data(Csv(path=train, val_path=val, target="y"), 0)
        assert not found_again(data)
        sizes.append(len(data.val) / ROWS)
    assert sizes == pytest.approx([0.2, 2 / 3, 1 / 3], abs=1e-3)


def test_transforms_count_by_name_and_keys(table: Path) -> None:
    chains = [[Standardize()], [MinMax()], [Clip(0.1, 0.9)], [Clip(0.2, 0.9)], ["standardize"]]
    made = [build(table, ignore=["word", "day"], transforms={"numeric": [Impute(), *chain]}) for chain in chains]
    assert [found_again(data) for data in made] == [False, False, False, False, True]
    assert made[1].train.inputs.max() == 1


@pytest.mark.parametrize("keys", [{"batch_size": 7}, {"eval_batch_size": 7}, {"drop_last": True}, {"memory": "disk"}])
def test_how_a_table_is_walked_through_does_not_matter(table: Path, keys: dict[str, Any]) -> None:
    build(table)
    assert found_again(build(table, **keys))


def test_a_changed_file_is_read_again_though_its_size_and_time_are_the_same(table: Path) -> None:
    first, times = build(table), table.stat()
    content = bytearray(table.read_bytes())
    place = len(content) // 2 + content[len(content) // 2 :].index(b"\n") + 4  # a decimal of some row
    content[place] = ord("1") if content[place] != ord("1") else ord("2")
    table.write_bytes(content)
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = build(table)
    assert not found_again(changed)
    sums = [sum(float(part.inputs.double().sum()) for part in (data.train, data.val)) for data in (first, changed)]
    assert sums[0] != sums[1]
    os.utime(table)
    assert found_again(build(table)), "the time alone says nothing"


def test_a_file_more_is_another_table(table: Path) -> None:
    build(table)
    (table.parent / "more.csv").write_text("a,b,word,day,y\n1,2,a berry in summer,2024-02-02,yes\n")
    both = build(Path(f"{table.parent}/*.csv"))
    assert not found_again(both) and len(both.train) + len(both.val) == ROWS + 1


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = ["inputs", "targets", "manifest", "cut", "gone", "empty", "garbage", "list", "deep", "pickle", "file", "link"]


@pytest.mark.parametrize(
    "damage", [*DAMAGES[::2], *(pytest.param(name, marks=pytest.mark.full) for name in DAMAGES[1::2])]
)
def test_what_is_damaged_is_prepared_again(table: Path, damage: str) -> None:
    first = build(table, cache_bytes=0)  # that it maps files that are cut short here would be another matter
    build(table)
    (entry,) = entries(table)
    inputs = entry / "train.inputs.npy"
    match damage:
        case "inputs":
            flip(inputs, inputs.stat().st_size // 2)
        case "targets":
            flip(entry / "val.targets.npy", -1)
        case "manifest":
            manifest = entry / "data.json"
            manifest.write_text(manifest.read_text().replace('"yes"', '"yet"'))
        case "cut":
            os.truncate(inputs, inputs.stat().st_size - 4)
        case "gone":
            inputs.unlink()
        case "empty":
            (entry / "data.json").write_text("")
        case "garbage":
            (entry / "data.json").write_bytes(b"\xff\0")
        case "list":
            (entry / "data.json").write_text("[]")
        case "deep":
            (entry / "data.json").write_text("[" * 100_000)
        case "file":
            shutil.rmtree(entry)
            entry.write_text("no folder")
        case "link":
            shutil.move(entry, entry.with_name("elsewhere"))
            flip(entry.with_name("elsewhere") / "train.inputs.npy", -1)
            entry.symlink_to("elsewhere")
        case "pickle":
            np.save(inputs, np.array([{}], dtype=object), allow_pickle=True)
    again = build(table)
    assert not found_again(again)
    assert_same(first, again)
    assert found_again(build(table)), "and cached in the place of the damaged one"


def test_training_on_a_cached_table_does_not_change_it(table: Path) -> None:
    build(table)
    cached = build(table)
    cached.train.inputs.fill_(float("nan"))
    again = build(table)
    assert found_again(again) and torch.isfinite(again.train.inputs).all()


def test_small_tables_are_not_cached(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text("x,y\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(100)))
    build(path)
    assert [one.name for one in tmp_path.iterdir()] == ["small.csv"]


def test_tables_are_cached_from_the_size_on_that_the_key_says() -> None:
    assert DEFAULT == 2 << 20
    assert "2 MB" in Csv.keys()["cache_bytes"][2].doc


def test_the_least_recently_used_tables_are_evicted_first(table: Path) -> None:
    for seed in (0, 1):
        build(table, seed=seed)
        for entry in entries(table):
            os.utime(entry / "data.json", (1_000_000 + seed, 1_000_000 + seed))  # long ago, both
    assert found_again(build(table, seed=0)), "which was used now"
    limit = int(2.5 * sum(file.stat().st_size for file in entries(table)[0].glob("*")))
    build(table, seed=2, cache_bytes=limit)
    assert len(entries(table)) == 2
    assert found_again(build(table, seed=0)) and found_again(build(table, seed=2))
    assert not found_again(build(table, seed=1))


def test_a_table_in_use_may_be_removed(table: Path) -> None:
    expected, used = build(table, cache_bytes=0), build(table)
    shutil.rmtree(table.parent / ".trainer-cache")
    assert_same(expected, used)


def test_where_the_folder_cannot_be_written_the_users_cache_is_used(table: Path, tmp_path: Path) -> None:
    (table.parent / ".trainer-cache").write_text("a file, so that no folder can be made")
    first, second = build(table), build(table)
    assert found_again(second)
    assert_same(first, second)
    assert list((tmp_path / "home" / "trainer").rglob("data.json"))


def test_where_nothing_can_be_written_the_table_is_in_memory(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table.parent / ".trainer-cache").write_text("")
    (tmp_path / "home").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "home"))
    data = build(table)
    assert not found_again(data)
    assert_same(data, build(table, cache_bytes=0))
    with pytest.raises(TrainerError, match="home"):
        build(table, memory="disk")


FULL = """
import resource, sys
from trainer.config.table import Csv
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may be larger: as on a full disk
from trainer.errors import TrainerError
from trainer.runs.build import build_data
try:
    data = build_data(Csv(path=sys.argv[1], target="y", memory=sys.argv[2]), 0)
except TrainerError as error:
    sys.exit(f"refused: {error}")
print(data.description, float(data.train.inputs.double().sum()))
"""


def test_a_full_disk_is_no_reason_not_to_train_in_memory(table: Path) -> None:
    def run(memory: str) -> subprocess.CompletedProcess[str]:
        return run_python(table.parent, "-c", CACHED + FULL, str(table), memory, code=None)

    ram, disk = run("ram"), run("disk")
    total = float(build(table, cache_bytes=0).train.inputs.double().sum())
    assert ram.returncode == 0, ram.stderr
    assert ram.stdout.split()[-1] == repr(total)
    assert disk.returncode == 1 and disk.stderr.startswith("refused: ") and ".trainer-cache" in disk.stderr
    assert entries(table) == [] and not list(table.parent.glob(".trainer-cache/.tmp*"))


TOTAL = """
import sys
from trainer import Csv, build_data
data = build_data(Csv(path=sys.argv[1], target="y"), 0)
print("prepared before" in data.description, float(data.train.inputs.double().sum()))
"""


def test_of_runs_that_start_at_once_one_reads_the_table(table: Path) -> None:
    processes = [python("-c", CACHED + TOTAL, str(table), cwd=table.parent, **PIPES) for _ in range(4)]
    results = [finish(process).stdout.split() for process in processes]
    assert sorted(again for again, _ in results) == ["False", "True", "True", "True"]
    assert len({total for _, total in results}) == 1
    assert len(entries(table)) == 1


KILLED = """
import os, signal, sys
from trainer.config.table import Csv
from trainer.data.table import table_cache
from pathlib import Path
config = Csv(path=sys.argv[1], target="y", memory=sys.argv[2], cache_bytes=int(sys.argv[3]))
with table_cache.open_cache(config, 0, [Path(sys.argv[1])], 0) as cache:
    cache.rows("train.inputs", (1000, 10))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("memory", "limit"), [("ram", 1 << 30), ("disk", 1 << 30), ("disk", 0)])
def test_what_a_killed_process_left_is_removed_by_the_next_whatever_it_reads(
    table: Path, memory: str, limit: int
) -> None:
    run_python(table.parent, "-c", CACHED + KILLED, str(table), memory, str(limit), code=-signal.SIGKILL)
    assert len(list(table.parent.glob(".trainer-cache/.tmp-*"))) == 1
    build(table, seed=5)
    assert not list(table.parent.glob(".trainer-cache/.tmp-*"))


def test_files_that_are_being_made_are_not_taken_for_leftovers(table: Path) -> None:
    config = Csv(path=str(table), target="y")
    with table_cache.open_cache(config, 0, [table], 0) as cache:
        (work,) = table.parent.glob(".trainer-cache/.tmp-*")
        run_python(table.parent, "-c", CACHED + OTHER, str(table))
        assert work.is_dir()
        cache.rows("train.inputs", (10, 10))


OTHER = """
import sys
from trainer import Csv, build_data
build_data(Csv(path=sys.argv[1], target='y'), 1)
"""


def test_who_waits_is_told(table: Path) -> None:
    other = OTHER.replace(", 1)", ", 0)")
    with table_cache.open_cache(Csv(path=str(table), target="y"), 0, [table], 0):
        process = python("-c", CACHED + other, str(table), cwd=table.parent, **PIPES)
        assert process.stderr is not None
        assert process.stderr.readline() == f"waiting   for another run that reads {table}\n"
    finish(process)


def test_a_file_that_changes_while_it_is_read_is_not_cached(table: Path) -> None:
    config = Csv(path=str(table), target="y")
    made = build(table, cache_bytes=0)
    with table_cache.open_cache(config, 0, [table], 0) as cache:
        os.utime(table)
        assert_same(made, cache.commit(made))
    assert entries(table) == []
    with table_cache.open_cache(config, 0, [table], 0) as cache:
        cache.commit(made)
    assert len(entries(table)) == 1


def test_a_table_that_alone_is_too_large_is_not_cached(table: Path) -> None:
    assert_same(build(table, cache_bytes=1), build(table, cache_bytes=0))
    assert entries(table) == []


def test_a_run_in_memory_goes_on_when_the_cache_is_deleted_under_it(table: Path) -> None:
    made = build(table, cache_bytes=0)
    for memory in ("ram", "disk"):
        with table_cache.open_cache(Csv(path=str(table), target="y", memory=memory), 0, [table], 0) as cache:
            shutil.rmtree(table.parent / ".trainer-cache")
            if memory == "ram":
                assert_same(made, cache.commit(made))
                continue
            with pytest.raises(FileNotFoundError) as caught:
                cache.commit(made)
            with pytest.raises(TrainerError, match=r"\.trainer-cache"):
                cache.fall_back(caught.value)
    assert entries(table) == []


def test_a_pattern_does_not_find_the_cache(table: Path) -> None:
    first = build(table.parent / "**" / "*")
    again = build(table.parent / "**" / "*")
    assert found_again(again)
    assert_same(first, again)


PLUGIN = '''
from dataclasses import dataclass
from trainer.config.transform import TransformConfig, NUMBERS
from trainer.config.registry import register

@register("transform", "doubled")
@dataclass
class Doubled(TransformConfig):
    """Twice the value."""
    takes = NUMBERS
    def fit(self, values, levels):
        return {}
    def apply(self, values, state):
        from doubling import factor
        return values * factor
'''


def test_a_transform_of_a_plugin_may_change_so_its_tables_are_not_cached(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    source = CACHED + (
        "import sys; sys.dont_write_bytecode = True\n"
        "from trainer.config import plugins; plugins.load(['plugin'])\n"
        "from trainer import Csv, build_data\n"
        f"data = build_data(Csv(path={str(table)!r}, target='y', ignore=['word', 'day'], memory=sys.argv[1],"
        " transforms={'numeric': ['impute', 'doubled']}), 0)\n"
        "print(float(data.train.inputs[:].double().abs().sum()))"
    )
    sums = []
    for factor, memory in ((2, "ram"), (4, "ram"), (4, "disk")):
        (tmp_path / "doubling.py").write_text(f"factor = {factor}\n")
        sums.append(float(run_python(tmp_path, "-c", source, memory).stdout))
    assert sums[1] == pytest.approx(2 * sums[0]) and sums[2] == sums[1]
    assert entries(table) == []


# On disk


def assert_on_disk_is_as_in_memory(path: Path, **keys: Any) -> Data:
    ram, disk = (build(path, memory=memory, cache_bytes=0, **keys) for memory in ("ram", "disk"))
    for split in (disk.train, disk.val):
        assert isinstance(split.inputs, OnDisk)
    assert "on disk" in disk.description
    assert_same(ram, disk)
    assert not list(path.parent.glob(".trainer-cache/*")), "the files are gone by name"
    return disk


def test_a_table_on_disk_has_the_same_rows(table: Path) -> None:
    assert_on_disk_is_as_in_memory(table)
    transforms = {"datetime": ["calendar", "impute"]}
    assert_on_disk_is_as_in_memory(table, target="a", categories="embedding", transforms=transforms)


def test_rows_that_are_left_out_are_left_out_on_disk(table: Path) -> None:
    lines = table.read_text().splitlines()
    lines[4_001] += ",1"
    lines[9_000] = "1.5"
    table.write_text("\n".join(lines) + "\n")
    made = assert_on_disk_is_as_in_memory(table, on_error="skip")
    assert len(made.train) + len(made.val) == ROWS - 2
    assert made.files["rejected.csv"].count("\n") == 3
    with pytest.raises(DataError, match="line 4002"):
        build(table, memory="disk")


def test_parts_of_different_types_on_disk_have_the_same_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name, high in (("a", 100), ("b", 10**12)):
        numbers = draw.integers(0, high, 100_000)
        columns = {"x": numbers, "z": numbers / 7 if high > 100 else numbers, "y": numbers % 2}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    assert_on_disk_is_as_in_memory(tmp_path / "*.parquet", transforms={"numeric": ["impute"]})


def test_numbers_told_to_be_yes_or_no_on_disk_have_the_same_rows(table: Path) -> None:
    text = table.read_text().replace(",yes", ",1").replace(",no", ",0")
    table.write_text(text)
    assert_on_disk_is_as_in_memory(table, target="a", boolean=["y"], categorical=["day"])


@pytest.mark.parametrize("gaps", [False, True])
def test_parquet_on_disk_has_the_same_rows(tmp_path: Path, gaps: bool) -> None:
    draw = np.random.default_rng(0)
    columns = {
        "a": pa.array(draw.normal(size=200_000)),
        "word": pa.array(np.array(["x", "y", "z"])[draw.integers(0, 3, 200_000)]),
        "y": pa.array(draw.integers(0, 2, 200_000), mask=draw.random(200_000) < 0.001 if gaps else None),
    }
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), path)
    made = assert_on_disk_is_as_in_memory(path, on_error="skip")
    rejected = made.files.get("rejected.csv", "\n").count("\n") - 1
    assert len(made.train) + len(made.val) + rejected == 200_000 and (rejected > 0) is gaps


def test_what_is_prepared_in_memory_serves_from_disk_and_the_other_way_round(table: Path) -> None:
    disk = build(table, memory="disk")
    ram = build(table)
    assert found_again(ram) and isinstance(ram.train.inputs, torch.Tensor)
    assert_same(disk, ram)


def test_classes_cannot_be_drawn_one_by_one_from_disk() -> None:
    with pytest.raises(ConfigError, match=r"data\.memory=disk.*data\.sampling=balanced"):
        Csv(path="x.csv", target="y", memory="disk", sampling="balanced")
