"""Checkpoints made to run code, to take all memory, or to be understood differently by two readers."""

import functools
import os
import struct
import subprocess
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from faults.hostile_files import (
    Calls,
    Trial,
    sign,
    state,
    text,
    with_bytes,
    with_field,
    with_members,
    with_payload,
    with_pickle,
)


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
