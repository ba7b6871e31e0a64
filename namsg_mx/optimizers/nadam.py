"""NADAM whose momentum schedule advances once per step, for a model of any number of parameter arrays."""

from array import array
from functools import lru_cache
from threading import Lock
from typing import Optional

from mxnet.optimizer import register

from namsg_mx.checks import DECAY_RATE, EPSILON, NONNEGATIVE, check_number
from namsg_mx.kernels import Coefficients
from namsg_mx.optimizers.arguments import ScalarOrSchedule
from namsg_mx.optimizers.base import ElementwiseOptimizer, Settings, Step


@register
class DozatNadam(ElementwiseOptimizer):
    """NADAM, Dozat 2016, in Keras's and MXNet's form: Adam with Nesterov momentum and a warming momentum schedule.

    The t-th update of a parameter::

        mu_t = beta1 * (1 - 0.5 * 0.96**(t * schedule_decay))
        g = rescale_grad * grad + wd * weight
        g = clip(g, -clip_gradient, clip_gradient)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_bar = (1 - mu_t) * g / (1 - mu_1 ... mu_t) + mu_{t+1} * m / (1 - mu_1 ... mu_{t+1})
        weight = project(weight - learning_rate * m_bar / (sqrt(v / (1 - beta2**t)) + epsilon), bounds)

    MXNet's ``nadam`` is this method only for a model of one array: it multiplies its running product of the mu_i once
    per parameter array, and should once per step. Dozat's own m decays by mu_t, where these forms have beta1.

    Parameters
    ----------
    learning_rate : float, schedule or None
        alpha, in [0, inf); 0.001 unless an ``lr_scheduler`` is given.
    beta1, beta2 : float
        Decay rates of the moments, in [0, 1).
    epsilon : float
        Added to the square root, in [1.2e-38, inf), as float32 has no smaller normal number.
    schedule_decay : float
        Rate of the momentum schedule, in [0, inf).
    **kwargs
        See `ElementwiseOptimizer`.

    Raises
    ------
    ValueError, TypeError
        As `ElementwiseOptimizer`. ValueError also for a schedule as beta1.

    State: m and v, each in the weight's shape and dtype (float32 for float16 weights).

    Example
    -------
    Three updates with the gradients 1 and -0.01:

    >>> weight, gradient = nd.array([1.0, 1.0]), nd.array([1.0, -0.01])
    >>> optimizer = mx.optimizer.create('dozatnadam', learning_rate=0.1)
    >>> state = optimizer.create_state(0, weight)
    >>> for _ in range(3):
    ...     optimizer.update(0, weight, gradient, state)
    ...     print(weight.asnumpy().round(3))
    [0.894 1.106]
    [0.816 1.184]
    [0.743 1.257]
    """

    STATE = ("m", "v")

    def __init__(self, learning_rate: Optional[ScalarOrSchedule] = None, beta1: float = 0.9, beta2: float = 0.999,
                 epsilon: float = 1e-8, schedule_decay: float = 0.004, **kwargs):
        super().__init__(learning_rate, check_number("beta1", beta1, DECAY_RATE), **kwargs)
        self.beta2 = check_number("beta2", beta2, DECAY_RATE)
        self.epsilon = check_number("epsilon", epsilon, EPSILON)
        self.schedule_decay = check_number("schedule_decay", schedule_decay, NONNEGATIVE)

    def settings(self, k: int) -> Settings:
        check_number("beta1", self.beta1, DECAY_RATE)   # products of a schedule's values are not those of any constant
        return super().settings(k)

    def _step(self, k, settings, indices, lrs, wds):
        scalars = self._scalars(settings.beta1, self.beta2, "v", check_number("epsilon", self.epsilon, EPSILON))
        schedule_decay = check_number("schedule_decay", self.schedule_decay, NONNEGATIVE)
        factors = [_factors(self._index_update_count[i], scalars.beta1, scalars.beta2, schedule_decay) for i in indices]
        m_factors, g_factors, v_scales = zip(*factors)
        return Step(scalars, Coefficients(lrs, wds, m_factors, g_factors, v_scales))


def _factors(t, beta1, beta2, schedule_decay):
    """The factors of m_before and g in m_bar, and 1 / (1 - beta2**t), at a parameter's t-th update."""
    mu, mu_next = (momentum(i, beta1, schedule_decay) for i in (t, t + 1))
    product = momentum_product(t, beta1, schedule_decay)
    of_m, of_g = mu_next / (1 - product * mu_next), (1 - mu) / (1 - product)
    return of_m * beta1, of_m * (1 - beta1) + of_g, 1 / (1 - beta2**t)


def momentum(t, beta1, schedule_decay):
    """mu_t, t = 1, 2, ..."""
    return beta1 * (1 - 0.5 * 0.96 ** (t * schedule_decay))


def momentum_product(t, beta1, schedule_decay):
    """mu_1 ... mu_t, or a product so small that 1 less it is 1.

    It needs no state, so replicas, skipped parameters and resumed runs agree.
    """
    products = _momentum_products(beta1, schedule_decay)
    with _LOCK:
        while len(products) < t and 1 - products[-1] != 1:   # smaller products change no 1 - product
            products.append(products[-1] * momentum(len(products) + 1, beta1, schedule_decay))
    return products[min(t, len(products)) - 1]


_LOCK = Lock()


@lru_cache(maxsize=None)
def _momentum_products(beta1, schedule_decay):
    """The products so far, from mu_1 on: each costs one multiplication in a process."""
    return array("d", [momentum(1, beta1, schedule_decay)])
