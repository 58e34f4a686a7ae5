"""Labels of images from tables and names: columns by content, splits, groups, and what does not fit."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainer.config.data import ImageFolder
from trainer.config.model import Mlp
from trainer.config.root import Config
from trainer.config.task import Regression
from trainer.data.datasets.image_folder import load_image_folder
from trainer.data.images.image_samples import read_image_samples
from trainer.data.images.label_rows import read_label_rows
from trainer.data.types import Data
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data_and_task

COLOURS = {"rust": 0, "scab": 1, "well": 2}
NAMES = sorted(COLOURS)
COUNT = 30


def make_images(folder: Path, count: int = COUNT, name: str = "{i:03d}.png") -> list[tuple[str, str]]:
    """Images whose colour tells the class; returns (file name, class) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        label = NAMES[i % 3]
        pixels = np.full((8, 8, 3), i, np.uint8)
        pixels[..., COLOURS[label]] = 200
        rows.append((name.format(i=i, label=label), label))
        Image.fromarray(pixels).save(folder / rows[-1][0])
    return rows


def load(root: Path, **keys: Any) -> Data:
    return load_image_folder(ImageFolder(root=str(root), augment=False, workers=0, **keys), 0)


def check(data: Data, count: int = COUNT) -> None:
    """Each image has the class of its colour."""
    assert data.spec.labels == tuple(NAMES)
    assert len(data.train) + len(data.val) == count
    for part in (data.train, data.val):
        for i in range(len(part)):
            colour = int(part.inputs[i].float().mean((1, 2)).argmax())  # type: ignore[index]
            assert COLOURS[NAMES[int(part.targets[i])]] == colour


def write(path: Path, rows: list[Any], header: str | None = "id,label", delimiter: str = ",") -> Path:
    lines = [header.replace(",", delimiter)] if header else []
    path.write_text("\n".join([*lines, *(delimiter.join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_table_names_the_files_in_whatever_way(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d" / "all")
    forms = {
        "names": lambda name: name,
        "without ending": lambda name: name.removesuffix(".png"),
        "paths": lambda name: f"all/{name}",
        "paths of another place": lambda name: f"somewhere/else/{name}",
        "of Windows": lambda name: f".\\all\\{name}",
    }
    for words, form in forms.items():
        for delimiter in (",", "\t", ";", " "):
            for header in ("image_id,label", "label_id,Class", None):
                table = write(tmp_path / "t.csv", [(form(n), c) for n, c in rows], header, delimiter)
                data = load(tmp_path / "d", labels=str(table))
                check(data), words
                assert any("30 found = 30 used" in note for note in data.notes)
    swapped = write(tmp_path / "t.csv", [(c, i, n) for i, (n, c) in enumerate(rows)], "kind,number,photo")
    with pytest.raises(ConfigError, match=r"data\.label_column is needed: .* It has kind, number, photo"):
        load(tmp_path / "d", labels=str(swapped))
    check(load(tmp_path / "d", labels=str(swapped), label_column="kind"))
    for key in ("label_column", "file_column", "split_column"):
        with pytest.raises(ConfigError, match=rf"data\.{key}=kin: .*Did you mean 'kind'"):
            load(tmp_path / "d", labels=str(swapped), **{"label_column": "kind", key: "kin"})


def test_other_kinds_of_tables_say_the_same(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d")
    entries = [{"file_name": name, "label": label} for name, label in rows]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, entries)))
    pq.write_table(pa.Table.from_pylist(entries), tmp_path / "t.parquet")
    onehot = [(name, *(int(label == one) for one in NAMES)) for name, label in rows]
    write(tmp_path / "t.csv", onehot, "image," + ",".join(NAMES))
    for name in ("t.jsonl", "t.parquet", "t.csv"):
        check(load(tmp_path / "d", labels=str(tmp_path / name)))
    several = [(name, 1, int(label == "rust"), 0) for name, label in rows]
    with pytest.raises(DataError, match="rust, scab, well … are any number of labels for an image"):
        load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", several, "image," + ",".join(NAMES))))
    (tmp_path / "t.csv").write_text("")
    for wrong, words in (("t.csv", "it is empty"), ("no.csv", "no such file")):
        with pytest.raises(DataError, match=words):
            load(tmp_path / "d", labels=str(tmp_path / wrong))
    assert read_label_rows(write(tmp_path / "t.csv", [("a b", "x|y")], "name,of")) == [["name", "of"], ["a b", "x|y"]]


def test_metadata_beside_the_images_is_found_and_a_pattern_reads_names(tmp_path: Path) -> None:
    for split, count in (("train", 30), ("validation", 9)):
        rows = make_images(tmp_path / "hf" / split, count)
        write(tmp_path / "hf" / split / "metadata.csv", rows, "file_name,label")
    data = load(tmp_path / "hf")
    check(data, 39)
    assert (len(data.train), len(data.val)) == (30, 9)
    make_images(tmp_path / "names", name="{label}.{i}.png")
    check(load(tmp_path / "names", label_pattern=r"^([a-z]+)\."))
    for pattern, words in (
        ("^x(.)", "fits none of 30 images"),
        ("(", "not a regular expression"),
        ("a", "parentheses"),
    ):
        with pytest.raises((ConfigError, DataError), match=words):
            load(tmp_path / "names", label_pattern=pattern)


def test_splits_and_groups_of_a_table_are_kept(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d")
    sides = [(n, c, "Training" if i < 20 else "valid") for i, (n, c) in enumerate(rows)]
    data = load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", sides, "id,label,split")))
    check(data)
    assert (len(data.train), len(data.val)) == (20, 10)
    three = [(n, c, ("train", "val", "test", "?")[3 if i > 27 else i // 10]) for i, (n, c) in enumerate(rows)]
    data = load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", three, "id,label,split")))
    assert (len(data.train), len(data.val)) == (12, 10)
    assert any("8 images are for a test, and not used" in note for note in data.notes)
    assert any("2 images have another word than train, val or test" in warning for warning in data.warnings)
    folds = str(write(tmp_path / "t.csv", [(n, c, i % 5) for i, (n, c) in enumerate(rows)], "id,label,fold"))
    data = load(tmp_path / "d", labels=folds)
    assert (len(data.train), len(data.val)) == (24, 6)
    assert not any("the split" in note for note in data.notes)
    with pytest.raises(DataError, match=r"data\.split_column=fold: none of its values is train, val or test"):
        load(tmp_path / "d", labels=folds, split_column="fold")
    patients = [(n, c, f"p{i // 3}") for i, (n, c) in enumerate(rows)]  # three images of each
    table = str(write(tmp_path / "t.csv", patients, "id,label,patient_id"))
    for keys in ({}, {"val_fraction": 0.3}, {"folds": 3, "fold": 1}):
        data = load(tmp_path / "d", labels=table, **keys)
        check(data)
        number = {n: i for i, (n, _) in enumerate(rows)}
        held = Counter(int(part.inputs[i].flatten().min()) // 3 for part in [data.val] for i in range(len(part)))  # type: ignore[index]
        assert set(held.values()) == {3}, "whole patients"
        assert len(number) == COUNT


def test_what_does_not_fit_is_counted_and_told(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d" / "train")
    (tmp_path / "d" / "test").mkdir()
    for name, _ in rows[:6]:  # files of the same names, in no table
        Image.new("RGB", (8, 8)).save(tmp_path / "d" / "test" / name)
    extra = [*rows[:-4], ("gone.png", "rust"), ("000.png", "rust"), ("also.png", ""), ("029.png", "")]
    data = load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", extra)))
    check(data, 27)  # each is the one in the folder of most of the others
    assert any("36 found = 26 used + 10 not in the table" in note for note in data.notes)
    told = " ".join(data.warnings)
    assert "2 of 30 rows of" in told
    assert "1 of 30 rows of" in told, "the one without a class"
    assert "the first: gone.png, also.png" in told
    assert "1 images are in" in told
    with pytest.raises(DataError, match=r"no column of it names the images in .*'x1', 'rust'.* the folder t.*png"):
        load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", [(f"x{i}", "rust") for i in range(1, 9)])))
    with pytest.raises(DataError, match="test/, train/ are splits, not classes"):
        load(tmp_path / "d")


def test_held_out_images_are_never_those_that_a_table_keeps_for_validation_or_a_test(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d")
    sides = [(n, c, ("train", "val", "test")[i // 10], i // 6) for i, (n, c) in enumerate(rows)]
    table = str(write(tmp_path / "t.csv", sides, "id,label,split,who"))
    for keys, count in (({"val_fraction": 0.3}, 3), ({"folds": 2, "fold": 1}, 5)):
        for group in ({}, {"group_column": "who"}):
            data = load(tmp_path / "d", labels=table, **keys, **group)
            check(data, 10)
            assert abs(len(data.val) - count) <= 1
            assert any("20 images are for validation or a test, and not used" in note for note in data.notes)
            assert not any("both sides" in warning for warning in data.warnings)
    data = load(tmp_path / "d", labels=table, group_column="who")
    assert any("1 groups are on both sides of the split of data.labels, the first: 1" in w for w in data.warnings)
    with pytest.raises(DataError, match="no image is for training, and 30 are for val"):
        load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", [(n, c, "val") for n, c in rows], "id,label,split")))


def test_weights_of_a_table_count_in_the_training_loss(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d")
    weighted = [(n, c, 3 if c == "rust" else 0.5) for n, c in rows]
    for header, keys in (("id,label,sample_weight", {}), ("id,label,trust", {"weight_column": "trust"})):
        table = str(write(tmp_path / "t.csv", weighted, header))
        for cache_bytes in (10**9, 0):  # decoded, and streamed
            data = load(tmp_path / "d", labels=table, cache_bytes=cache_bytes, **keys)
            check(data)
            for part in (data.train, data.val):
                assert part.weights is not None
                assert part.weights.tolist() == [3.0 if target == 0 else 0.5 for target in part.targets]
        assert any(note.endswith("how much each counts") for note in data.notes)
    sides = [(*row, "train" if i > 9 else "val") for i, row in enumerate(weighted)]
    data = load(tmp_path / "d", labels=str(write(tmp_path / "t.csv", sides, "id,label,sample_weight,split")))
    assert data.val.weights is not None and data.train.weights is not None
    assert data.val.weights.tolist() == [weight for _, _, weight, side in sides if side == "val"]
    assert data.train.weights.tolist() == [weight for _, _, weight, side in sides if side == "train"]
    kilograms = str(write(tmp_path / "t.csv", weighted, "id,label,weight"))
    assert load(tmp_path / "d", labels=kilograms).train.weights is None
    for wrong in ("-1", "heavy", "nan", ""):
        table = str(write(tmp_path / "t.csv", [*weighted[:-1], (*rows[-1], wrong)], "id,label,trust"))
        with pytest.raises(DataError, match=rf"trust \(data\.weight_column\) holds '{wrong}'; a weight is"):
            load(tmp_path / "d", labels=table, weight_column="trust")


def test_labels_that_are_numbers_are_predicted_where_a_regression_is_asked_for(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d")
    table = str(write(tmp_path / "t.csv", [(n, i / 8) for i, (n, _) in enumerate(rows)], "id,age"))
    config = Config(
        model=Mlp(), data=ImageFolder(root=str(tmp_path / "d"), labels=table, augment=False), task=Regression()
    )
    data, _ = build_data_and_task(config)
    assert data.spec.labels is None and data.spec.outputs == 1
    assert any("30 different numbers; task=regression" in note for note in data.notes)
    for part in (data.train, data.val):
        for image, target in zip(part.inputs, part.targets, strict=True):  # type: ignore[arg-type]
            assert float(image.min()) / 8 == float(target)


def test_a_table_is_read_in_any_encoding_and_lists_are_several_labels(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "d", 6)
    text = "id;état\n" + "".join(f"{n};{'brûlé' if i % 2 else 'sain'}\n" for i, (n, _) in enumerate(rows))
    long = "id;etat\n" + "000.png;sain\n" * 90_000 + "001.png;brûlé\n"
    for encoded in (text.encode("cp1252"), text.encode("utf-16"), text.encode("utf-8-sig"), long.encode("cp1252")):
        (tmp_path / "t.csv").write_bytes(encoded)
        assert {row[1] for row in read_label_rows(tmp_path / "t.csv")[1:]} == {"brûlé", "sain"}
    lists = [{"file_name": name, "label": [label, "x"][: 1 + i % 2]} for i, (name, label) in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "t.parquet")
    with pytest.raises(
        DataError, match=r"label has several labels for an image, such as 'scab\|x', which no task here learns"
    ):
        load(tmp_path / "d", labels=str(tmp_path / "t.parquet"))
    for several in ("rust|scab|well", "rust;scab", "rust scab", "scab, rust"):
        one = [*rows[:3], *(("{n}.png", "green apple") for _ in range(20)), (rows[3][0], several)]
        one += [(n, several) for n, _ in rows[3:]] * (";" in several or "|" in several)
        table = write(tmp_path / "t.csv", [(n, f'"{c}"') for n, c in one], "id,label")
        with pytest.raises(DataError, match="several labels for an image"):
            load(tmp_path / "d", labels=str(table), file_column="id")
        data = load(tmp_path / "d", labels=str(table), file_column="id", label_column="label")
        assert several in (data.spec.labels or ()), "a class of its own, where that is asked for"
    (tmp_path / "t.csv").write_text('id,label\n"000.png,rust\n')
    with pytest.raises(DataError, match=r"t\.csv, line 2: a quote is opened and never closed"):
        load(tmp_path / "d", labels=str(tmp_path / "t.csv"))


def test_a_table_is_evaluated_and_predicted(tmp_path: Path) -> None:
    """Its images are below its own folder, or else below that of the run."""
    rows = make_images(tmp_path / "d")
    table = write(tmp_path / "t.csv", rows, "picture,label")
    config = ImageFolder(root=str(tmp_path / "d"), labels=str(table), file_column="picture", augment=False)
    data = load_image_folder(config, 0)
    make_images(tmp_path / "new" / "images", 9)
    for i in range(9):  # of the same names as the run's, and others
        Image.new("RGB", (8, 8), (100 + i, 100 + i, 100 + i)).save(tmp_path / "new" / "images" / f"{i:03d}.png")
    new = write(tmp_path / "new" / "new.csv", [*rows[:9], ("gone.png", "rust")], "picture,label")
    old = write(tmp_path / "elsewhere.csv", rows[3:12], "picture,label")
    make_images(tmp_path / "elsewhere", 2, "other{i}.png")
    old = old.rename(tmp_path / "elsewhere" / "old.csv")
    for table, first, missing in ((new, 100, True), (old, 3, False)):
        for labelled in (True, False):
            samples = read_image_samples(config, str(table), data.spec, data.preprocessing, labelled)
            numbers = [int(image.min()) for image in samples.split.inputs]  # type: ignore[attr-defined]
            assert numbers == [*range(first, first + 9)]
            assert samples.split.targets.tolist() == ([i % 3 for i in range(9)] if labelled else [0] * 9)
            assert [Path(str(name)).name for name in samples.names] == [f"{i % 100:03d}.png" for i in numbers]
            assert missing == any("gone.png" in note for note in samples.notes)
    (tmp_path / "new" / "images" / "000.png").rename(tmp_path / "image.txt")
    samples = read_image_samples(config, str(tmp_path / "image.txt"), data.spec, data.preprocessing, False)
    assert list(samples.names) == ["image.txt"], "an image whatever its name ends with: it was asked for"
    strange = write(tmp_path / "new" / "new.csv", [*rows[:8], (rows[8][0], "Rust")], "picture,label")
    with pytest.raises(DataError, match=r"new\.csv: 'Rust' is no class of the run. Did you mean 'rust'"):
        read_image_samples(config, str(strange), data.spec, data.preprocessing, True)
