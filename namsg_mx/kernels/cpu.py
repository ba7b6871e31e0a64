"""The fused kernel on the CPU: loads the library that setup.py made of cpu.cc, and binds arrays for it."""

import ctypes
import weakref
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
from mxnet.base import _LIB, MXNetError, check_call
from mxnet.libinfo import __version__ as mxnet_version
from mxnet.ndarray import ones

# Of cpu.cc and step.h.
COEFFICIENTS = ("lr", "wd", "shrink", "m_factor", "g_factor", "v_scale")   # namsg_coefficients
MEMBERS = ("weight", "grad", "m", "v", "v_hat", "master")
DIVISIONS = {"none": 0, "v": 1, "v_hat": 2}
REORDER = "_ZN5mxnet7NDArray5Chunk15Reorder2DefaultEv"   # NDArray::Chunk::Reorder2Default()


class Functions(ctypes.Structure):
    """namsg_mxnet"""

    _fields_ = [(name, ctypes.c_void_p) for name in ("push", "get_data", "share", "free", "reorder")]


class Parameter(ctypes.Structure):
    """namsg_parameter"""

    _fields_ = [("handles", ctypes.c_void_p * len(MEMBERS)), ("rows", ctypes.POINTER(ctypes.c_int64)),
                ("row_count", ctypes.c_int64), ("row_length", ctypes.c_int64)]


class StepScalars(ctypes.Structure):
    """namsg_scalars"""

    _fields_ = [(name, ctypes.c_float) for name in (
        "rescale_grad", "clip_gradient", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "epsilon", "low",
        "high", "divisor_low", "divisor_high")]


def load():
    """The library; ImportError with the cause where there is none."""
    library, error = _load()
    if error is not None:
        raise ImportError(f"the CPU kernel did not load: {error}")
    return library


@lru_cache(maxsize=None)
def _load():
    """The library and None, or None and the reason; looked for once in a process."""
    path = next(Path(__file__).parent.glob("_cpu*.so"), None)
    if path is None:
        return None, "it was not built, as the installation found no C++ compiler with OpenMP"
    if mxnet_version != "1.9.1":
        return None, f"it is made for MXNet 1.9.1, and this is {mxnet_version}"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, str(error)
    functions = Functions(*(ctypes.cast(getattr(_LIB, name, None), ctypes.c_void_p) for name in (
        "MXEnginePushSyncND", "MXNDArrayGetData", "MXShallowCopyNDArray", "MXNDArrayFree", REORDER)))
    library.namsg_load(ctypes.byref(functions))
    library.namsg_bind.restype = ctypes.c_void_p
    library.namsg_release.argtypes = [ctypes.c_void_p]
    library.namsg_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(StepScalars),
                                   ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    if not _chunk_is_where_cpu_cc_looks():
        return None, "MXNet keeps its arrays in another way than version 1.9.1 of PyPI does"
    return library, None


def _chunk_is_where_cpu_cc_looks():
    """Whether an NDArray's first word points to its chunk, and the chunk's first word to the data, as in ndarray.h."""
    array = ones((1,))
    array.wait_to_read()
    address = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    return ctypes.c_void_p.from_address(_chunk(array)).value == address.value


def _chunk(array):
    """The address of an array's chunk, the memory that it may share with views of it; None for an empty array.

    The address of the elements must not be asked for before the engine has made them: MXNet would allocate them twice,
    and what the engine is making would be lost.
    """
    return ctypes.c_void_p.from_address(array.handle.value).value


def unsupported(context, dtype):
    """None, or why this kernel does not run on such arrays."""
    if context.device_type != "cpu":
        return f"runs on the CPU, and the weights are on {context}"
    if dtype not in (np.float32, np.float16):
        return f"takes float32 and float16 weights, not {np.dtype(dtype).name}"
    error = _load()[1]
    return error and f"did not load: {error}"


def bind(weights, grads, states, lazy_update):
    """See the package. MXNetError for arrays that are views of one memory, or rows that do not exist."""
    if all(grad.stype == "default" for grad in grads):
        return BoundArrays(weights, grads, states)
    return BoundSparse(weights, grads, states, lazy_update)


class BoundArrays:
    """The arrays of a step, as the library keeps them.

    ``rows`` has, for each array, None or the row numbers (an int64 array) of the rows that its gradient consists of.
    """

    def __init__(self, weights, grads, states, rows=None):
        self.arrays = (weights, grads, states)   # kept, as long as the library has them
        self.library = load()
        self.device = weights[0].context.device_id
        self.numbers = np.empty((len(weights), len(COEFFICIENTS)), np.float32)
        self.latest = None
        parameters = (Parameter * len(weights))()
        chunks = Counter()
        for parameter, weight, grad, state, its_rows in zip(parameters, weights, grads, states,
                                                            rows or [None] * len(weights)):
            slots = MEMBERS[:2 + len(state)]
            if weight.dtype == np.float16:
                slots = MEMBERS[:1 + len(state)] + MEMBERS[-1:]
            for slot, array in zip(slots, [weight, grad, *state]):
                parameter.handles[MEMBERS.index(slot)] = array.handle
                chunks[_chunk(array)] += array.size > 0
            parameter.row_count, parameter.row_length = 1, weight.size
            if its_rows is not None:
                parameter.rows = its_rows.ctypes.data_as(parameter.rows.__class__)
                parameter.row_count, parameter.row_length = len(its_rows), weight.size // weight.shape[0]
        if max(chunks.values(), default=0) > 1:   # MXNet's engine would wait for itself
            raise MXNetError("two arrays of the step are views of one memory; weights, gradients and states must have "
                             "memory of their own, or take kernel='ndarray'")
        self.bound = self.library.namsg_bind(len(weights), parameters)
        if self.bound is None:
            raise MXNetError("MXNet refused an array of the step")
        weakref.finalize(self, self.library.namsg_release, self.bound)

    def step(self, scalars, coefficients, count):
        if (coefficients, scalars.decoupled_wd) != self.latest:
            self._fill(coefficients, scalars.decoupled_wd)
        clip = np.inf if scalars.clip_gradient is None else scalars.clip_gradient
        low, high = scalars.bounds or (-np.inf, np.inf)
        c_scalars = StepScalars(scalars.rescale_grad, clip, scalars.beta1, 1 - scalars.beta1, scalars.beta2,
                                1 - scalars.beta2, scalars.epsilon, low, high, *scalars.divisor_limits or (0, np.inf))
        check_call(self.library.namsg_step(self.bound, count.handle, self.device, c_scalars, self.numbers.ctypes.data,
                                           DIVISIONS[scalars.division], scalars.skip_nonfinite))

    def _fill(self, coefficients, decoupled_wd):
        numbers = dict(zip(COEFFICIENTS, self.numbers.T))
        for name, values in coefficients._asdict().items():
            numbers[name][:] = values
        numbers["shrink"][:] = 1
        if decoupled_wd:
            numbers["shrink"][:] = 1 - np.multiply(coefficients.lr, coefficients.wd)
            numbers["wd"][:] = 0
        self.latest = (coefficients, decoupled_wd)


class BoundSparse:
    """The arrays of a step with row_sparse gradients, whose arrays are new ones in each step."""

    def __init__(self, weights, grads, states, lazy_update):
        self.arrays = (weights, grads, states)
        self.lazy_update = lazy_update

    def step(self, scalars, coefficients, count):
        weights, grads, states = self.arrays
        rows = [None] * len(grads)
        dense = list(grads)
        for i, (weight, grad) in enumerate(zip(weights, grads)):
            if grad.stype == "row_sparse" and self.lazy_update:
                rows[i], dense[i] = _checked_rows(grad, weight.shape[0]), grad.data
            elif grad.stype == "row_sparse":
                dense[i] = grad.tostype("default")
        BoundArrays(weights, dense, states, rows).step(scalars, coefficients, count)


def _checked_rows(grad, count):
    rows = grad.indices.asnumpy().astype(np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        raise MXNetError(f"a row_sparse gradient has rows {rows.min()} to {rows.max()}, "
                         f"and the weight has rows 0 to {count - 1}")
    return rows
