"""The update kernels: the element step on arrays and scalars. Nothing here knows optimizers.

A kernel is a module with two functions:

``unsupported(context, dtype)``
    None, or why the kernel does not run on such arrays.
``bind(weights, grads, states, lazy_update)``
    Bind the arrays of a step, once for many steps. SharedMemoryError if a fused kernel cannot update them at once, as
    they overlap. The object returned has two methods:

    ``step(scalars, coefficients, count)``
        Make one step: change weights and states in place, leave the gradients' values alone, and add the number of
        non-finite gradient elements to ``count``, an int64 NDArray of one element. Waits for nothing but the row
        numbers of sparse gradients. The ndarray kernel's also takes ``measure``, for the switch to SGD.
    ``rebind(grads)``
        Take these gradients in place of the bound ones. True if it did; False if the caller must bind anew.
"""

import warnings
from functools import lru_cache
from typing import NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from namsg_mx.kernels import cpu, cuda, ndarray
from namsg_mx.kernels.memory import SharedMemoryError

KERNELS = {"cuda": cuda, "cpu": cpu, "ndarray": ndarray}   # the fastest first


class Scalars(NamedTuple):
    """The numbers that all the arrays of a step share; step.h has the step.

    ``clip_gradient``, ``bounds`` and ``divisor_limits`` may be None. ``division`` says what divides the step: the root
    of 'v_hat' or of 'v', clipped to the ``divisor_limits``, or 'none' for SGD. With ``skip_nonfinite``, an element
    with a non-finite gradient keeps its weight and state.
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
    """The numbers of each array of a step: a sequence with one for each array, or one float for all.

    The step, before any division, is m_factor * m_before + g_factor * g.
    """

    lr: Sequence[float]
    wd: Sequence[float]
    m_factor: Union[float, Sequence[float]]
    g_factor: Union[float, Sequence[float]]
    v_scale: Union[float, Sequence[float]] = 1.0


def choose(name, context, dtype):
    """The name of the kernel to run: ``name``, or for 'auto' the fastest. RuntimeError if ``name`` cannot run.

    Warns once (RuntimeWarning) if 'auto' is the slow one because a compiled kernel did not load.
    """
    if name == "auto":
        chosen = next(kernel for kernel, module in KERNELS.items() if module.unsupported(context, dtype) is None)
        if chosen == "ndarray" and dtype in (np.float16, np.float32):
            compiled = "cuda" if context.device_type == "gpu" else "cpu"
            _warn_of_slow_kernel(compiled, KERNELS[compiled].unsupported(context, dtype))
        return chosen
    reason = KERNELS[name].unsupported(context, dtype)
    if reason is not None:
        raise RuntimeError(f"kernel={name!r}: {reason}")
    return name


@lru_cache(maxsize=None)
def _warn_of_slow_kernel(compiled, reason):
    warnings.warn(f"kernel {compiled!r} {reason}; updates take MXNet's array operations instead, which are many times "
                  "slower (kernel='ndarray' does so without this warning)", RuntimeWarning, stacklevel=2)


def bind(name, weights, grads, states, lazy_update):
    """The name of the kernel to run (see `choose`), and the arrays bound for it.

    If arrays overlap, 'auto' takes the ndarray kernel, and a fused kernel that is named raises SharedMemoryError.
    """
    chosen = choose(name, weights[0].context, weights[0].dtype)
    try:
        return chosen, KERNELS[chosen].bind(weights, grads, states, lazy_update)
    except SharedMemoryError:
        if name != "auto":
            raise
    return "ndarray", ndarray.bind(weights, grads, states, lazy_update)
