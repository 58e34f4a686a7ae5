"""Files whose values have types: workbooks of Excel, ARFF, JSON lines; known by their content, whatever their name."""

import json
import zipfile
from pathlib import Path

import pytest

from trainer.config.table import Csv
from trainer.data.table.reading import read_table
from trainer.errors import DataError

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPES = "http://schemas.openxmlformats.org/package/2006"


def workbook(path: Path, rows: list[list[object]]) -> Path:
    """Write a workbook of one sheet, its texts in the cells."""

    def cell(value: object) -> str:
        if value is None:
            return "<c/>"
        return (
            f"<c><v>{value}</v></c>"
            if isinstance(value, float | int)
            else f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        )

    lines = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    link = '<Relationship Id="r" Type="{}" Target="{}"/>'
    links = f'<Relationships xmlns="{TYPES}/relationships">{link}</Relationships>'
    sheets = '<sheets><sheet name="a" sheetId="1" r:id="r"/></sheets>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{TYPES}/content-types"/>',
        "_rels/.rels": links.format(f"{LINKS}/officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{LINKS}">{sheets}</workbook>',
        "xl/_rels/workbook.xml.rels": links.format(f"{LINKS}/worksheet", "worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{SHEET}"><sheetData>{lines}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0"?>{content}')
    return path


def test_a_workbook_is_read(tmp_path: Path) -> None:
    rows: list[list[object]] = [["x", "code", "y"], [1.5, "a", 1], [2.5, 3.0, 0], [None, "b", 1]]
    table = read_table(Csv(path=str(workbook(tmp_path / "t.dat", rows)), target="y"))
    assert table.columns.to_pydict() == {"x": [1.5, 2.5, None], "code": ["a", "3", "b"], "y": [1, 0, 1]}
    assert table.where(2).endswith("t.dat, row 3")


def test_arff_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("% iris\n@RELATION r\n@ATTRIBUTE x NUMERIC\n@ATTRIBUTE c {red,blue}\n@DATA\n1.5,red\n?,blue\n2,?\n")
    table = read_table(Csv(path=str(path), target="x", on_error="skip"))
    assert table.columns.to_pydict() == {"x": [1.5, 2.0], "c": ["red", None]}
    assert [rejection.line for rejection in table.rejected] == [2]


def test_json_lines_are_read_and_json_in_one_piece_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("".join(json.dumps({"x": i / 2, "y": "ab"[i % 2]}) + "\n" for i in range(4)))
    assert read_table(Csv(path=str(path), target="y")).columns.to_pydict() == {
        "x": [0, 0.5, 1, 1.5],
        "y": ["a", "b"] * 2,
    }
    for whole in ('[{"x": 1, "y": 2}]', '{"error": {"code": 403}}', "[[1, 2], [3, 4]]", '{\n "x": [1],\n "y": [2]\n}'):
        path.write_text(whole)
        with pytest.raises(DataError, match="JSON in one piece"):
            read_table(Csv(path=str(path), target="y"))


def test_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["x", "y"], [1, 2]])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a readable Excel workbook"):
        read_table(Csv(path=str(path), target="y"))
    path.write_text("@relation r\n@attribute x numeric\n@data\nabc\n")
    with pytest.raises(DataError, match="not readable as ARFF"):
        read_table(Csv(path=str(path), target="x"))
