"""The paper's networks. Each is initialised from the seed at once, before it sees any data."""

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
    networks = {"logistic_regression": logistic_regression, "mnist_cnn": mnist_cnn,
                "cifar_resnet20_v1": cifar_resnet20_v1}
    # With names as in a new process: gluon.Trainer sorts by them, and batchnorm10 would come before batchnorm9.
    with mx.name.NameManager():
        net = networks[model["name"]](context)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def logistic_regression(context: mx.Context) -> nn.HybridBlock:
    """Section 5.1, on 28x28 grey images; weights uniform in +-0.07, Gluon's default, and biases 0."""
    net = nn.Dense(10, in_units=28 * 28)
    net.initialize(mx.init.Uniform(0.07), ctx=context)
    return net


def mnist_cnn(context: mx.Context) -> nn.HybridBlock:
    """Section 5.1's convolutional network, on 28x28 grey images: no padding, no ReLU after the convolutions.

    Weights uniform in +-0.07, Gluon's default, and biases 0. The convolutions have 20 and 50 channels, and 4 and 6
    spare ones, as oneDNN's fast kernels take multiples of 8. All weights from and to a spare channel are 0, and stay
    so, as their gradients are 0, too.
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
    """Section 5.2's ResNet-20: gluoncv's, on RGB images of any size, weights by He et al. 2015 (MSRAPrelu) on fan-in.

    It has no ReLU before the first block, where He et al. 2016 have one, and projections on two shortcuts. Its global
    average pooling is taken by `mean_over_image`, which changes no number but for rounding.
    """
    net = _gluoncv_resnet20()
    features = net.features[:-1]   # without GlobalAvgPool2D
    features.add(nn.HybridLambda(mean_over_image))
    net.features = features
    net.initialize(mx.init.MSRAPrelu("in", slope=0), ctx=context)
    net(mx.nd.zeros((1, 3, 28, 28), context))   # the shapes that gluoncv leaves open, so that initial weights are drawn
    return net


def mean_over_image(F, x):
    """Global average pooling of (n, channels, height, width) to (n, channels).

    On some processors MXNet's Pooling has no fast backward in oneDNN, and leaves its gradient in a layout for which the
    BatchNorm layers before it have none either, which makes a training step of ResNet-20 more than twice as slow. On
    others (AVX2) the two are equally fast.
    """
    return F.mean(x, axis=(2, 3))


def _gluoncv_resnet20() -> nn.HybridBlock:
    try:
        from gluoncv.model_zoo import cifar_resnet20_v1  # here, as the other networks work without it
    except (ImportError, RuntimeError) as error:   # RuntimeError: it refuses PyTorch 2 in the same environment
        reason = " ".join(str(error).split())
        raise UsageError(f"model cifar_resnet20_v1: gluoncv cannot be imported ({reason}); it needs "
                         "pip install 'gluoncv>=0.10.5' in an environment without PyTorch 2") from error
    return cifar_resnet20_v1()
