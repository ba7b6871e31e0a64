"""Intervals and verdicts, against SciPy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.comparison import FAILS, HOLDS, NOT_RUN, TOO_FEW, Interval, above, all_of, below, interval, within


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(1, 2, 7)
    found = interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.n, found.mean) == (7, pytest.approx(values.mean()))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_difference_says_nothing_and_none_is_not_run():
    assert interval([0.5]) == (1, 0.5, -math.inf, math.inf)
    assert below(interval([0.5]), 0) == above(interval([0.5]), 0) == within(interval([0.5]), 1) == TOO_FEW
    assert below(interval([]), 0) == above(interval([]), 0) == within(interval([]), 1) == NOT_RUN


def test_it_covers_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = [found.low <= 3 <= found.high for found in (interval(random.normal(3, 1, 5)) for _ in range(4000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("low", "high", "verdicts"), [   # below 1, above 1, within 1
    (-0.5, 0.5, (HOLDS, FAILS, HOLDS)),
    (0.5, 1.5, (TOO_FEW, TOO_FEW, TOO_FEW)),
    (1.5, 2.5, (FAILS, HOLDS, FAILS)),
    (-2.5, -1.5, (HOLDS, FAILS, FAILS)),
    (-1.5, 1.5, (TOO_FEW, TOO_FEW, TOO_FEW)),
])
def test_a_verdict_needs_the_whole_interval(low, high, verdicts):
    found = Interval(5, (low + high) / 2, low, high)
    assert (below(found, 1), above(found, 1), within(found, 1)) == verdicts


@pytest.mark.parametrize(("verdicts", "together"), [
    ([HOLDS, HOLDS], HOLDS), ([HOLDS, TOO_FEW], TOO_FEW), ([TOO_FEW, NOT_RUN], NOT_RUN), ([NOT_RUN, FAILS], FAILS)])
def test_a_claim_of_several_holds_where_all_hold(verdicts, together):
    assert all_of(verdicts) == together
