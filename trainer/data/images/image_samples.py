"""New images for a trained model: a file, a folder of files, or a folder for each class."""

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig, ImageFolder
from trainer.data.images.image_files import Decoder, ImageFiles, check_all
from trainer.data.images.image_listing import by_class, files_line, unlabelled
from trainer.data.images.image_walk import name_below
from trainer.data.images.normalize import Normalize, pixel_range
from trainer.data.images.table_samples import is_label_table, listed_samples, read_pixel_samples
from trainer.data.types import DataSpec, Samples, Split
from trainer.errors import CheckpointError, DataError, did_you_mean
from trainer.system.home import expanded

WORKERS = 2  # loader processes, where the dataset has no key for them


def read_image_samples(
    config: ImageDataConfig,
    source: str,
    spec: DataSpec,
    preprocessing: str | None,
    labelled: bool,
    workers: int = WORKERS,
    on_error: str | None = None,
) -> Samples:
    """Read new images, decoded, resized and normalised as the training images were; they are streamed.

    Args:
        config: of the run that trained the model.
        source: a file or a folder, or a table that names images or has them in it; where `labelled`, a folder with a
            folder for each class, or such a table with classes.
        spec, preprocessing: of the training data; the spec has the size of the images.
        labelled: whether the names of the folders are the classes (with `_` for a `/` in a class's name) or, for
            regression, the numbers.
        workers: loader processes.
        on_error: `data.on_error` of the dataset; None: it has no such key, and an unreadable file is an error.

    Raises:
        CheckpointError: where the normalisation is damaged, not the model's, or was not saved.
        ConfigError: where the model takes no images that files can have.
        DataError: for a file or folder that is missing or of no class of the run, and while streaming for a file that
            is unreadable.
    """
    normalize = _normalization(config, spec, preprocessing)
    channels, height, width = spec.input_shape
    root, notes = expanded(source), list[str]()
    if isinstance(config, ImageFolder) and is_label_table(root):
        if config.shape is not None:
            return read_pixel_samples(config, root, spec, preprocessing, normalize, labelled)
        root, paths, targets, notes = listed_samples(config, root, spec, labelled)
    else:
        paths, targets, passed_over = _labelled(root, spec) if labelled else _unlabelled(root)
        notes = files_line(len(paths), passed_over)
    how, most = getattr(config, "resize", "crop"), getattr(config, "max_pixels", None)
    decoder = Decoder((height, width), channels, True, how, pixel_range(preprocessing), most)
    reasons = check_all(paths, decoder) if on_error == "skip" else {}
    if len(reasons) == len(paths):
        raise DataError(f"{root}: none of its {len(paths)} files can be used as an image; {paths[0]}: {reasons[0]}.")
    names = [_display_name(path, root) for path in paths]
    kept = [i for i in range(len(paths)) if i not in reasons]
    rejected = tuple(f"{names[i]}: {reasons[i]}" for i in sorted(reasons))
    remedy = "Repair or remove it" + (", or leave such files out with --on-error skip." if on_error else ".")
    files = ImageFiles([paths[i] for i in kept], decoder, remedy)
    named = [names[i] for i in kept]
    return Samples(Split(files, targets[kept]), normalize, "file", named, rejected, workers, notes=tuple(notes))


def _normalization(config: ImageDataConfig, spec: DataSpec, preprocessing: str | None) -> Normalize:
    """Return the normalisation that was saved with the model or, of an older run, that its config has in full."""
    if preprocessing is not None:
        normalize = Normalize.from_json(preprocessing)
    elif config.mean is not None and config.std is not None:
        channels = spec.input_shape[0]
        mean, std = (part * channels if len(part) == 1 else part for part in (config.mean, config.std))
        normalize = Normalize(mean, std)
    else:
        raise CheckpointError(
            "The checkpoint has no normalisation of images: it was trained on other samples than images, or before "
            "trainer saved it. A run on images that goes on (resume=RUN, with more epochs) saves it, in its last "
            "checkpoint; or give it as data.mean and data.std in the run's config.yaml."
        )
    if len(spec.input_shape) != 3 or not spec.input_shape[0] == len(normalize.mean) == len(normalize.std):
        raise CheckpointError("The saved normalisation is not that of the model.")
    return normalize


def _unlabelled(root: Path) -> tuple[Sequence[Path], Tensor, Counter[str]]:
    """Find the images, with a target of 0 for each, int64 (N,), and what is passed over."""
    paths, passed_over = unlabelled(root)
    return paths, torch.zeros(len(paths), dtype=torch.int64), passed_over


def _labelled(root: Path, spec: DataSpec) -> tuple[Sequence[Path], Tensor, Counter[str]]:
    """Find the images and their targets, classes int64 (N,) or numbers float32 (N, 1), and what is passed over."""
    found = by_class(root)
    if spec.labels is None:
        targets = torch.tensor([_number(root, name, spec) for name in found]).unsqueeze(1)
    else:
        targets = torch.tensor([_class(root, name, spec.labels) for name in found])
    counts = torch.tensor([len(files.images) for files in found.values()])
    passed_over = sum((files.passed_over for files in found.values()), Counter[str]())
    paths = [path for files in found.values() for path in files.images]
    return paths, targets.repeat_interleave(counts, 0), passed_over


def _class(root: Path, name: str, labels: Sequence[str]) -> int:
    """Return the index of the class that a folder is named after."""
    labels = [unicodedata.normalize("NFC", label) for label in labels]  # as the folders' names are
    if name in labels:
        return labels.index(name)
    folders = [label.replace("/", "_") for label in labels]
    if name not in folders:
        known = ", ".join(folders[:10]) + " …" * (len(folders) > 10)
        raise DataError(
            f"{root / name}: '{name}' is no class of the run.{did_you_mean(name, folders)} Its classes: {known}. "
            "Expected a folder with one folder for each class (data.root=FOLDER reads train/ and val/ as in training)."
        )
    return folders.index(name)


def _number(root: Path, name: str, spec: DataSpec) -> float:
    """Return the number that a folder is named after."""
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or spec.outputs != 1:
        raise DataError(
            f"{root / name}: the run predicts {'a number' if spec.outputs == 1 else f'{spec.outputs} numbers'}, which "
            f"the folder's name '{name}' is not; expected one folder of images for each number."
        )
    return value


def _display_name(path: Path, root: Path) -> str:
    """Return the name under which a file is listed: relative to the folder, with escapes for what is not UTF-8."""
    name = path.name if path == root else name_below(path, root).as_posix()
    return name.encode(errors="backslashreplace").decode()
