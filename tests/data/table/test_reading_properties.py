"""Tables of any content and dialect are read as Python's `csv` reads them; mutilated ones lose no row."""

import csv
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.table import Csv
from trainer.data.table.column_store import MemoryColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.csv_reader import CsvReader
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.reading import read_table
from trainer.data.table.sniffing import sniff
from trainer.data.table.table import Table
from trainer.errors import DataError

Rows = list[list[str]]
slow = settings(deadline=None, max_examples=150)


@pytest.fixture(autouse=True, scope="module")
def subnormal_numbers() -> None:
    """A run in this process may have set numbers below 1.2e-38 to zero; the tables drawn here have such numbers."""
    torch.set_flush_denormal(False)


@contextmanager
def file(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(content)
        yield path


def cells(latin: bool) -> st.SearchStrategy[str]:
    special = st.text(alphabet=" ,;|\t\"'\\\n\r#ab1.é", max_size=6)
    anything = st.characters(exclude_categories=["Cs"], exclude_characters="\0", max_codepoint=255 if latin else None)
    return special | st.text(alphabet=anything, max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Rows, dict[str, str], str]:
    """Rows of equally many cells, how `csv.writer` writes them, and the encoding."""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]))
    width = draw(st.integers(1, 4))
    row = st.lists(cells(encoding == "latin-1"), min_size=width, max_size=width)
    options = {
        "delimiter": draw(st.sampled_from([",", ";", "\t", "|"])),
        "quotechar": draw(st.sampled_from(['"', "'"])),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n", "\r"])),
    }
    rows = draw(st.lists(row, min_size=1, max_size=12))
    broken = any(end in cell for row in rows for cell in row for end in "\r\n")  # QUOTE_MINIMAL would not quote all
    quoting = csv.QUOTE_ALL if broken else draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    return rows, {**options, "quoting": quoting}, encoding


@slow
@given(tables())
def test_any_table_is_read_as_python_reads_it(case: tuple[Rows, dict[str, str], str]) -> None:
    rows, options, encoding = case
    names = [f"c{index}" for index in range(len(rows[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows([names, *rows])
    content = text.getvalue()
    as_python = list(csv.reader(io.StringIO(content, newline=""), strict=True, **options))[1:]
    keys = {"delimiter": options["delimiter"], "quote": options["quotechar"], "encoding": encoding}
    with file(content.encode(encoding)) as path:
        keys |= {"path": str(path), "target": "c0", "target_type": "class", "categorical": names[1:]}
        config = Csv(header="true", missing_defaults=False, decimal=".", **keys)
        table = read_table(config)
        last = table.where(len(rows) - 1)
    found = [[cell.strip() for cell in row.values()] for row in table.columns.to_pylist()]
    assert found == [[cell.strip() for cell in row] for row in as_python]
    assert found == [[cell.strip() for cell in row] for row in rows]
    assert (table.rows_read, table.rejected) == (len(rows), ())
    lines = io.StringIO(content, newline="").readlines()
    tail = io.StringIO(newline="")
    csv.writer(tail, **options).writerow(rows[-1])
    length = len(io.StringIO(tail.getvalue(), newline="").readlines())
    assert last == f"{path}, line {len(lines) - length + 1}"


numbers = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.floats(-1e6, 1e6, width=32).map(lambda number: f"{number:.3f}"),
    st.sampled_from(["", "NA", " 5", "+5", "007", ".5", "5.", "1E5", "-0", "  "]),
)
words = st.sampled_from(["red", "green", " blue ", "?", '"a,b"', '"say ""hi"""', '"a\nb"', "5' 6", 'a "b" c', "true"])


@slow
@given(st.lists(st.tuples(numbers, numbers, words, st.sampled_from("01")), min_size=1, max_size=30))
def test_the_fast_and_the_exact_way_give_one_table(rows: list[tuple[str, ...]]) -> None:
    content = "\n".join(["a,b,c,y", *map(",".join, rows)]) + "\n"
    with file(content.encode()) as path:
        config = Csv(path=str(path), target="y", header="true")

        def unexpected(rejection: object) -> None:
            raise AssertionError(rejection)

        tables = []
        for exact in (False, True):
            files = [CsvFile(path, sniff(config, path))]
            options = ReadOptions(
                config, ["a", "b", "c", "y"], frozenset(), frozenset(), (), unexpected, MemoryColumnStore()
            )
            tables.append(CsvReader(options, files, exact).read()[0][0])
    assert tables[0].equals(tables[1])
    for index, name in enumerate("ab"):
        column, exact_type = tables[0][name].to_pylist(), tables[0][name].type
        if not pa.types.is_floating(exact_type) and not pa.types.is_integer(exact_type):
            continue
        for value, row in zip(column, rows, strict=True):
            word = row[index].strip()
            if word in config.missing_words():
                assert value is None
            else:
                expected = float(word) if pa.types.is_floating(exact_type) else int(word)
                assert value == pa.scalar(expected, exact_type).as_py()


def lines_of(table: Table) -> list[int]:
    return [int(table.where(row).rpartition(" ")[2]) for row in range(table.columns.num_rows)]


@st.composite
def mutilated(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A table of a number, a word and a class, cut and pasted here and there; and whether it has quotes."""
    quotes = draw(st.booleans())
    word = '"w {0}"' if quotes else "w{0}"
    rows = [f"{i * 1.5},{word.format(i % 3)},{i % 2}\n" for i in range(draw(st.integers(12, 30)))]
    content = bytearray("".join(["x,w,y\n", *rows]).encode())
    pieces = [
        b"",
        b",",
        b"\n",
        b"\0",
        b"\xff",
        b"inf",
        b"abc",
        b"\r",
        b"\n\n",
        b",,",
        *([b'"', b'""'] if quotes else []),
    ]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(6, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from(pieces))
    return bytes(content), quotes


@slow
@given(mutilated())
def test_mutilated_files_lose_no_row_silently(case: tuple[bytes, bool]) -> None:
    content, quotes = case
    with file(content) as path:
        keys = {"path": str(path), "target": "y", "header": "true", "encoding": "utf-8", "delimiter": ","}
        table = read_table(Csv(on_error="skip", **keys))
        used, rejected = lines_of(table), [rejection.line for rejection in table.rejected]
        if rejected:
            with pytest.raises(DataError, match=f"line ({'|'.join(map(str, rejected))}), column"):
                read_table(Csv(**keys))
        else:
            assert read_table(Csv(**keys)).columns.equals(table.columns)
    assert table.rows_read == len(used) + len(rejected)
    assert len({*used, *rejected}) == len(used) + len(rejected), "no line is taken twice"
    assert used == sorted(used)
    assert table.columns["y"].null_count == 0
    if not quotes:
        lines = io.StringIO(content.decode("utf-8", "replace"), newline="").readlines()
        assert sorted(used + rejected) == [number for number, line in enumerate(lines, 1) if line.strip()][1:]
