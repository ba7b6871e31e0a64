"""The fused kernel on the CPU: loads the library that setup.py made of cpu.cc, and binds arrays for it."""

import ctypes
import os
import weakref
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from numbers import Real
from pathlib import Path

import numpy as np
from mxnet.base import _LIB, check_call
from mxnet.runtime import Features

from namsg_mx.kernels.fused import DIVISIONS, MEMBERS, StepScalars, name_arrays, step_coefficients, step_scalars
from namsg_mx.kernels.memory import check_overlap, unknown_mxnet
from namsg_mx.kernels.sparse import with_distinct_rows

SOURCES = [Path(__file__).with_name(name) for name in ("cpu.cc", "step.h")]   # in setup.py's order
_PROCESS = os.getpid()   # a fork has another one, and none of its parent's threads
# MXNet's functions that cpu.cc calls, by its names for them.
FUNCTIONS = {
    "push": "MXEnginePushSyncND", "get_data": "MXNDArrayGetData", "get_storage": "MXNDArrayGetStorageType",
    "get_dtype": "MXNDArrayGetDType", "get_context": "MXNDArrayGetContext", "get_shape": "MXNDArrayGetShapeEx64",
    "share": "MXShallowCopyNDArray", "free": "MXNDArrayFree", "last_error": "MXGetLastError",
    "reorder": "_ZN5mxnet7NDArray5Chunk15Reorder2DefaultEv"}   # NDArray::Chunk::Reorder2Default()


class Functions(ctypes.Structure):
    """namsg_mxnet"""

    _fields_ = [(name, ctypes.c_void_p) for name in FUNCTIONS]


class Parameter(ctypes.Structure):
    """namsg_parameter"""

    _fields_ = [("handles", ctypes.c_void_p * len(MEMBERS)), ("rows", ctypes.POINTER(ctypes.c_int64)),
                ("row_count", ctypes.c_int64), ("row_length", ctypes.c_int64), ("size", ctypes.c_int64)]


@lru_cache(maxsize=None)
def _load():
    """The library and None, or None and the reason; looked for once in a process."""
    # Only this Python's: an editable installation by another Python may have left its library here.
    paths = [Path(__file__).with_name("_cpu" + suffix) for suffix in EXTENSION_SUFFIXES]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None, (f"{Path(__file__).parent} has no library: the installation found no C++ compiler with "
                      "OpenMP, or namsg_mx is imported from elsewhere than where it was installed")
    if unknown_mxnet() is not None:
        return None, unknown_mxnet()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, str(error)
    if _sources_of(library) != sha256(b"".join(map(Path.read_bytes, SOURCES))).hexdigest():
        return None, f"{path} was built of other sources than these: install namsg_mx again"
    functions = Functions(*(ctypes.cast(getattr(_LIB, name, None), ctypes.c_void_p) for name in FUNCTIONS.values()))
    if functions.reorder is None and Features().is_enabled("MKLDNN"):
        return None, "this MXNet has oneDNN, and hides the function that undoes oneDNN's layouts of arrays"
    library.namsg_load(ctypes.byref(functions), os.getpid() != _PROCESS)
    library.namsg_bind.restype = ctypes.c_void_p
    library.namsg_rebind.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.namsg_release.argtypes = [ctypes.c_void_p]
    library.namsg_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(StepScalars),
                                   ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    return library, None


def _sources_of(library):
    """The digest of the sources that a library was built of; None of one that is too old to say it."""
    if not hasattr(library, "namsg_sources"):
        return None
    library.namsg_sources.restype = ctypes.c_char_p
    return library.namsg_sources().decode()


def unsupported(context, dtype):
    """None, or why this kernel does not run on such arrays."""
    if context.device_type == "gpu":   # not "cpu_pinned", where a kvstore keeps the weights
        return f"runs on the CPU, and the weights are on {context}"
    if dtype not in (np.float32, np.float16):
        return f"takes float32 and float16 weights, not {np.dtype(dtype).name}"
    error = _load()[1]
    return error and f"did not load: {error}"


def bind(weights, grads, states, lazy_update):
    """See the package."""
    if all(grad.stype == "default" for grad in grads):
        return BoundArrays(weights, grads, states)
    return BoundSparse(weights, grads, states, lazy_update)


class BoundArrays:
    """The arrays of a step, bound by the library.

    ``rows`` has an entry for each array: None, or the numbers (an int64 array) of the rows that its gradient has. The
    other rows have gradient 0; with ``lazy_update`` they stay as they are.
    """

    def __init__(self, weights, grads, states, rows=None, lazy_update=False):
        check_overlap([*weights, *(array for state in states for array in state)], grads)
        self.library, _ = _load()
        self.device = weights[0].context.device_id
        self.dtype = weights[0].dtype
        self.latest_scalars = self.latest_numbers = None
        parameters = (Parameter * len(weights))()
        for parameter, weight, grad, state, its_rows in zip(parameters, weights, grads, states,
                                                            rows or [None] * len(weights)):
            for name, array in name_arrays(weight, grad, state).items():
                parameter.handles[MEMBERS.index(name)] = array.handle
            parameter.row_count, parameter.row_length, parameter.size = 1, weight.size, weight.size
            if its_rows is not None:
                parameter.rows = its_rows.ctypes.data_as(parameter.rows.__class__)
                parameter.row_count, parameter.row_length = len(its_rows), weight.size // max(weight.shape[0], 1)
                if lazy_update:
                    parameter.size = parameter.row_count * parameter.row_length
        self.binding = self.library.namsg_bind(len(weights), parameters)
        if self.binding is None:
            check_call(-1)   # raises MXNet's reason
        # Not at exit: a daemon thread may be in a step then, and an exit handler may make one more.
        weakref.finalize(self, self.library.namsg_release, self.binding).atexit = False

    def rebind(self, grads):
        handles = (ctypes.c_void_p * len(grads))(*(grad.handle for grad in grads))
        return bool(self.library.namsg_rebind(self.binding, handles))

    def step(self, scalars, coefficients, count):
        if scalars != self.latest_scalars:
            self.scalars, self.latest_scalars = step_scalars(scalars, self.dtype), scalars
        if (coefficients, scalars.decoupled_wd) != self.latest_numbers:
            self.numbers = step_coefficients(coefficients, scalars.decoupled_wd)
            self.numbers_address = self.numbers.ctypes.data   # slow to ask for
            self.latest_numbers = (coefficients, scalars.decoupled_wd)
        check_call(self.library.namsg_step(
            self.binding, count.handle, self.device, self.scalars, self.numbers_address, DIVISIONS[scalars.division],
            scalars.skip_nonfinite))


class BoundSparse:
    """The arrays of a step of which some gradients are row_sparse. Each step binds these anew, as they have other rows.
    """

    def __init__(self, weights, grads, states, lazy_update):
        check_overlap([*weights, *(array for state in states for array in state)], grads)
        parameters = list(zip(weights, grads, states))
        self.dense = [i for i, grad in enumerate(grads) if grad.stype == "default"]
        self.sparse = [i for i, grad in enumerate(grads) if grad.stype != "default"]
        self.bound = BoundArrays(*zip(*(parameters[i] for i in self.dense))) if self.dense else None
        self.arrays = list(zip(*(parameters[i] for i in self.sparse)))
        self.lazy_update = lazy_update

    def rebind(self, grads):
        return False

    def step(self, scalars, coefficients, count):
        weights, grads, states = self.arrays
        grads, rows = zip(*map(with_distinct_rows, grads))   # all are checked before anything moves
        if self.bound is not None:
            self.bound.step(scalars, _of(coefficients, self.dense), count)
        BoundArrays(weights, grads, states, rows, self.lazy_update).step(scalars, _of(coefficients, self.sparse), count)


def _of(coefficients, indices):
    """The `Coefficients` of some arrays of a step."""
    return coefficients._make(each if isinstance(each, Real) else [each[i] for i in indices] for each in coefficients)
