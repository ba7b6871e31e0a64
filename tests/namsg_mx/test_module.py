"""NAMSG as a user of ``mxnet.mod.Module``, the symbolic API, meets it."""

import pickle

import mxnet as mx
import numpy as np
import pytest
from comparison import assert_equal_bits

from namsg_mx import ObservationDistance, StepDecay


def test_module_fit():
    """The symbolic API, and the optimizer's settings from a tuple."""
    random = np.random.RandomState(0)
    x = random.standard_normal((256, 10)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.float32)
    data = mx.sym.Variable("data")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=2, name="fc"), name="softmax")
    module = mx.mod.Module(net)
    mx.random.seed(0)
    iterator = mx.io.NDArrayIter(x, y, batch_size=32)
    module.fit(iterator, num_epoch=15, optimizer="namsg", optimizer_params=(("learning_rate", 0.05), ("wd", 1e-4)))
    assert module.score(iterator, "acc")[0][1] > 0.97


@pytest.mark.parametrize("decoupled_wd", [False, True])
def test_module_decays_weights_only(decoupled_wd):
    """It knows them by their names. Without gradients nothing else moves them."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(net, grad_scale=0, name="softmax"))
    module.fit(mx.io.NDArrayIter(np.ones((8, 3)), np.zeros(8), batch_size=4), num_epoch=1, optimizer="namsg",
               optimizer_params={"wd": 0.1, "decoupled_wd": decoupled_wd},
               arg_params={"fc_weight": mx.nd.ones((2, 3)), "fc_bias": mx.nd.ones(2)})
    (_, bias), (_, weight) = sorted(module.get_params()[0].items())
    assert (bias.asnumpy() == 1).all() and (weight.asnumpy() < 1).all()


@pytest.mark.parametrize("contexts", [1, 2])
@pytest.mark.parametrize("update_on_kvstore", ["0", "1"])
def test_module_resumes_to_the_bit_with_its_count_of_updates(tmp_path, monkeypatch, update_on_kvstore, contexts):
    """As the guide has it. MXNet keeps the optimizer's states, and not how many updates they have had."""
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", update_on_kvstore)
    random = np.random.RandomState(0)
    x, y = random.standard_normal((64, 10)).astype(np.float32), random.randint(0, 2, 64).astype(np.float32)
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2), name="softmax")
    settings = {"learning_rate": StepDecay(0.05, at=(6, 12)), "eta": ObservationDistance(14)}
    devices, prefix = [mx.cpu(i) for i in range(contexts)], str(tmp_path / "module")

    def fit(module, begin, end, **count):
        module.fit(mx.io.NDArrayIter(x, y, batch_size=16), begin_epoch=begin, num_epoch=end, optimizer="namsg",
                   optimizer_params=dict(settings, **count))
        return [values.asnumpy() for _, values in sorted(module.get_params()[0].items())]

    mx.random.seed(0)
    module = mx.mod.Module(net, context=devices)
    fit(module, 0, 2)
    module.save_checkpoint(prefix, 2, save_optimizer_states=True)
    expected = fit(module, 2, 4)
    resumed = mx.mod.Module.load(prefix, 2, load_optimizer_states=True, context=devices)
    assert_equal_bits(fit(resumed, 2, 4, begin_num_update=2 * 4), expected)
    forgetful = mx.mod.Module.load(prefix, 2, load_optimizer_states=True, context=devices)
    assert not np.array_equal(fit(forgetful, 2, 4)[1], expected[1])


@pytest.mark.parametrize("at", [5, 8, 12])
def test_module_goes_on_with_a_switch_to_sgd_by_its_pickled_optimizer(tmp_path, at):
    """As the guide has it, before and after the switch. MXNet's file of states does not hold SGD's step size."""
    random = np.random.RandomState(0)
    x, y = random.standard_normal((64, 10)).astype(np.float32), random.randint(0, 2, 64).astype(np.float32)
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2), name="softmax")
    prefix = str(tmp_path / "module")

    def fit(module, begin, end, optimizer, **parameters):
        module.fit(mx.io.NDArrayIter(x, y, batch_size=16), begin_epoch=begin, num_epoch=end, optimizer=optimizer,
                   optimizer_params=parameters)
        return [values.asnumpy() for _, values in sorted(module.get_params()[0].items())]

    mx.random.seed(0)
    module = mx.mod.Module(net)
    fit(module, 0, 2, "namsg", switch_to_sgd=at)
    module.save_checkpoint(prefix, 2, save_optimizer_states=True)
    pickled = pickle.dumps(module._optimizer)
    expected = fit(module, 2, 4, None)
    resumed = mx.mod.Module.load(prefix, 2, load_optimizer_states=True)
    assert_equal_bits(fit(resumed, 2, 4, pickle.loads(pickled)), expected)
    assert resumed._optimizer.last_update().sgd_learning_rate > 0


@pytest.mark.parametrize("update_on_kvstore", ["0", "1"])
def test_module_counts_a_gradient_that_is_not_finite_once_on_several_contexts(monkeypatch, update_on_kvstore):
    """It gives the replicas of a parameter an index each."""
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", update_on_kvstore)
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    module = mx.mod.Module(mx.sym.LinearRegressionOutput(net, name="regression"), label_names=["regression_label"],
                           context=[mx.cpu(0), mx.cpu(1)])
    x = np.ones((8, 3), np.float32)
    x[0, 0] = np.inf   # and the whole gradient is NaN
    module.fit(mx.io.NDArrayIter(x, np.ones((8, 2)), batch_size=8, label_name="regression_label"), num_epoch=2,
               optimizer="namsg", optimizer_params={"nonfinite": "skip"}, eval_metric="mse")
    assert module._optimizer.last_update().nonfinite == 2 * 6
