"""Checks of the archives that `torch.save` writes: before torch opens one, and of the tensors loaded from it.

A hash says that a file is the one that was written, not who wrote it. `torch.load(weights_only=True)` runs no code of
the file, but trusts its sizes: a kilobyte may ask for all the memory there is, or for hours of hashing.
"""

import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from torch import Tensor

PICKLE = "data.pkl"
# What a file of any size may have, so that loading it takes less memory than twice its size plus some 64 MB.
MOST_INDEX, MOST_PICKLE, MOST_OPCODES = 2 << 20, 8 << 20, 500_000
LONGEST_NUMBER = 8  # bytes; longer integers can be chosen to have all the same hash

_CALLED = {  # what a pickle of plain data and tensors calls
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
}
_NAMED = re.compile(r"torch(\.storage)? (\w+Storage|[a-z]+[0-9]\w*|bool)")  # what it only mentions: kinds of numbers
_MARK, _PLAIN, _EMPTY, _FLAT, _OBJECT = "mark", "plain", "empty tuple", "flat tuple", "object"  # kinds of values
_PLAIN_OPCODES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE")
_PUSHED = {
    "MARK": _MARK,
    "EMPTY_TUPLE": _EMPTY,
    "EMPTY_LIST": _OBJECT,
    "EMPTY_DICT": _OBJECT,
    **dict.fromkeys(_PLAIN_OPCODES, _PLAIN),
}
_TUPLES = {"TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # how many it takes; None: all above the mark


def tensors_in(payload: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested dictionaries, lists and tuples; each container is visited once."""
    seen: set[int] = set()
    stack = [payload]
    while stack:
        part = stack.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, (dict, list, tuple)) and id(part) not in seen:
            seen.add(id(part))
            stack.extend(part.values() if isinstance(part, dict) else part)


def examine(file: BinaryIO) -> None:
    """Raise `ValueError` unless an open file is an archive as torch writes it, of plain data and tensors.

    It must pass `examine_members`, and its pickle must be no larger than such a file needs, call only what makes
    tensors, and have only strings and numbers as keys.
    """
    members = examine_members(file)
    size = file.seek(0, os.SEEK_END)
    pickles = [member for member in members if member.filename.partition("/")[2] == PICKLE]
    if not pickles:
        raise ValueError(f"it has no {PICKLE}")
    if pickles[0].file_size > MOST_PICKLE + size // 8:
        raise ValueError(f"its {PICKLE} is larger than tensors of {size} bytes need")
    _examine_pickle(_content(file, pickles[0]), MOST_OPCODES + size // 64)


def examine_members(file: BinaryIO) -> list[zipfile.ZipInfo]:
    """Return the members of an open archive; raise `ValueError` unless it is one as torch writes it.

    No member may be compressed or overlap another, and no name may be one that two readers understand differently.
    """
    size = file.seek(0, os.SEEK_END)
    _examine_index(file, size)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"its member {member.filename:.80} is compressed, which torch does not do")
    names = {member.filename.casefold() for member in members}
    if sum(member.file_size for member in members) > size or len(names) < len(members):
        raise ValueError("its members overlap")
    if len({name.partition("/")[0] for name in names}) != 1:
        raise ValueError("its members are not in one folder")
    return members


def _examine_index(file: BinaryIO, size: int) -> None:
    """Check both ends of the archive before its index is read: https://pkware.com, APPNOTE.TXT, 4.3.14 to 4.3.16."""
    file.seek(0)
    if file.read(4) != b"PK\3\4":
        raise ValueError("it is not a zip archive")
    file.seek(max(0, size - 22 - 20 - 56))
    tail = file.read()
    if len(tail) < 22 or tail[-22:-18] != b"PK\5\6":
        raise ValueError("its archive has no end record, or one with a comment, which torch does not write")
    (index,) = struct.unpack("<I", tail[-10:-6])
    if index == 0xFFFFFFFF and len(tail) == 22 + 20 + 56:
        (index,) = struct.unpack("<Q", tail[40:48])
    if index > MOST_INDEX + size // 16:
        raise ValueError(f"its index claims {index} bytes")


def _content(file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a stored member; `zipfile` itself would insist on the CRC-32 that is left out."""
    file.seek(member.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError(f"there is no {PICKLE} at the place that its index gives")
    name, extra = struct.unpack("<HH", header[26:30])
    file.seek(member.header_offset + 30 + name + extra)
    return file.read(member.file_size)


def _examine_pickle(data: bytes, most: int) -> None:
    kinds = _Kinds()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > most:
            raise ValueError(f"it has more than {most} values, too many for its size")
        kinds.follow(opcode.name, argument)


class _Kinds:
    """Follow a pickle opcode by opcode, with kinds of values in the place of values.

    A kind is one of `_MARK`, ..., or the name of what is called or mentioned ("torch FloatStorage").
    """

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.memo: dict[object, str] = {}

    def follow(self, opcode: str, argument: object) -> None:
        """Do what an opcode does to the kinds; raise `ValueError` for one that plain data and tensors do not need."""
        if opcode in _PUSHED:
            self.stack.append(_PUSHED[opcode])
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode in _TUPLES:
            self._tuple(self._pop(_TUPLES[opcode]))
        elif opcode in ("BUILD", "APPEND", "APPENDS"):
            self._pop(None if opcode == "APPENDS" else 1)
        elif opcode in ("SETITEM", "SETITEMS"):
            self._items(self._pop(None if opcode == "SETITEMS" else 2))
        elif opcode == "LONG1" and isinstance(argument, int) and argument.bit_length() <= 8 * LONGEST_NUMBER:
            self.stack.append(_PLAIN)
        elif opcode == "GLOBAL":
            self._name(str(argument))
        elif opcode == "REDUCE":
            self._call()
        elif opcode == "BINPERSID":
            self._refer()
        elif opcode not in ("PROTO", "STOP"):
            raise ValueError(f"its pickle has the opcode {opcode}, which plain data and tensors do not need")

    def _pop(self, count: int | None) -> list[str]:
        """Remove and return the last few kinds; None: all above the mark, which is removed too."""
        start = len(self.stack) - count if count is not None else self._above_mark()
        if start < 0:
            raise ValueError("its pickle removes more values than it has")
        kinds = self.stack[start:]
        del self.stack[start if count is not None else start - 1 :]
        return kinds

    def _above_mark(self) -> int:
        return len(self.stack) - self.stack[::-1].index(_MARK)

    def _items(self, kinds: list[str]) -> None:
        if any(key != _PLAIN for key in kinds[::2]):
            raise ValueError("it has keys that are neither strings nor numbers")

    def _refer(self) -> None:
        if self._pop(1) != [_FLAT]:
            raise ValueError("it refers to a storage by something other than plain data")
        self.stack.append(_OBJECT)

    def _tuple(self, kinds: list[str]) -> None:
        flat = all(kind not in (_MARK, _EMPTY, _FLAT, _OBJECT) for kind in kinds)
        self.stack.append(_OBJECT if not flat else _FLAT if kinds else _EMPTY)

    def _name(self, name: str) -> None:
        if name not in _CALLED and not _NAMED.fullmatch(name):
            what = name.replace(" ", ".", 1)
            raise ValueError(f"it asks for {what:.80}, and only tensors and plain data are loaded")
        self.stack.append(name)

    def _call(self) -> None:
        function, arguments = self._pop(2)
        if function not in _CALLED:
            raise ValueError("it calls something that is not a function")
        if function == "collections OrderedDict" and arguments != _EMPTY:
            raise ValueError("it makes an OrderedDict with arguments")
        self.stack.append(_OBJECT)


def examine_tensors(payload: Any, size: int) -> None:
    """Raise `ValueError` if loaded tensors claim more bytes than the file of `size` bytes that they came from."""
    storages: dict[int, int] = {}
    for tensor in tensors_in(payload):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.nbytes > storage.nbytes():
            raise ValueError(
                f"it claims a tensor of {tensor.nbytes} bytes, and its storage has only {storage.nbytes()}"
            )
    if sum(storages.values()) > size:
        raise ValueError(f"its tensors claim {sum(storages.values())} bytes, and the file has {size}")
