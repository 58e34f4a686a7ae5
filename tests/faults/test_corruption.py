"""Damage to a checkpoint: one-bit flips, zeroed 4 KiB blocks, truncations. All detected, the one before is taken.

    pytest -m faults tests/faults/test_corruption.py           # 100 flips, 25 blocks, some cuts: seconds
    pytest -m faults tests/faults/test_corruption.py --full    # 2,000 flips, all of the manifest, 500 blocks

The checkpoint is the state of a small network and its Adam (1.2 MB). Each damage is done to the newest of two and
undone again. Loading `last` must warn, naming the damaged directory, and give the one before, bit for bit. A flip in
the manifest may leave what it says as it was (`1e-3` and `1E-3`): that is harmless.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from messages import heard
from support import Verdict, digest
from torch import nn

from trainer.checkpoint.durable import PAYLOAD
from trainer.checkpoint.names import MANIFEST
from trainer.checkpoint.store import Store
from trainer.errors import TrainerError

pytestmark = pytest.mark.faults

BLOCK = 4096


@dataclass
class Damage:
    """What the bytes of a file become."""

    kind: str
    file: str
    where: str
    data: bytes


@dataclass
class Victim:
    """Two checkpoints: the older one stays whole, the newer one is damaged.

    Attributes:
        whole: the bytes of the newer one's files.
        hashes: of the two states, by directory name.
    """

    directory: Path
    whole: dict[str, bytes]
    hashes: dict[str, str]

    @property
    def older(self) -> Path:
        return self.directory / "step-00000001"

    @property
    def newer(self) -> Path:
        return self.directory / "step-00000002"


def make(directory: Path) -> Victim:
    """Train two steps and save each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Linear(256, 300), nn.Linear(300, 10))
    optimizer = torch.optim.Adam(model.parameters())
    store = Store(directory)
    hashes = {}
    for step in (1, 2):
        optimizer.zero_grad()
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
        state: dict[str, Any] = {"step": step, "model_state_dict": model.state_dict()}
        state |= {"optimizer_state_dict": optimizer.state_dict(), "scores": {"val/loss": 0.5 / step}}
        store.save(state, {"step": step, "epoch": 0, "scores": state["scores"]}, best=step == 1)
        store.wait()
        hashes[f"step-{step:08d}"] = digest(state)
    newer = directory / "step-00000002"
    return Victim(directory, {name: (newer / name).read_bytes() for name in (PAYLOAD, MANIFEST)}, hashes)


def flips(victim: Victim, chance: random.Random, count: int, every: bool) -> Iterator[Damage]:
    """Random bits of the state; as many (or all) of the manifest."""
    for name, share in ((PAYLOAD, count), (MANIFEST, count // 4)):
        whole = victim.whole[name]
        bits = chance.sample(range(8 * len(whole)), min(share, 8 * len(whole)))
        for bit in range(8 * len(whole)) if every and name == MANIFEST else bits:
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            yield Damage("flip", name, f"bit {bit % 8} of byte {bit // 8} ({chr(whole[bit // 8])!r})", bytes(data))


def zeroed(victim: Victim, chance: random.Random, count: int) -> Iterator[Damage]:
    """4 KiB of zeros at random places, aligned or not; a place that is zero already is no damage: another is drawn."""
    whole = victim.whole[PAYLOAD]
    while count:
        start = chance.randrange(len(whole))
        start -= start % BLOCK * (count % 2)
        end = min(start + BLOCK, len(whole))
        data = whole[:start] + bytes(end - start) + whole[end:]
        if data == whole:
            continue
        count -= 1
        yield Damage("zeroed", PAYLOAD, f"{start} to {end}", data)
    yield Damage("zeroed", MANIFEST, "all", bytes(len(victim.whole[MANIFEST])))


def cut(victim: Victim, every: int) -> Iterator[Damage]:
    """Both files cut short, and one byte too long."""
    whole, manifest = victim.whole[PAYLOAD], victim.whole[MANIFEST]
    for size in [*range(0, len(whole), every), 1, len(whole) - 1]:
        yield Damage("cut", PAYLOAD, f"to {size} of {len(whole)} bytes", whole[:size])
    for size in range(0, len(manifest), max(1, every // BLOCK)):
        yield Damage("cut", MANIFEST, f"to {size} of {len(manifest)} bytes", manifest[:size])
    yield Damage("longer", PAYLOAD, "by one zero byte", whole + b"\0")


def tried(victim: Victim, damage: Damage) -> str | None:
    """Do the damage, load, undo it; what went wrong, if anything, and with which damage."""
    wrong = outcome(victim, damage)
    return wrong and f"{damage.kind} of {damage.file}, {damage.where}: {wrong}"


def outcome(victim: Victim, damage: Damage) -> str | None:
    """What was wrong, without the damage's name."""
    path = victim.newer / damage.file
    path.write_bytes(damage.data)
    try:
        with heard() as messages:
            payload, found = Store(victim.directory).load("last")
    except (TrainerError, RecursionError, ValueError, RuntimeError, OSError, MemoryError, LookupError) as error:
        return f"nothing was loaded: {type(error).__name__}: {error}"
    finally:
        path.write_bytes(victim.whole[damage.file])
    if digest(payload) != victim.hashes[found.name]:
        return f"{found.name} was loaded and is not what was saved"
    if found == victim.newer:
        if damage.file != MANIFEST:
            return "it was not detected"
        if meaning(damage.data) != meaning(victim.whole[MANIFEST]):
            return "what the notes say has changed unnoticed"
        return None
    if not any(str(victim.newer) in text for text in messages):
        return f"the damaged directory is not named ({messages})"
    return None


def meaning(manifest: bytes) -> Any:
    """What a manifest says; itself where it is none."""
    try:
        return json.loads(manifest)
    except (ValueError, RecursionError):
        return manifest


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make(tmp_path_factory.mktemp("corruption") / "checkpoints")


@pytest.mark.parametrize("kind", ["flips", "zeroed", "cut"])
def test_damage_is_detected_and_the_checkpoint_before_is_taken(
    kind: str, victim: Victim, full: bool, seed: int, verdict: Verdict
) -> None:
    chance, count = random.Random(seed), 2000 if full else 100
    damages = {
        "flips": flips(victim, chance, count, full),
        "zeroed": zeroed(victim, chance, count // 4),
        "cut": cut(victim, BLOCK if full else 32 * BLOCK),
    }
    verdict(tried(victim, damage) for damage in damages[kind])
