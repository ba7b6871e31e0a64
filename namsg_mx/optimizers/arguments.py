"""Checks of optimizer arguments: every error names the argument, its value and the range."""

import math
import numbers
import pickle
from inspect import signature
from typing import Callable, Iterable, Union

import numpy as np

from namsg_mx.checks import FINITE, Interval, check_number, is_mxnet_scheduler, item

ScalarOrSchedule = Union[float, Callable[[int], float]]   # a number, or a schedule of the update number k


def check_setting(name, value, interval):
    """A number in ``interval``, or a schedule. Its first value is checked at once, later ones by `value_at`."""
    if not callable(value):
        return check_number(name, value, interval)
    if isinstance(value, type):
        raise ValueError(f"{name}={value!r}: is a class; give an instance, {value.__name__}(...)")
    if is_mxnet_scheduler(value):
        raise ValueError(f"{name}={value!r}: has a base_lr: MXNet's schedulers are given as lr_scheduler")
    try:
        pickle.dumps(value)
    except Exception as error:
        raise ValueError(f"{name}={value!r}: a schedule must be picklable, unlike a lambda or a local function: "
                         "save_states pickles the optimizer") from error
    value_at(name, value, 0, interval)
    return value


def value_at(name, setting, k, interval):
    """The value of a setting at update k; ValueError if it is outside ``interval``: a program may assign any."""
    if callable(setting):
        return check_number(f"{name}({k})", setting(k), interval)
    return check_number(name, setting, interval)


def check_scheduler(value):
    """ValueError unless this is a scheduler of MXNet's kind, which counts updates from 1."""
    if not is_mxnet_scheduler(value):
        raise ValueError(f"lr_scheduler={value!r}: must be an mxnet.lr_scheduler.LRScheduler, or a callable with a "
                         "base_lr; other schedules are given as learning_rate, or later by set_learning_rate")


def check_flag(name, value):
    """A bool, or 0 or 1 for it, as many programs pass to MXNet's Adam."""
    if not (isinstance(value, (bool, np.bool_)) or isinstance(value, numbers.Integral) and value in (0, 1)):
        raise ValueError(f"{name}={value!r}: must be True or False")
    return bool(value)


def check_choice(name, value, choices):
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}")
    return value


def check_no_distance(optimizer_name, given, instead):
    """Take eta and mu out of the dict ``given``; ValueError if one of them has a value, not None."""
    for name in ("eta", "mu"):
        value = given.pop(name, None)
        if value is not None:
            raise ValueError(f"{name}={value!r}: {optimizer_name} has none; use {instead}")


def check_clip(value):
    """None or a number. Infinity clips nothing, and as in MXNet neither do 0 and below."""
    value = item(value)
    if value is None or (isinstance(value, numbers.Real) and value in (math.inf, -math.inf)):
        return value
    return check_number("clip_gradient", value, FINITE)


def check_bounds(bounds):
    """None, or (low, high) with low < high; either end may be infinite."""
    if bounds is None:
        return None
    pair = tuple(map(item, bounds)) if isinstance(bounds, Iterable) and getattr(bounds, "ndim", 1) else ()
    if len(pair) != 2 or not all(isinstance(bound, numbers.Real) for bound in pair) or not pair[0] < pair[1]:
        raise ValueError(f"bounds={bounds!r}: must be None or two numbers (low, high) with low < high")
    return tuple(check_number("bounds", bound, Interval(-math.inf, math.inf, includes_high=True)) for bound in pair)


# Names that PyTorch, Keras and MXNet's other optimizers use: our arguments for them.
MEANT = {"lr": ("learning_rate",), "betas": ("beta1", "beta2"), "beta_1": ("beta1",), "beta_2": ("beta2",),
         "momentum": ("beta1",), "eps": ("epsilon",), "weight_decay": ("wd",), "clipvalue": ("clip_gradient",)}


def check_names(optimizer, given):
    """TypeError if a name in ``given`` is no argument of this class or of its bases."""
    known = {name for base in optimizer.__mro__ for name in signature(base.__init__).parameters}
    for name in given:
        if name not in known:
            meant = " and ".join(each for each in MEANT.get(name, ()) if each in known)
            says = f"; here that is {meant}" if meant else ""
            raise TypeError(f"{optimizer.__name__} has no argument {name!r}{says}")
