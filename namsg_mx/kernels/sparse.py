"""row_sparse gradients and weights, as all kernels take them."""

from contextlib import contextmanager, nullcontext

import numpy as np
from mxnet.base import MXNetError
from mxnet.ndarray import array as make_array
from mxnet.ndarray import from_dlpack, to_dlpack_for_write
from mxnet.ndarray.sparse import RowSparseNDArray, row_sparse_array


def dense_views(weights):
    """Context of the weights, with dense views instead of row_sparse ones."""
    is_any_sparse = any(isinstance(weight, RowSparseNDArray) for weight in weights)
    return _dense_views(weights) if is_any_sparse else nullcontext(weights)


@contextmanager
def _dense_views(weights):
    """MXNet's engine does not know that weight and view share memory. So this waits for pending work: on the weight
    before, and on the view afterwards.
    """
    views = [_dense_view(weight) if isinstance(weight, RowSparseNDArray) else weight for weight in weights]
    try:
        yield views
    finally:   # also if an update raises an error when a part of it is under way
        for weight, view in zip(weights, views):
            if view is not weight:
                view.wait_to_read()


def _dense_view(weight):
    """A dense array in the memory of a row_sparse one. Rows that MXNet has not made yet become zeros first."""
    view = from_dlpack(to_dlpack_for_write(weight))   # only the rows that exist
    if view.shape != weight.shape:
        rows = row_sparse_array((weight.tostype("default"), np.arange(weight.shape[0])), weight.shape, weight.context,
                                weight.dtype)
        rows.copyto(weight)
        view = from_dlpack(to_dlpack_for_write(weight))
    return view


def rows_and_values(grad, lazy_update):
    """A gradient's row numbers (an NDArray; None: all rows) and the values of these rows (a dense array).

    If a row_sparse gradient has a row several times, its values are added up. MXNetError if a row does not exist.
    """
    if grad.stype == "default":
        return None, grad
    grad, _ = with_distinct_rows(grad)
    return (grad.indices, grad.data) if lazy_update else (None, grad.tostype("default"))


def with_distinct_rows(grad):
    """A row_sparse gradient with ascending rows, and their numbers (a NumPy array).

    MXNet's operators rely on ascending rows and do not check.
    """
    rows, count = grad.indices.asnumpy(), grad.shape[0]
    if rows.size and not 0 <= rows.min() <= rows.max() < count:
        raise MXNetError(f"a row_sparse gradient has rows {rows.min()} to {rows.max()}, "
                         f"and the weight has rows 0 to {count - 1}")
    if (np.diff(rows) > 0).all():
        return grad, rows
    distinct, places = np.unique(rows, return_inverse=True)
    values = grad.data.asnumpy()
    sums = np.zeros((len(distinct), *values.shape[1:]), np.promote_types(values.dtype, np.float32))
    np.add.at(sums, places, values)
    sums = make_array(sums, grad.context, values.dtype)
    return row_sparse_array((sums, distinct), grad.shape, grad.context, values.dtype), distinct
