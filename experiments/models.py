"""The paper's networks. Each is initialised from the seed at once, before it sees any data."""

from __future__ import annotations

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

from typing import Any, Mapping

import mxnet as mx
from mxnet.gluon import nn


def build(model: Mapping[str, Any], seed: int, context: mx.Context) -> nn.HybridBlock:
    """The initialised, hybridized network that a configuration's ``model`` block names.

    It maps images, float32 of shape (n, channels, height, width), to 10 logits each.
    """
    mx.random.seed(seed)
    net = {"logistic_regression": logistic_regression}[model["name"]](context)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def logistic_regression(context: mx.Context) -> nn.HybridBlock:
    """Section 5.1, on 28x28 grey images; weights uniform in +-0.07, Gluon's default, and biases 0."""
    net = nn.Dense(10, in_units=28 * 28)
    net.initialize(mx.init.Uniform(0.07), ctx=context)
    return net
