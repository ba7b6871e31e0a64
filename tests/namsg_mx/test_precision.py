"""float16 weights with a float32 master copy, and states that change precision on their way through a file."""

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, array, assert_equal_bits, signed_gradients
from mxnet import gluon

import namsg_mx


def train(updater, weight, gradients):
    for g in gradients:
        updater(0, array(g, dtype=weight.dtype), weight)
    return weight.asnumpy()


@pytest.mark.parametrize("method", METHODS)
def test_float16_weights_follow_their_float32_master(method):
    """The master is what float32 weights would be, given the float16 gradients; the weight is its rounding."""
    gradients = [g.astype(np.float16).astype(np.float32) for g in signed_gradients(257, 10)]
    settings = {"learning_rate": 0.01, "wd": 0.01, "rescale_grad": 0.5}
    half = mx.optimizer.get_updater(mx.optimizer.create(method, multi_precision=True, **settings))
    single = mx.optimizer.get_updater(mx.optimizer.create(method, **settings))
    start = np.linspace(-1, 1, 257).astype(np.float16)
    weight16 = train(half, array(start, dtype=np.float16), gradients)
    weight32 = train(single, array(start), gradients)
    *state, master = half.states[0]
    assert weight16.dtype == np.float16
    assert {a.dtype for a in half.states[0]} == {np.float32}
    assert np.array_equal(master.asnumpy(), weight32)
    assert np.array_equal(weight16, weight32.astype(np.float16))
    for a, b in zip(state, single.states[0]):
        assert np.array_equal(a.asnumpy(), b.asnumpy())


def test_float16_without_multi_precision_is_refused():
    """epsilon = 1e-8 is 0 in float16: the first step would be 0 / 0."""
    weight, optimizer = array([1.0], dtype=np.float16), mx.optimizer.create("namsg")
    for create in (optimizer.create_state, optimizer.create_state_multi_precision):
        with pytest.raises(ValueError, match="multi_precision=False: must be True for float16 weights"):
            create(0, weight)


@pytest.mark.parametrize("dtype", ["float16", np.float16])
def test_float16_parameters_of_gluon_are_refused_by_the_constructor(dtype):
    """An error on a kvstore's servers would only be printed."""
    parameter = gluon.Parameter("w", shape=(1,), dtype=dtype)
    with pytest.raises(ValueError, match="multi_precision=False: must be True for float16 weights"):
        namsg_mx.NAMSG(param_dict={0: parameter})
    parameter.grad_req = "null"
    namsg_mx.NAMSG(param_dict={0: parameter})


@pytest.mark.parametrize(("saved", "loaded"), [("float32", "float16"), ("float16", "float32"), ("float32", "float64")])
def test_states_saved_in_one_precision_go_on_in_another(saved, loaded):
    gradients = [g.astype(np.float16) for g in signed_gradients(31, 10)]
    first = mx.optimizer.get_updater(mx.optimizer.create("namsg", multi_precision=True))
    weight = array(np.linspace(-1, 1, 31), dtype=saved)
    train(first, weight, gradients[:5])
    second = mx.optimizer.get_updater(mx.optimizer.create("namsg", multi_precision=True))
    second.set_states(first.get_states())
    continued = weight.astype(loaded)
    train(second, continued, gradients[5:])
    expected = train(first, weight, gradients[5:])
    tolerance = 2e-3 if "float16" in (saved, loaded) else 1e-6   # the weight's rounding, once and at the end
    np.testing.assert_allclose(continued.asnumpy().astype(np.float64), expected.astype(np.float64), atol=tolerance)
    assert len(second.states[0]) == (4 if loaded == "float16" else 3)
    assert second.states[0][0].dtype == np.dtype("float64" if loaded == "float64" else "float32")


@pytest.mark.parametrize("method", METHODS)
def test_a_state_of_halves_begins_as_it_is_promised(method):
    """In float32, v_hat at epsilon: in float16 that is 0, and a weight without a gradient would become 0 / 0."""
    results = []
    for is_multi in (False, True):
        optimizer = mx.optimizer.create(method, multi_precision=True)
        weight = array([1.0, 1.0, 1.0], dtype=np.float16)
        create, update = ((optimizer.create_state_multi_precision, optimizer.update_multi_precision) if is_multi else
                          (optimizer.create_state, optimizer.update))
        state = create(0, weight)
        for _ in range(3):
            update(0, weight, array([1.0, 0.0, 1e-4], dtype=np.float16), state)
        results.append([each.asnumpy() for each in [weight, *state]])
    assert results[0][0][1] == 1
    assert_equal_bits(*results)
