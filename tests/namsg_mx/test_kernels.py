"""The kernels against each other and against step.h compiled by itself; their choice; arrays that they refuse."""

import contextlib
import ctypes
import gc
import os
import platform
import shutil
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from comparison import (
    CPU_KERNEL,
    METHODS,
    array,
    assert_close,
    assert_equal_bits,
    largest_terms,
    reference_step,
    signed_gradients,
    weights_and_gradients,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet.base import _LIB, MXNetError, check_call

import namsg_mx
from namsg_mx import kernels

PACKAGE = Path(namsg_mx.__file__).parent
OPTIONS = {"learning_rate": 0.013, "wd": 0.07, "clip_gradient": 1.3, "rescale_grad": 0.3, "bounds": (-1.1, 0.8)}
pytestmark = CPU_KERNEL


def train(method, kernel, weights, gradients, dtype=np.float32, **options):
    """All the bits after some steps: weights and states."""
    optimizer = mx.optimizer.create(method, kernel=kernel, multi_precision=True, **dict(OPTIONS, **options))
    weights = [array(w, dtype) for w in weights]
    states = [optimizer.create_state_multi_precision(i, w) for i, w in enumerate(weights)]
    for grads in gradients:
        optimizer.update(list(range(len(weights))), weights, [array(g, dtype) for g in grads], states)
    assert optimizer.last_update().kernel == kernel
    return [a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"wd": 0.0}, {"decoupled_wd": True}, {"nonfinite": "skip"}],
                         ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_kernels_agree_to_the_bit(method, options, dtype):
    """Every operation is rounded by itself in both, so there is nothing to differ in: NaN and infinity included."""
    if method in ("namsb", "amsbound"):
        options = dict(options, gamma=0.5)   # both limits act, and not on all elements
    weights, gradients = weights_and_gradients([1, 7, 64, 300, 4097], steps=6)
    gradients[3][2][5:9] = [np.nan, np.inf, -np.inf, 1e30]
    cpu, ndarray = (train(method, kernel, weights, gradients, dtype, **options) for kernel in ("cpu", "ndarray"))
    assert_equal_bits(cpu, ndarray)


def test_every_size_follows_the_reference_alone_and_in_company():
    sizes = [*range(1, 301), 4097, 65537]
    weights, gradients = weights_and_gradients(sizes, steps=1)
    settings = dict(OPTIONS, beta1=0.85, beta2=0.97, epsilon=1e-6, eta=1.5)
    together = train("namsg", "cpu", weights, gradients, beta1=0.85, beta2=0.97, epsilon=1e-6, eta=1.5)
    lr = settings.pop("learning_rate")
    for i, n in enumerate(sizes):
        x, g = weights[i].astype(np.float64), gradients[0][i].astype(np.float64)
        before = {"m": np.zeros(n), "v": np.zeros(n), "v_hat": np.full(n, np.float64(np.float32(1e-6)))}
        expected, state = reference_step("namsg", x, g, before, 1, lr, settings)
        terms = largest_terms(x, g, before, state, lr, settings)
        names = ("x", "m", "v", "v_hat")
        for name, value in zip(names, together[4 * i:4 * i + 4]):
            assert_close(f"{name} of size {n}", value, {"x": expected, **state}[name], terms[name])
        alone = train("namsg", "cpu", [weights[i]], [[gradients[0][i]]], beta1=0.85, beta2=0.97, epsilon=1e-6, eta=1.5)
        assert all(map(np.array_equal, alone, together[4 * i:4 * i + 4]))


@pytest.mark.slow
def test_25_million_elements_follow_the_reference():
    n = 25_000_000
    random = np.random.Generator(np.random.PCG64(0))
    x, g = random.standard_normal((2, n), dtype=np.float32)
    optimizer = namsg_mx.NAMSG(learning_rate=0.01, eta=1.5, kernel="cpu")
    weight = array(x)
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array(g), state)
    hyper = {"beta1": 0.9, "beta2": 0.99, "eta": 1.5}
    values = [weight.asnumpy(), *(a.asnumpy() for a in state)]
    for part in np.array_split(np.arange(n), 25):
        at = slice(part[0], part[-1] + 1)
        x64, g64 = x[at].astype(np.float64), g[at].astype(np.float64)
        before = {"m": 0 * x64, "v": 0 * x64, "v_hat": 0 * x64 + np.float64(np.float32(1e-8))}
        expected, new = reference_step("namsg", x64, g64, before, 1, 0.01, hyper)
        terms = largest_terms(x64, g64, before, new, 0.01, hyper)
        for name, value in zip(("x", "m", "v", "v_hat"), values):
            assert_close(name, value[at], {"x": expected, **new}[name], terms[name])


def test_thread_counts_agree_to_the_bit(tmp_path):
    script = textwrap.dedent("""
        import sys
        import namsg_mx, numpy as np
        import mxnet as mx
        random = np.random.RandomState(0)
        sizes = [40_000, 17, 65_537, 3, 129, 16_384]
        optimizer = namsg_mx.NAMSG(kernel='cpu', wd=0.1)
        weights = [mx.nd.array(random.standard_normal(n)) for n in sizes]
        states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
        for k in range(3):
            gradients = [mx.nd.array(random.standard_normal(n)) for n in sizes]
            gradients[2][k] = float('nan')
            optimizer.update(list(range(len(sizes))), weights, gradients, states)
        assert optimizer.last_update().nonfinite == 3
        np.save(sys.argv[1], np.concatenate([a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]]))
    """)
    results = []
    for threads in (1, 2, 3):
        path = tmp_path / f"{threads}.npy"
        subprocess.run([sys.executable, "-c", script, str(path)], check=True,
                       env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
        results.append(path.read_bytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets a register of x86-64")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_program_that_flushes_subnormal_numbers_gets_the_same_bits(tmp_path, dtype):
    """As any does that loads a library linked with -ffast-math; MXNet's threads inherit it."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler here")
    (tmp_path / "flush.c").write_text("void flush(void) { __builtin_ia32_ldmxcsr(0x1f80 | 0x8040); }")
    subprocess.run([compiler, "-shared", "-fPIC", str(tmp_path / "flush.c"), "-o", str(tmp_path / "flush.so")],
                   check=True)
    script = textwrap.dedent("""
        import ctypes, sys
        library, given, path = sys.argv[1:]
        if library:
            ctypes.CDLL(library).flush()
        import namsg_mx
        import mxnet as mx, numpy as np
        gradients = np.load(given)
        dtype = gradients.dtype
        optimizer = namsg_mx.NAMSG(kernel='cpu', multi_precision=True, epsilon=1.2e-38)
        weight = mx.nd.array(np.full(len(gradients), 0.5), dtype=dtype)
        state = optimizer.create_state_multi_precision(0, weight)
        for _ in range(2):
            optimizer.update(0, weight, mx.nd.array(gradients, dtype=dtype), state)
        np.savez(path, *(each.asnumpy() for each in (weight, *state)))
    """)
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits[(bits & 0x7c00) != 0x7c00].view(np.float16)   # all that are finite
    given, results = tmp_path / "gradients.npy", []
    np.save(given, halves if dtype == "float16" else (halves.astype(np.float64) * 2.0**-120).astype(np.float32))
    for library in ("", str(tmp_path / "flush.so")):
        path = tmp_path / f"{bool(library)}.npz"
        subprocess.run([sys.executable, "-W", "ignore", "-c", script, library, str(given), str(path)], check=True)
        with np.load(path) as saved:
            results.append([saved[name] for name in saved.files])
    assert_equal_bits(*results)
    if dtype == "float32":
        m = np.abs(results[0][1])
        assert ((m > 0) & (m < np.finfo(np.float32).tiny)).any()


@pytest.fixture(scope="module")
def scalar_step(tmp_path_factory):
    """step.h as plain C, one element at a time and without optimization: no vector instruction, no thread."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("scalar")
    (folder / "scalar.c").write_text("""
        #include "step.h"
        int step(long n, const float *g, float *w, float *m, float *v, float *v_hat, const namsg_scalars *s,
                 const namsg_coefficients *c, int division, int skip) {
          int count = 0;
          for (long i = 0; i < n; ++i)
            count += namsg_element(g[i], w + i, m + i, v + i, v_hat + i, s, c, division, skip);
          return count;
        }
        void from_halves(long n, const uint16_t *h, float *x) {
          for (long i = 0; i < n; ++i) x[i] = namsg_from_half(h[i]);
        }
        void to_halves(long n, const float *x, uint16_t *h) {
          for (long i = 0; i < n; ++i) h[i] = namsg_to_half(x[i]);
        }
        #ifdef __SSE2__
        #include <xmmintrin.h>
        void from_halves_flushed(long n, const uint16_t *h, float *x) {
          const unsigned before = _mm_getcsr();
          _mm_setcsr(before | 0x8040);   /* flush to zero, denormals are zeros */
          from_halves(n, h, x);
          _mm_setcsr(before);
        }
        #endif
    """)
    library = folder / "scalar.so"
    subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O0", "-ffp-contract=off",
                    "-shared", "-fPIC", f"-I{PACKAGE / 'kernels'}", str(folder / "scalar.c"), "-o", str(library),
                    "-lm"], check=True)
    return ctypes.CDLL(str(library))


def pointer(values):
    return values.ctypes.data_as(ctypes.c_void_p)


@pytest.mark.parametrize("limits", [None, (0.2, 0.9)])
@pytest.mark.parametrize(("division", "skip"), [(d, s) for d in (0, 1, 2) for s in (0, 1)])
def test_vector_instructions_change_no_bit(scalar_step, division, skip, limits):
    """What this processor runs, AVX-512 perhaps, is what every processor computes."""
    n = 1000
    random = np.random.RandomState(0)
    w, m = random.standard_normal((2, n)).astype(np.float32)
    v = (random.standard_normal(n) ** 2).astype(np.float32)
    v_hat = np.maximum(v, (random.standard_normal(n) ** 2).astype(np.float32))
    g = signed_gradients(n, 1)[0]
    g[::97], g[1::97], v[2::97], g[2::97] = np.nan, np.inf, 1e-42, 1e-22
    scalars = kernels.Scalars(0.3, 1.3, 0.85, 0.97, 1e-4 if division == 1 else 0.0, ("none", "v", "v_hat")[division],
                              False, (-1.125, 0.75), bool(skip), limits)
    coefficients = kernels.Coefficients([0.01], [0.07], 0.7, 0.3, 1.1)
    arrays = [array(a) for a in (w, m, v, v_hat)]
    count = mx.nd.zeros((1,), dtype=np.int64)
    state = arrays[1:2 + division] if division else arrays[1:2]
    kernels.cpu.bind(arrays[:1], [array(g)], [state], False).step(scalars, coefficients, count)

    c_scalars = (ctypes.c_float * 11)(0.3, 1.3, 0.85, 1 - 0.85, 0.97, 1 - 0.97, scalars.epsilon, -1.125, 0.75,
                                      *limits or (0, np.inf))
    c_coefficients = (ctypes.c_float * 6)(0.01, 0.07, 0.0, 0.7, 0.3, 1.1)
    expected_count = scalar_step.step(ctypes.c_long(n), pointer(g), pointer(w), pointer(m), pointer(v), pointer(v_hat),
                                      c_scalars, c_coefficients, division, skip)
    assert count.asscalar() == expected_count > 0
    for value, expected in zip(arrays, (w, m, v, v_hat)):
        np.testing.assert_array_equal(value.asnumpy(), expected)


def test_half_precision_conversions_are_numpys(scalar_step):
    halves = np.arange(65536, dtype=np.uint16)
    floats = np.empty(65536, np.float32)
    scalar_step.from_halves(ctypes.c_long(65536), pointer(halves), pointer(floats))
    assert_equal_bits([floats], [halves.view(np.float16).astype(np.float32)])
    if platform.machine() == "x86_64":
        flushed = np.empty(65536, np.float32)
        scalar_step.from_halves_flushed(ctypes.c_long(65536), pointer(halves), pointer(flushed))
        np.testing.assert_array_equal(flushed.view(np.uint32), floats.view(np.uint32))

    edges = halves.view(np.float16)[:0x7c00].astype(np.float64)
    ties = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
    random = np.random.RandomState(0).randint(0, 2**32, 300_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([ties, -ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf)), random,
                        np.float32([65519.99, 65520, 65536, np.inf, -np.inf, np.nan, 0, -0.0, 2**-25, 2**-24])])
    converted = np.empty(len(x), np.uint16)
    scalar_step.to_halves(ctypes.c_long(len(x)), pointer(x), pointer(converted))
    with np.errstate(over="ignore"):
        assert_equal_bits([converted.view(np.float16)], [x.astype(np.float16)])


INFINITE = float("inf")
BOXES = {   # dtype, bounds: the largest box inside them that the dtype has
    "float16": (np.float16, (-0.3, 0.3), (-0.2998046875, 0.2998046875)),
    "float16, large": (np.float16, (-1e5, 70000), (-65504, 65504)),
    "float16, small": (np.float16, (1e-9, 0.5), (2.0**-24, 0.5)),
    "float16, open": (np.float16, (-INFINITE, 0.1), (-INFINITE, 0.0999755859375)),
    "float32": (np.float32, (0, 1 - 1e-8), (0, 1 - 2.0**-24)),
    "float32, exact": (np.float32, (-0.25, 0.5), (-0.25, 0.5)),
    "float32, open": (np.float32, (-0.1, INFINITE), (-0.0999999940395355224609375, INFINITE)),
    "float32, one number": (np.float32, (1, 1 + 1e-9), (1, 1)),
    "float64": (np.float64, (-0.1, 1 - 1e-12), (-0.1, 1 - 1e-12)),
    # MXNet's operators read these digits as other numbers.
    "float64, digits": (np.float64, (-7.62544562091512e-06, 0.9535221763806743),
                        (-7.62544562091512e-06, 0.9535221763806743)),
    "float64, subnormal": (np.float64, (-8.33e-321, 8.073e-321), (-8.33e-321, 8.073e-321)),
}


@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
@pytest.mark.parametrize(("dtype", "bounds", "box"), BOXES.values(), ids=BOXES)
def test_weights_stay_inside_the_box(kernel, dtype, bounds, box):
    """On their way to each end they stop at the last number of their precision, and so does their master copy."""
    if kernel == "cpu" and dtype == np.float64:
        pytest.skip("the CPU kernel takes no float64 weights")
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, bounds=bounds, kernel=kernel, multi_precision=True)
    weight = array([0.0, 0.0, np.nan], dtype)
    state = optimizer.create_state_multi_precision(0, weight)
    for _ in range(2):   # the step's size is that of the gradient
        optimizer.update(0, weight, array([6e4, -6e4, 0], dtype), state)
    for values in (weight, *state[1:]):
        low, high, unknown = values.asnumpy().astype(np.float64)
        with np.errstate(over="ignore"):
            assert (low, high) == tuple(np.clip([-1.2e5, 1.2e5], *box).astype(values.dtype))
        assert np.isnan(unknown)


def test_a_float64_gradient_is_clipped_to_the_bit():
    clip = 0.9535221763806743
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, clip_gradient=clip)
    weight = array([0.0, 0.0], np.float64)
    optimizer.update(0, weight, array([-2.0, 2.0], np.float64), optimizer.create_state(0, weight))
    assert weight.asnumpy().tolist() == [clip, -clip]


@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
def test_a_box_without_a_number_is_refused(kernel):
    for dtype, bounds in ((np.float16, (0.30001, 0.30002)), (np.float32, (1 + 1e-9, 1 + 2e-9)),
                          (np.float16, (1e5, INFINITE)), (np.float32, (-INFINITE, -1e39))):
        optimizer = namsg_mx.NAMSG(bounds=bounds, kernel=kernel, multi_precision=True)
        weight = array([1.0], dtype)
        state = optimizer.create_state_multi_precision(0, weight)
        with pytest.raises(ValueError, match=f"^bounds=.*: there is no {dtype.__name__} number between them"):
            optimizer.update(0, weight, weight.copy(), state)
        assert (weight.asscalar(), optimizer.num_update) == (1, 0)


def test_zeros_keep_their_sign_at_a_limit_of_zero_in_every_kernel():
    for bounds, expected in (((0, 1), [0.0, -0.0, 0.0, 0.25]), ((-0.0, 1), [0.0, -0.0, 0.0, 0.25]),
                             ((-1, 0), [0.0, -0.0, -0.25, 0.0]), ((-1, -0.0), [0.0, -0.0, -0.25, 0.0])):
        for kernel in ("cpu", "ndarray"):
            optimizer = namsg_mx.AveragedSGD(learning_rate=0.5, beta1=0.0, bounds=bounds, kernel=kernel)
            weight = array([0.0, -0.0, 0.0, -0.0])
            optimizer.update(0, weight, array([0, 0, 0.5, -0.5]), optimizer.create_state(0, weight))
            assert_equal_bits([weight.asnumpy()], [np.float32(expected)])


def test_states_of_one_kernel_go_on_in_the_other():
    weights, gradients = weights_and_gradients([50, 7], steps=8)
    results = []
    for first, second in (("cpu", "ndarray"), ("ndarray", "cpu"), ("cpu", "cpu")):
        updater = mx.optimizer.get_updater(mx.optimizer.create("namsg", kernel=first))
        arrays = [array(w) for w in weights]
        for k, grads in enumerate(gradients):
            if k == 4:
                states = updater.get_states()
                updater = mx.optimizer.get_updater(mx.optimizer.create("namsg", kernel=second))
                updater.set_states(states)
            updater([0, 1], [array(g) for g in grads], arrays)
        results.append(np.concatenate([a.asnumpy() for a in arrays]))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("shape", [(), (4,), (2, 2), (1, 2, 1, 2), (1, 2, 1, 2, 1)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_two_handles_are_one_array_if_memory_place_dtype_and_shape_are_one(shape, dtype):
    def handle(array):
        return array.as_np_ndarray().as_nd_ndarray()

    with mx.util.np_shape():
        each = array(np.ones((3, *shape)), dtype)
        first, second = each[0], each[1]
        assert kernels.memory.is_same_array(first, handle(first))
        others = [second, first.copy(), each[0:1], handle(first.reshape((1, *shape)))]
        assert not any(kernels.memory.is_same_array(first, other) for other in others)
        assert kernels.memory.form(first)[2:] == (kernels.memory.form(first.copy())[2], shape)


def test_the_kernel_that_ran_can_be_asked():
    for dtype, expected in ((np.float32, "cpu"), (np.float64, "ndarray")):
        optimizer = namsg_mx.NAMSG()
        weight = array([1.0], dtype)
        optimizer.update(0, weight, weight.copy(), optimizer.create_state(0, weight))
        assert optimizer.last_update().kernel == expected


@contextlib.contextmanager
def held(values):
    """Inside ``with``, the engine has yet to write to this array: whatever reads it waits."""
    may_end = threading.Event()
    write = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: may_end.wait() and None)
    handle, cpu = ctypes.c_void_p(values.handle.value), (ctypes.c_int32 * 2)(mx.cpu().device_typeid, 0)
    check_call(_LIB.MXEnginePushSyncND(write, None, None, ctypes.byref(cpu), None, 0, ctypes.byref(handle), 1, None, 0,
                                       b"held"))
    try:
        yield
    finally:
        may_end.set()
        mx.nd.waitall()


def test_a_gradient_that_the_engine_has_yet_to_make_is_not_allocated_by_binding_it():
    """MXNet allocates without a lock: asking for an address beside the engine now and then lost a gradient."""
    weight, source = array(np.zeros(5)), array(np.ones(5))
    optimizer = namsg_mx.NAMSG(kernel="cpu")
    state = optimizer.create_state(0, weight)
    with held(source):
        grad = source * 1.0
        allocated = ctypes.c_void_p.from_address(kernels.memory.chunk(grad))
        assert allocated.value is None
        optimizer.update(0, weight, grad, state)
        assert allocated.value is None
    assert (weight.asnumpy() < 0).all()


def weight_as_gradient():
    weight = array([1.0, 2.0, 3.0, 4.0])
    return [weight], [weight], [[array(np.zeros(4)) for _ in range(3)]]


def weights_that_overlap():
    both = array([1.0, 2.0, 3.0, 4.0])
    return ([both[0:3], both[1:4]], [array(np.ones(3)) for _ in range(2)],
            [[array(np.zeros(3)) for _ in range(3)] for _ in range(2)])


def one_state_twice():
    return [array([1.0])], [array([1.0])], [[array([0.0])] * 3]


OVERLAPPING = pytest.mark.parametrize("make", [weight_as_gradient, weights_that_overlap, one_state_twice])


@OVERLAPPING
def test_arrays_that_overlap_are_refused(make):
    weights, grads, states = make()
    optimizer = namsg_mx.NAMSG(kernel="cpu")
    with pytest.raises(MXNetError, match="views of one memory, and overlap; take kernel='ndarray'"):
        optimizer.update(list(range(len(weights))), weights, grads, states)


@OVERLAPPING
def test_auto_takes_another_kernel_for_arrays_that_overlap(make):
    results = []
    for kernel in ("auto", "ndarray"):
        weights, grads, states = make()
        before = weights[0].asnumpy()
        optimizer = namsg_mx.NAMSG(kernel=kernel)
        for _ in range(3):
            optimizer.update(list(range(len(weights))), weights, grads, states)
        assert optimizer.last_update().kernel == "ndarray"
        results.append([each.asnumpy() for each in [*weights, *(each for state in states for each in state)]])
        assert not np.array_equal(results[-1][0], before)
    assert_equal_bits(*results)


def parts(buffer, sizes):
    """Views of one flat buffer, one after the other."""
    ends = np.cumsum(sizes)
    return [buffer[int(end - size):int(end)] for end, size in zip(ends, sizes)]


TAKES_NO_MEMORY_TWICE = pytest.mark.timeout(600)   # else MXNet's engine waits without end


@TAKES_NO_MEMORY_TWICE
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("flat", ["weights", "gradients", "both apart", "both in one"])
def test_parts_of_one_buffer_are_updated_like_arrays_of_their_own(flat, dtype):
    """As programs have them that reduce all gradients at once."""
    sizes = [3, 100, 1, 17]
    weights, gradients = weights_and_gradients(sizes, steps=5)
    results = []
    for buffers in (flat, "none"):
        total = sum(sizes)
        memory = [array(np.zeros(n), dtype) for n in ((2 * total,) if buffers == "both in one" else (total, total))]
        homes = [memory[0][:total], memory[0][total:]] if buffers == "both in one" else memory
        arrays = [parts(homes[0], sizes) if buffers in ("weights", "both apart", "both in one")
                  else [array(w, dtype) for w in weights],
                  parts(homes[1], sizes) if buffers in ("gradients", "both apart", "both in one")
                  else [array(w, dtype) for w in weights]]
        for view, values in zip(arrays[0], weights):
            view[:] = array(values, dtype)
        optimizer = namsg_mx.NAMSG(kernel="cpu", multi_precision=True)
        states = [optimizer.create_state_multi_precision(i, w) for i, w in enumerate(arrays[0])]
        bindings = []
        for grads in gradients:
            for view, values in zip(arrays[1], grads):
                view[:] = array(values, dtype)
            optimizer.update(list(range(len(sizes))), *arrays, states)
            bindings.append(next(iter(optimizer._calls.latest.values())).bindings)
        assert all(each is bindings[0] for each in bindings)
        results.append([each.asnumpy() for each in [*arrays[0], *(each for state in states for each in state)]])
    assert_equal_bits(*results)


@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
def test_gradients_of_earlier_updates_are_let_go(kernel):
    """Else a program that makes new ones for each update would keep another set of them all the time."""
    optimizer, weight = namsg_mx.NAMSG(kernel=kernel), array(np.zeros(100))
    state, gradients = optimizer.create_state(0, weight), [array(np.ones(100)) for _ in range(4)]
    before = [sys.getrefcount(gradient) for gradient in gradients]
    for gradient in gradients:
        optimizer.update(0, weight, gradient, state)
    del gradient
    gc.collect()
    assert [sys.getrefcount(gradient) for gradient in gradients][:3] == before[:3]   # the latest may be given again


def use_count(values):
    """How many handles of an array there are, a kernel's and the engine's among them."""
    # An NDArray begins with a std::shared_ptr; its second word points to libstdc++'s block, a pointer and the count.
    block = ctypes.c_void_p.from_address(values.handle.value + ctypes.sizeof(ctypes.c_void_p)).value
    return ctypes.c_int32.from_address(block + ctypes.sizeof(ctypes.c_void_p)).value


def assert_use_counts(arrays, expected):
    """Waits, as the engine frees what an operation held shortly after its end."""
    mx.nd.waitall()
    end = time.monotonic() + 60
    while (found := list(map(use_count, arrays))) != expected and time.monotonic() < end:
        time.sleep(0.01)
    assert found == expected


def test_the_count_of_handles_is_read_where_it_is():
    values = array([[1.0], [2.0]])
    assert use_count(values) == 1
    view = values[0:1]
    assert use_count(values) == use_count(view) == 2
    del view
    assert use_count(values) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_kernels_own_handles_are_let_go(dtype):
    """Of the arrays on a device that a parameter has left, and of the rest when the optimizer goes."""
    optimizer, arrays = namsg_mx.NAMSG(kernel="cpu", multi_precision=True), []
    for context in (mx.cpu(0), mx.cpu(1)):
        weight = mx.nd.ones((3,), context, dtype)
        grad, state = weight.copy(), optimizer.create_state_multi_precision(0, weight)
        for _ in range(3):
            optimizer.update(0, weight, grad, state)
        arrays.append([weight, grad, *state])
        assert min(map(use_count, arrays[-1])) > 1
    left, present = arrays
    assert_use_counts(left, [1] * len(left))
    del optimizer
    gc.collect()
    assert_use_counts(present, [1] * len(present))


@pytest.mark.parametrize("is_sparse", [False, True])
def test_many_updates_hold_no_more_handles_than_one(is_sparse):
    """Neither of the weight and its state, nor of the count of non-finite gradients, nor of gradients before."""
    optimizer, weight = namsg_mx.NAMSG(kernel="cpu"), array(np.zeros((4, 3)))
    state = optimizer.create_state(0, weight)
    gradients = [array(np.ones((4, 3))).tostype("row_sparse" if is_sparse else "default") for _ in range(100)]
    optimizer.update(0, weight, gradients[0], state)
    mx.nd.waitall()
    count, _ = optimizer._calls._counts[mx.cpu(0)]
    kept = [weight, *state, count]
    held = [1] * 5 if is_sparse else [2] * 4 + [1]   # a binding with sparse gradients is made anew each time
    assert_use_counts(kept, held)
    for gradient in gradients:
        optimizer.update(0, weight, gradient, state)
    assert_use_counts([*kept, *gradients[:-1]], [*held, *[1] * 99])


@TAKES_NO_MEMORY_TWICE
def test_other_gradients_are_taken_in_the_place_of_those_before():
    """Some programs make new ones for each update: of arrays of their own, of one buffer, of the one before."""
    sizes = [3, 100, 1]
    weights, gradients = weights_and_gradients(sizes, steps=8)
    results = []
    for kind in ("anew", "kept"):
        optimizer = namsg_mx.NAMSG(kernel="cpu")
        arrays = [array(w) for w in weights]
        states = [optimizer.create_state(i, w) for i, w in enumerate(arrays)]
        kept = [array(np.zeros(n)) for n in sizes]
        for k, grads in enumerate(gradients):
            given = kept if kind == "kept" else parts(array(np.zeros(sum(sizes))), sizes) if k in (3, 4) else [
                array(np.zeros(n)) for n in sizes]
            for each, values in zip(given, grads):
                each[:] = array(values)
            optimizer.update([0, 1, 2], arrays, given, states)
        results.append([each.asnumpy() for each in [*arrays, *(each for state in states for each in state)]])
    assert_equal_bits(*results)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: array([[1.0, 2.0]]), ValueError, r"must have one shape, not \(1, 3\), \(1, 2\), "),
    (lambda: array([1.0, 2.0, 3.0]), ValueError, r"must have one shape, not \(1, 3\), \(3,\), "),
    (lambda: array([[1.0, 2.0, 3.0]], np.float16), TypeError, "must have one dtype, .*, not float32, float16, "),
    (lambda: array([[1.0, 2.0, 3.0]]).tostype("csr"), TypeError, "gradients of storage type 'csr' are not supported"),
], ids=["size", "dimensions", "dtype", "csr"])
@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
def test_other_gradients_are_checked_as_the_first_ones_are(kernel, make, error, message):
    optimizer, weight, other = namsg_mx.NAMSG(kernel=kernel), array(np.ones((1, 3))), make()
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([[1, 2, 3]]), state)
    before = weight.asnumpy()
    with pytest.raises(error, match=message):
        optimizer.update(0, weight, other, state)
    assert_equal_bits([weight.asnumpy()], [before])
    optimizer.update(0, weight, weight if kernel == "ndarray" else array([[1, 2, 3]]), state)
    assert (weight.asnumpy() < before).all()
    if kernel == "cpu":
        with pytest.raises(MXNetError, match="views of one memory"):
            optimizer.update(0, weight, weight, state)


def test_views_are_updated_where_they_lie():
    optimizer = namsg_mx.NAMSG(kernel="cpu", learning_rate=0.1)
    base = array(np.ones(8))
    weight = base[2:8].reshape((2, 3))
    optimizer.update(0, weight, array(np.ones((2, 3))), optimizer.create_state(0, weight))
    np.testing.assert_array_equal(base.asnumpy() < 1, [False] * 2 + [True] * 6)


def test_empty_arrays_are_left_alone():
    mx.util.set_np_shape(True)
    try:
        weights = [mx.nd.zeros((0, 4)), array(np.ones(3)), mx.nd.zeros((0,))]
        optimizer = namsg_mx.NAMSG(kernel="cpu")
        states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
        optimizer.update([0, 1, 2], weights, [mx.nd.zeros((0, 4)), array(np.ones(3)), mx.nd.zeros((0,))], states)
        assert (weights[1].asnumpy() < 1).all()
    finally:
        mx.util.set_np_shape(False)


SHAPES = st.sampled_from([(4,), (5,), (2, 2), (1,), (4, 1), (1, 4), (33, 7)])
DTYPES = st.sampled_from([np.float32, np.float16, np.float64, np.int32])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(shapes=st.lists(SHAPES, min_size=5, max_size=5) | SHAPES.map(lambda shape: [shape] * 5),
       dtypes=st.lists(DTYPES, min_size=5, max_size=5) | DTYPES.map(lambda dtype: [dtype] * 5),
       kernel=st.sampled_from(["auto", "cpu"]), states=st.integers(0, 5))
def test_any_arrays_are_stepped_or_refused_with_the_reason(shapes, dtypes, kernel, states):
    weight, grad, *state = (mx.nd.ones(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes))
    state = (state + state)[:states]
    fits = len(set(shapes)) == len(set(dtypes)) == 1 and dtypes[0] in (np.float32, np.float64) and states == 3
    optimizer = namsg_mx.NAMSG(kernel=kernel, multi_precision=True)
    try:
        optimizer.update(0, weight, grad, state)
    except (TypeError, ValueError, RuntimeError, MXNetError) as error:
        assert not fits or "takes float32 and float16 weights, not float64" in str(error)
        assert any(word in str(error) for word in ("shape", "dtype", "state", "takes float32", "views of one memory"))
    else:
        assert len({each.shape for each in (weight, grad, *state)}) == 1
        moved = weight.asnumpy()
        assert np.isfinite(moved).all()
        assert (moved < 1).all()


@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("rows", [[-1], [3], [0, 7]])
def test_rows_that_do_not_exist_are_refused(rows, lazy, kernel):
    weight = array(np.ones((3, 2)))
    grad = mx.nd.sparse.row_sparse_array((np.ones((len(rows), 2), np.float32), rows), shape=(3, 2))
    optimizer = namsg_mx.NAMSG(kernel=kernel, lazy_update=lazy)
    with pytest.raises(MXNetError, match="the weight has rows 0 to 2"):
        optimizer.update(0, weight, grad, optimizer.create_state(0, weight))
    other = weight.copy()
    with pytest.raises(MXNetError, match="the weight has rows 0 to 2"):   # and those before it have not moved
        optimizer.update([1, 0], [other, weight], [array(np.ones((3, 2))), grad],
                         [optimizer.create_state(i, weight) for i in (1, 0)])
    assert (other.asnumpy() == 1).all()


def test_a_named_kernel_runs_or_raises():
    optimizer = namsg_mx.NAMSG(kernel="cpu")
    weight = array([1.0], np.float64)
    with pytest.raises(RuntimeError, match="kernel='cpu': takes float32 and float16 weights, not float64"):
        optimizer.update(0, weight, weight.copy(), optimizer.create_state(0, weight))


def test_without_its_library_the_package_works_and_says_why(tmp_path):
    """As installed where there is no compiler: 'auto' goes on with the ndarray kernel, 'cpu' raises with the cause."""
    shutil.copytree(PACKAGE, tmp_path / "namsg_mx", ignore=shutil.ignore_patterns("*.so"))
    script = textwrap.dedent("""
        import namsg_mx, mxnet as mx
        w = mx.nd.ones((3,))
        auto = namsg_mx.NAMSG()
        auto.update(0, w, mx.nd.ones((3,)), auto.create_state(0, w))
        assert auto.last_update().kernel == 'ndarray'
        try:
            named = namsg_mx.NAMSG(kernel='cpu')
            named.update(0, w, mx.nd.ones((3,)), named.create_state(0, w))
        except RuntimeError as error:
            print(error)
    """)
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE,
                            env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert "has no library: the installation found no C++ compiler" in result.stdout


@pytest.mark.slow
def test_spawned_workers_load_the_kernel_for_themselves(tmp_path):
    (tmp_path / "spawn.py").write_text(textwrap.dedent("""
        import multiprocessing
        import namsg_mx
        import mxnet as mx
        def step(optimizer):
            weight = mx.nd.ones((3,))
            optimizer.update(0, weight, mx.nd.ones((3,)), optimizer.create_state(0, weight))
            return optimizer.last_update().kernel, (weight.asnumpy() < 1).all()
        if __name__ == '__main__':
            with multiprocessing.get_context('spawn').Pool(1) as pool:
                print(*pool.apply(step, (namsg_mx.NAMSG(kernel='cpu'),)))
    """))
    result = subprocess.run([sys.executable, str(tmp_path / "spawn.py")], check=True, text=True,
                            stdout=subprocess.PIPE, timeout=600)
    assert result.stdout.strip() == "cpu True"


@pytest.mark.slow
def test_a_process_ends_in_peace_while_its_threads_train():
    """As Dask's workers do, in daemon threads. Nothing that a step needs may go at exit before the last step."""
    script = textwrap.dedent("""
        import atexit, threading
        import namsg_mx
        import mxnet as mx
        trained = threading.Event()
        class Model:
            def __init__(self):
                self.optimizer = namsg_mx.NAMSG(kernel='cpu')
                self.weights, self.gradients = ([mx.nd.ones(100) for _ in range(50)] for _ in range(2))
                self.states = [self.optimizer.create_state(i, w) for i, w in enumerate(self.weights)]
            def train(self, steps):
                for _ in range(steps):
                    self.optimizer.update(list(range(50)), self.weights, self.gradients, self.states)
        def at_exit():
            model.train(100)
            print((model.weights[49].asnumpy() < 1).all(), flush=True)
        def train_on():
            model = Model()
            model.train(10)
            trained.set()
            model.train(10**9)
        atexit.register(at_exit)   # before any binding, and so called after what bindings have registered
        model = Model()
        model.train(1)
        threading.Thread(target=train_on, daemon=True).start()
        trained.wait()
    """)
    result = subprocess.run([sys.executable, "-c", script], check=True, text=True, stdout=subprocess.PIPE, timeout=600)
    assert result.stdout.strip() == "True"


def test_no_memory_for_an_array_of_the_step_is_an_error_where_its_results_are_waited_for():
    script = textwrap.dedent("""
        import resource
        import namsg_mx
        import mxnet as mx
        from mxnet.ndarray.ndarray import _new_alloc_handle
        n = 2**25
        weight, optimizer = mx.nd.zeros(n), namsg_mx.AveragedSGD(kernel='cpu')
        state = optimizer.create_state(0, weight)
        grad = mx.nd.NDArray(_new_alloc_handle((n,), mx.cpu(), True))   # allocated when it is first needed
        mx.nd.waitall()
        with open('/proc/self/statm') as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + 2**26
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        optimizer.update(0, weight, grad, state)
        try:
            weight.wait_to_read()
        except mx.MXNetError as error:
            print(error)
    """)
    result = subprocess.run([sys.executable, "-c", script], check=True, text=True, stdout=subprocess.PIPE)
    assert "Failed to allocate CPU Memory" in result.stdout


@pytest.fixture
def another_mxnet(monkeypatch):
    """What is found out once of MXNet is found out again, now and after the test."""
    def forget():
        kernels.memory.unknown_mxnet.cache_clear()
        kernels.cpu._load.cache_clear()
        kernels._warn_of_slow_kernel.cache_clear()

    forget()
    yield
    monkeypatch.undo()
    forget()
    kernels.cpu._load()


def kernel_that_runs(dtype=np.float32):
    optimizer, weight = namsg_mx.NAMSG(), array([1.0], dtype)
    optimizer.update(0, weight, array([1.0], dtype), optimizer.create_state(0, weight))
    assert weight.asscalar() < 1
    return optimizer.last_update().kernel


def test_an_mxnet_whose_layouts_cannot_be_undone_is_refused(monkeypatch, another_mxnet):
    """One with oneDNN that does not export the function that does it: convolutions' weights would be read wrongly."""
    monkeypatch.setitem(kernels.cpu.FUNCTIONS, "reorder", "a_name_that_it_does_not_export")
    assert "this MXNet has oneDNN" in kernels.cpu.unsupported(mx.cpu(), np.float32)
    with pytest.warns(RuntimeWarning, match="kernel 'cpu' did not load: this MXNet has oneDNN.*; updates take MXNet's"):
        assert kernel_that_runs() == "ndarray"


def test_an_mxnet_whose_arrays_lie_otherwise_is_refused(monkeypatch, another_mxnet):
    """Their addresses would be read from another place."""
    monkeypatch.setattr(kernels.memory, "NDARRAY", struct.Struct("N8xi4x4qN8xi"))
    assert kernels.cpu.unsupported(mx.cpu(), np.float32) == (
        "did not load: this MXNet lays out its arrays otherwise than version 1.9.1 from PyPI")
    with pytest.warns(RuntimeWarning, match="kernel 'cpu' did not load: this MXNet lays out its arrays otherwise"):
        assert kernel_that_runs() == "ndarray"
    both = array([1.0, 2.0])
    assert not kernels.memory.is_same_array(both[:1], both[:1])


def test_the_slow_kernel_is_warned_of_once(monkeypatch, another_mxnet):
    monkeypatch.setitem(kernels.cpu.FUNCTIONS, "reorder", "a_name_that_it_does_not_export")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        assert [kernel_that_runs(), kernel_that_runs()] == ["ndarray", "ndarray"]
    message, = (str(each.message) for each in warned if each.category is RuntimeWarning)
    assert message.startswith("kernel 'cpu' did not load: ")


def test_no_warning_says_that_float64_takes_the_slow_kernel(another_mxnet):
    """There is no other for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert kernel_that_runs(np.float64) == "ndarray"


@TAKES_NO_MEMORY_TWICE
@pytest.mark.parametrize("is_same_handle", [True, False])
def test_one_gradient_of_two_weights(is_same_handle):
    """Gradients are only read, so that the fused kernel takes one for several weights."""
    results = []
    for kernel in ("cpu", "ndarray"):
        optimizer = namsg_mx.NAMSG(kernel=kernel)
        weights, gradient = [array([1.0, 2.0, 3.0]), array([3.0, 2.0, 1.0])], array([1.0, -1.0, 0.5])
        states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
        for _ in range(2):
            gradients = [gradient, gradient if is_same_handle else gradient[:]]
            optimizer.update([0, 1], weights, gradients, states)
        results.append([each.asnumpy() for each in [*weights, *(each for state in states for each in state)]])
    assert_equal_bits(*results)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [
    {"learning_rate": 1e-310}, {"wd": 1e-310}, {"wd": 1e-310, "decoupled_wd": True},
    {"learning_rate": 1e-200, "wd": 1e-200, "decoupled_wd": True}, {"beta1": 1e-310, "mu": 1.0}, {"beta2": 1e-310},
    {"rescale_grad": 1e-310}, {"eta": 1e-310}], ids=str)
def test_numbers_below_the_normal_ones_count_as_0(settings, dtype):
    """MXNet's operators refuse them as scalars. What 0 gives, the fused kernel shows for float32, and 0 for float64."""
    zeros = {name: 0.0 if value < 1e-300 else value for name, value in settings.items()}
    if dtype == np.float64 and settings.get("learning_rate") == 1e-200:
        zeros["wd"] = 0.0   # whose product with the rate it is
    results = []
    for kernel, its_settings in (("ndarray", settings),
                                 ("cpu", settings) if dtype == np.float32 else ("ndarray", zeros)):
        optimizer = namsg_mx.NAMSG(kernel=kernel, **its_settings)
        weight = array([1.0, -2.0], dtype=dtype)
        state = optimizer.create_state(0, weight)
        for gradient in ([1.0, 2.0], [-1.0, 0.5]):
            optimizer.update(0, weight, array(gradient, dtype=dtype), state)
        results.append([each.asnumpy() for each in [weight, *state]])
    assert np.isfinite(results[0][0]).all()
    assert_equal_bits(*results)


@pytest.mark.parametrize("before", ["updater(0, gradient, weight)", "mx.nd.Convolution(image, filters, no_bias=True, "
                                    "kernel=(3, 3), num_filter=8).wait_to_read()"], ids=["update", "convolution"])
def test_a_forked_process_trains_with_the_naive_engine(before):
    """It has none of its parent's OpenMP threads, whatever began them, and must not wait for them."""
    program = f"""
import os
import namsg_mx
import mxnet as mx
weight, gradient = mx.nd.ones(200000), mx.nd.ones(200000)
image, filters = mx.nd.ones((8, 3, 32, 32)), mx.nd.ones((8, 3, 3, 3))
updater = mx.optimizer.get_updater(mx.optimizer.create("namsg"))
{before}
child = os.fork()
updater(0, gradient, weight)
total = weight.sum().asscalar()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    environment = {**os.environ, "MXNET_ENGINE_TYPE": "NaiveEngine", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=600)
