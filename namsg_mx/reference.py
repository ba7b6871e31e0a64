"""Every method of this project in NumPy float64, one equation per line: the definition.

The optimizers and their kernels are tested against these functions and do not use them. Each function makes one step:
it takes the parameters ``x``, the gradient ``g`` and the method's state, all arrays of one shape (or scalars), and
returns the new parameters and the new state. The numbers of equations and lines refer to Chen et al., "NAMSG: An
Efficient Method For Training Neural Networks", arXiv 1905.01422, May 2019. The paper prints ``diag(v_t)`` for the
metric of (4), (6) and Algorithm 1, and means ``diag(v_hat_t)``.
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """State of the AMSGRAD family: momentum, second moment, and the largest second moment so far."""

    m: np.ndarray
    v: np.ndarray
    v_hat: np.ndarray


def initial_moments(x, epsilon=1e-8):
    """Line 1 of Algorithm 1. The denominators start at sqrt(epsilon); there is no other epsilon."""
    return Moments(m=np.zeros_like(x), v=np.zeros_like(x), v_hat=np.full_like(x, epsilon))


def gradient(grad, x, rescale_grad=1.0, wd=0.0, clip_gradient=None):
    """The g of every method: rescale, then decay, then clip, in the order of MXNet's Adam."""
    g = rescale_grad * grad
    g = g + wd * x
    return g if clip_gradient is None else np.clip(g, -clip_gradient, clip_gradient)


def decouple_decay(x, alpha, wd):
    """Decoupled weight decay, Loshchilov and Hutter 2019: the x that a step starts from. g then has no decay."""
    return x - alpha * wd * x


def project(x, bounds=None):
    """Projection onto a box F = [low, high]: for every diagonal metric a clip of each element."""
    return x if bounds is None else np.clip(x, *bounds)


def observation_factor(eta, beta1):
    """mu in line 7 of Algorithm 1, from the observation distance eta. At beta1 = 0 the step is g, whatever mu is."""
    return eta * (1 - beta1) / beta1 if beta1 > 0 else 0.0


def namsg(x, g, state, alpha, beta1, beta2, eta, bounds=None):
    """NAMSG, Algorithm 1. ``x`` is the observation point, as in the paper's analysis."""
    m = beta1 * state.m + (1 - beta1) * g                              # line 4
    v = beta2 * state.v + (1 - beta2) * g**2                           # line 5
    v_hat = np.maximum(state.v_hat, v)                                 # line 6
    mu = observation_factor(eta, beta1)                                # line 7
    m_hat = (1 - mu) * m + mu * g                                      # line 7
    x = project(x - alpha * m_hat / np.sqrt(v_hat), bounds)            # line 8
    return x, Moments(m, v, v_hat)


def namsg_original(x, g, state, alpha, beta1, beta2, eta, bounds=None):
    """NAMSG, original form (6). ``g`` is the gradient at the observation point x_hat; returns x, x_hat and state."""
    m = beta1 * state.m + (1 - beta1) * g                              # (6), first row
    v = beta2 * state.v + (1 - beta2) * g**2                           # (6), second row
    v_hat = np.maximum(state.v_hat, v)                                 # (6), third row
    x_hat = project(x - (1 + eta) * alpha * m / np.sqrt(v_hat), bounds)   # (6), fifth row
    x = project(x - alpha * m / np.sqrt(v_hat), bounds)                # (6), fourth row
    return x, x_hat, Moments(m, v, v_hat)


def amsgrad(x, g, state, alpha, beta1, beta2, bounds=None):
    """AMSGRAD (4), Reddi et al. 2018."""
    m = beta1 * state.m + (1 - beta1) * g                              # (4), first row
    v = beta2 * state.v + (1 - beta2) * g**2                           # (4), second row
    v_hat = np.maximum(state.v_hat, v)                                 # (4), third row
    x = project(x - alpha * m / np.sqrt(v_hat), bounds)                # (4), fourth row
    return x, Moments(m, v, v_hat)


def step_limits(t, alpha_sgd, gamma):
    """xi_l(t) and xi_u(t) of Algorithm A1 (supplement), t = 1, 2, ...: from 0 and infinity to alpha_sgd."""
    return alpha_sgd * (1 - 1 / (gamma * t + 1)), alpha_sgd * (1 + 1 / (gamma * t))


def namsb(x, g, state, t, alpha, beta1, beta2, eta, alpha_sgd, gamma, bounds=None):
    """NAMSB, Algorithm A1 of the supplement: NAMSG with its elementwise step alpha / sqrt(v_hat) clipped.

    The last line is from the authors' class, which clips the root. Algorithm A1 computes xi and never uses it.
    """
    xi_l, xi_u = step_limits(t, alpha_sgd, gamma)
    m = beta1 * state.m + (1 - beta1) * g
    v = beta2 * state.v + (1 - beta2) * g**2
    v_hat = np.maximum(state.v_hat, v)
    mu = observation_factor(eta, beta1)
    m_hat = (1 - mu) * m + mu * g
    x = project(x - alpha * m_hat / np.clip(np.sqrt(v_hat), alpha / xi_u, alpha / xi_l), bounds)
    return x, Moments(m, v, v_hat)


def amsbound(x, g, state, t, alpha, beta1, beta2, alpha_sgd, gamma, bounds=None):
    """AMSBound, Luo et al. 2019, in the paper's form: NAMSB without observation distance."""
    xi_l, xi_u = step_limits(t, alpha_sgd, gamma)
    m = beta1 * state.m + (1 - beta1) * g
    v = beta2 * state.v + (1 - beta2) * g**2
    v_hat = np.maximum(state.v_hat, v)
    x = project(x - alpha * m / np.clip(np.sqrt(v_hat), alpha / xi_u, alpha / xi_l), bounds)
    return x, Moments(m, v, v_hat)


def sgd(x, m, g, alpha, beta, eta=0.0, bounds=None):
    """SGD with the paper's averaged momentum. With ``eta``, it is NAMSG after the switch (Section 5.2)."""
    m = beta * m + (1 - beta) * g
    mu = observation_factor(eta, beta)
    m_hat = (1 - mu) * m + mu * g
    return project(x - alpha * m_hat, bounds), m


def sgd_mxnet(x, velocity, g, learning_rate, momentum):
    """SGD with MXNet's momentum. For a constant step size: ``sgd`` with alpha = learning_rate / (1 - momentum)."""
    velocity = momentum * velocity - learning_rate * g
    return x + velocity, velocity


def switched_step_size(m_hats, v_hats, alpha):
    """SWNTS (Section 5.2): SGD's step size at the switch, from lists of all the parameters' m_hat and v_hat."""
    u_hats = [alpha * m_hat / np.sqrt(v_hat) for m_hat, v_hat in zip(m_hats, v_hats)]
    squared_norm = sum(np.sum(u_hat**2) for u_hat in u_hats)
    inner_product = sum(np.sum(m_hat * u_hat) for m_hat, u_hat in zip(m_hats, u_hats))
    return squared_norm / inner_product


def adam(x, m, v, g, t, alpha, beta1, beta2, epsilon=1e-8):
    """ADAM, Kingma and Ba 2015, as at the end of their Section 2 and in MXNet. t = 1, 2, ..."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    alpha_t = alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)
    return x - alpha_t * m / (np.sqrt(v) + epsilon), m, v


def nadam_momentum(t, beta1, schedule_decay=0.004):
    """mu_t of NADAM, Dozat's warming momentum schedule. t = 1, 2, ..."""
    return beta1 * (1 - 0.5 * 0.96 ** (t * schedule_decay))


def nadam(x, m, v, g, t, alpha, beta1, beta2, epsilon=1e-8, schedule_decay=0.004):
    """NADAM, Dozat 2016. The product of the mu_i grows by one factor per step. t = 1, 2, ..."""
    mu = [nadam_momentum(i, beta1, schedule_decay) for i in range(1, t + 2)]
    g_prime = g / (1 - np.prod(mu[:t]))
    m = beta1 * m + (1 - beta1) * g
    m_prime = m / (1 - np.prod(mu))
    v = beta2 * v + (1 - beta2) * g**2
    v_prime = v / (1 - beta2**t)
    m_bar = (1 - mu[t - 1]) * g_prime + mu[t] * m_prime
    return x - alpha * m_bar / (np.sqrt(v_prime) + epsilon), m, v
