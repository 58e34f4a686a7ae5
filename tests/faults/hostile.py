"""Hostile files: checkpoints, archives, configs and logs made to run code, to take all memory or never to end.

    python tests/faults/hostile.py           # the fixed cases, 20 mutated files
    python tests/faults/hostile.py --full    # every odd value in every field too, 2,000 mutated files

Each trial damages a copy of a real run, with a manifest whose size and SHA-256 are right again: the hash says that a
file is the one that was written, not by whom. A forked process then opens the copy with `load_model` and goes on with
it by `train resume=`. It must end in a message of one line and exit code 2, or 1 where training has begun, or take what
it was given for the plain data it is; nothing may have run (a canary would exist), memory may not grow beyond twice the
files over what the undamaged run takes and 64 MB, and a refusal may not take 5 s.
"""

import contextlib
import functools
import hashlib
import importlib
import io
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import trainer.execution  # imported here once, not in each forked process
import trainer.resumption  # noqa: F401
from common import arguments, train, verdict

from trainer import cli, load_model
from trainer.checkpoint.durable import with_checksum
from trainer.errors import TrainerError

FLOOR, LONGEST, PATIENCE = 64 << 20, 5.0, 30.0  # bytes; seconds of a refusal, and after which a process is killed
STEP = "step-00000008"
RUN = ["model=mlp", "data=synthetic", "data.num_samples=80", "data.batch_size=16", "trainer.epochs=2"]
RUN += ["trainer.ema=0.9", "scheduler=plateau", "trainer.device=cpu", "trainer.threads=1", "trainer.log_every=3"]

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


# ---- making files ----------------------------------------------------------------------------------------------------


def state(run: Path) -> Path:
    return run / "checkpoints" / STEP / "state.pt"


def sign(run: Path) -> None:
    """Make size and hash of the manifest right."""
    path = state(run)
    manifest = json.loads(path.with_name("manifest.json").read_text())
    manifest |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_name("manifest.json").write_text(json.dumps(with_checksum(manifest)))


def payload(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(state(run), weights_only=True)
    return loaded


def with_payload(change: Callable[[dict[str, Any]], Any], **options: Any) -> Damage:
    """Save what `change` makes of the payload (or has made in it)."""

    def damage(run: Path) -> None:
        old = payload(run)
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


# ---- the fixed cases -------------------------------------------------------------------------------------------------


def code(canary: Path, fields: list[str]) -> Iterator[Trial]:
    """Pickles that run code where code is allowed."""
    touch = Calls(os.mkdir, str(canary))
    for field in fields:
        yield Trial(f"a call in {field}", with_field(field, touch))
    yield Trial("a call as a key", with_payload(lambda p: p.update({"x": {touch: 1}})))
    yield Trial("a call as the whole payload", with_payload(lambda p: touch))
    yield Trial("a call deep in a list", with_field("environment", [[[{"a": [touch]}]]]))
    yield Trial("a call in the old format", with_payload(lambda p: {**p, "x": touch}, _use_new_zipfile_serialization=0))
    yield Trial("the old format without a call", with_payload(lambda p: None, _use_new_zipfile_serialization=False))
    script = f"__import__('os').mkdir({str(canary)!r})"
    for function, given in [
        (eval, (script,)),
        (exec, (script,)),
        (os.system, (f"mkdir {canary}",)),
        (subprocess.check_call, (["mkdir", str(canary)],)),
        (getattr, (str, "mkdir")),
        (functools.partial, (os.mkdir, str(canary))),
        (torch.load, (str(canary),)),
        (torch.hub.load, (str(canary), "x")),
    ]:
        yield Trial(f"a call of {function.__name__}", with_field("environment", Calls(function, *given)))
    protocol0 = f"cposix\nmkdir\n(V{canary}\ntR.".encode()
    yield Trial("a bare pickle of protocol 0", with_bytes(lambda _: protocol0))
    yield Trial("a pickle of protocol 0 in the archive", with_pickle(protocol0))
    yield Trial("an archive behind a pickle", with_bytes(lambda whole: protocol0 + whole))
    yield Trial("INST and OBJ", with_pickle(f"(S'{canary}'\niposix\nmkdir\n.".encode()))
    yield Trial("EXT1", with_pickle(b"\x80\x02\x82\x01."))
    yield Trial("a name by STACK_GLOBAL", with_pickle(b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93."))
    yield Trial("two pickles, one in capitals", with_members(lambda p: [*p.items(), ("state/DATA.PKL", protocol0)]))
    yield Trial("TorchScript", scripted)


def scripted(run: Path) -> None:
    """A TorchScript archive in the place of the state."""
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(state(run)))
    sign(run)


def memory() -> Iterator[Trial]:
    """Little files that ask for much memory or time."""
    p61 = (1 << 61) - 1
    tuples = b"\x80\x02})q\x00" + b"h\x00\x86q\x00" * 64
    same_hash = b"\x80\x02}(" + b"".join(b"\x8a\x0a" + (k * p61).to_bytes(10, "little") + b"N" for k in range(60_000))
    numbers = b"\x80\x02]" + b"\x8b" + struct.pack("<I", 4_000_000) + b"\x7f" * 4_000_000 + b"a."
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n"
    named = storage + b")q\x00" + b"h\x00\x86q\x00" * 64 + text("cpu") + b"K\x01tQ"
    claimed = storage + text("0") + text("cpu") + b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"tQ"
    yield Trial("tuples of tuples as a key", with_pickle(tuples + b"Ns."))
    yield Trial("tuples of tuples as the name of a storage", with_pickle(b"\x80\x02" + named + b"."))
    yield Trial("a deep tuple as a key", with_pickle(b"\x80\x02})" + b"\x85" * 400_000 + b"Ns."))
    yield Trial("keys of one hash", with_pickle(same_hash + b"u."))
    yield Trial("a number of 4 MB", with_pickle(numbers))
    yield Trial("a million lists in lists", with_pickle(b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b"."))
    yield Trial("20 million empty lists", with_pickle(b"\x80\x02](" + b"]" * 20_000_000 + b"e."))
    yield Trial("6 million empty dictionaries", with_pickle(b"\x80\x02](" + b"}" * 6_000_000 + b"e."))
    yield Trial("a list of 5 million references", with_pickle(b"\x80\x02]q\x00(" + b"h\x00" * 5_000_000 + b"e."))
    yield Trial("a list that holds itself", with_pickle(b"\x80\x02}" + text("step") + b"]q\x00h\x00as."))
    yield Trial("a wide string of 30 MB", with_pickle(b"\x80\x02" + text("a" * 30_000_000 + "\U0001f600") + b"."))
    yield Trial("a string that ends beyond the file", with_pickle(b"\x80\x02X\xff\xff\xff\x7fabc."))
    yield Trial("a pickle without an end", with_pickle(b"\x80\x02}"))
    yield Trial("an empty pickle", with_pickle(b""))
    yield Trial("a storage of 4 TB", with_pickle(b"\x80\x02" + claimed + b"."))
    for name, function, given in [
        ("a bytearray of 10 GB", bytearray, (10_000_000_000,)),
        ("a tensor of 4 TB", torch.Tensor, (1_000_000, 1_000_000)),
        ("a Counter of a call", Counter, ({"a": 1},)),
        ("a device", torch.device, ("meta",)),
    ]:
        yield Trial(name, with_field("environment", Calls(function, *given)))
    base, ones = torch.zeros(1), torch.ones(4)
    for name, tensor in [
        ("a tensor of stride 0 and 4 GB", base.expand(1_000_000_000)),
        ("a meta tensor of 4 TB", torch.empty(10**12, device="meta")),
        ("a sparse tensor of 4 PB", torch.sparse_coo_tensor([[0], [1]], [1.0], (10**9, 10**6))),
        ("a compressed sparse tensor", torch.eye(3).to_sparse_csr()),
        ("a quantised tensor", torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8)),
        ("a nested tensor", torch.nested.nested_tensor([ones, ones])),
        ("a complex tensor", torch.ones(3, dtype=torch.complex64)),
    ]:
        yield Trial(name, with_field("x", tensor))
    for name, size, stride in [
        ("a view beyond its storage", (10**9,), (1,)),
        ("a view of 10^18 elements", (10**9, 10**9), (10**9, 1)),
        ("a view of negative size", (-5,), (1,)),
        ("a view of negative stride", (4,), (-1,)),
        ("a view whose bytes overflow 64 bits", (2**31, 2**31), (2**31, 1)),
    ]:
        call = Calls(torch._utils._rebuild_tensor_v2, ones.storage(), 0, size, stride, False, {})
        yield Trial(name, with_field("x", call))
        yield Trial(f"{name}, as a weight", with_payload(lambda p, call=call: p["model_state_dict"].update(x=call)))
    for offset in (-1, 10**9, 2**62):
        call = Calls(torch._utils._rebuild_tensor_v2, ones.storage(), offset, (4,), (1,), False, {})
        yield Trial(f"a view at {offset}", with_field("tally", call))


def archives() -> Iterator[Trial]:
    """Archives that two readers understand differently, or that unpack to more than they are."""
    zeros = bytes(1 << 30)
    first = "state/data/0"
    yield Trial("1 GB of zeros, compressed", with_members(lambda p: p.update({first: zeros}), zipfile.ZIP_DEFLATED))
    yield Trial("everything compressed", with_members(lambda p: None, zipfile.ZIP_DEFLATED))
    yield Trial("bzip2", with_members(lambda p: None, zipfile.ZIP_BZIP2))
    yield Trial("members twice", with_members(lambda p: [*p.items(), *p.items()]))
    yield Trial("members that differ in capitals", with_members(lambda p: [*p.items(), (first.upper(), b"abcd")]))
    yield Trial("names that climb", with_members(lambda p: p.update({"../../../canary": b"x"})))
    yield Trial("absolute names", with_members(lambda p: p.update({"/tmp/canary": b"x"})))  # never written
    yield Trial("an archive in the archive", with_members(lambda p: p.update({"state/x.zip": b"PK\5\6" + bytes(18)})))
    yield Trial("100,000 empty members", with_members(lambda p: p.update({f"state/{i}": b"" for i in range(100_000)})))
    yield Trial("no member", with_members(lambda p: []))
    yield Trial("no pickle", with_members(lambda p: [(n, d) for n, d in p.items() if not n.endswith("data.pkl")]))
    yield Trial("no storages", with_members(lambda p: [(n, d) for n, d in p.items() if "/data/" not in n]))
    yield Trial(
        "storages cut short", with_members(lambda p: [(n, d[:2] if "/data/" in n else d) for n, d in p.items()])
    )
    yield Trial("a storage 100 times", with_payload(many_views))
    yield Trial("a comment behind it", with_bytes(lambda whole: whole[:-2] + b"\x05\x00hello"))
    yield Trial("bytes before it", with_bytes(lambda whole: bytes(1000) + whole))
    yield Trial("an index elsewhere", with_bytes(lambda whole: whole[:-6] + struct.pack("<I", 7) + whole[-2:]))
    yield Trial("an index of 4 GB", with_bytes(lambda whole: whole[:-10] + b"\xff\xff\xff\xff" + whole[-6:]))
    yield Trial("65,535 members", with_bytes(lambda whole: whole[:-14] + b"\xff\xff\xff\xff" + whole[-10:]))
    yield Trial("all members at one place", with_bytes(all_at_one_place))
    yield Trial("only an end", with_bytes(lambda _: b"PK\5\6" + bytes(18)))
    yield Trial("an empty file", with_bytes(lambda _: b""))
    yield Trial("a member that claims 4 GB", with_bytes(claims_much))
    yield Trial("big-endian", with_members(lambda p: p.update({"state/byteorder": b"big"})))
    yield Trial("another version", with_members(lambda p: p.update({"state/version": b"9" * 20})))


def many_views(saved: dict[str, Any]) -> None:
    """Many tensors over one storage are no bomb: what is made is as large as the file."""
    weight = torch.ones(1000)
    saved["x"] = [weight] * 100


def all_at_one_place(whole: bytes) -> bytes:
    """Every entry of the index points to the first member (Fifield, "A better zip bomb", WOOT 2019)."""
    parts = whole.split(b"PK\1\2")
    return parts[0] + b"".join(b"PK\1\2" + part[:38] + bytes(4) + part[42:] for part in parts[1:])


def claims_much(whole: bytes) -> bytes:
    """The last entry of the index claims to be of 4 GB, stored."""
    start = whole.rindex(b"PK\1\2")
    return whole[: start + 20] + b"\xf0\xff\xff\xff" * 2 + whole[start + 28 :]


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


# ---- mutated files ---------------------------------------------------------------------------------------------------


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


# ---- opening them ----------------------------------------------------------------------------------------------------


def opened(run: Path, trial: Trial) -> list[tuple[str, str, float]]:
    """Open a damaged run in every way: (what was done, how it ended, seconds)."""
    done = []

    def act(what: str, action: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            ended = str(action())
        except TrainerError as error:
            ended = "2" if error.exit_code == 2 else "1"
            print(f"error: {error}", file=sys.stderr)
        except BaseException:  # noqa: BLE001  # whatever comes out is the finding
            ended = "raised"
            traceback.print_exc()
        done.append((what, ended, time.monotonic() - began))

    if trial.words:
        act("train", lambda: cli.run("train", [*trial.words, *RUN, "trainer.max_time=1s"]))
    else:
        act("load_model", lambda: load_model(run, "last") and 0)
        act("resume", lambda: cli.run("train", [f"resume={run}", "trainer.epochs=3", "trainer.max_time=1s"]))
    return done


def forked(folder: Path, trial: Trial) -> dict[str, Any]:
    """Open the run in a process of its own: what it did, what it said, and how much its memory has grown."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.close(read)
            os.chdir(folder)
            said = os.open("said", os.O_CREAT | os.O_WRONLY)
            os.dup2(said, 1)
            os.dup2(said, 2)
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
            done = opened(Path("run"), trial)
            sys.stdout.flush()
            told = {"done": done, "grown": _status("VmHWM") - before, "modules": sorted(sys.modules)}
            with os.fdopen(write, "w") as pipe:
                json.dump(told, pipe)
        os._exit(0)
    os.close(write)
    in_time = select.select([read], [], [], PATIENCE)[0]  # an answer, or the end of a process that has died
    if not in_time:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    what = "died" if in_time else f"did not end in {PATIENCE:.0f} s"
    found: dict[str, Any] = json.loads(answer) if answer else {"done": [("process", what, 0.0)], "grown": 0}
    return found | {"said": (folder / "said").read_text(errors="replace")}


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


class Campaign:
    """A pristine run to damage, and what is allowed.

    Attributes:
        ends: how the trials ended, counted.
        grown, slowest: the worst of the trials: bytes beyond what is allowed by the files, and seconds of a refusal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.canary = folder, folder / "canary"
        process = train(*RUN, cwd=folder)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"The run to damage failed:\n{said}")
        self.pristine = next(folder.glob("outputs/*/*/config.yaml")).parent
        (self.pristine / "folder/experiment").mkdir(parents=True)
        self.ends: Counter[str] = Counter()
        self.usual, self.worst, self.slowest = 0, 0, 0.0
        self._number = 0

    def measure(self) -> None:
        """Open the undamaged run: it must work, and shows how much memory that takes."""
        found, _ = self._open(Trial("nothing", lambda run: None))
        if [end for _, end, _ in found["done"]] not in (["0", "0"], ["0", "124"]):  # 124: the machine is busy
            raise SystemExit(f"The undamaged run does not go on: {found}")
        for module in found["modules"]:  # what a run imports on its way: once here, not in each forked process
            with contextlib.suppress(ImportError):  # some are made on the way and cannot be imported by name
                importlib.import_module(module)
        found, _ = self._open(Trial("nothing", lambda run: None))
        self.usual = found["grown"]

    def tried(self, trial: Trial) -> list[str]:
        """What is wrong with how a trial has ended."""
        found, size = self._open(trial)
        problems = []
        refused = all(end == "2" for _, end, _ in found["done"])
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
        excess = found["grown"] - self.usual - (0 if refused else size)
        self.worst = max(self.worst, excess)
        if found["grown"] > 2 * size + self.usual + FLOOR:
            problems.append(f"{found['grown'] / 1e6:.0f} MB for files of {size / 1e6:.1f} MB")
        return [f"{trial.name}: {', '.join(problems)} (said: {found['said'][-300:]!r})"] if problems else []

    def _open(self, trial: Trial) -> tuple[dict[str, Any], int]:
        self._number += 1
        folder = self.folder / str(self._number)
        shutil.copytree(self.pristine, folder / "run", symlinks=True)
        (folder / "folder").symlink_to("run/folder")
        trial.damage(folder / "run")
        size = sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
        found = forked(folder, trial)
        if (folder / "precious").exists() and (folder / "precious").read_text() != "precious":
            found["done"].append(("link", "A FILE OUTSIDE WAS WRITTEN", 0.0))
        shutil.rmtree(folder)
        return found, size


def main() -> None:
    """The fixed cases, then the mutated ones."""
    given = arguments(__doc__ or "", 20, 2000, "mutated files")
    torch.set_num_threads(1)
    failures: list[str] = []
    trials = 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        campaign = Campaign(Path(name))
        campaign.measure()
        fields, every = sorted(payload(campaign.pristine)), 1 if given.full else 5
        fixed = [
            *code(campaign.canary, fields),
            *memory(),
            *archives(),
            *texts(campaign.canary),
            *values(fields, every),
        ]
        for trial in [*fixed, *mutated(random.Random(given.seed), given.trials)]:
            trials += 1
            failures += campaign.tried(trial)
        print(f"{len(fixed)} fixed cases, {given.trials} mutated ones")
        for what, count in sorted(campaign.ends.items()):
            print(f"{count:>6}  {what}")
        print(f"slowest refusal {campaign.slowest:.1f} s, undamaged {campaign.usual / 1e6:.0f} MB")
    verdict("hostile", trials, failures)


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), line_buffering=True)):
        main()
