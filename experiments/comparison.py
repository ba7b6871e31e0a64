"""Differences over common seeds with their t intervals, and what they say of a claim.

Runs of two methods with one seed have the same initial weights and the same order of examples: they are compared in
pairs. A claim is decided where the whole 95 % interval of the mean difference lies on one side of the claim's limit.
"""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple

import numpy as np
from scipy import stats

HOLDS, FAILS, TOO_FEW, NOT_RUN = VERDICTS = "holds", "does not hold", "n too small to say", "not run yet"
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """The mean of ``n`` differences and its 95 % t interval: unbounded for one difference, NaN for none."""

    n: int
    mean: float
    low: float
    high: float


def interval(differences: Iterable[float]) -> Interval:
    """Student's t interval of the mean of independent differences."""
    values = np.fromiter(differences, dtype=float)
    n = len(values)
    if n == 0:
        return Interval(0, math.nan, math.nan, math.nan)
    if n == 1:
        return Interval(1, float(values[0]), -math.inf, math.inf)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Interval(n, float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def below(difference: Interval, limit: float) -> str:
    """The verdict on 'the mean difference is below the limit'."""
    if difference.n == 0:
        return NOT_RUN
    if difference.high < limit:
        return HOLDS
    return FAILS if difference.low > limit else TOO_FEW


def above(difference: Interval, limit: float) -> str:
    """The verdict on 'the mean difference is above the limit'."""
    n, mean, low, high = difference
    return below(Interval(n, -mean, -high, -low), -limit)


def within(difference: Interval, margin: float) -> str:
    """The verdict on 'the mean difference is between -margin and margin'."""
    return all_of([below(difference, margin), above(difference, -margin)])


def all_of(verdicts: Iterable[str]) -> str:
    """The verdict on a claim that is made of several, all of which must hold.

    Such a claim holds by mistake no more often than each of them alone (intersection-union test). That one of k fails
    by mistake is up to k times as likely.
    """
    found = set(verdicts)
    return next((verdict for verdict in (FAILS, NOT_RUN, TOO_FEW) if verdict in found), HOLDS)
