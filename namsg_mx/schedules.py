"""Schedules for the step size, beta1 and the observation distance: pure functions of the update number.

A schedule maps k to the value for update k. k counts updates from 0 (the paper's t is k + 1); if steps skip parameters,
those of the most-updated one. A schedule keeps no state, so that resuming a run needs none. Schedules of one type with
equal fields are equal. Any other picklable callable of k will do, too.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Callable, Iterable, Sequence, Union


@dataclass(frozen=True)
class ObservationDistance:
    """eta by the guideline of Section 3: linear from ``start`` to ``end`` over ``updates`` updates, then constant.

    The paper's experiments take ``ObservationDistance(updates_per_epoch)``.

    Parameters
    ----------
    updates : int
        Number of updates of the linear part, at least 1.
    start, end : float
        First and last value of eta, finite and at least 0; 0.9 and 3.0 in all of the paper's experiments.

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
        _require(_is_number(self.updates) and self.updates >= 1, "updates", self.updates, "at least 1")
        _require_value("start", self.start)
        _require_value("end", self.end)

    def __call__(self, k: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, k / self.updates)


@dataclass(frozen=True)
class InverseSquareRoot:
    """``initial`` / sqrt(t), t = k + 1: Theorem 1's step size.

    Example
    -------
    >>> [InverseSquareRoot(0.1)(k) for k in (0, 3, 99)]
    [0.1, 0.05, 0.01]
    """

    initial: float

    def __post_init__(self):
        _require_value("initial", self.initial)

    def __call__(self, k: int) -> float:
        return self.initial / math.sqrt(k + 1)


@dataclass(frozen=True)
class ExponentialDecay:
    """``initial`` * ``factor`` ** (t - 1), t = k + 1: Corollary 1's decay of beta1. ``factor`` is in (0, 1].

    Example
    -------
    >>> [ExponentialDecay(0.8, factor=0.5)(k) for k in (0, 1, 2)]
    [0.8, 0.4, 0.2]
    """

    initial: float
    factor: float

    def __post_init__(self):
        _require_value("initial", self.initial)
        _require(_is_number(self.factor) and 0 < self.factor <= 1, "factor", self.factor, "in (0, 1]")

    def __call__(self, k: int) -> float:
        # Never 0, where the observation distance has no meaning, and never too small for MXNet's operators.
        return self.initial * max(self.factor**k, 1e-300)


@dataclass(frozen=True)
class HarmonicDecay:
    """``initial`` / t, t = k + 1: a modest decay of beta1, which the paper names after Corollary 1.

    Example
    -------
    >>> [HarmonicDecay(0.9)(k) for k in (0, 1, 8)]
    [0.9, 0.45, 0.1]
    """

    initial: float

    def __post_init__(self):
        _require_value("initial", self.initial)

    def __call__(self, k: int) -> float:
        return self.initial / (k + 1)


@dataclass(frozen=True)
class StepDecay:
    """``initial``, multiplied by ``factor`` (in [0, inf)) at each update number in ``at``.

    The paper's CIFAR-10 runs take ``StepDecay(alpha, at=(12000,))``: k = 12000 is the first update with a smaller step.

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
        _require_value("initial", self.initial)
        _require(isinstance(self.at, Iterable), "at", self.at, "update numbers, at least 0, increasing")
        object.__setattr__(self, "at", tuple(self.at))   # YAML has lists
        _require(all(_is_number(boundary) and boundary >= 0 for boundary in self.at)
                 and list(self.at) == sorted(set(self.at)), "at", self.at, "update numbers, at least 0, increasing")
        _require_value("factor", self.factor)

    def __call__(self, k: int) -> float:
        return self.initial * self.factor ** sum(k >= boundary for boundary in self.at)


@dataclass(frozen=True)
class WarmUp:
    """Linear from ``start`` to ``target`` over the first ``updates`` updates, then ``target``.

    ``target`` is a number, or a schedule that is called with the same k.

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
        _require(_is_number(self.updates) and self.updates >= 1, "updates", self.updates, "at least 1")
        _require(not isinstance(self.target, type), "target", self.target, "a schedule, not its class")
        _require(not hasattr(self.target, "base_lr"), "target", self.target,
                 "a schedule of k; MXNet's schedulers count updates from 1")
        if not callable(self.target):
            _require_value("target", self.target)
        _require_value("start", self.start)

    def __call__(self, k: int) -> float:
        target = self.target(k) if callable(self.target) else self.target
        return self.start + (target - self.start) * min(1.0, k / self.updates)


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _require_value(name, value):
    _require(_is_number(value) and 0 <= value < math.inf, name, value, "in [0, inf)")


def _require(condition, name, value, allowed):
    if not condition:
        raise ValueError(f"{name}={value!r}: must be {allowed}")
