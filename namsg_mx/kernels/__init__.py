"""The update kernels: the element step on arrays and scalars, which knows nothing of optimizers.

A kernel is a module with two functions:

``unsupported(context, dtype)``
    None, or why it does not run on such arrays.
``bind(weights, grads, states, lazy_update)``
    The arrays of one step, bound for many steps: an object whose ``step(scalars, coefficients, count)`` makes one,
    changing weights and states in place. It adds the number of gradient elements that are not finite to ``count``, an
    int64 NDArray of one element, waits for nothing but the row numbers of sparse gradients, and leaves the gradients'
    values alone. The ndarray kernel's also takes ``measure``, for the switch to SGD. ``rebind(grads)`` takes other
    gradients, if they are like those before and the kernel gains by it, and returns whether it did. A fused kernel
    raises SharedMemoryError for arrays that it cannot update at once.
"""

from typing import NamedTuple, Optional, Sequence, Tuple, Union

from namsg_mx.kernels import cpu, cuda, ndarray
from namsg_mx.kernels.memory import SharedMemoryError

KERNELS = {"cuda": cuda, "cpu": cpu, "ndarray": ndarray}   # the fastest first


class Scalars(NamedTuple):
    """What all the arrays of a step share. The step itself stands in step.h.

    ``clip_gradient``, ``bounds`` and ``divisor_limits`` may be None. ``division`` says what divides the step: the root
    of 'v_hat' or 'v', clipped to the ``divisor_limits``, or, for SGD, 'none'. ``skip_nonfinite``: an element whose
    gradient is not finite keeps its weight and state.
    """

    rescale_grad: float
    clip_gradient: Optional[float]
    beta1: float
    beta2: float
    epsilon: float
    division: str
    decoupled_wd: bool
    bounds: Optional[Tuple[float, float]]
    skip_nonfinite: bool
    divisor_limits: Optional[Tuple[float, float]] = None


class Coefficients(NamedTuple):
    """What belongs to each array of a step: a sequence of numbers, or one float for all the arrays.

    ``m_factor`` and ``g_factor`` make the step from the m before this update and from g.
    """

    lr: Sequence[float]
    wd: Sequence[float]
    m_factor: Union[float, Sequence[float]]
    g_factor: Union[float, Sequence[float]]
    v_scale: Union[float, Sequence[float]] = 1.0


def choose(name, context, dtype):
    """The name of the kernel to run: ``name`` or, with 'auto', the fastest. RuntimeError if it cannot run."""
    if name == "auto":
        return next(kernel for kernel, module in KERNELS.items() if module.unsupported(context, dtype) is None)
    reason = KERNELS[name].unsupported(context, dtype)
    if reason is not None:
        raise RuntimeError(f"kernel={name!r}: {reason}")
    return name


def bind(name, weights, grads, states, lazy_update):
    """The name of the kernel to run, see `choose`, and the arrays bound for it.

    With 'auto', arrays that overlap take the ndarray kernel. SharedMemoryError if a fused one is named for them.
    """
    chosen = choose(name, weights[0].context, weights[0].dtype)
    try:
        return chosen, KERNELS[chosen].bind(weights, grads, states, lazy_update)
    except SharedMemoryError:
        if name != "auto":
            raise
    return "ndarray", ndarray.bind(weights, grads, states, lazy_update)
