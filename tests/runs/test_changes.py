"""What may change when a run is resumed: every key has a class, and the class is what happens."""

import re
from pathlib import Path
from typing import Any

import pytest
from messages import heard

from trainer import Config, Run, assemble, cli
from trainer.config import compose, registry
from trainer.config.section import FIXED, FREE, FUTURE
from trainer.errors import ConfigError
from trainer.runs.changes import changed_config, kind_of

# Written out once more, by hand: the keys whose class is not that of their section. A new key has the section's, unless
# someone has thought about it and puts it here.
FREE_KEYS = {
    "trainer": (
        "max_time malloc auto_micro_batch on_nan on_nan_limit on_nan_factor log_every save_every keep "
        "log_histograms log_gradients"
    ),
    "data": "eval_batch_size timeout root labels path targets_path val_path val_targets_path cache_bytes workers",
    "": "output_dir resume",
}
FUTURE_KEYS = {
    "data": (
        "augment flip rotation rotation_mode shift shift_padding crop_scale randaugment randaugment_magnitude "
        "brightness contrast saturation hue cutout mixup cutmix mean std memory"
    ),
    "model": "dropout conv_dropout embedding_dropout fused",
}
FIXED_KEYS = {
    "trainer": "limit_train fast_dev_run overfit_batches",
    "task": "rescale",
    "optimizer": "lr_mult layer_decay",
    "": "seed init_from",
}
SECTIONS = {"model": FIXED, "data": FIXED, "run": FREE}  # all others are FUTURE
ALL = [
    (group, option, name)
    for group in registry.GROUPS
    for option in registry.names(group)
    for name in registry.lookup(group, option).keys()
]


def expected(group: str, name: str) -> str:
    """The class by the lists above."""
    for keys, kind in ((FREE_KEYS, FREE), (FUTURE_KEYS, FUTURE), (FIXED_KEYS, FIXED)):
        if name in keys.get(group, "").split():
            return kind
    return SECTIONS.get(group, FUTURE)


def test_every_key_has_the_class_that_was_thought_of() -> None:
    found = {f"{g}={o}.{n}": registry.lookup(g, o).change(n) for g, o, n in ALL}
    assert found == {f"{g}={o}.{n}": expected(g, n) for g, o, n in ALL}
    assert {FREE, FUTURE, FIXED} == set(found.values())


def test_the_keys_of_no_section_and_the_choices_have_theirs() -> None:
    cfg = compose.compose([])
    assert {key: kind_of(cfg, key) for key in Config.keys()} == {
        "seed": FIXED,
        "init_from": FIXED,
        "output_dir": FREE,
        "resume": FREE,
        "logger": FREE,
    }
    kinds = {group: kind_of(cfg, group) for group in registry.GROUPS}
    assert kinds == {
        "model": FIXED,
        "data": FIXED,
        "optimizer": FIXED,
        "scheduler": FUTURE,
        "task": FUTURE,
        "trainer": FUTURE,
        "run": FUTURE,
    }


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp("half")
    words = ["model=mlp", "trainer.epochs=2", f"output_dir={folder}", "trainer.log_every=null"]
    assert cli.run("train", words) == 0
    return next(folder.glob("*/*"))


def other(value: Any, words: str) -> str:
    """Another value for a key of that type."""
    match value:
        case None if words.startswith("list"):
            return "[1]"
        case bool():
            return str(not value).lower()
        case int() | float():
            return str(value * 2 or 1)
        case None:
            return "1"
        case list():
            return "[1]"
        case dict():
            return "{*.weight: 0.5}"
        case _:
            return {"auto": "cpu", "50": "7", "1ep": "2ep", "stop": "skip", "relu": "gelu", "uniform": "normal"}.get(
                value, "1"
            )


def test_each_key_of_a_real_run_is_applied_or_refused_as_its_class_says(half: Path) -> None:
    saved = compose.from_yaml((half / "config.yaml").read_text(), "config.yaml")
    tried = {FREE: 0, FUTURE: 0, FIXED: 0}
    for key, value in compose.flat(saved).items():
        if "." not in key and key != "seed":
            continue
        kind = kind_of(saved, key)
        group, _, name = key.rpartition(".")
        keys = compose.section_type(saved, group).keys() if group else Config.keys()
        override = f"{key}={other(value, keys[name][0])}"
        if kind == FIXED:
            with pytest.raises(ConfigError, match=rf"{re.escape(key)}.*init_from="):
                changed_config(Run(half), [override])
        else:
            cfg, before, changes = changed_config(Run(half), [override])
            assert [(change.key, change.kind) for change in changes] == [(key, kind)]
            assert compose.flat(cfg)[key] != compose.flat(before)[key] == value
        tried[kind] += 1
    assert min(tried.values()) >= 8, tried


def test_the_changes_and_the_new_schedule_are_said_before_the_first_step(
    half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"resume={half}", "trainer.epochs=3", "optimizer.lr=5e-4", "trainer.keep=4"]
    assert cli.run("train", words) == 0
    text = capsys.readouterr().out
    assert re.search(r"^changed +trainer\.epochs: 2 → 3, after step 46$", text, re.MULTILINE)
    assert re.search(r"^changed +optimizer\.lr: 0\.001 → 0\.0005, after step 46$", text, re.MULTILINE)
    assert re.search(r"^changed +trainer\.keep: 2 → 4$", text, re.MULTILINE)
    # cosine over 69 steps: 5e-4 · (1 + cos(π 46/69)) / 2 = 5e-4 / 4
    assert re.search(
        r"^schedule +computed anew over 69 steps instead of 46: lr 0\.000125 for step 47", text, re.MULTILINE
    )
    assert text.index("changed") < text.index("epoch 3/3")


def test_nothing_is_said_of_a_schedule_that_stays(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run("train", [f"resume={half}", "trainer.log_every=9"])
    assert "computed anew" not in capsys.readouterr().out


def test_another_environment_is_named(tmp_path: Path) -> None:
    """What the bits depend on is in the checkpoint: here, the number of threads and the precision."""
    from trainer.config.data import Synthetic
    from trainer.config.model import Linear
    from trainer.config.trainer import TrainerConfig

    def config(**settings: Any) -> Config:
        return Config(model=Linear(), data=Synthetic(), trainer=TrainerConfig(epochs=1, **settings))

    run = Run.create(tmp_path)
    assemble(config(threads=1), run).fit()
    with heard() as told:
        assemble(config(threads=1), run, resume="last")
        assert told == []
        assemble(config(threads=2, precision="bf16"), run, resume="last")
    assert len(told) == 1
    assert "threads 1 → 2" in told[0] and "precision fp32 → bf16" in told[0] and "same bits" in told[0]
    assemble(config(threads=1), run, resume="last")
    run.release()
