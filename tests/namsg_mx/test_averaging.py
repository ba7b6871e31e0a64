"""The average of the parameters: its values, its life beside training and evaluation, its file."""

import mxnet as mx
import numpy as np
import pytest
from batch_norm_network import bits, convolutional_net, train
from comparison import assert_equal_bits
from mxnet import autograd, gluon
from mxnet.gluon import nn

from namsg_mx import ParameterAverage, exempt_from_decay


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


def in_place(average, params):
    with average.in_place():
        return bits(params)


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


def test_bfloat16_has_no_average():
    bfloat16 = np.dtype([("bfloat16", np.uint16)])
    parameter, = parameters([(3,)])
    average = ParameterAverage([parameter])
    parameter.cast(bfloat16)
    for use in (average.update, lambda: ParameterAverage([parameter])):
        with pytest.raises(TypeError, match="params: are in bfloat16"):
            use()


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
