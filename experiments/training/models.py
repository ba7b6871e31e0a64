"""The paper's networks, each initialised from the seed at once, before it sees any data."""

from __future__ import annotations

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

from typing import Any, Mapping

import mxnet as mx
from mxnet.gluon import nn

from experiments.vocabulary.errors import UsageError


def build(model: Mapping[str, Any], seed: int, context: mx.Context) -> nn.HybridBlock:
    """The initialised, hybridized network that a configuration's ``model`` block names.

    It maps images, float32 of shape (n, channels, height, width), to 10 logits each.
    """
    mx.random.seed(seed)
    # Names count from 0 as in a new process: gluon.Trainer sorts by them, and batchnorm10 comes before batchnorm9.
    with mx.name.NameManager():
        net = NETWORKS[model["name"]](context)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def logistic_regression(context: mx.Context) -> nn.HybridBlock:
    """Section 5.1's logistic regression on 28x28 grey images; weights uniform in +-0.07 (Gluon's default), biases 0."""
    net = nn.Dense(10, in_units=28 * 28)
    net.initialize(mx.init.Uniform(0.07), ctx=context)
    return net


def mnist_cnn(context: mx.Context) -> nn.HybridBlock:
    """Section 5.1's convolutional network, on 28x28 grey images: no padding, no ReLU after the convolutions.

    Weights are uniform in +-0.07 (Gluon's default), biases 0. The convolutions have 20 and 50 channels, and 4 and 6
    spare ones, because oneDNN's fast kernels need multiples of 8. All weights to and from spare channels are 0, and
    stay 0, as their gradients are 0.
    """
    channels, with_spare = (20, 50), (24, 56)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(with_spare[0], 5, in_channels=1), nn.BatchNorm(in_channels=with_spare[0]), nn.MaxPool2D(2),
            nn.Conv2D(with_spare[1], 5, in_channels=with_spare[0]), nn.BatchNorm(in_channels=with_spare[1]),
            nn.MaxPool2D(2), nn.Dense(500, in_units=with_spare[1] * 4 * 4), nn.BatchNorm(in_channels=500),
            nn.Activation("relu"), nn.Dense(10, in_units=500))
    net.initialize(mx.init.Uniform(0.07), ctx=context)
    first, second, dense = (net[i].weight.data() for i in (0, 3, 6))
    first[channels[0]:] = 0
    second[channels[1]:] = 0
    second[:, channels[0]:] = 0
    dense[:, channels[1] * 4 * 4:] = 0
    return net


def cifar_resnet20_v1(context: mx.Context) -> nn.HybridBlock:
    """Section 5.2's ResNet-20 on RGB images of any size, from gluoncv.

    Unlike He et al. 2016 it has no ReLU before the first block, and projections on two shortcuts. Weights are
    initialised by He et al. 2015 (MSRAPrelu) on fan-in. `mean_over_image` replaces its global average pooling, with
    equal results up to rounding.
    """
    net = _gluoncv_resnet20()
    features = net.features[:-1]   # without GlobalAvgPool2D
    features.add(nn.HybridLambda(mean_over_image))
    net.features = features
    net.initialize(mx.init.MSRAPrelu("in", slope=0), ctx=context)
    net(mx.nd.zeros((1, 3, 28, 28), context))   # fixes the shapes that gluoncv leaves open, so weights are drawn now
    return net


def mean_over_image(F, x):
    """Global average pooling of (n, channels, height, width) to (n, channels).

    On some processors oneDNN has no fast backward pass for MXNet's Pooling. Its gradient then has a layout for which
    BatchNorm has no fast backward pass either, and a training step of ResNet-20 takes more than twice as long. On other
    processors (AVX2) this and Pooling are equally fast.
    """
    return F.mean(x, axis=(2, 3))


def _gluoncv_resnet20() -> nn.HybridBlock:
    try:
        from gluoncv.model_zoo import cifar_resnet20_v1  # here: the other networks do without it
    except (ImportError, RuntimeError) as error:   # RuntimeError: gluoncv refuses PyTorch 2 in the same environment
        reason = " ".join(str(error).split())
        raise UsageError(f"model cifar_resnet20_v1: gluoncv cannot be imported ({reason}); it needs "
                         "pip install 'gluoncv>=0.10.5' in an environment without PyTorch 2") from error
    return cifar_resnet20_v1()


NETWORKS = {"logistic_regression": logistic_regression, "mnist_cnn": mnist_cnn, "cifar_resnet20_v1": cifar_resnet20_v1}
