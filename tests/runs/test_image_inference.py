"""`trainer predict` and `trainer evaluate` on image files: new ones are treated as those of training were."""

import contextlib
import csv
import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trainer import Config, Run
from trainer.checkpoint.store import Store
from trainer.cli import run as run_verb
from trainer.config import compose
from trainer.config.data import DataConfig, Digits, ImageFolder
from trainer.config.datasets import Cifar10, Cifar100, FashionMnist, Published, Tensors
from trainer.config.model import Mlp
from trainer.config.optimizer import AdamW
from trainer.config.task import Regression
from trainer.config.trainer import TrainerConfig
from trainer.data.datasets.mnist import FASHION_MNIST
from trainer.data.files.cache import cached
from trainer.data.images.image_files import ImageFiles
from trainer.errors import DataError
from trainer.runs.build import build_data, read_samples
from trainer.runs.loading import load_trained
from trainer.runs.run_training import run_training
from trainer.runs.start import RunStart
from trainer.system.signals import SignalHandler

SIZE = 12  # pixels that the run's images are resized to
CLASSES = ("blue", "green", "red")


def picture(path: Path, seed: int, channel: int, height: int = 20, width: int = 16) -> Path:
    """Noise that is brighter in one channel, not square."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 160, (height, width, 3), dtype=np.uint8)
    pixels[..., channel] += 60
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pictures(folder: Path, each: int, seed: int, classes: tuple[str, ...] = CLASSES) -> Path:
    for c, label in enumerate(classes):
        for i in range(each):
            picture(folder / label / f"{i:03}.png", seed + 100 * c + i, 2 - c % 3, 20 + i % 5, 16 + i % 9)
    return folder


def trained(folder: Path, data: DataConfig, **keys: Any) -> Path:
    """A small network, trained for two epochs."""
    config = Config(
        model=Mlp(hidden=[16]), data=data, optimizer=AdamW(lr=0.01), trainer=TrainerConfig(epochs=2), **keys
    )
    made = Run.create(folder / "outputs")
    assert (
        run_training(RunStart(compose.from_config(config), config), made, None, SignalHandler())["status"]
        == "completed"
    )
    made.release()
    return made.directory


Verb = Callable[..., tuple[str, str]]


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Verb:
    """`verb("predict", run, "new")` in this process, in `tmp_path`: what it prints on both streams; checks the code."""

    def call(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
        name, *others = map(str, arguments)
        with contextlib.chdir(tmp_path):
            assert run_verb(name, others) == code
        return capsys.readouterr()

    return call


def scores(verb: Verb, *arguments: str | Path) -> dict[str, Any]:
    return json.loads(verb("evaluate", *arguments, "--json")[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    pictures(folder / "images" / "train", each=20, seed=0)
    pictures(folder / "images" / "val", each=7, seed=50)
    return trained(folder, ImageFolder(root=str(folder / "images"), image_size=SIZE, batch_size=16, eval_batch_size=16))


def val(run: Path) -> Path:
    return run.parents[2] / "images" / "val"


def rewritten(run: Path, new: Path, **values: Any) -> Path:
    """A copy of the run at `new`, with other values in its checkpoint."""
    made = Run.create(new)
    made.write_config((run / "config.yaml").read_text(), [])
    payload, _ = Store(run / "checkpoints").load("best")
    store = Store(made.checkpoints)
    store.save(payload | values, {}, best=True)
    store.wait()
    made.release()
    return made.directory


def predictions(text: str) -> dict[str, dict[str, str]]:
    return {row.pop("file"): row for row in csv.DictReader(io.StringIO(text))}


def by_hand(path: Path, size: int, mode: str) -> Tensor:
    """Pixels in [0, 1], (1, C, size, size): the shorter side resized to `size`, then the centre, with Pillow alone."""
    image = Image.open(path).convert(mode)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels = torch.from_numpy(np.array(image)).view(size, size, -1).permute(2, 0, 1)
    return pixels.unsqueeze(0).double() / 255


def moments(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, float64 (C, 1, 1)."""
    pixels = torch.cat(images).transpose(0, 1).flatten(1)
    return pixels.mean(1).view(-1, 1, 1), pixels.std(1, correction=0).view(-1, 1, 1)


def expected(run: Path, paths: list[Path], size: int, mode: str, mean: Tensor, std: Tensor) -> Tensor:
    """The probabilities that the trained network gives, (N, classes)."""
    inputs = torch.cat([((by_hand(path, size, mode) - mean) / std).float() for path in paths])
    with torch.inference_mode():
        return load_trained(run).model(inputs).softmax(1)


def shares(rows: dict[str, dict[str, str]]) -> Tensor:
    return torch.tensor(
        [[float(value) for name, value in row.items() if name != "prediction"] for row in rows.values()]
    )


def test_predictions_are_the_networks_on_images_decoded_by_hand(trainer: Any, run: Path, tmp_path: Path) -> None:
    """Sizes of all kinds; the moments are those of the training images, and not of the new ones."""
    train = sorted((val(run).parent / "train").rglob("*.png"))
    mean, std = moments([by_hand(path, SIZE, "RGB") for path in train])
    sizes = [(20, 16), (12, 12), (12, 30), (5, 4), (300, 200)]
    new = [picture(tmp_path / "new" / f"{i}.png", 900 + i, i % 3, *size) for i, size in enumerate(sizes)]
    done = trainer("predict", str(run), "new")
    found = predictions(done.stdout)
    assert list(found) == [path.name for path in new]
    wanted = expected(run, new, SIZE, "RGB", mean, std)
    torch.testing.assert_close(shares(found), wanted, rtol=0, atol=2e-5)
    assert [row["prediction"] for row in found.values()] == [CLASSES[i] for i in wanted.argmax(1)]
    assert "5 samples: 5 predicted, 0 left out" in done.stderr


def test_evaluating_the_validation_folder_gives_the_runs_own_scores(verb: Verb, run: Path) -> None:
    for name in ("best", "last"):
        own = scores(verb, run, "--checkpoint", name)
        new = scores(verb, run, val(run), "--checkpoint", name)
        assert new == own
    assert new["samples"] == 21 and new["rejected"] == 0
    last = json.loads((run / "summary.json").read_text())["last"]["scores"]
    assert {f"val/{key}": new[key] for key in ("loss", "accuracy")} == pytest.approx(
        {key: last[key] for key in ("val/loss", "val/accuracy")}, rel=1e-5
    )


def test_a_folder_is_searched_below_and_files_are_named_by_where_they_are(
    verb: Verb, run: Path, tmp_path: Path
) -> None:
    for i, name in enumerate(("b.png", "deep/er/a.PNG", "deep/ä, b.jpg", "\udcff.png")):
        picture(tmp_path / "new" / name, i, 0)
    (tmp_path / "new" / "notes.txt").write_text("no image")
    found = predictions(verb("predict", run, "new")[0])
    assert list(found) == ["b.png", "deep/er/a.PNG", "deep/ä, b.jpg", "\\udcff.png"]
    for name in ("b.png", "deep/ä, b.jpg"):
        alone = predictions(verb("predict", run, f"new/{name}")[0])
        assert list(alone) == [Path(name).name]
        torch.testing.assert_close(shares(alone)[0], shares({"": found[name]})[0], rtol=0, atol=2e-6)


def test_the_folder_of_training_may_be_gone(verb: Verb, run: Path, tmp_path: Path) -> None:
    new = picture(tmp_path / "new.bin.png", 1, 1)
    new = new.rename(tmp_path / "upload")  # the content decides, for a file that is asked for by name
    before = verb("predict", run, new)[0]
    given = val(run).parent
    given.rename(given.with_name("away"))
    try:
        assert verb("predict", run, new)[0] == before
    finally:
        given.with_name("away").rename(given)


def test_a_class_may_have_no_images_and_an_unknown_one_is_named(verb: Verb, run: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "some", each=4, seed=700, classes=("green", "red"))
    (tmp_path / "some" / "blue").mkdir()
    found = scores(verb, run, "some")
    assert [found["classes"][label]["samples"] for label in CLASSES] == [0, 4, 4]
    said = predictions(verb("predict", run, "some")[0])
    hits = sum(row["prediction"] == name.partition("/")[0] for name, row in said.items())
    assert found["accuracy"] == pytest.approx(hits / 8)
    picture(tmp_path / "some" / "gren" / "x.png", 1, 1)
    error = verb("evaluate", run, "some", code=2)[1]
    assert "some/gren: 'gren' is no class of the run. Did you mean 'green'? Its classes: blue, green, red." in error


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("predict", "nowhere", "nowhere: no such file or folder"),
        ("evaluate", "nowhere", "nowhere: no such folder"),
        ("predict", "empty", "empty: no images (.jpg, "),
        ("evaluate", "empty", "empty: no images (.jpg, "),
        ("evaluate", "flat", "flat: no images (.jpg, "),
        ("evaluate", "flat/x.png", "flat/x.png: no such folder; expected one with a folder of images for each class"),
    ],
)
def test_where_there_are_no_images_the_place_is_named(
    verb: Verb, run: Path, tmp_path: Path, name: str, source: str, words: str
) -> None:
    (tmp_path / "empty" / "blue").mkdir(parents=True)
    picture(tmp_path / "flat" / "x.png", 0, 0)
    assert words in verb(name, run, source, code=2)[1]


def test_an_unreadable_file_is_named_or_left_out_and_listed(
    verb: Verb, trainer: Any, run: Path, tmp_path: Path
) -> None:
    pictures(tmp_path / "new", each=3, seed=300)
    before = predictions(verb("predict", run, "new")[0])
    (tmp_path / "new" / "green" / "0005.png").write_bytes(b"\x89PNG")
    for name in ("predict", "evaluate"):
        error = trainer(name, str(run), "new", code=2).stderr
        assert "new/green/0005.png: cannot be used as an image: its content is none of" in error
        assert error.count("\n") == 1 and "--on-error skip" in error
    said, told = verb("predict", run, "new", "--on-error", "skip")
    assert predictions(said) == before
    assert "warning: left out: green/0005.png: its content is none of JPEG" in told
    assert "10 samples: 9 predicted, 1 left out" in told
    found = scores(verb, run, "new", "--on-error", "skip")
    assert (found["samples"], found["rejected"]) == (9, 1)
    assert [one["samples"] for one in found["classes"].values()] == [3, 3, 3]
    error = verb("predict", run, "new/green/0005.png", "--on-error", "skip", code=2)[1]
    assert "none of its 1 files can be used as an image" in error


def test_a_run_that_skips_does_so_with_new_files(verb: Verb, tmp_path: Path) -> None:
    root = pictures(tmp_path / "images", each=6, seed=0, classes=("a", "b"))
    (root / "a" / "cut.png").write_bytes(b"")
    run = trained(tmp_path, ImageFolder(root=str(root), image_size=8, channels=1, on_error="skip", workers=0))
    said, told = verb("predict", run, "images")
    assert len(predictions(said)) == 12
    assert "warning: left out: a/cut.png: it is empty" in told


def test_streamed_training_saves_what_it_measured(verb: Verb, tmp_path: Path) -> None:
    pictures(tmp_path / "images" / "train", each=20, seed=0)
    pictures(tmp_path / "images" / "val", each=7, seed=50)
    run = trained(tmp_path, ImageFolder(root=str(tmp_path / "images"), image_size=SIZE, cache_bytes=0, workers=1))
    own = scores(verb, run)
    assert scores(verb, run, "images/val") == own


def test_arrays_of_images_take_image_files(trainer: Any, verb: Verb, tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 200, (60, 10, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x=images, y=np.arange(60) % 3)
    data = Tensors(path=str(tmp_path / "set.npz"))
    run = trained(tmp_path, data)
    kept = build_data(data, 0).val.rows.tolist()
    for i in kept:
        path = tmp_path / "new" / str(i % 3) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(path)
    own = scores(verb, run)
    alike(scores(verb, run, "new"), own)
    error = verb("predict", run, "new", "--on-error", "skip", code=2)[1]
    assert "--on-error skip: data=tensors has no data.on_error" in error
    (tmp_path / "new" / "0" / "bad.png").write_bytes(b"GIF89a")
    error = trainer("predict", str(run), "new", code=2).stderr
    assert "new/0/bad.png: cannot be used as an image" in error
    assert error.endswith("Repair or remove it.\n")


def test_grey_digits_of_a_named_dataset_take_photographs(verb: Verb, tmp_path: Path) -> None:
    run = trained(tmp_path, Digits())
    new = [picture(tmp_path / "new" / f"{i}.jpg", i, 1, 40, 64) for i in range(3)]
    train = build_data(Digits(), 0).train.inputs
    assert isinstance(train, Tensor)
    mean, std = moments([train.double() / 255])
    found = shares(predictions(verb("predict", run, "new")[0]))
    torch.testing.assert_close(found, expected(run, new, 8, "L", mean, std), rtol=0, atol=2e-5)


def alike(scores: dict[str, Any], others: dict[str, Any]) -> None:
    """The loss is a sum of rounded numbers in another order; all else is counted."""
    assert scores == others | {"loss": pytest.approx(others["loss"], rel=1e-5)}


def saved(folder: Path, images: Tensor, targets: Tensor, labels: Sequence[str], mode: str) -> None:
    """Each image (C, H, W) as a file in the folder of its class."""
    for i, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path = folder / labels[target].replace("/", "_") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy(), mode).save(path)


@pytest.mark.parametrize("kind", [Cifar10, Cifar100])
def test_the_test_images_of_cifar_as_files_score_as_they_do_in_the_set(
    verb: Verb, tmp_path: Path, kind: type[Published]
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (80, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets, labels = torch.arange(80) % 10, [f"class {i}" for i in range(10)]
    parts = {"train": slice(0, 60), "test": slice(60, 80)}
    tensors: dict[str, Any] = {f"{part}_images": images[where] for part, where in parts.items()}
    tensors |= {f"{part}_targets": targets[where] for part, where in parts.items()}
    cached(tmp_path / "files", f"{kind.option}-named", lambda: tensors | {"labels": labels})  # as if read before
    run = trained(tmp_path, kind(root=str(tmp_path / "files")))
    saved(tmp_path / "new", images[60:], targets[60:], labels, "RGB")
    own = scores(verb, run)
    assert own["samples"] == 20
    alike(scores(verb, run, "new"), own)


def test_a_slash_in_the_name_of_a_class_is_an_underscore_in_its_folder(verb: Verb, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
        for name, values in (("images-idx3", images), ("labels-idx1", (torch.arange(count) % 10).to(torch.uint8))):
            head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(head + values.numpy().tobytes())
    run = trained(tmp_path, FashionMnist(root=str(tmp_path)))
    saved(tmp_path / "new", images.unsqueeze(1), torch.arange(20) % 10, FASHION_MNIST.classes, "L")
    assert (tmp_path / "new" / "T-shirt_top").is_dir()
    own = scores(verb, run)
    alike(scores(verb, run, "new"), own)


def test_numbers_are_read_from_the_names_of_the_folders(verb: Verb, tmp_path: Path) -> None:
    root = pictures(tmp_path / "images" / "train", each=12, seed=0, classes=("1", "2.5")).parent
    pictures(root / "val", each=5, seed=50, classes=("1", "2.5"))
    run = trained(tmp_path, ImageFolder(root=str(root), image_size=8, workers=0), task=Regression())
    own = scores(verb, run)
    assert scores(verb, run, "images/val") == own
    said = predictions(verb("predict", run, "images/val")[0])
    errors = [float(row["prediction"]) - float(name.partition("/")[0]) for name, row in said.items()]
    assert own["rmse"] == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-4)
    (root / "val" / "2.5").rename(root / "val" / "nan")
    error = verb("evaluate", run, "images/val", code=2)[1]
    assert "val/nan: the run predicts a number, which the folder's name 'nan' is not" in error


def test_files_are_decoded_by_the_workers_when_they_are_asked_for(run: Path, tmp_path: Path) -> None:
    """The set may be larger than memory: nothing is read before the loader asks."""
    model = load_trained(run)
    (tmp_path / "one.png").write_bytes(b"no image")
    (samples,) = read_samples(model.config.data, [str(tmp_path)], model.spec, model.preprocessing, labelled=False)
    assert isinstance(samples.split.inputs, ImageFiles)
    assert samples.workers == model.config.data.workers == 2
    with pytest.raises(DataError, match="cannot be used as an image"):
        samples.split.inputs[0]


def test_a_run_from_before_needs_the_moments_in_its_config(verb: Verb, run: Path, tmp_path: Path) -> None:
    picture(tmp_path / "new.png", 0, 0)
    before = verb("predict", run, "new.png")[0]
    old = rewritten(run, tmp_path, preprocessing=None)
    error = verb("predict", old, "new.png", code=2)[1]
    assert "error: The checkpoint has no normalisation of images" in error and error.count("\n") == 1
    plain = json.loads(load_trained(run).preprocessing or "")
    config = compose.to_config(compose.from_yaml((run / "config.yaml").read_text(), ""))
    told = replace(config, data=replace(config.data, **plain))
    (old / "config.yaml").write_text(compose.to_yaml(compose.from_config(told)))
    assert verb("predict", old, "new.png")[0] == before


def test_a_run_from_before_that_goes_on_saves_its_normalisation(
    verb: Verb, train: Any, run: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "new.png", 0, 0)
    old = rewritten(run, tmp_path, preprocessing=None)
    done = train(f"resume={old}", "trainer.epochs=3")
    assert "is not what the run was trained on" not in done.stdout + done.stderr
    assert load_trained(old, "last").preprocessing == load_trained(run).preprocessing
    assert len(predictions(verb("predict", old, "new.png", "--checkpoint", "last")[0])) == 1


def test_images_that_have_changed_are_told_of_on_resuming(train: Any, tmp_path: Path) -> None:
    root = pictures(tmp_path / "images", each=10, seed=0)
    run = trained(tmp_path, ImageFolder(root=str(root), image_size=8))
    assert "is not what" not in train(f"resume={run}", "trainer.epochs=3").stdout
    pictures(root, each=10, seed=5000)
    assert "The data is not what the run was trained on" in train(f"resume={run}", "trainer.epochs=4").stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "The saved normalisation of images is damaged"),
        ('{"mean": [0.5], "std": [0.5]}', "The saved normalisation is not that of the model"),
    ],
)
def test_a_normalisation_of_another_model_ends_the_command(
    verb: Verb, run: Path, tmp_path: Path, text: str, words: str
) -> None:
    picture(tmp_path / "new.png", 0, 0)
    other = rewritten(run, tmp_path, preprocessing=text)
    assert words in verb("predict", other, "new.png", code=2)[1]


def test_inputs_that_are_no_pictures_are_no_image_files(verb: Verb, tmp_path: Path) -> None:
    """Numbers, and images of four channels."""
    picture(tmp_path / "new.png", 0, 0)
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=generator.normal(size=(40, 5)), y=np.arange(40) % 2)
    np.savez(tmp_path / "four.npz", x=generator.integers(0, 256, (40, 4, 8, 8), dtype=np.uint8), y=np.arange(40) % 2)
    for name, words in (("rows", "no normalisation of images"), ("four", "it has 3 bands, and 4 are needed")):
        run = trained(tmp_path, Tensors(path=str(tmp_path / f"{name}.npz")))
        assert words in verb("predict", run, "new.png", code=2)[1]
