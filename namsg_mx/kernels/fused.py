"""What the fused kernels share: the numbers of a step as step.h takes them, and the names of a parameter's arrays."""

import ctypes

import numpy as np

from namsg_mx.kernels.projection import limits

DIVISIONS = {"none": 0, "v": 1, "v_hat": 2}
MEMBERS = ("weight", "grad", "m", "v", "v_hat", "master")   # a parameter's arrays, in the order of cpu.cc and cuda.cu


class StepScalars(ctypes.Structure):
    """namsg_scalars"""

    _fields_ = [(name, ctypes.c_float) for name in (
        "rescale_grad", "clip_gradient", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "epsilon", "low",
        "high", "divisor_low", "divisor_high")]


def step_scalars(scalars, dtype):
    """`Scalars` as `StepScalars`, for weights of this dtype."""
    clip = np.inf if scalars.clip_gradient is None else scalars.clip_gradient
    low, high = limits(scalars.bounds or (-np.inf, np.inf), dtype)
    return StepScalars(scalars.rescale_grad, clip, scalars.beta1, 1 - scalars.beta1, scalars.beta2, 1 - scalars.beta2,
                       scalars.epsilon, low, high, *scalars.divisor_limits or (0, np.inf))


def step_coefficients(coefficients, decoupled_wd):
    """`Coefficients` as namsg_coefficients: a float32 array with a row for each parameter."""
    lr, wd, m_factor, g_factor, v_scale = coefficients
    wd, decay = (0, np.multiply(lr, wd)) if decoupled_wd else (wd, 0)
    columns = (lr, wd, decay, m_factor, g_factor, v_scale)   # in the order of step.h
    rows = np.empty((len(lr), len(columns)), np.float32)
    for i, column in enumerate(columns):
        rows[:, i] = column
    return rows


def name_arrays(weight, grad, state):
    """A parameter's arrays by their names in `MEMBERS`, as far as its method has them."""
    names = MEMBERS[:2 + len(state)]
    if weight.dtype == np.float16:
        names = MEMBERS[:1 + len(state)] + MEMBERS[-1:]
    return dict(zip(names, [weight, grad, *state]))
