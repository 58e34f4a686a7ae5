"""The YAML files say what the dataclasses say, torch's defaults are ours, and no config needs torch."""

import dataclasses
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.config import compose, registry
from trainer.config.optimizer import OptimizerConfig
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.config.yaml_files import conf_dir, yaml_files

REPOSITORY = Path(__file__).parents[2]
OPTIMIZERS = [
    name for name in registry.names("optimizer") if registry.lookup("optimizer", name).__module__.startswith("trainer.")
]
# Arguments of torch's classes about how, not what, is computed; the fused step is chosen by `build_optimizer`.
NOT_KEYS = {"params", "maximize", "foreach", "capturable", "differentiable", "fused"}
OUR_KEYS = {"lr_mult", "layer_decay", "decay_norm_bias", "adamw_lr", "adamw_weight_decay"}


def _component(group: str, name: str) -> type[Section]:
    return registry.lookup(group, name)


def _torch_class(name: str) -> type[torch.optim.Optimizer]:
    return getattr(torch.optim, _component("optimizer", name)().torch_name())


def _torch_defaults(name: str) -> dict[str, Any]:
    parameters = inspect.signature(_torch_class(name)).parameters
    return {key: list(p.default) if isinstance(p.default, tuple) else p.default for key, p in parameters.items()}


def _write_conf(root: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "write_conf.py"), "--root", str(root), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_yaml_files_and_the_readme_are_what_the_script_writes() -> None:
    result = _write_conf(REPOSITORY, "--check")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_script_names_what_differs_and_writes_it_but_removes_nothing(tmp_path: Path) -> None:
    shutil.copytree(conf_dir(), tmp_path / "conf")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(readme.replace("`clip_norm`", "").replace("`mlp` ", ""), encoding="utf-8")
    changed, missing, surplus = (
        tmp_path / "conf" / name for name in ("model/mlp.yaml", "task/auto.yaml", "model/x.yaml")
    )
    good = changed.read_text(encoding="utf-8")
    changed.write_text(good.replace("dropout: 0.0", "dropout: 0.1"), encoding="utf-8")
    missing.unlink()
    surplus.write_text("defaults: [_mlp, _self_]\n", encoding="utf-8")
    checked = _write_conf(tmp_path, "--check")
    assert checked.returncode == 1
    names = ["README.md", "conf/model/mlp.yaml", "conf/task/auto.yaml", "conf/model/x.yaml"]
    *files, advice = checked.stdout.splitlines()
    assert [line.partition(":")[0] for line in files] == names
    assert "python scripts/write_conf.py" in advice
    assert _write_conf(tmp_path).returncode == 1, "a file that should not exist is for a person to remove"
    surplus.unlink()
    assert _write_conf(tmp_path, "--check").returncode == 0
    assert changed.read_text(encoding="utf-8") == good
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == readme


@pytest.mark.parametrize("group", registry.GROUPS)
def test_an_option_composes_to_the_defaults_of_its_dataclass(group: str) -> None:
    for name in registry.names(group):
        component = registry.lookup(group, name)
        if component.__module__.startswith("trainer."):
            section = getattr(compose.to_config(compose.compose([f"{group}={name}"])), group)
            assert type(section) is component
            assert section == component()


def test_every_experiment_composes_into_a_checked_config() -> None:
    for name in yaml_files("experiment"):
        assert isinstance(compose.to_config(compose.compose([f"experiment={name}"])), Config)


def test_the_defaults_of_python_and_of_the_command_line_are_the_same() -> None:
    assert compose.to_config(compose.compose([])) == Config()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_has_the_defaults_of_torch(name: str) -> None:
    ours = {key: default for key, (_, default, _) in _component("optimizer", name).keys().items()}
    theirs = _torch_defaults(name)
    shared = ours.keys() - OUR_KEYS
    assert shared <= theirs.keys(), "every key is an argument of torch's class"
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    # torch's Adam with decoupled decay is its AdamW.
    assert theirs.keys() - NOT_KEYS - shared <= ({"decoupled_weight_decay"} if name == "adam" else set())


def test_muons_partner_has_the_defaults_of_adamw() -> None:
    muon, adamw = _component("optimizer", "muon")(), _torch_defaults("adamw")
    assert (muon.adamw_lr, muon.adamw_weight_decay) == (adamw["lr"], adamw["weight_decay"])


def test_every_optimizer_of_torch_that_needs_no_closure_is_registered() -> None:
    classes = {value for value in vars(torch.optim).values() if inspect.isclass(value)} - {torch.optim.Optimizer}
    optimizers = {value for value in classes if issubclass(value, torch.optim.Optimizer)}
    registered = {_torch_class(name) for name in OPTIMIZERS}
    absent = optimizers - registered
    assert registered <= optimizers
    assert {value.__name__ for value in absent} == {"LBFGS"}
    closure = inspect.signature(inspect.unwrap(torch.optim.LBFGS.step)).parameters["closure"]
    assert closure.default is inspect.Parameter.empty


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_option_is_the_name_of_the_class_in_snake_case(name: str) -> None:
    assert name.replace("_", "") == _torch_class(name).__name__.lower()
    assert dataclasses.is_dataclass(_component("optimizer", name))
    assert issubclass(_component("optimizer", name), OptimizerConfig)


def test_configs_are_composed_and_checked_without_importing_torch() -> None:
    program = """
import sys
from trainer.config import compose
imported = {"torch", "torchvision", "tensorboard", "pyarrow"} & sys.modules.keys()
assert not imported, f"importing: {imported}"
cfg = compose.compose(["model=mlp", "optimizer=muon", "data=csv", "trainer.epochs=3"])
assert compose.to_config(cfg).trainer.epochs == 3
imported = {"torch", "torchvision", "tensorboard", "pyarrow"} & sys.modules.keys()
assert not imported, f"composing: {imported}"
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
