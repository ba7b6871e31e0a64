"""Plays the real optimizers on online convex problems on a box, one round after another (Section 4).

T is the number of rounds and d the dimension, both at least 1. A round's index t is 0 to T - 1 here; the paper's is one
more.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from namsg_mx.schedules import ExponentialDecay, HarmonicDecay, InverseSquareRoot
from namsg_mx.theory.regret import Trajectory


class Logistic(NamedTuple):
    """f_t(x) = log(1 + exp(-y_t <a_t, x>)): online logistic regression, one example a round."""

    a: np.ndarray   # (T, d): features
    y: np.ndarray   # (T,): labels, -1 or 1

    @classmethod
    def random(cls, rounds: int, dimension: int, seed: int) -> Logistic:
        """Features of unequal scale; labels by a random hyperplane, with noise.

        rounds and dimension at least 1, seed at least 0; ValueError by NumPy for negative ones.
        """
        random = np.random.default_rng(seed)
        a = random.standard_normal((rounds, dimension)) * 10.0 ** random.uniform(-1, 0.5, dimension)
        noisy = a @ random.standard_normal(dimension) + random.standard_normal(rounds)
        return cls(a, np.where(noisy < 0, -1.0, 1.0))

    def first(self, rounds: int) -> Logistic:
        """The problem that ends after that many rounds."""
        return Logistic(*(values[:rounds] for values in self))

    def loss(self, x: np.ndarray, t: int) -> float:
        """f_t(x), with t from 0 as all indices here."""
        return float(np.logaddexp(0, -self.y[t] * (self.a[t] @ x)))

    def gradient(self, x: np.ndarray, t: int) -> np.ndarray:
        """The gradient of f_t at x, shape (d,)."""
        return -self.y[t] * self.a[t] * _sigmoid(-self.y[t] * (self.a[t] @ x))

    def total(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum of f_t(x) over all rounds, and its gradient."""
        margin = -self.y * (self.a @ x)
        return np.logaddexp(0, margin).sum(), -(self.y * _sigmoid(margin)) @ self.a


class Quadratics(NamedTuple):
    """f_t(x) = ||A_t x - b_t||**2 / 2: random convex quadratics, singular if A_t has fewer rows than columns."""

    a: np.ndarray   # (T, n, d)
    b: np.ndarray   # (T, n)

    @classmethod
    def random(cls, rounds: int, dimension: int, seed: int) -> Quadratics:
        """Curvatures of unequal scale, and minima inside and outside of [-1, 1].

        rounds and dimension at least 1, seed at least 0; ValueError by NumPy for negative ones. n is drawn, 1 to d.
        """
        random = np.random.default_rng(seed)
        rows = random.integers(1, dimension + 1)
        scale = 10.0 ** random.uniform(-1, 0.5, dimension)
        return cls(random.standard_normal((rounds, rows, dimension)) * scale, random.standard_normal((rounds, rows)))

    @classmethod
    def far_away(cls) -> Quadratics:
        """One round in one dimension, with the best point of [-1, 1] at -1, so a long step from 1 leaves no slack."""
        return cls(np.ones((1, 1, 1)), np.full((1, 1), -10.0))

    def first(self, rounds: int) -> Quadratics:
        """The problem that ends after that many rounds."""
        return Quadratics(*(values[:rounds] for values in self))

    def loss(self, x: np.ndarray, t: int) -> float:
        """f_t(x), with t from 0 as all indices here."""
        return float(((self.a[t] @ x - self.b[t]) ** 2).sum() / 2)

    def gradient(self, x: np.ndarray, t: int) -> np.ndarray:
        """The gradient of f_t at x, shape (d,)."""
        return self.a[t].T @ (self.a[t] @ x - self.b[t])

    def total(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum of f_t(x) over all rounds, and its gradient."""
        residual = self.a @ x - self.b
        return (residual**2).sum() / 2, np.einsum("tnd,tn->d", self.a, residual)


class AdmissibleDistance(NamedTuple):
    """A schedule of eta that Theorem 1 admits beside any decreasing schedule of beta1.

    Theorem 1 admits distances from beta1_t to beta1_t / (1 - beta1_t). ``remoteness`` chooses one of them: 0 the
    nearest, 1 the farthest. It is constant, and so (1 - beta1_t) (1 + eta_t) does not decrease, as Theorem 1 needs.

    ``beta1`` is a schedule with values in [0, 1), ``remoteness`` is in [0, 1]. Neither is checked.
    """

    beta1: Callable[[int], float]
    remoteness: float

    def __call__(self, k: int) -> float:
        beta1 = self.beta1(k)
        return (1 - self.remoteness) * beta1 + self.remoteness * beta1 / (1 - beta1)


def settings(method: str, alpha: float, beta1: ExponentialDecay | HarmonicDecay, beta2: float,
             remoteness: float = 0.0) -> dict:
    """Arguments of the optimizer for which its bound holds: alpha / sqrt(t), a decreasing beta1, an eta that fits.

    Parameters
    ----------
    method : str
        'namsg', which gets an eta, or another registered optimizer.
    alpha : float
        Theorem 1's alpha, in (0, inf).
    beta1 : ExponentialDecay or HarmonicDecay
        With the initial value in [0, sqrt(beta2)), so that gamma is below 1.
    beta2 : float
        In (0, 1).
    remoteness : float
        Of `AdmissibleDistance`, in [0, 1]; for 'namsg' only.

    Raises
    ------
    ValueError
        If alpha is negative or not finite. `play` raises it for a beta1 or beta2 outside of [0, 1).
    """
    arguments: dict[str, Any] = {"learning_rate": InverseSquareRoot(alpha), "beta1": beta1, "beta2": beta2}
    if method == "namsg":
        arguments["eta"] = AdmissibleDistance(beta1, remoteness)
    return arguments


class Played(NamedTuple):
    """The course of T rounds."""

    losses: np.ndarray   # (T,): f_t(x_t)
    x: np.ndarray        # (T + 1, d): x_1, ..., x_{T+1}
    run: Trajectory


def play(problem: Logistic | Quadratics, method: str, arguments: dict, start: Sequence[float],
         bounds: tuple[float, float]) -> Played:
    """Play all rounds of a problem with a registered optimizer that has v_hat, projecting on the box ``bounds``.

    Parameters
    ----------
    problem : Logistic or Quadratics
        Of T rounds in d dimensions.
    method : str
        'namsg', 'amsgrad', 'namsb' or 'amsbound'.
    arguments : dict
        The optimizer's, as `settings` makes them.
    start : sequence of d floats
        x_1, within ``bounds``. It is rounded to float32, as the optimizer's weights are.
    bounds : (float, float)
        low < high of the box, the same in each dimension.

    Returns
    -------
    Played
        In float64; x and v_hat have the values of the optimizer's float32.

    Raises
    ------
    ValueError
        If the optimizer is not known, has no v_hat, or refuses an argument; or if ``start`` has another length than d.
    """
    optimizer = mx.optimizer.create(method, bounds=bounds, **arguments)
    weight = mx.nd.array(start)
    grad = mx.nd.zeros_like(weight)
    state = optimizer.create_state(0, weight)
    points, losses, rows = [weight.asnumpy().astype(np.float64)], [], []
    for t in range(len(problem.a)):
        losses.append(problem.loss(points[t], t))
        g = problem.gradient(points[t], t)
        grad[:] = g
        optimizer.update(0, weight, grad, state)
        points.append(weight.asnumpy().astype(np.float64))
        made = optimizer.last_update()
        v_hat = state[optimizer.STATE.index("v_hat")].asnumpy().astype(np.float64)
        rows.append((g, v_hat, made.learning_rate, made.beta1, made.eta or 0.0))
    g, v_hat, alpha, beta1, eta = map(np.array, zip(*rows))
    return Played(np.array(losses), np.array(points), Trajectory(g, v_hat, alpha, beta1, eta, optimizer.beta2))


# Reddi et al. 2018, Theorems 2 and 3: for beta1 < sqrt(beta2) there is a C with which ADAM moves the wrong way.
COUNTEREXAMPLE = {"beta1": 0.5, "beta2": 0.9}
C = 11.0
CHAINS = 64


def counterexamples(rounds: int) -> np.ndarray:
    """The slopes c_t of f_t(x) = c_t x on [-1, 1], whose best point is -1: shape (T, 1 + CHAINS), T = ``rounds``.

    Column 0 is Reddi et al.'s deterministic problem: C in every C-th round, beginning with the first, else -1. The
    other columns are independent draws of their stochastic problem: C with probability 1.2 / (C + 1), else -1.

    T is at least 1; ValueError by NumPy if it is negative.
    """
    steep = np.random.default_rng(0).random((rounds, 1 + CHAINS)) < 1.2 / (C + 1)
    steep[:, 0] = np.arange(rounds) % C == 0
    return np.where(steep, C, -1.0)


def play_slopes(method: str, slopes: np.ndarray, alpha: float, every: int) -> np.ndarray:
    """Play f_t(x) = c_t x on [-1, 1], from x = 0, with step size alpha / sqrt(t), for each column of slopes.

    Parameters
    ----------
    method : {'adam', 'dozatnadam', 'amsgrad', 'namsg'}
        NAMSG with eta = 0.9.
    slopes : array of shape (T, columns)
        c_t, finite.
    alpha : float
        In [0, inf).
    every : int
        x is recorded after every so many rounds, at least 1.

    Returns
    -------
    array of shape (T // every, columns)
        x after each ``every``-th round, in [-1, 1].

    Raises
    ------
    ValueError
        If alpha is out of range.
    """
    optimizer, step_size = mx.optimizer.create(method, **COUNTEREXAMPLE), InverseSquareRoot(alpha)
    all_slopes = mx.nd.array(slopes)
    weight = mx.nd.zeros(slopes.shape[1])
    grad = mx.nd.zeros_like(weight)
    state = optimizer.create_state(0, weight)
    seen = []
    for t in range(len(slopes)):
        # Step size and projection are set here, as MXNet's Adam takes no schedule and does not project.
        optimizer.set_learning_rate(step_size(t))
        all_slopes[t].copyto(grad)
        optimizer.update(0, weight, grad, state)
        mx.nd.clip(weight, -1, 1, out=weight)
        if (t + 1) % every == 0:
            seen.append(weight.asnumpy())
    return np.array(seen)


def _sigmoid(margin):
    return np.exp(-np.logaddexp(0, -margin))
