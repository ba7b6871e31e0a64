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
    """None, or why `form` cannot read this MXNet's arrays: their layout is no part of MXNet's interface."""
    array = ones((3, 5), cpu(), np.float64)
    array.wait_to_read()
    address = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    memory, dtype = chunk(array), _DTYPE_NP_TO_MX[np.float64]
    if ctypes.c_void_p.from_address(memory).value != address.value \
            or (form(array), form(array[2:3])) != ((memory, 0, dtype, (3, 5)), (memory, 80, dtype, (1, 5))):
        return "this MXNet lays out its arrays otherwise than version 1.9.1 from PyPI"
    return None


def chunk(array):
    """The address of an array's chunk, the memory that an array and its views share; None for an empty array.

    An NDArray's first word is this address, and the chunk's first word points to the data. Do not ask MXNet for the
    data's address while the engine is still making them: MXNet would allocate them twice, and the data would be lost.
    """
    return ctypes.c_void_p.from_address(array.handle.value).value


def form(array):
    """An array's chunk, its first byte in the chunk, MXNet's number of its dtype, and its shape."""
    read = NDARRAY.unpack(ctypes.string_at(array.handle, NDARRAY.size))
    memory, dimensions, offset, dtype = read[0], read[1], read[-2], read[-1]
    is_inside = 0 <= dimensions <= DIMENSIONS_INSIDE
    return memory, offset, dtype, read[2:2 + dimensions] if is_inside else array.shape


def is_same_array(one, other):
    """Whether two NDArrays are handles of one array: npx.set_np() and kvstores make new handles for each update.

    False also if it is unknown: see `unknown_mxnet`.
    """
    if one is other:
        return True
    if not isinstance(one, NDArray) or not isinstance(other, NDArray) or unknown_mxnet() is not None:
        return False
    its_form = form(one)
    return its_form[0] != 0 and its_form == form(other)   # 0: an empty array


class SharedMemoryError(MXNetError):
    """Arrays of a step overlap: a fused kernel updates all of them at once, in no order."""

    def __init__(self):
        super().__init__("two arrays of the step are views of one memory, and overlap; take kernel='ndarray', which "
                         "updates one array after the other")


def check_overlap(written, grads):
    """SharedMemoryError if two of these arrays share an element. Views of one buffer may be disjoint.

    One gradient, in one shape, may be several parameters', as it is only read. Row_sparse ones are left out: no other
    array can be a view of them.
    """
    arrays = [*written, *{form(grad): grad for grad in grads if grad.stype == "default"}.values()]
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
