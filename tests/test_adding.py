"""What adding costs, as CONTRIBUTING says: each thing is added for real, to a copy of the package, and used."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@dataclass
class Place:
    """One place to write in: a new file, or text that goes before a line that is there."""

    file: str
    text: str
    before: str = ""


SETTING = [
    Place(
        "trainer/config/trainer.py",
        '    stop_below: float | None = key(None, "training loss at which to stop; null: never", above=0)\n\n',
        before="    limit_train: str | None = key(",
    ),
    Place(
        "trainer/training/trainer.py",
        "        limit = self.context.config.trainer.stop_below\n"
        '        if limit is not None and record is not None and record.scalars.get("train/loss", limit) < limit:\n'
        "            return EARLY_STOPPING\n",
        before="        self.store.check()\n",
    ),
]
AUGMENTATION = [
    Place(
        "trainer/config/data.py",
        '    invert: float = key(0.0, "with augment: share of the images that are inverted", at_least=0, at_most=1)\n',
        before="    mixup: float = key(",
    ),
    Place(
        "trainer/data/images/augment.py",
        "class Invert:\n"
        "    def __init__(self, share):\n"
        "        self.share = share\n\n"
        "    @classmethod\n"
        "    def from_config(cls, config, shape, normalize):\n"
        "        return cls(config.invert) if config.invert else None\n\n"
        "    def __call__(self, images, context, generator):\n"
        "        chosen = torch.rand(len(images), generator=generator) < self.share\n"
        "        return torch.where(chosen.to(images.device)[:, None, None, None], 255 - images, images)\n\n\n",
        before="# The order of the pipeline.",
    ),
    Place("trainer/data/images/augment.py", "    Invert.from_config,\n", before="    Cutout.from_config,\n"),
]
DATASET = [
    Place(
        "trainer/config/data.py",
        '@register("data", "parity")\n'
        "@dataclass\n"
        "class Parity(DataConfig):\n"
        '    """Bits, and whether their number is odd."""\n\n'
        '    bits: int = key(4, "of a sample", at_least=1)\n\n\n',
        before='@register("data", "image_folder")',
    ),
    Place(
        "trainer/data/datasets/parity.py",
        "import torch\n\n"
        "from trainer.data.splits import from_tensors\n\n\n"
        "def load_parity(config, seed):\n"
        "    bits = torch.randint(2, (200, config.bits), generator=torch.Generator().manual_seed(seed))\n"
        '    return from_tensors(bits.float(), bits.sum(1) % 2, ("even", "odd"), config=config, seed=seed)\n',
    ),
    Place(
        "trainer/runs/build.py",
        "        case Parity():\n"
        "            from trainer.data.datasets.parity import load_parity\n\n"
        "            return load_parity(config, seed)\n",
        before="        case Synthetic():\n",
    ),
]
MODEL = [
    Place(
        "trainer/config/model.py",
        '@register("model", "mean")\n'
        "@dataclass\n"
        "class Mean(ModelConfig):\n"
        '    """A linear layer on the mean input."""\n\n\n',
        before='@register("model", "mlp")',
    ),
    Place(
        "trainer/models/mean.py",
        "from torch import nn\n\n\n"
        "class MeanModel(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x.flatten(1).mean(1, keepdim=True))\n",
    ),
    Place(
        "trainer/runs/build.py",
        "        case Mean():\n"
        "            from trainer.models.mean import MeanModel\n\n"
        "            return MeanModel(1, spec.outputs)\n",
        before="        case Mlp():\n",
    ),
]
VERB = [
    Place(
        "trainer/commands/hello.py",
        '"""`trainer hello`."""\n\n\ndef main(arguments):\n    print("hello", *arguments)\n    return 0\n',
    ),
    Place("trainer/cli.py", '    "hello": ("trainer.commands.hello", "say hello"),\n', before='    "learn": ('),
]
# The most places that each may take. Imports at the top of a file that is written in are part of that place.
COSTS = {"setting": (SETTING, 3), "augmentation": (AUGMENTATION, 3), "dataset": (DATASET, 3), "model": (MODEL, 3)}
IMPORTS = [
    ("trainer/runs/build.py", "ImageFolder, ", "ImageFolder, Parity, "),
    ("trainer/runs/build.py", "    Linear,\n", "    Linear,\n    Mean,\n"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one of each."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("trainer", "conf", "scripts"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "README.md", root)
    for place in (*SETTING, *AUGMENTATION, *DATASET, *MODEL, *VERB):
        path = root / place.file
        if not place.before:
            assert not path.exists()
            path.write_text(place.text, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        assert text.count(place.before) == 1, (place.file, place.before)
        path.write_text(text.replace(place.before, place.text + place.before), encoding="utf-8")
    for file, old, new in IMPORTS:
        path = root / file
        text = path.read_text(encoding="utf-8")
        assert old in text, (file, old)
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return root


def python(root: Path, folder: Path, *words: str) -> str:
    """Run Python with the copy, in an empty folder."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(root: Path, folder: Path, *words: str) -> dict[str, object]:
    """Train with the copy; return what `summary.json` says."""
    python(root, folder, "-m", "trainer", "train", *words)
    (summary,) = folder.glob("outputs/*/*/summary.json")
    found: dict[str, object] = json.loads(summary.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(("places", "most"), [*COSTS.values(), (VERB, 2)], ids=[*COSTS, "verb"])
def test_the_places_are_as_few_as_promised(places: list[Place], most: int) -> None:
    assert len(places) <= most


def test_a_dataset_a_model_and_a_setting_train_together(package: Path, tmp_path: Path) -> None:
    words = ("data=parity", "data.bits=3", "model=mean", "trainer.stop_below=100")
    summary = train(package, tmp_path, *words)
    assert (summary["steps"], summary["reason"]) == (3, "early stopping")  # where the first epoch ends


def test_an_augmentation_changes_what_is_trained_on(package: Path, tmp_path: Path) -> None:
    words = ("data=synthetic_images", "data.augment=true", "data.flip=none", "data.rotation=0", "trainer.steps=2")
    plain = train(package, tmp_path / "plain", *words, "model=linear")
    inverted = train(package, tmp_path / "inverted", *words, "model=linear", "data.invert=1")
    assert plain["last"] != inverted["last"]


def test_what_was_added_is_listed_explained_and_written_into_conf(package: Path, tmp_path: Path) -> None:
    assert "hello a b" in python(package, tmp_path, "-m", "trainer", "hello", "a", "b")
    assert "say hello" in python(package, tmp_path, "-m", "trainer", "--help")
    assert "at which to stop" in python(package, tmp_path, "-m", "trainer", "explain", "trainer.stop_below")
    assert "data=parity" in python(package, tmp_path, "-m", "trainer", "list", "data")
    python(package, tmp_path, str(package / "scripts" / "write_conf.py"))
    assert "stop_below: null" in (package / "conf/trainer/default.yaml").read_text(encoding="utf-8")
    assert "invert: 0.0" in (package / "conf/data/cifar10.yaml").read_text(encoding="utf-8")
    assert "bits: 4" in (package / "conf/data/parity.yaml").read_text(encoding="utf-8")
    assert (package / "conf/model/mean.yaml").exists()
    assert "`stop_below`" in (package / "README.md").read_text(encoding="utf-8")
