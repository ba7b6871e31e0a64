"""SGD with the paper's averaged momentum."""

from typing import Optional

from mxnet.optimizer import register

from namsg_mx.kernels import Coefficients
from namsg_mx.optimizers.arguments import ScalarOrSchedule
from namsg_mx.optimizers.base import ElementwiseOptimizer, Step


@register
class AveragedSGD(ElementwiseOptimizer):
    """SGD with momentum in the convention of the paper: the momentum is an average of gradients, not a sum.

    One update::

        g = rescale_grad * grad + wd * weight
        g = clip(g, -clip_gradient, clip_gradient)
        m = beta1 * m + (1 - beta1) * g
        weight = project(weight - learning_rate * m, bounds)

    With a constant step size and beta1 this is MXNet's ``sgd`` with ``learning_rate * (1 - beta1)`` and
    ``momentum=beta1``, unless ``wd`` and ``clip_gradient`` are both given: MXNet's ``sgd`` clips before it decays. A
    drop of the step size acts at once; MXNet's velocity keeps the former one for about 1 / (1 - beta1) updates.

    The paper prints no update of its SGD, so no equation can be cited for the convention. m is that of (4), first row.
    That the paper's step sizes for SGD belong to it is inferred. Table A1's for logistic regression trains worse as
    MXNet's learning rate (results/README.md). And the paper's later version (ARSG, 2020) calls learning rate 0.1 with
    momentum 0.9 "alpha = 1, beta = 0.9".

    Parameters
    ----------
    learning_rate : float, schedule or None
        alpha, in [0, inf); 0.1 unless an ``lr_scheduler`` is given.
    beta1 : float or schedule
        Decay rate of the momentum, in [0, 1).
    **kwargs
        See `ElementwiseOptimizer`.

    Raises
    ------
    ValueError, TypeError
        As `ElementwiseOptimizer`.

    State: m, in the weight's shape and dtype (float32 for float16 weights).

    Example
    -------
    >>> weight, gradient = nd.array([1.0, 1.0]), nd.array([1.0, -0.01])
    >>> optimizer = mx.optimizer.create('averagedsgd', learning_rate=0.1)
    >>> state = optimizer.create_state(0, weight)
    >>> for _ in range(2):
    ...     optimizer.update(0, weight, gradient, state)
    ...     print(weight.asnumpy().round(5), state[0].asnumpy().round(5))
    [0.99   1.0001] [ 0.1   -0.001]
    [0.971   1.00029] [ 0.19   -0.0019]
    """

    STATE = ("m",)
    DEFAULT_LEARNING_RATE = 0.1

    def __init__(self, learning_rate: Optional[ScalarOrSchedule] = None, beta1: ScalarOrSchedule = 0.9, **kwargs):
        super().__init__(learning_rate, beta1, **kwargs)

    def _step(self, k, settings, indices, lrs, wds):
        beta1 = settings.beta1
        return Step(self._scalars(beta1, 0.0, "none"), Coefficients(lrs, wds, m_factor=beta1, g_factor=1 - beta1))
