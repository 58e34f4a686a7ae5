"""MNIST (Y. LeCun, C. Cortes & C. Burges) and Fashion-MNIST (H. Xiao, K. Rasul & R. Vollgraf, arXiv:1708.07747)."""

from dataclasses import dataclass
from pathlib import Path

from trainer.config.datasets import Published
from trainer.data.files.by_hand import best_folder
from trainer.data.files.download import Remote, datasets_folder, fetch
from trainer.data.files.idx import read_idx
from trainer.data.images.image_data import make_image_data
from trainer.data.types import Data, Split
from trainer.errors import DataError

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


@dataclass(frozen=True)
class MnistFiles:
    """The published files of one of the two datasets.

    Attributes:
        folder: the subfolder for the files, the same as torchvision's.
        classes: the names of the classes.
        files: the MD5 of each packed file by its name without `.gz`.
        addresses: the folders on the web that have them.
    """

    folder: str
    classes: tuple[str, ...]
    files: dict[str, str]
    addresses: tuple[str, ...]

    def remote(self, stem: str) -> Remote:
        """Describe the download of the packed file `stem`.gz."""
        name = f"{stem}.gz"
        return Remote(name, f"md5:{self.files[stem]}", tuple(address + name for address in self.addresses))


MNIST = MnistFiles(
    "MNIST/raw",
    tuple("0123456789"),
    {
        f"train-{IMAGES}": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        f"train-{LABELS}": "d53e105ee54ea40749a09fcbcd1e9432",
        f"t10k-{IMAGES}": "9fb629c4189551a2d022fa330f9573f3",
        f"t10k-{LABELS}": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
)
FASHION_MNIST = MnistFiles(
    "FashionMNIST/raw",
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    {
        f"train-{IMAGES}": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        f"train-{LABELS}": "25c81989df183df01b3e8a0aad5dffbe",
        f"t10k-{IMAGES}": "bef4ecab320f06d8554ea6380940ec79",
        f"t10k-{LABELS}": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)


def load_mnist(config: Published, source: MnistFiles, seed: int) -> Data:
    """Load uint8 images (N, 1, 28, 28).

    Args:
        config: says in which folder the files are, and how images are augmented, normalised and split.
        source: which of the two datasets.
        seed: of the run.

    Raises:
        DataError: where the files are neither there nor can be downloaded, or are damaged.
    """
    folder = _folder(datasets_folder(config.root), source)
    train, test = (_split(folder, part, source) for part in ("train", "t10k"))
    return make_image_data(config, train, None if config.holds_out else test, source.classes, seed)


def _folder(root: Path, source: MnistFiles) -> Path:
    """Return the folder in or near `root` that has the files, else the subfolder where torchvision puts them.

    What is missing of them is downloaded beside the others: an interrupted download leaves just that.
    """
    forms = [form for stem in source.files for form in _forms(stem)]
    for place in (root, root / source.folder):
        if any((place / form).is_file() for form in forms):
            return place
    found = best_folder(root, forms)
    if found is None or ("fashion" in str(found[0].relative_to(root)).lower()) != ("Fashion" in source.folder):
        return root / source.folder  # the two datasets have files of the same names
    return found[0]


def _split(folder: Path, part: str, source: MnistFiles) -> Split:
    """Read the images and classes of one split, downloading them where they are missing."""
    stems = (f"{part}-{IMAGES}", f"{part}-{LABELS}")
    paths = [_found(folder, stem) or fetch(source.remote(stem), folder) for stem in stems]
    images, labels = read_idx(paths[0], dimensions=3), read_idx(paths[1], dimensions=1)
    if len(labels) != len(images) or (labels >= len(source.classes)).any():
        raise DataError(f"{paths[1]}: must hold a class of 0 to 9 for each of the {len(images)} images.")
    return Split(images.unsqueeze(1), labels.long())


def _found(folder: Path, stem: str) -> Path | None:
    """Return the file in the folder, plain or packed; None where it is missing."""
    return next((path for form in _forms(stem) if (path := folder / form).is_file()), None)


def _forms(stem: str) -> list[str]:
    """Return the names of a file, plain and packed; some unpackers write a dot before `idx`."""
    dotted = stem.replace("-idx", ".idx")
    return [stem, f"{stem}.gz", dotted, f"{dotted}.gz"]
