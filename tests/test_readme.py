"""What the README shows is run as it stands."""

import re
from pathlib import Path

from support import run_python

from trainer.commands.help import options_of
from trainer.config import registry

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
    for group in (*registry.GROUPS, "experiment"):
        row = re.search(rf"^\| `{group}` \| (.*) \|$", README, flags=re.MULTILINE)
        assert row is not None, group
        assert re.findall(r"`(\w+)`", row[1]) == list(options_of(group))


def test_every_key_of_the_engine_is_named():
    missing = [key for key in registry.lookup("trainer", "default").keys() if f"`{key}`" not in README]
    assert not missing
