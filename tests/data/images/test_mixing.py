"""Mixup and CutMix against torchvision's, and runs with them that resume and accumulate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from trainer import Config, Run, assemble
from trainer.config.data import SyntheticImages
from trainer.config.model import Mlp
from trainer.config.task import Regression
from trainer.config.trainer import TrainerConfig
from trainer.data.images.geometry import box_mask
from trainer.data.images.mixing import CutMix, Mixing, Mixup, cut_boxes, mix, mixing_from
from trainer.data.types import BatchContext
from trainer.runs.build import build_data
from trainer.system import seeds

CLASSES = 5


def context(seed: int = 0, step: int = 0, batch: int = 64) -> BatchContext:
    return BatchContext(seed, step, epoch=0, positions=torch.arange(batch))


def batch(samples: int = 64, height: int = 12, width: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(samples, 3, height, width, generator=generator)
    return images, torch.randint(CLASSES, (samples,), generator=generator)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_mixup_equals_torchvision(kept: float) -> None:
    images, targets = batch()
    theirs = v2.MixUp(num_classes=CLASSES)
    params = {"labels": targets, "batch_size": len(images), "lam": kept}
    weights = torch.tensor(1 - kept)
    torch.testing.assert_close(mix(images, weights), theirs.transform(images, params))
    ours = mix(F.one_hot(targets, CLASSES).float(), weights)
    torch.testing.assert_close(ours, theirs.transform(targets, params))


def test_cutmix_equals_torchvision_for_the_same_boxes() -> None:
    images, _ = batch()
    generator = np.random.default_rng(0)
    kept, x, y = generator.random(64), generator.integers(9, size=64), generator.integers(12, size=64)
    boxes = cut_boxes(kept, x, y, 12, 9)
    ours = mix(images, box_mask(torch.from_numpy(boxes), 12, 9).float())
    theirs = v2.CutMix(num_classes=CLASSES)
    for i, box in enumerate(boxes.tolist()):
        pair = torch.stack([images[i - 1], images[i]])
        params = {"box": box, "batch_size": 2, "labels": None, "lam_adjusted": 0.0}
        assert torch.equal(ours[i], theirs.transform(pair, params)[1])


def test_boxes_are_those_of_torchvision_for_the_same_draws() -> None:
    """Its own draws, made again from the same generator: a λ, then the centre."""
    images, _ = batch(2, 31, 50)
    theirs = v2.CutMix(num_classes=CLASSES)
    for seed in range(200):
        torch.manual_seed(seed)
        params = theirs.make_params([images])
        torch.manual_seed(seed)
        kept = float(theirs._dist.sample(()))
        x, y = torch.randint(50, size=(1,)).numpy(), torch.randint(31, size=(1,)).numpy()
        (box,) = cut_boxes(np.array([kept]), x, y, 31, 50).tolist()
        assert tuple(box) == params["box"]


def found_shares(before: Tensor, after: Tensor) -> Tensor:
    """The share of the partner in each pixel, (B, H, W)."""
    partner = before.roll(1, 0)
    return ((after - before) / (partner - before)).mean(1)


@pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}], ids=str)
def test_targets_are_mixed_in_the_proportion_of_the_pixels(keys: dict[str, float]) -> None:
    images, targets = batch(256)
    mixing = mixing_from(SyntheticImages(augment=True, **keys), CLASSES)
    assert mixing is not None
    mixed, soft = mixing(images, targets, context(batch=256))
    share = found_shares(images, mixed).mean((1, 2))
    one_hot = F.one_hot(targets, CLASSES).float()
    torch.testing.assert_close(soft, one_hot.lerp(one_hot.roll(1, 0), share[:, None]), rtol=0, atol=1e-3)
    torch.testing.assert_close(soft.sum(1), torch.ones(256))
    assert len(share.unique()) > 20, "one draw for each sample"


def test_where_both_are_on_each_sample_gets_one_of_them_at_even_odds() -> None:
    images, targets = batch(1000)
    mixed, _ = Mixing([Mixup(1.0), CutMix(1.0)], CLASSES)(images, targets, context(batch=1000))
    shares = found_shares(images, mixed)
    blended = ((shares > 0.01) & (shares < 0.99)).flatten(1)
    assert (blended.all(1) | ~blended.any(1)).all(), "never both"
    assert abs(blended.all(1).sum().item() - 500) < 5 * 250**0.5


def test_the_draws_of_both_are_these() -> None:
    """Pinned: the runs of earlier versions resume to the same mixtures."""
    images, targets = batch(8)
    mixed, soft = Mixing([Mixup(1.0), CutMix(1.0)], CLASSES)(images, targets, context(3, 5, batch=8))
    generator = np.random.default_rng(seeds.fold(3, seeds.MIX, 5))
    cut, share, kept = generator.random(8) < 0.5, generator.beta(1.0, 1.0, 8), generator.beta(1.0, 1.0, 8)
    x, y = generator.integers(9, size=8), generator.integers(12, size=8)
    inside = box_mask(torch.from_numpy(cut_boxes(kept, x, y, 12, 9)), 12, 9).float()
    weights = torch.where(
        torch.from_numpy(cut)[:, None, None, None], inside, torch.from_numpy(share).float()[:, None, None, None]
    )
    assert torch.equal(mixed, mix(images, weights))
    shares = weights.expand_as(images[:, :1]).mean((1, 2, 3))
    torch.testing.assert_close(soft, mix(F.one_hot(targets, CLASSES).float(), shares[:, None]))


def test_the_shares_of_mixup_follow_the_beta_distribution() -> None:
    images, targets = batch(4000, 1, 1)
    mixed, _ = Mixing([Mixup(0.2)], CLASSES)(images, targets, context(batch=4000))
    share = found_shares(images, mixed).flatten().double()
    variance = 1 / (4 * (2 * 0.2 + 1))  # of Beta(α, α)
    assert share.mean().item() == pytest.approx(0.5, abs=5 * (variance / 4000) ** 0.5)
    assert share.var().item() == pytest.approx(variance, rel=0.05)


def test_numbers_are_mixed_linearly() -> None:
    images, _ = batch()
    numbers = torch.randn(64, 2, generator=torch.Generator().manual_seed(3))
    mixed, targets = Mixing([Mixup(1.0)], CLASSES)(images, numbers, context())
    share = found_shares(images, mixed).mean((1, 2))
    torch.testing.assert_close(targets, numbers.lerp(numbers.roll(1, 0), share[:, None]), rtol=1e-3, atol=1e-3)


def test_mixing_is_a_function_of_the_seed_and_the_step() -> None:
    images, targets = batch()
    mixing = Mixing([Mixup(0.5), CutMix(1.0)], CLASSES)
    (first, soft), (again, same) = (mixing(images, targets, context(3, 5)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(soft, same)
    for other in (context(4, 5), context(3, 6)):
        assert not torch.equal(mixing(images, targets, other)[0], first)


def test_it_is_off_unless_the_config_says_so() -> None:
    assert mixing_from(SyntheticImages(augment=True), CLASSES) is None
    assert mixing_from(SyntheticImages(augment=False, mixup=0.2), CLASSES) is None
    assert build_data(SyntheticImages(augment=True, cutmix=1.0), 0).mix is not None


def config(noise: float = 0.5, **settings: Any) -> Config:
    data = SyntheticImages(
        num_samples=200, image_size=8, noise=noise, augment=True, flip=False, rotation=0, mixup=0.3, cutmix=1.0,
        batch_size=24,
    )  # fmt: skip
    return Config(
        model=Mlp(dropout=0.0), data=data, trainer=TrainerConfig(**{"epochs": 2, "eval_every": None} | settings)
    )


def weights(trainer: Any) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer.state.model.parameters()]


def test_micro_batches_of_mixed_samples_add_up_to_the_whole_batch() -> None:
    trained = []
    for micro in (None, 7):
        trainer = assemble(config(micro_batch=micro))
        losses = [report.loss.item() for report in trainer.steps()]
        trained.append((torch.tensor(losses), *weights(trainer)))
    for whole, split in zip(*trained, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-3, atol=1e-4)


def test_a_run_that_mixes_resumes_to_the_same_bits(tmp_path: Path) -> None:
    through = assemble(config())
    list(through.steps())
    run = Run.create(tmp_path)
    halted = assemble(config(), run)
    for report in halted.steps():
        if report.step == 9:
            break
    halted.save(best=False)
    assert halted.store is not None
    halted.store.wait()
    resumed = assemble(config(), run, resume="last")
    assert resumed.state.step == 9
    list(resumed.steps())
    run.release()
    for a, b in zip(weights(through), weights(resumed), strict=True):
        assert torch.equal(a, b)


def test_classes_learned_as_numbers_are_mixed_too() -> None:
    numbers = config(steps=3)
    numbers.task = Regression()
    reports = list(assemble(numbers).steps())
    assert all(report.loss.isfinite() for report in reports)


def test_a_run_that_mixes_learns_and_records_its_pictures(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    records: list[Any] = []

    class Kept:
        def write(self, record: Any) -> None:
            records.append(record)

        def flush(self) -> None: ...
        def rewind(self, step: int) -> None: ...
        def close(self, summary: dict[str, Any]) -> None: ...

    assemble(config(0.1, epochs=10, log_every="1ep", eval_every="5ep"), run).fit([Kept()])
    run.release()
    assert len(records[0].labels) == len(records[0].images) == 24
    assert records[-1].scalars["val/accuracy"] > 0.9
    assert 0.3 < records[-1].scalars["train/accuracy"] < 0.95, "of mixed samples, a share is right"
