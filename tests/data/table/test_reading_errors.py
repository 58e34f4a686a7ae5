"""Files that are no clean table: each is refused with a message that says which file, line and column, and why."""

import gzip
import io
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.config.table import Csv
from trainer.errors import ConfigError, DataError
from trainer.runs.build import build_data

MANY = "".join(f"{i},{i % 2}\n" for i in range(100))  # lines 2 to 101 of a file with a header
MANY_SEMICOLONS = MANY.replace(",", ";").replace("\n", ",5\n")


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def bomb() -> bytes:
    """300 MB of rows that a gzip file of about 1 MB unpacks to."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", compresslevel=9) as file:
        file.write(b"x,y\n")
        for _ in range(3000):
            file.write(b"z" * 100_000 + b",0\n")
    return buffer.getvalue()


# Every case: name, content, keys beside data.target=y, parts of the message.
CASES: list[tuple[str, bytes | str, dict[str, Any], tuple[str, ...]]] = [
    # Rows that do not fit.
    ("a short row", "x,y\n1,0\n2\n3,1\n", {}, ("line 3, column y", "1 value instead of 2", "'2'")),
    ("a short row at the end, unfinished", "x,z,y\n1,2,0\n2,3", {}, ("line 3, column y", "2 values instead of 3")),
    ("a long row", "x,y\n1,0\n2,1,9\n", {}, ("line 3, column number 3", "3 values instead of 2", "'2,1,9'")),
    ("a long row far below", f"x,y\n{MANY}1,2,3\n", {}, ("line 102, column number 3",)),
    ("rows with a trailing delimiter", "x,y\n1,0,\n2,1,\n", {}, ("line 2, column number 3",)),
    ("a delimiter that is not the key's", "x;y\n1;0\n", {"delimiter": ","}, ("data.target=y", "Columns: x;y")),
    ("one row with another delimiter", "x,y\n1,0\n2;1\n3,1\n", {}, ("line 3, column y", "'2;1'")),
    ("a short row after a quoted line break", 'x,y\n"a\nb",0\n"c"\n', {}, ("line 4, column y",)),
    ("a short row after blank lines", "x,y\n\n\n1,0\n \n2\n", {}, ("line 6, column y",)),
    ("a short row after comments", "#a\nx,y\n1,0\n#b\n2\n", {"comment": "#"}, ("line 5, column y",)),
    ("a short row under CR", "x,y\r1,0\r2\r", {}, ("line 3, column y",)),
    ("a short row under CRLF", "x,y\r\n1,0\r\n2\r\n", {}, ("line 3, column y",)),
    ("a short row in UTF-16", "x,y\né,0\nü\n".encode("utf-16"), {}, ("line 3, column y", "'ü'")),
    ("a short row between blanks", "x   y\n1   0\n2\n3 1\n", {"delimiter": "space"}, ("line 3, column y",)),
    ("two values before the header", "A report,of 2020\nx,z,y\n1,2,0\n", {}, ("data.target=y", "Columns: A report")),
    # Quotes.
    ("an open quote", 'x,y\na,0\n"b,1\nc,0\n', {}, ("line 3, column x", "never closed", "data.quote=none")),
    ("an open quote in the last line", 'x,y\na,0\nb,"1\n', {}, ("line 3, column y", "never closed")),
    ("two open quotes", 'x,y\na,0\n"b,1\nc,0\n"d,1\n', {}, ("line 3, column x", "after its closing quote")),
    ("an open quote in the last line of words", 'x,y\na,no\nb,"yes\n', {}, ("line 3, column y", "never closed")),
    ("an open quote far below", f'x,y\n{MANY}"1,0\n', {}, ("line 102, column x", "never closed")),
    ("words after a closing quote", 'x,y\n"a"b,0\nc,1\n', {}, ("line 2, column x", "after its closing quote")),
    ("an open apostrophe", "x,y\n'a','0'\n'b,'1'\n", {"quote": "'"}, ("line 3, column x",)),
    ("an open quote in the header", 'x,"y\n1,0\n2,1\n', {}, ("line 1", "never closed")),
    ("an open quote and a long text", 'x,y\n"a,0\n' + "b,1\n" * 50_000, {}, ("line 2, column x", "than 131,072")),
    # Values that are of another kind.
    ("a word among numbers", f"x,y\n{MANY}abc,1\n", {}, ("line 102, column x", "'abc'", "data.missing=[abc]")),
    ("a word among few numbers", "x,y\n1,0\nabc,1\n", {"numeric": ["x"]}, ("line 3, column x", "'abc'")),
    ("a word in the target", f"x,y\n{MANY}1,abc\n", {}, ("line 102, column y", "'abc'", "data.categorical")),
    ("infinity", f"x,y\n{MANY}inf,1\n", {}, ("line 102, column x", "'inf' is not a finite number")),
    ("minus infinity", f"x,y\n{MANY}-Infinity,1\n", {}, ("line 102, column x", "'-Infinity'")),
    ("infinity among fractions", f"x,y\n0.5,1\n{MANY}inf,1\n", {}, ("line 103, column x", "'inf'")),
    ("infinity after megabytes of fractions", "x,y\n" + "0.5,1\n" * 250_000 + "inf,0\n", {},
     ("line 250002, column x", "'inf'")),
    ("a number beyond float64", f"x,y\n{MANY}1e999,1\n", {}, ("line 102, column x", "'1e999'")),
    ("not a number, in another spelling", f"x,y\n{MANY}+nan,1\n", {}, ("line 102, column x", "'+nan'")),
    ("a hexadecimal number", f"x,y\n{MANY}0x1F,1\n", {}, ("line 102, column x", "'0x1F'")),
    ("digits with underscores", f"x,y\n{MANY}1_000,1\n", {}, ("line 102, column x", "'1_000'")),
    ("digits of another script", f"x,y\n{MANY}١,1\n", {}, ("line 102, column x",)),
    ("a thousands comma", f'x,y\n{MANY}"1,000",1\n', {}, ("line 102, column x", "'1,000'")),
    ("a unit", f"x,y\n{MANY}12 kg,1\n", {}, ("line 102, column x", "'12 kg'")),
    ("a decimal comma among points", f"x;y\n{MANY_SEMICOLONS}1.5;1,5\n", {}, ("line 102, column x", "'1.5'")),
    ("a decimal point where commas are said", "x;y\n1.5;0\n2,5;1\n", {"decimal": ",", "numeric": ["x"]},
     ("line 2, column x", "'1.5'")),
    ("a date among numbers", f"x,y\n{MANY}2020-01-01,1\n", {}, ("line 102, column x", "'2020-01-01'")),
    ("a word after a megabyte of numbers", "x,y\n" + "12345,1\n" * 150_000 + "abc,0\n", {}, ("line 150002, column x",)),
    ("a line of quotes and a word", 'x,y\n"a\n\nb",0\n', {"numeric": ["x"]}, ("line 2, column x",)),
    # Bytes that are no text.
    ("a NUL byte in a word", "x,y\na,0\nb\0c,1\n", {}, ("line 3, column x", "NUL")),
    ("a NUL byte in a number", f"x,y\n{MANY}1\0,1\n", {}, ("line 102, column x", "NUL")),
    ("a NUL byte in the header", "x\0,y\na,0\n", {}, ("line 1, column 1", "not clean text")),
    ("Latin-1 that says UTF-8", b"x,y\na,0\n\xe9,1\n", {"encoding": "utf-8"}, ("line 3, column x", "data.encoding")),
    ("Latin-1 that says UTF-8, in the header", b"\xe9,y\na,0\n", {"encoding": "utf-8"}, ("line 1, column 1",)),
    ("a byte that cp1252 has not", b"x,y\na,0\n\x81,1\n", {"encoding": "cp1252"}, ("line 3, column x", "encoding")),
    ("UTF-16 cut in the middle of a character", "x,y\na,0\nb,1".encode("utf-16")[:-1], {}, ("line 3, column y",)),
    ("a PNG image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, ("a PNG image",)),
    ("a JPEG image", b"\xff\xd8\xff\xe0\0\x10JFIF", {}, ("a JPEG image",)),
    ("a ZIP archive", b"PK\x03\x04\x14\0\x06\0", {}, ("a ZIP archive", "unpack it")),
    ("random bytes", np.random.default_rng(0).bytes(5000), {}, ()),
    # Headers.
    ("two columns of one name", "x,y,x\n1,0,2\n", {}, ("line 1", "columns 1 and 3 are both named 'x'")),
    ("two columns of one name after trimming", "x, x ,y\n1,2,0\n", {}, ("columns 1 and 2 are both named 'x'",)),
    ("a first column without name and values", ",x,y\n,2,0\n", {}, ("line 1, column 1 of 3", "has no name")),
    ("a name with a line break", 'x,"a\nb",y\n1,2,0\n', {}, ("line 1, column 2", "not clean text")),
    ("more columns than are read", ",".join(f"c{i}" for i in range(100_001)) + "\n", {}, ("100,001 columns",)),
    # Targets.
    ("no such target", "size,label\n1,0\n", {"target": "lable"}, ("data.target=lable", "'label'", "size, label")),
    ("no target typed", "size,label\n1,0\n", {"target": None}, ("data.target is needed", "size, label")),
    ("a name where there is no header", "1,0\n2,1\n", {}, ("data.target=y", "Columns: 0, 1")),
    ("an ignored column that is not there", "x,y\n1,0\n", {"ignore": ["z"]}, ("data.ignore=z", "Columns: x, y")),
    ("a missing target", f"x,y\n{MANY}5,\n6,?\n", {}, ("line 102, column y", "missing, as in 2 of 102 rows")),
    ("a missing target after blank lines", "x,y\n1,0\n\n2,1\n3, \n", {}, ("line 5, column y",)),
    ("a missing target after a quoted line break", 'x,y\n"a\nb",0\nc,NA\n', {}, ("line 4, column y", "1 of 2 rows")),
    ("delimiters alone", "x,z,y\n1,2,0\n,,\n", {}, ("line 3, column y", "target is missing")),
    ("no target in any row", "x,y\n1,\n2,NA\n", {}, ("line 2, column y", "2 of 2 rows")),
    # Files without rows, and without a file.
    ("an empty file", "", {}, ("is empty",)),
    ("blank lines alone", "\n\n  \n", {}, ("is empty",)),
    ("a byte order mark alone", b"\xef\xbb\xbf", {}, ("is empty",)),
    ("comments alone", "# a\n# b\n", {"comment": "#"}, ("is empty",)),
    ("a header alone", "x,y\n", {}, ("has no rows",)),
    ("a header and blank lines", "x,y\n\n \n\n", {}, ("has no rows",)),
    ("all lines skipped", "x,y\n1,0\n", {"skip_lines": 9}, ("is empty",)),
    # Absurd sizes.
    ("a value of 300 kB in quotes that do not fit", 'x,y\na"b,0\n"' + "z" * 300_000 + '",1\n', {},
     ("line 3, column x", "longer than 131,072")),
    ("a line of 20 MB", b"x,y\n" + b"z" * 20_000_000, {}, ("line 2", "longer than 16,777,216 characters")),
    ("a first line of 20 MB", b"z" * 20_000_000, {}, ("line 1", "longer than 16,777,216 characters")),
    # Packed files.
    ("gzip cut short", gzip.compress(("x,y\n" + MANY * 99).encode())[:-30], {}, ("damaged or cut short",)),
    ("gzip with a flipped bit", bytes(b ^ (i == 40) for i, b in enumerate(gzip.compress(f"x,y\n{MANY}".encode()))), {},
     ("damaged or cut short",)),
    ("xz cut short", lzma.compress(f"x,y\n{MANY}".encode())[:-20], {}, ("damaged or cut short",)),
    ("gzip of nothing", gzip.compress(b""), {}, ("is empty",)),
    ("a short row in gzip", gzip.compress(b"x,y\n1,0\n2\n"), {}, ("line 3, column y",)),
    ("a bomb", bomb(), {}, ("unpacks to more than 200 times",)),
    # Parquet.
    ("Parquet cut short", parquet(x=[1, 2], y=[0, 1])[:-9], {}, ("not a readable Parquet file",)),
    ("Parquet in name only", b"PAR1 and then words", {}, ("not a readable Parquet file",)),
    ("Parquet with infinity", parquet(x=[1.0, np.inf], y=[0, 1]), {}, ("row 2, column x", "not finite")),
    ("Parquet with a missing target", parquet(x=[1, 2], y=[0, None]), {}, ("row 2, column y", "target is missing")),
    ("Parquet with lists", parquet(x=[[1], [2]], y=[0, 1]), {}, ("column x", "list", "data.ignore=[x]")),
    ("Parquet with words for numbers", parquet(x=["1", "two"], y=[0, 1]), {"numeric": ["x"]}, ("row 2, column x",)),
    ("Parquet without the target", parquet(x=[1], z=[0]), {}, ("data.target=y", "Columns: x, z")),
    ("Parquet without rows", parquet(x=pa.array([], pa.int64()), y=pa.array([], pa.int64())), {}, ("has no rows",)),
    # Keys that are none.
    ("a delimiter of two characters", "x,y\n1,0\n", {"delimiter": ",,"}, ("data.delimiter=,,", "single character")),
    ("a quote of two characters", "x,y\n1,0\n", {"quote": "''"}, ("data.quote=''", "single character")),
    ("an encoding that is none", "x,y\n1,0\n", {"encoding": "utf-88"}, ("data.encoding=utf-88",)),
    ("a codec that is no encoding", "x,y\n1,0\n", {"encoding": "rot13"}, ("data.encoding=rot13",)),
    ("a codec that is for names of hosts", "x,y\n1,0\n", {"encoding": "idna"}, ("data.encoding=idna",)),
    ("a codec that is for nothing", "x,y\n1,0\n", {"encoding": "undefined"}, ("data.encoding=undefined",)),
    ("a comment that every line is", "x,y\n1,0\n", {"comment": ""}, ("data.comment=''",)),
    ("an encoding that names code", "x,y\n1,0\n", {"encoding": "../os"}, ("data.encoding=../os",)),
]  # fmt: skip


@pytest.mark.parametrize(("content", "keys", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_file_is_refused_and_told_where(
    tmp_path: Path, content: bytes | str, keys: dict[str, Any], parts: tuple[str, ...]
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises((ConfigError, DataError)) as caught:
        build_data(Csv(path=str(path), **{"target": "y", **keys}), 0)
    expected = [*parts, str(path)] if caught.type is DataError else parts
    assert [part for part in expected if part not in str(caught.value)] == [], str(caught.value)


def test_there_are_many_such_files() -> None:
    assert len(CASES) >= 60
    assert len({case[0] for case in CASES}) == len(CASES)
