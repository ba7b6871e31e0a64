"""Checks of optimizer arguments: every error names the argument, its value and the range."""

import math
import numbers
import pickle
from typing import Iterable, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """The numbers from ``low``, included or not, to below ``high``."""

    low: float
    high: float
    includes_low: bool = True

    def __contains__(self, value):
        return (self.low <= value if self.includes_low else self.low < value) and value < self.high

    def __str__(self):
        return f"{'[' if self.includes_low else '('}{self.low:g}, {self.high:g})"


NONNEGATIVE = Interval(0, math.inf)
POSITIVE = Interval(0, math.inf, includes_low=False)
DECAY_RATE = Interval(0, 1)
EPSILON = Interval(float(np.finfo(np.float32).tiny), math.inf)   # below, float32 may hold 0, and 0 / 0 comes of it


def check_number(name, value, interval):
    """``value`` as a float; ValueError unless it is a number (not a bool, not NaN) in ``interval``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or value not in interval:
        raise ValueError(f"{name}={value!r}: must be a number in {interval}")
    return float(value)


def check_setting(name, value, interval):
    """A number in ``interval``, or a schedule, whose values are checked as they come (`value_at`)."""
    if not callable(value):
        return check_number(name, value, interval)
    try:
        pickle.dumps(value)
    except Exception as error:
        raise ValueError(f"{name}={value!r}: a schedule must be picklable, as save_states pickles the optimizer; "
                         "a lambda or a local function is not") from error
    return value


def value_at(name, setting, k, interval):
    """The value of a setting at update k; ValueError where a schedule leaves ``interval``."""
    return check_number(f"{name} at update {k}", setting(k), interval) if callable(setting) else setting


def check_flag(name, value):
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: must be True or False")
    return value


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}")
    return value


def check_bounds(bounds):
    """None, or (low, high) with low < high; either end may be infinite."""
    if bounds is None:
        return None
    pair = tuple(bounds) if isinstance(bounds, Iterable) else ()
    if len(pair) != 2 or not all(isinstance(bound, numbers.Real) for bound in pair) or not pair[0] < pair[1]:
        raise ValueError(f"bounds={bounds!r}: must be None or two numbers (low, high) with low < high")
    return float(pair[0]), float(pair[1])
