"""New tables for a trained model: it reads the columns that it needs, however a file writes them, and no others."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support import run_trainer, the_run

from trainer.runs.build import read_samples
from trainer.runs.inference import predict
from trainer.runs.loading import for_other_files, load_trained

ROWS = 120
COLUMNS = ("size", "store", "member", "day", "clinic", "w", "fold", "note", "y")


def rows() -> list[dict[str, Any]]:
    return [
        {
            "size": i / 8,
            "store": i % 4 + 1,
            "member": i % 3 == 0,
            "day": f"2021-0{i % 8 + 1}-15",
            "clinic": f"c{i // 10}",
            "w": 1 + i % 2,
            "fold": "val" if i % 5 == 0 else "train",
            "note": f"k{i}",
            "y": "high" if i % 4 > 1 else "low",
        }
        for i in range(ROWS)
    ]


def text(columns: tuple[str, ...], separator: str = ",", count: int = 8, **changes: Callable[[Any], Any]) -> str:
    """The first rows as text, with what a function makes of each value of a column."""
    lines = [separator.join(columns)]
    lines += [separator.join(str(changes.get(name, str)(row[name])) for name in columns) for row in rows()[:count]]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "table.csv").write_text(text(COLUMNS, count=ROWS))
    words = ("data=csv", "data.path=table.csv", "data.target=y", "data.categorical=[store]", "data.group=clinic")
    more = ("data.weight=w", "data.ignore=[note,fold]", "model=linear", "trainer.epochs=4", "optimizer.lr=0.1")
    run_trainer(folder, "train", *words, *more)
    return the_run(folder)


def said(run: Path, *paths: Path, words: tuple[str, ...] = (), **options: Any) -> torch.Tensor:
    """The outputs for new tables."""
    trained = load_trained(run)
    config = for_other_files(trained.config, words)
    sources = [str(path) for path in paths]
    parts = read_samples(config.data, sources, trained.spec, trained.preprocessing, labelled=False, **options)
    return torch.cat([predict(trained, part, torch.device("cpu")) for part in parts])


INPUTS = ("size", "store", "member", "day")


@pytest.mark.parametrize(
    "content",
    [
        text(INPUTS),
        text(INPUTS[::-1]),
        text(("note", "extra", *INPUTS)) if "extra" in COLUMNS else text(("note", *INPUTS, "w")),
        text(INPUTS, ";", size=lambda v: str(v).replace(".", ",")),
        text(INPUTS, "\t"),
        f"Exported by the shop\n\n{text(INPUTS)}",
        f"sep=;\n{text(INPUTS, ';')}",
        text(INPUTS, store=lambda v: f"{v}.0"),
        text(INPUTS, store=lambda v: f'"{v}"'),
        text(INPUTS, member=lambda v: "TRUE" if v else "FALSE"),
        text(INPUTS, member=int),
        text(INPUTS, day=lambda v: f"{v[8:]}.{v[5:7]}.{v[:4]}"),
        text(INPUTS, day=lambda v: f"{v} 00:00:00"),
        text(INPUTS, size=lambda v: f"{v}e0"),
        text(("clinic", *INPUTS), clinic=lambda _: "x" * 3),
    ],
    ids=[
        *(
            "plain",
            "another order",
            "more columns",
            "semicolons",
            "tabs",
            "a title",
            "sep",
            "floats",
            "quoted",
            "upper case",
        ),
        *("0 and 1", "German dates", "with hours", "exponents", "other groups"),
    ],
)
def test_the_same_rows_give_the_same_whatever_the_file(run: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "plain.csv").write_text(text(INPUTS))
    (tmp_path / "new.csv").write_text(content)
    expected = said(run, tmp_path / "plain.csv")
    assert torch.equal(said(run, tmp_path / "new.csv"), expected)


def test_parquet_and_text_and_json_lines_give_the_same(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(text(INPUTS))
    expected = said(run, tmp_path / "new.csv")
    table = pa.table({name: [row[name] for row in rows()[:8]] for name in INPUTS})
    pq.write_table(table, tmp_path / "new.parquet")
    days = pa.array([f"{row['day']} 00:00:00" for row in rows()[:8]]).cast(pa.timestamp("us"))
    floats = table.set_column(1, "store", table["store"].cast(pa.float64())).set_column(3, "day", days)
    pq.write_table(floats, tmp_path / "floats.parquet")
    lines = "".join(json.dumps({name: row[name] for name in INPUTS}) + "\n" for row in rows()[:8])
    (tmp_path / "new.jsonl").write_text(lines)
    for name in ("new.parquet", "floats.parquet", "new.jsonl"):
        assert torch.equal(said(run, tmp_path / name), expected), name


def test_columns_that_the_model_does_not_take_are_not_judged(run: Path, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({name: [row[name] for row in rows()[:8]] for name in INPUTS} | {"tags": [[1, 2]] * 8}),
        tmp_path / "new.parquet",
    )
    (tmp_path / "new.csv").write_text(text((*INPUTS, "w"), w=lambda _: "\x00heavy"))
    assert len(said(run, tmp_path / "new.parquet")) == len(said(run, tmp_path / "new.csv")) == 8


def test_parts_of_bounded_size_are_the_whole(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new.csv").write_text(text(INPUTS, count=100))
    whole = said(run, tmp_path / "new.csv")
    monkeypatch.setattr("trainer.data.table.table_data.PART", 16)
    monkeypatch.setattr("trainer.data.table.table_data.SPILL", 1)  # columns are kept in files
    torch.testing.assert_close(said(run, tmp_path / "new.csv"), whole)


def table_of(output: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output)))


def test_several_files_say_which_row_is_whose_and_columns_are_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new-1.csv").write_text(text(("note", *INPUTS), count=3))
    (tmp_path / "new-2.csv").write_text(text((*INPUTS[::-1], "note"), ";", count=2))
    done = run_trainer(tmp_path, "predict", str(run), "new-*.csv", "--keep", "note,size", "--proba", "none")
    found = table_of(done.stdout)
    assert [(row["file"], row["line"], row["note"], row["size"]) for row in found] == [
        *(("new-1.csv", "2", "k0", "0"), ("new-1.csv", "3", "k1", "0.125"), ("new-1.csv", "4", "k2", "0.25")),
        *(("new-2.csv", "2", "k0", "0"), ("new-2.csv", "3", "k1", "0.125")),
    ]
    assert list(found[0]) == ["file", "line", "note", "size", "prediction"]
    assert done.stderr.splitlines()[-1] == "5 samples: 5 predicted, 0 left out"


def test_predictions_are_the_same_in_each_format(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(text(INPUTS))
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        run_trainer(tmp_path, "predict", str(run), "new.csv", "--output", name, "--proba", "top5")
    from_csv = table_of((tmp_path / "out.csv").read_text())
    from_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        row | {k: pytest.approx(v, rel=1e-6) for k, v in row.items() if isinstance(v, float)} for row in from_json
    ]
    assert list(from_json[0]) == ["line", "prediction", "probability", "prediction_2", "probability_2"]
    for text_row, row in zip(from_csv, from_json, strict=True):
        assert text_row["prediction"] == row["prediction"]
        assert float(text_row["probability"]) == pytest.approx(row["probability"], abs=1e-6)
        assert row["probability"] + row["probability_2"] == pytest.approx(1, abs=1e-6)
    assert (
        "--output out.xls: its ending must be one of"
        in run_trainer(tmp_path, "predict", str(run), "new.csv", "--output", "out.xls", code=2).stderr
    )


def test_unknown_levels_are_counted_and_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(text(INPUTS, store=lambda v: 9 if v == 1 else v))
    done = run_trainer(tmp_path, "predict", str(run), "new.csv")
    assert "note: store: 2 of 8 rows have levels never seen in training: 9." in done.stderr


def test_how_a_file_is_read_may_be_said_and_only_that(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(text((*INPUTS, "y"), y=lambda v: v.upper()))
    lower = table_of(run_trainer(tmp_path, "predict", str(run), "new.csv", "data.missing=[0.125]").stdout)
    assert len(lower) == 8
    scored = json.loads(run_trainer(tmp_path, "evaluate", str(run), "new.csv", "--json").stdout)
    assert scored["samples"] == 8, "classes in another case are the same where they can be no other"
    for word in ("data.target=size", "data.group=null", "data.nosuch=1"):
        error = run_trainer(tmp_path, "predict", str(run), "new.csv", word, code=2).stderr
        assert f"error: {word}: only what says how new files are read" in error
    error = run_trainer(tmp_path, "predict", str(run), code=2).stderr
    assert "source" in error


def test_rows_of_no_class_are_an_error_or_skipped_and_counted(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(text((*INPUTS, "y"), y=lambda v: f"{v}."))
    error = run_trainer(tmp_path, "evaluate", str(run), "new.csv", code=2).stderr
    assert "new.csv, line 2: y is 'low.', none of the classes high, low; such are 'low.' in 4 rows" in error
    error = run_trainer(tmp_path, "evaluate", str(run), "new.csv", "--on-error", "skip", code=2).stderr
    assert "none of its 8 rows can be used" in error
    (tmp_path / "new.csv").write_text(text((*INPUTS, "y"), size=lambda v: "tall" if v == 0.5 else v))
    done = json.loads(run_trainer(tmp_path, "evaluate", str(run), "new.csv", "--on-error", "skip", "--json").stdout)
    assert (done["samples"], done["rejected"]) == (7, 1)


def test_the_format_of_new_dates_may_be_given_and_is_kept_to(run: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text(text(INPUTS))
    (tmp_path / "new.csv").write_text(text(INPUTS, day=lambda v: f"{v[5:7]}.{v[8:]}.{v[:4]}"))
    given = said(run, tmp_path / "new.csv", words=("data.formats.day='%m.%d.%Y'",))
    assert torch.equal(given, said(run, tmp_path / "plain.csv"))
    words = ("predict", str(run), "plain.csv", "data.formats.day='%d.%m.%Y'")
    error = run_trainer(tmp_path, *words, code=2).stderr
    assert "plain.csv, line 2, column day: '2021-01-15' is not a date written as %d.%m.%Y" in error


def test_an_error_advises_nothing_that_cannot_be_given(run: Path, tmp_path: Path) -> None:
    for name, wrong in (("day", "soon"), ("size", "tall")):
        (tmp_path / "new.csv").write_text(
            text(INPUTS, count=60, **{name: lambda v, w=wrong: w if v in (0.5, "2021-05-15") else v})
        )
        error = run_trainer(tmp_path, "predict", str(run), "new.csv", code=2).stderr
        assert "data.categorical" not in error
        assert f"data.missing=[{wrong}]" in error
        run_trainer(tmp_path, "predict", str(run), "new.csv", f"data.missing=[{wrong}]")


def test_a_column_to_keep_may_not_take_the_place_of_one_of_ours(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(text(("note", *INPUTS)).replace("note", "prediction", 1))
    error = run_trainer(tmp_path, "predict", str(run), "new.csv", "--keep", "prediction", code=2).stderr
    assert "--keep prediction: is the name of a column that is written anyway" in error


def test_lines_are_those_of_the_file_whatever_is_left_out(run: Path, tmp_path: Path) -> None:
    days = {"2021-03-15": "soon", "2021-05-15": "late"}
    (tmp_path / "new.csv").write_text(text(INPUTS, count=60, day=lambda v: days.pop(v, v)))
    done = run_trainer(tmp_path, "predict", str(run), "new.csv", "--on-error", "skip", "--proba", "none")
    lines = [int(row["line"]) for row in table_of(done.stdout)]
    assert lines == [line for line in range(2, 62) if line not in (4, 6)]
    left_out = [text for text in done.stderr.splitlines() if text.startswith("warning: left out:")]
    assert [("line 4" in left_out[0]), ("line 6" in left_out[1])] == [True, True]
    assert done.stderr.splitlines()[-1] == "60 samples: 58 predicted, 2 left out"
