"""Numbers as people write them."""

import numpy as np
import pyarrow as pa
import pytest

from trainer.data.table.written_numbers import PLAIN, STYLES, number_style, parse_numbers


@pytest.mark.parametrize(
    ("text", "style", "number"),
    [
        ("1,234.5", "1,234.5", 1234.5),
        ("7,019", "1,234.5", 7019),
        ("$1,477,158.00", "1,234.5", 1477158),
        ("-$5", "1,234.5", -5),
        ("$-5", "1,234.5", -5),
        ("(300)", "1,234.5", -300),
        ("17 %", "1,234.5", 17),
        ("12 EUR", "1,234.5", 12),
        ("1.5e-3", PLAIN, 0.0015),
        ("1.234,5", "1.234,5", 1234.5),
        ("0,81", "1.234,5", 0.81),
        ("€ 3,50", "1.234,5", 3.5),
        ("1 234,5", "1 234,5", 1234.5),
        ("1\u00a0234\u00a0567", "1 234,5", 1234567),
        ("1'234.5", "1'234.5", 1234.5),
    ],
)
def test_a_number_is_read_in_its_style(text: str, style: str, number: float) -> None:
    assert parse_numbers(pa.array([text]), style).tolist() == [number]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["", "12,34,56", "1,2345.6,7", "12 kg", "1.2.3", "--5", "1e999", "$", "%"])
def test_what_is_no_number_is_none_in_any_style(text: str, style: str) -> None:
    assert np.isnan(parse_numbers(pa.array([text]), style)).all()


def test_the_style_is_that_of_most_rows_and_of_the_file_where_two_fit() -> None:
    texts, counts = pa.array(["1,234", "2,345", "n/k"]), np.array([60.0, 38.0, 2.0])
    assert number_style(texts, counts, ".") == ("1,234.5", 0.98)
    assert number_style(texts, counts, ",") == ("1.234,5", 0.98), "where a comma is the decimal sign it is so here"
    assert number_style(pa.array(["0,81", "1,5"]), np.ones(2), ".") == ("1.234,5", 1.0)
    assert number_style(pa.array(["5", "x"]), np.ones(2), ".") == (PLAIN, 0.5)
