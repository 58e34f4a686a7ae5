"""Student's t against SciPy, which is the oracle."""

import pytest
from scipy import stats

from trainer.sweeps.student import half_interval, paired_p, t_quantile, t_within


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 99])
def test_the_distribution_is_students(freedom: int) -> None:
    for t in (0.0, 0.3, 1.0, 2.776, 40.0):
        assert t_within(t, freedom) == pytest.approx(1 - 2 * stats.t.sf(t, freedom), abs=1e-13)
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_intervals_and_tests_are_scipys() -> None:
    scores = [0.91, 0.935, 0.9, 0.92]
    low, high = stats.t.interval(0.95, 3, loc=sum(scores) / 4, scale=stats.sem(scores))
    assert half_interval(scores) == pytest.approx((high - low) / 2)
    others = [0.9, 0.93, 0.905, 0.9]
    differences = [a - b for a, b in zip(scores, others, strict=True)]
    assert paired_p(differences) == pytest.approx(stats.ttest_rel(scores, others).pvalue)


def test_too_few_or_too_equal_scores_say_nothing() -> None:
    assert half_interval([0.9]) is None
    assert paired_p([0.1]) is None
    assert paired_p([0.4375 - 0.4125, 0.475 - 0.45]) is None, "they differ by rounding alone"
