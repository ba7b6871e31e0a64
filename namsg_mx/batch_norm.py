"""BatchNorm's running statistics, moved to those of given batches."""

from typing import TYPE_CHECKING, Iterable

from mxnet.autograd import record
from mxnet.ndarray import NDArray, waitall

from namsg_mx.averaging import replicas_of

if TYPE_CHECKING:   # not in a server of a kvstore, which imports this while MXNet is being imported
    from mxnet.gluon import Block


def update_batch_norm(net: "Block", batches: Iterable) -> None:
    """Update BatchNorm's running mean and variance as training on these batches does; the rest of the net stays.

    For parameters that were not trained as they are: an average's, or those of stochastic weight averaging (Izmailov
    et al. 2018, Section 3.2). After n batches the former statistics keep the weight momentum**n; Gluon's momentum is
    0.9.

    Parameters
    ----------
    net : mxnet.gluon.Block
        Takes one array. Dropout acts, and draws random numbers, as in training.
    batches : iterable of mxnet.ndarray.NDArray
        Inputs, in batches of the same size as in training. If the parameters are on several contexts, all get the
        statistics of the one where the batches are.

    Raises
    ------
    ValueError
        If no parameter of the net has a gradient: there is no backward pass then, in which MXNet moves the statistics.
        If the batches are on several contexts of the parameters: each would move its own statistics. If the net
        returns no array.
    RuntimeError
        If a parameter has no array yet, or is row_sparse.

    Example
    -------
    >>> net = gluon.nn.BatchNorm(in_channels=1)
    >>> net.initialize()
    >>> update_batch_norm(net, [nd.array([[1.0], [3.0]])] * 2)
    >>> net.running_mean.data().asnumpy().round(3)   # 0 at first; 0.1 of the batch's mean in each
    array([0.38], dtype=float32)
    """
    params = net.collect_params().values()
    trained = [p for p in params if p.grad_req != "null"]
    if not trained:
        raise ValueError("net: has grad_req='null' in all its parameters, and MXNet moves no statistics then")
    weights = [array for p in trained for array in p.list_data()]
    gradients = [array for p in trained for array in p.list_grad()]
    kept = [(gradient.copy(), weight._fresh_grad) for weight, gradient in zip(weights, gradients)]
    replicated = replicas_of([p for p in params if not p._differentiable and p._data and len(p.list_ctx()) > 1])
    before = [[array.asnumpy() for array in replicas] for replicas in replicated]
    try:
        for batch in batches:
            with record():   # one sum, as some outputs may be outside of the graph
                sums = [array.astype("float32").sum() for array in _arrays_in(net(batch))]
                if not sums:
                    raise ValueError("net: returns no array")
                total = sum(sums)
            total.backward()    # MXNet's BatchNorm moves its statistics here
            waitall()           # or all the batches would be in memory at once
    finally:
        for (copy, is_fresh), weight, gradient in zip(kept, weights, gradients):
            copy.copyto(gradient)
            weight._fresh_grad = is_fresh   # a Trainer's mark: it has not used this gradient yet
        for replicas, values in zip(replicated, before):
            _copy_moved(replicas, values)


def _copy_moved(replicas, before):
    """Give all replicas of a statistic the values of the one that has moved; ValueError if several have."""
    moved = [array for array, values in zip(replicas, before) if array.asnumpy().tobytes() != values.tobytes()]
    if len(moved) > 1:
        raise ValueError(f"batches: are on {' and '.join(str(array.context) for array in moved)}; give them on one "
                         "context")
    for array in replicas:
        if moved and array is not moved[0]:
            moved[0].copyto(array)


def _arrays_in(outputs):
    """The arrays in a network's output: any nesting of lists, tuples and dicts, which may hold other things, too."""
    if isinstance(outputs, NDArray):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, (list, tuple)) else ()
    return [array for part in parts for array in _arrays_in(part)]
