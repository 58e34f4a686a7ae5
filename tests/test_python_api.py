"""The Python API: a config, a trainer, a loop of one's own, and the trained network."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import run_python

import trainer
from trainer import Config, Run, assemble, load_model
from trainer.config.data import Synthetic
from trainer.config.model import Linear, Mlp
from trainer.config.optimizer import SGD
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError


def small(**settings: object) -> Config:
    """A linear model on 160 samples to train on: 3 steps an epoch."""
    return Config(
        model=Linear(), data=Synthetic(num_samples=200), optimizer=SGD(lr=0.1), trainer=TrainerConfig(**settings)
    )


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, trainer; names = trainer.__all__; trainer.__version__; trainer.key, trainer.register;"
        "print(*sorted(names)); print(*{'torch', 'numpy', 'hydra', 'omegaconf', 'rich'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    names, heavy = output.splitlines()
    assert names.split() == sorted(trainer.__all__)
    assert heavy == ""


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(trainer, name) is not None for name in trainer.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = trainer.fit


def test_a_config_made_in_python_is_held_to_types_and_ranges() -> None:
    assert Config().model.option == "cnn"
    with pytest.raises(ConfigError, match=r"trainer\.epochs=0: must be >= 1"):
        small(epochs=0)
    with pytest.raises(ConfigError, match=r"optimizer\.lr='fast': expected float"):
        SGD(lr="fast")
    with pytest.raises(ConfigError, match="seed=-1"):
        Config(seed=-1)


def test_the_loop_is_the_callers_own() -> None:
    steps = assemble(small(epochs=4)).steps()
    reports = list(steps)
    assert [report.step for report in reports] == list(range(1, 13))
    assert [report.epoch for report in reports] == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    losses = [report.loss.item() for report in reports]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert reports[0].lr == 0.1
    assert reports[-1].lr < reports[0].lr


def test_the_loop_can_be_left_and_entered_again() -> None:
    whole = [report.loss.item() for report in assemble(small(epochs=2)).steps()]
    parts = assemble(small(epochs=2))
    first = [report.loss.item() for report, _ in zip(parts.steps(), range(2), strict=False)]
    done = parts.state.step
    assert first == whole[:2]
    assert [report.loss.item() for report in parts.steps()] == whole[done:]
    assert list(parts.steps()) == []


def test_validating_in_ones_own_loop_gives_scores_and_changes_nothing() -> None:
    plain = [report.loss.item() for report in assemble(small(epochs=2)).steps()]
    looked, losses = assemble(small(epochs=2)), []
    for report in looked.steps():
        losses.append(report.loss.item())
        scores, confusion = looked.validate()
        assert set(scores) == {"val/loss", "val/accuracy", "val/macro_f1"}
        assert confusion is not None
        assert confusion.sum() == 40
        assert confusion.trace() / 40 == pytest.approx(scores["val/accuracy"])
    assert losses == plain


def test_without_a_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert assemble(small(epochs=1)).fit() == "completed"
    assert list(tmp_path.iterdir()) == []


def test_a_fitted_run_is_loaded_as_the_network_that_scored_best(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    fitted = assemble(small(epochs=3), run)
    assert fitted.fit() == "completed"
    run.release()
    last = load_model(run.directory, "last")
    assert not last.training
    inputs = torch.randn(5, 10)
    with torch.inference_mode():
        torch.testing.assert_close(last(inputs), fitted.state.model.cpu()(inputs), rtol=0, atol=0)
    best = load_model(run.directory)
    manifest = json.loads((run.checkpoints / "best" / "manifest.json").read_text())
    assert manifest["step"] == fitted.state.monitor.best_step
    again = load_model(run.checkpoints / f"step-{manifest['step']:08d}")
    for name, tensor in best.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_the_same_config_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        config = Config(
            model=Mlp(hidden=[4]), data=Synthetic(num_samples=100), trainer=TrainerConfig(epochs=1), seed=seed
        )
        trained = assemble(config)
        trained.fit()
        return torch.cat([p.detach().flatten().cpu() for p in trained.state.model.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


OWN_COMPONENT = '''
from dataclasses import dataclass

import torch

from trainer import Config, assemble, key, register
from trainer.config.data import Synthetic
from trainer.config.model import ModelConfig
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError


@register("model", "narrow")
@dataclass
class Narrow(ModelConfig):
    """A layer of its own."""

    scale: float = key(2.0, "of the output", above=0)

    def build(self, spec):
        return torch.nn.Linear(spec.features, spec.outputs)


config = Config(model=Narrow(scale=3), data=Synthetic(num_samples=100), trainer=TrainerConfig(epochs=1))
print(config.model.option, config.model.scale, len(list(assemble(config).steps())))
for wrong in (lambda: Narrow(scale=0), lambda: register("modle", "x")):
    try:
        wrong()
    except ConfigError as error:
        print(error)
'''


def test_a_component_of_ones_own_is_registered_checked_and_trained(tmp_path: Path) -> None:
    # In a process of its own: what is registered stays registered.
    (tmp_path / "own.py").write_text(OWN_COMPONENT)
    result = run_python(tmp_path, str(tmp_path / "own.py"))
    trained, scale, group = result.stdout.splitlines()
    assert trained == "narrow 3.0 2"
    assert scale.startswith("model.scale=0.0: must be > 0")
    assert group.startswith("There is no group 'modle'")


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "fundamentals.md")]


def test_the_pages_import_nothing_deeper_than_the_public_names() -> None:
    """What plug-ins and user scripts need is importable from `trainer` itself: the pages show nothing else."""
    shown = [line.strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    imports = [line for line in shown if re.match(r"(from|import) trainer\b", line)]
    assert imports
    assert [line for line in imports if not line.startswith("from trainer import ")] == []
    for line in imports:
        for name in line.removeprefix("from trainer import ").split(","):
            assert name.strip() in trainer.__all__, line
