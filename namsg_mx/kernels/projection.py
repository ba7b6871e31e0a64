"""The box of the projection, in the precision of the weights."""

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=None)
def limits(bounds, dtype):
    """The smallest and the largest number of ``dtype`` in the box ``bounds``, as floats; ValueError if there is none.

    A float32 master copy between float16's limits is inside the box after rounding to its float16 weight, too.
    """
    number = np.dtype(dtype).type
    with np.errstate(over="ignore"):
        low, high = map(number, bounds)
    if float(low) < bounds[0]:
        low = np.nextafter(low, number(math.inf))
    if float(high) > bounds[1]:
        high = np.nextafter(high, number(-math.inf))
    if not low <= high or low == math.inf or high == -math.inf:
        raise ValueError(f"bounds={bounds!r}: there is no {number.__name__} number between them")
    return float(low), float(high)
