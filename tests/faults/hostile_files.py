"""Damage to a run: other contents of its files, with a manifest whose size and SHA-256 are right again."""

import functools
import hashlib
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support import payload

from trainer.checkpoint.durable import with_checksum

STEP = "step-00000008"

Damage = Callable[[Path], None]  # does something to a copy of the run


@dataclass
class Trial:
    """A case, and how the run is then opened."""

    name: str
    damage: Damage
    words: tuple[str, ...] = ()  # beside resume=; with --config-dir instead of it


class Calls:
    """Unpickles as a call."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def state(run: Path) -> Path:
    return run / "checkpoints" / STEP / "state.pt"


def sign(run: Path) -> None:
    """Make size and hash of the manifest right."""
    path = state(run)
    manifest = json.loads(path.with_name("manifest.json").read_text())
    manifest |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_name("manifest.json").write_text(json.dumps(with_checksum(manifest)))


def with_payload(change: Callable[[dict[str, Any]], Any], **options: Any) -> Damage:
    """Save what `change` makes of the payload (or has made in it)."""

    def damage(run: Path) -> None:
        old = payload(run, STEP)
        new = change(old)
        torch.save(old if new is None else new, state(run), **options)
        sign(run)

    return damage


def with_field(name: str, value: Any) -> Damage:
    """Replace a field of the payload; "a.b" is a field of a field."""

    def change(old: dict[str, Any]) -> None:
        *path, last = name.split(".")
        functools.reduce(lambda part, key: part[key], path, old)[last] = value

    return with_payload(change)


def members(run: Path) -> dict[str, bytes]:
    """Each member of the archive; read by hand, for torch was told to leave the CRC out."""
    data, found = state(run).read_bytes(), {}
    with zipfile.ZipFile(state(run)) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
            start = info.header_offset + 30 + name + extra
            found[info.filename] = data[start : start + info.file_size]
    return found


def with_members(change: Callable[[dict[str, bytes]], Any], compression: int = zipfile.ZIP_STORED) -> Damage:
    """Write the archive anew with what `change` has made of its members, or the list of them that it gives."""

    def damage(run: Path) -> None:
        parts = members(run)
        listed = change(parts)
        with zipfile.ZipFile(state(run), "w", compression) as archive:
            for name, data in listed if listed is not None else parts.items():
                archive.writestr(zipfile.ZipInfo(name), data, compression)
        sign(run)

    return damage


def with_pickle(data: bytes) -> Damage:
    """The archive with another pickle in it."""
    return with_members(lambda parts: parts.update({next(n for n in parts if n.endswith("data.pkl")): data}))


def with_bytes(change: Callable[[bytes], bytes]) -> Damage:
    """Change the file as a whole."""

    def damage(run: Path) -> None:
        state(run).write_bytes(change(state(run).read_bytes()))
        sign(run)

    return damage


def with_text(name: str, change: Callable[[str], str | bytes]) -> Damage:
    """Change a text file of the run."""

    def damage(run: Path) -> None:
        path = run / name
        text = change(path.read_text() if path.exists() else "")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def text(value: str) -> bytes:
    """A string as a pickle has it."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def mutated(chance: random.Random, count: int) -> Iterator[Trial]:
    """Random edits to the files of the run; most of them to the pickle of the state, where structure is dense."""
    texts_ = ["config.yaml", "environment.json", "metrics.jsonl", "overrides.yaml", f"checkpoints/{STEP}/manifest.json"]
    for number in range(count):
        seed = chance.randrange(1 << 62)
        if number % 4:
            yield Trial(f"mutation {seed} of the pickle", functools.partial(mutate_pickle, seed))
        elif number % 8:
            yield Trial(f"mutation {seed} of the archive", with_bytes(functools.partial(mutate, random.Random(seed))))
        else:
            name = texts_[number // 8 % len(texts_)]
            change = functools.partial(mutate_text, random.Random(seed))
            yield Trial(f"mutation {seed} of {name}", with_text(name, change))


def mutate_pickle(seed: int, run: Path) -> None:
    """Edit the pickle inside the archive."""
    name = next(name for name in members(run) if name.endswith("data.pkl"))
    with_members(lambda parts: parts.update({name: mutate(random.Random(seed), parts[name])}))(run)


def mutate_text(chance: random.Random, whole: str) -> bytes:
    """Edit a text."""
    return mutate(chance, whole.encode())


def mutate(chance: random.Random, whole: bytes) -> bytes:
    """A few flips, cuts, copies, and numbers of the extremes."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 8, 64))
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = chance.randbytes(length)
            case 3:
                start = chance.randrange(len(data) + 1)
                data[at:at] = data[start : start + 8 * length]
            case 4:
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\x80"))
            case _:
                data[at:at] = chance.choice(
                    (b"(", b"]", b"}", b")", b"h\x00", b"\x86", b"R", b"s", b"e", b"a", b"9999999")
                )
    return bytes(data)
