"""AMSGRAD (4): NAMSG without observation distance."""

from typing import Optional

from mxnet.optimizer import register

from namsg_mx.optimizers.arguments import ScalarOrSchedule, check_no_distance
from namsg_mx.optimizers.namsg import NAMSG


@register
class AMSGrad(NAMSG):
    """AMSGRAD, Reddi et al. 2018, as in the paper's (4): v_hat starts at epsilon, and there is no bias correction.

    It is `NAMSG` with ``eta=0``, to the bit: the same state, and the same order of operations.

    Parameters
    ----------
    learning_rate : float, schedule or None
        alpha, in [0, inf); 0.001 unless an ``lr_scheduler`` is given.
    beta1 : float or schedule
        Decay rate of the momentum, in [0, 1).
    beta2 : float
        Decay rate of the second moment, in [0, 1).
    epsilon : float
        Initial v_hat, in [1.2e-38, inf), as float32 has no smaller normal number.
    **kwargs
        See `ElementwiseOptimizer`.

    Raises
    ------
    ValueError, TypeError
        As `ElementwiseOptimizer`. ValueError also for eta, mu and switch_to_sgd, which AMSGRAD does not have.

    State: m, v and v_hat, each in the weight's shape and dtype (float32 for float16 weights).

    Example
    -------
    Three updates with the gradients 1 and -0.01:

    >>> weight, gradient = nd.array([1.0, 1.0]), nd.array([1.0, -0.01])
    >>> optimizer = mx.optimizer.create('amsgrad', learning_rate=0.1)
    >>> state = optimizer.create_state(0, weight)
    >>> for _ in range(3):
    ...     optimizer.update(0, weight, gradient, state)
    ...     print(weight.asnumpy().round(3))
    [0.684 1.316]
    [0.259 1.741]
    [-0.236  2.236]
    """

    DEFAULT_LEARNING_RATE = 0.001

    def __init__(self, learning_rate: Optional[ScalarOrSchedule] = None, beta1: ScalarOrSchedule = 0.9,
                 beta2: float = 0.999, epsilon: float = 1e-8, **kwargs):
        check_no_distance("AMSGrad", kwargs, instead="NAMSG")
        super().__init__(learning_rate, beta1, beta2, epsilon, eta=0.0, **kwargs)

    def switch_to_sgd(self, at: int) -> None:
        """ValueError: SWNTS is a strategy of `NAMSG`."""
        raise ValueError(f"switch_to_sgd={at!r}: AMSGrad has none; use NAMSG")
