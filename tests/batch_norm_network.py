"""A network with BatchNorm, its training, its statistics, and the bits of its parameters."""

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def bits(params):
    return [array.asnumpy() for p in params for array in p.list_data()]


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


def statistics(net):
    return bits([p for name, p in net.collect_params().items() if "running" in name])
