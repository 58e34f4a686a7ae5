"""Folders as people name them: which are splits, which are classes, and which are no data at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.config.data import ImageFolder
from trainer.data.images.image_listing import scan
from trainer.data.images.split_names import split_of
from trainer.data.types import Data
from trainer.errors import DataError
from trainer.runs.build import build_data


@pytest.fixture(autouse=True)
def no_other_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "d"


def fill(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 3, ending: str = "png") -> None:
    draw = np.random.default_rng(each)
    for label in classes:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}{ending and '.'}{ending}", format="PNG")


def build(root: Path, **keys: object) -> Data:
    return build_data(ImageFolder(root=str(root), workers=0, **keys), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("Training", "Testing"),
        ("TRAIN", "Valid"),
        ("train", "dev"),
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_data", "validation-images"),
        ("train2017", "val2017"),
    ],
)
def test_splits_are_found_by_their_usual_names(root: Path, train: str, val: str) -> None:
    fill(root / "archive" / train, each=5)
    fill(root / "archive" / val, each=2)
    data = build(root)
    assert data.spec.labels == ("cat", "dog")
    assert (len(data.train), len(data.val)) == (10, 4)
    assert any(f"the images are in {root / 'archive'}" in note for note in data.notes)
    assert any(note.startswith("train") and "cat 5, dog 5" in note for note in data.notes)
    assert any(note.startswith("val") and "cat 2, dog 2" in note for note in data.notes)


@pytest.mark.parametrize("name", ["train_station", "test tube", "trainer", "evaluate", "devil", "cat", "2017"])
def test_other_names_are_no_splits(name: str) -> None:
    assert split_of(name) is None


def test_a_class_may_be_named_as_a_split(root: Path) -> None:
    fill(root, ("bus", "car", "train"))
    assert build(root).spec.labels == ("bus", "car", "train")


def test_a_folder_that_may_be_a_split_or_a_class_is_an_error(root: Path) -> None:
    for label in ("bus", "car", "train"):
        fill(root / label, ("day", "night"))
    with pytest.raises(DataError, match="train/ is a folder of training images or a class beside bus/"):
        build(root)
    assert build(root / "train").spec.labels == ("day", "night")


def test_what_computers_leave_is_no_class_and_no_image_and_is_counted(root: Path) -> None:
    fill(root / "PetImages", each=5)
    for label in ("cat", "dog"):
        junk = root / "__MACOSX" / "PetImages" / label
        junk.mkdir(parents=True)
        (junk / "._0.png").write_bytes(b"\0\5\26\7")
        thumbnails = root / "PetImages" / label / "@eaDir" / "0.png"
        thumbnails.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(thumbnails / "SYNOFILE_THUMB_S.png")
        (root / "PetImages" / label / "Thumbs.db").write_bytes(b"x")
        (root / "PetImages" / label / "boxes.txt").write_text("x")
        hidden = root / "PetImages" / ".ipynb_checkpoints"
        hidden.mkdir(exist_ok=True)
        (hidden / f"{label}.png").write_bytes(b"x")
    (root / "README.md").write_text("x")
    data = build(root)
    assert data.spec.labels == ("cat", "dog")
    assert len(data.train) + len(data.val) == 10
    [line] = [note for note in data.notes if note.startswith("files")]
    assert "21 found = 10 used + 11 passed over" in line
    for kind in ("in @eaDir 2", "hidden, or of the system 2", ".txt 2", "in __MACOSX 2", "and 2 more kinds"):
        assert kind in line
    [again] = [note for note in build(root).notes if note.startswith("files")]
    assert again == line, "our own cache is not counted"


def test_files_of_folders_that_are_not_used_are_counted(root: Path) -> None:
    fill(root / "train", each=10)
    fill(root / "val", each=2)
    fill(root / "test", each=3)
    (root / "val" / "cat" / ".thumbs").mkdir()
    (root / "val" / "cat" / ".thumbs" / "0.png").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("x")
    Image.new("RGB", (8, 8)).save(root / "train" / "stray.png")
    [line] = [note for note in scan(root).notes if note.startswith("files")]
    assert "33 found = 24 used + 9 passed over (in test 6, in .thumbs 1, " in line


@pytest.mark.parametrize("ending", ["jfif", "JPE", "img", ""])
def test_files_are_images_by_their_content(root: Path, ending: str) -> None:
    fill(root, each=5, ending=ending)
    assert sum(map(len, scan(root).listings)) == 10


def test_avif_is_read_where_pillow_can(root: Path) -> None:
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (8, 8), (i, 50, 90)).save(root / label / f"{i}.avif")
    assert build(root).spec.input_shape == (3, 8, 8)


def test_a_class_folder_without_images_is_an_error_that_says_what_is_in_it(root: Path) -> None:
    fill(root, ("cat", "dog"))
    (root / "horse").mkdir()
    (root / "horse" / "a.psd").write_bytes(b"8BPS\0\1")
    with pytest.raises(DataError, match=r"horse: a class folder without images: 1 passed over \(\.psd 1\)"):
        build(root)


def test_a_flat_test_folder_is_no_validation_and_that_is_said(root: Path) -> None:
    fill(root / "train", each=10)
    (root / "test").mkdir()
    Image.new("RGB", (8, 8)).save(root / "test" / "1.png")
    data = build(root)
    assert (len(data.train), len(data.val)) == (16, 4)
    notes = " ".join(data.notes)
    assert "train/ is used, and not test/" in notes
    assert "no folder of validation images by class" in notes


def test_where_a_share_is_held_out_no_other_folder_is_looked_at(root: Path) -> None:
    fill(root / "train", each=10)
    fill(root / "val", ("cat", "unknown"), each=2)
    assert len(build(root, val_fraction=0.3).val) == 6
    with pytest.raises(DataError, match="class folder 'unknown' is not in"):
        build(root)


def test_two_folders_for_one_split_are_an_error(root: Path) -> None:
    for name in ("train", "val", "validation"):
        fill(root / name)
    with pytest.raises(DataError, match="val/ and validation/ both look like val images"):
        build(root)


def test_names_are_compared_in_one_form_of_unicode(root: Path) -> None:
    fill(root / "train", ("caf\u00e9", "th\u00e9"), each=4)
    fill(root / "val", ("cafe\u0301", "the\u0301"), each=2)
    data = build(root)
    assert data.spec.labels == ("caf\u00e9", "th\u00e9")
    assert len(data.val) == 4


def test_of_many_classes_the_first_screen_shows_the_ends(root: Path) -> None:
    for i in range(30):
        fill(root, (f"c{i:02d}",), each=2 + (i == 7) * 3)
    [line] = [note for note in build(root).notes if note.startswith("images")]
    assert "c00 2 … c29 2; smallest c00 2, largest c07 5" in line


def test_a_lone_folder_with_images_and_folders_has_two_readings(root: Path) -> None:
    fill(root / "cats", ("old", "young"))
    assert scan(root).labels == ("old", "young")
    Image.new("RGB", (8, 8)).save(root / "cats" / "1.png")
    with pytest.raises(DataError, match=r"cats/ has images and folders, .*; data\.root=.*/cats takes its folders"):
        scan(root)
    assert scan(root / "cats").labels == ("old", "young")
    assert any("images beside the folders 1" in note for note in scan(root / "cats").notes)


@pytest.mark.parametrize(("theirs", "meant"), [("CAT", "cat"), ("dogs", "dog"), ("Hors", "horse")])
def test_a_class_of_almost_the_same_name_is_told(root: Path, theirs: str, meant: str) -> None:
    fill(root / "train", ("cat", "dog", "horse"))
    fill(root / "val", (theirs,))
    with pytest.raises(DataError, match=f"class folder '{theirs}' is not in .*train. Did you mean '{meant}'?"):
        scan(root)


def test_images_without_class_folders_are_told_how_to_say_their_classes(root: Path) -> None:
    root.mkdir()
    Image.new("RGB", (8, 8)).save(root / "cat.1.png")
    with pytest.raises(DataError, match=r"found 0 class folders; .* or data\.label_pattern='"):
        scan(root)
    for name in ("other.csv", "train.csv"):
        (root / name).write_text("x")
    with pytest.raises(DataError, match=r"data\.labels=\S*train\.csv or data\.labels=\S*other\.csv"):
        scan(root)
