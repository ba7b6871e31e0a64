"""The fused kernel on a GPU: MXNet compiles cuda.cu at run time, without a CUDA toolkit, and launches it.

A launch updates a group of parameters, as many as a CUDA kernel's arguments hold. Every array is an argument of its
own: so MXNet orders the launch with all else that reads or writes the array. MXNet waits for the GPU after each launch.
The numbers of a step are sent in one small array, and only if they have changed.
"""

import ctypes
import threading
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from mxnet.base import _LIB, MXNetError, check_call
from mxnet.context import gpu_memory_info, num_gpus
from mxnet.ndarray import from_numpy
from mxnet.rtc import CudaModule

from namsg_mx.kernels.fused import DIVISIONS, MEMBERS, name_arrays, step_coefficients, step_scalars
from namsg_mx.kernels.memory import SharedMemoryError, chunk, unknown_mxnet
from namsg_mx.kernels.sparse import rows_and_values

THREADS = 256         # of a block
TILE = 2048           # elements that a block updates: each thread twice four
ARGUMENT_BYTES = 4096   # of a kernel: what CUDA allows on every GPU
SHARED_ARGUMENTS = 3    # places, numbers, nonfinite; all the others are a parameter's arrays
POINTER_BYTES = 8
# Every operation is rounded by itself, as on the CPU (step.h). Division, root and subnormal numbers are IEEE's anyway.
# The language is given, as NVRTC 11's default is C++03. The architecture is not: NVRTC then makes PTX for an old GPU,
# which the driver translates for any newer one.
OPTIONS = ("--fmad=false", "--std=c++14")
DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76   # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


def unsupported(context, dtype):
    """None, or why this kernel does not run on such arrays. Warns once (RuntimeWarning) of a GPU newer than MXNet."""
    if context.device_type != "gpu":
        return f"runs on a GPU, and the weights are on {context}"
    capability = _compute_capability(context.device_id) if num_gpus() else None   # 0: this MXNet has no CUDA
    if capability is not None and capability >= (9, 0):
        _warn_of_missing_operators(capability)
    if dtype not in (np.float32, np.float16):
        return f"takes float32 and float16 weights, not {np.dtype(dtype).name}"
    error = unknown_mxnet() or _compile_error(context.device_id, dtype == np.float16)
    return error and f"did not load: {error}"


def bind(weights, grads, states, lazy_update):
    """See the package."""
    if all(grad.stype == "default" for grad in grads):
        return BoundArrays(weights, grads, states)
    return BoundSparse(weights, grads, states, lazy_update)


class BoundArrays:
    """The arrays of a step, in groups for one launch each.

    ``indices`` are the positions of these parameters in the step; None: they are all of it.
    """

    def __init__(self, weights, grads, states, indices=None):
        parameters = [(i, name_arrays(weight, grad, state))
                      for i, weight, grad, state in zip(indices or range(len(weights)), weights, grads, states)
                      if weight.size]   # an empty array has no address
        self.dtype = weights[0].dtype
        limit = group_limit(self.dtype == np.float16)
        self.groups = [Group(*zip(*group)) for group in split_parameters(parameters, limit)]
        self.latest = None

    def rebind(self, grads):
        return False

    def step(self, scalars, coefficients, count):
        if (scalars, coefficients) != self.latest:
            rows = step_coefficients(coefficients, scalars.decoupled_wd)
            for group in self.groups:
                group.send(step_scalars(scalars, self.dtype), rows)
            self.latest = (scalars, coefficients)
        for group in self.groups:
            group.launch(scalars.division, scalars.skip_nonfinite, count)


class Group:
    """The parameters of one launch: their ``indices`` in the step, and their arrays by name."""

    def __init__(self, indices, parameters):
        self.indices = list(indices)
        weights = [parameter["weight"] for parameter in parameters]
        self.context = weights[0].context
        self.is_half = weights[0].dtype == np.float16
        self.size = group_size(len(parameters), self.is_half)
        empty = range(self.size - len(parameters))
        self.parameters = [*parameters, *(_empty_place(self.context, self.is_half, i) for i in empty)]
        places, self.blocks = place_table([weight.size for weight in weights] + [0 for _ in empty])
        self.places = from_numpy(places).copyto(self.context)   # nd.array would wait
        self.numbers = None
        self.handles = {}   # by division: the handles of all arguments, as MXNet takes them

    def send(self, scalars, rows):
        """Take the numbers of the next launches: a `StepScalars`, and all the parameters' `step_coefficients`."""
        values = from_numpy(number_table(scalars, rows[self.indices]))
        # The engine copies them after the launches that still need the former numbers.
        self.numbers = values.copyto(self.context if self.numbers is None else self.numbers)

    def launch(self, division, skip, count):
        """Push one step to the engine."""
        if division not in self.handles:
            names = member_names(self.is_half, division)
            arrays = [parameter[name] for parameter in self.parameters for name in names]
            self.handles[division] = (ctypes.c_void_p * (SHARED_ARGUMENTS + len(arrays)))(
                *[None] * SHARED_ARGUMENTS, *(array.handle for array in arrays))
        handles, device = self.handles[division], self.context.device_id
        handles[:SHARED_ARGUMENTS] = [array.handle.value for array in (self.places, self.numbers, count)]
        with _LOCK:
            _make_cuda_context(device)
            kernel = _kernel(device, self.is_half, division, skip, self.size)
            # Not by kernel.launch, which checks each of hundreds of arrays in each step.
            check_call(_LIB.MXRtcCudaKernelCall(kernel.handle, device, handles, self.blocks, 1, 1, THREADS, 1, 1, 0))


class BoundSparse:
    """The arrays of a step with row_sparse gradients. MXNet's operators gather their rows and scatter them back."""

    def __init__(self, weights, grads, states, lazy_update):
        self.parameters = list(zip(weights, grads, states))
        self.lazy_update = lazy_update
        # What a step would raise, here: then 'auto' takes the ndarray kernel.
        split_parameters([(i, name_arrays(*each)) for i, each in enumerate(self.parameters) if each[0].size], limit=1)

    def rebind(self, grads):
        return False

    def step(self, scalars, coefficients, count):
        indices, stepped, scattered = [], [], []
        for i, (weight, grad, state) in enumerate(self.parameters):
            rows, grad = rows_and_values(grad, self.lazy_update)
            if rows is not None:
                if rows.size == 0:
                    continue
                whole = [weight, *state]
                weight, *state = (each.take(rows) for each in whole)
                scattered.append((rows, whole, [weight, *state]))
            indices.append(i)
            stepped.append((weight, grad, state))
        if stepped:
            BoundArrays(*zip(*stepped), indices).step(scalars, coefficients, count)
        for rows, whole, parts in scattered:
            for each, part in zip(whole, parts):
                each[rows] = part


def split_parameters(parameters, limit):
    """The parameters of each launch: at most ``limit``. MXNet refuses two arrays of one memory in a launch.

    ``parameters`` are pairs of an index and arrays by name. SharedMemoryError if two arrays of one parameter share
    memory.
    """
    groups, memories = [], set()
    for index, arrays in parameters:
        its_memories = set(map(chunk, arrays.values()))
        if len(its_memories) < len(arrays):
            raise SharedMemoryError
        if not groups or len(groups[-1]) == limit or its_memories & memories:
            groups.append([])
            memories = set()
        groups[-1].append((index, arrays))
        memories |= its_memories
    return groups


def place_table(sizes):
    """cuda.cu's Places for parameters of these sizes (an int64 array, a row for each), and their number of blocks."""
    ends = np.cumsum([-(-size // TILE) for size in sizes])
    return np.column_stack([[0, *ends[:-1]], sizes]).astype(np.int64), int(ends[-1])


def number_table(scalars, rows):
    """The numbers of a step in one float32 array: a `StepScalars`, then a row of `step_coefficients` a parameter."""
    return np.concatenate([np.frombuffer(scalars, np.float32), rows.ravel()])


def group_limit(is_half):
    """How many parameters a launch can take."""
    return (ARGUMENT_BYTES // POINTER_BYTES - SHARED_ARGUMENTS) // len(member_names(is_half, "v_hat"))


def group_size(count, is_half):
    """The number of places in the kernel for ``count`` parameters: a power of 2, from 16 on a multiple of 16.

    A network that skips layers at random has another count in each step; rounding up keeps the number of kernels small.
    Surplus places are empty.
    """
    places = 1 << (count - 1).bit_length() if count <= 16 else -(-count // 16) * 16
    return min(places, group_limit(is_half))


def member_names(is_half, division):
    """The arrays of a parameter that the step touches: names of `MEMBERS`, in that order."""
    return MEMBERS[:3 + DIVISIONS[division]] + (MEMBERS[-1:] if is_half else ())


def cuda_source(is_half, division, skip, count):
    """The source of the kernel ``namsg_step`` for ``count`` parameters, with step.h in the place of its include."""
    names = member_names(is_half, division)
    # The master of float32 weights is the weight itself.
    fields = [name if name in names else {"master": "weight"}.get(name, "") for name in MEMBERS]
    cases = (", ".join(f"{field}{i}" if field else "nullptr" for field in fields) for i in range(count))
    definitions = {
        "TYPE": "unsigned short" if is_half else "float",
        "DIVISION": DIVISIONS[division],
        "SKIP": int(skip),
        "GROUP": count,
        "PARAMETERS": parameter_list(names, count, "NAMSG_TYPE"),
        "CASES": " ".join(f"case {i}: return {{{case}}};" for i, case in enumerate(cases)),
        "THREADS": THREADS,
        "TILE": TILE,
    }
    folder = Path(__file__).parent
    step_h, cuda_cu = ((folder / name).read_text(encoding="ascii") for name in ("step.h", "cuda.cu"))
    lines = [f"#define NAMSG_{name} {value}" for name, value in definitions.items()]
    return "\n".join([*lines, cuda_cu.replace('#include "step.h"', step_h)])


def signature(is_half, division, count):
    """The kernel's parameters as mx.rtc wants them: ``const`` tells it what a launch only reads."""
    arrays = parameter_list(member_names(is_half, division), count, "__half" if is_half else "float")
    return f"const int64_t *places, const float *numbers, int64_t *nonfinite, {arrays}"


def parameter_list(names, count, element):
    """The declarations of the arrays of ``count`` parameters, for weights of the C type ``element``."""
    types = {"weight": element, "grad": f"const {element}"}
    return ", ".join(f"{types.get(name, 'float')} *{name}{i}" for i in range(count) for name in names)


# mx.rtc loads a module when its kernel first runs. It has no lock of its own, and releases Python's meanwhile.
_LOCK = threading.Lock()
_THREAD = threading.local()


def _make_cuda_context(device):
    """Make CUDA's context of a device in this thread: mx.rtc needs one to load a module, and makes none."""
    devices = _THREAD.__dict__.setdefault("devices", set())
    if device not in devices:
        gpu_memory_info(device)   # any question to CUDA about the device makes the context
        devices.add(device)


@lru_cache(maxsize=None)
def _kernel(device, is_half, division, skip, count):
    """The compiled kernel for ``count`` parameters, kept for the process: optimizers, which are pickled, hold none."""
    module = CudaModule(cuda_source(is_half, division, skip, count), OPTIONS)
    kernel = module.get_kernel("namsg_step", signature(is_half, division, count))
    # Never freed: at exit MXNet would unload it in a thread that may have no context, and that ends the process.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kernel))
    return kernel


@lru_cache(maxsize=None)
def _empty_place(context, is_half, i):
    """Arrays for the i-th empty place of a launch: MXNet wants other arrays in each place."""
    halves = ("weight", "grad") if is_half else ()
    return {name: from_numpy(np.zeros(1, np.float16 if name in halves else np.float32)).copyto(context)
            for name in MEMBERS}


@lru_cache(maxsize=None)
def _compile_error(device, is_half):
    """None, or why the smallest kernel did not compile."""
    try:
        with _LOCK:
            _make_cuda_context(device)
            _kernel(device, is_half, "v_hat", False, 1)
    except MXNetError as error:
        return str(error).strip().splitlines()[-1]   # the lines above are MXNet's source
    return None


def _compute_capability(device):
    """The compute capability of a GPU, for instance (9, 0), or None if the driver does not tell."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    handle, values = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device):
        return None
    if any(driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
           for value, attribute in zip(values, (MAJOR, MINOR))):
        return None
    return tuple(value.value for value in values)


@lru_cache(maxsize=None)
def _warn_of_missing_operators(capability):
    major, minor = capability
    warnings.warn(f"this GPU has compute capability {major}.{minor}, and MXNet 1.9.1 has machine code up to "
                  "8.6 only: its operators fail here with 'no kernel image is available'. Copies and namsg_mx's CUDA "
                  "kernel run. switch_to_sgd, row_sparse gradients and float64 weights need MXNet's operators",
                  RuntimeWarning, stacklevel=2)
