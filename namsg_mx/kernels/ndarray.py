"""The element steps in MXNet's own array operations: right on every device and dtype, and slower than a fused kernel.

The functions here run asynchronously, like all of MXNet's; none waits for a result.
"""

from mxnet.ndarray import broadcast_maximum, clip, sqrt, where


def gradient(weight, grad, wd, scalars):
    """The g of a step, a new array: rescale, weight decay (unless decoupled), clip, in the order of MXNet's Adam."""
    g = grad * scalars.rescale_grad
    if wd and not scalars.decoupled_wd:
        g += wd * weight
    if scalars.clip_gradient is not None:
        clip(g, -scalars.clip_gradient, scalars.clip_gradient, out=g)
    return g


def nonfinite(grad):
    """1 where ``grad`` is infinite or not a number, else 0, in grad's dtype."""
    return grad * 0 != 0


def step(weights, grads, states, lrs, wds, scalars):
    """One step of Algorithm 1, line 4 on, on each array (arguments: see the package). Returns the count, shape (1,)."""
    return sum(_step_array(*array, scalars) for array in zip(weights, grads, states, lrs, wds))


def _step_array(weight, grad, state, lr, wd, scalars):
    bad = nonfinite(grad)
    assign = _assign_where_not(bad) if scalars.skip_nonfinite else _assign
    g = gradient(weight, grad, wd, scalars)
    m = state[0]
    assign(m, scalars.beta1 * m + (1 - scalars.beta1) * g)
    update = (1 - scalars.mu) * m + scalars.mu * g
    if scalars.adaptive:
        _, v, v_hat = state
        assign(v, scalars.beta2 * v + (1 - scalars.beta2) * g * g)
        broadcast_maximum(v_hat, v, out=v_hat)
        update /= sqrt(v_hat)
    _move(weight, update, lr, wd, scalars, assign)
    return bad.sum()


def nadam_step(weights, grads, states, lrs, wds, scalars, biases, epsilon):
    """One step of NADAM, Dozat 2016, on each array with state ``[m, v]``; ``scalars.mu`` is not used.

    ``biases`` has an array's (m_coefficient, g_coefficient, v_correction): the factors of m and of g in Dozat's m_bar,
    and 1 - beta2**t. Returns the count of gradients that are not finite, shape (1,).
    """
    return sum(_nadam_step_array(*array, scalars, epsilon) for array in zip(weights, grads, states, lrs, wds, biases))


def _nadam_step_array(weight, grad, state, lr, wd, bias, scalars, epsilon):
    m_coefficient, g_coefficient, v_correction = bias
    bad = nonfinite(grad)
    assign = _assign_where_not(bad) if scalars.skip_nonfinite else _assign
    g = gradient(weight, grad, wd, scalars)
    m, v = state
    assign(m, scalars.beta1 * m + (1 - scalars.beta1) * g)
    assign(v, scalars.beta2 * v + (1 - scalars.beta2) * g * g)
    update = (m_coefficient * m + g_coefficient * g) / (sqrt(v / v_correction) + epsilon)
    _move(weight, update, lr, wd, scalars, assign)
    return bad.sum()


def _move(weight, update, lr, wd, scalars, assign):
    """Line 8 of Algorithm 1: the weight against ``update``, then the projection on the box."""
    start = weight * (1 - lr * wd) if wd and scalars.decoupled_wd else weight
    moved = start - lr * update
    assign(weight, moved if scalars.bounds is None else clip(moved, *scalars.bounds))


def _assign(array, values):
    values.copyto(array)


def _assign_where_not(mask):
    def assign(array, values):
        where(mask, array, values, out=array)
    return assign


def switch_sums(state, g, skipped, mu):
    """Sums over an array of m_hat**2 / v_hat and of m_hat**2 / sqrt(v_hat), without elements where ``skipped`` is 1."""
    m, _, v_hat = state
    m_hat = (1 - mu) * m + mu * g
    if skipped is not None:
        m_hat = where(skipped, m_hat.zeros_like(), m_hat)
    squares = m_hat * m_hat
    return (squares / v_hat).sum(), (squares / sqrt(v_hat)).sum()
