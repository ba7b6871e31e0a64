"""The memory of MXNet's arrays: which handles are one array, and which arrays overlap."""

import ctypes
import struct
from functools import lru_cache
from math import prod

import numpy as np
from mxnet.base import _LIB, MXNetError, check_call
from mxnet.context import cpu
from mxnet.ndarray import NDArray, ones
from mxnet.ndarray.ndarray import _DTYPE_NP_TO_MX

# An NDArray in mxnet/ndarray.h: the first half of ptr_; of shape_ ndim_ and data_stack_; byte_offset_ and dtype_.
NDARRAY = struct.Struct("N8xi4x4q8xNi")
DIMENSIONS_INSIDE = 4   # a shape of more lies elsewhere


@lru_cache(maxsize=None)
def unknown_mxnet():
    """None, or why this MXNet's arrays are not known well enough: what `form` reads is no part of its interface."""
    array = ones((3, 5), cpu(), np.float64)
    array.wait_to_read()
    address = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    memory, dtype = chunk(array), _DTYPE_NP_TO_MX[np.float64]
    if ctypes.c_void_p.from_address(memory).value != address.value \
            or (form(array), form(array[2:3])) != ((memory, 0, dtype, (3, 5)), (memory, 80, dtype, (1, 5))):
        return "MXNet keeps its arrays in another way than version 1.9.1 of PyPI does"
    return None


def chunk(array):
    """The address of an array's chunk, the memory that it may share with views of it; None for an empty array.

    It is the first word of an NDArray, and its own first word points to the data. The address of the elements must not
    be asked for before the engine has made them: MXNet would allocate them twice, and what the engine is making would
    be lost.
    """
    return ctypes.c_void_p.from_address(array.handle.value).value


def form(array):
    """The chunk of an array, the byte of it at which the array begins, MXNet's number of the dtype, and the shape."""
    memory, dimensions, *lengths, offset, dtype = NDARRAY.unpack(ctypes.string_at(array.handle, NDARRAY.size))
    is_inside = 0 <= dimensions <= DIMENSIONS_INSIDE
    return memory, offset, dtype, tuple(lengths[:dimensions]) if is_inside else array.shape


def is_same_array(one, other):
    """Whether two NDArrays are one, or handles of one: npx.set_np() and kvstores make new handles for each update.

    False also where that cannot be told: with an MXNet that is not known.
    """
    if one is other:
        return True
    if not isinstance(one, NDArray) or not isinstance(other, NDArray) or unknown_mxnet() is not None:
        return False
    return chunk(one) is not None and form(one) == form(other)


class SharedMemoryError(MXNetError):
    """Arrays of a step overlap: a fused kernel, which updates all of them at once, has no order for them."""

    def __init__(self):
        super().__init__("two arrays of the step are views of one memory, and overlap; take kernel='ndarray', which "
                         "updates one array after the other")


def check_overlap(arrays):
    """SharedMemoryError if two of these arrays have an element in common. Parts of one buffer need not have."""
    if len(set(map(chunk, arrays))) == len(arrays):
        return
    last_memory = last_end = None
    for memory, begin, end in sorted(_extent(array) for array in arrays if array.size):
        if memory == last_memory and begin < last_end:
            raise SharedMemoryError
        last_memory, last_end = memory, end


def _extent(array):
    memory, begin, *_ = form(array)
    return memory, begin, begin + prod(array.shape) * np.dtype(array.dtype).itemsize
