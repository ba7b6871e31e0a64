"""Parameters on several devices: replicas that train as one, kvstores, layers on devices of their own."""

import subprocess
import sys
import textwrap

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, KERNELS, assert_equal_bits
from mxnet import autograd, gluon
from mxnet.gluon import nn
from small_networks import LOSS, batches, train

import namsg_mx
from namsg_mx import ObservationDistance, StepDecay, kernels


@pytest.mark.parametrize("update_on_kvstore", [True, False])
def test_several_contexts_train_as_one(update_on_kvstore):
    """Two CPU contexts, half a batch each, follow one context with the whole batch, schedules and switch included."""
    options = {"learning_rate": 0.02, "eta": ObservationDistance(8), "switch_to_sgd": 6}
    data = batches(10)

    def net_without_batchnorm(ctx):
        mx.random.seed(0)
        net = nn.Dense(3, in_units=5)
        net.initialize(mx.init.Uniform(0.3), ctx=ctx)
        return net

    single = net_without_batchnorm(mx.cpu(0))
    expected = train(single, gluon.Trainer(single.collect_params(), "namsg", options), data)
    contexts = [mx.cpu(0), mx.cpu(1)]
    double = net_without_batchnorm(contexts)
    double.weight.set_data(net_without_batchnorm(mx.cpu(0)).weight.data())
    trainer = gluon.Trainer(double.collect_params(), "namsg", options, update_on_kvstore=update_on_kvstore)
    for x, y in data:
        with autograd.record():
            losses = [LOSS(double(a), b) for a, b in zip(gluon.utils.split_and_load(x, contexts),
                                                         gluon.utils.split_and_load(y, contexts))]
        autograd.backward(losses)
        trainer.step(16)
    replicas = [[p.data(ctx).asnumpy() for p in double.collect_params().values()] for ctx in contexts]
    assert_equal_bits(*replicas)
    for a, b in zip(replicas[0], expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    last = trainer.optimizer.last_update()
    assert (last.k, last.eta, last.nonfinite) == (9, 3.0, 0)
    assert last.sgd_learning_rate > 0
    assert last.kernel == kernels.choose("auto", mx.cpu(), np.float32)


SCHEDULES = {
    "learning_rate": lambda: {"learning_rate": StepDecay(0.1, at=(2,))},
    "lr_scheduler": lambda: {"lr_scheduler": mx.lr_scheduler.FactorScheduler(1, 0.5, base_lr=0.1)},   # keeps state
    "beta1 and eta": lambda: {"beta1": namsg_mx.ExponentialDecay(0.9, 0.8), "eta": ObservationDistance(4)},
    "switch_to_sgd": lambda: {"switch_to_sgd": 3},
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("stale", [("w0", 0), ("w0", 2), ("w1", 1)], ids=str)
def test_replicas_of_several_precisions_stay_equal_when_a_parameter_is_skipped(schedule, stale):
    """They follow a single device to the bit: MXNet hands over each precision by itself, and counts by device."""
    def trained(contexts):
        parameters = [gluon.Parameter(name, shape=(2,), dtype=dtype)
                      for name, dtype in (("w0", "float32"), ("w1", "float16"), ("w2", "float64"))]
        for parameter in parameters:
            parameter.initialize("one", ctx=contexts)
        trainer = gluon.Trainer(parameters, "namsg", dict(schedule(), multi_precision=True), kvstore=None)
        for k in range(6):
            for context in contexts:
                with autograd.record():
                    loss = sum(p.data(context).astype("float32").sum() for p in parameters if (p.name, k) != stale)
                loss.backward()
            trainer.step(1, ignore_stale_grad=True)
        return [[parameter.data(context).asnumpy() for parameter in parameters] for context in contexts]

    alone, = trained([mx.cpu(0)])
    for replica in trained([mx.cpu(0), mx.cpu(1), mx.cpu(2)]):
        assert_equal_bits(replica, alone)


@CPU_KERNEL
def test_weights_that_a_kvstore_keeps_in_pinned_memory_take_the_cpu_kernel():
    weight = mx.nd.ones((2, 3), mx.cpu_pinned(0))
    gradient = mx.nd.ones((2, 3), mx.cpu_pinned(0))
    updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel="cpu"))
    updater(0, gradient, weight)
    expected, alone = mx.nd.ones((2, 3)), mx.optimizer.get_updater(namsg_mx.NAMSG(kernel="cpu"))
    alone(0, mx.nd.ones((2, 3)), expected)
    assert weight.context.device_type == "cpu_pinned"
    assert_equal_bits([weight.asnumpy()], [expected.asnumpy()])


def test_layers_on_several_devices():
    """Model parallelism, which hands over weights of all the devices in one update: each is stepped on its own."""
    random = np.random.RandomState(0)
    x, y = random.standard_normal((64, 10)).astype(np.float32), random.randint(0, 2, 64).astype(np.float32)
    net = mx.sym.Variable("data")
    for group, units in (("first", 5), ("second", 2)):
        with mx.AttrScope(ctx_group=group):
            net = mx.sym.FullyConnected(net, num_hidden=units, name=group)
    net = mx.sym.SoftmaxOutput(net, name="softmax")

    def trained(second):
        module = mx.mod.Module(net, context=[mx.cpu(0)],
                               group2ctxs={"first": [mx.cpu(0)], "second": [mx.cpu(second)]})
        mx.random.seed(0)
        optimizer = namsg_mx.NAMSG(0.05, switch_to_sgd=3, param_idx2name={}, rescale_grad=1 / 16)
        module.fit(mx.io.NDArrayIter(x, y, batch_size=16), num_epoch=2, optimizer=optimizer, kvstore=None)
        contexts = {binding.counts[0].context for call in optimizer._calls.latest.values() for binding in call.bindings}
        return {name: values.asnumpy() for name, values in module.get_params()[0].items()}, contexts

    expected, contexts = trained(second=0)
    assert contexts == {mx.cpu(0)}
    found, contexts = trained(second=1)
    assert contexts == {mx.cpu(0), mx.cpu(1)}
    assert len(found) == 4 and all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_that_are_new_arrays_in_each_update_of_several_devices(kernel):
    def trained(devices):
        optimizer = namsg_mx.NAMSG(kernel=kernel)
        weights = [mx.nd.ones(2, mx.cpu(device)) for device in devices]
        states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
        for k in range(3):
            gradients = [mx.nd.array([i + 1, -k], weight.context) for i, weight in enumerate(weights)]
            optimizer.update([0, 1, 2], weights, gradients, states)
        return [each.asnumpy() for each in (*weights, *(array for state in states for array in state))]

    assert_equal_bits(trained([0, 0, 1]), trained([0, 0, 0]))


def test_an_error_inside_an_update_on_several_contexts_is_printed_and_training_goes_on():
    """The guide's pitfall: it is raised in a callback of the kvstore."""
    script = """
        import namsg_mx
        import mxnet as mx
        from mxnet import autograd, gluon

        class Stumbling:
            calls = 0

            def __call__(self, k):
                Stumbling.calls += k == 1
                if Stumbling.calls == 1:
                    raise OSError('no schedule')
                return 0.1

        parameter = gluon.Parameter('w', shape=(1,))
        parameter.initialize('one', ctx=[mx.cpu(0), mx.cpu(1)])
        trainer = gluon.Trainer([parameter], 'averagedsgd', {'learning_rate': Stumbling(), 'beta1': 0.0},
                                update_on_kvstore=True)
        for _ in range(3):
            with autograd.record():
                losses = [data.sum() for data in parameter.list_data()]
            autograd.backward(losses)
            trainer.step(1)
            print(round(float(parameter.data().asscalar()), 3))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert result.stdout.split() == ["0.8", "0.8", "0.6"]
    assert "OSError: no schedule" in result.stderr


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
