"""Validation images in one folder beside training by class folders: a table in it or beside it says their classes."""

from pathlib import Path

import pytest
from PIL import Image

from trainer.data.images.image_listing import Scanned, scan
from trainer.errors import DataError

CLASSES = ("n01", "n02", "n03")
COUNT = 9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Tiny ImageNet in small."""
    root = tmp_path / "tiny"
    for label in CLASSES:
        for i in range(4):
            image(root / "train" / label / "images" / f"{label}_{i}.JPEG")
        (root / "train" / label / f"{label}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t7\t7\n")
    for i in range(COUNT):
        image(root / "val" / "images" / f"val_{i}.JPEG")
    image(root / "test" / "images" / "test_0.JPEG")
    return root


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def lines(form: str, count: int = COUNT) -> str:
    return "".join(form.format(i=i, label=CLASSES[i % 3]) + "\n" for i in range(count))


def check(found: Scanned, count: int = COUNT) -> None:
    """Each image has the class of its number."""
    assert found.labels == CLASSES
    train, val = found.listings
    assert (len(train), len(val)) == (12, count)
    for path, target in zip(val.paths, val.targets.tolist(), strict=True):
        assert int(path.stem.removeprefix("val_")) % 3 == target


def test_tables_say_the_classes_of_a_flat_split(root: Path) -> None:
    tables = {
        "val/val_annotations.txt": lines("val_{i}.JPEG\t{label}\t0\t0\t7\t7"),
        "val/labels.csv": "class,file\n" + lines("{label},images/val_{i}.JPEG"),
        "val.csv": "id;score;label\n" + lines("val_{i};0.{i};{label}"),
    }
    for name, text in tables.items():
        (root / name).write_text(text)
        (root / "val" / "README.txt").write_text("This folder\nhas images.\n")
        found = scan(root)
        check(found)
        notes = " ".join(found.notes)
        assert f"val       {COUNT} in {root / 'val'}, classes from {root / name}: n01 3, n02 3, n03 3" in notes
        assert "train/ and val/ are used, and not test/" in notes
        image(root / "extras" / "1.JPEG")
        assert any("are used, and not extras/, test/" in note for note in scan(root).notes)
        (root / "extras" / "1.JPEG").unlink()
        (root / name).unlink()
    with_all = scan(root)
    assert len(with_all.listings) == 1, "without a table training images are held out"
    assert any("no folder of validation images by class" in note for note in with_all.notes)


def test_what_such_a_table_lacks_is_counted_and_what_contradicts_is_an_error(root: Path) -> None:
    table = root / "val" / "val_annotations.txt"
    table.write_text(lines("val_{i}.JPEG\t{label}", COUNT - 2) + "gone.JPEG\tn01\n")
    found = scan(root)
    check(found, COUNT - 2)
    assert any("1 of whose rows name no image" in note for note in found.notes)
    [files] = [note for note in found.notes if note.startswith("files")]
    assert "26 found = 19 used + 7 passed over (.txt 4, not in val_annotations.txt 2, in test 1)" in files
    assert len(scan(root, held_out=True).listings) == 1
    table.write_text(lines("val_{i}.JPEG\t{label}").replace("n03", "N03", 1))
    with pytest.raises(DataError, match=r"the class 'N03' of val_2\.JPEG is none of .*Did you mean 'n03'"):
        scan(root)
    table.write_text(lines("val_{i}.JPEG\t{label}"))
    (root / "val" / "other.txt").write_text(table.read_text())
    with pytest.raises(DataError, match=r"other\.txt and .*val_annotations\.txt both say the classes"):
        scan(root)
