"""The YAML files and the dataclasses say the same, torch's defaults are ours, and no config needs torch."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from trainer.config import compose, registry
from trainer.config.optimizer import OptimizerConfig
from trainer.config.section import Section
from trainer.config.yaml_files import conf_dir, options, yaml_files

FILES = [(group, name, path) for group in compose.GROUPS for name, path in yaml_files(group).items()]
REGISTERED = [entry for entry in FILES if entry[0] in registry.GROUPS and entry[1] in registry.names(entry[0])]
OPTIMIZERS = [
    name for name in registry.names("optimizer") if registry.lookup("optimizer", name).__module__.startswith("trainer.")
]
# Arguments of torch's classes about how, not what, is computed; the fused step is chosen by `build_optimizer`.
NOT_KEYS = {"params", "maximize", "foreach", "capturable", "differentiable", "fused"}
OUR_KEYS = {"decay_norm_bias", "adamw_lr", "adamw_weight_decay"}


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _component(group: str, name: str) -> type[Section]:
    return registry.lookup(group, name)


def _torch_class(name: str) -> type[torch.optim.Optimizer]:
    return getattr(torch.optim, _component("optimizer", name)().torch_name())


def _torch_defaults(name: str) -> dict[str, Any]:
    parameters = inspect.signature(_torch_class(name)).parameters
    return {key: list(p.default) if isinstance(p.default, tuple) else p.default for key, p in parameters.items()}


def test_every_yaml_file_is_the_root_or_an_option_of_a_group() -> None:
    known = {path for _, _, path in FILES} | {conf_dir() / "train.yaml"}
    assert set(conf_dir().rglob("*.yaml")) == known


@pytest.mark.parametrize(("group", "name", "path"), FILES, ids=_name)
def test_every_option_composes_into_a_checked_config(group: str, name: str, path: Path) -> None:
    config = compose.to_config(compose.compose([f"{group}={name}"]))
    assert all(isinstance(getattr(config, section), Section) for section in registry.GROUPS)
    if group in registry.GROUPS and name in registry.names(group):
        assert type(getattr(config, group)) is registry.lookup(group, name)


@pytest.mark.parametrize(("group", "name", "path"), REGISTERED, ids=_name)
def test_a_yaml_file_lists_every_key_with_the_default_of_its_dataclass(group: str, name: str, path: Path) -> None:
    written = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(written, dict)
    schema, *rest = written.pop("defaults")
    assert schema == f"_{name}"
    assert rest in ([], ["_self_"])
    assert written == {key: default for key, (_, default, _) in _component(group, name).keys().items()}


@pytest.mark.parametrize("group", registry.GROUPS)
def test_every_registered_option_has_a_yaml_file(group: str) -> None:
    ours = [name for name in registry.names(group) if registry.lookup(group, name).__module__.startswith("trainer.")]
    assert set(ours) <= set(yaml_files(group))
    assert set(ours) <= set(options(group))


def test_the_defaults_of_python_and_of_the_command_line_are_the_same() -> None:
    assert compose.to_config(compose.compose([])) == compose.Config()


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
