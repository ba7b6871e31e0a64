"""NAMSG (Algorithm 1), with its switch to SGD (SWNTS, Section 5.2)."""

import math
import sys
from numbers import Integral
from typing import Optional

from mxnet.kvstore.kvstore import KVStore
from mxnet.optimizer import register

from namsg_mx.checks import DECAY_RATE, EPSILON, NONNEGATIVE, check_number
from namsg_mx.kernels import Coefficients
from namsg_mx.optimizers.arguments import ScalarOrSchedule, check_setting, value_at
from namsg_mx.optimizers.base import ElementwiseOptimizer, Settings, Step

# Below the root of any v_hat that began at epsilon. If a program sets its states to 0, as some do to begin anew, an
# element without a gradient then stays, instead of becoming 0 / 0.
LEAST_ROOT = 1e-19

ON_SERVERS = ("the servers of a kvstore do not see all the parameters together; give the Trainer "
              "update_on_kvstore=False")


@register
class NAMSG(ElementwiseOptimizer):
    """NAMSG, Chen et al. 2019, Algorithm 1: AMSGRAD with gradients at a remote observation point.

    One update::

        g = rescale_grad * grad + wd * weight
        g = clip(g, -clip_gradient, clip_gradient)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        v_hat = maximum(v_hat, v)
        mu = eta * (1 - beta1) / beta1
        weight = project(weight - learning_rate * ((1 - mu) * m + mu * g) / sqrt(v_hat), bounds)

    m and v start at 0 and v_hat at epsilon. There is no other epsilon, and no bias correction; MXNet's Adam has both.
    The weight is the observation point itself (x_t of Algorithm 1). eta = 0 is AMSGRAD; at beta1 = 0 the step is g.
    Theorem 1 asks for eta in [beta1, beta1 / (1 - beta1)].

    Parameters
    ----------
    learning_rate : float, schedule or None
        alpha, in [0, inf); 0.002 unless an ``lr_scheduler`` is given (the paper's footnote 4).
    beta1 : float or schedule
        Decay rate of the momentum, in [0, 1).
    beta2 : float
        Decay rate of the second moment, in [0, 1).
    epsilon : float
        Initial v_hat, in [1.2e-38, inf), as float32 has no smaller normal number.
    eta : float or schedule
        Observation distance in units of the last step, in [0, inf); 0.9 unless ``mu`` is given. The paper's experiments
        take ``ObservationDistance(updates_per_epoch)``.
    mu : float or schedule
        Observation factor, in [0, inf), instead of eta: the parameter of the authors' later work (ARSG).
    switch_to_sgd : int, optional
        See the method of that name.
    **kwargs
        See `ElementwiseOptimizer`.

    Raises
    ------
    ValueError, TypeError
        As `ElementwiseOptimizer`. ValueError also for eta together with mu, and as `switch_to_sgd` says.
    RuntimeError
        In the update that switches to SGD, as `switch_to_sgd` says.

    State: m, v and v_hat, each in the weight's shape and dtype (float32 for float16 weights). A program may set them to
    0 to begin anew.

    Example
    -------
    The first steps follow the sign of the gradient, whatever its size:

    >>> net = gluon.nn.Dense(1, in_units=2, use_bias=False)
    >>> net.initialize(mx.init.One())
    >>> trainer = gluon.Trainer(net.collect_params(), 'namsg', {'learning_rate': 0.1, 'eta': 0.9})
    >>> for _ in range(3):
    ...     with autograd.record():
    ...         output = net(nd.array([[1.0, -0.01]]))
    ...     output.backward()
    ...     trainer.step(1)
    ...     print(net.weight.data().asnumpy().round(3))
    [[0.81 1.19]]
    [[0.618 1.382]]
    [[0.418 1.582]]
    """

    STATE = ("m", "v", "v_hat")
    DEFAULT_LEARNING_RATE = 0.002
    _scale = None   # alpha_hat / alpha of the switch, once it is computed

    def __init__(self, learning_rate: Optional[ScalarOrSchedule] = None, beta1: ScalarOrSchedule = 0.9,
                 beta2: float = 0.99, epsilon: float = 1e-8, eta: Optional[ScalarOrSchedule] = None,
                 mu: Optional[ScalarOrSchedule] = None,
                 switch_to_sgd: Optional[int] = None, **kwargs):
        super().__init__(learning_rate, beta1, **kwargs)
        _check_one_of(eta, mu)
        self.beta2 = check_number("beta2", beta2, DECAY_RATE)
        self.epsilon = check_number("epsilon", epsilon, EPSILON)
        self.mu = None if mu is None else check_setting("mu", mu, NONNEGATIVE)
        self.eta = None if mu is not None else check_setting("eta", 0.9 if eta is None else eta, NONNEGATIVE)
        self._switch = None              # k of the first update by SGD
        self._switch_sums: dict = {}     # by parameter index: its two sums for alpha_hat, from the update before
        self._is_on_servers = False      # whether servers have a copy of this, which makes the updates
        if switch_to_sgd is not None:
            self.switch_to_sgd(switch_to_sgd)

    def _first_value(self, name):
        return check_number("epsilon", self.epsilon, EPSILON) if name == "v_hat" else super()._first_value(name)

    def switch_to_sgd(self, at: int) -> None:
        """Switch to SGD at update k = ``at``: SWNTS, Section 5.2. The paper switches at 3000 on CIFAR-10.

        From then on updates do not divide by sqrt(v_hat). v and v_hat stay as they are; m and eta go on as before.
        SGD's step size comes from update ``at - 1``, over all the parameters together::

            m_hat = (1 - mu) * m + mu * g,    u = alpha * lr_mult * m_hat / sqrt(v_hat)
            alpha_hat = ||u||**2 / <lr_mult * m_hat, u>

        A later decay of the learning rate decays SGD's step size, too. ``lr_mult`` still multiplies each parameter's
        step. Parameters that update ``at - 1`` skips do not contribute to alpha_hat. The ndarray kernel makes update
        ``at - 1``.

        Parameters
        ----------
        at : int
            Number of updates before the first by SGD: at least 1, and more than were made so far.

        Raises
        ------
        ValueError
            If update ``at`` is the next or was made already: alpha_hat comes from the update before. If this optimizer
            has switched. Also with updates on the servers of a distributed kvstore, none of which sees all the
            parameters; it is raised when the optimizer is sent to them, or here afterwards. Use
            ``update_on_kvstore=False``.
        RuntimeError
            By update ``at``: if update ``at - 1`` was not made, or its steps were all 0, or one was not finite.
        """
        if self._is_on_servers:
            raise ValueError(f"switch_to_sgd={at!r}: {ON_SERVERS}")
        if self._switch is not None and self.num_update > self._switch:
            raise ValueError(f"switch_to_sgd={at!r}: switched at update {self._switch} already")
        if isinstance(at, bool) or not isinstance(at, Integral) or at <= self.num_update:
            raise ValueError(f"switch_to_sgd={at!r}: must be an integer above {self.num_update}, "
                             "the number of updates made so far")
        self._switch = at
        self._switch_sums = {}
        self._scale = None

    def __reduce_ex__(self, protocol):
        # A server would print the error and go on, and a switch that is set here later would not reach it. Only the
        # caller tells that this pickle is for the servers.
        if protocol == 0 and sys._getframe(1).f_code is KVStore.set_optimizer.__code__:
            if self._switch is not None:
                raise ValueError(f"switch_to_sgd={self._switch}: {ON_SERVERS}")
            self._is_on_servers = True
        return super().__reduce_ex__(protocol)

    def __getstate__(self):
        return dict(super().__getstate__(), _is_on_servers=False, _switch_sums=dict(self._switch_sums))

    def _kernel_of(self, k):
        return "ndarray" if self._measures_switch(k) else super()._kernel_of(k)

    def settings(self, k: int) -> Settings:
        alpha, beta1, *_ = super().settings(k)
        eta, mu_beta1 = self._observation(k, beta1)
        return Settings(alpha, beta1, eta, self._sgd_learning_rate(k, alpha), mu_beta1)

    def _step(self, k, settings, indices, lrs, wds):
        beta1, mu_beta1 = settings.beta1, settings.mu_beta1
        m_factor, g_factor = beta1 - mu_beta1, 1 - beta1 + mu_beta1   # line 7, by the m before line 4
        sgd_scale = self._sgd_scale(k)
        if sgd_scale is not None:
            return Step(self._scalars(beta1, self.beta2, "none"),
                        Coefficients([lr * sgd_scale for lr in lrs], wds, m_factor, g_factor))
        return Step(self._scalars(beta1, self.beta2, "v_hat", divisor_limits=self._divisor_limits(k, settings)),
                    Coefficients(lrs, wds, m_factor, g_factor), measure=self._measures_switch(k))

    def _observation(self, k, beta1):
        """Return eta and mu * beta1 of update k; line 7 is m + mu * beta1 * (g - m_before)."""
        _check_one_of(self.eta, self.mu)
        if self.mu is not None:
            mu_beta1 = value_at("mu", self.mu, k, NONNEGATIVE) * beta1
            return mu_beta1 / (1 - beta1), mu_beta1
        eta = value_at("eta", self.eta, k, NONNEGATIVE)
        return eta, eta * (1 - beta1) if beta1 > 0 else 0.0

    def _divisor_limits(self, k, settings):
        """The limits of sqrt(v_hat) in update k."""
        return LEAST_ROOT, math.inf

    def _sgd_learning_rate(self, k, alpha):
        """SGD's step size at update k, or None before the switch."""
        sgd_scale = self._sgd_scale(k)
        return sgd_scale and alpha * sgd_scale

    def _measures_switch(self, k):
        return self._switch is not None and k == self._switch - 1

    def _keep_switch_sums(self, indices, lrs, sums):
        """Keep each parameter's sums for alpha_hat as numbers: waits for the device, in this update only."""
        self._scale = None
        for i, lr, pair in zip(indices, lrs, sums):
            if pair is not None:
                self._switch_sums[i] = [lr**2 * float(total.asscalar()) for total in pair]

    def _sgd_scale(self, k):
        """alpha_hat / alpha, in which alpha cancels, or None before the switch."""
        if self._switch is None or k < self._switch:
            return None
        if self._scale is None:
            self._scale = self._measured_scale()
        return self._scale

    def _measured_scale(self):
        squared_norm, inner_product = map(sum, zip(*self._switch_sums.values())) if self._switch_sums else (0.0, 0.0)
        if not (0 < squared_norm < math.inf and 0 < inner_product < math.inf):
            raise RuntimeError(f"switch_to_sgd={self._switch}: SGD's step size comes from update {self._switch - 1}, "
                               "which this optimizer did not make, or which changed no weight, or made one infinite "
                               "or NaN; switch_to_sgd(later) puts the switch off")
        return squared_norm / inner_product


def _check_one_of(eta, mu):
    if eta is not None and mu is not None:
        raise ValueError(f"eta={eta!r} and mu={mu!r}: give at most one of the two")
