"""What programs write that MXNet's users have: 'namsg' must work in them wherever 'adam' does."""

import math

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, assert_equal_bits


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
