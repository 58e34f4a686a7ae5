"""Keys with a type, a doc and a range: checked whenever a config is made, from YAML or from Python."""

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trainer.config import compose, registry
from trainer.config.data import Digits
from trainer.config.model import Cnn, Mlp
from trainer.config.optimizer import Adam, AdamW
from trainer.config.root import Config
from trainer.config.scheduler import MultiStepLR, StepLR
from trainer.config.section import FIXED, FUTURE, Key, Section, key, other_default
from trainer.config.table import Csv
from trainer.config.task import Classification
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError

Component = type[Section]
COMPONENTS: list[Component] = [
    component
    for group in registry.GROUPS
    for component in (registry.lookup(group, name) for name in registry.names(group))
    if component.__module__.startswith("trainer.")
] + [Config]


def _values_out_of_bounds(about: Key, default: Any, words: str) -> Iterator[Any]:
    """One value beyond each bound that a key declares."""
    whole = "int" in words
    beyond = (
        (about.above, about.above),
        (about.at_least, None if about.at_least is None else about.at_least - (1 if whole else 1e-3)),
        (about.below, about.below),
        (about.at_most, None if about.at_most is None else about.at_most + (1 if whole else 1e-3)),
    )
    for bound, value in beyond:
        if bound is not None and value is not None:
            number = int(value) if whole else float(value)
            yield [number, number] if words.startswith("list") else number


def _refusal(make: Callable[..., Any], *values: Any, **keys: Any) -> str:
    """The message of the `ConfigError` that a call raises; "" where it raises none."""
    try:
        make(*values, **keys)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_defaults_pass() -> None:
    assert {component.section for component in COMPONENTS} == {*registry.GROUPS, ""}
    for component in COMPONENTS:
        made = component()
        assert all(getattr(made, name) == default for name, (_, default, _) in component.keys().items())


def test_a_component_and_each_of_its_keys_has_a_doc() -> None:
    for component in COMPONENTS:
        assert component.__doc__
        assert not component.__doc__.startswith(f"{component.__name__}("), "the doc that dataclass makes up is none"
        for name, (_, _, about) in component.keys().items():
            assert len(about.doc) > 5, component.key_name(name)


def test_every_field_is_a_key_or_a_section() -> None:
    for component in COMPONENTS:
        fields = {field.name for field in dataclasses.fields(component)}
        assert fields - set(component.keys()) == (set(registry.GROUPS) if component is Config else set())


@pytest.mark.parametrize("group", [*registry.GROUPS, ""])
def test_a_value_beyond_a_bound_is_refused_from_python_and_from_the_command_line(group: str) -> None:
    for component in (component for component in COMPONENTS if component.section == group):
        cfg = compose.from_config(Config(**{group: component()} if group else {}))
        for name, (words, default, about) in component.keys().items():
            full = component.key_name(name)
            for value in _values_out_of_bounds(about, default, words):
                shown = value[0] if isinstance(value, list) else value
                message = _refusal(component, **{name: value})
                assert message.startswith(full), full
                assert f"={shown}: must be {about.allowed()}" in message
                assignment = compose.parse([f"{full}={str(value).replace(' ', '')}"])
                assigned = compose.assign(copy.deepcopy(cfg), assignment)
                assert _refusal(compose.to_config, assigned) == message


def test_a_word_that_is_no_choice_and_no_duration_and_a_value_of_no_known_type_are_refused() -> None:
    for component in COMPONENTS:
        for name, (_, default, about) in component.keys().items():
            full = component.key_name(name)
            with pytest.raises(ConfigError, match=f"^{re.escape(full)}="):
                component(**{name: object()})
            if about.choices or about.duration:
                with pytest.raises(ConfigError, match=rf"^{re.escape(full)}.*nonsense"):
                    component(**{name: ["nonsense"] if isinstance(default, list) else "nonsense"})


@pytest.mark.parametrize(
    ("about", "good", "bad"),
    [
        (Key("x", above=0), [1e-9, 5], [0, -1]),
        (Key("x", at_least=0), [0, 0.0, 5], [-1, -1e-9]),
        (Key("x", below=1), [0.999, -5], [1, 1.5]),
        (Key("x", at_most=1), [1, 0], [1.0001, 2]),
        (Key("x", at_least=0, below=1), [0, 0.5], [-0.1, 1]),
        (Key("x", choices=("a", "b")), ["a", "b", None], ["c", "A", ""]),
        (Key("x", duration=True), ["5", "1ep", "5%", "1min", None], ["x", "-1", ""]),
        (Key("x", duration=True, wall_clock=False), ["5", "1ep"], ["1min"]),
        (Key("x"), [0.0, -1, "text", None, True], [math.nan, math.inf, -math.inf]),
        (Key("x", above=0), [[1.0, 2.0], [], (1.0,)], [[1.0, 0.0], [math.nan], [1.0, math.inf]]),
    ],
)
def test_a_key_lets_pass_what_is_allowed_and_refuses_the_rest(about: Key, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        about.check("group.key", value)
    for value in bad:
        with pytest.raises(ConfigError, match=r"^group\.key"):
            about.check("group.key", value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(lr=-0.5), "optimizer.lr=-0.5: must be > 0."),
        (lambda: AdamW(lr=math.nan), "optimizer.lr=nan: must be a finite number."),
        (lambda: AdamW(lr=math.inf), "optimizer.lr=inf: must be a finite number."),
        (lambda: Adam(betas=[0.9, 1.0]), "optimizer.betas[1]=1.0: must be >= 0, < 1."),
        (lambda: Mlp(hidden=[8, 0]), "model.hidden[1]=0: must be >= 1."),
        (
            lambda: Mlp(activation="rleu"),
            "model.activation=rleu: not one of relu, gelu, silu, tanh, sigmoid. Did you mean 'relu'?",
        ),
        (lambda: Config(seed=-1), "seed=-1: must be >= 0."),
        (lambda: MultiStepLR(milestones=["50%", "late"]), "scheduler.milestones[1]=late: not a duration"),
        (lambda: TrainerConfig(device="gpu"), "trainer.device=gpu: not one of auto, cpu, cuda, cuda:N, mps."),
        (lambda: TrainerConfig(max_time="500"), "trainer.max_time=500: must be a wall-clock time"),
        (lambda: TrainerConfig(max_time="5epochs"), "trainer.max_time=5epochs: must be a wall-clock time"),
        (lambda: TrainerConfig(max_time="soon"), "trainer.max_time=soon: must be a wall-clock time"),
        (lambda: TrainerConfig(max_time="0.25"), "trainer.max_time=0.25: must be a wall-clock time"),
        (lambda: TrainerConfig(limit_train="0"), "trainer.limit_train=0: must be a number of batches"),
        (lambda: TrainerConfig(limit_val="101%"), "trainer.limit_val=101%: must be a number of batches"),
        (lambda: TrainerConfig(patience=3, eval_every=None), "trainer.patience needs validation"),
        (lambda: Classification(class_weights="balance"), "task.class_weights=balance: must be null, balanced"),
        (lambda: Classification(class_weights=[1.0, -1.0]), "task.class_weights=[1.0, -1.0]: must be null, balanced"),
        (lambda: Classification(class_weights=[0.0, 0.0]), "task.class_weights=[0.0, 0.0]: must be null, balanced"),
    ],
)
def test_the_message_names_the_full_key_the_value_and_what_is_allowed(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (lambda: Adam(lr="fast"), "optimizer.lr", "float"),
        (lambda: Adam(lr="0.1"), "optimizer.lr", "float"),
        (lambda: Adam(lr=True), "optimizer.lr", "float"),
        (lambda: Adam(lr=None), "optimizer.lr", "float"),
        (lambda: Adam(betas=0.9), "optimizer.betas", "list of float"),
        (lambda: Adam(amsgrad=1), "optimizer.amsgrad", "bool"),
        (lambda: TrainerConfig(epochs=2.5), "trainer.epochs", "int"),
        (lambda: TrainerConfig(epochs=True), "trainer.epochs", "int"),
        (lambda: TrainerConfig(steps="10"), "trainer.steps", "int"),
        (lambda: Mlp(hidden=64), "model.hidden", "list of int"),
        (lambda: Mlp(hidden=[64, "x"]), "model.hidden", "int"),
        (lambda: Csv(numeric="age"), "data.numeric", "list of str"),
        (lambda: Csv(weight=["a"]), "data.weight", "str"),
        (lambda: Digits(mean=0.5), "data.mean", "list of float"),
        (lambda: Config(seed="0"), "seed", "int"),
        (lambda: Config(output_dir=None), "output_dir", "str"),
        (lambda: Config(model="mlp"), "model", "Model"),
        (lambda: Config(model=Adam()), "model", "Model"),
    ],
)
def test_python_is_held_to_the_declared_types(make: Any, name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(f"{name}=")
    assert expected in str(error.value)


def test_whole_numbers_pass_as_floats_and_bare_numbers_as_durations() -> None:
    assert isinstance(AdamW(lr=1).lr, float)
    assert StepLR(step_size=30).step_size == "30"
    assert Adam(betas=(0, 0.5)).betas == [0.0, 0.5]
    assert Digits(mean=None).mean is None


def test_lists_are_not_shared_between_configs() -> None:
    first, second = Mlp(), Mlp()
    first.hidden.append(3)
    assert second.hidden == Mlp.keys()["hidden"][1] == [128, 64]


def test_a_subclass_gives_a_key_another_default_and_keeps_the_rest_of_it() -> None:
    @dataclasses.dataclass
    class Base(Section):
        rate: float = key(0.5, "a share", at_least=0, below=1, on_resume=FIXED)
        names: list[str] = key(["a"], "some names", on_resume=FUTURE)

    @dataclasses.dataclass
    class Other(Base):
        rate: float = other_default(Base, "rate", 0.1, "another share")
        names: list[str] = other_default(Base, "names", ["b"])

    assert list(Other.keys()) == ["rate", "names"], "in their old places"
    assert Other.keys()["rate"] == ("float", 0.1, Key("another share", at_least=0, below=1, on_resume=FIXED))
    assert Other.keys()["names"] == ("list of str", ["b"], Base.keys()["names"][2])
    assert Other().names is not Other().names
    assert Base.keys()["rate"] == ("float", 0.5, Key("a share", at_least=0, below=1, on_resume=FIXED))
    with pytest.raises(ConfigError, match=r"rate=1\.5: must be >= 0, < 1"):
        Other(rate=1.5)
    with pytest.raises(KeyError):
        other_default(Base, "rat", 0.1)


def test_the_keys_of_a_section_are_told_in_words() -> None:
    words = {name: words for name, (words, _, _) in itertools.chain(Mlp.keys().items(), Digits.keys().items())}
    assert words["hidden"] == "list of int"
    assert words["mean"] == "list of float or null"
    assert words["augment"] == "bool"


def test_a_key_name_has_its_group() -> None:
    assert Cnn.key_name("dropout") == "model.dropout"
    assert Config.key_name("seed") == "seed"


def test_the_range_is_told_in_words() -> None:
    assert Key("x", above=0, at_most=1).allowed() == "> 0, <= 1"
    assert Key("x", choices=("a", "b")).allowed() == "a | b"
    assert Key("x").allowed() == ""
    assert key(1, "a doc", at_least=1).metadata["key"] == Key("a doc", at_least=1)
