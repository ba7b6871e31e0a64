"""Verdicts: what an interval says of a claim, what lost runs change, and how several decisions make one.

A claim is decided if the whole 95 % interval of the mean difference lies on one side of the claim's limit, so each
comparison is decided wrongly once in forty times at most.
"""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple, Sequence

from scipy import stats

from experiments.analysis.intervals import CONFIDENCE, ConfidenceInterval, quantile

HOLDS, PARTLY, FAILS, TOO_FEW, NOT_RUN = VERDICTS = (
    "holds", "in part", "does not hold", "n too small to say", "not run yet")
ROUNDING = 1e-12   # of differences between accuracies, or between logarithms of losses
ERROR = (1 - CONFIDENCE) / 2   # how often an interval lies on the wrong side of a limit


class Decision(NamedTuple):
    """A verdict, its one-sided p-value, and how many comparisons were made.

    ``p``: the probability, if the verdict is wrong, of a difference at least this clear; 1 if nothing is decided, None
    if a run that diverged decides, and no interval. ``made``: the comparisons by an interval of all their runs, each of
    which may err, whether it decides or not.
    """

    verdict: str
    p: float | None
    made: int = 0


def below(difference: ConfidenceInterval, limit: float) -> Decision:
    """The decision on 'the mean difference is below the limit'."""
    n, mean, low, high = difference
    if n == 0:
        return Decision(NOT_RUN, 1.0)
    # NaN: differences are infinite, as of a loss that is exactly 0. Of equal differences the spread is unknown.
    if low <= limit <= high or math.isnan(low) or high - low < ROUNDING:
        return Decision(TOO_FEW, 1.0, made=1)
    error = (high - low) / 2 / quantile(n)
    return Decision(HOLDS if high < limit else FAILS, float(stats.t.sf(abs(mean - limit) / error, n - 1)), made=1)


def above(difference: ConfidenceInterval, limit: float) -> Decision:
    """The decision on 'the mean difference is above the limit'."""
    n, mean, low, high = difference
    return below(ConfidenceInterval(n, -mean, -high, -low), -limit)


def within(difference: ConfidenceInterval, margin: float) -> Decision:
    """The decision on 'the mean difference is between -margin and margin': two comparisons."""
    return all_of([below(difference, margin), above(difference, -margin)])


def all_of(decisions: Iterable[Decision]) -> Decision:
    """The decision on a claim with several parts, all of which must hold.

    It holds by mistake no more often than each part alone (intersection-union test). It fails by mistake up to k times
    as often as each of its k parts.
    """
    decisions = list(decisions)
    found = {decision.verdict for decision in decisions}
    verdict = next((verdict for verdict in (FAILS, NOT_RUN, TOO_FEW) if verdict in found), HOLDS)
    if verdict == HOLDS:
        return Decision(HOLDS, _largest(decision.p for decision in decisions), _made(decisions))
    return Decision(verdict, _any(decisions, FAILS) if verdict == FAILS else 1.0, _made(decisions))


def some_of(decisions: Iterable[Decision]) -> Decision:
    """The decision on a claim that does not name its methods.

    It holds if it holds for all methods, fails if it fails for all, and else holds in part.
    """
    decisions = list(decisions)
    found = {decision.verdict for decision in decisions}
    if len(found) == 1:
        return Decision(found.pop(), _largest(decision.p for decision in decisions), _made(decisions))
    if {HOLDS, FAILS} <= found:
        return Decision(PARTLY, _largest([_any(decisions, HOLDS), _any(decisions, FAILS)]), _made(decisions))
    return Decision(NOT_RUN if NOT_RUN in found else TOO_FEW, 1.0, _made(decisions))


def decide(found: Decision, *, pairs: int, runs: int, seeds: int, diverged: int, left_out: int = 0) -> Decision:
    """The decision, given that runs may have diverged or be missing; ``found`` is the decision by the interval.

    ``pairs``: how many the interval is of. ``seeds``: how many runs each method will have. ``runs`` and ``diverged``:
    how many are complete, and how many diverged, of the method whose divergence fails the claim. ``left_out``: how many
    of the other one diverged.
    """
    if diverged:
        return Decision(FAILS, None)
    if left_out and not pairs:
        return Decision(TOO_FEW, 1.0)
    if runs == seeds and pairs + left_out == seeds:
        return found
    return Decision(NOT_RUN if found.verdict == NOT_RUN else TOO_FEW, 1.0)


def verdict_of(holds: bool) -> str:
    """The verdict on what is computed or counted, so that no interval decides."""
    return HOLDS if holds else FAILS


def _any(decisions: Sequence[Decision], verdict: str) -> float | None:
    """The p-value of 'at least one has this verdict' (Bonferroni); None if one has it without an interval."""
    alike = [decision for decision in decisions if decision.verdict == verdict]
    p_values = [decision.p for decision in alike if decision.p is not None]
    return min(1.0, len(decisions) * min(p_values)) if len(p_values) == len(alike) else None


def _made(decisions: Iterable[Decision]) -> int:
    return sum(decision.made for decision in decisions)


def _largest(p_values: Iterable[float | None]) -> float | None:
    """The p-value of verdicts that must all be right; None if all are without an interval."""
    return max((p for p in p_values if p is not None), default=None)
