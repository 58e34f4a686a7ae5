"""From YAML files and overrides to a checked config: what is refused, in which words, and what is kept."""

import copy
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from trainer.config import compose, registry
from trainer.config.model import Mlp
from trainer.config.root import Config
from trainer.config.safe_yaml import read as read_yaml
from trainer.config.yaml_files import CHOICES
from trainer.errors import ConfigError

GLOBAL = "# @package _global_\n"
DEFAULT = compose.compose([])


def _assigned(*overrides: str, cfg: DictConfig = DEFAULT) -> Config:
    """The overrides of keys on a composed config: quicker than to compose it anew."""
    return compose.to_config(compose.assign(copy.deepcopy(cfg), compose.parse(overrides)))


def _composed(*overrides: str, config_dirs: tuple[Path, ...] = ()) -> Config:
    return compose.to_config(compose.compose(overrides, config_dirs))


def _error(*overrides: str, config_dirs: tuple[Path, ...] = ()) -> str:
    with pytest.raises(ConfigError) as error:
        _composed(*overrides, config_dirs=config_dirs)
    return str(error.value)


def _key_error(*overrides: str, cfg: DictConfig = DEFAULT) -> str:
    with pytest.raises(ConfigError) as error:
        _assigned(*overrides, cfg=cfg)
    return str(error.value)


def _write(folder: Path, name: str, text: str) -> tuple[Path, ...]:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return (folder,)


# What is typed on the command line


def test_options_and_keys_are_set() -> None:
    config = _composed("model=mlp", "model.hidden=[8,4]", "optimizer.lr=1e-2", "seed=7", "trainer.steps=5")
    assert isinstance(config.model, Mlp)
    assert config.model.hidden == [8, 4]
    assert (config.optimizer.lr, config.seed, config.trainer.steps) == (0.01, 7, 5)


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(
    ("override", "full", "hint"),
    [
        ("modle=cnn", "modle", "Did you mean 'model'?"),
        ("optimizer.lrr=1", "optimizer.lrr", "Did you mean 'optimizer.lr'?"),
        ("optimizr.lr=1", "optimizr.lr", "Did you mean 'optimizer.lr'?"),
        ("trainer.epoch=3", "trainer.epoch", "Did you mean 'trainer.epochs'?"),
        ("sed=3", "sed", "Did you mean 'seed'?"),
        ("lr=1", "lr", "Did you mean 'optimizer.lr'?"),
        ("epochs=3", "epochs", "Did you mean 'trainer.epochs'?"),
        ("batch_size=3", "batch_size", "Did you mean 'data.batch_size'?"),
        ("optimizer.lr.x=1", "optimizer.lr.x", "optimizer.lr holds no further keys"),
        ("seed.x=1", "seed.x", "seed holds no further keys"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_word_whatever_pluses_it_has(
    plus: str, override: str, full: str, hint: str
) -> None:
    message = _key_error(plus + override)
    assert message.startswith(f"{full}:")
    assert hint in message


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_typo_in_an_option_is_refused_with_the_nearest_whatever_pluses_it_has(plus: str) -> None:
    assert _error(f"{plus}model=cn").startswith("model=cn: no such option. Did you mean 'cnn'?")
    assert _error(f"{plus}optimizer=adamww").startswith("optimizer=adamww: no such option. Did you mean 'adamw'?")


@pytest.mark.parametrize("override", ["modle=cnn", "++optimizer.lrr=1", "+lr=1", "~seed"])
def test_a_whole_composition_refuses_what_an_assignment_refuses(override: str) -> None:
    assert _error(override) == _key_error(override)


def test_an_unknown_option_lists_the_options() -> None:
    message = _error("model=transformer")
    assert message.startswith("model=transformer: no such option.")
    assert "Options of model: attention, auto, cnn, linear, mlp, realmlp, tabm, tabular, timm, torchvision" in message


def test_an_unknown_key_lists_the_keys() -> None:
    message = _error("optimizer=sgd", "optimizer.zzz=1")
    assert "optimizer=sgd has no such key" in message
    assert (
        "Its keys: decay_norm_bias, lr, momentum, dampening, weight_decay, nesterov, lr_mult, layer_decay." in message
    )


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        (
            "optimizer.nesterov=true",
            "optimizer=adamw has no such key. It is a key of optimizer=muon and optimizer=sgd.",
        ),
        (
            "model.hidden=[8]",
            "model=cnn has no such key. It is a key of model=mlp and model=realmlp and model=tabm and model=tabular.",
        ),
        ("data.path=a.csv", "data=digits has no such key. It is a key of data=csv and data=tensors."),
        (
            "scheduler.gamma=0.5",
            "It is a key of scheduler=cyclic and scheduler=exponential and scheduler=multistep and scheduler=step.",
        ),
        ("task.class_weights=balanced", "task=auto has no such key. It is a key of task=classification."),
    ],
)
def test_a_key_of_another_option_says_which_option_has_it(override: str, hint: str) -> None:
    assert hint in _key_error(override)


def test_the_order_of_an_option_and_its_keys_does_not_matter() -> None:
    assert _composed("optimizer.momentum=0.9", "optimizer=sgd") == _composed("optimizer=sgd", "optimizer.momentum=0.9")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=fast", "float"),
        ("optimizer.lr=null", "float"),
        ("optimizer.lr=[1]", "float"),
        ("optimizer.lr=", "float"),
        ("optimizer.betas=0.9", "list of float"),
        ("optimizer.betas=[a,b]", "list of float"),
        ("optimizer.amsgrad=maybe", "bool"),
        ("trainer.epochs=2.5", "int or null"),
        ("trainer.epochs=true", "int or null"),
        ("trainer.epochs=1e3", "int or null; write trainer.epochs=1000"),
        ("seed=null", "int"),
        ("seed=[1]", "int"),
        ("output_dir=[a]", "str"),
        ("resume=[]", "str or null"),
        ("data.mean=0.5", "list of float or null"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_type(override: str, expected: str) -> None:
    name = override.partition("=")[0]
    message = _key_error(override)
    assert message.startswith(f"{name}=")
    assert message.endswith(f": expected {expected}.")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed=-1: must be >= 0."),
        ("optimizer.lr=nan", "optimizer.lr=nan: must be a finite number."),
        ("optimizer.lr=1e400", "optimizer.lr=inf: must be a finite number."),
        ("optimizer.betas=[0.9,1]", "optimizer.betas[1]=1.0: must be >= 0, < 1."),
        ("data.batch_size=0", "data.batch_size=0: must be >= 1."),
        ("trainer.log_every=often", "trainer.log_every=often: not a duration"),
        ("optimizer.lr=???", "optimizer.lr: "),
        ("seed=${nothing}", "seed: Interpolation key 'nothing' not found"),
        ("seed=${seed}", "seed: "),
        ("optimizer.lr=${oc.env:TRAINER_NO_SUCH_VARIABLE}", "optimizer.lr: "),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_its_key(override: str, message: str) -> None:
    assert _key_error(override).startswith(message)


@pytest.mark.parametrize("name", ["optimizer.lr", "model", "experiment", "seed", "nothing"])
def test_nothing_can_be_deleted(name: str) -> None:
    assert _key_error(f"~{name}").startswith(f"~{name}: keys cannot be removed")


def test_several_keys_can_be_given_as_a_dictionary() -> None:
    config = _assigned("optimizer={lr:0.5,betas:[0.5,0.6]}", "trainer={epochs:3}")
    assert (config.optimizer.lr, config.optimizer.betas, config.optimizer.weight_decay) == (0.5, [0.5, 0.6], 0.01)
    assert config.trainer.epochs == 3
    assert _assigned("optimizer={}") == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer={lrr:1}", "optimizer.lrr: optimizer=adamw has no such key. Did you mean 'optimizer.lr'?"),
        ("optimizer={lr:fast}", "optimizer.lr=fast: expected float."),
        ("optimizer={lr:{x:1}}", "optimizer.lr={'x': 1}: expected one value, not several keys."),
        ("seed={a:1}", "seed={'a': 1}: expected one value, not several keys."),
        ("optimizer.betas={a:1}", "optimizer.betas={'a': 1}: expected one value, not several keys."),
        ("nothing={a:1}", "nothing: no such key or group."),
    ],
)
def test_a_dictionary_is_checked_key_by_key(override: str, message: str) -> None:
    assert _key_error(override).startswith(message)


def test_entries_are_added_to_a_key_that_is_a_mapping_whatever_its_names_hold() -> None:
    cfg = compose.compose(["data=csv", "data.transforms.age=[impute]", "data.transforms={b.c:[none]}"])
    compose.assign(cfg, compose.parse(["data.transforms.d.e=[{name:clip,low:0.1}]", "data.transforms.age=[robust]"]))
    expected = {"age": ["robust"], "b.c": ["none"], "d.e": [{"name": "clip", "low": 0.1}]}
    assert compose.flat(cfg)["data.transforms"] == expected
    for override in ("data.transforms=5", "data.transforms=null"):
        assert _key_error(override, cfg=cfg).endswith("expected mapping.")


@pytest.mark.parametrize("text", ["model", "optimizer..lr=1", ".lr=1", "optimizer.lr", "--lr=1", "a b", "x={", "x=[1"])
def test_what_is_no_override_is_refused_as_typed(text: str) -> None:
    assert _error(text).startswith(f"'{text}' is not an override; write key=value")


@pytest.mark.parametrize("option", ["null", "[cnn]", "3", "_cnn", "cnn,mlp", "'../model/cnn'", "${seed}"])
def test_what_is_no_single_known_option_is_refused(option: str) -> None:
    assert _error(f"model={option}").startswith("model=")


@pytest.mark.parametrize("override", ["model@foo=cnn", "optimizer@model=adam", "optimizer@trainer=adamw"])
def test_an_option_cannot_be_put_elsewhere(override: str) -> None:
    assert override.partition("=")[0] in _error(override)


@pytest.mark.parametrize("override", ["hydra.run.dir=x", "hydra.searchpath=[file:///tmp]", "hydra=x", "options=3"])
def test_the_settings_of_hydra_are_no_keys(override: str) -> None:
    assert _key_error(override).startswith(override.partition("=")[0])


words = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12)
KNOWN = {*CHOICES, *Config.keys()}


@settings(max_examples=50, deadline=None)
@given(plus=st.sampled_from(["", "+", "++"]), word=words.filter(lambda word: word not in KNOWN), value=st.integers())
def test_no_random_word_passes_as_a_key(plus: str, word: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"^{word}: no such key or group"):
        _assigned(f"{plus}{word}={value}")


@settings(max_examples=50, deadline=None)
@given(section=st.sampled_from(registry.GROUPS), plus=st.sampled_from(["", "+", "++"]), word=words)
def test_no_random_word_passes_as_a_key_of_a_section(section: str, plus: str, word: str) -> None:
    known = compose.section_type(DEFAULT, section).keys()
    if word not in known:
        with pytest.raises(ConfigError, match=rf"^{section}\.{word}: "):
            _assigned(f"{plus}{section}.{word}=1")


@settings(max_examples=50, deadline=None)
@given(group=st.sampled_from(registry.GROUPS), word=words)
def test_no_random_word_passes_as_an_option(group: str, word: str) -> None:
    if word not in registry.names(group):
        with pytest.raises(ConfigError, match=rf"^{group}="):
            compose.compose([f"{group}={word}"])


# YAML files of the user


def test_an_experiment_sets_options_and_keys(tmp_path: Path) -> None:
    text = GLOBAL + "defaults:\n  - override /model: mlp\nmodel:\n  hidden: [3]\nseed: 4\n"
    config = _composed("experiment=mine", config_dirs=_write(tmp_path, "experiment/mine", text))
    assert config.model == Mlp(hidden=[3])
    assert config.seed == 4


def test_the_command_line_is_stronger_than_an_experiment(tmp_path: Path) -> None:
    text = GLOBAL + "defaults:\n  - override /model: mlp\noptimizer:\n  lr: 0.5\nseed: 4\n"
    config_dirs = _write(tmp_path, "experiment/mine", text)
    config = _composed("seed=5", "experiment=mine", "optimizer.lr=0.25", "model=linear", config_dirs=config_dirs)
    assert (config.seed, config.optimizer.lr, config.model.option) == (5, 0.25, "linear")


def test_an_unknown_key_in_an_experiment_names_the_file_the_key_and_the_nearest(tmp_path: Path) -> None:
    config_dirs = _write(tmp_path, "experiment/mine", GLOBAL + "optimizer:\n  lrr: 0.1\n")
    message = _error("experiment=mine", config_dirs=config_dirs)
    assert "experiment/mine" in message
    assert "optimizer.lrr" in message
    assert "Did you mean 'lr'?" in message


def test_an_unknown_key_of_the_root_in_an_experiment_is_refused(tmp_path: Path) -> None:
    message = _error("experiment=mine", config_dirs=_write(tmp_path, "experiment/mine", GLOBAL + "sed: 3\n"))
    assert "experiment/mine" in message
    assert "Did you mean 'seed'?" in message


def test_a_key_of_another_option_in_an_experiment_is_refused(tmp_path: Path) -> None:
    text = GLOBAL + "defaults:\n  - override /optimizer: adam\noptimizer:\n  momentum: 0.9\n"
    message = _error("experiment=mine", config_dirs=_write(tmp_path, "experiment/mine", text))
    assert "experiment/mine" in message
    assert "optimizer.momentum" in message


@pytest.mark.parametrize(("group", "option"), [("model", "transformer"), ("modle", "cnn")])
def test_an_unknown_option_or_group_in_an_experiment_is_refused(tmp_path: Path, group: str, option: str) -> None:
    text = f"{GLOBAL}defaults:\n  - override /{group}: {option}\n"
    message = _error("experiment=mine", config_dirs=_write(tmp_path, "experiment/mine", text))
    assert ("transformer" if group == "model" else "modle") in message


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("optimizer:\n  lr: fast\n", "optimizer.lr"),
        ("optimizer:\n  lr: .nan\n", "optimizer.lr"),
        ("optimizer:\n  lr: -1\n", "optimizer.lr"),
        ("seed: ${nothing}\n", "seed"),
        ("model: 1\n", "experiment/mine"),
        ("model: null\n", "model"),
        ("- a\n- list\n", "experiment/mine"),
        ("only words\n", "experiment/mine"),
    ],
)
def test_a_wrong_value_in_an_experiment_names_where_it_is(tmp_path: Path, text: str, name: str) -> None:
    assert name in _error("experiment=mine", config_dirs=_write(tmp_path, "experiment/mine", GLOBAL + text))


@pytest.mark.parametrize("text", ["optimizer: {lr: [\n", "optimizer:\n\tlr: 3\n", "seed: 1\nseed: 2\n"])
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, text: str) -> None:
    assert "mine.yaml" in _error("experiment=mine", config_dirs=_write(tmp_path, "experiment/mine", GLOBAL + text))


def test_an_unknown_experiment_suggests_the_nearest(tmp_path: Path) -> None:
    config_dirs = _write(tmp_path, "experiment/baseline", GLOBAL + "seed: 3\n")
    assert "Did you mean 'baseline'?" in _error("experiment=baselin", config_dirs=config_dirs)


def test_a_variant_of_an_option_is_selected_by_its_file(tmp_path: Path) -> None:
    config_dirs = _write(tmp_path, "model/tiny", "defaults: [_mlp, _self_]\nhidden: [3]\n")
    assert _composed("model=tiny", config_dirs=config_dirs).model == Mlp(hidden=[3])


@pytest.mark.parametrize("text", ["hidden: [3]\n", "", "defaults: [_self_]\n"])
def test_a_variant_that_does_not_say_of_what_is_refused(tmp_path: Path, text: str) -> None:
    assert "model" in _error("model=tiny", config_dirs=_write(tmp_path, "model/tiny", text))


def test_a_typo_in_a_variant_is_refused_with_the_nearest_key(tmp_path: Path) -> None:
    text = "defaults: [_mlp, _self_]\nhiden: [3]\n"
    message = _error("model=tiny", config_dirs=_write(tmp_path, "model/tiny", text))
    assert "model.hiden" in message
    assert "Did you mean 'hidden'?" in message


def test_a_config_cannot_name_code(tmp_path: Path) -> None:
    text = "defaults: [_mlp, _self_]\n_target_: os.system\n"
    assert "_target_" in _error("model=evil", config_dirs=_write(tmp_path, "model/evil", text))


# The config that is saved beside a run


@pytest.mark.parametrize("group", registry.GROUPS)
def test_every_option_survives_saving_and_reading(group: str) -> None:
    for component in (registry.lookup(group, name) for name in registry.names(group)):
        if component.__module__.startswith("trainer."):
            config = Config(**{group: component(), "seed": 3})
            text = compose.to_yaml(compose.from_config(config))
            read = compose.from_yaml(text, "config.yaml")
            assert compose.to_config(read) == config
            assert type(getattr(compose.to_config(read), group)) is component
            assert compose.to_yaml(read) == text


@pytest.mark.parametrize(
    ("saved", "read"), [("0.25", "1"), ("2.6", "3"), ("1.0", "1"), ("500.0", "500.0"), ("0.25ep", "0.25ep"), ("0", "0")]
)
def test_a_bare_fraction_that_an_earlier_version_saved_is_the_steps_that_it_was_then(saved: str, read: str) -> None:
    text = compose.to_yaml(compose.compose(["scheduler=multistep", "trainer.max_time=2.5min"]))
    text = text.replace("eval_every: auto", f"eval_every: '{saved}'").replace("- 75%", f"- '{saved}'")
    config = compose.to_config(compose.from_yaml(text, "config.yaml"))
    assert (config.trainer.eval_every, config.scheduler.milestones) == (read, ["50%", read])  # type: ignore[attr-defined]


def test_a_composed_config_survives_saving_and_reading() -> None:
    cfg = compose.compose(["model=mlp", "model.hidden=[]", "optimizer=sgd", "optimizer.lr=1e-7", "data.mean=[0.25]"])
    assert compose.to_config(compose.from_yaml(compose.to_yaml(cfg), "config.yaml")) == compose.to_config(cfg)


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\t\n:#'\"-"), max_size=20))
@example("null")
@example("1e3")
@example("0x10")
@example("yes")
@example("~")
@example("2020-01-01")
@example("1_000")
@example(" a: b # c\n")
def test_any_text_survives_saving_and_reading(text: str) -> None:
    if "${" not in text and text != "???":
        config = Config(output_dir=text)
        saved = compose.to_yaml(compose.from_config(config))
        assert compose.to_config(compose.from_yaml(saved, "config.yaml")) == config


@settings(max_examples=25, deadline=None)
@given(st.floats(min_value=1e-300, max_value=1e300))
def test_any_number_survives_saving_and_reading_bit_for_bit(lr: float) -> None:
    cfg = compose.assign(copy.deepcopy(DEFAULT), compose.parse([f"optimizer.lr={lr!r}"]))
    assert compose.to_config(compose.from_yaml(compose.to_yaml(cfg), "config.yaml")).optimizer.lr == lr


def test_a_secret_is_saved_as_its_name_and_resolved_when_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_TEST_SECRET", "s3cr3t")
    cfg = compose.compose(["output_dir=${oc.env:TRAINER_TEST_SECRET}"])
    text = compose.to_yaml(cfg)
    assert compose.to_config(cfg).output_dir == "s3cr3t"
    assert "s3cr3t" not in text
    assert "${oc.env:TRAINER_TEST_SECRET}" in text
    assert compose.flat(cfg)["output_dir"] == "${oc.env:TRAINER_TEST_SECRET}"
    assert compose.to_config(compose.from_yaml(text, "config.yaml")).output_dir == "s3cr3t"


GOOD = compose.to_yaml(DEFAULT)
JUNK = {
    "empty": "",
    "null": "null",
    "a number": "3",
    "words": "only words",
    "a list": "[1, 2]",
    "another dictionary": "a: 1",
    "no options": GOOD[GOOD.index("\nmodel:") :],
    "options a number": "options: 3",
    "options null": "options: null",
    "options a list": "options: [a]",
    "options empty": "options: {}",
    "an option null": GOOD.replace("  model: cnn", "  model: null"),
    "an option missing": GOOD.replace("  model: cnn\n", ""),
    "a section missing": GOOD.replace("optimizer:\n  decay", "optimisers:\n  decay"),
    "a section null": GOOD.replace("\nmodel:", "\nmodel: null\nother:"),
    "an open bracket": "{",
    "a tab": "\t",
    "a zero byte": "\x00",
    "an open interpolation": "options: ${b",
    "half a file": GOOD[: len(GOOD) // 2],
    "an extra key": GOOD + "extra: 1\n",
    "an extra key of a section": GOOD.replace("  lr: 0.001", "  lr: 0.001\n  lrr: 3"),
    "another option's keys": GOOD.replace("  model: cnn", "  model: mlp"),
    "a wrong type": GOOD.replace("seed: 0", "seed: abc"),
}


@pytest.mark.parametrize("text", JUNK.values(), ids=JUNK.keys())
def test_what_is_no_config_of_a_run_is_refused_with_its_source(text: str) -> None:
    assert text != GOOD
    with pytest.raises(ConfigError, match=r"^runs/x/config\.yaml: "):
        compose.from_yaml(text, "runs/x/config.yaml")


@pytest.mark.parametrize("text", [GOOD.replace("  model: cnn", "  model: cnnn"), "options: {model: [cnn]}"])
def test_a_config_of_an_option_that_does_not_exist_names_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"model=.*: no such option"):
        compose.from_yaml(text, "runs/x/config.yaml")


def test_a_value_out_of_range_in_a_saved_config_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"seed=-4: must be >= 0"):
        compose.to_config(compose.from_yaml(GOOD.replace("seed: 0", "seed: -4"), "config.yaml"))


# Overrides of a saved config


def test_a_chosen_option_replaces_the_section_of_a_saved_config_and_a_key_changes_one_value() -> None:
    saved = compose.compose(["model=mlp", "optimizer.lr=0.5", "trainer.epochs=3"])
    config = compose.to_config(compose.choose(copy.deepcopy(saved), ["scheduler=step", "trainer.epochs=9"]))
    assert config.scheduler == registry.lookup("scheduler", "step")()
    assert (config.trainer.epochs, config.optimizer.lr, config.model.option) == (9, 0.5, "mlp")


def test_yaml_files_are_composed_for_a_saved_config_only_where_an_option_was_chosen(tmp_path: Path) -> None:
    config_dirs = _write(tmp_path, "model/broken", "hidden: [\n")
    assert compose.choose(copy.deepcopy(DEFAULT), [], config_dirs) == DEFAULT
    assert compose.choose(copy.deepcopy(DEFAULT), ["trainer.epochs=9"], config_dirs).trainer.epochs == 9
    assert compose.choose(copy.deepcopy(DEFAULT), ["model=mlp"], config_dirs).model.hidden == [128, 64]
    with pytest.raises(ConfigError, match="broken"):
        compose.choose(copy.deepcopy(DEFAULT), ["model=broken"], config_dirs)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment=digits", "experiment"),
        ("scheduler=stepp", "Did you mean 'step'?"),
        ("trainer.epoch=3", "Did you mean 'trainer.epochs'?"),
        ("~seed", "keys cannot be removed"),
    ],
)
def test_a_saved_config_takes_no_experiment_and_no_typo(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.choose(copy.deepcopy(DEFAULT), [override])
    assert message in str(error.value)


def test_flat_has_every_key_with_its_full_name_and_the_options() -> None:
    flat = compose.flat(DEFAULT)
    expected = {f"{group}.{key}" for group in registry.GROUPS for key in compose.section_type(DEFAULT, group).keys()}
    assert flat.keys() == expected | set(registry.GROUPS) | set(Config.keys())
    assert (flat["model"], flat["optimizer.lr"], flat["seed"]) == ("cnn", 0.001, 0)


def test_ten_lines_that_stand_for_a_billion_values_are_refused_before_they_are_read(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"config\.yaml: more than .* values"):
        read_yaml(path)
