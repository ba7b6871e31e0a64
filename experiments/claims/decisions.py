"""Verdicts: what an interval says of a claim, and what several say of a claim that is made of them.

A claim is decided where the whole 95 % interval of the mean difference lies on one side of the claim's limit: each
verdict errs once in forty times. Holm's p-values say which would stand if no verdict of all should err more often.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

from scipy import stats

from experiments.analysis.intervals import CONFIDENCE, ConfidenceInterval, quantile

HOLDS, PARTLY, FAILS, TOO_FEW, NOT_RUN = VERDICTS = (
    "holds", "in part", "does not hold", "n too small to say", "not run yet")
ERROR = (1 - CONFIDENCE) / 2   # how often an interval lies on the wrong side of a limit


class Decision(NamedTuple):
    """A verdict and its one-sided p-value.

    ``p`` is how probable so clear a difference is, at most, where the verdict is wrong; 1 where nothing is decided.
    """

    verdict: str
    p: float


def below(difference: ConfidenceInterval, limit: float) -> Decision:
    """Whether the mean difference is below the limit."""
    n, mean, low, high = difference
    if n == 0:
        return Decision(NOT_RUN, 1.0)
    if low <= limit <= high:
        return Decision(TOO_FEW, 1.0)
    error = (high - low) / 2 / quantile(n)
    p = float(stats.t.sf(abs(mean - limit) / error, n - 1)) if error else 0.0
    return Decision(HOLDS if high < limit else FAILS, p)


def above(difference: ConfidenceInterval, limit: float) -> Decision:
    """Whether the mean difference is above the limit."""
    n, mean, low, high = difference
    return below(ConfidenceInterval(n, -mean, -high, -low), -limit)


def within(difference: ConfidenceInterval, margin: float) -> Decision:
    """Whether the mean difference is between -margin and margin."""
    return all_of([below(difference, margin), above(difference, -margin)])


def all_of(decisions: Iterable[Decision]) -> Decision:
    """The decision on a claim that is made of several, all of which must hold.

    Such a claim holds by mistake no more often than each of them alone (intersection-union test). That one of k fails
    by mistake is up to k times as likely.
    """
    decisions = list(decisions)
    found = {decision.verdict for decision in decisions}
    verdict = next((verdict for verdict in (FAILS, NOT_RUN, TOO_FEW) if verdict in found), HOLDS)
    if verdict == HOLDS:
        return Decision(HOLDS, max(decision.p for decision in decisions))
    return Decision(verdict, _any(decisions, FAILS) if verdict == FAILS else 1.0)


def some_of(decisions: Iterable[Decision]) -> Decision:
    """The decision on a claim that does not say of which methods it speaks.

    It holds where it does for all of them, fails where it does for none, and holds in part between.
    """
    decisions = list(decisions)
    found = {decision.verdict for decision in decisions}
    if len(found) == 1:
        return Decision(*found, max(decision.p for decision in decisions))
    if {HOLDS, FAILS} <= found:
        return Decision(PARTLY, max(_any(decisions, HOLDS), _any(decisions, FAILS)))
    return Decision(NOT_RUN if NOT_RUN in found else TOO_FEW, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: those at most 0.025 may all be believed, and one of them is wrong once in forty times.

    (Holm 1979.) Of m values the smallest counts m times, the next m - 1 times, and none less than one before it.
    """
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _any(decisions: Sequence[Decision], verdict: str) -> float:
    """The p-value of 'some of them have this verdict', the one looked for among all (Bonferroni)."""
    return min(1.0, len(decisions) * min(decision.p for decision in decisions if decision.verdict == verdict))
