"""What MXNet's library does with a CUDA kernel, without MXNet's CUDA build: on the CPU, or on a GPU through CuPy.

They stand in for the C functions under `mxnet.rtc`, so that its Python half is MXNet's own. Arrays lie on the CPU in
either case; that is where they are updated.
"""

import ctypes
import importlib
import subprocess
import tempfile
from abc import ABC, abstractmethod
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

NUMPY_TYPES = {0: np.float32, 2: np.float16, 6: np.int64}   # of MXNet's numbers for the types of arrays

# CUDA's words for a C++ compiler. A kernel whose threads share nothing can be called for one after another.
CPP_PRELUDE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <utility>

#define __global__
#define __device__
#define __launch_bounds__(threads)
struct Index { unsigned x; };
static Index blockIdx, threadIdx;
static void atomicAdd(unsigned long long *total, int addend) { *total += addend; }
"""
CPP_LAUNCH = r"""
template <typename... Types, size_t... i>
static void call(void (*kernel)(Types...), void **arguments, std::index_sequence<i...>) {
  kernel(*static_cast<Types *>(arguments[i])...);
}

template <typename... Types>
static void launch(void (*kernel)(Types...), void **arguments, unsigned first, unsigned last, unsigned threads) {
  for (blockIdx.x = first; blockIdx.x < last; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
      call(kernel, arguments, std::index_sequence_for<Types...>());
}

/* `arguments` has the addresses of the arguments, as in cuLaunchKernel. */
extern "C" void launch(void **arguments, unsigned first, unsigned last, unsigned threads) {
  launch(namsg_step, arguments, first, last, threads);
}
"""


class Kernel(NamedTuple):
    """A compiled module, and for each parameter of its kernel whether it is an array, const, and MXNet's type."""

    module: object
    is_array: list
    is_const: list
    types: list


class StandIn(ABC):
    """MXRtc*, as far as `mxnet.rtc` calls them. A subclass compiles a source and executes it once."""

    def __init__(self):
        self.objects = {}
        self.numbers = count(1)
        self.launches = []   # the number of arguments of each launch

    @abstractmethod
    def compile(self, source, options):
        """The compiled module of a CUDA source."""

    @abstractmethod
    def execute(self, kernel, arrays, blocks, threads):
        """Run a `Kernel` once on these arrays."""

    def MXRtcCudaModuleCreate(self, source, option_count, options, export_count, exports, handle):
        self._keep(handle, self.compile(source.value.decode(), [options[i].decode() for i in range(option_count)]))
        return 0

    def MXRtcCudaKernelCreate(self, module, name, number, is_array, is_const, types, handle):
        assert name.value == b"namsg_step"
        self._keep(handle, Kernel(self.objects[module.value], *(list(a[:number]) for a in (is_array, is_const, types))))
        return 0

    def MXRtcCudaKernelCall(self, handle, device, arguments, *dimensions):
        kernel = self.objects[handle.value]
        *grid, block_x, block_y, block_z, shared = dimensions
        assert (grid[1:], block_y, block_z, shared) == ([1, 1], 1, 1, 0)
        assert all(kernel.is_array), "numbers travel in an array"
        assert 8 * len(kernel.is_array) <= 4096, "CUDA's limit"
        arrays = [ctypes.c_void_p(arguments[i]) for i in range(len(kernel.is_array))]
        for array, mx_type in zip(arrays, kernel.types):
            actual = ctypes.c_int()
            check_call(_LIB.MXNDArrayGetDType(array, ctypes.byref(actual)))
            assert actual.value == mx_type
        # MXNet's engine would wait for itself.
        chunks = [ctypes.c_void_p.from_address(array.value).value for array in arrays]
        changed = [chunk for chunk, is_const in zip(chunks, kernel.is_const) if not is_const]
        assert all(chunks.count(chunk) == 1 for chunk in changed)
        mx.nd.waitall()
        self.launches.append(len(arrays))
        self.execute(kernel, arrays, grid[0], block_x)
        return 0

    def MXRtcCudaModuleFree(self, handle):
        return 0

    def _keep(self, handle, thing):
        handle._obj.value = next(self.numbers)
        self.objects[handle._obj.value] = thing


def address(array):
    """Where an array's elements are."""
    data = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array, ctypes.byref(data)))
    return data


class CpuStandIn(StandIn):
    """Compiles the source as C++."""

    def compile(self, source, options):
        assert "--fmad=false" in options, "CUDA's compiler is to round as this one does"
        return compile_for_cpu(source)

    def execute(self, kernel, arrays, blocks, threads):
        launch_on_cpu(kernel.module, [address(array) for array in arrays], 0, blocks, threads)


@lru_cache(maxsize=None)
def compile_for_cpu(source):
    """The source as a library of the CPU, which rounds every operation by itself, as step.h asks for.

    It prints what is loaded or stored at an address that a GPU would refuse.
    """
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "kernel.cc"), Path(folder, "kernel.so")
        code.write_text(CPP_PRELUDE + source + CPP_LAUNCH)
        subprocess.run(["g++", "-std=c++14", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Werror",
                        "-Wno-unknown-pragmas", "-fsanitize=alignment", "-shared", "-fPIC", str(code), "-o",
                        str(library)], check=True)
        return ctypes.CDLL(str(library))


def launch_on_cpu(library, addresses, first, last, threads):
    """Run the blocks from ``first`` to ``last`` (not included) of a kernel whose arguments are these addresses."""
    pointers = (ctypes.c_void_p * len(addresses))(*(ctypes.addressof(each) for each in addresses))
    library.launch(pointers, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(threads))


class CupyStandIn(StandIn):
    """Compiles the source with CuPy's NVRTC, and executes it on copies of the arrays on the GPU."""

    def __init__(self):
        super().__init__()
        self.cupy = importlib.import_module("cupy")   # which only this ring needs

    def compile(self, source, options):
        return self.cupy.RawModule(code=source, options=tuple(options), backend="nvrtc").get_function("namsg_step")

    def execute(self, kernel, arrays, blocks, threads):
        on_cpu = [self._view(array, mx_type) for array, mx_type in zip(arrays, kernel.types)]
        # The views of the tests need not begin at an aligned address: neither does their copy here.
        on_gpu = [self._copy_as_aligned_as(values) for values in on_cpu]
        kernel.module((blocks,), (threads,), tuple(on_gpu))
        for values, copy, is_const in zip(on_cpu, on_gpu, kernel.is_const):
            if not is_const:
                values[...] = self.cupy.asnumpy(copy)

    def _view(self, array, mx_type):
        dimensions, shape = ctypes.c_int(), ctypes.POINTER(ctypes.c_int)()
        check_call(_LIB.MXNDArrayGetShapeEx(array, ctypes.byref(dimensions), ctypes.byref(shape)))
        dtype = np.dtype(NUMPY_TYPES[mx_type])
        size = int(np.prod(shape[:dimensions.value], dtype=np.int64))
        memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address(array).value)
        return np.frombuffer(memory, dtype)

    def _copy_as_aligned_as(self, values):
        offset = values.ctypes.data % 16 // values.itemsize
        copy = self.cupy.empty(offset + values.size, values.dtype)[offset:]
        copy[...] = self.cupy.asarray(values)
        return copy
