"""The memory of MXNet's arrays under the CPU kernel: overlaps, views, handles that are kept and let go."""

import contextlib
import ctypes
import gc
import subprocess
import sys
import textwrap
import threading
import time

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, array, assert_equal_bits, weights_and_gradients
from mxnet.base import _LIB, MXNetError, check_call

import namsg_mx
from namsg_mx import kernels

pytestmark = CPU_KERNEL


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
