"""The average of the parameters: its values, its life beside training and evaluation, its statistics, its file."""

import mxnet as mx
import numpy as np
import pytest
from comparison import assert_equal_bits
from mxnet import autograd, gluon
from mxnet.gluon import nn

from namsg_mx import ParameterAverage, exempt_from_decay, update_batch_norm

LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def parameters(shapes, dtype=np.float32, ctx=None):
    params = [gluon.Parameter(f"p{i}", shape=shape, dtype=dtype) for i, shape in enumerate(shapes)]
    for p in params:
        p.initialize(mx.init.Uniform(1.0), ctx=ctx or mx.cpu())
    return params


def test_after_in_place_a_network_that_was_cast_or_moved_inside_has_its_own_weights():
    net = nn.Dense(1, in_units=1, use_bias=False)
    net.initialize(mx.init.One())
    average = ParameterAverage(net.collect_params(), decay=0.5)
    net.weight.set_data(mx.nd.array([[5.0]]))
    average.update()
    with average.in_place():
        assert net.weight.data().asscalar() == 3
        net.cast("float64")
    assert (net.weight.data().asscalar(), net.weight.dtype) == (5, "float64")
    with average.in_place():
        net.collect_params().reset_ctx([mx.cpu(1), mx.cpu(2)])
    assert [data.asscalar() for data in net.weight.list_data()] == [5, 5]


def test_a_network_in_place_of_its_parameters():
    net = nn.HybridSequential()
    net.add(nn.Dense(1))
    with pytest.raises(TypeError, match="params: is a network; give its collect_params"):
        ParameterAverage(net)
    for params in (net, [gluon.Parameter("w", shape=(1,))]):
        with pytest.raises(TypeError, match="params: must have names; give a network's collect_params"):
            exempt_from_decay(params)


def bits(params):
    return [array.asnumpy() for p in params for array in p.list_data()]


def in_place(average, params):
    with average.in_place():
        return bits(params)


def convolutional_net():
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, in_channels=3), nn.BatchNorm(in_channels=16), nn.Activation("relu"),
            nn.Conv2D(32, 3, in_channels=16), nn.BatchNorm(in_channels=32), nn.Flatten(), nn.Dense(10))
    net.initialize()
    net((mx.np if mx.util.is_np_array() else mx.nd).zeros((1, 3, 10, 10)))
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def train(net, trainer, steps, after_each):
    random = np.random.RandomState(0)
    for _ in range(steps):
        x, y = mx.nd.array(random.standard_normal((8, 3, 10, 10))), mx.nd.array(random.randint(0, 10, 8))
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()
        trainer.step(8)
        after_each(x)


def test_three_updates_worked_by_hand():
    p, = parameters([(1,)])
    p.set_data(mx.nd.array([1.0]))
    average = ParameterAverage([p], decay=0.75)
    for value, expected in ((5.0, 2.0), (-2.0, 1.0), (9.0, 3.0)):   # 3/4 * 1 + 1/4 * 5; 3/4 * 2 - 1/2; 3/4 + 9/4
        p.set_data(mx.nd.array([value]))
        average.update()
        assert in_place(average, [p]) == [[expected]]
        assert p.data().asscalar() == value


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_many_arrays_of_many_sizes_follow_numpy(dtype):
    """More arrays than one operation of MXNet takes."""
    params = parameters([(n % 7 + 1, n + 1) for n in range(130)], dtype)
    average = ParameterAverage(params, decay=0.9)
    expected = [p.data().asnumpy().astype(np.float64) for p in params]
    random = np.random.RandomState(0)
    for _ in range(5):
        for p in params:
            p.set_data(mx.nd.array(random.standard_normal(p.shape), dtype=dtype))
        average.update()
        expected = [0.9 * a + 0.1 * p.data().asnumpy().astype(np.float64) for a, p in zip(expected, params)]
    # 1 - decay is a float32 in MXNet's operation whatever the dtype; a float16 is rounded once, at the end.
    tolerance = 1e-3 if dtype == np.float16 else 1e-6
    for found, a in zip(in_place(average, params), expected):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.astype(np.float64), a, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_decay_the_average_is_the_network_to_the_bit(dtype):
    """Though the difference of 1 and 1e8 is rounded."""
    p, = parameters([(1,)], dtype)
    p.set_data(mx.nd.array([1e8]))
    average = ParameterAverage([p], decay=0)
    p.set_data(mx.nd.ones(1))
    average.update()
    assert in_place(average, [p])[0][0] == 1


def test_in_float32_the_average_stops_where_it_says():
    """Below half a unit in the last place a change is lost; in float64 that is far away."""
    decay, distances = 0.99, {}
    for dtype in (np.float32, np.float64):
        p, = parameters([(1,)], dtype)
        p.set_data(mx.nd.zeros(1))
        average = ParameterAverage([p], decay)
        p.set_data(mx.nd.ones(1))
        for _ in range(2500):   # decay**2500 is 1e-11
            average.update()
        distances[dtype] = 1 - in_place(average, [p])[0][0] if dtype == np.float64 else \
            1 - np.float64(average._average[0].asscalar())
    assert 1e-7 < distances[np.float32] <= 6e-8 / (1 - decay)
    assert distances[np.float64] < 1e-10


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "float64"])
def test_constants_are_copied(dtype):
    constant = gluon.Constant(f"constant_{dtype}", mx.nd.array([3, 200], dtype=dtype))
    weight, = parameters([(2,)])
    constant.initialize()
    average = ParameterAverage([constant, weight], decay=0.5)
    for values in ([3, 200], [4, 100]):
        constant.data()[:] = mx.nd.array(values, dtype=dtype)
        for _ in range(100):
            average.update()
        with average.in_place():
            found = constant.data().asnumpy()
        assert found.dtype == dtype
        assert found.tolist() == values


@pytest.mark.parametrize("casts", [("float64",), ("float16",), ("float64", "float32"), ("float16", "float64")], ids=str)
def test_the_average_follows_casts(tmp_path, casts):
    """And so does the file that it is saved in, right after one, too."""
    net = nn.Dense(2, in_units=3)
    net.initialize()
    net.weight.set_data(mx.nd.ones((2, 3)))
    average, expected = ParameterAverage([net.weight], decay=0.75), 1.0
    for k, dtype in enumerate(casts, start=2):
        net.cast(dtype)
        net.weight.set_data(mx.nd.full((2, 3), k, dtype=dtype))
        average.update()
        expected = 0.75 * expected + 0.25 * k
        (found,) = in_place(average, [net.weight])
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-3 if dtype == "float16" else 1e-6)
    net.cast("float32")
    average.save(str(tmp_path / "average"))
    fresh = ParameterAverage([net.weight], decay=0.75)
    fresh.load(str(tmp_path / "average"))
    assert_equal_bits(in_place(fresh, [net.weight]), in_place(average, [net.weight]))


def test_evaluation_in_its_place_is_that_of_a_net_with_these_parameters_and_leaves_training_alone():
    """Beside convolutions, whose weights an inference pass puts into a layout of oneDNN's; BatchNorm included."""
    x = mx.nd.array(np.random.RandomState(1).standard_normal((8, 3, 10, 10)))
    plain, averaged, copy = (convolutional_net() for _ in range(3))
    train(plain, gluon.Trainer(plain.collect_params(), "namsg"), 6, lambda _: None)

    average = ParameterAverage(averaged.collect_params(), decay=0.7)
    trainer = gluon.Trainer(averaged.collect_params(), "namsg")
    history = [bits(averaged.collect_params().values())]

    def evaluate(_):
        average.update()
        now = bits(averaged.collect_params().values())
        history.append([0.7 * a.astype(np.float64) + 0.3 * p for a, p in zip(history[-1], now)])
        with average.in_place():
            outputs = averaged(x).asnumpy()
            for p, q in zip(copy.collect_params().values(), averaged.collect_params().values()):
                p.set_data(q.data())
            for found, expected in zip(bits(averaged.collect_params().values()), history[-1]):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)   # float32's rounding of some updates
        assert np.array_equal(outputs, copy(x).asnumpy())

    train(averaged, trainer, 6, evaluate)
    assert_equal_bits(bits(plain.collect_params().values()), bits(averaged.collect_params().values()))
    moved = [name for name, a, b in zip(averaged.collect_params(), history[0], history[-1]) if np.any(a != b)]
    assert any(name.endswith("running_mean") for name in moved)
    assert any(name.endswith("running_var") for name in moved)


def statistics(net):
    return bits([p for name, p in net.collect_params().items() if "running" in name])


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


def test_statistics_of_layers_on_several_devices_and_of_a_net_that_takes_numpy_arrays():
    net = Apart()
    net.initialize()
    net.second.collect_params().reset_ctx(mx.cpu(1))
    for batch in (mx.nd.ones((4, 2)), np.ones((4, 2), np.float32), mx.nd.ones((4, 2), ctx=mx.Context("cpu_shared", 0))):
        before = net.second.running_mean.data().asnumpy()
        update_batch_norm(net, [batch])
        assert (net.second.running_mean.data().asnumpy() != before).all()


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


def test_bfloat16_has_no_average():
    bfloat16 = np.dtype([("bfloat16", np.uint16)])
    parameter, = parameters([(3,)])
    average = ParameterAverage([parameter])
    parameter.cast(bfloat16)
    for use in (average.update, lambda: ParameterAverage([parameter])):
        with pytest.raises(TypeError, match="params: are in bfloat16"):
            use()


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


def deep_net():
    """Its running means and variances, and a backward pass on it that takes some milliseconds."""
    mx.random.seed(0)
    net = nn.HybridSequential()
    for _ in range(10):
        net.add(nn.Conv2D(16, 3, padding=1), nn.BatchNorm())
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.array(np.random.RandomState(0).standard_normal((64, 3, 32, 32)))

    def backward():
        with autograd.record():
            outputs = net(x)
        outputs.backward()

    backward()   # compiles
    mx.nd.waitall()
    return [p for name, p in net.collect_params().items() if "running" in name], backward


def test_the_average_moves_with_the_network():
    parameter = mx.gluon.Parameter("p", shape=(2,))
    parameter.initialize("ones")
    average = ParameterAverage([parameter], decay=0.5)
    parameter.reset_ctx(mx.cpu(1))
    parameter.set_data(mx.nd.array([3.0, 5.0]))
    average.update()
    assert [array.context for array in average._average] == [mx.cpu(1)]
    with average.in_place():
        assert parameter.data().asnumpy().tolist() == [2.0, 3.0]


def test_a_saved_average_is_restored_in_the_present_precision(tmp_path):
    parameter = mx.gluon.Parameter("p", shape=(2,))
    parameter.initialize("ones")
    ParameterAverage([parameter]).save(str(tmp_path / "average"))
    parameter.set_data(mx.nd.array([3.0, 5.0]))
    parameter.cast("float64")
    average = ParameterAverage([parameter])
    average.load(str(tmp_path / "average"))
    with average.in_place():
        assert parameter.data().dtype == np.float64
        assert parameter.data().asnumpy().tolist() == [1.0, 1.0]


def test_after_a_cast_the_average_is_saved_and_loaded_in_the_new_precision(tmp_path):
    """Without an update in between: it would take the new precision, too."""
    params = [gluon.Parameter("p", shape=(1,)) for _ in range(2)]
    for parameter in params:
        parameter.initialize("ones")
    saved, loaded = (ParameterAverage([parameter], decay=0.9) for parameter in params)
    for parameter in params:
        parameter.cast("float64")
    params[0].set_data(mx.nd.array([1 / 3], dtype="float64"))
    saved.save(tmp_path / "cast")
    assert [values.dtype for values in mx.nd.load(str(tmp_path / "cast"))] == [np.float64]
    saved.update()
    saved.save(tmp_path / "updated")
    loaded.load(tmp_path / "updated")
    found, = in_place(loaded, params[1:])
    assert_equal_bits([found], in_place(saved, params[:1]))
    assert found != found.astype(np.float32)   # it has float64's digits


def test_an_update_waits_for_statistics_that_a_backward_pass_is_still_to_write():
    """MXNet's engine, with static_shape=True, does not."""
    running, backward = deep_net()
    average, before = ParameterAverage(running, decay=0.5), bits(running)
    backward()
    average.update()
    mx.nd.waitall()
    for found, a, b in zip(in_place(average, running), before, bits(running)):
        np.testing.assert_allclose(found, (a + b) / 2, rtol=1e-6, atol=1e-8)


def test_statistics_that_a_backward_pass_is_still_to_write_come_back():
    running, backward = deep_net()
    backward()
    mx.nd.waitall()
    expected = bits(running)
    running, backward = deep_net()
    average = ParameterAverage(running)
    backward()
    with average.in_place():
        pass
    mx.nd.waitall()
    assert_equal_bits(bits(running), expected)


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


def test_what_was_there_comes_back_after_an_error():
    params = parameters([(3,)])
    average = ParameterAverage(params)
    params[0].set_data(mx.nd.array([1.0, np.nan, 1e-42]))
    before = params[0].data().asnumpy().tobytes()
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert params[0].data().asnumpy().tobytes() == before


def test_all_contexts_get_the_average_and_their_own_values_back():
    params = parameters([(3,), (2, 2)], ctx=[mx.cpu(0), mx.cpu(1)])
    average = ParameterAverage(params, decay=0.5)
    initial = [p.list_data()[0].asnumpy() for p in params]
    for p in params:
        for i, array in enumerate(p.list_data()):
            array[:] = i + 1.0   # as BatchNorm's statistics differ between contexts
    before = bits(params)
    average.update()
    inside = in_place(average, params)
    assert_equal_bits(inside[::2], inside[1::2])
    for found, values in zip(inside[::2], initial):
        np.testing.assert_allclose(found, (values + 1) / 2, rtol=0, atol=1e-6)   # those of the first context are 1
    assert_equal_bits(bits(params), before)


def test_saved_and_loaded_it_goes_on_to_the_bit(tmp_path):
    def run(stop_at=None):
        params = parameters([(5,), (2, 3)])
        random = np.random.RandomState(0)
        average = ParameterAverage(params, decay=0.9)
        for k in range(10):
            if k == stop_at:
                average.save(str(tmp_path / "average"))
                average = ParameterAverage(params, decay=0.9)
                average.load(str(tmp_path / "average"))
            for p in params:
                p.set_data(mx.nd.array(random.standard_normal(p.shape)))
            average.update()
        return in_place(average, params)

    mx.random.seed(0)
    expected = run()
    mx.random.seed(0)
    assert_equal_bits(run(stop_at=4), expected)


@pytest.mark.parametrize("shapes", [[(5,)], [(5,), (3, 2)], [(5,), (2, 3), (1,)]], ids=str)
def test_the_average_of_other_parameters_is_refused(tmp_path, shapes):
    ParameterAverage(parameters(shapes)).save(str(tmp_path / "average"))
    with pytest.raises(ValueError, match="average: holds the average of other parameters"):
        ParameterAverage(parameters([(5,), (2, 3)])).load(str(tmp_path / "average"))


def test_the_parameters_themselves_are_no_average(tmp_path):
    mx.nd.save(str(tmp_path / "net.params"), {"a": mx.nd.ones(5), "b": mx.nd.ones((2, 3))})
    with pytest.raises(ValueError, match="net.params: holds named arrays"):
        ParameterAverage(parameters([(5,), (2, 3)])).load(str(tmp_path / "net.params"))


@pytest.mark.parametrize("content", [b"", b"garbage" * 20, "half of it"], ids=["empty", "garbage", "half"])
def test_a_file_that_is_no_average_is_refused_in_one_sentence(tmp_path, content):
    average = ParameterAverage(parameters([(5,)]))
    average.save(str(tmp_path / "average"))
    whole = (tmp_path / "average").read_bytes()
    (tmp_path / "average").write_bytes(whole[:len(whole) // 2] if content == "half of it" else content)
    with pytest.raises(ValueError, match="average: is no saved average, or not all of one$"):
        average.load(str(tmp_path / "average"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        average.load(str(tmp_path / "nowhere"))


def test_with_mxnets_numpy_arrays(tmp_path):
    def run():
        params = parameters([(5,), (2, 3)])
        average = ParameterAverage(params, decay=0.5)
        for k in range(3):
            for i, p in enumerate(params):
                p.set_data(mx.np.full(p.shape, k + i) if mx.util.is_np_array() else mx.nd.full(p.shape, k + i))
            average.update()
        average.save(str(tmp_path / "average"))
        average.load(str(tmp_path / "average"))
        return in_place(average, params)

    mx.random.seed(0)
    expected = run()
    mx.npx.set_np()
    try:
        mx.random.seed(0)
        assert_equal_bits(run(), expected)
    finally:
        mx.npx.reset_np()


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan"), "0.9"])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"decay=.*: must be a number in \[0, 1\)"):
        ParameterAverage([], decay)


def test_an_average_takes_paths_of_any_kind(tmp_path):
    weight = gluon.Parameter("w", shape=(2,))
    weight.initialize("one")
    average = ParameterAverage([weight])
    average.save(tmp_path / "average")
    weight.set_data(mx.nd.zeros(2))
    other = ParameterAverage([weight])
    other.load(tmp_path / "average")
    with other.in_place():
        assert (weight.data().asnumpy() == 1).all()


def test_a_net_that_returns_no_array_is_refused():
    class Counts(gluon.nn.Dense):
        def forward(self, x):
            return len(x)

    net = Counts(1, in_units=1)
    net.initialize()
    with pytest.raises(ValueError, match="net: returns no array"):
        update_batch_norm(net, [mx.nd.ones((2, 1))])
