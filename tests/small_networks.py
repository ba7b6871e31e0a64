"""Small networks, and steps of a Gluon Trainer on them."""

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def dense_net(ctx=None, seed=0):
    mx.random.seed(seed)
    np.random.seed(seed)
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Dense(8, activation="relu", in_units=5), nn.BatchNorm(in_channels=8), nn.Dense(3, in_units=8))
    net.initialize(ctx=ctx)
    return net


def batches(count):
    random = np.random.RandomState(0)
    return [(mx.nd.array(random.standard_normal((16, 5))), mx.nd.array(random.randint(0, 3, 16))) for _ in range(count)]


def train(net, trainer, data):
    for x, y in data:
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()
        trainer.step(x.shape[0])
    return weights_of(net)


def weights_of(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


def one_parameter(dtype="float32"):
    parameter = gluon.Parameter("w", shape=(2,), dtype=dtype)
    parameter.initialize("one")
    return parameter


def step(trainer):
    """One with a gradient of 1 on each context of each parameter that has one."""
    trained = [parameter for parameter in trainer._params if parameter.grad_req != "null"]
    with autograd.record():
        losses = [data.sum() for parameter in trained for data in parameter.list_data()]
    autograd.backward(losses)
    trainer.step(1)
