"""Section 3: how fast a direction of curvature lambda converges under noise, and which observation distance helps.

If the loss is quadratic and v_hat constant, NAMSG is a linear dynamic system with a random coefficient, (11), along
each eigenvector of the preconditioned Hessian. Four parameters describe it, each a number or an array (arrays
broadcast):

tau
    alpha * lambda, in (-inf, inf): the eigenvalue times Section 3's step size, alpha = (1 - beta1) * alpha_t with
    Algorithm 1's alpha_t. Negative at a saddle point.
beta
    The momentum coefficient beta1, in [0, 1).
eta
    The observation distance, in [0, inf).
noise
    r = sigma / |lambda|, in [0, inf): standard deviation of the gradient error, relative to the gradient.

None has a unit, and all logarithms are natural. A parameter out of range raises ValueError with its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Union

import numpy as np

from namsg_mx.checks import check_count
from namsg_mx.schedules import ObservationDistance

Numbers = Union[float, np.ndarray]

# Beyond this many standard deviations lies less than 1e-18 of the normal distribution.
TAIL = 9.0


def _tanh_sinh(points, reach):
    """Nodes in (0, 1) and weights, for integrands smooth inside; their ends may have an integrable singularity."""
    u, step = np.linspace(-reach, reach, points, retstep=True)
    nodes = 1 / (1 + np.exp(-np.pi * np.sinh(u)))
    return nodes, step * np.pi * np.cosh(u) * nodes[::-1] * nodes


# Enough for an error of Psi below 1e-10 (tests).
NODES, WEIGHTS = _tanh_sinh(points=161, reach=3.2)


def eigenvalues(tau: Numbers, beta: Numbers, eta: Numbers, noise: Numbers, delta: Numbers) -> np.ndarray:
    """The two eigenvalues xi of the dynamic system (11) for one value of its noise, by (12).

    Parameters
    ----------
    tau, beta, eta, noise : float or array
        See the module.
    delta : float or array
        Gradient error in units of its standard deviation, in (-inf, inf).

    Returns
    -------
    complex array of shape (2,) + the broadcast shape: first with the plus sign in (12), then with the minus sign.

    Example
    -------
    Remote observation damps: both moduli decrease from 0.949 to 0.9.

    >>> abs(eigenvalues(0.1, 0.9, [0.0, 0.9], noise=0, delta=0)).round(3)
    array([[0.949, 0.9  ],
           [0.949, 0.9  ]])
    """
    tau, beta, eta, noise = _parameters(tau, beta, eta, noise)
    trace = 1 + beta - (1 + eta) * tau
    determinant = beta + tau * (noise * delta - eta)
    root = np.sqrt(trace**2 - 4 * determinant + 0j)
    return np.stack([(trace + root) / 2, (trace - root) / 2])


def max_gain_expectation(tau: Numbers, beta: Numbers, eta: Numbers, noise: Numbers) -> np.ndarray:
    """Psi, the expected logarithm of the larger modulus of the two eigenvalues (12): (13), without its misprint.

    (13) as printed lacks the normal density of delta, and diverges. The integrand has a kink at the zero of (12)'s
    discriminant, and also a logarithmic singularity there if (1 + eta) tau = 1 + beta. The integral is split at this
    point, and the nodes on each side are dense near it; the error is below 1e-10.

    By Section 3, the direction converges if Psi < 0. Without noise this is exact. With noise Psi is neither an upper
    bound of the growth rate of (11), as the paper has it, nor a lower one (`growth_rate`, docs/theory.md).

    Parameters
    ----------
    tau, beta, eta, noise : float or array
        See the module.

    Returns
    -------
    float array of the broadcast shape, per update; -inf where both eigenvalues are 0.

    Example
    -------
    Without remote observation, and at the start and end of the paper's schedule:

    >>> max_gain_expectation(0.4, 0.9, [0.0, 0.9, 3.0], noise=0.1).round(3)
    array([-0.053, -0.309, -0.334])
    """
    tau, beta, eta, noise = _parameters(tau, beta, eta, noise)
    trace = 1 + beta - (1 + eta) * tau
    # The discriminant is level - slope * delta. delta is symmetric, so the sign of tau does not matter.
    level = trace**2 - 4 * (beta - eta * tau)
    slope = 4 * np.abs(tau) * noise
    has_kink = np.abs(level) < TAIL * slope
    kink = np.where(has_kink, level / np.where(has_kink, slope, 1), np.copysign(TAIL, level))
    # The discriminant at the split: exactly 0, unless the kink lies beyond the tail.
    rest = np.where(has_kink, 0, level - slope * kink)
    psi = np.zeros_like(slope)
    with np.errstate(divide="ignore", invalid="ignore"):   # where slope = 0: there Psi is no integral
        for node, weight in zip(NODES, WEIGHTS):
            below, above = (kink + TAIL) * node, (TAIL - kink) * node   # distances from the kink
            real = np.log((np.abs(trace) + np.sqrt(np.maximum(rest, 0) + slope * below)) / 2)
            psi += weight * (kink + TAIL) * _density(kink - below) * real
            complex_ = np.log((trace**2 + np.maximum(-rest, 0) + slope * above) / 4) / 2
            psi += weight * (TAIL - kink) * _density(kink + above) * complex_
        certain = np.log(np.abs(eigenvalues(tau, beta, eta, noise, delta=0)).max(axis=0))
    return np.where(slope > 0, psi, certain)[()]


def convergence_region(beta: Numbers, eta: Numbers, noise: Numbers = 0.0) -> np.ndarray:
    """The largest tau_max with Psi < 0 for all 0 < tau < tau_max: Section 3's region of convergence.

    Without noise it is exact: by Jury's criterion, both eigenvalues are inside the unit circle for 0 < tau <
    2 (1 + beta) / (1 + 2 eta), and no tau < 0 converges. With noise it is the first zero of Psi, to 1e-9 of its value.
    Then (11) may diverge inside of it, and converge outside: `growth_rate` tells (docs/theory.md).

    Parameters
    ----------
    beta, eta, noise : float or array
        See the module.

    Returns
    -------
    float array of the broadcast shape.

    Raises
    ------
    ValueError
        Also if beta is so close to 1, or noise so strong, that Psi's first zero is lost in rounding.

    Example
    -------
    The larger eta, the smaller the region:

    >>> convergence_region(0.9, [0.0, 0.9, 3.0]).round(3)
    array([3.8  , 1.357, 0.543])
    """
    _, beta, eta, noise = _parameters(0, beta, eta, noise)
    without_noise = 2 * (1 + beta) / (1 + 2 * eta)
    if not noise.any():
        return without_noise[()]
    # At the low end noise is a small disturbance, and Psi < 0; at the high end almost any noise diverges.
    low, high = 1e-3 * np.minimum((1 - beta) ** 2, without_noise) / (1 + noise**2), 4 * without_noise
    grid = low * (high / low) ** np.linspace(0, 1, 200).reshape(-1, *[1] * beta.ndim)
    first = np.argmax(max_gain_expectation(grid, beta, eta, noise) >= 0, axis=0)[np.newaxis]
    if (first[0] == 0)[noise > 0].any():
        raise ValueError(f"noise: no first zero of Psi is found at beta = {beta}, eta = {eta}, noise = {noise}")
    inside, outside = (np.take_along_axis(grid, first - step, axis=0)[0] for step in (1, 0))
    for _ in range(40):
        middle = (inside + outside) / 2
        converges = max_gain_expectation(middle, beta, eta, noise) < 0
        inside, outside = np.where(converges, middle, inside), np.where(converges, outside, middle)
    return np.where(noise > 0, inside, without_noise)[()]


def suggest_observation_distance(updates: int, tau: float = 0.0, beta: float = 0.9, noise: float = 0.0,
                                 start: float = 0.9, end: float = 3.0) -> ObservationDistance:
    """A schedule of eta by Section 3's guideline, for the optimizer's ``eta``.

    Along steep directions eta = 0 does not tolerate noise, and a large eta does not tolerate the curvature; a moderate
    eta converges over a wide range with little noise and with more (`convergence_region`). Along moderately flat
    directions (at beta = 0.9 and little noise, from tau = 0.0035 on) a large eta has the lower Psi. Along flatter ones
    its Psi is up to a third nearer to 0, below tau = 0.001 slightly. The paper adds that it escapes saddle points
    faster; simulations find that small, and not at every noise (docs/theory.md). Hence: start moderately, while
    curvatures are unknown or large, increase linearly, then stay constant. The default is the paper's example, 0.9 to
    2.0 or 3.0 in some epochs. If the largest curvature is known, ``tau`` limits both ends to distances in whose
    `convergence_region` it is.

    Parameters
    ----------
    updates : int
        Length of the increase, at least 1; the paper takes one to several epochs of updates.
    tau : float
        Largest alpha * lambda to come, in [0, inf), alpha = (1 - beta1) * learning_rate and lambda the largest
        eigenvalue of the Hessian preconditioned by 1 / sqrt(v_hat); 0: not known, no limit.
    beta, noise : float
        See the module.
    start, end : float
        eta by the guideline, 0 <= start <= end; ``tau`` may move both.

    Returns
    -------
    namsg_mx.ObservationDistance

    Raises
    ------
    ValueError
        If ``tau`` is in the `convergence_region` of no eta in [0, end] (a smaller learning rate helps), or an argument
        is out of range.

    Example
    -------
    >>> suggest_observation_distance(500)
    ObservationDistance(updates=500, start=0.9, end=3.0)
    >>> suggest_observation_distance(500, tau=0.7)
    ObservationDistance(updates=500, start=0.9, end=2.2)
    """
    if not 0 <= start <= end < np.inf:
        raise ValueError(f"start={start!r}, end={end!r}: must be finite, and 0 <= start <= end")
    if not 0 <= tau < np.inf:
        raise ValueError(f"tau={tau!r}: must be in [0, inf)")
    _parameters(tau, beta, start, noise)
    if tau == 0:
        return ObservationDistance(updates, start, end)
    distances = np.union1d(np.linspace(0, end, 61), start)
    converging = distances[convergence_region(beta, distances, noise) > tau]
    if not converging.size:
        raise ValueError(f"tau={tau!r}: is beyond the convergence region of every eta in [0, {end:g}] at "
                         f"beta={beta:g} and noise={noise:g}; a smaller learning rate makes tau smaller")
    nearest = converging[np.argmin(np.abs(converging - start))]
    return ObservationDistance(updates, start=float(nearest), end=float(converging[-1]))


@dataclass(frozen=True)
class GrowthRate:
    """Rates of independent chains along the last axis: natural logarithm, per update.

    Within one call, chains at the same place of the last axis have the same noise. So the difference of two rates,
    GrowthRate(a.chains - b.chains), has a far smaller standard error than either rate.

    Example
    -------
    >>> rate = growth_rate(0.4, 0.9, [0.9, 3.0], noise=0.1, updates=500)
    >>> rate.standard_error.round(4)
    array([0.0003, 0.0003])
    >>> GrowthRate(rate.chains[1] - rate.chains[0]).mean.round(2)   # both with the same noise
    -0.03
    """

    chains: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.chains.mean(axis=-1)

    @property
    def standard_error(self) -> np.ndarray:
        """The standard error of the mean; NaN where a chain's rate is -inf."""
        with np.errstate(invalid="ignore"):
            return self.chains.std(axis=-1, ddof=1) / np.sqrt(self.chains.shape[-1])


def growth_rate(tau: Numbers, beta: Numbers, eta: Numbers, noise: Numbers, updates: int = 4000,
                chains: int = 64, seed: int = 0) -> GrowthRate:
    """The asymptotic rate of log |(s_t, v_t)| in the dynamic system (11), by simulation.

    It is the Lyapunov exponent of the product of (11)'s random matrices, which Psi is meant to bound. E log |det| / 2
    is the mean of the system's two exponents, of which this is the larger. Psi is at least that mean, too, and close to
    it if nearly all the matrices have complex eigenvalues.

    Parameters
    ----------
    tau, beta, eta, noise : float or array
        See the module.
    updates, chains : int
        Number of updates that count, at least 1, after a tenth as many that do not; number of chains, at least 2.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    GrowthRate: mean and standard_error are float arrays of the broadcast shape. The mean is -inf where the state
    becomes exactly 0, as `max_gain_expectation` is.

    Example
    -------
    >>> growth_rate(0.4, 0.9, [0.0, 0.9, 3.0], noise=0.1, updates=500).mean.round(2)
    array([-0.05, -0.31, -0.33])
    """
    updates, chains = check_count("updates", updates, at_least=1), check_count("chains", chains, at_least=2)
    tau, beta, eta, noise = (parameter[..., np.newaxis] for parameter in _parameters(tau, beta, eta, noise))
    random = np.random.default_rng(seed)
    # v in units of sqrt(lambda / alpha): (11) then depends on tau alone, and is nearly a rotation if it oscillates.
    # As the chains start in all phases, the oscillation of the norm causes no bias.
    coupling = np.sqrt(np.abs(tau))
    phase = np.broadcast_to(random.uniform(0, 2 * np.pi, chains), tau.shape[:-1] + (chains,))
    s, v, total = np.cos(phase), np.sin(phase), np.zeros(phase.shape)
    for update in range(-(updates // 10), updates):
        delta = random.standard_normal(chains)
        s, v = s - coupling * v, np.sign(tau) * coupling * (1 + noise * delta) * s + (beta - tau * (1 + eta)) * v
        norm = np.hypot(s, v)
        length = np.where(norm > 0, norm, 1)   # 0: the state stays 0, and its rate is -inf
        s, v = s / length, v / length
        if update >= 0:
            with np.errstate(divide="ignore"):
                total += np.log(norm)
    return GrowthRate(total / updates)


def _density(delta):
    return np.exp(-(delta**2) / 2) / np.sqrt(2 * np.pi)


def _parameters(tau: Numbers, beta: Numbers, eta: Numbers, noise: Numbers) -> List[np.ndarray]:
    """The four parameters as float arrays of one shape; ValueError if one is out of range."""
    parameters = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (tau, beta, eta, noise)))
    ranges = {"tau": (-np.inf, np.inf), "beta": (0, 1), "eta": (0, np.inf), "noise": (0, np.inf)}
    for value, (name, (low, high)) in zip(parameters, ranges.items()):
        inside = (value >= low) & (value < high) & np.isfinite(value)
        if not inside.all():
            raise ValueError(f"{name}={value[~inside].flat[0]!r}: must be finite and in [{low:g}, {high:g})")
    return parameters
