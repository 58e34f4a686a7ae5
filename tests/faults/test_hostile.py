"""Hostile files: checkpoints, archives, configs and logs made to run code, to take all memory or never to end.

    pytest -m faults tests/faults/test_hostile.py           # half of the fixed cases, 20 mutated files
    pytest -m faults tests/faults/test_hostile.py --full    # every odd value in every field too, 2,000 mutated files

Each trial damages a copy of a real run, with a manifest whose size and SHA-256 are right again: the hash says that a
file is the one that was written, not by whom. A process (programs/open_run.py) then opens the copy with `load_model`
and goes on with it by `train resume=`. It must end in a message of one line and exit code 2, or 1 where training has
begun, or take what it was given for the plain data it is; nothing may have run (a canary would exist), memory may not
grow beyond twice the files over what the undamaged run takes and 64 MB, and a refusal may not take 5 s.
"""

import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.hostile_archives import archives, code, memory
from faults.hostile_files import STEP, Trial, mutated
from faults.hostile_values import texts, values
from support import Verdict, payload, run_trainer, the_run
from warm import python

pytestmark = pytest.mark.faults

FLOOR, LONGEST, PATIENCE = 64 << 20, 5.0, 30.0  # bytes; seconds of a refusal, and after which a process is killed
PROGRAM = Path(__file__).parent / "programs" / "open_run.py"
RUN = ["model=mlp", "data=synthetic", "data.num_samples=80", "data.batch_size=16", "trainer.epochs=2"]
RUN += ["trainer.ema=0.9", "scheduler=plateau", "trainer.device=cpu", "trainer.threads=1", "trainer.log_every=3"]


class Campaign:
    """A pristine run to damage, and what is allowed.

    Attributes:
        ends: how the trials ended, counted.
        slowest: seconds of a refusal.
        usual: bytes that opening the undamaged run takes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.canary = folder, folder / "canary"
        run_trainer(folder, "train", *RUN)
        self.pristine = the_run(folder)
        (self.pristine / "folder/experiment").mkdir(parents=True)
        self.ends: Counter[str] = Counter()
        self.slowest, self._number = 0.0, 0
        found, _ = self._open(Trial("nothing", lambda run: None))
        # The undamaged run works, and shows how much memory that takes; 124: the machine is busy.
        assert [end for _, end, _ in found["done"]] in (["0", "0"], ["0", "124"]), found
        self.usual = found["grown"]

    def tried(self, trial: Trial) -> str | None:
        """What is wrong with how a trial has ended, if anything."""
        found, size = self._open(trial)
        problems = []
        for what, end, seconds in found["done"]:
            self.ends[f"{what}: {'as plain data' if end in ('0', '124') else 'refused' if end in '12' else end}"] += 1
            if end not in ("0", "1", "2", "124"):
                problems.append(f"{what} {end}")
            if end in ("1", "2"):
                self.slowest = max(self.slowest, seconds)
                if seconds > LONGEST:
                    problems.append(f"{what} took {seconds:.1f} s")
        if "Traceback" in found["said"]:
            problems.append("a traceback was printed")
        if self.canary.exists():
            problems.append("CODE HAS RUN")
            self.canary.rmdir()
        if found["grown"] > 2 * size + self.usual + FLOOR:
            problems.append(f"{found['grown'] / 1e6:.0f} MB for files of {size / 1e6:.1f} MB")
        return f"{trial.name}: {', '.join(problems)} (said: {found['said'][-300:]!r})" if problems else None

    def _open(self, trial: Trial) -> tuple[dict[str, Any], int]:
        """How the opening of a copy ended, and the size of its files."""
        self._number += 1
        folder = self.folder / str(self._number)
        shutil.copytree(self.pristine, folder / "run", symlinks=True)
        (folder / "folder").symlink_to("run/folder")
        trial.damage(folder / "run")
        size = sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
        words = [*trial.words, *RUN, "trainer.max_time=1s"] if trial.words else []
        with open(folder / "said", "w") as said:
            process = python(str(PROGRAM), *words, cwd=folder, stdout=said, stderr=said)
        try:
            process.wait(PATIENCE)
            ended = "died"
        except subprocess.TimeoutExpired:
            process.kill()
            ended = f"did not end in {PATIENCE:.0f} s"
        told = folder / "told.json"
        found = json.loads(told.read_text()) if told.exists() else {"done": [("process", ended, 0.0)], "grown": 0}
        if (folder / "precious").exists() and (folder / "precious").read_text() != "precious":
            found["done"].append(("link", "A FILE OUTSIDE WAS WRITTEN", 0.0))
        found["said"] = (folder / "said").read_text(errors="replace")
        shutil.rmtree(folder)
        return found, size

    def trials(self, kind: str, full: bool, seed: int) -> Iterator[Trial]:
        """The trials of a kind."""
        fields = sorted(payload(self.pristine, STEP))
        match kind:
            case "code":
                return code(self.canary, fields)
            case "memory":
                return memory()
            case "archives":
                return archives()
            case "texts":
                return texts(self.canary)
            case "values":
                return values(fields, every=1 if full else 3)
            case _:
                return mutated(random.Random(seed), 2000 if full else 20)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("hostile"))


@pytest.mark.filterwarnings("ignore:Duplicate name")  # of members of an archive, on purpose
@pytest.mark.parametrize("kind", ["code", "memory", "archives", "texts", "values", "mutated"])
def test_a_hostile_file_is_refused_or_taken_for_plain_data(
    kind: str, campaign: Campaign, full: bool, seed: int, verdict: Verdict
) -> None:
    campaign.slowest = 0.0
    every = 1 if full or kind == "mutated" else 2 if kind == "code" else 4
    outcomes = [campaign.tried(trial) for trial in [*campaign.trials(kind, full, seed)][seed % every :: every]]
    verdict(outcomes, f"slowest refusal of {kind} {campaign.slowest:.1f} s")
