"""RealMLP and TabM: their layers by the papers' formulas, their rates, and how members are trained and averaged."""

import math
from pathlib import Path
from typing import Any

import pytest
import tabm
import torch
from torch import nn

from trainer import Config, assemble
from trainer.config.durations import RunLength
from trainer.config.model import RealMlp, TabM
from trainer.config.optimizer import AdamW, Muon
from trainer.config.scheduler import flat_cos
from trainer.config.scheduler_phases import CosLogLR
from trainer.config.table import Csv
from trainer.config.trainer import TrainerConfig
from trainer.data.types import DataSpec
from trainer.models.members import average
from trainer.models.progress import FlatCosDropout, ModelProgress
from trainer.models.realmlp import CategoryInputs, NtkLinear, PeriodicEmbeddings, realmlp_model
from trainer.models.tabm import TabMNetwork, tabm_model
from trainer.optim.optimizers import make_optimizer
from trainer.optim.schedules import make_schedule
from trainer.tasks.classification import ClassificationTask
from trainer.tasks.regression import RegressionTask

CLASSES = DataSpec((7,), 3, ("a", "b", "c"), class_counts=(1, 1, 1), cardinalities=(4, 6))
NUMBERS = DataSpec((5,), 1, target_mean=(0.0,), target_std=(1.0,))


def samples(spec: DataSpec, count: int = 12) -> torch.Tensor:
    numbers = torch.randn(count, spec.features - len(spec.cardinalities))
    codes = [torch.randint(0, n, (count, 1)).float() for n in spec.cardinalities]
    return torch.cat([numbers, *codes], dim=1)


@pytest.mark.parametrize("spec", [CLASSES, NUMBERS])
@pytest.mark.parametrize(
    ("make", "config"),
    [
        (realmlp_model, RealMlp()),
        (realmlp_model, RealMlp(members=3, onehot_levels=3)),
        (tabm_model, TabM(hidden=[16], members=4)),
    ],
)
def test_outputs_have_the_shape_of_the_data_and_every_weight_learns(make: Any, config: Any, spec: DataSpec) -> None:
    torch.manual_seed(0)
    model, inputs = make(config, spec), samples(spec)
    task: Any = ClassificationTask(spec) if spec.labels else RegressionTask(spec)
    targets = torch.randint(0, 3, (12,)) if spec.labels else torch.randn(12, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        task.loss_sum(model(inputs), targets).backward()
        optimizer.step()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    model.eval()
    assert model(inputs).shape == (12, spec.outputs)


def test_periodic_embeddings_and_linear_layers_are_those_of_the_formulas() -> None:
    torch.manual_seed(0)
    layer, x = PeriodicEmbeddings(2, frequencies=3, dim=4), torch.tensor([[0.5, -2.0]])
    waves = [math.cos(2 * math.pi * layer.frequency[1, i].item() * -2 + layer.phase[1, i].item()) for i in range(3)]
    weight, bias = layer.weight[1].tolist(), layer.bias[1].tolist()
    expected = [sum(w * weight[i][o] for i, w in enumerate(waves)) + bias[o] for o in range(3)]
    assert layer(x)[0, 4:].tolist() == pytest.approx([-2.0, *expected], abs=1e-5)
    linear = NtkLinear(9, 2)
    inputs = torch.randn(4, 9)
    torch.testing.assert_close(linear(inputs), inputs @ linear.weight.T / 3 + linear.bias)


def test_initial_weights_are_fitted_to_the_rows() -> None:
    """Each unit has deviation 1 before its bias, and minus the bias lies among what it gives."""
    torch.manual_seed(0)
    model, inputs = realmlp_model(RealMlp(hidden=[16, 16]), CLASSES), samples(CLASSES, 300) * 50
    inputs[:, 5] = inputs[:, 5] % 4
    inputs[:, 6] = inputs[:, 6] % 6
    model.train()
    model.fit_initial_weights(inputs)
    assert model.training
    x = model.eval()._embedded(inputs)
    for layer in model.layers:
        if isinstance(layer, NtkLinear):
            outputs = layer(x) - layer.bias
            torch.testing.assert_close(outputs.std(0, correction=0), torch.ones(len(layer.bias)), atol=1e-4, rtol=0)
            zeros = -layer.bias
            assert ((outputs.min(0).values <= zeros) & (zeros <= outputs.max(0).values)).all()
            assert zeros.std() > 0.1, "each has its own"
        x = layer(x)
    constant = torch.ones(20, 7)
    model.fit_initial_weights(constant)
    assert model(constant).isfinite().all()


def test_a_run_fits_them_by_its_seed_and_cuts_its_predictions_to_the_range_of_the_target(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,y\n" + "\n".join(f"{i % 97},{i * 7 % 31},{i % 97 * 3}" for i in range(400)))
    data = Csv(path=str(path), target="y", target_type="number", batch_size=64)

    def trained(seed: int, **keys: Any) -> nn.Module:
        settings = TrainerConfig(steps=1, threads=1)
        config = Config(model=RealMlp(hidden=[8], **keys), data=data, seed=seed, trainer=settings)
        return assemble(config).state.model

    first, again, other = trained(1), trained(1), trained(2)
    weights = [model.state_dict()["0.layers.1.weight"] for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    far = torch.full((2, 2), 1e4) * torch.tensor([[1.0], [-1.0]])
    first.eval()
    assert first(far).min() >= 0
    assert first(far).max() <= 288
    assert first.train()(far).abs().max() > 288, "while it is trained, gradients are not cut"
    assert trained(1, clamp=False).eval()(far).abs().max() > 288


def test_few_levels_are_inputs_and_many_are_vectors() -> None:
    layer = CategoryInputs((4, 6, 14), 9)  # of 2, 4 and 12 levels; the first code is unseen, the last missing
    assert layer.features == 1 + 4 + 8
    codes = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 4, 12], [3, 5, 13]]).float()
    found = layer(codes)
    assert found[0].tolist() == [0] * 13
    assert found[1, :5].tolist() == pytest.approx([-0.832, 1.664, 0, 0, 0])
    assert found[2, :5].tolist() == pytest.approx([0.832, 0, 0, 0, 1.664])
    assert found[3, :5].tolist() == [0] * 5
    assert found[1:, 5:].abs().sum(1).min() > 0
    model = realmlp_model(RealMlp(hidden=[8]), CLASSES)
    assert model.layers[0].weight.shape == (5 * 4 + 1 + 4,), "categories have no periodic embedding"


def test_parameters_have_their_own_rates() -> None:
    model = realmlp_model(RealMlp(hidden=[8], lr_of_numbers=1.0), NUMBERS)
    optimizer = make_optimizer(AdamW(lr=0.1, decay_norm_bias=False), model)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)]: (group["lr"], group["weight_decay"] > 0)
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert optimizer.param_groups[0]["lr"] == 0.1, "the rate that is shown is that of the weights"
    assert rates["layers.0.weight"] == (pytest.approx(0.6), True)
    assert rates["layers.2.weight"] == (pytest.approx(0.01), True)
    assert rates["layers.1.weight"] == (0.1, True)
    assert rates["layers.1.bias"] == (pytest.approx(0.01), False)
    assert rates["periodic.frequency"] == (pytest.approx(0.01), True)
    of_numbers = make_optimizer(AdamW(lr=0.1), realmlp_model(RealMlp(hidden=[8]), NUMBERS))
    of_classes = make_optimizer(AdamW(lr=0.1), realmlp_model(RealMlp(hidden=[8]), CLASSES))
    highest, usual = (max(group["lr"] for group in each.param_groups) for each in (of_numbers, of_classes))
    assert (highest, usual) == (pytest.approx(3.0), pytest.approx(0.6))
    plain = make_optimizer(AdamW(lr=0.1), nn.Linear(3, 2))
    assert [group["lr"] for group in plain.param_groups] == [0.1]


def test_schedules_of_rate_decay_and_dropout_are_functions_of_the_step() -> None:
    run = RunLength(10, 100)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.2)
    schedule = make_schedule(CosLogLR(weight_decay="flat_cos"), run)
    for step in (99, 0, 50, 75):
        lr = schedule.apply(optimizer, step)
        assert lr == pytest.approx(0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * step / 100))) / 2)
        assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.2 * flat_cos(step / 100))
    assert [flat_cos(share) for share in (0.0, 0.49, 0.75, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    dropout = FlatCosDropout(0.4)
    ModelProgress(nn.Sequential(dropout), 100)(75)
    assert dropout.current.item() == pytest.approx(0.2)
    ones = dropout(torch.ones(10_000))
    assert ones.mean().item() == pytest.approx(1, abs=0.02)
    assert (ones == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_the_members_are_those_of_the_published_package() -> None:
    """Gorishniy's own module, with its weights, gives the same outputs of each member."""
    torch.manual_seed(0)
    sizes = {"n_num_features": 5, "cat_cardinalities": [], "d_out": 3, "n_blocks": 2, "d_block": 16, "k": 4}
    theirs = tabm.TabM(**sizes, dropout=0.0, arch_type="tabm", start_scaling_init="random-signs")
    ours = TabMNetwork(5, (), 3, [16, 16], 4, 0.0, classes=True)
    given = dict(theirs.named_parameters())
    with torch.no_grad():
        for p in given.values():
            p.copy_(torch.randn_like(p) * 0.3)
        for block, layer in enumerate(module for module in ours.layers if hasattr(module, "r")):
            prefix = f"backbone.blocks.{block}.0."
            layer.weight.copy_(given[f"{prefix}weight"])
            layer.r.copy_(given[f"{prefix}r"])
            layer.s.copy_(given[f"{prefix}s"])
            layer.bias.copy_(given[f"{prefix}bias"])
        ours.heads.weight.copy_(given["output.weight"])
        ours.heads.bias.copy_(given["output.bias"])
    x = torch.randn(6, 5)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_members_are_trained_one_by_one_and_averaged_in_probability() -> None:
    torch.manual_seed(0)
    outputs, targets, weights = torch.randn(5, 4, 3), torch.randint(0, 3, (5,)), torch.rand(5)
    task = ClassificationTask(CLASSES)
    for w in (None, weights):
        each = [task.loss_sum(outputs[:, m], targets, w) for m in range(4)]
        torch.testing.assert_close(task.loss_sum(outputs, targets, w), torch.stack(each).mean())
    torch.testing.assert_close(average(outputs, True).softmax(1), outputs.softmax(-1).mean(1))
    numbers, values = torch.randn(5, 4, 1), torch.randn(5, 1)
    regression = RegressionTask(NUMBERS)
    alone = [regression.loss_sum(numbers[:, m], values) for m in range(4)]
    torch.testing.assert_close(regression.loss_sum(numbers, values), torch.stack(alone).mean())
    sums = task.train_sums(outputs, targets, task.loss_sum(outputs, targets))
    assert sums[2] == (outputs.softmax(-1).mean(1).argmax(1) == targets).sum()


@pytest.mark.parametrize("spec", [CLASSES, NUMBERS])
def test_members_of_realmlp_are_networks_of_their_own(spec: DataSpec) -> None:
    """Each is the network of one member with its weights, and together they say the average."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"onehot_levels": 3, "hidden": [8, 8]}  # a category of few levels, and one of many
    together, alone = realmlp_model(RealMlp(members=3, **sizes), spec), realmlp_model(RealMlp(**sizes), spec)
    inputs = samples(spec, 20)
    together.fit_initial_weights(inputs)  # type: ignore[operator]
    together.eval()
    alone.eval()
    said = []
    for member in range(3):
        for (name, one), all_of_them in zip(alone.named_parameters(), together.parameters(), strict=True):
            vectors = name.startswith("categories")  # side by side in one table
            own = all_of_them.unflatten(1, (3, -1))[:, member] if vectors else all_of_them[member]
            with torch.no_grad():
                one.copy_(own)
        said.append(alone(inputs))
    expected = average(torch.stack(said, 1), spec.labels is not None)
    torch.testing.assert_close(together(inputs), expected)
    assert not torch.equal(said[0], said[1])


def test_parameters_have_their_own_rates_in_both_parts_of_muon() -> None:
    model = realmlp_model(RealMlp(hidden=[8], lr_of_numbers=1.0), NUMBERS)
    optimizer = make_optimizer(Muon(lr=0.5, adamw_lr=0.1), model)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates["layers.1.weight"] == 0.5
    assert rates["periodic.frequency"] == pytest.approx(0.05)
    assert rates["layers.0.weight"] == pytest.approx(0.6)
    assert rates["layers.1.bias"] == pytest.approx(0.01)
