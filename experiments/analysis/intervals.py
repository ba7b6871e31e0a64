"""Means of independent differences, with their t intervals.

Two methods are compared by the differences between their runs with equal seeds, which have equal initial weights and
equal orders of examples.
"""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95


class ConfidenceInterval(NamedTuple):
    """The mean of ``n`` differences and its 95 % t interval: unbounded for one difference, NaN for none."""

    n: int
    mean: float
    low: float
    high: float


def log_ratio(values: pd.Series, others: pd.Series) -> pd.Series:
    """The logarithms of values / others; infinite or NaN where one is 0, as a loss may be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values / others)


def relative(logarithm: float) -> float:
    """The relative change that the logarithm of a ratio stands for; infinite beyond the largest float."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.expm1(logarithm))


def deviation(values: pd.Series) -> float:
    """The standard deviation of a sample; infinite beyond the largest float."""
    with np.errstate(over="ignore"):
        return values.std()


def interval(differences: Iterable[float]) -> ConfidenceInterval:
    """Student's t interval of the mean of independent differences; it ends in NaN if one of them is infinite."""
    values = np.fromiter(differences, dtype=float)
    n = len(values)
    if n == 0:
        return ConfidenceInterval(0, math.nan, math.nan, math.nan)
    if n == 1:
        return ConfidenceInterval(1, float(values[0]), -math.inf, math.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, half = values.mean(), quantile(n) * values.std(ddof=1) / math.sqrt(n)
        return ConfidenceInterval(n, float(mean), float(mean - half), float(mean + half))


def quantile(n: int) -> float:
    """Half the width of the t interval of n values, in standard errors of their mean."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
