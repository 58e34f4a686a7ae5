"""Student's t: how sure a mean over few repetitions is, and whether two settings differ.

Exact for whole degrees of freedom, by the finite series of Abramowitz and Stegun, Handbook of Mathematical Functions,
26.7.3 and 26.7.4.
"""

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95  # of the interval


def t_within(t: float, freedom: int) -> float:
    """Return the probability that |T| <= t, for T with Student's distribution of so many degrees of freedom."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
    return sine * total


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return t with P(|T| <= t) = level, to 12 digits."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < level:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < level else (low, middle)
    return high


def half_interval(scores: Sequence[float]) -> float | None:
    """Return how far the 95 % interval of a mean reaches to either side; None for fewer than two scores."""
    if len(scores) < 2:
        return None
    return t_quantile(len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))


def paired_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of a paired t-test; None for fewer than two pairs, or no spread."""
    if len(differences) < 2:
        return None
    spread = statistics.stdev(differences)
    if spread <= 1e-9 * max(map(abs, differences)):  # equal, but for rounding
        return None
    t = statistics.fmean(differences) / (spread / math.sqrt(len(differences)))
    return max(0.0, 1 - t_within(t, len(differences) - 1))
