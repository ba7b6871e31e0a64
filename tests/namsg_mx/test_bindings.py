"""Arrays that stay bound from one update to the next: when they are bound anew, and when they are let go."""

import sys

import mxnet as mx
import numpy as np
import pytest
from comparison import KERNELS, array, assert_equal_bits

import namsg_mx


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_state_that_is_replaced_is_the_one_that_goes_on(kernel):
    updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel=kernel))
    weight = array([1.0])
    updater(0, array([1.0]), weight)
    updater.states[0][0] = array([100.0])
    updater(0, array([1.0]), weight)
    assert updater.states[0][0].asscalar() == pytest.approx(0.9 * 100 + 0.1)


def new_handle(array):
    """Another NDArray of the same memory, as npx.set_np() and kvstores make for each update."""
    return array.as_np_ndarray().as_nd_ndarray()


@pytest.mark.parametrize("kernel", KERNELS)
def test_arrays_by_other_handles_are_bound_once(kernel):
    weight, gradient = array([1.0, 2.0]), array([3.0, -4.0])
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, gradient, state)
    first, = optimizer._calls.latest.values()
    optimizer.update(0, new_handle(weight), new_handle(gradient), state)
    second, = optimizer._calls.latest.values()
    assert second.bindings is first.bindings
    twice = array([1.0, 2.0])
    updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel=kernel))
    for _ in range(2):
        updater(0, gradient, twice)
    assert_equal_bits([weight.asnumpy()], [twice.asnumpy()])


@pytest.mark.parametrize("kernel", KERNELS)
def test_another_part_of_the_same_memory_is_another_array(kernel):
    """Of the same shape, dtype and memory."""
    both, gradient = array([[1.0, 2.0], [1.0, 2.0]]), array([3.0, -4.0])
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    state = optimizer.create_state(0, gradient)
    optimizer.update(0, both[0], gradient, state)
    optimizer.update(0, both[1], gradient, state)
    first, second = both.asnumpy()
    assert (first != [1, 2]).all() and (second != [1, 2]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_arrays_as_another_parameter_are_that_one(kernel):
    """With its learning rate."""
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    optimizer.set_lr_mult({2: 0.0})
    weights, gradients = ([array([1.0]), array([1.0])] for _ in range(2))
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
    for indices, moves in (([0, 1], True), ([0, 2], False)):
        before = weights[1].asscalar()
        optimizer.update(indices, weights, gradients, states)
        assert (weights[1].asscalar() != before) == moves


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_calls_for_each_step_are_both_bound_once(kernel):
    """As MXNet's Updater makes for weights of two dtypes."""
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    calls = [([i], [weight], [weight.copy()], [optimizer.create_state(i, weight)])
             for i, weight in enumerate([array([1.0]), array([1.0, 2.0])])]
    bound = []
    for _ in range(3):
        for call in calls:
            optimizer.update(*call)
        bound.append([call.bindings for call in optimizer._calls.latest.values()])
    assert len(bound[0]) == 2 and all(now is then for later in bound[1:] for now, then in zip(later, bound[0]))


def test_what_is_bound_does_not_grow_with_the_sets_of_parameters_that_are_updated():
    """As with layers that are skipped at random."""
    optimizer, random = namsg_mx.NAMSG(), np.random.RandomState(0)
    weights, gradients = ([array([1.0]) for _ in range(8)] for _ in range(2))
    states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
    for _ in range(200):
        chosen = sorted(random.choice(8, 5, replace=False).tolist())
        optimizer.update(chosen, *([each[i] for i in chosen] for each in (weights, gradients, states)))
        assert len(optimizer._calls.latest) <= 4   # the first of five out of eight is 0, 1, 2 or 3
    alone = namsg_mx.NAMSG(kernel="ndarray")
    weight = array([1.0])
    state = alone.create_state(0, weight)
    for _ in range(optimizer._index_update_count[0]):
        alone.update(0, weight, array([1.0]), state)
    assert weights[0].asscalar() == weight.asscalar()


@pytest.mark.parametrize("kernel", KERNELS)
def test_arrays_of_a_device_that_parameters_have_left_are_let_go(kernel):
    """After `reset_ctx` a model's memory on the GPU before would stay taken."""
    def arrays(context):
        weight = mx.nd.ones((3,), context)
        return [weight, weight.copy(), optimizer.create_state(0, weight)]

    optimizer = namsg_mx.NAMSG(kernel=kernel)
    left = arrays(mx.cpu(0))
    held = [sys.getrefcount(each) for each in (*left[:2], *left[2])]
    for context, updates in ((mx.cpu(0), 2), (mx.cpu(1), 2)):
        now = left if context == mx.cpu(0) else arrays(context)
        for _ in range(updates):
            optimizer.update(0, *now)
    del now
    mx.nd.waitall()
    assert [sys.getrefcount(each) for each in (*left[:2], *left[2])] == held


def test_arrays_from_before_a_program_began_anew_are_let_go():
    optimizer = namsg_mx.NAMSG()
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    held = sys.getrefcount(weight)
    for _ in range(5):
        optimizer.update(0, weight, array([1.0]), state)
    optimizer._index_update_count.clear()
    optimizer.num_update = 0
    other = array([1.0])
    state = optimizer.create_state(1, other)
    for _ in range(2):
        optimizer.update(1, other, array([1.0]), state)
    assert sys.getrefcount(weight) == held
