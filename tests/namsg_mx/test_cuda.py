"""The CUDA kernel in three rings, those that can be reached here; `make test-gpu` fails where one cannot.

(a) Anywhere: the source passes the CUDA compilers that are found, and runs on the CPU as C++, below MXNet's own Python.
(b) With a GPU and CuPy: the same tests, the source compiled and launched by CuPy.
(c) With a GPU and MXNet's CUDA build: the same tests, compiled and launched by MXNet on its own arrays of gpu(0).
"""

import ctypes
import mmap
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, assert_equal_bits, signed_gradients, step_beside_reference, weights_and_gradients
from cuda_stand_ins import CpuStandIn, CupyStandIn, StandIn, compile_for_cpu, launch_on_cpu
from mxnet.base import _LIB, MXNetError, check_call
from mxnet.ndarray import register

import namsg_mx
from namsg_mx import kernels
from namsg_mx.kernels import cuda, fused

OPTIONS = {"learning_rate": 0.013, "wd": 0.07, "clip_gradient": 1.3, "rescale_grad": 0.3, "bounds": (-1.1, 0.8)}
SIZES = (1, 31, 4097)
GPUS_REQUIRED = "NAMSG_GPU_REQUIRED" in os.environ   # set by `make test-gpu`


class Ring(NamedTuple):
    """Where the kernel runs, and on which arrays; ``stand_in`` is None where it is MXNet itself that launches it."""

    context: mx.Context
    stand_in: Optional[StandIn]

    def array(self, values, dtype=np.float32):
        return mx.nd.array(values, self.context, dtype)


def why_not_cpu():
    return None if shutil.which("g++") else "ring (a) needs g++"


def why_not_cupy():
    try:
        import cupy
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:   # CuPy's or CUDA's own: whichever of the layers is missing
        return f"ring (b) needs a GPU and CuPy: {error}"
    return None


def why_not_mxnet():
    return None if mx.context.num_gpus() else "ring (c) needs a GPU and MXNet's CUDA build"


RINGS = {"a-cpu": why_not_cpu(), "b-cupy": why_not_cupy(), "c-mxnet": why_not_mxnet()}


@pytest.mark.parametrize("name", RINGS)
def test_the_ring_is_reached(name):
    """Says which of the rings the other tests run in."""
    if RINGS[name] is not None:
        (pytest.fail if GPUS_REQUIRED else pytest.skip)(RINGS[name])


@pytest.fixture(params=[name for name, reason in RINGS.items() if reason is None])
def ring(request, monkeypatch, capfd):
    if request.param == "c-mxnet":
        yield Ring(mx.gpu(0), None)
        return
    stand_in = CpuStandIn() if request.param == "a-cpu" else CupyStandIn()
    monkeypatch.setattr(mx.rtc, "_LIB", stand_in)
    monkeypatch.setattr(cuda, "_LIB", stand_in)
    monkeypatch.setattr(cuda, "gpu_memory_info", lambda device: None)
    monkeypatch.setattr(cuda, "unsupported", lambda context, dtype: None)
    cuda._kernel.cache_clear()
    yield Ring(mx.cpu(1), stand_in)   # to MXNet another device than the CPU's other arrays are on
    cuda._kernel.cache_clear()
    assert "misaligned address" not in capfd.readouterr().err


@pytest.fixture
def operators(ring):
    """For what needs MXNet's own operators too."""
    if ring.stand_in is None and (cuda._compute_capability(0) or (9, 0)) >= (9, 0):
        pytest.skip("MXNet 1.9.1 has no operators for this GPU")


def train(context, method, kernel, weights, gradients, dtype=np.float32, lr_mult=None, **options):
    """All the bits after some steps: weights and states, and the count of non-finite gradients."""
    optimizer = mx.optimizer.create(method, kernel=kernel, multi_precision=True, **dict(OPTIONS, **options))
    optimizer.set_lr_mult(lr_mult or {})
    weights = [mx.nd.array(w, context, dtype) for w in weights]
    states = [optimizer.create_state_multi_precision(i, w) for i, w in enumerate(weights)]
    for grads in gradients:
        optimizer.update(list(range(len(weights))), weights, [mx.nd.array(g, context, dtype) for g in grads], states)
    assert optimizer.last_update().kernel == kernel
    return [a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]] + [optimizer.last_update().nonfinite]


@pytest.mark.parametrize("size", SIZES)
def test_ten_steps_follow_the_reference(ring, size):
    hyper = dict(OPTIONS, beta1=0.85, beta2=0.97, epsilon=1e-6, eta=1.5)
    optimizer = mx.optimizer.create("namsg", kernel="cuda", **hyper)
    lr = hyper.pop("learning_rate")
    weight = ring.array(np.random.RandomState(size).standard_normal(size))
    state = optimizer.create_state(0, weight)
    for t, grad in enumerate(signed_gradients(size, 10), start=1):
        step_beside_reference(optimizer, "namsg", weight, ring.array(grad), state, t, lr, hyper)
    assert optimizer.last_update().kernel == "cuda"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"decoupled_wd": True, "nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_bits_are_those_of_the_other_kernels(ring, method, options, dtype):
    """float16, all methods, and gradients that are not finite; the ndarray kernel follows the reference elsewhere."""
    if method in ("namsb", "amsbound"):
        options = dict(options, gamma=0.5)   # both limits act, and not on all elements
    weights, gradients = weights_and_gradients(SIZES, steps=4)
    gradients[1][2][5:9] = [np.nan, np.inf, -np.inf, 1e30]
    results = train(ring.context, method, "cuda", weights, gradients, dtype, **options)
    # 1e30 is infinite in float16, and its square, which SGD does not need, in float32.
    assert results[-1] == (3 if dtype == np.float32 and "v" not in mx.optimizer.create(method).STATE else 4)
    assert_equal_bits(results, train(mx.cpu(), method, "ndarray", weights, gradients, dtype, **options))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_many_arrays_are_updated_in_few_launches(ring, dtype):
    limit = cuda.group_limit(dtype == np.float16)
    sizes = [1 + i % 7 for i in range(2 * limit)] + [3 * cuda.TILE + 5]
    weights, gradients = weights_and_gradients(sizes, steps=2)
    lr_mult = {i: 1 + i % 5 for i in range(len(sizes))}
    results = train(ring.context, "namsg", "cuda", weights, gradients, dtype, lr_mult)
    assert_equal_bits(results, train(mx.cpu(), "namsg", "ndarray", weights, gradients, dtype, lr_mult))
    if ring.stand_in is not None:
        pointers = 6 if dtype == np.float16 else 5
        assert ring.stand_in.launches == 2 * [3 + pointers * limit, 3 + pointers * limit, 3 + pointers]


def test_a_network_that_leaves_out_layers_needs_few_kernels(ring):
    """Its steps have ever new numbers of arrays, and a kernel is compiled in some 0.2 s."""
    sizes = [1 + i % 3 for i in range(20)]
    results = []
    for context, kernel in ((ring.context, "cuda"), (mx.cpu(), "ndarray")):
        optimizer = mx.optimizer.create("namsg", kernel=kernel)
        weights = [mx.nd.array(w, context) for w in weights_and_gradients(sizes, 1)[0]]
        states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
        for count, grads in zip((20, 19, 17, 18, 3, 4, 20, 1), weights_and_gradients(sizes, 8)[1]):
            optimizer.update(list(range(count)), weights[:count], [mx.nd.array(g, context) for g in grads[:count]],
                             states[:count])
        results.append([a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]])
    assert_equal_bits(*results)
    if ring.stand_in is not None:
        assert sorted(set(ring.stand_in.launches)) == [3 + 5 * places for places in (1, 4, 32)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_kernels_are_for_few_numbers_of_parameters(dtype):
    is_half = dtype == np.float16
    limit = cuda.group_limit(is_half)
    found = {count: cuda.group_size(count, is_half) for count in range(1, limit + 1)}
    assert all(size >= count for count, size in found.items())
    assert sorted(set(found.values())) == [1, 2, 4, 8, 16, 32, 48, 64, 80, *([] if is_half else [96]), limit]


def test_threads_may_launch_a_kernel_that_another_compiled(ring):
    """`mx.rtc` loads it in the thread that launches first, which needs a CUDA context for that."""
    optimizers = [namsg_mx.NAMSG(kernel="cuda") for _ in range(4)]
    weights = [ring.array(np.arange(5)) for _ in optimizers]
    states = [optimizer.create_state(0, weight) for optimizer, weight in zip(optimizers, weights)]
    grad, errors = ring.array(np.ones(5)), []
    cuda._kernel.cache_clear()
    cuda._compile_error.cache_clear()
    assert cuda._compile_error(ring.context.device_id, False) is None   # compiles, and launches nothing
    together = threading.Barrier(len(optimizers))

    def work(*arrays):
        together.wait()
        try:
            arrays[0].update(0, arrays[1], grad, arrays[2])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=each) for each in zip(optimizers, weights, states)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_equal_bits(*([weight.asnumpy() for weight in some] for some in (weights[1:], weights[:-1])))


def test_learning_rate_and_decay_are_each_parameters_own(ring):
    results = {}
    for context, kernel in ((ring.context, "cuda"), (mx.cpu(), "ndarray")):
        optimizer = mx.optimizer.create("dozatnadam", kernel=kernel, wd=0.1)
        optimizer.set_lr_mult({0: 3.0, 1: 0.5})
        optimizer.set_wd_mult({0: 0.0, 1: 2.0})
        weights = [mx.nd.array(w, context) for w in weights_and_gradients([5, 6], 1)[0]]
        states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
        for k, grads in enumerate(weights_and_gradients([5, 6], 3)[1]):
            optimizer.set_learning_rate(0.01 / (k + 1))   # the numbers of a step are not those of the one before
            optimizer.update([0, 1], weights, [mx.nd.array(g, context) for g in grads], states)
        results[kernel] = [a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]]
    assert_equal_bits(results["cuda"], results["ndarray"])


def test_views_are_updated_where_they_lie(ring):
    """They may begin at any element, and are then loaded one by one."""
    values = np.random.RandomState(0).standard_normal(5000).astype(np.float32)
    base, whole = ring.array(values), ring.array(values[1:4998])
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    for index, weight in enumerate((base[1:4998], whole)):
        optimizer.update(index, weight, ring.array(np.ones(4997)), optimizer.create_state(index, weight))
    np.testing.assert_array_equal(base.asnumpy(), np.concatenate([values[:1], whole.asnumpy(), values[4998:]]))
    assert (whole.asnumpy() < values[1:4998]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_any_one_of_the_arrays_may_begin_where_four_elements_cannot_be_loaded_at_once(ring, dtype):
    def trained(kernel, view):
        optimizer = namsg_mx.NAMSG(kernel=kernel, multi_precision=True)
        weight, grad = (mx.nd.array(values, ring.context, dtype) for values in ([1, -2, 3, 0.5, 4], [1, 2, -3, 1, 1]))
        arrays = [weight, grad, *optimizer.create_state_multi_precision(0, weight)]
        if view < len(arrays):
            buffer = mx.nd.array([0, *arrays[view].asnumpy()], ring.context, arrays[view].dtype)
            arrays[view] = buffer[1:]
        for _ in range(2):
            optimizer.update(0, *arrays[:2], arrays[2:])
        return [each.asnumpy() for each in arrays]

    expected = trained("ndarray", 6)
    for view in range(6):
        assert_equal_bits(trained("cuda", view), expected)


def test_states_are_saved_and_go_on_to_the_bit(ring):
    weights, gradients = weights_and_gradients(SIZES, steps=6)
    results = []
    for interrupted in (False, True):
        updater = mx.optimizer.get_updater(mx.optimizer.create("namsg", kernel="cuda"))
        arrays = [ring.array(w) for w in weights]
        for k, grads in enumerate(gradients):
            if interrupted and k == 3:
                saved = updater.get_states(dump_optimizer=True)
                updater = mx.optimizer.get_updater(mx.optimizer.create("namsg"))
                updater.set_states(saved)
            updater([0, 1, 2], [ring.array(g) for g in grads], arrays)
        assert updater.optimizer.last_update().kernel == "cuda"
        results.append([a.asnumpy() for a in arrays])
    assert_equal_bits(*results)


def test_two_optimizers_take_turns_and_do_not_mix(ring):
    """With one compiled kernel between them, and nothing that waits for the GPU in between."""
    weights, gradients = weights_and_gradients(SIZES, steps=5)
    optimizers = [mx.optimizer.create("namsg", kernel="cuda", learning_rate=lr) for lr in (0.01, 0.003)]
    arrays = [[ring.array(w) for w in weights] for _ in optimizers]
    states = [[optimizer.create_state(i, w) for i, w in enumerate(ws)] for optimizer, ws in zip(optimizers, arrays)]
    for grads in gradients:
        for optimizer, ws, ss in zip(optimizers, arrays, states):
            optimizer.update([0, 1, 2], ws, [ring.array(g) for g in grads], ss)
    for lr, ws, ss in zip((0.01, 0.003), arrays, states):
        alone = train(mx.cpu(), "namsg", "ndarray", weights, gradients, learning_rate=lr, wd=0.0, clip_gradient=None,
                      rescale_grad=1.0, bounds=None)
        assert_equal_bits([a.asnumpy() for w, s in zip(ws, ss) for a in [w, *s]], alone[:-1])


@pytest.mark.parametrize("lazy_update", [False, True])
@pytest.mark.usefixtures("operators")
def test_row_sparse_gradients(ring, lazy_update):
    results = {}
    for context, kernel in ((ring.context, "cuda"), (mx.cpu(), "ndarray")):
        optimizer = namsg_mx.NAMSG(kernel=kernel, wd=0.1, lazy_update=lazy_update)
        weights = [mx.nd.array(np.arange(12).reshape(4, 3), context) for _ in range(3)]
        states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
        for rows in ([0, 2], [2, 3]):
            sparse = mx.nd.sparse.row_sparse_array((np.ones((2, 3), np.float32), rows), shape=(4, 3), ctx=context)
            none = mx.nd.sparse.zeros("row_sparse", (4, 3), ctx=context)
            optimizer.update([0, 1, 2], weights, [sparse, none, mx.nd.array(np.ones((4, 3)), context)], states)
        results[kernel] = [a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]]
    assert_equal_bits(results["cuda"], results["ndarray"])


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("is_sparse", [False, True])
def test_auto_takes_another_kernel_where_a_parameters_arrays_share_memory(ring, is_sparse):
    """Also beside a parameter with a row_sparse gradient, whose rows each step gathers."""
    both, other = ring.array([1.0, 2.0, 3.0, 4.0]), ring.array(np.ones((4, 3)))
    optimizer = namsg_mx.NAMSG(kernel="auto")
    states = [optimizer.create_state(0, both[0:2]), optimizer.create_state(1, other)]
    gradient = ring.array(np.ones((4, 3)))
    if is_sparse:
        gradient = mx.nd.sparse.row_sparse_array((np.ones((2, 3), np.float32), [0, 2]), shape=(4, 3), ctx=ring.context)
    optimizer.update([0, 1], [both[0:2], other], [both[2:4], gradient], states)
    assert optimizer.last_update().kernel == "ndarray"
    assert (both.asnumpy()[:2] < [1, 2]).all() and (other.asnumpy()[[0, 2]] < 1).all()


@pytest.mark.usefixtures("operators")
def test_the_switch_to_sgd(ring):
    weights, gradients = weights_and_gradients(SIZES, steps=5)
    results = train(ring.context, "namsg", "cuda", weights, gradients, switch_to_sgd=2)
    assert_equal_bits(results, train(mx.cpu(), "namsg", "ndarray", weights, gradients, switch_to_sgd=2))


def test_empty_arrays_are_left_alone(ring):
    mx.util.set_np_shape(True)
    try:
        weights = [ring.array(np.ones((n, 4))) for n in (0, 3, 0)]
        optimizer = namsg_mx.NAMSG(kernel="cuda")
        states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
        optimizer.update([0, 1, 2], weights, [ring.array(np.ones((n, 4))) for n in (0, 3, 0)], states)
        optimizer.update(0, weights[0], ring.array(np.ones((0, 4))), states[0])
        assert (weights[1].asnumpy() < 1).all()
    finally:
        mx.util.set_np_shape(False)


def test_arrays_that_share_memory_are_refused(ring):
    weight = ring.array([1.0, 2.0])
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    with pytest.raises(MXNetError, match="views of one memory"):
        optimizer.update(0, weight, weight, optimizer.create_state(0, weight))


def test_parts_of_one_buffer_are_updated_like_arrays_of_their_own(ring):
    """MXNet takes no two of them in one launch."""
    sizes = [3, 100, 1, 17]
    weights, gradients = weights_and_gradients(sizes, steps=3)
    results = []
    for is_flat in (True, False):
        buffer = ring.array(np.concatenate(weights))
        ends = np.cumsum(sizes)
        arrays = [buffer[int(end - size):int(end)] if is_flat else ring.array(w)
                  for end, size, w in zip(ends, sizes, weights)]
        optimizer = namsg_mx.NAMSG(kernel="cuda")
        states = [optimizer.create_state(i, w) for i, w in enumerate(arrays)]
        for grads in gradients:
            optimizer.update(list(range(4)), arrays, [ring.array(g) for g in grads], states)
        results.append([each.asnumpy() for each in [*arrays, *(each for state in states for each in state)]])
    assert_equal_bits(*results)


def test_nothing_of_the_kernel_is_pickled(ring):
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    weight = ring.array([1.0, np.nan])
    optimizer.update(0, weight, weight.copy(), optimizer.create_state(0, weight))
    copy = pickle.loads(pickle.dumps(optimizer))
    assert copy.last_update() == optimizer.last_update()
    assert copy._calls.latest == {}


@pytest.fixture
def invoked(monkeypatch):
    """MXNet's operators, as they are invoked from here on: their names, and the contexts of their arrays."""
    calls, invoke = [], register._imperative_invoke

    def spy(handle, arrays, keys, values, out, *rest):
        name = ctypes.c_char_p()
        check_call(_LIB.MXSymbolGetAtomicSymbolName(ctypes.c_void_p(handle), ctypes.byref(name)))
        outputs = out if isinstance(out, list) else [] if out is None else [out]
        contexts = {str(array.context) for array in [*arrays, *outputs]} | {dict(zip(keys, values)).get("ctx")}
        calls.append((name.value.decode(), contexts))
        return invoke(handle, arrays, keys, values, out, *rest)

    monkeypatch.setattr(register, "_imperative_invoke", spy)
    return calls


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_no_operator_of_mxnets_runs_on_the_gpu(ring, dtype, invoked):
    """From states to steps there are copies alone, as MXNet has no machine code for GPUs that are newer than it."""
    optimizer = namsg_mx.NAMSG(kernel="cuda", multi_precision=True, learning_rate=namsg_mx.HarmonicDecay(0.1))
    weight, grad = ring.array([1.0, 2.0], dtype), ring.array([0.5, np.inf], dtype)
    state = optimizer.create_state_multi_precision(0, weight)
    for _ in range(3):
        optimizer.update(0, weight, grad, state)
    assert optimizer.last_update().nonfinite == 3
    assert {name for name, contexts in invoked if str(ring.context) in contexts} == {"_copyto"}


def test_numbers_travel_only_when_they_have_changed(ring, invoked):
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    weight, grad = ring.array([1.0, 2.0]), ring.array([0.5, 0.3])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, grad, state)
    invoked.clear()
    for learning_rate, copies in ((0.002, 0), (0.2, 1), (0.2, 1), (0.1, 2)):
        optimizer.set_learning_rate(learning_rate)
        optimizer.update(0, weight, grad, state)
        assert len(invoked) == copies


@pytest.mark.skipif(RINGS["c-mxnet"] is not None, reason=str(RINGS["c-mxnet"]))
def test_a_gradient_on_another_device_is_refused():
    """Ring (c). The kernel would read wild memory."""
    optimizer, weight = namsg_mx.NAMSG(), mx.nd.array([1.0, 1.0], mx.gpu(0))   # an operator of MXNet's may not run
    with pytest.raises(ValueError, match=r"must be on one device, not gpu\(0\), cpu"):
        optimizer.update(0, weight, mx.nd.ones((2,)), optimizer.create_state(0, weight))


@pytest.mark.skipif(RINGS["c-mxnet"] is not None, reason=str(RINGS["c-mxnet"]))
def test_a_process_whose_thread_launched_ends_in_peace():
    """Ring (c). At exit MXNet would unload the kernel in the main thread, which has no CUDA context here."""
    script = textwrap.dedent("""
        import threading
        import namsg_mx
        import mxnet as mx
        def work():
            optimizer = namsg_mx.NAMSG(kernel='cuda')
            weight = mx.nd.array([1.0], mx.gpu(0))
            optimizer.update(0, weight, mx.nd.array([1.0], mx.gpu(0)), optimizer.create_state(0, weight))
            print(weight.asscalar() < 1)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """)
    result = subprocess.run([sys.executable, "-c", script], check=True, text=True, stdout=subprocess.PIPE)
    assert result.stdout.strip() == "True"


@lru_cache(maxsize=None)
def nvrtc():
    """NVRTC, from the loader's path or a package of NVIDIA's, or None."""
    packaged = (str(path) for folder in sys.path for path in Path(folder).glob("nvidia/*/lib/libnvrtc.so.*"))
    for name in ["libnvrtc.so", "libnvrtc.so.11.2", *packaged]:   # the second is the one that MXNet's CUDA build loads
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    return None


def nvrtc_ptx(source, options):
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(
        *(option.encode() for option in options)))
    get_size, get = ((library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog) if status else
                     (library.nvrtcGetPTXSize, library.nvrtcGetPTX))
    get_size(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    get(program, text)
    assert status == 0, text.value.decode()
    return text.value.decode()


def nvcc_ptx(source, options):
    result = subprocess.run(["nvcc", "-x", "cu", "-ptx", *options, "-o", "-", "-"], input=source, text=True, check=True,
                            stdout=subprocess.PIPE)
    return result.stdout


def nvrtc_architectures():
    """The numbers of the architectures that it compiles for."""
    count = ctypes.c_int()
    nvrtc().nvrtcGetNumSupportedArchs(ctypes.byref(count))
    architectures = (ctypes.c_int * count.value)()
    nvrtc().nvrtcGetSupportedArchs(architectures)
    return list(architectures)


def nvcc_architectures():
    listed = subprocess.run(["nvcc", "--list-gpu-arch"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return [int(word.split("_")[1]) for word in listed.split()]


@pytest.mark.parametrize("architecture", [None, 70, 80, 90])
@pytest.mark.parametrize("compiler", ["nvrtc", "nvcc"])
def test_the_source_passes_cudas_compilers(compiler, architecture):
    """Ring (a). Without architecture: as MXNet compiles it."""
    if nvrtc() is None if compiler == "nvrtc" else shutil.which("nvcc") is None:
        pytest.skip(f"no {compiler} here")
    known = nvrtc_architectures() if compiler == "nvrtc" else nvcc_architectures()
    if architecture not in (None, *known):
        pytest.skip(f"this {compiler} knows no compute_{architecture}")
    options = list(cuda.OPTIONS) + [f"--gpu-architecture=compute_{architecture}"] * (architecture is not None)
    compile_to_ptx = nvrtc_ptx if compiler == "nvrtc" else nvcc_ptx
    full = (cuda.group_limit(False), cuda.group_limit(True))
    for is_half, division, skip, count in ((False, "v_hat", False, full[False]), (True, "v", True, full[True]),
                                           (False, "none", False, 1)):
        ptx = compile_to_ptx(cuda.cuda_source(is_half, division, skip, count), options)
        assert "fma." not in ptx       # each operation is rounded by itself
        assert "mul.ftz" not in ptx    # and subnormal numbers count
        assert ".v4." in ptx           # four elements are loaded at once
        assert ".local" not in ptx     # and pointers looked up without a copy of all of them for each thread


def reserved(n):
    """n elements of float32, of which memory is taken for those alone that are written: also where there is less."""
    map_noreserve = 0x4000   # of Linux
    memory = mmap.mmap(-1, 4 * n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | map_noreserve)
    return np.frombuffer(memory, np.float32)


@pytest.mark.skipif(RINGS["a-cpu"] is not None, reason=str(RINGS["a-cpu"]))
def test_elements_beyond_32_bits():
    """Ring (a). Of 2**32 + 5 elements the last block's, in memory that is only reserved."""
    n = 2**32 + 5
    places, blocks = cuda.place_table([n])
    weight, grad, m = arrays = [reserved(n) for _ in range(3)]
    for each, value in zip(arrays, (1.0, 0.5, 0.25)):
        each[-5:] = value
    nonfinite = np.zeros(1, np.int64)
    scalars = kernels.Scalars(rescale_grad=1.0, clip_gradient=None, beta1=0.5, beta2=0.0, epsilon=0.0, division="none",
                              decoupled_wd=False, bounds=None, skip_nonfinite=False)
    numbers = cuda.number_table(fused.step_scalars(scalars, np.float32),
                                fused.step_coefficients(kernels.Coefficients([0.1], [0.0], 0.5, 0.5), False))
    library = compile_for_cpu(cuda.cuda_source(False, "none", False, 1))
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (places, numbers, nonfinite, *arrays)]
    launch_on_cpu(library, pointers, blocks - 1, blocks, cuda.THREADS)
    np.testing.assert_array_equal(m[-5:], np.full(5, 0.375, np.float32))
    np.testing.assert_array_equal(weight[-5:], np.full(5, np.float32(1.0) - np.float32(0.1) * np.float32(0.375)))
    assert nonfinite[0] == 0


def test_on_the_cpu_it_raises_when_asked_for_by_name():
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    weight = mx.nd.array([1.0])
    with pytest.raises(RuntimeError, match=r"kernel='cuda': runs on a GPU, and the weights are on cpu\(0\)"):
        optimizer.update(0, weight, weight.copy(), optimizer.create_state(0, weight))


def test_what_it_does_not_take_is_said(monkeypatch):
    monkeypatch.setattr(cuda, "_compute_capability", lambda device: None)
    assert cuda.unsupported(mx.gpu(0), np.float64) == "takes float32 and float16 weights, not float64"


@pytest.mark.skipif(mx.context.num_gpus() > 0, reason="MXNet has a GPU here")
def test_an_mxnet_without_cuda_is_the_reason_given():
    assert cuda.unsupported(mx.gpu(0), np.float32).startswith("did not load: ")


@pytest.mark.parametrize(("major", "minor", "gpus", "expected"), [(8, 9, 1, 0), (9, 0, 1, 1), (12, 0, 1, 1),
                                                                  (9, 0, 0, 0)])
def test_a_gpu_newer_than_mxnet_is_told_once(tmp_path, monkeypatch, major, minor, gpus, expected):
    """With a driver that knows one GPU of this compute capability; an MXNet without CUDA sees none."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler here")
    (tmp_path / "driver.c").write_text(f"""
        int cuInit(unsigned flags) {{ return flags; }}
        int cuDeviceGet(int *device, int ordinal) {{ *device = 7; return ordinal; }}
        int cuDeviceGetAttribute(int *value, int attribute, int device) {{
          *value = attribute == 75 ? {major} : {minor};
          return device != 7 || (attribute != 75 && attribute != 76);
        }}
    """)
    driver = str(tmp_path / "driver.so")
    subprocess.run([compiler, "-shared", "-fPIC", str(tmp_path / "driver.c"), "-o", driver], check=True)
    monkeypatch.setattr(cuda, "DRIVER", driver)
    monkeypatch.setattr(cuda, "num_gpus", lambda: gpus)
    cuda._warn_of_missing_operators.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            cuda.unsupported(mx.gpu(0), np.float64)
    cuda._warn_of_missing_operators.cache_clear()
    assert len(caught) == expected
    assert all(f"compute capability {major}.{minor}, and MXNet 1.9.1" in str(each.message) for each in caught)
    assert cuda._compute_capability(1) is None   # there is no such GPU


def test_without_a_driver_nothing_is_said(monkeypatch):
    monkeypatch.setattr(cuda, "DRIVER", "libcuda-that-is-not-there.so.1")
    assert cuda._compute_capability(0) is None
