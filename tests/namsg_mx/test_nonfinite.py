"""Gradients that are infinite or NaN: what they do, what 'skip' leaves, and how they are counted."""

import mxnet as mx
import numpy as np
import pytest
from comparison import KERNELS, METHODS, array, create

import namsg_mx


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e38])
def test_a_skipped_nonfinite_gradient_leaves_its_element_untouched(method, bad):
    skipping, _ = create(method, nonfinite="skip", wd=0.1, rescale_grad=10.0)
    weight = array([1.0, 2.0, 3.0])
    state = skipping.create_state(0, weight)
    skipping.update(0, weight, array([0.5, 0.5, 0.5]), state)
    before = [a.asnumpy() for a in [weight, *state]]
    skipping.update(0, weight, array([0.5, bad, 0.5]), state)
    after = [a.asnumpy() for a in [weight, *state]]
    for old, new in zip(before, after):
        assert new[1] == old[1]
    assert before[0][0] != after[0][0]
    assert before[0][2] != after[0][2]
    assert skipping.last_update().nonfinite == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_a_gradient_that_is_not_finite_does_where_it_goes_on_and_that_it_is_counted(kernel):
    """Infinite: the weight is NaN. Its square infinite: v_hat is for good, and the weight never moves again."""
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    weight = array([1.0, 1.0, 1.0])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([np.inf, 1e25, 1e18]), state)
    assert optimizer.last_update().nonfinite == 2
    for _ in range(10):
        optimizer.update(0, weight, array([1.0, 1.0, 1.0]), state)
    nan, frozen, moved = weight.asnumpy()
    assert np.isnan(nan) and frozen == 1 and 0 < moved < 1
    assert np.isinf(state[2].asnumpy()[1])
    assert optimizer.last_update().nonfinite == 2   # as before: those of the gradient, whatever the weight


def test_nonfinite_gradients_are_counted_once_wherever_their_parameters_are():
    """Parameters 0 and 1 are replicas on two devices; 2 and 3 are updated on one each, as a kvstore on GPUs does it."""
    optimizer = namsg_mx.NAMSG()
    for device, alone in ((mx.cpu(0), 2), (mx.cpu(1), 3)):
        updater = mx.optimizer.get_updater(optimizer)
        ones, bad = ([mx.nd.array([1.0, value], ctx=device) for _ in range(2)] for value in (1.0, np.inf))
        updater([0, 1], bad, ones)
        updater(alone, mx.nd.array([np.nan], ctx=device), mx.nd.array([1.0], ctx=device))
    assert optimizer.last_update().nonfinite == 4


def test_replicas_of_which_one_skips_the_first_parameter_count_once():
    optimizer = namsg_mx.NAMSG()
    for skipped, device in enumerate((mx.cpu(0), mx.cpu(1))):
        updater = mx.optimizer.get_updater(optimizer)
        bad = [mx.nd.array([np.nan, 1.0], device) for _ in range(3)]
        updater(list(range(skipped, 3)), bad[skipped:], [each.copy() for each in bad[skipped:]])
    assert optimizer.last_update().nonfinite == 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_gradients_that_are_not_finite_are_counted_than_float32_counts(kernel):
    n = 2**24 + 3
    optimizer, weight = namsg_mx.AveragedSGD(kernel=kernel), mx.nd.zeros(n)
    optimizer.update(0, weight, mx.nd.full(n, np.nan), optimizer.create_state(0, weight))
    assert optimizer.last_update().nonfinite == n


@pytest.mark.parametrize("kernel", KERNELS)
def test_sgd_has_no_square_that_could_be_infinite(kernel):
    optimizer = namsg_mx.AveragedSGD(kernel=kernel, nonfinite="skip")
    weight = array([1.0, 1.0])
    optimizer.update(0, weight, array([1e25, np.inf]), optimizer.create_state(0, weight))
    assert weight.asnumpy()[0] < -1e20 and weight.asnumpy()[1] == 1
    assert optimizer.last_update().nonfinite == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_skipped_element_keeps_its_state_whatever_that_is(kernel):
    """v is above v_hat in no state of ours; a program can set one."""
    optimizer, weight = namsg_mx.NAMSG(nonfinite="skip", kernel=kernel), array([1.0, 1.0])
    state = optimizer.create_state(0, weight)
    for values, number in zip(state, (3, 4, 1)):
        values[:] = number
    optimizer.update(0, weight, array([np.nan, 0.0]), state)
    assert [values.asnumpy()[0] for values in (weight, *state)] == [1, 3, 4, 1]
    assert state[2].asnumpy()[1] == state[1].asnumpy()[1] > 3
