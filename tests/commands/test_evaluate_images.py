"""`trainer evaluate` and `trainer predict` on images: moved files, several sources, many classes, views."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from trainer import cli
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.runs.views import with_views

CLASSES = 32


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of many classes, `d`, and a run on them, `o/run`; a class's name is no markup."""
    folder = tmp_path_factory.mktemp("place")
    for number in range(CLASSES):
        label = "[bold]x[/bold] :dog:" if number == 0 else f"class {number:02d}"
        for split, count in (("train", 2), ("val", 1)):
            for i in range(count):
                path = folder / "d" / split / label.replace("/", "_") / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (number * 7, i * 30, 40)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["model=linear", "data=image_folder", "data.root=d", "data.workers=0", "trainer.steps=3"]
        assert cli.run("train", [*words, "output_dir=o", "run.name=run", "logger=[files]"]) == 0
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str, verb: str = "evaluate", code: int = 0) -> str:
    capsys.readouterr()
    assert cli.run(verb, [*words]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def run_in(folder: Path) -> str:
    [config] = folder.glob("o/**/config.yaml")
    return str(config.parent)


def test_the_worst_of_many_classes_are_listed_and_all_where_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    run = run_in(place)
    few, every = said(capsys, run), said(capsys, run, "--all")
    assert "22 more classes, none recalled less; all: --all" in few
    recalls = [float(line.split()[-1]) for line in every.splitlines()[-CLASSES:]]
    assert recalls == sorted(recalls)
    assert "[bold]x[_bold] :dog:" in every


def test_files_that_have_moved_are_named_or_found_beside_the_run(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = said(capsys, run_in(place), "--json").splitlines()[-1]
    shutil.copytree(place, tmp_path / "all")  # the folder with all that is in it
    shutil.move(place / "d", place / "w")
    try:
        run = run_in(tmp_path / "all")
        text = said(capsys, run, "--json")
        assert f"data.root=d: not here, but where the run is now: {tmp_path}/all/d." in caplog.text
        assert json.loads(text.splitlines()[0])["loss"] == json.loads(before)["loss"]
        assert "error: data.root=" in said(capsys, run_in(place), code=2)
        named = said(capsys, run_in(place), f"data.root={place}/w", "--json")
        assert json.loads(named.splitlines()[0])["loss"] == json.loads(before)["loss"], named + before
        wrong = said(capsys, run_in(place), "data.batch_size=3", code=2)
        assert "only what says where its files are, and how they are read" in wrong
    finally:
        shutil.move(place / "w", place / "d")


def test_of_several_sources_each_file_has_its_path(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    sources = ("d/val/class 0[12]/*.png", "d/train/class 03")
    out = said(capsys, run_in(place), *sources, "--proba", "top5", verb="predict").splitlines()
    assert out[0].count("probability") == 5
    files = [line.split(",")[0] for line in out[1:5]]
    assert files == ["d/val/class 01/0.png", "d/val/class 02/0.png", "d/train/class 03/0.png", "d/train/class 03/1.png"]


def test_views_are_averaged_as_probabilities(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, spec = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), DataSpec((3, 64, 64), 4, tuple("abcd"))
    x = torch.randn(2, 3, 64, 64)
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    shifted = [x, padded[..., 4:, 4:], padded[..., :-4, :-4]]  # by 64 / 32 pixels
    expected = torch.stack([network(view).softmax(1) for view in (x, x.flip(-1))]).mean(0)
    torch.testing.assert_close(with_views(network, "flip", spec)(x).softmax(1), expected)
    expected = torch.stack([network(view).softmax(1) for view in shifted]).mean(0)
    torch.testing.assert_close(with_views(network, "shift", spec)(x).softmax(1), expected)
    assert len(with_views(network, "flip,shift", spec).views) == 6  # type: ignore[arg-type]
    for kinds, shape, words in (("flop", (3, 8, 8), "flop is not one of"), ("flip", (7,), "is for images")):
        with pytest.raises(ConfigError, match=words):
            with_views(network, kinds, DataSpec(shape, 2))
    monkeypatch.chdir(place)
    assert "averaged over views: flip" in said(capsys, run_in(place), "--tta", "flip")
