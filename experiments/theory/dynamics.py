"""Measures the real `namsg` in Section 3's setting: one-dimensional quadratics, with a constant preconditioner."""

from __future__ import annotations

from typing import Sequence

import mxnet as mx
import numpy as np

START = 1e-100   # so small that no squared gradient exceeds epsilon, and v_hat stays at epsilon
UPDATES = 100   # the factor of one is the 100th root of their joint factor


def measured_rate(tau: Sequence[float] | np.ndarray, beta: float, eta: float) -> np.ndarray:
    """The long-run factor by which the optimizer's state grows per update; without noise, max |xi| of (12).

    Each quadratic is started twice, from (weight, m) = (1, 0) and (0, 1), times a small number. The two final states
    are the columns of the matrix of all updates together; a root of its spectral radius is the factor per update.

    Parameters
    ----------
    tau : array of shape (n,), n at least 1
        alpha * lambda of each quadratic, finite, with alpha = (1 - beta) * learning_rate / sqrt(v_hat).
    beta : float
        beta1, in [0, 1).
    eta : float
        Observation distance, in [0, inf), in units of the last step.

    Returns
    -------
    array of shape (n,)
        Factors per update, at least 0.

    Raises
    ------
    ValueError
        If beta or eta is out of range, or a direction diverges so fast that its gradients move v_hat.
    """
    curvature = mx.nd.array(np.asarray(tau) / (1 - beta), dtype="float64")
    optimizer = mx.optimizer.create("namsg", learning_rate=1.0, epsilon=1.0, beta1=beta, eta=eta)
    weight = mx.nd.zeros((2, len(tau)), dtype="float64")
    grad = mx.nd.zeros_like(weight)
    state = optimizer.create_state(0, weight)
    m, _, v_hat = state
    weight[0] = START
    m[1] = START
    for _ in range(UPDATES):
        grad[:] = mx.nd.broadcast_mul(curvature, weight)
        optimizer.update(0, weight, grad, state)
    if (v_hat != 1).sum().asscalar():
        raise ValueError(f"tau={tau!r}: in {UPDATES} updates the gradients grow until they move v_hat")
    matrices = np.stack([weight.asnumpy(), m.asnumpy()]).transpose(2, 0, 1) / START
    return np.abs(np.linalg.eigvals(matrices)).max(axis=1) ** (1 / UPDATES)
