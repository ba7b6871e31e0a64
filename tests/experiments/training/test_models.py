"""The networks against the stock ones of Gluon and gluoncv, in outputs and gradients; their initial weights."""

import hashlib
import json
import math
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import cifar_resnet20_v1
from mxnet import autograd, gluon
from mxnet.gluon import nn

from experiments.training import models
from experiments.vocabulary.errors import UsageError

LOSS = gluon.loss.SoftmaxCrossEntropyLoss()
RESULTS = Path(__file__).parents[3] / "results"
EXPERIMENTS = {"logistic_regression": "mnist_logistic", "mnist_cnn": "mnist_cnn",
               "cifar_resnet20_v1": "cifar10_resnet20"}


def stock_cnn():
    """Section 5.1, layer by layer."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(20, 5), nn.BatchNorm(), nn.MaxPool2D(2), nn.Conv2D(50, 5), nn.BatchNorm(), nn.MaxPool2D(2),
            nn.Dense(500), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(10))
    return net


STOCK = {"mnist_cnn": (stock_cnn, (1, 28, 28)), "cifar_resnet20_v1": (cifar_resnet20_v1, (3, 28, 28))}


def build(name, seed=0):
    return models.build({"name": name}, seed, mx.cpu())


def stock(name, like):
    """The stock network with the parameters of another."""
    create, shape = STOCK[name]
    net = create()
    net.initialize()
    net(mx.nd.zeros((1, *shape)))
    for ours, theirs in zip(like.collect_params().values(), net.collect_params().values()):
        theirs.set_data(without_spare(ours.data(), theirs.shape))
    return net


def without_spare(array, shape):
    """The part of an array of the CNN that is not of its spare channels."""
    return array[tuple(slice(n) for n in shape)]


def images(shape, count=16, seed=0):
    """With black borders, as MNIST's have, so that pooling meets equal pixels."""
    x = np.random.RandomState(seed).standard_normal((count, *shape)).astype(np.float32)
    x[:, :, :6], x[:, :, :, :6] = 0, 0
    return mx.nd.array(x)


def outputs_and_gradients(net, x):
    labels = mx.nd.array(np.arange(len(x)) % 10)
    with autograd.record():
        logits = net(x)
        loss = LOSS(logits, labels)
    loss.backward()
    gradients = {p.name: p.grad().asnumpy() for p in net.collect_params().values() if p.grad_req != "null"}
    return [logits.asnumpy(), *gradients.values(), net(x).asnumpy()]   # the latter with the new running statistics


@pytest.mark.parametrize("name", STOCK)
def test_outputs_and_gradients_are_those_of_the_stock_network(name):
    ours = build(name)
    theirs = stock(name, ours)
    x = images(STOCK[name][1])
    for a, b in zip(outputs_and_gradients(ours, x), outputs_and_gradients(theirs, x)):
        # Sums in another order; twenty normalised layers carry the rounding, some 1e-6 of an array's largest, on. The
        # gradients of biases before a BatchNorm are nothing but rounding.
        np.testing.assert_allclose(without_spare(a, b.shape), b, rtol=0, atol=1e-4 * np.abs(b).max() + 1e-4)


@pytest.mark.parametrize("name", STOCK)
def test_they_are_exactly_those_in_float64(name):
    """What is left of the difference in float64 is float64's rounding: the mathematics is the same."""
    ours = build(name)
    theirs = stock(name, ours)
    ours.cast("float64")
    theirs.cast("float64")
    x = images(STOCK[name][1], count=2).astype("float64")
    for a, b in zip(outputs_and_gradients(ours, x), outputs_and_gradients(theirs, x)):
        np.testing.assert_allclose(without_spare(a, b.shape), b, rtol=0, atol=1e-11 * np.abs(b).max() + 1e-13)


@pytest.mark.parametrize(("method", "arguments"), [
    ("averagedsgd", {"learning_rate": 1.0}), ("adam", {}), ("nadam", {}), ("dozatnadam", {}), ("amsgrad", {}),
    ("namsg", {"eta": 3.0})])
def test_spare_channels_of_the_cnn_stay_zero(method, arguments):
    net = build("mnist_cnn")
    trainer = gluon.Trainer(net.collect_params(), method, arguments)
    x = images((1, 28, 28))
    for _ in range(4):
        with autograd.record():
            loss = LOSS(net(x), mx.nd.array(np.arange(len(x)) % 10))
        loss.backward()
        trainer.step(len(x))
    shapes = [p.shape for p in stock("mnist_cnn", net).collect_params().values()]
    for (name, p), shape in zip(net.collect_params().items(), shapes):
        spare = np.ones(p.shape, bool)
        spare[tuple(slice(n) for n in shape)] = False
        assert spare.any() == (p.shape != shape)
        if not name.endswith("running_var"):   # which goes from 1 to 0
            assert (p.data().asnumpy()[spare] == (1 if name.endswith("gamma") else 0)).all(), name


@pytest.mark.parametrize("name", STOCK)
def test_parameters_have_the_same_names_in_every_network_of_a_process(name):
    """Gluon counts layers by process, and gluon.Trainer sorts by names: batchnorm10 would come before batchnorm9."""
    first, *others = ([p.name for p in build(name).collect_params().values()] for _ in range(5))
    assert all(other == first for other in others)
    assert any("batchnorm0" in each for each in first)


def test_cnn_in_numpy():
    """Inference equals one formula per layer: 5x5 filters, no padding, no ReLU after the convolutions."""
    net = build("mnist_cnn")
    random = np.random.RandomState(0)
    for p in net.collect_params().values():
        low, high = (0.5, 2) if p.name.endswith("running_var") else (-1, 1)
        p.set_data(mx.nd.array(random.uniform(low, high, p.shape)))
    values = [p.data().asnumpy().astype(np.float64) for p in net.collect_params().values()]
    (w1, b1), bn1, (w2, b2), bn2, (w3, b3), bn3, (w4, b4) = (values[i:j] for i, j in (
        (0, 2), (2, 6), (6, 8), (8, 12), (12, 14), (14, 18), (18, 20)))

    def convolution(x, weight, bias):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]

    def normalise(x, gamma, beta, mean, variance):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        gamma, beta, mean, variance = (a.reshape(shape) for a in (gamma, beta, mean, variance))
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def pool(x):
        return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max(axis=(3, 5))

    x = images((1, 28, 28), count=3)
    y = pool(normalise(convolution(x.asnumpy().astype(np.float64), w1, b1), *bn1))
    y = pool(normalise(convolution(y, w2, b2), *bn2))
    y = np.maximum(normalise(y.reshape(3, -1) @ w3.T + b3, *bn3), 0) @ w4.T + b4
    np.testing.assert_allclose(net(x).asnumpy(), y, rtol=0, atol=1e-5 * np.abs(y).max())


def test_evaluation_on_whole_images_leaves_training_alone():
    """28x28 in training and 32x32 in the test, by one network, whose weights an inference pass may lay out anew."""
    def train(evaluate):
        net = build("cifar_resnet20_v1")
        trainer = gluon.Trainer(net.collect_params(), "namsg")
        for seed in range(3):
            x = images((3, 28, 28), seed=seed)
            with autograd.record():
                loss = LOSS(net(x), mx.nd.arange(16) % 10)
            loss.backward()
            trainer.step(16)
            if evaluate:
                assert net(images((3, 32, 32))).shape == (16, 10)
        return [p.data().asnumpy() for p in net.collect_params().values()]

    assert all(map(np.array_equal, train(False), train(True)))


@pytest.mark.parametrize("name", STOCK)
def test_initial_weights_are_there_at_once_and_derive_from_the_seed(name):
    weights = [[p.data().asnumpy() for p in build(name, seed).collect_params(".*weight").values()]
               for seed in (0, 0, 1)]
    assert all(map(np.array_equal, *weights[:2]))
    assert not any(map(np.array_equal, *weights[1:]))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_initial_weights_are_those_of_a_recorded_run(name):
    runs = (json.loads(path.read_text()) for path in sorted((RESULTS / EXPERIMENTS[name]).glob("namsg/*/config.json")))
    recorded = next(run for run in runs if "choices" in run)
    assert recorded["settings"]["model"] == {"name": name}
    weights = hashlib.sha256()
    for p in build(name, recorded["seed"]).collect_params().values():
        weights.update(p.data().asnumpy().tobytes())
    assert weights.hexdigest() == recorded["choices"]["initial_weights"]


def test_initial_weights_of_the_cnn_are_gluons():
    net = build("mnist_cnn")
    shapes = [p.shape for p in stock("mnist_cnn", net).collect_params().values()]
    for (name, p), shape in zip(net.collect_params().items(), shapes):
        values = without_spare(p.data().asnumpy(), shape)
        if name.endswith("weight"):
            assert np.abs(values).max() <= 0.07
            assert values.std() == pytest.approx(0.07 / math.sqrt(3), rel=0.1)
        else:
            assert set(values) == {1 if name.endswith(("gamma", "running_var")) else 0}


def test_initial_weights_of_resnet_are_hes_by_fan_in():
    params = list(build("cifar_resnet20_v1").collect_params(".*weight").values())
    assert len(params) == 22   # 19 convolutions of 3x3, 2 shortcuts, 1 dense layer
    for p in params:
        values = p.data().asnumpy()
        deviation = math.sqrt(2 / np.prod(values.shape[1:]))
        assert values.std() == pytest.approx(deviation, rel=4 / math.sqrt(2 * values.size))   # four standard errors
        assert np.abs(values).max() > 2 * deviation   # normal, not uniform: that ends at 1.73


@pytest.mark.parametrize("error", [None, RuntimeError("PyTorch 2\nis not supported")], ids=["missing", "refused"])
def test_without_gluoncv_the_error_says_what_to_install(monkeypatch, error):
    class Refusing:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("gluoncv"):
                raise error or ModuleNotFoundError("No module named 'gluoncv'")

    for module in [name for name in sys.modules if name.startswith("gluoncv")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"gluoncv cannot be imported \(.*\); it needs pip install"):
        build("cifar_resnet20_v1")
