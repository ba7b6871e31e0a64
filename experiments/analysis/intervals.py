"""Means of independent differences, with their t intervals.

Two methods are compared by the differences between their runs with equal seeds, which have equal initial weights and
equal orders of examples.
"""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class ConfidenceInterval(NamedTuple):
    """The mean of ``n`` differences and its 95 % t interval: unbounded for one difference, NaN for none."""

    n: int
    mean: float
    low: float
    high: float


def interval(differences: Iterable[float]) -> ConfidenceInterval:
    """Student's t interval of the mean of independent differences."""
    values = np.fromiter(differences, dtype=float)
    n = len(values)
    if n == 0:
        return ConfidenceInterval(0, math.nan, math.nan, math.nan)
    if n == 1:
        return ConfidenceInterval(1, float(values[0]), -math.inf, math.inf)
    half = quantile(n) * values.std(ddof=1) / math.sqrt(n)
    return ConfidenceInterval(n, float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def quantile(n: int) -> float:
    """Half the width of the t interval of n values, in standard errors of their mean."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
