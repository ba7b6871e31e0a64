"""Subclasses of the optimizers, as programs write them: updates, rates and states of their own."""

from functools import partial

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, assert_equal_bits, signed_gradients

import namsg_mx


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


@pytest.mark.parametrize("is_subclass", [False, True])
def test_half_weights_of_a_subclass_stay_inside_the_box(is_subclass):
    """Their master copy is stepped by itself, and 0.3 in float32 would be 0.30004883 in float16."""
    optimizer = namsg_mx.AveragedSGD(1.0, beta1=0.0, bounds=(-0.3, 0.3), multi_precision=True)
    updater = mx.optimizer.get_updater(centralised(optimizer) if is_subclass else optimizer)
    weight = mx.nd.zeros((1, 2), dtype=np.float16)
    updater(0, mx.nd.array([[1, -1]], dtype=np.float16), weight)
    assert weight.asnumpy().tolist() == [[-0.2998046875, 0.2998046875]]
    optimizer.beta1 = 2.0
    with pytest.raises(ValueError, match="beta1=2.0: must be"):
        updater(0, mx.nd.ones((1, 2), dtype=np.float16), weight)
    assert optimizer.bounds == (-0.3, 0.3)


def test_an_update_that_is_put_on_an_optimizer_is_called_like_a_subclasss():
    optimizer = mx.optimizer.create("namsg", learning_rate=0.05)
    update = optimizer.update
    optimizer.update = lambda index, weight, grad, state: update(index, weight, -grad, state)
    updater = mx.optimizer.get_updater(optimizer)
    weights = [mx.nd.ones(2), mx.nd.ones(3)]
    updater([0, 1], [mx.nd.ones(2), mx.nd.ones(3)], weights)
    assert all((weight.asnumpy() > 1).all() for weight in weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("method", METHODS)
def test_the_rates_that_a_subclass_gives_each_array(method, dtype):
    """By MXNet's hooks for one array or for all, as for layers that learn more slowly the deeper they are."""
    def lr_of(self, index):
        return 0.05 * 0.5**index

    def wd_of(self, index):
        return 0.1 * index

    hooks = {"one": {"_get_lr": lr_of, "_get_wd": wd_of},
             "all": {"_get_lrs": lambda self, indices: [lr_of(self, i) for i in indices],
                     "_get_wds": lambda self, indices: [wd_of(self, i) for i in indices]}}

    def trained(optimizer):
        updater = mx.optimizer.get_updater(optimizer)
        weights = [mx.nd.array([1.0, -2.0], dtype=dtype) for _ in range(3)]
        for _ in range(3):
            updater([0, 1, 2], [mx.nd.array([0.5, 0.25], dtype=dtype) for _ in weights], weights)
        return [w.asnumpy() for w in weights]

    options = {"learning_rate": 0.05, "wd": 0.1, "multi_precision": True}
    expected = mx.optimizer.create(method, **options)
    expected.set_lr_mult({i: 0.5**i for i in range(3)})
    expected.set_wd_mult({i: i for i in range(3)})
    expected = trained(expected)
    for methods in hooks.values():
        optimizer, other = (mx.optimizer.create(method, **options) for _ in range(2))
        optimizer.__class__ = type("Layerwise", (type(optimizer),), methods)
        for name, hook in methods.items():   # of an object, as MXNet asks it, too
            setattr(other, name, partial(hook, other))
        assert_equal_bits(trained(optimizer), expected)
        assert_equal_bits(trained(other), expected)


@pytest.mark.parametrize("as_array", [False, True])
def test_rates_that_a_subclass_writes_into_one_list(as_array):
    """Which is another list of numbers in each update, and may be an array of NumPy's."""
    class Decaying:
        rates = np.zeros(2) if as_array else [0.0, 0.0]

        def _get_lrs(self, indices):
            self.rates[:] = [0.1 / self.num_update] * len(indices)
            return self.rates

    seen = []
    for options in ({"kernel": "ndarray"}, {}):
        updater = mx.optimizer.get_updater(type("Mine", (Decaying, namsg_mx.NAMSG), {})(**options))
        weights = [mx.nd.ones(1), mx.nd.ones(1)]
        for _ in range(3):
            updater([0, 1], [mx.nd.ones(1), mx.nd.ones(1)], weights)
        seen.append([weight.asnumpy() for weight in weights])
    assert_equal_bits(*seen)


@pytest.mark.parametrize("form", [list, tuple])
@pytest.mark.parametrize("method", [*METHODS, "adam"])
def test_a_subclass_with_a_state_of_its_own(method, form, tmp_path):
    """Lookahead, Zhang et al. 2019. In half, its slow weights are those of the float32 master copy."""
    def trained(dtype, resume=False):
        optimizer = mx.optimizer.create(method, learning_rate=0.05, multi_precision=True)
        base = type(optimizer)

        class Lookahead(base):
            def create_state(self, index, weight):
                return form([base.create_state(self, index, weight), weight.copy()])

            def update(self, index, weight, grad, state):
                base.update(self, index, weight, grad, state[0])
                if self._index_update_count[index] % 2 == 0:
                    state[1][:] = (state[1] + weight) / 2
                    weight[:] = state[1]

        optimizer.__class__ = Lookahead
        updater = mx.optimizer.get_updater(optimizer)
        weight = mx.nd.array([1.0, -2.0], dtype=dtype)
        for step in range(5):
            if resume and step == 3:
                updater.set_states(updater.get_states())
            updater(0, mx.nd.array([0.5, 0.25], dtype=dtype), weight)
        return weight.asnumpy()

    expected = trained(np.float32)
    assert_equal_bits([trained(np.float16), trained(np.float16, resume=True), trained(np.float32, resume=True)],
                      [expected.astype(np.float16), expected.astype(np.float16), expected])
