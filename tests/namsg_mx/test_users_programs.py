"""What programs write that MXNet's users have: 'namsg' must work in them wherever 'adam' does."""

import contextlib
import itertools
import math
import os
import pickle
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, METHODS, assert_equal_bits, signed_gradients
from mxnet import autograd, gluon

import namsg_mx
from namsg_mx import reference


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
        optimizer = mx.optimizer.create(method, **options)
        optimizer.__class__ = type("Layerwise", (type(optimizer),), methods)
        assert_equal_bits(trained(optimizer), expected)


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


def test_an_update_that_is_put_on_an_optimizer_is_called_like_a_subclasss():
    optimizer = mx.optimizer.create("namsg", learning_rate=0.05)
    update = optimizer.update
    optimizer.update = lambda index, weight, grad, state: update(index, weight, -grad, state)
    updater = mx.optimizer.get_updater(optimizer)
    weights = [mx.nd.ones(2), mx.nd.ones(3)]
    updater([0, 1], [mx.nd.ones(2), mx.nd.ones(3)], weights)
    assert all((weight.asnumpy() > 1).all() for weight in weights)


def test_parameters_that_have_names_for_indices():
    """As in a kvstore with keys that are names."""
    optimizer = mx.optimizer.create("namsg", wd=0.1, param_idx2name={"a": "a_weight", "b": "b_bias"})
    updater = mx.optimizer.get_updater(optimizer)
    weights = [mx.nd.ones(2), mx.nd.ones(2)]
    updater(["a", "b"], [mx.nd.zeros(2), mx.nd.array([np.nan, 0])], weights)
    assert optimizer.last_update().nonfinite == 1
    assert (weights[0].asnumpy() < 1).all() and weights[1].asnumpy()[1] == 1   # as decay is for weights only


@pytest.mark.parametrize("is_subclass", [False, True])
def test_half_weights_of_a_subclass_stay_inside_the_box(is_subclass):
    """Their master copy is stepped by itself, and 0.3 in float32 would be 0.30004883 in float16."""
    optimizer = namsg_mx.AveragedSGD(1.0, beta1=0.0, bounds=(-0.3, 0.3), multi_precision=True)
    updater = mx.optimizer.get_updater(centralised(optimizer) if is_subclass else optimizer)
    weight = mx.nd.zeros((1, 2), dtype=np.float16)
    updater(0, mx.nd.array([[1, -1]], dtype=np.float16), weight)
    assert weight.asnumpy().tolist() == [[-0.2998046875, 0.2998046875]]
    assert optimizer.bounds == (-0.3, 0.3)


# MXNet 1.9.1's own comparison of optimizers: compare_optimizer of test_utils.py, over the grid of test_optimizer.py.

GRID = [dict(zip(("beta1", "beta2", "clip_gradient", "rescale_grad", "wd"), values)) for values in itertools.product(
    (0.5, 0.9), (0.8, 0.99), (None, 0.4), (1.0, 0.14), (0.0, 0.05))]
STORAGES = [("default", "default"), ("default", "row_sparse"), ("row_sparse", "row_sparse")]


@pytest.mark.parametrize("storages", STORAGES, ids=" and ".join)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_mxnets_grid_of_settings_dtypes_and_storage_types(dtype, storages):
    """Two steps of each by MXNet's Updater, against the float64 reference; float16 by its master weights."""
    random = np.random.RandomState(0)
    start = random.standard_normal((3, 4, 5)).astype(dtype)
    gradients = random.standard_normal((2, 3, 4, 5)).astype(dtype)
    gradients[:, 1] *= storages[1] == "default"   # a row that a row_sparse gradient lacks
    for settings in GRID:
        optimizer = mx.optimizer.create("namsg", learning_rate=0.01, eta=1.5, multi_precision=True, **settings)
        updater = mx.optimizer.get_updater(optimizer)
        weight = mx.nd.array(start, dtype=dtype).tostype(storages[0])
        x, moments = start.astype(np.float64), reference.Moments(0.0, 0.0, optimizer.epsilon)
        for g in gradients:
            updater(0, mx.nd.array(g, dtype=dtype).tostype(storages[1]), weight)
            g = reference.gradient(g.astype(np.float64), x, *(settings[name] for name in (
                "rescale_grad", "wd", "clip_gradient")))
            x, moments = reference.namsg(x, g, moments, 0.01, settings["beta1"], settings["beta2"], eta=1.5)
        m, v, v_hat, *master = updater.states[0]
        target = master[0] if master else weight
        assert len(master) == (dtype == np.float16)
        for found, expected in zip((target, m, v, v_hat), (x, *moments)):
            np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-6, err_msg=str(settings))
        if master:
            assert_equal_bits([weight.asnumpy()], [target.asnumpy().astype(np.float16)])


# MXNet 1.9.1's test_gluon_trainer.py: the same programs, with what NAMSG's first steps make of them. Two contexts have
# a gradient of 1 each. At eta = 0.9 the first step is 1.9 times the learning rate.

FIRST_STEP = 1.9


def two_contexts(**options):
    parameters = gluon.ParameterDict()
    x = parameters.get("x", shape=(10, 1), **options)
    parameters.initialize(ctx=[mx.cpu(0), mx.cpu(1)], init="zeros")
    return parameters, x


def backward(arrays):
    with autograd.record():
        losses = [each + 1 for each in arrays]
    autograd.backward(losses)


def assert_all(arrays, value):
    for each in arrays:
        np.testing.assert_allclose(each.asnumpy(), value, rtol=1e-5)


@pytest.mark.parametrize("update_on_kvstore", [True, False])
def test_a_trainer_of_two_contexts_with_lr_mult_and_saved_states(update_on_kvstore, tmp_path):
    parameters, x = two_contexts()
    trainer = gluon.Trainer(parameters, "namsg", {"learning_rate": 1.0}, update_on_kvstore=update_on_kvstore)
    backward(x.list_data())
    trainer.step(1)
    assert_all(x.list_data(), -FIRST_STEP)
    x.lr_mult = 0.0
    backward(x.list_data())
    trainer.step(1)
    assert_all(x.list_data(), -FIRST_STEP)
    trainer.save_states(str(tmp_path / "states"))
    trainer.load_states(str(tmp_path / "states"))
    assert trainer.optimizer.num_update == 2
    x.lr_mult = 1.0
    backward(x.list_data())
    trainer.step(1)
    moved = x.data(mx.cpu(0)).asnumpy()
    assert (moved < -FIRST_STEP - 1).all()
    assert_equal_bits([moved], [x.data(mx.cpu(1)).asnumpy()])


def test_gradients_that_are_reduced_and_applied_apart():
    parameters, x = two_contexts()
    trainer = gluon.Trainer(parameters, "namsg", {"learning_rate": 1.0}, update_on_kvstore=False)
    backward(x.list_data())
    trainer.allreduce_grads()
    assert_all(x.list_grad(), 2)
    trainer.update(1)
    assert_all(x.list_data(), -FIRST_STEP)
    backward(x.list_data())
    with pytest.raises(AssertionError, match="allreduce_grads"):
        on_kvstore = gluon.Trainer(parameters, "namsg", update_on_kvstore=True)
        on_kvstore.allreduce_grads()


@pytest.mark.parametrize("kvstore", ["local", "device"])
def test_loading_parameters_resets_the_kvstore(kvstore, tmp_path):
    parameters, x = two_contexts()
    trainer = gluon.Trainer(parameters, "namsg", {"learning_rate": 1.0}, kvstore=kvstore)
    parameters.save(str(tmp_path / "parameters"))
    backward(x.list_data())
    trainer.step(1)
    assert trainer._kvstore.type == kvstore
    mx.nd.waitall()
    parameters.load(str(tmp_path / "parameters"))
    assert trainer._kvstore is None
    backward(x.list_data())
    trainer.step(1)
    assert_all([x.data(mx.cpu(0))], x.data(mx.cpu(1)).asnumpy())
    assert (x.data(mx.cpu(0)).asnumpy() < -1).all()


@pytest.mark.parametrize("kvstore", ["local", "device"])
@pytest.mark.parametrize(("storages", "asked", "on_kvstore"), [
    (("default", "default"), True, True), (("default", "default"), False, False), (("default", "default"), None, True),
    (("default", "row_sparse"), True, True), (("default", "row_sparse"), False, False),
    (("default", "row_sparse"), None, False), (("row_sparse", "row_sparse"), None, True)])
def test_storage_types_in_a_kvstore(storages, asked, on_kvstore, kvstore):
    parameters, x = two_contexts(stype=storages[0], grad_stype=storages[1])
    trainer = gluon.Trainer(parameters, "namsg", {"learning_rate": 0.1}, kvstore=kvstore, update_on_kvstore=asked)
    rows = mx.nd.arange(10)

    def replicas():
        return x.list_data() if storages[0] == "default" else x.list_row_sparse_data(rows)

    backward(replicas())
    trainer.step(1)
    assert trainer._update_on_kvstore is on_kvstore
    assert_all(replicas(), -0.1 * FIRST_STEP)


def test_a_network_of_sparse_and_deferred_parameters():
    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            self.embedding = self.params.get("embedding", shape=(4, 3), stype="row_sparse", grad_stype="row_sparse")
            self.dense = gluon.nn.Dense(2)

        def forward(self, x):
            rows = self.embedding.row_sparse_data(x)
            return self.dense(mx.nd.Embedding(x, rows, input_dim=4, output_dim=3, sparse_grad=True))

    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        net = Net()
        net.initialize(mx.init.One(), ctx=contexts)
        trainer = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": 0.1, "lazy_update": True})
        with autograd.record():
            losses = [net(x) for x in gluon.utils.split_and_load(mx.nd.array([[0, 2], [1, 2]]), contexts)]
        autograd.backward(losses)
        trainer.step(1)
        found = net.embedding.row_sparse_data(mx.nd.arange(4)).asnumpy()
        np.testing.assert_allclose(found, np.repeat([[1 - 0.1 * FIRST_STEP]] * 3 + [[1]], 3, axis=1), rtol=1e-5)
        assert_all([net.dense.weight.data(context) for context in contexts], 1 - 0.1 * FIRST_STEP)


@pytest.mark.parametrize("update_on_kvstore", [True, False])
def test_a_trainers_learning_rate_follows_its_scheduler(update_on_kvstore):
    rates = []
    for method in ("namsg", "adam"):
        parameters, x = two_contexts()
        scheduler = mx.lr_scheduler.FactorScheduler(2, factor=0.1, base_lr=1)
        trainer = gluon.Trainer(parameters, method, {"learning_rate": 1, "lr_scheduler": scheduler},
                                update_on_kvstore=update_on_kvstore)
        for _ in range(7):
            backward(x.list_data())
            trainer.step(1)
            rates.append(trainer.learning_rate)
    assert rates[:7] == rates[7:] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])


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


@pytest.mark.parametrize("contexts", [[mx.cpu(0)], [mx.cpu(1)], [mx.cpu(0), mx.cpu(1)]])
def test_a_schedule_goes_on_where_a_program_sets_num_update(contexts):
    rates = {}
    for method in ("adam", "namsg"):
        parameter = gluon.Parameter("w", shape=(1,))
        parameter.initialize("one", ctx=contexts)
        scheduler = mx.lr_scheduler.PolyScheduler(10, base_lr=1.0)
        trainer = gluon.Trainer([parameter], method, {"learning_rate": 1.0, "lr_scheduler": scheduler},
                                update_on_kvstore=False)
        trainer.optimizer.num_update = 7
        rates[method] = []
        for _ in range(2):
            with autograd.record():
                losses = [2 * data for data in parameter.list_data()]
            autograd.backward(losses)
            trainer.step(1)
            rates[method].append(trainer.learning_rate)
        assert len({float(data.asscalar()) for data in parameter.list_data()}) == 1
        assert trainer.optimizer.num_update == 7
    assert rates["namsg"] == rates["adam"]
    restored = pickle.loads(pickle.dumps(trainer.optimizer))
    assert restored.num_update == 7


def test_updates_of_an_unpickled_optimizer_count_also_for_an_updater_that_takes_it_over():
    optimizer, weight = namsg_mx.NAMSG(), mx.nd.ones(1)
    state = optimizer.create_state(0, weight)
    for _ in range(3):
        optimizer.update(0, weight, mx.nd.ones(1), state)
    optimizer = pickle.loads(pickle.dumps(optimizer))
    for _ in range(5):
        optimizer.update(0, weight, mx.nd.ones(1), state)
    mx.optimizer.get_updater(optimizer)(0, mx.nd.ones(1), weight)
    assert optimizer.num_update == 9
    assert optimizer.last_update().k == 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta1", [0, np.float32(0.5)])
def test_a_momentum_that_a_program_sets_is_a_number_of_any_kind(beta1, dtype):
    optimizer, weight = mx.optimizer.create("averagedsgd", learning_rate=0.5), mx.nd.ones(1, dtype=dtype)
    state = optimizer.create_state(0, weight)
    optimizer.beta1 = beta1
    optimizer.update(0, weight, mx.nd.ones(1, dtype=dtype), state)
    assert weight.asscalar() == 1 - 0.5 * (1 - beta1)


def test_half_precision_without_a_master_copy_is_refused_before_a_server_could_fail():
    parameter = gluon.Parameter("w", shape=(3,), dtype="float16")
    frozen = gluon.Parameter("frozen", shape=(3,), dtype="float16", grad_req="null")
    for each in (parameter, frozen):
        each.initialize()
    with pytest.raises(ValueError, match="multi_precision=False: must be True for float16 weights in NAMSG"):
        gluon.Trainer([parameter], "namsg")
    gluon.Trainer([frozen], "namsg")
    gluon.Trainer([parameter], "namsg", {"multi_precision": True})


@pytest.mark.parametrize("kernel", ["auto", "ndarray"])
def test_an_update_inside_of_record_is_refused_as_with_adam(kernel):
    parameter = gluon.Parameter("w", shape=(1,))
    parameter.initialize("one")
    trainer = gluon.Trainer([parameter], "namsg", {"kernel": kernel})
    with autograd.record():
        first, second = parameter.data() ** 2, parameter.data() ** 2
        first.backward()
        with pytest.raises(mx.MXNetError, match="inside of autograd.record"):
            trainer.step(1)
        second.backward()
    assert (parameter.data().asscalar(), parameter.grad().asscalar()) == (1, 2)
    trainer.step(1)
    assert parameter.data().asscalar() < 1


def test_without_its_scheduler_it_goes_on_at_the_base_rate():
    for given, rate in (({"lr_scheduler": mx.lr_scheduler.FactorScheduler(5, base_lr=0.1)}, 0.1),
                        ({"learning_rate": namsg_mx.StepDecay(0.3, at=(1,))}, 0.002), ({"learning_rate": 0.4}, 0.4)):
        optimizer = mx.optimizer.create("namsg", **given)
        optimizer.lr_scheduler = None
        mx.optimizer.get_updater(optimizer)(0, mx.nd.ones(1), mx.nd.ones(1))
        assert optimizer.last_update().learning_rate == rate


@CPU_KERNEL
@pytest.mark.parametrize("lazy_update", [False, True])
def test_a_sparse_gradient_of_two_weights_and_beside_parts_of_a_buffer(lazy_update):
    def trained(**options):
        updater = mx.optimizer.get_updater(mx.optimizer.create("namsg", lazy_update=lazy_update, **options))
        gradient = mx.nd.sparse.row_sparse_array((np.ones((2, 2), "float32"), [0, 2]), shape=(4, 2))
        weights, flat, gradients = [mx.nd.ones((4, 2)), mx.nd.ones((4, 2))], mx.nd.ones(8), mx.nd.ones(8)
        for _ in range(2):
            updater([0, 1, 2, 3], [gradient, gradient, gradients[:4], gradients[4:]], [*weights, flat[:4], flat[4:]])
        assert updater.optimizer.last_update().kernel == options.get("kernel", "cpu")
        return [array.asnumpy() for array in (*weights, flat)]

    assert_equal_bits(trained(), trained(kernel="ndarray"))


def test_a_sparse_gradient_of_a_weight_without_rows():
    with mx.util.np_shape(True):
        weight = mx.nd.zeros((0, 3))
        mx.optimizer.get_updater(mx.optimizer.create("namsg"))(0, mx.nd.sparse.zeros("row_sparse", (0, 3)), weight)
        assert weight.shape == (0, 3)


@pytest.mark.parametrize("before", ["updater(0, gradient, weight)", "mx.nd.Convolution(image, filters, no_bias=True, "
                                    "kernel=(3, 3), num_filter=8).wait_to_read()"], ids=["update", "convolution"])
def test_a_forked_process_trains_with_the_naive_engine(before):
    """It has none of its parent's OpenMP threads, whatever began them, and must not wait for them."""
    program = f"""
import os
import namsg_mx
import mxnet as mx
weight, gradient = mx.nd.ones(200000), mx.nd.ones(200000)
image, filters = mx.nd.ones((8, 3, 32, 32)), mx.nd.ones((8, 3, 3, 3))
updater = mx.optimizer.get_updater(mx.optimizer.create("namsg"))
{before}
child = os.fork()
updater(0, gradient, weight)
total = weight.sum().asscalar()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    environment = {**os.environ, "MXNET_ENGINE_TYPE": "NaiveEngine", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=600)


class FailsOnce(mx.operator.CustomOp):
    """The identity, whose second backward pass raises."""

    passes = 0

    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        FailsOnce.passes += 1
        if FailsOnce.passes == 2:
            raise ValueError("the backward pass failed")
        self.assign(in_grad[0], req[0], out_grad[0])


@mx.operator.register("fails_once")
class FailsOnceProp(mx.operator.CustomOpProp):
    def create_operator(self, ctx, shapes, dtypes):
        return FailsOnce()


@pytest.mark.parametrize("method, moves", [("adam", 3), ("namsg", 2)])
def test_without_the_gradient_of_a_failed_layer_no_parameter_moves_but_the_update_counts(method, moves):
    """The guide's pitfall. With adam the other parameter moves."""
    FailsOnce.passes = 0
    failing, other = (gluon.Parameter(name, shape=(1,)) for name in ("failing", "other"))
    for parameter in (failing, other):
        parameter.initialize("one")
    trainer = gluon.Trainer([failing, other], method, {"learning_rate": 0.1}, kvstore=None)
    errors, weights = [], [1]
    for _ in range(3):
        with autograd.record():
            loss = mx.nd.Custom(failing.data(), op_type="fails_once").sum() + other.data().sum()
        loss.backward()
        trainer.step(1)
        try:
            failing.data().wait_to_read()
        except mx.base.MXNetError as error:
            errors.append(str(error))
        with contextlib.suppress(mx.base.MXNetError):
            mx.nd.waitall()
        weights.append(other.data().asscalar())
    assert len(errors) == 1 and "kCustomOpBackward" in errors[0]
    assert trainer.optimizer.num_update == 3
    assert np.count_nonzero(np.diff(weights)) == moves


@pytest.mark.parametrize("method", ["adam", *METHODS])
def test_numbers_in_mxnets_numpy_arrays(method):
    """As a mask's sum, by which a step is divided, or a rate that was computed."""
    mx.npx.set_np()
    try:
        parameter = gluon.Parameter("w", shape=(2,))
        parameter.initialize("one")
        trainer = gluon.Trainer([parameter], method, {"learning_rate": 0.1}, kvstore=None)
        for each in (mx.np.array(4.0), mx.np.array([True, False, True]).sum()):
            with autograd.record():
                loss = (parameter.data() * 3).sum()
            loss.backward()
            trainer.step(each)
        trainer.set_learning_rate(mx.np.array(0.05))
        assert float(trainer.learning_rate) == pytest.approx(0.05)
        assert (parameter.data().asnumpy() < 1).all()
    finally:
        mx.npx.reset_np()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", ["auto", "ndarray"])
def test_mxnets_numpy_arrays_are_updated_before_and_after_the_switch(kernel, dtype):
    results = []
    for make in (mx.np.array, mx.nd.array):
        optimizer = mx.optimizer.create("namsg", switch_to_sgd=3, kernel=kernel)
        weight = make([1.0, 2.0, 3.0], dtype=dtype)
        state = optimizer.create_state(0, weight)
        for _ in range(5):
            optimizer.update(0, weight, make([1.0, 0.0, 2.0], dtype=dtype), state)
        results.append([weight.asnumpy(), *(each.asnumpy() for each in state)])
    assert_equal_bits(*results)
