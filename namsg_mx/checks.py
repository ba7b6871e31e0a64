"""Checks of numbers that users give: every error names the argument, its value and the range."""

import math
import numbers
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """The numbers from ``low`` to ``high``, each included or not. Numbers at most ``slack`` below it are ``low``."""

    low: float
    high: float
    includes_low: bool = True
    includes_high: bool = False
    slack: float = 0.0

    def __contains__(self, value):
        return ((self.low <= value if self.includes_low else self.low < value)
                and (value <= self.high if self.includes_high else value < self.high))

    def nearest(self, value):
        """``low`` if the value is below it by at most ``slack``, else the value."""
        return self.low if self.low - self.slack <= value < self.low else value

    def __str__(self):
        return f"{'[' if self.includes_low else '('}{self.low:g}, {self.high:g}{']' if self.includes_high else ')'}"


NONNEGATIVE = Interval(0, math.inf)
POSITIVE = Interval(0, math.inf, includes_low=False)
STEP_SIZE = Interval(0, math.inf, slack=1e-12)   # a program that subtracts may end at -2.8e-17 where it means 0
FINITE = Interval(-math.inf, math.inf, includes_low=False)
DECAY_RATE = Interval(0, 1)
NORMAL = Interval(float(np.finfo(np.float32).tiny), math.inf)   # a smaller number may be 0 in float32
EPSILON = NORMAL   # or the step is 0 / 0


def check_number(name, value, interval):
    """``value`` as a float; ValueError unless it is a number (not a bool, not NaN) in ``interval``.

    An array of one element is a number, too, NumPy's or `mxnet.np`'s: ``numpy.where``, in a schedule, returns one, and
    so does a mask's ``sum()``, by which a program may divide.
    """
    if type(value) is float and value in interval:   # as each update asks it, and the rest takes a microsecond
        return value
    value = item(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or interval.nearest(value) not in interval:
        raise ValueError(f"{name}={value!r}: must be a number in {interval}")
    try:
        return float(interval.nearest(value))
    except OverflowError as error:
        raise ValueError(f"{name}: has more than 300 digits") from error


def check_count(name, value, at_least=0):
    """``value`` as an int; ValueError unless it is an integer (not a bool), at least ``at_least``.

    It may be a float that is exactly an integer.
    """
    value = item(value)
    is_integer = isinstance(value, numbers.Integral) or isinstance(value, numbers.Real) and float(value).is_integer()
    if isinstance(value, bool) or not is_integer or value < at_least:
        raise ValueError(f"{name}={value!r}: must be an integer, at least {at_least}")
    return int(value)


def item(value):
    """The number in an array of one element, NumPy's or `mxnet.np`'s; anything else as it is."""
    return value.item() if getattr(value, "size", None) == 1 and hasattr(value, "item") else value


def is_mxnet_scheduler(schedule):
    """Whether this is one of MXNet's learning rate schedulers, or like them: they count updates from 1, ours from 0."""
    return callable(schedule) and hasattr(schedule, "base_lr")
