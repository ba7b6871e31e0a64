"""NAMSB (the supplement's Algorithm A1) and AMSBound: adaptive steps that turn into SGD's."""

from typing import Optional

from mxnet.optimizer import register

from namsg_mx.checks import NORMAL, POSITIVE, check_number
from namsg_mx.optimizers.arguments import ScalarOrSchedule, check_no_distance, check_setting, value_at
from namsg_mx.optimizers.namsg import NAMSG


@register
class NAMSB(NAMSG):
    """NAMSB, supplement of Chen et al. 2019: NAMSG with elementwise steps clipped to limits that close in on SGD's.

    Update t = 1, 2, ... is `NAMSG`'s update with another last line::

        xi_l = sgd_learning_rate * (1 - 1 / (gamma * t + 1))
        xi_u = sgd_learning_rate * (1 + 1 / (gamma * t))
        root = clip(sqrt(v_hat), learning_rate / xi_u, learning_rate / xi_l)
        weight = project(weight - learning_rate * ((1 - mu) * m + mu * g) / root, bounds)

    The last line is from the authors' class; Algorithm A1 computes xi and prints no use of it. t is the schedules'
    k + 1. The limits apply to ``learning_rate / root``; ``lr_mult`` multiplies the step after that.

    Parameters
    ----------
    learning_rate : float, schedule or None
        alpha, in [1.2e-38, inf); 0.001 unless an ``lr_scheduler`` is given.
    beta1, beta2, epsilon, eta, mu
        See `NAMSG`.
    sgd_learning_rate : float or schedule
        alpha_SGD, in (0, inf): the limits tend to this step size of averaged-momentum SGD (`AveragedSGD`).
    gamma : float
        How fast the limits close, in (0, inf).
    **kwargs
        See `ElementwiseOptimizer`.

    Raises
    ------
    ValueError, TypeError
        As `ElementwiseOptimizer`. ValueError also for eta together with mu, and for switch_to_sgd. Also in an update
        for which a schedule has the step size 0: the limits are not defined there.

    State: m, v and v_hat, each in the weight's shape and dtype (float32 for float16 weights).

    Example
    -------
    Three updates with the gradients 1 and -0.01. The steps are soon proportional to the gradients:

    >>> weight, gradient = nd.array([1.0, 1.0]), nd.array([1.0, -0.01])
    >>> optimizer = mx.optimizer.create('namsb', learning_rate=0.1, sgd_learning_rate=0.1, gamma=1)
    >>> state = optimizer.create_state(0, weight)
    >>> for _ in range(3):
    ...     optimizer.update(0, weight, gradient, state)
    ...     print(weight.asnumpy().round(3))
    [0.962 1.   ]
    [0.921 1.001]
    [0.875 1.001]
    """

    DEFAULT_LEARNING_RATE = 0.001
    LEARNING_RATES = NORMAL   # or the limits of the divisor may be 0 in float32

    def __init__(self, learning_rate: Optional[ScalarOrSchedule] = None, beta1: ScalarOrSchedule = 0.9,
                 beta2: float = 0.99, epsilon: float = 1e-8, eta: Optional[ScalarOrSchedule] = None,
                 mu: Optional[ScalarOrSchedule] = None,
                 sgd_learning_rate: ScalarOrSchedule = 0.1, gamma: float = 0.001, **kwargs):
        super().__init__(learning_rate, beta1, beta2, epsilon, eta, mu, **kwargs)
        self.sgd_learning_rate = check_setting("sgd_learning_rate", sgd_learning_rate, POSITIVE)
        self.gamma = check_number("gamma", gamma, POSITIVE)

    def switch_to_sgd(self, at: int) -> None:
        """ValueError: the step turns into SGD's without a switch."""
        raise ValueError(f"switch_to_sgd={at!r}: {type(self).__name__} has none; use NAMSG")

    def _sgd_learning_rate(self, k, alpha):
        check_number(f"learning_rate({k})", alpha, self.LEARNING_RATES)
        return value_at("sgd_learning_rate", self.sgd_learning_rate, k, POSITIVE)

    def _divisor_limits(self, k, settings):
        ratio = settings.learning_rate / settings.sgd_learning_rate
        age = min(check_number("gamma", self.gamma, POSITIVE) * (k + 1), 1e150)   # from 2**53 on age + 1 is age
        return ratio * age / (age + 1), ratio * (age + 1) / age   # alpha / xi_u and alpha / xi_l


@register
class AMSBound(NAMSB):
    """AMSBound, Luo et al. 2019, as the paper has it: `NAMSB` with ``eta=0``, to the bit.

    See `NAMSB` for the state and for all parameters but eta and mu: it has neither.

    Raises
    ------
    ValueError, TypeError
        As `NAMSB`. ValueError also for eta and mu.

    Example
    -------
    >>> weight, gradient = nd.array([1.0, 1.0]), nd.array([1.0, -0.01])
    >>> optimizer = mx.optimizer.create('amsbound', learning_rate=0.1, sgd_learning_rate=0.1, gamma=1)
    >>> state = optimizer.create_state(0, weight)
    >>> for _ in range(2):
    ...     optimizer.update(0, weight, gradient, state)
    ...     print(weight.asnumpy().round(4))
    [0.98   1.0002]
    [0.9515 1.0005]
    """

    def __init__(self, learning_rate: Optional[ScalarOrSchedule] = None, beta1: ScalarOrSchedule = 0.9,
                 beta2: float = 0.99, epsilon: float = 1e-8, **kwargs):
        check_no_distance("AMSBound", kwargs, instead="NAMSB")
        super().__init__(learning_rate, beta1, beta2, epsilon, eta=0.0, **kwargs)
