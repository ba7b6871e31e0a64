"""The step in MXNet's own array operations: runs on every device and dtype, slower than a fused kernel."""

import numbers
import sys

import numpy as np
from mxnet.context import cpu
from mxnet.ndarray import array as make_array
from mxnet.ndarray import broadcast_maximum, broadcast_minimum, cast, sqrt, where

from namsg_mx.kernels.projection import limits
from namsg_mx.kernels.sparse import rows_and_values


def unsupported(context, dtype):
    """None: this kernel runs on all devices and precisions."""


def bind(weights, grads, states, lazy_update):
    """See the package."""
    return BoundArrays(weights, grads, states, lazy_update)


class BoundArrays:
    """The arrays of a step."""

    def __init__(self, weights, grads, states, lazy_update):
        # npx.set_np()'s arrays by handles of the older kind, which the operators here take.
        self.arrays = [(weight.as_nd_ndarray(), grad.as_nd_ndarray(), [array.as_nd_ndarray() for array in state])
                       for weight, grad, state in zip(weights, grads, states)]
        self.lazy_update = lazy_update

    def rebind(self, grads):
        return False

    def step(self, scalars, coefficients, count, measure=False):
        """One step. With ``measure``, returns each array's `switch_sums`, or None if the array has no gradient rows."""
        columns = [[normal(each)] * len(self.arrays) if isinstance(each, numbers.Real) else map(normal, each)
                   for each in coefficients]
        scalars = scalars._replace(rescale_grad=normal(scalars.rescale_grad), beta1=normal(scalars.beta1),
                                   beta2=normal(scalars.beta2))
        # All the rows of this device are checked before anything moves.
        gradients = [rows_and_values(grad, self.lazy_update) for _, grad, _ in self.arrays]
        return [self._step_array(weight, *gradient, state, scalars, its_coefficients, count, measure)
                for (weight, _, state), gradient, its_coefficients in
                zip(self.arrays, gradients, map(coefficients._make, zip(*columns)))]

    def _step_array(self, weight, rows, grad, state, s, c, count, measure):
        """The element step on dense arrays of one precision: the master copy of halves, the rows of the gradient.

        ``s`` and ``c`` are `Scalars` and one array's `Coefficients`, by their names in step.h.
        """
        is_half = weight.dtype == np.float16
        if s.bounds is not None:
            s = s._replace(bounds=limits(s.bounds, weight.dtype))
        target, *moments = state[-1:] + state[:-1] if is_half else [weight, *state]
        if rows is not None and rows.size == 0:
            return None
        if is_half:
            grad = grad.astype(np.float32)
        arrays = [target, *moments] if rows is None else [array.take(rows) for array in (target, *moments)]
        update, divisor, nonfinite = _step(s, c, grad, *arrays)
        count += _total(nonfinite)
        if rows is not None:
            for array, values in zip((target, *moments), arrays):
                array[rows] = values
        if is_half:
            if rows is None:
                cast(target, dtype=np.float16, out=weight)
            else:
                weight[rows] = arrays[0].astype(np.float16)
        return switch_sums(update, divisor, nonfinite if s.skip_nonfinite else None) if measure else None


def _step(s, c, grad, weight, m, v=None, v_hat=None):
    """step.h's element step. Returns the update before division, its divisor, and 1 where the gradient is not finite.
    """
    wd, decay = (0, normal(c.lr * c.wd)) if s.decoupled_wd else (c.wd, 0)
    g = grad * s.rescale_grad
    # In place wherever possible: a new array costs as much as the operation.
    zeros = g * (0 if s.division == "none" else g)
    zeros *= 0
    nonfinite = zeros != 0
    skipped = nonfinite if s.skip_nonfinite else None
    g += wd * weight
    if s.clip_gradient is not None:
        g = _clip(g, -s.clip_gradient, s.clip_gradient)
    update, divisor = c.m_factor * m, None
    update += c.g_factor * g
    _average(m, s.beta1, (1 - s.beta1) * g, skipped)
    step = update
    if s.division != "none":
        square = (1 - s.beta2) * g
        square *= g
        _average(v, s.beta2, square, skipped)
        if s.division == "v_hat":
            if skipped is None:
                broadcast_maximum(v_hat, v, out=v_hat)
            else:
                _assign(v_hat, broadcast_maximum(v_hat, v), skipped)
        divisor = v_hat if s.division == "v_hat" else v
        divisor = sqrt(divisor if c.v_scale == 1 else c.v_scale * divisor)
        divisor += s.epsilon
        if s.divisor_limits is not None:
            divisor = _clip(divisor, *s.divisor_limits)
        step = update / divisor
    change = c.lr * step
    change += decay * weight
    if s.bounds is None and skipped is None:
        weight -= change
    else:
        moved = weight - change
        _assign(weight, moved if s.bounds is None else _clip(moved, *s.bounds), skipped)
    return update, divisor, nonfinite


def normal(number):
    """The number, or 0 for a subnormal one, which MXNet's operators refuse as a scalar."""
    return 0.0 if abs(number) < sys.float_info.min else number


def _average(array, rate, values, skipped):
    """``array = rate * array + values``, except where ``skipped``."""
    if skipped is None:
        array *= rate
        array += values
    else:
        _assign(array, rate * array + values, skipped)


def _clip(values, low, high):
    """step.h's clip, NaN and the signs of zeros included.

    MXNet's clip has float32 limits, whatever the values' dtype. And MXNet hands a number to an operator as decimal
    digits, which it reads back as a neighbouring float64.
    """
    low, high = (make_array(np.full((1,) * values.ndim, limit), cpu(), values.dtype).as_in_context(values.context)
                 if np.isfinite(limit) else None for limit in (low, high))
    values = values if high is None else broadcast_minimum(high, values)
    return values if low is None else broadcast_maximum(low, values)


def _total(ones):
    """The number of ones among zeros, as int64: in float32 a sum is exact up to 2**24."""
    return (ones if ones.size <= 2**24 else ones.astype(np.int64)).sum().astype(np.int64)


def _assign(array, values, skipped):
    """``array = values``, except where ``skipped``."""
    if skipped is None:
        values.copyto(array)
    else:
        where(skipped, array, values, out=array)


def switch_sums(update, divisor, skipped):
    """The sums of m_hat**2 / v_hat and m_hat**2 / sqrt(v_hat) over an array, as two NDArrays of one element.

    m_hat is NAMSG's update. Elements where ``skipped`` is 1 are left out; None: all count.
    """
    m_hat = update if skipped is None else where(skipped, update.zeros_like(), update)
    step = m_hat / divisor
    return (step * step).sum(), (m_hat * step).sum()
