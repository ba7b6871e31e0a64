"""The update kernels: element steps on arrays and scalars, which know nothing of optimizers.

A kernel makes one step on any number of arrays: ``step(weights, grads, states, lrs, wds, scalars)`` changes the weights
and the states ``[m, v, v_hat]`` in place and returns the number of gradient elements that were not finite. Gradients
stay as they were.
"""

from typing import NamedTuple, Optional, Tuple


class Scalars(NamedTuple):
    """The numbers of one step that all its arrays share.

    ``rescale_grad``, ``clip_gradient`` (None: no clipping), ``bounds`` (None: no projection) and ``decoupled_wd`` are
    the optimizer's; ``beta1``, ``beta2`` and ``mu`` are those of Algorithm 1. ``adaptive`` is False for SGD: no
    division by sqrt(v_hat), and states of ``[m]`` alone are enough. ``skip_nonfinite`` leaves the weight and the state
    of an element untouched whose gradient is not finite.
    """

    rescale_grad: float
    clip_gradient: Optional[float]
    beta1: float
    beta2: float
    mu: float
    adaptive: bool = True
    decoupled_wd: bool = False
    bounds: Optional[Tuple[float, float]] = None
    skip_nonfinite: bool = False


KERNELS = ("auto", "ndarray")


def check(name):
    """ValueError unless ``name`` is a kernel of this installation."""
    if name not in KERNELS:
        raise ValueError(f"kernel={name!r}: must be one of {', '.join(map(repr, KERNELS))}")
