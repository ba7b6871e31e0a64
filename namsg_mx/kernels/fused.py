"""What the fused kernels share: step.h's numbers, and the memory of the arrays that one engine operation takes."""

import ctypes
from collections import Counter
from functools import lru_cache
from math import prod

import numpy as np
from mxnet.base import _LIB, MXNetError, check_call
from mxnet.context import cpu
from mxnet.ndarray import NDArray, ones

from namsg_mx.kernels.projection import limits

COEFFICIENTS = ("lr", "wd", "decay", "m_factor", "g_factor", "v_scale")   # namsg_coefficients of step.h
DIVISIONS = {"none": 0, "v": 1, "v_hat": 2}
MEMBERS = ("weight", "grad", "m", "v", "v_hat", "master")   # a parameter's arrays, in the order of cpu.cc and cuda.cu


class StepScalars(ctypes.Structure):
    """namsg_scalars"""

    _fields_ = [(name, ctypes.c_float) for name in (
        "rescale_grad", "clip_gradient", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "epsilon", "low",
        "high", "divisor_low", "divisor_high")]


def step_scalars(scalars, dtype):
    """The `StepScalars` of the package's Scalars, for weights of this dtype."""
    clip = np.inf if scalars.clip_gradient is None else scalars.clip_gradient
    low, high = limits(scalars.bounds or (-np.inf, np.inf), dtype)
    return StepScalars(scalars.rescale_grad, clip, scalars.beta1, 1 - scalars.beta1, scalars.beta2, 1 - scalars.beta2,
                       scalars.epsilon, low, high, *scalars.divisor_limits or (0, np.inf))


def step_coefficients(coefficients, decoupled_wd):
    """The namsg_coefficients of the package's Coefficients: a float32 array with a row for each parameter."""
    rows = np.empty((len(coefficients.lr), len(COEFFICIENTS)), np.float32)
    columns = dict(zip(COEFFICIENTS, rows.T))
    for name, values in coefficients._asdict().items():
        columns[name][:] = values
    columns["decay"][:] = 0
    if decoupled_wd:
        columns["decay"][:] = np.multiply(coefficients.lr, coefficients.wd)
        columns["wd"][:] = 0
    return rows


def name_arrays(weight, grad, state):
    """A parameter's arrays by their names in `MEMBERS`, those that its method has."""
    names = MEMBERS[:2 + len(state)]
    if weight.dtype == np.float16:
        names = MEMBERS[:1 + len(state)] + MEMBERS[-1:]
    return dict(zip(names, [weight, grad, *state]))


@lru_cache(maxsize=None)
def unknown_mxnet():
    """None, or why this MXNet's arrays are not known well enough: what `chunk` reads is no part of its interface."""
    array = ones((1,), cpu())
    array.wait_to_read()
    address = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    place = chunk(array)
    if ctypes.c_void_p.from_address(place).value != address.value or _chunk_bytes(place) != 4:
        return "MXNet keeps its arrays in another way than version 1.9.1 of PyPI does"
    return None


def chunk(array):
    """The address of an array's chunk, the memory that it may share with views of it; None for an empty array.

    It is the first word of an NDArray, and its own first two words point to the data and count its bytes. The address
    of the elements must not be asked for before the engine has made them: MXNet would allocate them twice, and what the
    engine is making would be lost.
    """
    return ctypes.c_void_p.from_address(array.handle.value).value


def is_same_array(one, other):
    """Whether two NDArrays are one, or handles of one: npx.set_np() and kvstores make new handles for each update.

    False also where that cannot be told: for parts of a larger memory, and with an MXNet that is not known.
    """
    if one is other:
        return True
    if not isinstance(one, NDArray) or not isinstance(other, NDArray) or unknown_mxnet() is not None:
        return False
    place = chunk(one)
    if place is None or place != chunk(other) or one.dtype != other.dtype:
        return False
    shape = one.shape   # each look at it is a call into MXNet
    return shape == other.shape and _chunk_bytes(place) == prod(shape) * np.dtype(one.dtype).itemsize


def _chunk_bytes(place):
    """The size of a chunk's memory: its second word."""
    return ctypes.c_size_t.from_address(place + ctypes.sizeof(ctypes.c_void_p)).value


def check_own_memory(arrays):
    """MXNetError if two arrays share memory: MXNet's engine, given both for one operation, would wait for itself."""
    if max(Counter(chunk(array) for array in arrays if array.size).values(), default=0) > 1:
        raise MXNetError("two arrays of the step are views of one memory; weights, gradients and states must have "
                         "memory of their own, or take kernel='ndarray'")
