"""Transforms against their formulas in numpy: fitted on some values, applied to others."""

import datetime
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from trainer.config import registry
from trainer.config.transform import TransformConfig, chain, parse_transforms
from trainer.data.table.column_statistics import moments
from trainer.data.table.dates import date_parts
from trainer.data.table.transforms import build_transform
from trainer.errors import ConfigError

RNG = np.random.default_rng(0)
TRAIN = np.where(RNG.random(1001) < 0.1, np.nan, RNG.gamma(2.0, 30.0, 1001) - 20)
NEW = np.array([-500.0, -1.0, 0.0, 3.5, 1e4, np.nan])
KNOWN = TRAIN[~np.isnan(TRAIN)]


def applied(name: str, train: Any = TRAIN, new: Any = NEW, levels: int = 0, **keys: Any) -> list[np.ndarray]:
    """What a transform, fitted on some values, makes of others; its state goes through plain data on the way."""
    step = build_transform(chain([{"name": name, **keys}], "here")[0])
    state = step.fit(np.asarray(train), levels)
    result = step.apply(np.asarray(new), state)
    return result if isinstance(result, list) else [result]


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("none", {}, NEW),
        ("standardize", {}, (NEW - KNOWN.mean()) / KNOWN.std()),
        ("minmax", {}, (NEW - KNOWN.min()) / np.ptp(KNOWN)),
        ("robust", {}, (NEW - np.median(KNOWN)) / (np.quantile(KNOWN, 0.75) - np.quantile(KNOWN, 0.25))),
        ("log1p", {}, np.sign(NEW) * np.log(1 + np.abs(NEW))),
        ("clip", {"low": 0.1, "high": 0.8}, np.clip(NEW, np.quantile(KNOWN, 0.1), np.quantile(KNOWN, 0.8))),
        ("impute", {}, np.where(np.isnan(NEW), np.median(KNOWN), NEW)),
        ("impute", {"method": "mean"}, np.where(np.isnan(NEW), KNOWN.mean(), NEW)),
        ("impute", {"method": "constant", "value": -7}, np.where(np.isnan(NEW), -7, NEW)),
        ("missing_indicator", {}, np.isnan(NEW)),
    ],
)
def test_a_transform_is_its_formula(name: str, keys: dict[str, Any], expected: np.ndarray) -> None:
    (result,) = applied(name, **keys)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_the_most_frequent_value_is_imputed() -> None:
    (result,) = applied("impute", [1.0, 2, 2, 3, np.nan], method="most_frequent")
    assert result[-1] == 2


def test_the_moments_of_many_float32_lose_no_digits() -> None:
    values = (RNG.normal(size=200_000) * 1e-2 + 1000).astype(np.float32)
    mean, deviation = moments(values)
    assert mean == pytest.approx(values.astype(np.float64).mean(), rel=1e-13)
    assert deviation == pytest.approx(values.astype(np.float64).std(), rel=1e-9)
    assert float(values.std()) != pytest.approx(deviation, rel=1e-7), "float32 sums would not have done"


@pytest.mark.parametrize("name", ["standardize", "robust", "minmax"])
@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, -1e9])
def test_a_constant_column_is_only_centred(name: str, value: float) -> None:
    (result,) = applied(name, np.full(777, value), np.array([value, value + 2]))
    np.testing.assert_allclose(result, [0, 2], atol=1e-6)


def test_what_differs_by_rounding_alone_is_constant() -> None:
    (result,) = applied("standardize", [0.3, 0.1 + 0.2] * 50, [0.3, 2.3])
    np.testing.assert_allclose(result, [0, 2], atol=1e-12)


def test_quantiles_spread_the_training_values_evenly_or_normally() -> None:
    (uniform,) = applied("quantile", new=KNOWN, output="uniform")
    ranks = (np.argsort(np.argsort(KNOWN)) + 0.5) / len(KNOWN)
    np.testing.assert_allclose(uniform, ranks, atol=2e-3)
    (normal,) = applied("quantile", new=KNOWN)
    np.testing.assert_allclose(normal, [NormalDist().inv_cdf(rank) for rank in ranks], atol=0.35)
    assert abs(normal.mean()) < 1e-2 and abs(normal.std() - 1) < 1e-2
    (beyond,) = applied("quantile", output="uniform", quantiles=10)
    assert beyond[:2].min() == pytest.approx(0.05) and beyond[4] == pytest.approx(0.95) and np.isnan(beyond[5])


def test_a_value_that_many_rows_have_gets_the_middle_of_their_ranks() -> None:
    (result,) = applied("quantile", [0.0] * 50 + list(range(1, 51)), [0.0], output="uniform", quantiles=100)
    assert result[0] == pytest.approx(0.25, abs=0.01)


def test_an_indicator_needs_a_missing_value_in_training() -> None:
    assert applied("missing_indicator", [1.0, 2.0]) == []


def test_a_category_becomes_a_column_for_each_level_and_one_for_missing() -> None:
    codes = np.array([1.0, 2, 3, 4, 0])  # of three levels; missing is imputed as the fourth; 0 was not seen in training
    columns = applied("onehot", [1.0, 2.0, 3.0], codes, levels=3)
    np.testing.assert_array_equal(np.stack(columns), np.eye(5)[:4])
    assert applied("impute", [1.0, 2.0], [np.nan, 1.0], levels=2)[0].tolist() == [3.0, 1.0]


def test_a_date_becomes_what_varies_of_it() -> None:
    utc = datetime.UTC
    days = [
        datetime.datetime(2023, 12, 30, 6, tzinfo=utc),
        datetime.datetime(2024, 2, 29, 18, 30, tzinfo=utc),
        datetime.datetime(2024, 1, 1, tzinfo=utc),
    ]
    seconds = np.array([day.timestamp() for day in days])
    columns = applied("calendar", seconds, [*seconds, np.nan])
    wave = [(day.month - 1, 12, day.day - 1, 31, day.weekday(), 7, day.hour + day.minute / 60, 24) for day in days]
    expected = [(seconds - seconds.min()) / 86400, np.array([2023.0, 2024.0, 2024.0])]
    for part in range(0, 8, 2):
        angle = np.array([2 * math.pi * row[part] / row[part + 1] for row in wave])
        expected += [np.sin(angle), np.cos(angle)]
    np.testing.assert_allclose([column[:3] for column in columns], expected, atol=1e-12)
    assert np.isnan([column[3] for column in columns]).all()
    whole_days = np.floor(seconds / 86400)[1:] * 86400
    assert len(applied("calendar", whole_days, whole_days)) == 1 + 3 * 2, "one year, no hours"


def test_dates_before_1970_count_backwards() -> None:
    moment = datetime.datetime(1969, 7, 20, 20, 17, tzinfo=datetime.UTC).timestamp()
    parts = date_parts(np.array([moment]), 0.0)
    assert (parts["year"][0], parts["month"][0], parts["day"][0], parts["weekday"][0]) == (1969, 6, 19, 6)
    assert parts["hour"][0] == pytest.approx(20 + 17 / 60)


def test_float32_stays_float32() -> None:
    values = np.array([1, 2, np.nan, 4], dtype=np.float32)
    for name in ("impute", "standardize", "robust", "minmax", "log1p", "clip", "none", "missing_indicator"):
        assert all(column.dtype == np.float32 for column in applied(name, values, values)), name


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["standardise"], "data.transforms.x: no transform 'standardise'. Did you mean 'standardize'?"),
        (
            [{"name": "clip", "lo": 1}],
            "data.transforms.x: clip has no key 'lo'. Did you mean 'low'? Its keys: low, high.",
        ),
        ([{"low": 1}], "does not say which transform"),
        ([{"name": "clip", "low": 2}], "data.transforms: clip.low=2.0: must be >= 0, < 1."),
        ([{"name": "clip", "low": 0.9, "high": 0.1}], "clip.low=0.9 must be less than clip.high=0.1"),
        ([{"name": "impute", "method": "medain"}], "Did you mean 'median'?"),
        ([], "expected a list of transforms"),
        (3, "expected a list of transforms"),
        ([None], "no transform 'None'"),
        ([{"name": "standardize", "a": 1}], "standardize has no key 'a'. It has no keys."),
    ],
)
def test_a_chain_that_is_none_is_refused(entries: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_transforms({"x": entries})
    assert words in str(caught.value)


def test_one_name_is_a_chain_of_one() -> None:
    assert [one.option for one in parse_transforms({"x": "robust"})["x"]] == ["robust"]


@pytest.mark.parametrize("name", registry.names("transform"))
def test_every_transform_has_a_doc_for_itself_and_its_keys(name: str) -> None:
    component = registry.lookup("transform", name)
    assert issubclass(component, TransformConfig)
    assert component.__doc__ and not component.__doc__.startswith(f"{component.__name__}(")
    assert all(len(about.doc) > 5 for _, _, about in component.keys().values())
