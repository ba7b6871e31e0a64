"""Section 4: regret in online convex optimization, and its bounds by Theorem 1 and Corollary 1.

In round t = 1, ..., T the method plays x_t in a convex set F, then sees the convex loss f_t. Its regret is the sum of
f_t(x_t) - f_t(x*); x* is the best fixed point of F in hindsight. The bounds depend on the data: they are computed from
a recorded `Trajectory`. Nothing here trains. Except where its section Raises says so, a function does not check its
arguments.
"""

from typing import Callable, List, NamedTuple, Tuple, Union

import numpy as np
from scipy.optimize import minimize, root

from namsg_mx.checks import Interval, check_number

Numbers = Union[float, np.ndarray]

ROUNDING = 1e-9   # relative: schedules are computed and recorded in floating point
TINY = np.finfo(float).tiny   # below it, where a decaying beta1 gets, rounding is not relative
TOLERANCE = 1e-7   # the largest gap of a best fixed point, relative to 1 + |F|
STARTS = 5        # L-BFGS-B sometimes gives up early; started anew at that point, it goes on


class Trajectory(NamedTuple):
    """The record of a run of T rounds in d dimensions, T and d at least 1; row t - 1 belongs to round t.

    Nothing is checked here; `violated_conditions` names what Theorem 1 does not allow. Arrays are of floats.

    Parameters
    ----------
    g : array of shape (T, d)
        The gradients of f_t at x_t, finite, in loss per unit of x.
    v_hat : array of shape (T, d)
        v_hat after the update of round t, in (0, inf), in the unit of g**2. It never decreases in t.
    alpha : array of shape (T,)
        The step size alpha_t of Algorithm 1, in (0, inf), in the unit of x.
    beta1 : array of shape (T,)
        beta1_t, in [0, 1).
    eta : array of shape (T,)
        The observation distance eta_t, in [0, inf), in units of the last step; 0 for AMSGRAD.
    beta2 : float
        In (0, 1).

    Example
    -------
    >>> run = Trajectory(g=np.ones((4, 1)), v_hat=np.ones((4, 1)), alpha=np.arange(1, 5) ** -0.5, beta1=np.full(4, 0.5),
    ...           eta=np.full(4, 0.9), beta2=0.99)
    >>> len(run.g), len(run.first(2).g)
    (4, 2)
    """

    g: np.ndarray
    v_hat: np.ndarray
    alpha: np.ndarray
    beta1: np.ndarray
    eta: np.ndarray
    beta2: float

    def first(self, rounds: int) -> "Trajectory":
        """The first ``rounds`` rounds of the run, 1 to T."""
        return Trajectory(self.g[:rounds], self.v_hat[:rounds], self.alpha[:rounds], self.beta1[:rounds],
                          self.eta[:rounds], self.beta2)


class Terms(NamedTuple):
    """The three terms of a regret bound in the paper's order, or their coefficients.

    Example
    -------
    >>> Terms(preconditioner=5.0, decay=4.0, gradients=100.0).total
    109.0
    """

    preconditioner: Numbers   # coefficient * D**2 sqrt(T) / alpha * sum_i v_hat_{T,i}**(1/2)
    decay: Numbers            # coefficient * D**2 * sum_t sum_i beta1_t**2 v_hat_{t,i}**(1/2) / alpha_t; (15): beta1_t
    gradients: Numbers        # coefficient * alpha sqrt(1 + log T) / sqrt(1 - beta2) * sum_i ||g_{1:T,i}||_2

    @property
    def total(self) -> Numbers:
        """The sum of the three terms; of the terms of a bound, the bound on the regret."""
        return sum(self)


def violated_conditions(run: Trajectory) -> List[str]:
    """The conditions of Theorem 1 that the run's settings break, each in words; an empty list if none.

    Theorem 1's conditions on the problem cannot be checked in a run: convex losses, a convex F of finite diameter that
    contains every x_t, and bounded gradients. (The paper prints eta_{1t} for eta_t.)

    Example
    -------
    With the ``run`` of `Trajectory`'s example:

    >>> violated_conditions(run)
    []
    >>> violated_conditions(run._replace(eta=np.full(4, 3.0)))
    ['eta_t must be at most beta1_t / (1 - beta1_t); first broken in round 1']
    """
    alpha, beta1, eta = run.alpha, run.beta1, run.eta
    scale = 1 + ROUNDING
    rounds = np.arange(1, len(alpha) + 1)
    conditions = {
        "beta1 must be in [0, 1)": (beta1 >= 0) & (beta1 < 1),
        "beta2 must be in (0, 1)": np.array([0 < run.beta2 < 1]),
        "alpha_t must be alpha / sqrt(t), alpha > 0": (alpha > 0) & np.isclose(alpha * np.sqrt(rounds), alpha[0],
                                                                               rtol=ROUNDING, atol=0),
        "beta1_t must not increase": np.append(True, beta1[1:] <= beta1[:-1] * scale),
        "gamma = beta1 / sqrt(beta2) must be below 1": beta1[:1] ** 2 < run.beta2,
        "eta_t must be at least beta1_t": eta * scale + TINY >= beta1,
        "eta_t must be at most beta1_t / (1 - beta1_t)": eta * (1 - beta1) <= beta1 * scale + TINY,
        "(1 - beta1_t) (1 + eta_t) must not decrease": np.append(
            True, ((1 - beta1) * (1 + eta))[:-1] <= ((1 - beta1) * (1 + eta))[1:] * scale),
    }
    return [f"{condition}; first broken in round {np.argmin(holds) + 1}"
            for condition, holds in conditions.items() if not holds.all()]


def namsg_coefficients(beta1: Numbers, beta2: Numbers) -> Terms:
    """The coefficients of NAMSG's bound (14).

    Parameters
    ----------
    beta1 : float or array
        beta1 of the first round, in [0, sqrt(beta2)), so that gamma = beta1 / sqrt(beta2) is below 1.
    beta2 : float or array
        In (0, 1). Arrays broadcast.

    Returns
    -------
    Terms
        Each a number, or an array of the broadcast shape; none has a unit.

    Raises
    ------
    ValueError
        If beta1 or beta2 is out of range.

    Example
    -------
    >>> [round(coefficient, 2) for coefficient in namsg_coefficients(0.9, 0.99)]
    [2.63, 2.63, 675.11]
    """
    gamma = _gamma(beta1, beta2)
    return Terms(1 / (2 * (1 - beta1**2)),
                 1 / (2 * (1 - beta1**2)),
                 (3 * beta1**2 / (2 * (1 - beta1) * (1 - gamma)) + 1) / (1 - beta1**2))


def amsgrad_coefficients(beta1: Numbers, beta2: Numbers) -> Terms:
    """The coefficients of AMSGRAD's bound (15); arguments, result and errors as in `namsg_coefficients`.

    Example
    -------
    >>> [round(coefficient, 2) for coefficient in amsgrad_coefficients(0.9, 0.99)]
    [10.0, 5.0, 1047.49]
    """
    gamma = _gamma(beta1, beta2)
    return Terms(1 / (1 - beta1), 1 / (2 * (1 - beta1)), 1 / ((1 - beta1) ** 2 * (1 - gamma)))


def namsg_bound(run: Trajectory, diameter: float) -> Terms:
    """Theorem 1's bound (14) on NAMSG's regret, as `Terms`. It holds if `violated_conditions` finds none.

    Parameters
    ----------
    run : Trajectory
        A run of NAMSG.
    diameter : float
        D_infinity, the largest distance between two points of F in the maximum norm; in (0, inf), in the unit of x.

    Raises
    ------
    ValueError
        If the first round's beta1, or beta2, is out of the range that `namsg_coefficients` has for it.

    Example
    -------
    With the ``run`` of `Trajectory`'s example:

    >>> round(namsg_bound(run, diameter=2).total, 1)
    112.7
    """
    return _bound(namsg_coefficients(run.beta1[0], run.beta2), run, diameter, run.beta1**2)


def amsgrad_bound(run: Trajectory, diameter: float) -> Terms:
    """The bound (15) on AMSGRAD's regret, as `Terms`; arguments and errors as in `namsg_bound`, for a run of AMSGRAD.

    The second term has beta1_t, as in Reddi et al. 2018; the paper prints beta1_t**2.

    Example
    -------
    With the ``run`` of `Trajectory`'s example:

    >>> round(amsgrad_bound(run, diameter=2).total, 1)
    276.7
    """
    return _bound(amsgrad_coefficients(run.beta1[0], run.beta2), run, diameter, run.beta1)


def bounded_quantities(run: Trajectory, x: np.ndarray, best: np.ndarray) -> Terms:
    """The quantities that the three terms of a bound must exceed, as `Terms`; the regret is at most their sum.

    They test each term by itself: the sum of (14) is thousands of times the regret, and would hide a term that is
    thousands of times too small. The step is u_t = a_t g_t + (1 - a_t) m_{t-1}, a_t = (1 - beta1_t)(1 + eta_t). The
    quantities follow from a convex loss, a projection that takes no point away from any point of F, and Young's
    inequality for m_{t-1}. Norms are weighted by sqrt(v_hat_t) / alpha_t or its inverse, and all is summed over t:

        preconditioner   (||x_t - x*||**2 - ||x_{t+1} - x*||**2) / (2 a_t)
        decay            ||x_t - x*||**2 (1 - a_t) / (2 a_t)
        gradients        (||u_t||**2 + (1 - a_t) ||m_{t-1}||**2) / (2 a_t)

    Parameters
    ----------
    run : Trajectory
        A run of NAMSG, or of AMSGRAD with eta_t = 0. a_t must be in (0, 1], as Theorem 1's conditions ensure.
    x : array of shape (T + 1, d)
        x_1, ..., x_{T+1}, in F.
    best : array of shape (d,)
        x*, or any other point of F.

    Returns
    -------
    Terms
        Three floats, in the unit of the loss.

    Example
    -------
    With the ``run`` of `Trajectory`'s example:

    >>> x = np.array([[1.0], [0.5], [0.0], [-0.5], [-1.0]])
    >>> [round(term, 2) for term in bounded_quantities(run, x, best=np.array([-1.0]))]
    [2.8, 0.25, 1.41]
    >>> [round(term, 2) for term in namsg_bound(run, diameter=2)]
    [5.33, 4.1, 103.3]
    """
    a = ((1 - run.beta1) * (1 + run.eta))[:, np.newaxis]
    weights = np.sqrt(run.v_hat) / run.alpha[:, np.newaxis]
    m = np.zeros_like(run.g)   # m_{t-1}
    for t in range(1, len(m)):
        m[t] = run.beta1[t - 1] * m[t - 1] + (1 - run.beta1[t - 1]) * run.g[t - 1]
    distances = (x - best) ** 2
    return Terms((weights * (distances[:-1] - distances[1:]) / (2 * a)).sum(),
                 (weights * distances[:-1] * (1 - a) / (2 * a)).sum(),
                 (((a * run.g + (1 - a) * m) ** 2 + (1 - a) * m**2) / (2 * a * weights)).sum())


def corollary_bound(run: Trajectory, diameter: float, decay: float, gradient_bound: float) -> Terms:
    """Corollary 1's bound (16) for beta1_t = beta1 * decay**(t - 1), as `Terms`.

    The paper's second term lacks a factor d / alpha, which is added here. It then exceeds the second term of (14):
    beta1_t**2 <= beta1 * decay**(t - 1), sqrt(v_hat) <= G_infinity, and sum_t sqrt(t) decay**(t - 1) is at most
    1 / (1 - decay)**2.

    Parameters
    ----------
    run : Trajectory
        A run of NAMSG with Corollary 1's beta1_t.
    diameter : float
        See `namsg_bound`.
    decay : float
        lambda of Corollary 1, in (0, 1).
    gradient_bound : float
        G_infinity, in (0, inf): at least every |gradient element|, and at least sqrt(epsilon), as v_hat starts at
        epsilon. In loss per unit of x.

    Raises
    ------
    ValueError
        If ``decay`` is out of range, the run's beta1_t is another schedule, or its v_hat is above gradient_bound**2.
        Also as `namsg_bound`.

    Example
    -------
    With the ``run`` of `Trajectory`'s example:

    >>> run = run._replace(beta1=0.5 * 0.9 ** np.arange(4))
    >>> round(corollary_bound(run, diameter=2, decay=0.9, gradient_bound=1.0).total, 1)
    242.0
    """
    rounds, dimension = run.g.shape
    beta1 = run.beta1[0]
    if not 0 < decay < 1 or not np.allclose(run.beta1, beta1 * decay ** np.arange(rounds), rtol=1e-6, atol=1e-300):
        raise ValueError(f"decay={decay!r}: must be in (0, 1), and the run's beta1_t be beta1 * decay**(t - 1)")
    if np.sqrt(run.v_hat.max()) > gradient_bound * (1 + 1e-6):
        raise ValueError(f"gradient_bound={gradient_bound!r}: sqrt(v_hat) reaches {np.sqrt(run.v_hat.max()):g}")
    decay_term = (beta1 * diameter**2 * gradient_bound * dimension
                  / (2 * run.alpha[0] * (1 - beta1**2) * (1 - decay) ** 2))
    return namsg_bound(run, diameter)._replace(decay=decay_term)


def _gamma(beta1, beta2):
    """Theorem 1's gamma = beta1 / sqrt(beta2); ValueError unless 0 < beta2 < 1 and 0 <= gamma < 1."""
    for number in np.ravel(beta2).tolist():
        check_number("beta2", number, Interval(0, 1, includes_low=False))
    roots = np.sqrt(beta2)
    for number, limit in zip(*(each.ravel().tolist() for each in np.broadcast_arrays(beta1, roots))):
        check_number("beta1", number, Interval(0, limit))
    return beta1 / roots


def _bound(coefficients, run, diameter, momentum):
    """The terms of (14) and (15); ``momentum`` multiplies sqrt(v_hat) / alpha_t in the second term."""
    rounds, alpha = len(run.alpha), run.alpha[0]
    preconditioner = diameter**2 * np.sqrt(rounds) / alpha * np.sqrt(run.v_hat[-1]).sum()
    decay = diameter**2 * (momentum / run.alpha * np.sqrt(run.v_hat).sum(axis=1)).sum()
    gradients = (alpha * np.sqrt(1 + np.log(rounds)) / np.sqrt(1 - run.beta2)
                 * np.sqrt((run.g**2).sum(axis=0)).sum())
    return Terms(*(c * term for c, term in zip(coefficients, (preconditioner, decay, gradients))))


class FixedPoint(NamedTuple):
    """The best fixed point of a box, as far as it was found.

    Example
    -------
    >>> best = best_fixed_point(lambda x: ((x[0] - 3) ** 2, 2 * (x - 3)), start=[0.0], bounds=(-1.0, 1.0))
    >>> best.loss, best.gap
    (4.0, 0.0)
    """

    x: np.ndarray   # (d,)
    loss: float     # the total loss at x
    gap: float      # at most so much above the least total loss


def best_fixed_point(total: Callable[[np.ndarray], Tuple[float, np.ndarray]], start: np.ndarray,
                     bounds: Tuple[float, float]) -> FixedPoint:
    """Minimize the total loss of a convex problem on a box, with a certificate.

    For a convex loss F with gradient G, F(x) - min F is at most the maximum of G(x) (x - y) over y in the box (the
    Frank-Wolfe gap), which on a box is a sum over the elements.

    Parameters
    ----------
    total : function
        Takes x of shape (d,); returns the sum of f_t(x) over all rounds, and its gradient of shape (d,).
    start : array
        Where to begin, shape (d,).
    bounds : (float, float)
        low < high of the box, the same in each dimension.

    Returns
    -------
    FixedPoint

    Raises
    ------
    RuntimeError
        If the gap stays above 1e-7, relative to 1 + |F|.

    Example
    -------
    The least of (x - 3)**2 on [-1, 1]:

    >>> best_fixed_point(lambda x: ((x[0] - 3) ** 2, 2 * (x - 3)), start=[0.0], bounds=(-1.0, 1.0))
    FixedPoint(x=array([1.]), loss=4.0, gap=0.0)
    """
    low, high = bounds

    def certified(x):
        loss, gradient = total(x)
        gap = np.maximum(gradient * (x - low), gradient * (x - high)).sum()
        return FixedPoint(x, float(loss), float(gap))

    x = np.asarray(start, dtype=float)
    for _ in range(STARTS):
        x = minimize(total, x, jac=True, method="L-BFGS-B", bounds=[bounds] * len(x),
                     options={"maxiter": 10000, "maxfun": 100000, "ftol": 0, "gtol": 0, "maxls": 50}).x
        x = np.clip(x, low, high)
        # The gradient still tells points apart when the loss, by rounding, does not.
        stationary = np.clip(_stationary(total, x, (low < x) & (x < high)), low, high)
        best = min(certified(x), certified(stationary), key=lambda point: point.gap)
        if best.gap <= TOLERANCE * (1 + abs(best.loss)):
            return best
    raise RuntimeError(f"the best fixed point was not found: its loss {best.loss:g} may be {best.gap:g} above the "
                       "least loss")


def _stationary(total, x, is_free):
    """x with its free elements moved to a zero of their gradient, as nearly as one is found."""
    def moved(free):
        y = x.copy()
        y[is_free] = free
        return y

    return moved(root(lambda free: total(moved(free))[1][is_free], x[is_free], tol=1e-15).x) if is_free.any() else x


def regret(losses: np.ndarray, best: FixedPoint) -> float:
    """R_T from the losses f_t(x_t), an array of shape (T,), and the `FixedPoint`: the largest value within its gap.

    Example
    -------
    >>> regret([3.0, 2.0, 1.5], FixedPoint(x=np.array([1.0]), loss=4.0, gap=0.0))
    2.5
    """
    return float(np.sum(losses) - (best.loss - best.gap))
