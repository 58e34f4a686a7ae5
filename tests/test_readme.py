"""What the README shows is run as it stands."""

import json
import re
import shlex
from pathlib import Path

from support import run_python

from trainer.commands.help import options_of
from trainer.config import registry
from trainer.config.yaml_files import CHOICES

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_model_and_dataset_in_one_file_train(train, tmp_path):
    plugin = next(block for block in BLOCKS if '@register("model", "wide")' in block)
    command = re.search(r"^\$ train (--import my_parts.py .*)$", README, flags=re.MULTILINE)
    assert command is not None
    (tmp_path / "my_parts.py").write_text(plugin)
    output = train(*command[1].split()).stdout
    accuracy = re.search(r"^best +val/accuracy ([\d.]+)", output, flags=re.MULTILINE)
    assert accuracy is not None and float(accuracy[1]) > 0.7, output


def test_the_metric_loss_and_logger_in_one_file_are_used(train, tmp_path):
    plugin = next(block for block in BLOCKS if '@register("metric", "worst_class")' in block)
    command = re.search(r"^\$ train (--import my_scores.py .*)$", README, flags=re.MULTILINE)
    assert command is not None
    (tmp_path / "my_scores.py").write_text(plugin)
    output = train(*shlex.split(command[1]), "trainer.epochs=2").stdout
    [run] = tmp_path.glob("outputs/*/*")
    best = json.loads((run / "summary.json").read_text())["best"]
    scores = re.findall(r"accuracy [\d.]+ worst_class ([\d.]+)", output)
    assert "best by val/worst_class (max)" in output and len(scores) == 2
    assert best["metric"] == "val/worst_class" and f"{best['value']:.4f}" == max(scores)
    assert len((run / "best.txt").read_text().splitlines()) == 2
    train(
        *("--import", "my_scores.py", "task=regression", "task.metrics=[median_error]"),
        *("trainer.monitor=val/median_error", "model=linear", "trainer.epochs=1", "output_dir=numbers"),
    )
    [run] = tmp_path.glob("numbers/*/*")
    assert json.loads((run / "summary.json").read_text())["best"]["mode"] == "min"


def test_every_loss_metric_and_logger_is_named():
    for group in ("loss", "metric", "logger"):
        missing = [name for name in registry.names(group) if f"`{name}`" not in README]
        assert not missing


def test_the_python_loop_runs_and_learns(tmp_path):
    code = next(block for block in BLOCKS if "trainer.steps()" in block)
    losses = [float(line.split()[1]) for line in run_python(tmp_path, "-c", code).stdout.splitlines()]
    assert len(losses) >= 5 and losses[-1] < 0.5


def test_three_lines_load_a_trained_model(train, tmp_path):
    train("trainer.epochs=1")
    run = next(tmp_path.glob("outputs/*/*"))
    code = next(block for block in BLOCKS if "load_model(" in block)
    loaded = re.sub(r'load_model\("[^"]+"\)', f"load_model({str(run)!r})", code)
    assert loaded != code
    whole = f"import torch\ninputs = torch.zeros(2, 1, 8, 8)\n{loaded}\nprint(tuple(logits.shape))"
    assert run_python(tmp_path, "-c", whole).stdout == "(2, 10)\n"


def test_the_table_names_every_option_of_every_group():
    for group in CHOICES:
        row = re.search(rf"^\| `{group}` \| (.*) \|$", README, flags=re.MULTILINE)
        assert row is not None, group
        assert re.findall(r"`(\w+)`", row[1]) == list(options_of(group))


def test_every_key_of_the_engine_is_named():
    missing = [key for key in registry.lookup("trainer", "default").keys() if f"`{key}`" not in README]
    assert not missing
