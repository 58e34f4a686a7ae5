"""How many files a reader opens to follow `train model=cnn data=cifar10` to its first step."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "executed_files.py"
MOST = 70  # as measured; to be lowered with every file that the way no longer needs


def test_the_way_to_the_first_step_leads_through_few_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True
    )
    rows = re.findall(r"^ *(\d+)  (\S+\.py) +\S+$", done.stdout, re.MULTILINE)
    executed, imported = map(int, re.findall(r"(\d+) files executed, (\d+) modules imported", done.stdout)[0])
    assert [int(number) for number, _ in rows] == list(range(1, executed + 1))
    files = [file for _, file in rows]
    assert len(set(files)) == executed <= MOST
    assert executed < imported
    for file in ("cli.py", "runs/assemble.py", "data/datasets/cifar.py", "models/cnn.py", "checkpoint/store.py"):
        assert file in files
    assert files.index("cli.py") < files.index("runs/assemble.py") < files.index("training/step.py")
    assert "loggers/pictures.py" not in files, "what follows the first step is not counted"
