"""row_sparse gradients: standard updates are dense updates with rows of zeros; lazy ones leave other rows alone."""

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, array, signed_gradients
from mxnet import autograd, gluon

ROWS = [1, 4]
SETTINGS = {"learning_rate": 0.05, "wd": 0.02, "clip_gradient": 2.0}


def sparse_gradients(dtype=np.float32):
    dense = np.zeros((10, 6, 3), np.float32)
    dense[:, ROWS] = signed_gradients((10, 2, 3), 1)[0]
    return dense, [mx.nd.sparse.row_sparse_array((mx.nd.array(g[ROWS], dtype=dtype), ROWS), shape=g.shape, dtype=dtype)
                   for g in dense]


def train(optimizer, gradients, dtype=np.float32):
    weight = array(np.linspace(-1, 1, 18).reshape(6, 3), dtype=dtype)
    state = optimizer.create_state_multi_precision(0, weight)
    for g in gradients:
        optimizer.update(0, weight, g, state)
    return [a.asnumpy() for a in [weight, *state]]


@pytest.mark.parametrize("method", METHODS)
def test_standard_updates_equal_dense_ones_to_the_bit(method):
    dense, sparse = sparse_gradients()
    expected = train(mx.optimizer.create(method, **SETTINGS), [array(g) for g in dense])
    assert all(map(np.array_equal, train(mx.optimizer.create(method, **SETTINGS), sparse), expected))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_lazy_updates_touch_the_gradients_rows_alone(method, dtype):
    dense, sparse = sparse_gradients(dtype)
    options = dict(SETTINGS, multi_precision=True)
    expected = train(mx.optimizer.create(method, **options), [array(g, dtype=dtype) for g in dense], dtype)
    start = train(mx.optimizer.create(method, **options), [], dtype)
    lazy = train(mx.optimizer.create(method, lazy_update=True, **options), sparse, dtype)
    others = [row for row in range(6) if row not in ROWS]
    for value, dense_value, initial in zip(lazy, expected, start):
        assert np.array_equal(value[ROWS], dense_value[ROWS])
        assert np.array_equal(value[others], initial[others])


def test_lazy_update_without_rows_changes_nothing():
    empty = mx.nd.sparse.zeros("row_sparse", (6, 3))
    optimizer = mx.optimizer.create("namsg", lazy_update=True, **SETTINGS)
    assert all(map(np.array_equal, train(optimizer, [empty]), train(optimizer, [])))


def test_row_sparse_weights_are_refused():
    optimizer = mx.optimizer.create("namsg")
    weight = mx.nd.ones((6, 3)).tostype("row_sparse")
    with pytest.raises(TypeError, match="weights of storage type 'row_sparse' are not supported"):
        optimizer.update(0, weight, weight, optimizer.create_state(0, mx.nd.ones((6, 3))))


def test_csr_gradients_are_refused():
    optimizer, weight = mx.optimizer.create("namsg"), mx.nd.ones((6, 3))
    with pytest.raises(TypeError, match="gradients of storage type 'csr' are not supported"):
        optimizer.update(0, weight, weight.tostype("csr"), optimizer.create_state(0, weight))


@pytest.mark.parametrize("lazy", [False, True])
def test_an_embedding_with_sparse_gradients_trains(lazy):
    mx.random.seed(0)
    net = gluon.nn.Embedding(20, 4, sparse_grad=True)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": 0.1, "lazy_update": lazy})
    tokens = mx.nd.array([1, 3, 5, 3])
    before = net.weight.data().asnumpy()
    losses = []
    for _ in range(20):
        with autograd.record():
            loss = ((net(tokens) - 1) ** 2).sum()
        loss.backward()
        trainer.step(4)
        losses.append(loss.asscalar())
    assert losses[-1] < 0.1 * losses[0]
    untouched = [row for row in range(20) if row not in (1, 3, 5)]
    assert np.array_equal(net.weight.data().asnumpy()[untouched], before[untouched])
