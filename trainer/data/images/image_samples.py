"""New images for a trained model: a file, a folder of files, or a folder for each class."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.config.data import ImageDataConfig
from trainer.data.images.image_files import Decoder, ImageFiles, check_all
from trainer.data.images.image_listing import by_class, unlabelled
from trainer.data.images.normalize import Normalize
from trainer.data.types import DataSpec, Samples, Split
from trainer.errors import CheckpointError, ConfigError, DataError, did_you_mean

WORKERS = 2  # processes that decode, where the dataset has no key for it


def read_image_samples(
    config: ImageDataConfig,
    source: str,
    spec: DataSpec,
    preprocessing: str | None,
    labelled: bool,
    workers: int = WORKERS,
    on_error: str | None = None,
) -> Samples:
    """Images decoded, resized and normalised as those that the model was trained with; streamed, however many.

    Args:
        config: of the run.
        source: see `trainer.data.images.image_listing`: of `by_class` where `labelled`, else of `unlabelled`.
        spec, preprocessing: as the training data gave them; the spec has the size of the images.
        labelled: whether the folders are the classes (with a `/` in a class's name as `_`), or for regression numbers.
        workers: processes that decode.
        on_error: the dataset's `data.on_error`; None: it has none, and what is unreadable is an error.

    Raises:
        CheckpointError: where the normalisation is damaged, not the model's, or was not saved.
        ConfigError: where the model takes no images that files can have.
        DataError: for a file or folder that is missing or of no class of the run, and in the stream for a file that is
            unreadable.
    """
    normalize = _normalization(config, spec, preprocessing)
    channels, height, width = spec.input_shape
    if channels not in (1, 3):
        raise ConfigError(f"{source}: image files are read as 1 (grey) or 3 (RGB) channels; the run takes {channels}.")
    root = Path(source).expanduser()
    paths, targets = _labelled(root, spec) if labelled else _unlabelled(root)
    decoder = Decoder((height, width), channels, resize=True)
    reasons = check_all(paths, decoder) if on_error == "skip" else {}
    if len(reasons) == len(paths):
        raise DataError(f"{root}: none of its {len(paths)} files can be used as an image; {paths[0]}: {reasons[0]}.")
    kept = [i for i in range(len(paths)) if i not in reasons]
    remedy = "Repair or remove it" + (", or leave such files out with --on-error skip." if on_error else ".")
    files = ImageFiles([paths[i] for i in kept], decoder, remedy)
    names = [_name(path, root) for path in paths]
    return Samples(
        Split(files, targets[kept]),
        normalize,
        "file",
        [names[i] for i in kept],
        tuple(f"{names[i]}: {reasons[i]}" for i in sorted(reasons)),
        workers,
    )


def _normalization(config: ImageDataConfig, spec: DataSpec, preprocessing: str | None) -> Normalize:
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


def _unlabelled(root: Path) -> tuple[Sequence[Path], Tensor]:
    paths = unlabelled(root)
    return paths, torch.zeros(len(paths), dtype=torch.int64)


def _labelled(root: Path, spec: DataSpec) -> tuple[Sequence[Path], Tensor]:
    """The images, and int64 classes (N,) or float32 numbers (N, 1)."""
    found = by_class(root)
    if spec.labels is None:
        targets = torch.tensor([_number(root, name, spec) for name in found]).unsqueeze(1)
    else:
        targets = torch.tensor([_class(root, name, spec.labels) for name in found])
    counts = torch.tensor([len(paths) for paths in found.values()])
    return [path for paths in found.values() for path in paths], targets.repeat_interleave(counts, 0)


def _class(root: Path, name: str, labels: Sequence[str]) -> int:
    if name in labels:
        return labels.index(name)
    folders = [label.replace("/", "_") for label in labels]
    if name not in folders:
        known = ", ".join(folders[:10]) + " …" * (len(folders) > 10)
        raise DataError(
            f"{root / name}: '{name}' is no class of the run.{did_you_mean(name, folders)} Its classes: {known}. "
            "Expected a folder with one folder for each class."
        )
    return folders.index(name)


def _number(root: Path, name: str, spec: DataSpec) -> float:
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


def _name(path: Path, root: Path) -> str:
    """A file as it is listed: below the folder; what is no UTF-8 in it is escaped."""
    name = path.name if path == root else path.relative_to(root).as_posix()
    return name.encode(errors="backslashreplace").decode()
