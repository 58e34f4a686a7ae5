"""Checkpoints with values that they should not have; configs, manifests and logs made to run code or never to end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from faults.hostile_files import STEP, Trial, with_field, with_payload, with_text


def values(fields: list[str], every: int) -> Iterator[Trial]:
    """The fields of the payload with values that they should not have; `every` n-th pair of the two."""
    odd: list[Any] = [None, "[red]text[/]", -1, 10**12, float("nan"), [], {}, ["x"], {"x": "y"}, torch.ones(3), True]
    for field, value in [(field, value) for field in fields for value in odd][::every]:
        yield Trial(f"{field} = {value!r}", with_field(field, value))
    for name, value in [
        ("data_spec.outputs", 10**9),
        ("data_spec.input_shape", [10**6, 10**6]),
        ("data_spec.labels", ["x"] * 3),
        ("data_spec.x", 1),
        ("monitor.best", "high"),
        ("scheduler_state_dict.factor", "x"),
        ("optimizer_state_dict.param_groups", []),
    ]:
        yield Trial(f"{name} = {value!r:.30}", with_field(name, value))
    for shape in ((0,), (1,), (1, 1), (10**6,)):
        yield Trial(f"moments of shape {shape}", with_payload(lambda p, s=shape: moments(p, torch.zeros(s))))
    yield Trial("moments that are text", with_payload(lambda p: moments(p, "x")))
    yield Trial("weights of another network", with_field("model_state_dict", {"x": torch.ones(3)}))
    yield Trial("weights that are no numbers", with_payload(lambda p: fill(p, float("nan"))))
    yield Trial("a path as the name of a step", lambda run: (run / "checkpoints/last").unlink() or points(run, "../.."))
    yield Trial("last that points to itself", lambda run: (run / "checkpoints/last").unlink() or points(run, "last"))


def points(run: Path, target: str) -> None:
    (run / "checkpoints/last").symlink_to(target)


def moments(saved: dict[str, Any], value: Any) -> None:
    for memory_of in saved["optimizer_state_dict"]["state"].values():
        memory_of["exp_avg"] = value


def fill(saved: dict[str, Any], value: float) -> None:
    for weight in saved["model_state_dict"].values():
        weight.fill_(value)


def texts(canary: Path) -> Iterator[Trial]:
    """Configs, manifests and logs."""
    script = f"!!python/object/apply:os.mkdir ['{canary}']"
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
    )
    for name, change in {
        "an alias bomb": lambda old: laughs,
        "an alias bomb below the keys": lambda old: old + laughs,
        "an object": lambda old: f"options: {script}\n",
        "an object below a key": lambda old: old + f"x: {script}\n",
        "a target": lambda old: old.replace("model:\n", f"model:\n  _target_: os.mkdir\n  path: {canary}\n"),
        "a target with arguments": lambda old: old + f"_target_: os.mkdir\n_args_: [{canary}]\n",
        "an environment resolver": lambda old: old.replace("seed: 0", "seed: ${oc.env:HOME}"),
        "a resolver that does not exist": lambda old: old.replace("seed: 0", f"seed: ${{os.mkdir:{canary}}}"),
        "a resolver that decodes": lambda old: old.replace("seed: 0", "seed: ${oc.decode:'${seed}'}"),
        "a loop of references": lambda old: old.replace("seed: 0", "seed: ${seed}"),
        "a deep list": lambda old: "x: " + "[" * 100_000 + "]" * 100_000,
        "100 MB": lambda old: old + "# " + "x" * 100_000_000,
        "a key twice": lambda old: old + "seed: 1\n",
        "tabs and zeros": lambda old: old + "\t\0\x01",
        "another encoding": lambda old: old.encode("utf-16"),
        "two documents": lambda old: old + "\n---\n" + old,
        "an option of another name": lambda old: old.replace("model: mlp", "model: ../../evil"),
        "an option that is a list": lambda old: old.replace("model: mlp", "model: [mlp, mlp]"),
        "a wide network": lambda old: old.replace("hidden:\n", "hidden:\n  - 1000000000000\n"),
        "a batch of 10^15": lambda old: old.replace("batch_size: 16", f"batch_size: {10**15}"),
        "much data": lambda old: old.replace("num_samples: 80", f"num_samples: {10**13}"),
        "many features": lambda old: old.replace("num_features: 10", f"num_features: {10**13}"),
        "a number of 5,000 digits": lambda old: old.replace("seed: 0", f"seed: {'9' * 5000}"),
        "nothing": lambda old: "",
        "a list": lambda old: "- 1\n- 2\n",
        "a number": lambda old: "7\n",
    }.items():
        yield Trial(f"config.yaml: {name}", with_text("config.yaml", change))
    manifest = f"checkpoints/{STEP}/manifest.json"
    for name, content in {
        "deep": "[" * 200_000,
        "of 50 MB": '{"bytes": ' + "9" * 50_000_000 + "}",
        "a number of 100,000 digits": '{"sha256": "", "bytes": ' + "9" * 100_000 + "}",
        "of other types": '{"sha256": {}, "bytes": []}',
        "that names another file": '{"file": "../../../../etc/passwd", "bytes": 0, "sha256": ""}',
        "no JSON": "\0\0\0\0",
    }.items():
        yield Trial(f"a manifest {name}", with_text(manifest, lambda old, content=content: content))
    evil = f"import os\nos.mkdir({str(canary)!r})\n"
    for name, content in {
        "an import": json.dumps({"imports": ["evil.py", "evil"]}),
        "imports that are no list": '{"imports": 7}',
        "deep": "[" * 200_000,
        "no JSON": "\0",
    }.items():
        yield Trial(f"environment.json: {name}", with_text("environment.json", lambda old, content=content: content))
        yield Trial(f"summary.json: {name}", with_text("summary.json", lambda old, content=content: content))
        yield Trial(f"metrics.jsonl: {name}", with_text("metrics.jsonl", lambda old, c=content: f"{c}\n{old}{c}"))
    yield Trial("code beside the config", with_text("evil.py", lambda old: evil))
    yield Trial(
        "metrics of other types", with_text("metrics.jsonl", lambda old: '{"step": 1, "a": [{"b": {}}]}\n' + old)
    )
    yield Trial("a metric of 5,000 digits", with_text("metrics.jsonl", lambda o: f'{{"step": {"9" * 5000}}}\n' + o))
    yield Trial("overrides that are no list", with_text("overrides.yaml", lambda old: laughs))
    for name in ("metrics.jsonl", "metrics.csv", "train.log", ".lock"):
        yield Trial(f"{name} is a link out", lambda run, name=name: linked(run, name))
    for name, content in {
        "callbacks of Hydra": f"hydra:\n  callbacks:\n    x:\n      _target_: os.mkdir\n      path: {canary}\n",
        "a launcher of Hydra": f"hydra:\n  launcher:\n    _target_: os.mkdir\n    path: {canary}\n",
        "a sweeper of Hydra": f"hydra:\n  sweeper:\n    _target_: os.mkdir\n    path: {canary}\n",
        "a search path": "hydra:\n  searchpath: [pkg://os, file:///etc]\n",
        "a target": f"model:\n  _target_: os.mkdir\n  path: {canary}\n",
        "an object": f"seed: {script}\n",
        "an alias bomb": laughs,
        "a resolver": "seed: ${hydra:runtime.cwd}\n",
    }.items():
        body = f"# @package _global_\n{content}"
        for words in (("experiment=evil",), ("-m", "experiment=evil", "seed=0,1")):
            yield Trial(
                f"--config-dir: {name}, {' '.join(words)}",
                with_text("folder/experiment/evil.yaml", lambda old, body=body: body),
                ("--config-dir", "folder", *words),
            )


def linked(run: Path, name: str) -> None:
    """A file that would be appended to is a link to something else, which must stay as it is."""
    other = run.parent / "precious"
    other.write_text("precious")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(other)
