"""Every method of this project in NumPy float64, one equation per line: the definition.

The optimizers and their kernels are tested against these functions and do not use them. A function named after a method
makes one step: it takes the parameters ``x``, the gradient ``g`` and the method's state, all arrays of one shape (or
scalars), and returns the new parameters and the new state. The other functions compute what a step starts from, the
parts that steps share, and step sizes. Nothing is checked here: the optimizers check their arguments.

The numbers of equations and lines refer to Chen et al., "NAMSG: An Efficient Method For Training Neural Networks",
arXiv 1905.01422, May 2019. The paper prints ``diag(v_t)`` for the metric of (4), (6) and Algorithm 1, and means
``diag(v_hat_t)``.
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """State of the AMSGRAD family: momentum, second moment, and the largest second moment so far."""

    m: np.ndarray
    v: np.ndarray
    v_hat: np.ndarray


def initial_moments(x, epsilon=1e-8):
    """Line 1 of Algorithm 1. The denominators start at sqrt(epsilon); there is no other epsilon.

    ``epsilon`` is in (0, inf).
    """
    shape = np.shape(x)   # the moments are float64, whatever x is
    return Moments(m=np.zeros(shape), v=np.zeros(shape), v_hat=np.full(shape, float(epsilon)))


def gradient(grad, x, rescale_grad=1.0, wd=0.0, clip_gradient=None):
    """The g of every method (line 3 of Algorithm 1): rescale, then decay, then clip.

    The paper gives no order; this one is the authors' class's and that of MXNet's Adam. ``grad`` is the gradient of the
    loss, ``rescale_grad`` a finite number, ``wd`` the weight decay, in [0, inf). ``clip_gradient`` is in (0, inf), or
    None: nothing is clipped.
    """
    g = rescale_grad * grad
    g = g + wd * x
    return g if clip_gradient is None else np.clip(g, -clip_gradient, clip_gradient)


def decouple_decay(x, alpha, wd):
    """Decoupled weight decay, Loshchilov and Hutter 2019: the x that a step starts from. g then has no decay.

    ``alpha`` is the step size and ``wd`` the weight decay, both in [0, inf). Their Algorithm 2, line 12, has lambda for
    alpha * wd.
    """
    return x - alpha * wd * x


def project(x, bounds=None):
    """Pi_F of (4), (6) and line 8, onto a box F: for every diagonal metric a clip of each element.

    ``bounds`` is (low, high), low < high, the same for all elements; None: F is everything, and x stays.
    """
    return x if bounds is None else np.clip(x, *bounds)


def observation_factor(eta, beta1):
    """mu in line 7 of Algorithm 1. At beta1 = 0 the step is g, whatever mu is.

    ``eta``, in [0, inf), is the observation distance in units of the last step: by (6) the next gradient is computed
    eta times this step ahead. ``beta1`` is in [0, 1).
    """
    return eta * (1 - beta1) / beta1 if beta1 > 0 else 0.0


def namsg(x, g, state, alpha, beta1, beta2, eta, bounds=None):
    """NAMSG, Algorithm 1. ``x`` is the observation point, as in the paper's analysis.

    ``alpha`` is the step size, in [0, inf). ``beta1`` and ``beta2`` are the decay rates of m and v, in [0, 1). ``eta``
    is as in `observation_factor`, ``bounds`` as in `project`.
    """
    m = beta1 * state.m + (1 - beta1) * g                              # line 4
    v = beta2 * state.v + (1 - beta2) * g**2                           # line 5
    v_hat = np.maximum(state.v_hat, v)                                 # line 6
    mu = observation_factor(eta, beta1)                                # line 7
    m_hat = (1 - mu) * m + mu * g                                      # line 7
    x = project(x - alpha * m_hat / np.sqrt(v_hat), bounds)            # line 8
    return x, Moments(m, v, v_hat)


def namsg_original(x, g, state, alpha, beta1, beta2, eta, bounds=None):
    """NAMSG, original form (6). ``g`` is the gradient at the observation point x_hat; returns x, x_hat and state.

    The other arguments are `namsg`'s.
    """
    m = beta1 * state.m + (1 - beta1) * g                              # (6), first row
    v = beta2 * state.v + (1 - beta2) * g**2                           # (6), second row
    v_hat = np.maximum(state.v_hat, v)                                 # (6), third row
    x_hat = project(x - (1 + eta) * alpha * m / np.sqrt(v_hat), bounds)   # (6), fifth row
    x = project(x - alpha * m / np.sqrt(v_hat), bounds)                # (6), fourth row
    return x, x_hat, Moments(m, v, v_hat)


def amsgrad(x, g, state, alpha, beta1, beta2, bounds=None):
    """AMSGRAD (4), Reddi et al. 2018. The arguments are `namsg`'s."""
    m = beta1 * state.m + (1 - beta1) * g                              # (4), first row
    v = beta2 * state.v + (1 - beta2) * g**2                           # (4), second row
    v_hat = np.maximum(state.v_hat, v)                                 # (4), third row
    x = project(x - alpha * m / np.sqrt(v_hat), bounds)                # (4), fourth row
    return x, Moments(m, v, v_hat)


def step_limits(t, alpha_sgd, gamma):
    """xi_l(t) and xi_u(t) of Algorithm A1 (supplement): from 0 and infinity to alpha_sgd.

    ``t`` is the number of the step, 1, 2, ... ``alpha_sgd``, in (0, inf), is the step size of `sgd` that both tend to.
    ``gamma``, in (0, inf), says how fast: at t = 1 / gamma they are 1/2 and 2 times alpha_sgd. The supplement takes
    0.001. Theorem 1's gamma is another.
    """
    return alpha_sgd * (1 - 1 / (gamma * t + 1)), alpha_sgd * (1 + 1 / (gamma * t))


def namsb(x, g, state, t, alpha, beta1, beta2, eta, alpha_sgd, gamma, bounds=None):
    """NAMSB, Algorithm A1 of the supplement: NAMSG with its elementwise step alpha / sqrt(v_hat) clipped.

    The last line is from the authors' class, which clips the root. Algorithm A1 computes xi and never uses it.

    ``t``, ``alpha_sgd`` and ``gamma`` are as in `step_limits`, the other arguments as in `namsg`; ``alpha`` is above 0.
    """
    xi_l, xi_u = step_limits(t, alpha_sgd, gamma)
    m = beta1 * state.m + (1 - beta1) * g                              # Algorithm 1, line 4
    v = beta2 * state.v + (1 - beta2) * g**2                           # Algorithm 1, line 5
    v_hat = np.maximum(state.v_hat, v)                                 # Algorithm 1, line 6
    mu = observation_factor(eta, beta1)                                # Algorithm 1, line 7
    m_hat = (1 - mu) * m + mu * g                                      # Algorithm 1, line 7
    x = project(x - alpha * m_hat / np.clip(np.sqrt(v_hat), alpha / xi_u, alpha / xi_l), bounds)
    return x, Moments(m, v, v_hat)


def amsbound(x, g, state, t, alpha, beta1, beta2, alpha_sgd, gamma, bounds=None):
    """AMSBound, Luo et al. 2019, in the paper's form: NAMSB without observation distance.

    The last line is `namsb`'s with m_hat = m. The arguments are `namsb`'s, too.
    """
    xi_l, xi_u = step_limits(t, alpha_sgd, gamma)
    m = beta1 * state.m + (1 - beta1) * g                              # (4), first row
    v = beta2 * state.v + (1 - beta2) * g**2                           # (4), second row
    v_hat = np.maximum(state.v_hat, v)                                 # (4), third row
    x = project(x - alpha * m / np.clip(np.sqrt(v_hat), alpha / xi_u, alpha / xi_l), bounds)
    return x, Moments(m, v, v_hat)


def sgd(x, m, g, alpha, beta, eta=0.0, bounds=None):
    """SGD with the paper's averaged momentum. With ``eta``, it is NAMSG after the switch (Section 5.2).

    The paper prints no update of SGD: this is Algorithm 1 without the division in line 8. ``alpha`` is the step size,
    in [0, inf), and ``beta`` the decay rate of m, in [0, 1). m starts at 0. The rest is as in `namsg`.
    """
    m = beta * m + (1 - beta) * g                                      # line 4
    mu = observation_factor(eta, beta)                                 # line 7
    m_hat = (1 - mu) * m + mu * g                                      # line 7
    return project(x - alpha * m_hat, bounds), m                       # line 8, without its division


def sgd_mxnet(x, velocity, g, learning_rate, momentum):
    """SGD with MXNet's momentum, its operator sgd_mom_update; it is not in the paper.

    For a constant step size it is ``sgd`` with alpha = learning_rate / (1 - momentum). ``learning_rate`` is in
    [0, inf), ``momentum`` in [0, 1). velocity starts at 0.
    """
    velocity = momentum * velocity - learning_rate * g
    return x + velocity, velocity


def switched_step_size(m_hats, v_hats, alpha):
    """SWNTS (Section 5.2): SGD's step size at the switch, from lists of all the parameters' m_hat and v_hat.

    ``alpha`` is NAMSG's step size before the switch, in (0, inf). Some m_hat must not be 0.
    """
    u_hats = [alpha * m_hat / np.sqrt(v_hat) for m_hat, v_hat in zip(m_hats, v_hats)]
    squared_norm = sum(np.sum(u_hat**2) for u_hat in u_hats)
    inner_product = sum(np.sum(m_hat * u_hat) for m_hat, u_hat in zip(m_hats, u_hats))
    return squared_norm / inner_product


def adam(x, m, v, g, t, alpha, beta1, beta2, epsilon=1e-8):
    """ADAM, Kingma and Ba 2015, as at the end of their Section 2 and in MXNet.

    ``t`` is the number of the step, 1, 2, ... ``alpha`` is in [0, inf), ``beta1`` and ``beta2`` are in [0, 1), and
    ``epsilon``, in (0, inf), is added to the root. m and v start at 0.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    alpha_t = alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)
    return x - alpha_t * m / (np.sqrt(v) + epsilon), m, v


def nadam_momentum(t, beta1, schedule_decay=0.004):
    """mu_t of NADAM, the warming momentum schedule of Dozat 2016, as in MXNet's ``nadam``.

    ``t`` is the number of the step, 1, 2, ... ``beta1`` is in [0, 1), and ``schedule_decay`` in [0, inf): with it
    above 0, mu_t rises from beta1 / 2 to beta1.
    """
    return beta1 * (1 - 0.5 * 0.96 ** (t * schedule_decay))


def nadam(x, m, v, g, t, alpha, beta1, beta2, epsilon=1e-8, schedule_decay=0.004):
    """NADAM, Dozat 2016, in Keras's and MXNet's form: m decays by beta1, where Dozat has mu_t.

    The product of the mu_i grows by one factor per step: MXNet's ``nadam`` does that for a model of one array alone.
    The arguments are `adam`'s and `nadam_momentum`'s.
    """
    mu = [nadam_momentum(i, beta1, schedule_decay) for i in range(1, t + 2)]
    g_prime = g / (1 - np.prod(mu[:t]))
    m = beta1 * m + (1 - beta1) * g
    m_prime = m / (1 - np.prod(mu))
    v = beta2 * v + (1 - beta2) * g**2
    v_prime = v / (1 - beta2**t)
    m_bar = (1 - mu[t - 1]) * g_prime + mu[t] * m_prime
    return x - alpha * m_bar / (np.sqrt(v_prime) + epsilon), m, v
