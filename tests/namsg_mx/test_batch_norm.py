"""`update_batch_norm`: the statistics that it leaves, on all contexts, and that training does not notice it."""

import mxnet as mx
import numpy as np
import pytest
from batch_norm_network import LOSS, bits, convolutional_net, statistics, train
from comparison import assert_equal_bits
from mxnet import autograd, gluon
from mxnet.gluon import nn

from namsg_mx import ParameterAverage, update_batch_norm


def some_batches(count):
    random = np.random.RandomState(2)
    return [mx.nd.array(random.standard_normal((8, 3, 10, 10))) for _ in range(count)]


@pytest.mark.parametrize("hybrid", [True, False])
def test_statistics_of_batches_are_those_that_training_on_them_leaves(hybrid):
    trained, updated = convolutional_net(), convolutional_net()
    for net in (trained, updated):
        net.hybridize(hybrid)
    for x in some_batches(3):
        with autograd.record():
            loss = LOSS(trained(x), mx.nd.zeros(8))
        loss.backward()
    update_batch_norm(updated, iter(some_batches(3)))
    assert_equal_bits(statistics(updated), statistics(trained))


def test_statistics_of_one_batch_by_numpy():
    net = convolutional_net()
    x, = some_batches(1)
    channels = net[0](x).asnumpy().astype(np.float64).transpose(1, 0, 2, 3).reshape(16, -1)
    update_batch_norm(net, [x])
    mean, variance = statistics(net)[:2]   # they were 0 and 1; the momentum is 0.9
    np.testing.assert_allclose(mean, 0.1 * channels.mean(axis=1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * channels.var(axis=1), rtol=1e-4)


@pytest.mark.parametrize("grad_req", ["write", "add"])
def test_statistics_change_neither_parameters_nor_gradients_nor_inputs(grad_req):
    net, (x, y) = convolutional_net(), some_batches(2)
    net.collect_params().setattr("grad_req", grad_req)
    trainable = [p for p in net.collect_params().values() if p.grad_req != "null"]
    with autograd.record():
        loss = LOSS(net(x), mx.nd.zeros(8))
    loss.backward()
    trainable[0].data()._fresh_grad = False   # as if a Trainer had used it
    before = bits(trainable), [p.grad().asnumpy() for p in trainable]

    def batches_that_end_in_an_error():
        yield y
        raise OSError("no more data")

    update_batch_norm(net, [y])
    with pytest.raises(OSError, match="no more data"):
        update_batch_norm(net, batches_that_end_in_an_error())
    assert_equal_bits(bits(trainable), before[0])
    assert_equal_bits([p.grad().asnumpy() for p in trainable], before[1])
    assert [p.data()._fresh_grad for p in trainable] == [False] + [True] * (len(trainable) - 1)
    assert y.grad is None


def test_all_contexts_get_the_statistics():
    nets = [convolutional_net(), convolutional_net()]
    nets[1].collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    for net in nets:
        update_batch_norm(net, [x.as_in_context(mx.cpu(0)) for x in some_batches(2)])
    of_one, *of_two = ([p.data(context).asnumpy() for p in net.collect_params().values()]
                       for net, context in ((nets[0], mx.cpu(0)), (nets[1], mx.cpu(0)), (nets[1], mx.cpu(1))))
    for found in of_two:
        assert_equal_bits(found, of_one)
    with pytest.raises(ValueError, match=r"^batches: are on cpu\(0\) and cpu\(1\); give them on one context"):
        update_batch_norm(nets[1], [x.as_in_context(mx.cpu(i)) for i, x in enumerate(some_batches(2))])


def test_all_contexts_have_the_same_statistics_after_an_error_too():
    net = convolutional_net()
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])

    def batches_that_end_in_an_error():
        yield from some_batches(1)
        raise KeyError

    with pytest.raises(KeyError):
        update_batch_norm(net, batches_that_end_in_an_error())
    assert net[1].running_mean.data(mx.cpu(0)).asnumpy().any()
    assert_equal_bits(*[[p.data(mx.cpu(i)).asnumpy() for p in net.collect_params().values()] for i in range(2)])


class Apart(nn.Block):
    """Two layers on two devices; a sparse table that is frozen, and a BatchNorm that is never used."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.second = nn.Dense(2, in_units=2), nn.BatchNorm(in_channels=2)
            self.unused = nn.BatchNorm(scale=False, center=False)
            self.table = nn.Embedding(3, 2, sparse_grad=True)
            self.table.weight.grad_req = "null"

    def forward(self, x):
        return self.second(self.first(mx.nd.array(x)).as_in_context(mx.cpu(1)))


@pytest.mark.parametrize("replicated", [False, True])
def test_statistics_of_layers_on_several_devices_and_of_a_net_that_takes_numpy_arrays(replicated):
    """On a device each, or both on both."""
    net = Apart()
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)] if replicated else mx.cpu(0))
    if not replicated:
        net.second.collect_params().reset_ctx(mx.cpu(1))
    for batch in (mx.nd.ones((4, 2)), np.ones((4, 2), np.float32), mx.nd.ones((4, 2), ctx=mx.Context("cpu_shared", 0))):
        before = net.second.running_mean.list_data()[0].asnumpy()
        update_batch_norm(net, [batch])
        assert all((mean.asnumpy() != before).all() for mean in net.second.running_mean.list_data())


def test_statistics_that_are_nan_are_moved_as_others():
    net = convolutional_net()
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    for array in net[1].running_mean.list_data():
        array[:] = np.nan
    update_batch_norm(net, [x.as_in_context(mx.cpu(0)) for x in some_batches(1)])
    assert_equal_bits(*[[p.data(mx.cpu(i)).asnumpy() for p in net.collect_params().values()] for i in range(2)])


class OnSecond(nn.Block):
    """Its batches are moved to a context of its own."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.norm = nn.BatchNorm(in_channels=2)

    def forward(self, x):
        return self.norm(x.as_in_context(mx.cpu(1)))


@pytest.mark.parametrize("contexts", [[mx.cpu(1)], [mx.cpu(0), mx.cpu(1)], [mx.cpu(1), mx.cpu(2)]], ids=str)
def test_the_statistics_that_moved_are_those_that_all_contexts_get(contexts):
    net = OnSecond()
    net.initialize(ctx=contexts)
    update_batch_norm(net, [mx.nd.array([[1.0, 3.0]] * 4, ctx=mx.cpu(i)) for i in range(2)])
    for array in net.norm.running_mean.list_data():
        np.testing.assert_allclose(array.asnumpy(), [0.19, 0.57], rtol=1e-6)


def test_a_net_of_which_all_is_frozen_has_no_statistics_to_move():
    net = convolutional_net()
    net.collect_params().setattr("grad_req", "null")
    with pytest.raises(ValueError, match="^net: has grad_req='null' in all its parameters"):
        update_batch_norm(net, some_batches(1))


class Embedded(nn.HybridBlock):
    """Of integers, with two outputs."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.embedding, self.norm = nn.Embedding(5, 3), nn.BatchNorm(in_channels=3)

    def hybrid_forward(self, F, x):
        y = self.norm(self.embedding(x))
        return y, 2 * y


def test_statistics_of_a_net_of_integers_with_two_outputs():
    net = Embedded()
    net.initialize()
    x = mx.nd.array([0, 1, 4, 4])
    net(x)
    update_batch_norm(net, [x])
    rows = net.embedding.weight.data().asnumpy()[[0, 1, 4, 4]]
    np.testing.assert_allclose(statistics(net)[0], 0.1 * rows.mean(axis=0), rtol=1e-4, atol=1e-8)


class Nested(Embedded):
    """As a recurrent network, which gives its states, too."""

    def forward(self, x):
        y, z = super().forward(x)
        return {"output": y, "states": [(z,), [y, None]], "temperature": 0.5, "name": "nested", "shape": y.shape}


class WithConstants(Embedded):
    """Some of its outputs are outside of the graph."""

    def forward(self, x):
        y, _ = super().forward(x)
        return y.detach(), y, mx.nd.zeros((2,)), mx.nd.array([1], dtype="int32")


@pytest.mark.parametrize("kind", [Nested, WithConstants])
def test_statistics_do_not_depend_on_the_form_of_the_outputs(kind):
    mx.random.seed(0)
    plain, other = Embedded(), kind()
    x = mx.nd.array([0, 1, 4, 4])
    for net in (plain, other):
        net.initialize()
        net(x)
    other.embedding.weight.set_data(plain.embedding.weight.data())
    for net in (plain, other):
        update_batch_norm(net, [x])
    assert_equal_bits(statistics(other), statistics(plain))


def test_training_does_not_notice_the_statistics_of_the_average():
    plain, averaged = convolutional_net(), convolutional_net()
    train(plain, gluon.Trainer(plain.collect_params(), "namsg"), 6, lambda _: None)
    average = ParameterAverage(averaged.collect_params(), decay=0.7)

    def evaluate(x):
        average.update()
        with average.in_place():
            before = statistics(averaged)
            update_batch_norm(averaged, [x])
            assert all(np.any(a != b) for a, b in zip(statistics(averaged), before))

    train(averaged, gluon.Trainer(averaged.collect_params(), "namsg"), 6, evaluate)
    assert_equal_bits(bits(averaged.collect_params().values()), bits(plain.collect_params().values()))


def test_statistics_with_mxnets_numpy_arrays():
    expected = convolutional_net()
    update_batch_norm(expected, some_batches(2))
    mx.npx.set_np()
    try:
        net = convolutional_net()
        for p, q in zip(net.collect_params().values(), expected.collect_params().values()):
            if "running" not in p.name:
                p.set_data(q.data().as_np_ndarray())
        update_batch_norm(net, [x.as_np_ndarray() for x in some_batches(2)])
        assert_equal_bits(statistics(net), statistics(expected))
    finally:
        mx.npx.reset_np()


def test_a_net_that_returns_no_array_is_refused():
    class Counts(gluon.nn.Dense):
        def forward(self, x):
            return len(x)

    net = Counts(1, in_units=1)
    net.initialize()
    with pytest.raises(ValueError, match="net: returns no array"):
        update_batch_norm(net, [mx.nd.ones((2, 1))])
