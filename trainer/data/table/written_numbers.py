"""Numbers as people write them: 1,234.50, 1.234,50, $1,200, 17 %, (300)."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.data.table.arrow_types import NUMBER

# The sign between thousands and the decimal sign, by the way in which 1234.5 is written.
STYLES = {
    "1,234.5": ("[,]", "."),
    "1.234,5": ("[.]", ","),
    "1 234,5": ("[ \u00a0\u202f]", ","),
    "1'234.5": ("['’]", "."),
}
SAMPLE = 100  # texts of which one at least must be a number for a style to be tried on all
PLAIN = ""  # the style of numbers as Python writes them
_CURRENCY = r"(?:[$€£¥₹₽₩]|US\$|USD|EUR|GBP|CHF|JPY|INR|kr\.?|Rs\.?)"
Floats = NDArray[np.float64]


def parse_numbers(texts: pa.Array, style: str) -> Floats:
    """Parse numbers, float64 (N,); NaN for what is none, and for what is not finite.

    Signs of currency and of per cent are passed over, and a number in brackets is negative, as accountants write it.

    Args:
        texts: as they are written.
        style: one of `STYLES`, or `PLAIN`.
    """
    if style == PLAIN:
        plain = pc.if_else(pc.match_substring_regex(texts, NUMBER), texts, None)
        values = np.asarray(pc.fill_null(plain.cast(pa.float64()), float("nan")))
        return np.where(np.isfinite(values), values, np.nan)
    found = pc.extract_regex(pc.utf8_trim_whitespace(texts), _pattern(style))
    fits = np.asarray(pc.fill_null(pc.is_valid(found), False))
    numbers = np.full(len(texts), np.nan)
    if not fits.any():
        return numbers
    chosen = found.filter(pa.array(fits))
    thousands, decimal = STYLES[style]
    digits = pc.replace_substring_regex(chosen.field("number"), thousands, "")
    values = np.asarray(pc.replace_substring(digits, decimal, ".").cast(pa.float64()))
    signs = [np.asarray(pc.not_equal(chosen.field(name), "")) for name in ("opened", "closed", "sign", "after")]
    opened, closed, sign, after = signs
    minus = [np.asarray(pc.is_in(chosen.field(name), value_set=pa.array(["-", "−"]))) for name in ("sign", "after")]
    wrong = (opened != closed) | (sign & after) | (opened & (sign | after))
    numbers[fits] = np.where(wrong, np.nan, np.where(opened | minus[0] | minus[1], -values, values))
    return np.where(np.isfinite(numbers), numbers, np.nan)


def number_style(texts: pa.Array, counts: Floats, decimal: str) -> tuple[str, float]:
    """Find the style in which most texts are numbers, `PLAIN` where that is one, and their share.

    Args:
        texts: distinct texts.
        counts: how often each of them occurs.
        decimal: the decimal sign of the file, which decides where 1,234 could be either.
    """
    styles = [style for style, (_, sign) in STYLES.items() if sign == decimal]
    styles = [*styles, *(style for style in STYLES if style not in styles)]
    styles.insert(0 if decimal == "." else 2, PLAIN)
    tried = texts[:: -(-len(texts) // SAMPLE) or 1]
    likely = [style for style in styles if not np.isnan(parse_numbers(tried, style)).all()]
    found = [float(counts @ ~np.isnan(parse_numbers(texts, style)) / counts.sum()) for style in likely]
    if not found:
        return PLAIN, 0.0
    best = int(np.argmax(found))
    return likely[best], found[best]


def _pattern(style: str) -> str:
    thousands, decimal = STYLES[style]
    mark = f"[{decimal}]"
    number = rf"(?:[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+|[0-9]+)(?:{mark}[0-9]*)?|{mark}[0-9]+"
    before = rf"(?P<opened>\(?)\s*(?P<sign>[+\-−]?)\s*{_CURRENCY}?\s*(?P<after>[+\-−]?)"
    return rf"^{before}(?P<number>(?:{number})(?:[eE][+-]?[0-9]+)?)\s*(?:%|‰|{_CURRENCY})?\s*(?P<closed>\)?)$"
