"""What an interval decides, and how several decisions make one: against SciPy, by hand, and by how often it errs."""

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.intervals import ConfidenceInterval, interval
from experiments.claims.decisions import (
    ERROR,
    FAILS,
    HOLDS,
    NOT_RUN,
    PARTLY,
    TOO_FEW,
    Decision,
    above,
    all_of,
    below,
    decide,
    some_of,
    within,
)


def test_one_difference_says_nothing_and_none_is_not_run():
    assert below(interval([0.5]), 0) == above(interval([0.5]), 0) == (TOO_FEW, 1, 1)
    assert within(interval([0.5]), 1) == (TOO_FEW, 1, 2)
    assert below(interval([]), 0) == above(interval([]), 0) == within(interval([]), 1) == (NOT_RUN, 1, 0)


def test_equal_differences_say_nothing_of_their_spread():
    """As of accuracies, which are multiples of 0.0001: their differences are equal but for rounding."""
    accuracies = np.array([0.9812, 0.9813, 0.981, 0.9815, 0.9811])
    for differences in ([-1e-4] * 2, [0.1] * 3, (accuracies - 1e-4).round(4) - accuracies):
        for relation in (below, above, within):
            assert relation(interval(differences), 0).verdict == TOO_FEW
    assert below(interval((accuracies - [1e-4, 2e-4, 1e-4, 1e-4, 1e-4]).round(4) - accuracies), 0).verdict == HOLDS


def test_the_p_value_is_that_of_the_one_sided_t_test():
    values = np.random.default_rng(0).normal(1, 0.2, 7)
    for limit, relation, verdict, alternative in ((1.5, below, HOLDS, "less"), (0.5, below, FAILS, "greater"),
                                                  (0.5, above, HOLDS, "greater"), (1.5, above, FAILS, "less")):
        expected = stats.ttest_1samp(values, limit, alternative=alternative).pvalue
        assert relation(interval(values), limit) == (verdict, pytest.approx(expected), 1)


def test_an_interval_decides_where_the_p_value_is_below_one_fortieth():
    assert pytest.approx(1 / 40) == ERROR
    values = np.random.default_rng(3).normal(1, 0.2, 5)
    for limit in np.linspace(0.5, 1.5, 101):
        verdict, p, _ = below(interval(values), limit)
        smaller = min(stats.ttest_1samp(values, limit, alternative=side).pvalue for side in ("less", "greater"))
        assert (verdict != TOO_FEW) == (smaller < ERROR) == (p < ERROR)


def test_the_p_value_of_an_equivalence_is_that_of_its_weaker_side():
    values = np.random.default_rng(0).normal(0.2, 0.1, 7)
    assert within(interval(values), 0.5) == (HOLDS, pytest.approx(
        stats.ttest_1samp(values, 0.5, alternative="less").pvalue), 2)
    assert within(interval(values), 0.05) == (FAILS, pytest.approx(
        2 * stats.ttest_1samp(values, 0.05, alternative="greater").pvalue), 2)


@pytest.mark.parametrize(("low", "high", "verdicts"), [   # below 1, above 1, within 1
    (-0.5, 0.5, (HOLDS, FAILS, HOLDS)),
    (0.5, 1.5, (TOO_FEW, TOO_FEW, TOO_FEW)),
    (1.5, 2.5, (FAILS, HOLDS, FAILS)),
    (-2.5, -1.5, (HOLDS, FAILS, FAILS)),
    (-1.5, 1.5, (TOO_FEW, TOO_FEW, TOO_FEW)),
])
def test_a_verdict_needs_the_whole_interval(low, high, verdicts):
    found = ConfidenceInterval(5, (low + high) / 2, low, high)
    assert tuple(relation(found, 1).verdict for relation in (below, above, within)) == verdicts


@pytest.mark.parametrize(("decisions", "together"), [
    ([(HOLDS, 0.01), (HOLDS, 0.02)], (HOLDS, 0.02)), ([(HOLDS, 0.01), (TOO_FEW, 1)], (TOO_FEW, 1)),
    ([(TOO_FEW, 1), (NOT_RUN, 1)], (NOT_RUN, 1)), ([(NOT_RUN, 1), (FAILS, 0.01), (FAILS, 0.02)], (FAILS, 0.03))])
def test_a_claim_of_several_holds_where_all_hold(decisions, together):
    """What fails is the clearest of them, looked for among all."""
    assert all_of(Decision(*decision, made=2) for decision in decisions) == pytest.approx(
        (*together, 2 * len(decisions)))


def test_what_a_divergence_decides_has_no_p_value():
    """Nor has a claim that fails by one, whatever intervals say of its other parts."""
    failed, held = Decision(FAILS, 0.01, made=1), Decision(HOLDS, 0.02, made=1)
    diverged = decide(held, pairs=4, runs=5, seeds=5, diverged=1)
    assert diverged == (FAILS, None, 0)
    assert all_of([diverged, failed, held]) == (FAILS, None, 2)
    assert some_of([diverged, diverged]) == (FAILS, None, 0)
    assert some_of([diverged, failed]) == (FAILS, 0.01, 1)        # both must fail: the interval's may be wrong
    assert some_of([diverged, held]) == (PARTLY, 0.04, 1)


@pytest.mark.parametrize(("decisions", "together"), [
    ([(HOLDS, 0.01), (HOLDS, 0.02)], (HOLDS, 0.02)), ([(FAILS, 0.01), (FAILS, 0.02)], (FAILS, 0.02)),
    ([(HOLDS, 0.001), (HOLDS, 0.02), (FAILS, 0.01)], (PARTLY, 0.03)),
    ([(HOLDS, 0.01), (FAILS, 0.01), (NOT_RUN, 1), (TOO_FEW, 1)], (PARTLY, 0.04)),
    ([(HOLDS, 0.01), (TOO_FEW, 1)], (TOO_FEW, 1)), ([(FAILS, 0.01), (TOO_FEW, 1), (NOT_RUN, 1)], (NOT_RUN, 1))])
def test_a_claim_that_names_no_method_holds_in_part_where_some_do_and_others_do_not(decisions, together):
    assert some_of(Decision(*decision, made=2) for decision in decisions) == pytest.approx(
        (*together, 2 * len(decisions)))
