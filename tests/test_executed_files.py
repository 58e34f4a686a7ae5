"""How many files a reader opens to follow `train model=cnn data=cifar10` to its first step."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_way_to_the_first_step_leads_through_few_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "executed_files.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    rows = re.findall(r"^ *(\d+)  (\S+\.py) +\S+$", done.stdout, re.MULTILINE)
    executed, imported = map(int, re.findall(r"(\d+) files executed, (\d+) modules imported", done.stdout)[0])
    assert [int(number) for number, _ in rows] == list(range(1, executed + 1))
    files = [file for _, file in rows]
    assert len(set(files)) == executed < imported
    told = re.findall(r"it counts (\d+) today", PAGE)
    assert executed <= int(told[0]) <= executed + 3, "CONTRIBUTING.md tells the number as it is"
    way = PAGE.partition("## One batch's way")[2].partition("\n## ")[0]
    linked = set(re.findall(r"\]\(trainer/(\S+\.py)\)", way))
    assert len(linked) > 15 and linked <= set(files), linked - set(files)
    assert len(re.findall(r"^\d+\. ", way, re.MULTILINE)) == 12
    assert files.index("cli.py") < files.index("runs/assemble.py") < files.index("training/step.py")
    assert "loggers/pictures.py" not in files, "what follows the first step is not counted"
