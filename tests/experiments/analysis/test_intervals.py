"""Intervals, against SciPy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.intervals import interval


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(1, 2, 7)
    found = interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.n, found.mean) == (7, pytest.approx(values.mean()))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_by_hand():
    """Of 1, 2 and 6: mean 3, deviation sqrt((4 + 1 + 9) / 2) = 2.6458 over n - 1; t = 4.3027 for n - 1 = 2."""
    assert interval([1, 2, 6]) == pytest.approx((3, 3, 3 - 4.3027 * 2.6458 / 3**0.5, 3 + 4.3027 * 2.6458 / 3**0.5),
                                                rel=1e-4)


def test_the_interval_of_one_difference_is_unbounded_and_that_of_none_unknown():
    assert interval([0.5]) == (1, 0.5, -math.inf, math.inf)
    assert interval([]) == (0, pytest.approx(math.nan, nan_ok=True), *[pytest.approx(math.nan, nan_ok=True)] * 2)


def test_it_covers_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = [found.low <= 3 <= found.high for found in (interval(random.normal(3, 1, 5)) for _ in range(4000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
