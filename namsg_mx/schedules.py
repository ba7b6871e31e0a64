"""Schedules for the step size, beta1 and the observation distance: pure functions of the update number.

A schedule maps k to the value for update k. k is the number of updates made before this one; the paper's t is k + 1. If
some steps skip parameters, k + 1 is the count of the parameter updated most often. A schedule keeps no state, so that
resuming a run needs none. Schedules of one type with equal fields are equal. Any other picklable callable of k will do,
too.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterable, Sequence, Union

from namsg_mx.checks import NONNEGATIVE, Interval, check_count, check_number, is_mxnet_scheduler


def _keep(schedule, name, value):
    """Set a field of a frozen schedule to its checked value, which no caller's array or list can change."""
    object.__setattr__(schedule, name, value)


def _check_numbers(schedule, **intervals):
    """Check these fields of a schedule, each by its `Interval`."""
    for name, interval in intervals.items():
        _keep(schedule, name, check_number(name, getattr(schedule, name), interval))


def _check_updates(schedule):
    _keep(schedule, "updates", check_count("updates", schedule.updates, at_least=1))


def _ramp(start, end, k, updates):
    """Linear from ``start`` to ``end`` over the first ``updates`` updates, then ``end``, to the bit."""
    return end if k >= updates else start + (end - start) * (k / updates)


@dataclass(frozen=True)
class ObservationDistance:
    """eta by the guideline of Section 3: linear from ``start`` to ``end`` over ``updates`` updates, then constant.

    The paper's experiments take ``ObservationDistance(updates_per_epoch)``.

    Parameters
    ----------
    updates : int
        Number of updates of the linear part, at least 1.
    start, end : float
        First and last value of eta, in [0, inf); 0.9 and 3.0 in all of the paper's experiments.

    Raises
    ------
    ValueError
        If an argument is out of range: with its name, its value and the range.

    Example
    -------
    >>> eta = ObservationDistance(updates=100)
    >>> eta(0), eta(25), eta(100), eta(10_000)
    (0.9, 1.425, 3.0, 3.0)
    """

    updates: int
    start: float = 0.9
    end: float = 3.0

    def __post_init__(self):
        _check_updates(self)
        _check_numbers(self, start=NONNEGATIVE, end=NONNEGATIVE)

    def __call__(self, k: int) -> float:
        return _ramp(self.start, self.end, k, self.updates)


@dataclass(frozen=True)
class InverseSquareRoot:
    """``initial`` / sqrt(t), t = k + 1: Theorem 1's step size.

    Parameters
    ----------
    initial : float
        The value at k = 0, in [0, inf): Theorem 1's alpha.

    Raises
    ------
    ValueError
        If ``initial`` is out of range.

    Example
    -------
    >>> [InverseSquareRoot(0.1)(k) for k in (0, 3, 99)]
    [0.1, 0.05, 0.01]
    """

    initial: float

    def __post_init__(self):
        _check_numbers(self, initial=NONNEGATIVE)

    def __call__(self, k: int) -> float:
        return self.initial / math.sqrt(k + 1)


@dataclass(frozen=True)
class ExponentialDecay:
    """``initial`` * ``factor`` ** (t - 1), t = k + 1: Corollary 1's decay of beta1.

    ``factor`` ** (t - 1) stays at 1e-300 where it would be smaller.

    Parameters
    ----------
    initial : float
        The value at k = 0, in [0, inf); below 1 as beta1.
    factor : float
        Corollary 1's lambda, in (0, 1].

    Raises
    ------
    ValueError
        If an argument is out of range.

    Example
    -------
    >>> [ExponentialDecay(0.8, factor=0.5)(k) for k in (0, 1, 2)]
    [0.8, 0.4, 0.2]
    """

    initial: float
    factor: float

    def __post_init__(self):
        _check_numbers(self, initial=NONNEGATIVE, factor=Interval(0, 1, includes_low=False, includes_high=True))

    def __call__(self, k: int) -> float:
        # Bounded below: at a beta1 of 0 eta would have no meaning.
        return self.initial * max(self.factor**k, 1e-300)


@dataclass(frozen=True)
class HarmonicDecay:
    """``initial`` / t, t = k + 1: a modest decay of beta1, which the paper mentions after Corollary 1.

    Parameters
    ----------
    initial : float
        The value at k = 0, in [0, inf); below 1 as beta1.

    Raises
    ------
    ValueError
        If ``initial`` is out of range.

    Example
    -------
    >>> [HarmonicDecay(0.9)(k) for k in (0, 1, 8)]
    [0.9, 0.45, 0.1]
    """

    initial: float

    def __post_init__(self):
        _check_numbers(self, initial=NONNEGATIVE)

    def __call__(self, k: int) -> float:
        return self.initial / (k + 1)


@dataclass(frozen=True)
class StepDecay:
    """``initial``, multiplied by ``factor`` at each update number in ``at``.

    The paper's CIFAR-10 runs take ``StepDecay(alpha, at=(12000,))``: k = 12000 is the first update with a smaller step
    (Section 5.2).

    Parameters
    ----------
    initial : float
        The value before the first number in ``at``, in [0, inf).
    at : sequence of int
        Increasing update numbers k, each at least 0.
    factor : float
        In [0, inf).

    Raises
    ------
    ValueError
        If an argument is out of range, ``at`` does not increase, or a power of ``factor`` overflows.

    Example
    -------
    >>> alpha = StepDecay(0.5, at=(12000, 15000), factor=0.5)
    >>> alpha(11999), alpha(12000), alpha(15000)
    (0.5, 0.25, 0.125)
    """

    initial: float
    at: Sequence[int]
    factor: float = 0.1

    def __post_init__(self):
        _check_numbers(self, initial=NONNEGATIVE)
        if not isinstance(self.at, Iterable) or not getattr(self.at, "ndim", 1):   # an array of no dimension
            raise ValueError(f"at={self.at!r}: must be a sequence of update numbers")
        _keep(self, "at", tuple(check_count("at", boundary) for boundary in self.at))   # YAML has lists
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at={self.at!r}: must be increasing")
        _check_numbers(self, factor=NONNEGATIVE)
        try:
            self.factor ** len(self.at)
        except OverflowError:
            raise ValueError(f"factor={self.factor!r}: too large for {len(self.at)} numbers in at") from None

    def __call__(self, k: int) -> float:
        return self.initial * self.factor ** sum(k >= boundary for boundary in self.at)


@dataclass(frozen=True)
class WarmUp:
    """Linear from ``start`` to ``target`` over the first ``updates`` updates, then ``target``.

    It is not from the paper.

    Parameters
    ----------
    target : float or schedule
        A number in [0, inf), or a schedule, which is called with the same k.
    updates : int
        Number of updates of the linear part, at least 1.
    start : float
        The value at k = 0, in [0, inf).

    Raises
    ------
    ValueError
        If an argument is out of range. Also if ``target`` is a class or one of MXNet's schedulers, which count updates
        from 1.

    Example
    -------
    >>> alpha = WarmUp(StepDecay(0.4, at=(1000,)), updates=100)
    >>> alpha(0), alpha(50), alpha(100), alpha(1000)
    (0.0, 0.2, 0.4, 0.04000000000000001)
    """

    target: Union[float, Callable[[int], float]]
    updates: int
    start: float = 0.0

    def __post_init__(self):
        _check_updates(self)
        if isinstance(self.target, type) or is_mxnet_scheduler(self.target):
            raise ValueError(f"target={self.target!r}: must be a number or a schedule of k, not a class, nor one of "
                             "MXNet's schedulers, which count updates from 1")
        if not callable(self.target):
            _check_numbers(self, target=NONNEGATIVE)
        _check_numbers(self, start=NONNEGATIVE)

    def __call__(self, k: int) -> float:
        target = self.target(k) if callable(self.target) else self.target
        return _ramp(self.start, target, k, self.updates)
