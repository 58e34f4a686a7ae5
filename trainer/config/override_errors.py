"""What is wrong with an override or a YAML file, in words: the key, the value, the nearest name, and the way out."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from trainer.config import registry
from trainer.config.quoting import shell_override
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.config.yaml_files import CHOICES, SUFFIXES, options
from trainer.errors import ConfigError, did_you_mean

# Settings of Hydra -> what does that here; and names of keys in other programs -> ours.
_ELSEWHERE = {
    "max_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "accumulate_grad_batches": "micro_batch",
    "gradient_accumulation_steps": "micro_batch",
    "gradient_clip_val": "clip_norm",
    "max_grad_norm": "clip_norm",
    "check_val_every_n_epoch": "eval_every",
    "val_check_interval": "eval_every",
    "eval_steps": "eval_every",
    "save_steps": "save_every",
    "logging_steps": "log_every",
    "limit_train_batches": "limit_train",
    "limit_val_batches": "limit_val",
    "learning_rate": "lr",
    "num_workers": "workers",
}


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def not_an_override(text: str, error: Exception | None = None) -> ConfigError:
    """Return the error for what Hydra's grammar does not take, or takes for something without a key."""
    if error is None:
        return ConfigError(f"'{text}' is not an override; write key=value or group=option.")
    key, equals, value = text.partition("=")
    if text.endswith(SUFFIXES) and not equals:
        return ConfigError(
            f"'{text}' is not an override; a file of keys is DIR/experiment/NAME.yaml, chosen by --config-dir DIR "
            "experiment=NAME, and the config of a run is --config RUN/config.yaml."
        )
    if not equals and text.split() == [text]:
        typed = f"{text}=VALUE" if text[0].isalpha() else f"optimizer.lr={text}"
        return ConfigError(f"'{text}' is not an override; write key=value without blanks, such as {typed}.")
    if found := re.fullmatch(r"([\w.]+)\[\d+\]", key):
        return ConfigError(f"{text}: no part of a list can be set; write the whole list: {found[1]}=[…].")
    quoted = shell_override(key, value) if value else shell_override("key", "a,b")
    return ConfigError(
        f"'{text}' is not an override; write key=value or group=option, such as optimizer.lr=1e-3 or model=mlp, and "
        f"quote what the grammar uses, as in {quoted} ({str(error).splitlines()[0]})."
    )


# What people set of Hydra's own, and the key of ours that does it.
HYDRA = {
    "hydra/launcher": "sweep.engine and sweep.jobs say where trials run",
    "hydra.launcher": "sweep.engine and sweep.jobs say where trials run",
    "hydra/sweeper": "sweep=grid|zip|random|optuna chooses the trials",
    "hydra.sweeper": "sweep.trials, sweep.sampler and the like: trainer list sweep",
    "hydra.sweep": "the folder of a sweep is sweep.dir",
    "hydra.run": "the folder of the runs is output_dir",
    "hydra.searchpath": "--config-dir DIR adds a folder of YAML files",
    "hydra.verbose": "train.log in the run directory has everything",
    "hydra.job.chdir": "a run stays in the folder it was started in",
}


def hydra_setting(text: str) -> ConfigError:
    """Return the error for an override of Hydra's own settings: ours is the key that does it."""
    name = text.lstrip("+~").partition("=")[0]
    ours = next((ours for theirs, ours in HYDRA.items() if re.match(rf"{re.escape(theirs)}(\W|$)", name)), None)
    way_out = ours or "all groups and keys: train --help"
    return ConfigError(f"{text}: no such key: Hydra's own settings are not used; {way_out}.")


def unknown_key(sections: Mapping[str, type[Section]], name: str) -> ConfigError:
    """Return the error for a key that does not exist: near keys, and the option of the group that has it.

    Args:
        sections: the dataclass that is chosen for each group.
        name: the full name, such as `optimizer.lrr`.
    """
    section, _, key = name.partition(".")
    word = key.partition(".")[0]
    if section in sections and word:
        owner = sections[section]
        known = list(owner.keys())
        others = [n for n in registry.names(section) if word in registry.lookup(section, n).keys()]
        hint = did_you_mean(f"{section}.{word}", [f"{section}.{key}" for key in known])
        if word in _ELSEWHERE and _ELSEWHERE[word] in known:
            hint = f" Did you mean '{section}.{_ELSEWHERE[word]}'?"
        if others:
            hint = f" It is a key of {' and '.join(f'{section}={n}' for n in others[:4])}."
        has = f"Its keys: {', '.join(known)}." if known else "It has no keys."
        return ConfigError(f"{name}: {section}={owner.option} has no such key.{hint} {has}")
    known = [*CHOICES, *Config.keys(), *(f"{s}.{key}" for s, owner in sections.items() for key in owner.keys())]
    # A key typed without its section ("lr=1e-3") is the commonest slip.
    owners = [s for s, owner in sections.items() if section in owner.keys()]
    hint = f" Did you mean '{owners[0]}.{section}'?" if owners else did_you_mean(name, known)
    return ConfigError(
        f"{name}: no such key or group.{hint} Groups: {', '.join(CHOICES)}; keys: {', '.join(Config.keys())}."
    )


def wrong_type(owner: type[Section], key: str, name: str, value: Any, error: Exception) -> ConfigError:
    """Return the error for a value that is not of the type of its key."""
    known = owner.keys()
    if key not in known:
        return ConfigError(f"{name}={value}: {first_line(error)}.")
    expected, way = known[key][0], ""
    if str(value).lower() == "none" and "null" in expected:
        way = f"; write {name}=null"
    elif isinstance(value, float) and value.is_integer() and expected.startswith("int"):
        way = f"; write {name}={int(value)}"
    return ConfigError(f"{name}={value}: expected {expected}{way}.")


def not_an_option(group: str, value: Any) -> ConfigError:
    """Return the error for a whole section that is set to one value."""
    return ConfigError(f"{group}={value}: expected one of {', '.join(options(group))}.")


def unresolvable(error: OmegaConfBaseException) -> ConfigError:
    """Return the error for a `${...}` that cannot be resolved, or for a value that is none once it is."""
    if "HydraConfig was not set" in str(error):
        return ConfigError(
            f"{error.full_key}: a run has no ${{hydra:...}}; write the value, or ${{oc.env:NAME}}, ${{now:FORMAT}} or "
            "another key as ${optimizer.lr}."
        )
    return ConfigError(f"{error.full_key}: {first_line(error)}.")


def no_schema(group: str) -> ConfigError:
    """Return the error for a file that is chosen for a group and extends none of its options."""
    schemas = ", ".join(f"_{name}" for name in registry.names(group))
    return ConfigError(
        f"The file chosen for {group} does not say what it is a variant of; begin it with "
        f"'defaults: [SCHEMA, _self_]', where SCHEMA is one of {schemas}."
    )


def yaml_error(error: Exception) -> ConfigError:
    """Return what a YAML file did wrong: the file where Hydra names it, the key, and the near ones."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    where = re.search(r"In '([^']+)'", str(error))
    source = f"{where[1]}.yaml: " if where else ""
    if cause is None or not cause.full_key:
        return ConfigError(f"{source}{' '.join(str(error).split())}")
    owner, known = cause.object_type, []
    if isinstance(owner, type) and dataclasses.is_dataclass(owner):
        known = [field.name for field in dataclasses.fields(owner)]
    word = str(cause.full_key).rpartition(".")[2]
    group = str(where[1]).partition("/")[0] if where else ""
    plain = isinstance(owner, type) and issubclass(owner, Section) and not owner.option
    if group in registry.GROUPS and plain and word not in known:
        return no_schema(group)  # it sets keys of an option that it does not name
    if word == "experiment" and owner is Config:
        return ConfigError(f"{source}an experiment begins with the line '# @package _global_'.")
    if known and word not in known:
        return ConfigError(
            f"{source}{cause.full_key}: no such key.{did_you_mean(word, known)} Keys: {', '.join(known)}."
        )
    return ConfigError(f"{source}{cause.full_key}: {first_line(cause)}.")
