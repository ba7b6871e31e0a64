"""What programs write that MXNet's users have: 'namsg' must work in them wherever 'adam' does."""

import math

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, assert_equal_bits, signed_gradients

import namsg_mx


class InverseSquareRootOfSockeye:
    """A scheduler as sockeye has them: no LRScheduler, and MXNet is to set its ``base_lr``."""

    def __init__(self, warmup):
        self.base_lr = None
        self.warmup = warmup

    def __call__(self, num_updates):
        warm = (num_updates + 1) * self.base_lr / (self.warmup + 1)
        return min(self.base_lr / math.sqrt(1 + num_updates), warm)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [{"learning_rate": 0.3}, {}], ids=["learning_rate", "default"])
def test_sockeyes_schedulers(method, given, tmp_path):
    optimizer = mx.optimizer.create(method, lr_scheduler=InverseSquareRootOfSockeye(3), **given)
    updater = mx.optimizer.get_updater(optimizer)
    weight = mx.nd.ones(2)
    rates = []
    for _ in range(3):
        updater(0, mx.nd.ones(2), weight)
        rates.append(optimizer.last_update().learning_rate)
    base = given.get("learning_rate", optimizer.DEFAULT_LEARNING_RATE)
    np.testing.assert_allclose(rates, np.multiply(base, [2 / 4, 1 / math.sqrt(3), 1 / 2]))
    resumed = mx.optimizer.get_updater(mx.optimizer.create(method))
    resumed.set_states(updater.get_states(dump_optimizer=True))
    copy = weight.copy()
    for each, array in ((updater, weight), (resumed, copy)):
        each(0, mx.nd.ones(2), array)
    assert_equal_bits([weight.asnumpy()], [copy.asnumpy()])


def centralised(optimizer):
    """A subclass with an ``update`` of its own, as gradient centralisation is written for MXNet's optimizers."""
    class Centralised(type(optimizer)):
        def update(self, index, weight, grad, state):
            self.seen = getattr(self, "seen", []) + [(index, weight.dtype, grad.dtype)]
            super().update(index, weight, grad - grad.mean(axis=1, keepdims=True), state)

    optimizer.__class__ = Centralised
    return optimizer


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("method", [*METHODS, "adam"])
def test_the_update_of_a_subclass_is_called_with_one_array_at_a_time(method, dtype):
    """In float32 also for float16 weights: a half gradient, less its mean, would be another."""
    options = {"learning_rate": 0.05, "multi_precision": True}
    shapes = [(4, 3), (2, 5)]
    starts = [np.random.RandomState(i).standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)]
    steps = [signed_gradients(shape, 4, seed=i) for i, shape in enumerate(shapes)]

    def train(updater, weights, gradients):
        for grads in zip(*gradients):
            updater([0, 1], [mx.nd.array(g, dtype=g.dtype) for g in grads], weights)

    optimizer = centralised(mx.optimizer.create(method, **options))
    weights = [mx.nd.array(w, dtype=dtype) for w in starts]
    train(mx.optimizer.get_updater(optimizer), weights, [[g.astype(dtype) for g in each] for each in steps])
    assert optimizer.seen == [(0, np.float32, np.float32), (1, np.float32, np.float32)] * 4
    expected = [mx.nd.array(w.astype(np.float32)) for w in starts]
    means = [[mx.nd.array(g.astype(dtype).astype(np.float32)) for g in each] for each in steps]
    train(mx.optimizer.get_updater(mx.optimizer.create(method, **options)), expected,
          [[(g - g.mean(axis=1, keepdims=True)).asnumpy() for g in each] for each in means])
    assert_equal_bits([w.asnumpy() for w in weights], [w.asnumpy().astype(dtype) for w in expected])


def test_a_subclass_with_an_update_of_its_own_goes_on_from_single_precision_in_half():
    first, second = (centralised(namsg_mx.NAMSG(multi_precision=True)) for _ in range(2))
    single, half = (mx.nd.ones((2, 3), dtype=dtype) for dtype in (np.float32, np.float16))
    gradients = [mx.nd.array([[1, 2, 4], [0, 0, 3]], dtype=dtype) for dtype in (np.float32, np.float16)]
    before, after = (mx.optimizer.get_updater(optimizer) for optimizer in (first, second))
    before(0, gradients[0], single)
    after.set_states(before.get_states())
    after(0, gradients[1], half)
    assert len(after.states[0]) == 4
    assert (half.asnumpy()[0] != 1).all()
