"""Files as strangers write them: each is read with no key but the path and the target."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.config.table import Csv
from trainer.data.table.byte_streams import CheckedStream, DoubtError
from trainer.data.table.column_store import MemoryColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.reading import read_table
from trainer.data.table.sniffing import sniff
from trainer.data.table.table import Table
from trainer.errors import ConfigError, DataError

PLAIN = "size,colour,y\n1.5,red,0\n2.5,blue,1\n,green,0\n"
SEEN = {"size": [1.5, 2.5, None], "colour": ["red", "blue", "green"], "y": [0, 1, 0]}


def load(path: Path | str, **keys: Any) -> Table:
    return read_table(Csv(path=str(path), **{"target": "y", **keys}))


def written(folder: Path, content: bytes | str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def types(table: Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.columns.schema}


WRITINGS: dict[str, bytes | str] = {
    "plain": PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace(".", ","),
    "tabs": PLAIN.replace(",", "\t"),
    "tabs and decimal commas": PLAIN.replace(",", "\t").replace(".", ","),
    "pipes": PLAIN.replace(",", "|"),
    "blanks after commas": PLAIN.replace(",", ", "),
    "blanks everywhere": PLAIN.replace(",", "  ,  ").replace("\n", " \n "),
    "blanks before quotes": PLAIN.replace("red", '"red"').replace(",", ", "),
    "blanks around quotes": PLAIN.replace("red", '"red"').replace("1.5", '"1.5"').replace(",", " , "),
    "quotes": "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()),
    "apostrophes": "".join(",".join(f"'{cell}'" for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "CR": PLAIN.replace("\n", "\r"),
    "CR and quotes": PLAIN.replace("\n", "\r").replace("red", '"red"'),
    "no line end": PLAIN.rstrip(),
    "blank lines": PLAIN.replace("\n", "\n\n") + "\n  \n",
    "blank lines at the beginning": "\n\n" + PLAIN,
    "UTF-8 with a mark": PLAIN.encode("utf-8-sig"),
    "UTF-16 little-endian": PLAIN.encode("utf-16"),
    "UTF-16 big-endian": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "UTF-16 big-endian without a mark": PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "gzip": gzip.compress(PLAIN.encode()),
    "bzip2": bz2.compress(PLAIN.encode()),
    "xz": lzma.compress(PLAIN.encode()),
    "zstd": pa.compress(PLAIN.encode(), codec="zstd", asbytes=True),
    "two gzips in one": gzip.compress(PLAIN[:20].encode()) + gzip.compress(PLAIN[20:].encode()),
    "gzip of UTF-16": gzip.compress(PLAIN.encode("utf-16")),
    "missing as NA": PLAIN.replace("\n,green", "\nNA,green"),
    "missing as a question mark between blanks": PLAIN.replace("\n,green", "\n   ?   ,green"),
}


@pytest.mark.parametrize("content", WRITINGS.values(), ids=WRITINGS.keys())
def test_how_a_table_is_written_makes_no_difference(tmp_path: Path, content: bytes | str) -> None:
    table = load(written(tmp_path, content))
    assert table.columns.to_pydict() == SEEN
    assert types(table) == {"size": "float", "colour": "string", "y": "int32"}
    assert (table.rows_read, table.rejected) == (3, ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_letters_beyond_ascii_are_read(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "größe,y\nœuvre,0\nnaïve,1\n".replace("œ", "é").encode(encoding))
    table = load(path)
    assert table.columns.to_pydict() == {"größe": ["éuvre", "naïve"], "y": [0, 1]}
    assert (len(table.notes) > 0) == (encoding in ("utf-16", "cp1252", "latin-1"))


@pytest.mark.parametrize("named", ["utf-16", "UTF16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_named_encoding_may_have_a_mark_or_none(tmp_path: Path, named: str, mark: str) -> None:
    written_in = {"utf-16": "utf-16-le", "UTF16": "utf-16-le", "utf-32": "utf-32-le"}.get(named, named)
    path = written(tmp_path, (mark + "größe,y\né,0\n").encode(written_in))
    assert load(path, encoding=named).columns.to_pydict() == {"größe": ["é"], "y": [0]}


def test_text_that_is_not_utf8_is_said_aloud(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y\n“a”,0\n€,1\n".encode("cp1252"))
    table = load(path)
    assert table.columns["x"].to_pylist() == ["“a”", "€"]
    assert table.notes == (f"{path}: read as cp1252.",)
    assert load(path, encoding="cp1252").columns == table.columns
    assert load(path, encoding="latin-1").columns["x"].to_pylist() == ["\x93a\x94", "\x80"]


def test_text_that_turns_out_not_to_be_utf8_far_below_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, ("x,y\n" + "a,0\n" * 400_000 + "é,1\n").encode("latin-1"))
    table = load(path)
    assert table.columns["x"][-1].as_py() == "é"
    assert table.notes == (f"{path}: read as cp1252, not being UTF-8.",)


def test_a_byte_that_is_wrong_in_utf8_does_not_make_it_another_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y\né,0\n".encode() + b"\xff,1\n")
    with pytest.raises(DataError, match=r"line 3, column x: .* encoding"):
        load(path)
    far = written(tmp_path, ("x,y\n" + "a,0\n" * 400_000 + "é,0\n").encode() + b"\xff,1\n")
    with pytest.raises(DataError, match=r"line 400003, column x: .* encoding"):
        load(far)


HEADERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("words over numbers", "a,b\n1,2\n3,4\n", {"target": "b"}, ["a", "b"]),
    ("numbers alone", "1,2\n3,4\n", {"target": "1"}, ["0", "1"]),
    ("words and numbers", "red,2\nblue,4\n", {"target": "1"}, ["0", "1"]),
    ("one word over numbers", "name,b\nred,2\nblue,4\n", {"target": "b"}, ["name", "b"]),
    ("words alone", "a,b\nred,yes\nblue,no\n", {"target": "b"}, ["a", "b"]),
    ("words that occur again", "p,x\ne,y\np,x\ne,y\np,y\n", {"target": "1"}, ["0", "1"]),
    ("words that occur again, but one is the target", "p,x\ne,y\np,x\ne,y\n", {"target": "x"}, ["p", "x"]),
    ("years", "id,2019,2020,y\n1,5,6,0\n2,7,8,1\n", {}, ["id", "2019", "2020", "y"]),
    ("a missing value in the first row", "?,2\n3,4\n", {"target": "1"}, ["0", "1"]),
    ("as the key says: none", "a,b\nc,d\n", {"target": "1", "header": "false"}, ["0", "1"]),
    ("as the key says: one", "1,2\n3,4\n", {"target": "2", "header": "true"}, ["1", "2"]),
    ("an index without a name", ",a,y\n0,5,1\n1,6,0\n", {}, ["a", "y"]),
    ("lines before it", "Made by us\nin 2020\na,y\n1,0\n2,1\n", {"skip_lines": 2}, ["a", "y"]),
    ("comments before it", "# Made by us, in 2020\n\na,y\n1,0\n2,1\n", {"comment": "#"}, ["a", "y"]),
    ("one column", "y\n1\n0\n", {}, ["y"]),
    ("one column of words", "y\nhot\ncold as ice\n", {}, ["y"]),
    ("quoted names", '"a, b","y"\n1,0\n2,1\n', {}, ["a, b", "y"]),
    ("a semicolon in every name", "a;1,b;2,y\n1,2,0\n3,4,1\n", {}, ["a;1", "b;2", "y"]),
]


@pytest.mark.parametrize(
    ("content", "keys", "names"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS]
)
def test_the_first_line_names_the_columns_unless_it_looks_like_data(
    tmp_path: Path, content: str, keys: dict[str, Any], names: list[str]
) -> None:
    assert load(written(tmp_path, content), **keys).columns.column_names == names


def test_that_there_is_no_header_is_said_aloud(tmp_path: Path) -> None:
    path = written(tmp_path, "1,2\n3,4\n")
    assert "looks like data" in load(path, target="1").notes[0]
    assert load(path, target="1", header="false").notes == ()


def test_true_and_false_may_be_booleans(tmp_path: Path) -> None:
    assert load(written(tmp_path, "1,2\n3,4\n"), header=False, target="1").rows_read == 2
    assert Csv(header=True).header == "true"


def test_comments_between_rows_are_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y\n#a,b,c\n1,0\n#3,1\n# d\n2,1\n")
    assert load(path, comment="#").columns.to_pydict() == {"x": [1, 2], "y": [0, 1]}


def test_runs_of_blanks_may_separate_values(tmp_path: Path) -> None:
    path = written(tmp_path, "  a     b  y\n  1.5   2  0\n\t-3   4.25\t1  \n")
    assert load(path).columns.to_pydict() == {"a": [1.5, -3], "b": [2, 4.25], "y": [0, 1]}


def test_an_escape_takes_the_next_character_literally(tmp_path: Path) -> None:
    path = written(tmp_path, 'x,y\n"say \\"a, b\\"",0\nc\\,d,1\n')
    assert load(path, escape="\\").columns["x"].to_pylist() == ['say "a, b"', "c,d"]


def test_a_row_that_is_written_anew_keeps_its_line_breaks(tmp_path: Path) -> None:
    path = written(tmp_path, 'x,w,y\n5" disk,"a\rb",0\nc,"d\r\ne",1\nf,"g\nh",1\n')
    assert load(path).columns["w"].to_pylist() == ["a\rb", "d\r\ne", "g\nh"]


def test_quotes_may_be_ordinary_characters(tmp_path: Path) -> None:
    path = written(tmp_path, 'x,y\n"a,0\nb",1\n')
    assert load(path, quote="none").columns["x"].to_pylist() == ['"a', 'b"']


def test_a_quote_inside_a_value_is_an_ordinary_character(tmp_path: Path) -> None:
    path = written(tmp_path, 'x,y\n5" disk,0\n3.5" disk,1\nno disk,0\n')
    assert load(path).columns["x"].to_pylist() == ['5" disk', '3.5" disk', "no disk"]


def test_a_delimiter_may_be_any_character(tmp_path: Path) -> None:
    assert load(written(tmp_path, "a§y\n1§0\n2§1\n"), delimiter="§").columns["a"].to_pylist() == [1, 2]


TYPES: list[tuple[str, list[str], str, list[Any]]] = [
    ("whole numbers", ["1", "-2", "300"], "int32", [1, -2, 300]),
    ("whole numbers beyond 32 bits", ["3000000000", "1", "2"], "int64", [3_000_000_000, 1, 2]),
    ("whole numbers beyond 64 bits are names", ["9" * 25, "1", "2"], "string", ["9" * 25, "1", "2"]),
    ("fractions", ["0.5", "1", "-2e3"], "float", [0.5, 1, -2000]),
    ("fractions far from 0 and near each other", ["1000000.25", "1000000.5", "1000001"], "double",
     [1000000.25, 1000000.5, 1000001]),
    ("numbers beyond float32", ["1e300", "1", "2"], "double", [1e300, 1, 2]),
    ("numbers below float32", ["1e-300", "1e-301", "0"], "double", [1e-300, 1e-301, 0]),
    ("words", ["a", "1", "2"], "string", ["a", "1", "2"]),
    ("true and false", ["true", "false", "True"], "string", ["true", "false", "True"]),
    ("dates", ["2020-01-02", "2020-01-03", ""], "string", ["2020-01-02", "2020-01-03", None]),
    ("times", ["2020-01-02 10:11:12", "2020-01-03", ""], "string", ["2020-01-02 10:11:12", "2020-01-03", None]),
    ("nothing", ["", "NA", "?"], "null", [None, None, None]),
    ("numbers with gaps", ["1", "", "null"], "int32", [1, None, None]),
    ("numbers in quotes", ['"1"', '" 2 "', '""'], "int32", [1, 2, None]),
    ("plus signs", ["+1.5", "+2", "-3"], "float", [1.5, 2, -3]),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "kind", "values"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_columns_have_the_smallest_type_that_holds_them(
    tmp_path: Path, cells: list[str], kind: str, values: list[Any]
) -> None:
    path = written(tmp_path, "x,y\n" + "".join(f"{cell},{i % 2}\n" for i, cell in enumerate(cells)))
    table = load(path)
    assert (types(table)["x"], table.columns["x"].to_pylist()) == (kind, values)


@pytest.mark.parametrize("late", ["1.5", "3000000000", "1e300", "-1", "\u00a02", '"3"'])
def test_a_type_that_the_first_block_does_not_tell_is_found_too(tmp_path: Path, late: str) -> None:
    path = written(tmp_path, "x,y\n" + "7,0\n" * 400_000 + f"{late},1\n")
    column = load(path).columns["x"]
    assert column[-1].as_py() == float(late.strip('"'))
    assert (column[0].as_py(), len(column), column.null_count) == (7, 400_001, 0)


def test_a_column_of_which_nothing_is_known_at_first_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x,w,y\n" + ",,0\n" * 400_000 + "1.5,a,1\n")
    table = load(path)
    assert (table.columns["x"].null_count, table.columns["x"][-1].as_py()) == (400_000, 1.5)
    assert table.columns["w"][-1].as_py() == "a"


def test_a_number_beyond_float32_after_megabytes_of_fractions_is_kept(tmp_path: Path) -> None:
    column = load(written(tmp_path, "x,y\n" + "0.5,0\n" * 400_000 + "1e300,1\n")).columns["x"]
    assert (column.type, column[0].as_py(), column[-1].as_py()) == (pa.float64(), 0.5, 1e300)


def test_a_word_that_means_missing_may_stand_between_many_blanks(tmp_path: Path) -> None:
    path = written(tmp_path, "x,w,y\n1.5,a,0\n     NA     ,     ?     ,1\n")
    assert load(path).columns.to_pydict() == {"x": [1.5, None], "w": ["a", None], "y": [0, 1]}
    path = written(tmp_path, "w,y\na,0\n     ?     ,1\n")  # in words alone the fast way must see it
    assert load(path).columns.to_pydict() == {"w": ["a", None], "y": [0, 1]}


def test_of_two_delimiters_that_fit_alike_the_comma_is_the_decimal_point(tmp_path: Path) -> None:
    table = load(written(tmp_path, "1,5;2,5;0\n3,5;4,5;1\n".replace(";0", ";0,0").replace(";1", ";1,0")), target="2")
    assert table.columns.to_pydict() == {"0": [1.5, 3.5], "1": [2.5, 4.5], "2": [0, 1]}


# How a file is read: what need not be read row by row is not, and what must be is noticed wherever a block ends.


def text_file(path: Path, **keys: Any) -> CsvFile:
    return CsvFile(path, sniff(Csv(path=str(path), target="y", **keys), path), quoted=True)


def test_blank_lines_and_blanks_beside_missing_words_do_not_need_the_slow_way(tmp_path: Path) -> None:
    file = text_file(written(tmp_path, "x,y\n1.5,0\n   \n NA ,1\n\n"))
    config = Csv(path=str(file.path), target="y", missing=["NA"])
    options = ReadOptions(config, ["x", "y"], frozenset(), frozenset(), (), lambda rejection: None, MemoryColumnStore())
    table = file.read_fast({"x": pa.float32(), "y": pa.int32()}, options)
    assert table.to_pydict() == {"x": [1.5, None], "y": [0, 1]}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize(
    ("content", "doubtful"),
    [
        ('x,y\n"a",0\n"b ""c""",1\n"d\n",0\n', False),
        ('x,y\r\n"a","0"\r\n"","1"\r\n', False),
        ('x,y\né,"ü"\n', False),
        ('x,y\n"a,0\n', True),
        ('x,y\na,"0', True),
        ('x,y\na"b,0\n', True),
        ('x,y\n"a"b,0\n', True),
        ('x,y\n"a,0\nb,"1\n', True),
        ("x,y\na\0,0\n", True),
        ("x,y\na,0\n#b,1\n", True),
        ("x,y\n\udcff,0\n", True),
        ("x,y\na,0\n\udcc3", True),
    ],
)
def test_a_doubt_does_not_depend_on_where_a_block_ends(tmp_path: Path, content: str, doubtful: bool, size: int) -> None:
    path = written(tmp_path, content.encode("utf-8", "surrogateescape"))
    file = text_file(path, comment="#", encoding="utf-8", header="true", delimiter=",")
    with CheckedStream(path, file.dialect, quotes=True) as stream:
        if doubtful:
            with pytest.raises(DoubtError):
                list(iter(lambda: stream.read(size), b""))
        else:
            assert b"".join(iter(lambda: stream.read(size), b"")).decode() == content.partition("\n")[2]


def test_a_line_break_in_quotes_far_below_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y\n" + "ab,0\n" * 400_000 + '"c\nd",1\n' * 400_000)
    table = load(path)
    assert table.rows_read == 800_000
    assert table.columns["x"].unique().to_pylist() == ["ab", "c\nd"]


def test_keys_decide_against_the_inference(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b,c,y\n007,1,x,0\n08,2,5,1\n")
    table = load(path, categorical=["a"], ignore=["b"], target_type="class")
    assert table.columns.to_pydict() == {"a": ["007", "08"], "c": ["x", "5"], "y": ["0", "1"]}
    assert load(path, numeric=["c"], missing=["x"]).columns["c"].to_pylist() == [None, 5]


def test_a_file_without_the_target_is_read_where_that_is_asked(tmp_path: Path) -> None:
    config = Csv(path=str(written(tmp_path, "a,b\n1,2\n")), target="y")
    assert read_table(config, labelled=False).columns.to_pydict() == {"a": [1], "b": [2]}
    with pytest.raises(ConfigError, match=r"data\.target=y"):
        read_table(config)
    gaps = Csv(path=str(written(tmp_path, "a,y\n1,\n2,1\n")), target="y", on_error="skip")
    assert read_table(gaps, labelled=False).columns["y"].to_pylist() == [None, 1]
    assert read_table(gaps).columns["y"].to_pylist() == [1]


def test_thousands_of_columns_are_read(tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(5000)]
    rows = "".join(",".join(str(row * index % 7) for index in range(5000)) + "\n" for row in range(20))
    table = load(written(tmp_path, ",".join(names) + "\n" + rows), target="c4999")
    assert table.columns.shape == (20, 5000)
    assert table.columns["c11"].to_pylist() == [row * 11 % 7 for row in range(20)]


# Several files.


def test_files_are_read_in_order_whatever_the_order_of_their_columns(tmp_path: Path) -> None:
    written(tmp_path, "x,w,y\n1,a,0\n", "part-1.csv")
    written(tmp_path, "y;w;x\n1;b;2,5\n", "part-2.csv")
    written(tmp_path, gzip.compress(b"w,y,x\nc,0,3\n"), "part-3.csv.gz")
    expected = {"x": [1, 2.5, 3], "w": ["a", "b", "c"], "y": [0, 1, 0]}
    table = load(tmp_path / "part-*")
    assert table.columns.to_pydict() == expected
    assert [path.name for path in table.files] == ["part-1.csv", "part-2.csv", "part-3.csv.gz"]
    assert table.where(2) == f"{tmp_path}/part-3.csv.gz, line 2"
    listed = read_table(Csv(path=[str(tmp_path / f"part-{n}.csv") for n in (2, 1)], target="y"))
    assert listed.columns.to_pydict() == {"y": [1, 0], "w": ["b", "a"], "x": [2.5, 1]}


@pytest.mark.parametrize(
    ("second", "parts"),
    [
        ("x,y\n1,0\n", ("part-2.csv", "no column 'w'", "part-1.csv has")),
        ("x,w,v,y\n1,a,2,0\n", ("part-1.csv", "no column 'v'", "part-2.csv has")),
        ("x,w,y\n1,a\n", ("part-2.csv, line 2, column y",)),
        ("x,w,y\n" + "1,a,0\n" * 99 + "b,c,1\n", ("part-2.csv, line 101, column x", "'b'")),
    ],
)
def test_a_file_that_does_not_fit_the_first_is_named(tmp_path: Path, second: str, parts: tuple[str, ...]) -> None:
    written(tmp_path, "x,w,y\n1,a,0\n", "part-1.csv")
    written(tmp_path, second, "part-2.csv")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "part-*.csv")
    assert [part for part in parts if part not in str(caught.value)] == []


def test_what_is_no_file_is_told_with_a_way_out(tmp_path: Path) -> None:
    written(tmp_path, PLAIN, "adult.csv")
    cases: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "adlut.csv", DataError, "no such file. Did you mean 'adult.csv'?"),
        (tmp_path / "*.tsv", DataError, "no file matches this pattern"),
        (tmp_path, DataError, f"is a directory; 'data.path=\"{tmp_path}/*.csv\"' reads"),
        ("/dev/null", DataError, "is no regular file"),
        (tmp_path / "no" / "file.csv", DataError, "no such file"),
    ]
    for path, kind, part in cases:
        with pytest.raises(kind) as caught:
            load(path)
        assert f"data.path={path}: {part}" in str(caught.value)
    for paths, part in ((None, "data.path is needed"), ([], "data.path is needed"), ([1], "data.path=[1]: expected")):
        with pytest.raises(ConfigError) as refusal:
            read_table(Csv(path=paths, target="y"))
        assert part in str(refusal.value)
    with pytest.raises(ConfigError, match="twice"):
        read_table(Csv(path=[str(tmp_path / "adult.csv")] * 2, target="y"))


# Rows that are left out.


def test_rows_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    good = "".join(f"{i}.5,w,{i % 2}\n" for i in range(40))
    path = written(tmp_path, f'x,w,y\n{good}1,2\nabc,w,0\n\n3,4,5,6\n7,w,?\n"8,w,0\n9,w,1\n')
    table = load(path, on_error="skip")
    assert [(rejection.line, rejection.column) for rejection in table.rejected] == [
        (42, "y"), (43, "x"), (45, "number 4"), (46, "y"), (47, "x"),
    ]  # fmt: skip
    assert table.rejected[1].text == "'abc'"
    assert table.columns["x"].to_pylist() == [*(i + 0.5 for i in range(40)), 9]
    assert table.rows_read == 46 == table.columns.num_rows + len(table.rejected)
    assert table.where(0) == f"{path}, line 2"
    assert table.where(40) == f"{path}, line 48"


def test_a_missing_target_is_left_out_of_a_table_of_words(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y\na,b\nc,\nd,e\n")
    table = load(path, on_error="skip")
    assert table.columns.to_pydict() == {"x": ["a", "d"], "y": ["b", "e"]}
    assert (table.rows_read, table.rejected[0].line) == (3, 3)


def test_a_clean_file_is_the_same_with_and_without_leaving_out(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    assert load(path, on_error="skip").columns == load(path).columns


def test_a_file_of_which_no_row_is_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no rows that can be used; 2 cannot, first: .*line 2, column y"):
        load(written(tmp_path, "x,y\n1\n2\n"), on_error="skip")


def test_where_counts_quoted_line_breaks_comments_and_blank_lines(tmp_path: Path) -> None:
    path = written(tmp_path, 'x,y\n\n"a\nb",0\n# c\nd,1\n  \n"e",0\n')
    table = load(path, comment="#")
    assert [table.where(row) for row in range(3)] == [f"{path}, line {line}" for line in (3, 6, 8)]
    with pytest.raises(IndexError):
        table.where(3)


# Parquet.


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_columns_take_the_same_types(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        whole=pa.array([1, 2, None], pa.int64()),
        large=[2**40, 1, 2],
        half=pa.array(np.array([1.5, 2, np.nan], dtype=np.float16)),
        real=[0.1, None, np.nan],
        money=[Decimal("1.50"), Decimal("2.25"), None],
        flag=[True, False, None],
        word=[" a ", "NA", "b"],
        level=pa.array(["u", "v", "u"]).dictionary_encode(),
        day=[date(2020, 1, 2), None, date(2020, 1, 3)],
        empty=pa.array([None, None, None], pa.float64()),
        y=[0, 1, 0],
    )
    table = load(path)
    assert types(table) == {
        "whole": "int32", "large": "int64", "half": "float", "real": "float", "money": "float", "flag": "string",
        "word": "string", "level": "string", "day": "date32[day]", "empty": "null", "y": "int32",
    }  # fmt: skip
    found = table.columns.to_pydict()
    assert found["half"] == [1.5, 2, None]
    assert found["real"] == [pytest.approx(0.1), None, None]
    assert found["money"] == [1.5, 2.25, None]
    assert [found[name] for name in ("flag", "word", "level")] == [
        ["true", "false", None],
        ["a", None, "b"],
        ["u", "v", "u"],
    ]
    assert table.where(2) == f"{path}, row 3"


def test_parquet_obeys_the_keys(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        a=[1, 2] + [3] * 28,
        b=["1.5", "x"] + ["2"] * 28,
        c=[[1]] * 30,
        d=[1.0, np.inf] + [2.0] * 28,
        y=[0, 1] + [0] * 28,
    )
    table = load(path, categorical=["a"], numeric=["b"], ignore=["c"], on_error="skip", target_type="class")
    assert table.columns.to_pydict() == {
        "a": ["1"] + ["3"] * 28,
        "b": [1.5] + [2] * 28,
        "d": [1] + [2] * 28,
        "y": ["0"] * 29,
    }
    assert [(rejection.line, rejection.column) for rejection in table.rejected] == [(2, "b")]
    assert table.rows_read == 30


def test_parquet_and_text_may_be_read_together(tmp_path: Path) -> None:
    parquet(tmp_path, x=[0.5], y=[1])
    written(tmp_path, "y,x\n0,2\n", "a.csv")
    table = load(tmp_path / "*")
    assert table.columns.to_pydict() == {"y": [0, 1], "x": [2, 0.5]}


def test_one_column_of_two_kinds_is_an_error(tmp_path: Path) -> None:
    parquet(tmp_path, x=["a"], y=[1])
    written(tmp_path, "y,x\n0,2\n", "a.csv")
    with pytest.raises(DataError, match="x has incompatible types"):
        load(tmp_path / "*")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_told_by_their_bytes_not_their_names(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    buffer = io.BytesIO(compress(PLAIN.encode()))
    assert load(written(tmp_path, buffer.getvalue(), "table.txt")).rows_read == 3


# Columns that the header does not name.


INDEX = "its first column, index, is an index and left out (else: 'data.numeric=[index]')"


@pytest.mark.parametrize(
    ("content", "names", "note"),
    [
        (",a,y\n5,1.5,0\n6,2.5,1\n7,3.5,0\n", ["a", "y"], INDEX),
        ("a,y\n5,1.5,0\n6,2.5,1\n7,3.5,0\n", ["a", "y"], INDEX),
        ("Unnamed: 0,a,y\n5,1.5,0\n6,2.5,1\n7,3.5,0\n", ["a", "y"], INDEX.replace("index,", "Unnamed: 0,", 1)),
        ("a,y,\n1.5,0,\n2.5,1,\n3.5,0,\n", ["a", "y"], "1 column without name and values, left out"),
        ("a,y\n1.5,0,\n2.5,1,\n3.5,0,\n", ["a", "y"], "1 column without name and values, left out"),
        ("a\ty\t\t\n1.5\t0\t\t\n2.5\t1\t\t\n", ["a", "y"], "2 columns without name and values, left out"),
        ("a,,y\n1.5,3,0\n2.5,4,1\n", ["a", "unnamed", "y"], "its column 2 has no name and is called unnamed"),
    ],
    ids=["pandas", "R", "saved twice", "every line ends with a comma", "every row does", "tabs", "in the middle"],
)
def test_a_column_beside_the_header_gets_a_name(tmp_path: Path, content: str, names: list[str], note: str) -> None:
    path = written(tmp_path, content)
    table = read_table(Csv(path=str(path), target="y"))
    assert table.columns.column_names == names
    assert [
        text.replace("numeric=['Unnamed: 0']", "numeric=[index]").replace('["Unnamed: 0"]', "[index]")
        for text in table.notes
    ] == [f"{path}: {note}."]
    assert table.columns["a"].to_pylist()[:2] == [1.5, 2.5] and table.columns["y"].to_pylist()[:2] == [0, 1]


def test_rows_that_are_too_long_only_in_part_are_faults(tmp_path: Path) -> None:
    for content in ("a,y\n1,0,\n2,1\n3,0,\n", "a,y\n1,0,\n2,1,\n"):  # not all of them; too few to tell
        with pytest.raises(DataError, match="the row has 3 values instead of 2"):
            read_table(Csv(path=str(written(tmp_path, content)), target="y"))
