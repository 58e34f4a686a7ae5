"""The split into training and validation samples, as a function of the seed; and data made of the two."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from trainer.config.data import DataConfig
from trainer.data.checks import checked_split
from trainer.data.types import Augment, Data, DataSpec, Mix, Prepare, Split, as_float
from trainer.errors import ConfigError, DataError
from trainer.system import seeds


def split_samples(
    config: DataConfig, targets: Tensor, seed: int, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Split samples as a config asks: into folds, one of which is for validation, or by a share.

    Args:
        config: says `folds` and `fold`, or `val_fraction`.
        targets: int64 class indices (N,), which are stratified; or numbers.
        seed: of the run.
        groups: int64 (N,), the group of each sample: a group is never divided, and nothing is stratified; None: no
            groups.

    Returns:
        The indices of the training and of the validation samples, each int64 and ascending.

    Raises:
        DataError: where either side would be empty.
    """
    if config.folds is not None:
        return fold_index(targets, config.folds, config.fold, seed, groups)
    return split_index(targets, config.val_fraction, seed, groups)


def split_index(targets: Tensor, fraction: float, seed: int, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Hold out a share of the samples for validation.

    Classes (int64 targets) are stratified: each gives the same share, but for a class of one sample, which stays in
    training. `round(fraction × N)` samples are held out, at least 1 unless `fraction` is 0; with groups, as many whole
    groups as come nearest to that.

    Returns:
        The indices of the training and of the validation samples, each int64 and ascending.

    Raises:
        DataError: where either split would be empty.
    """
    samples = len(targets)
    order = torch.randperm(samples, generator=seeds.generator(seed, seeds.SPLIT))
    wanted = max(1, round(samples * fraction)) if fraction else 0
    if wanted >= samples:
        raise DataError(
            f"data.val_fraction={fraction} of {samples} sample{'s' * (samples != 1)} leaves none to train on."
        )
    if groups is not None and wanted:
        return _sides(_groups_held_out(groups, wanted, seed)[groups])
    held_out = torch.zeros(samples, dtype=torch.bool)
    held_out[_stratified(order, targets, wanted) if _are_classes(targets) else order[:wanted]] = True
    return _sides(held_out)


def fold_index(
    targets: Tensor, folds: int, fold: int, seed: int, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Hold out part `fold` of `folds` for validation, as in cross-validation.

    The parts are disjoint and together hold all samples. Their sizes, and those of each class in them, differ by one at
    most; groups are dealt out by size, the largest first, each to the part that is smallest so far.

    Returns:
        The indices of the training and of the validation samples, each int64 and ascending.

    Raises:
        DataError: where there are fewer samples, or groups, than parts.
    """
    if groups is not None:
        return _sides(_folds_of_groups(groups, folds, seed)[groups] == fold)
    samples = len(targets)
    if samples < folds:
        only = "is only 1 sample" if samples == 1 else f"are only {samples} samples"
        raise DataError(f"data.folds={folds}: there {only}.")
    order = torch.randperm(samples, generator=seeds.generator(seed, seeds.SPLIT))
    if _are_classes(targets):
        order = order[targets[order].argsort(stable=True)]  # dealt out class by class
    held_out = torch.zeros(samples, dtype=torch.bool)
    held_out[order[fold::folds]] = True
    return _sides(held_out)


def _are_classes(targets: Tensor) -> bool:
    return targets.dtype == torch.int64 and targets.ndim == 1


def _sides(held_out: Tensor) -> tuple[Tensor, Tensor]:
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def _groups_held_out(groups: Tensor, wanted: int, seed: int) -> Tensor:
    """Choose the groups to hold out, bool (groups,): in random order, as many as come nearest to `wanted` samples."""
    sizes = torch.bincount(groups)
    if len(sizes) < 2:
        raise DataError("data.group: all samples are of one group, so there is none to hold out.")
    order = torch.randperm(len(sizes), generator=seeds.generator(seed, seeds.SPLIT))
    taken = sizes[order].cumsum(0)
    count = int((taken - wanted).abs()[:-1].argmin()) + 1  # at least one group, and not all
    held_out = torch.zeros(len(sizes), dtype=torch.bool)
    held_out[order[:count]] = True
    return held_out


def _folds_of_groups(groups: Tensor, folds: int, seed: int) -> Tensor:
    """Assign each group to a fold, int64 (groups,)."""
    sizes = torch.bincount(groups)
    if len(sizes) < folds:
        only = "is only 1 group" if len(sizes) == 1 else f"are only {len(sizes)} groups"
        raise DataError(f"data.folds={folds}: there {only} in data.group.")
    order = torch.randperm(len(sizes), generator=seeds.generator(seed, seeds.SPLIT))
    order = order[sizes[order].argsort(descending=True, stable=True)]
    filled = [0] * folds
    parts = torch.empty_like(sizes)
    for group in order.tolist():
        part = filled.index(min(filled))
        parts[group] = part
        filled[part] += int(sizes[group])
    return parts


def _stratified(order: Tensor, targets: Tensor, wanted: int) -> Tensor:
    """Take `wanted` samples from `order`, of each class its first ones, in proportion to the sizes of the classes.

    Shares are rounded down, and what is then missing goes to the largest remainders (Hamilton's method).
    """
    counts = torch.bincount(targets)
    eligible = torch.where(counts > 1, counts, 0)  # a class's only sample stays in training
    share = eligible.double() * (wanted / max(1, int(eligible.sum())))
    take = share.floor().long()
    take[(share - take).argsort(descending=True, stable=True)[: wanted - int(take.sum())]] += 1
    # numpy sorts 16 bits by counting: of a million samples in a tenth of the time.
    small = targets.numpy().astype(np.uint16 if len(counts) <= 1 << 16 else np.int64)
    by_class = torch.from_numpy(np.argsort(small[order.numpy()], kind="stable"))
    first = (counts.cumsum(0) - counts).tolist()
    return order[torch.cat([by_class[at : at + n] for at, n in zip(first, take.tolist(), strict=True)])]


def from_tensors(
    inputs: Tensor,
    targets: Tensor,
    labels: tuple[str, ...] | None = None,
    *,
    config: DataConfig | None = None,
    seed: int = 0,
    prepare: Prepare = as_float,
    augment: Augment | None = None,
) -> Data:
    """Make data from tensors in memory: the shortest way to write a dataset.

    Args:
        inputs: (N, ...) float32 features or uint8 pixels; a tensor or a numpy array.
        targets: class indices (N,), or numbers (N,) or (N, outputs).
        labels: the names of the classes; None for regression.
        config: says what share or fold to hold out for validation; None: a fifth.
        seed: of the run.
        prepare, augment: see `trainer.data.types.Data`.

    Raises:
        ConfigError: where val_fraction is 0, since there is nothing else to validate on.
        DataError: for targets that do not fit the inputs or the labels, see `checked_split`.
    """
    config = config or DataConfig()
    if not config.holds_out:
        raise ConfigError("data.val_fraction=0: this dataset has no validation samples of its own; hold out a share.")
    whole, said = checked_split(Split(inputs, targets), labels, "")
    train, val = split_samples(config, whole.targets, seed)
    data = from_splits(whole.subset(train), whole.subset(val), labels, prepare=prepare, augment=augment)
    return dataclasses.replace(data, warnings=said)


def from_splits(
    train: Split,
    val: Split,
    labels: tuple[str, ...] | None,
    *,
    input_shape: tuple[int, ...] | None = None,
    prepare: Prepare = as_float,
    augment: Augment | None = None,
    mix: Mix | None = None,
    workers: int = 0,
    description: str = "",
    preprocessing: str | None = None,
) -> Data:
    """Make data from a training and a validation split.

    Args:
        train, val: the splits.
        labels: the names of the classes; None for regression.
        input_shape: of one sample; None: as the training tensor has it.
        prepare, augment, mix, workers, description, preprocessing: see `trainer.data.types.Data`.
    """
    train, said = checked_split(train, labels, "training")
    val, said_of_val = checked_split(val, labels, "validation") if len(val) else (val, ())
    if input_shape is None:
        if not isinstance(train.inputs, Tensor):
            raise DataError("The training inputs are no tensor; give from_splits the input_shape of one sample.")
        input_shape = tuple(train.inputs.shape[1:])
    spec = DataSpec.of(input_shape, train.targets, labels)
    return Data(
        spec,
        train,
        val,
        prepare,
        augment,
        workers,
        description,
        mix=mix,
        preprocessing=preprocessing,
        warnings=(*said, *said_of_val),
    )


def limit(split: Split, samples: int, seed: int) -> Split:
    """Draw `samples` samples of a split, kept in their order; a split that has no more is returned as it is."""
    if samples >= len(split):
        return split
    index = torch.randperm(len(split), generator=seeds.generator(seed, seeds.SUBSET))[:samples]
    return split.subset(index.sort().values)
