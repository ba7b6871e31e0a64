"""The kernels against each other and the reference, and what all of them refuse."""

import os
import platform
import shutil
import subprocess
import sys
import textwrap

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
    weights_and_gradients,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet.base import MXNetError

import namsg_mx

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


def test_a_float64_gradient_is_clipped_to_the_bit():
    clip = 0.9535221763806743
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, clip_gradient=clip)
    weight = array([0.0, 0.0], np.float64)
    optimizer.update(0, weight, array([-2.0, 2.0], np.float64), optimizer.create_state(0, weight))
    assert weight.asnumpy().tolist() == [clip, -clip]


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


def test_the_kernel_that_ran_can_be_asked():
    for dtype, expected in ((np.float32, "cpu"), (np.float64, "ndarray")):
        optimizer = namsg_mx.NAMSG()
        weight = array([1.0], dtype)
        optimizer.update(0, weight, weight.copy(), optimizer.create_state(0, weight))
        assert optimizer.last_update().kernel == expected


SHAPES = st.sampled_from([(4,), (5,), (2, 2), (1,), (4, 1), (1, 4), (33, 7)])
DTYPES = st.sampled_from([np.float32, np.float16, np.float64, np.int32])


def why_refused(shapes, dtypes, kernel, states):
    """A part of the message, or None. The fourth array of a state, its master copy, is its first one once more."""
    weight, grad, *state = dtypes
    if weight == np.int32:
        return "weights must have dtype float16, float32 or float64, not int32"
    if states not in (3, 4):
        return "the state must be a list of m, v, v_hat (and, for float16 weights, the float32 master copy)"
    if len(set(shapes)) > 1:
        return "must have one shape"
    if grad != weight or len(set(state)) > 1:
        return "must have one dtype"
    if kernel == "cpu" and weight == np.float64:
        return "takes float32 and float16 weights, not float64"
    if kernel == "cpu" and weight == np.float16 and states == 4 and state[0] == np.float32:
        return "views of one memory"
    return None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(shapes=st.lists(SHAPES, min_size=5, max_size=5) | SHAPES.map(lambda shape: [shape] * 5),
       dtypes=st.lists(DTYPES, min_size=5, max_size=5) | DTYPES.map(lambda dtype: [dtype] * 5),
       kernel=st.sampled_from(["auto", "cpu"]), states=st.integers(0, 5))
def test_any_arrays_are_stepped_or_refused_with_the_reason(shapes, dtypes, kernel, states):
    weight, grad, *state = (mx.nd.ones(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes))
    state = (state + state)[:states]
    reason = why_refused(shapes, dtypes, kernel, states)
    optimizer = namsg_mx.NAMSG(kernel=kernel, multi_precision=True)
    try:
        optimizer.update(0, weight, grad, state)
    except (TypeError, ValueError, RuntimeError, MXNetError) as error:
        assert reason is not None and reason in str(error)
    else:
        assert reason is None
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
