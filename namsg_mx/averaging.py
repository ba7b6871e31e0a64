"""An exponential moving average of a network's parameters, for evaluation only."""

import contextlib
import os
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Mapping, Tuple, Union

import numpy as np
from mxnet.base import MXNetError
from mxnet.ndarray import NDArray, multi_sgd_update, waitall
from mxnet.ndarray import load as load_arrays
from mxnet.ndarray import save as save_arrays

from namsg_mx.checks import DECAY_RATE, check_number

if TYPE_CHECKING:   # not in a server of a kvstore, which imports this while MXNet is being imported
    from mxnet.gluon import Parameter

ARRAYS_AT_ONCE = 60   # in multi_sgd_update, which crashes without a check if there are more
PRECISIONS = (np.float32, np.float64)   # of averages


class ParameterAverage:
    """Smoothed parameters, with which SWNTS1 is tested. (Section 5.2; it does not give the decay.)

    After each update of the network::

        average = decay * average + (1 - decay) * parameter

    It starts as the parameters when this object is made. After t updates these first values still have the weight
    decay**t: there is no bias correction. Training never sees the average.

    float32 loses changes of less than half a unit in the last place. So if the parameters rest, the
    average stops 6e-8 / (1 - decay) of their size short of them: 6e-5 with decay 0.999, 6e-4 with 0.9999.

    BatchNorm's running mean and variance are averaged like the parameters. The result is not the averaged network's own
    statistics, and far from them if the weights move much in 1 / (1 - decay) updates: see `namsg_mx.update_batch_norm`.

    Parameters
    ----------
    params : mxnet.gluon.ParameterDict or iterable of mxnet.gluon.Parameter
        Initialised and dense, and not in bfloat16; ``net.collect_params()`` includes BatchNorm's statistics. If they
        are on several contexts, the average is of those on the first. Integers are copied instead.
    decay : float
        In [0, 1).

    Raises
    ------
    ValueError
        If ``decay`` is out of range.
    TypeError
        If ``params`` is a network. Also for bfloat16, in `update` at the latest.
    RuntimeError
        By Gluon, if a parameter is not initialised (its shape may not be known yet), or row_sparse.

    State: one array for each parameter in its shape and dtype (float32 for float16), also after ``net.cast``; see
    `save` and `load`.

    Example
    -------
    >>> net = gluon.nn.Dense(1, in_units=1, use_bias=False)
    >>> net.initialize(mx.init.One())
    >>> average = ParameterAverage(net.collect_params(), decay=0.75)
    >>> net.weight.set_data(nd.array([[5.0]]))   # stands for a Trainer's step
    >>> average.update()
    >>> with average.in_place():
    ...     print(net(nd.array([[1.0]])).asnumpy())
    [[2.]]
    >>> print(net(nd.array([[1.0]])).asnumpy())
    [[5.]]
    """

    def __init__(self, params: "Union[Mapping[str, Parameter], Iterable[Parameter]]", decay: float = 0.999):
        self.decay = check_number("decay", decay, DECAY_RATE)
        if hasattr(params, "collect_params"):
            raise TypeError("params: is a network; give its collect_params()")
        self._params = list(params.values() if hasattr(params, "values") else params)
        self._average = [_at_least_single(arrays[0]).copy() for arrays in replicas_of(self._params)]

    def update(self) -> None:
        """Move the average towards the parameters as they are now. The decay is a float32, whatever their precision.

        Waits for all pending work if some parameters have no gradient, as BatchNorm's statistics.

        It is a step of SGD on (average - parameter)**2 / 2: MXNet makes it for many arrays in one engine operation.
        """
        current = self._follow()
        groups: "Dict[type, List[Tuple[NDArray, NDArray]]]" = {}   # by dtype, which is slow to ask for
        for pair in zip(self._average, current):
            groups.setdefault(pair[0].dtype, []).append(pair)
        for dtype, pairs in groups.items():
            if dtype not in PRECISIONS or self.decay == 0:
                for average, array in pairs:
                    array.copyto(average)
                continue
            for start in range(0, len(pairs), ARRAYS_AT_ONCE):
                some = pairs[start:start + ARRAYS_AT_ONCE]
                multi_sgd_update(*[array for pair in some for array in pair], num_weights=len(some), rescale_grad=-1.0,
                                 lrs=[1 - self.decay] * len(some), wds=[1.0] * len(some),
                                 out=[average for average, _ in some])

    def _follow(self):
        """The parameters as they are now; the average takes their precisions and contexts."""
        current = [_at_least_single(arrays[0]) for arrays in replicas_of(self._params)]
        self._average = [average.astype(array.dtype, copy=False).as_in_context(array.context)
                         for average, array in zip(self._average, current)]
        return current

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters on all their contexts are the average; afterwards they are as before, to the bit.

        An update of the network inside would be lost.
        """
        # Not by Parameter.set_data: it would change the kvstore's weights, too.
        arrays = replicas_of(self._params)
        kept = [[array.copy() for array in replicas] for replicas in arrays]
        try:
            for average, replicas in zip(self._average, arrays):
                # Cast first, as MXNet's copies between GPUs do not convert.
                values = average.astype(replicas[0].dtype, copy=False)
                for array in replicas:
                    values.copyto(array)
            yield
        finally:
            for copies, replicas in zip(kept, replicas_of(self._params)):   # the network may have been cast or moved
                for i, array in enumerate(replicas):
                    copy = copies[i] if i < len(copies) else copies[0]
                    copy.astype(array.dtype, copy=False).copyto(array)

    def save(self, filename: "Union[str, os.PathLike]") -> None:
        """Write the average to a file, in MXNet's format."""
        self._follow()
        save_arrays(os.fspath(filename), self._average)

    def load(self, filename: "Union[str, os.PathLike]") -> None:
        """Restore the average that `save` wrote: to the bit, unless the parameters were cast since.

        OSError if the file cannot be read; ValueError if it holds anything else, or the average of other parameters.
        """
        with open(filename, "rb"):   # for a missing file, MXNet's error is a trace of its C++
            pass
        try:
            saved = load_arrays(os.fspath(filename))
        except MXNetError as error:
            raise ValueError(f"{filename}: is no saved average, or not all of one") from error
        self._follow()
        if isinstance(saved, dict):
            raise ValueError(f"{filename}: holds named arrays, for instance a network's parameters, and no average")
        found, expected = ([array.shape for array in arrays] for arrays in (saved, self._average))
        if found != expected:
            raise ValueError(f"{filename}: holds the average of other parameters (shapes {found}, not {expected})")
        for array, average in zip(saved, self._average):
            array.astype(average.dtype, copy=False).copyto(average)


def replicas_of(params):
    """Each parameter's arrays: with npx.set_np() their legacy views, which the operators here need.

    Waits for all pending work if there are statistics of BatchNorm: MXNet's engine does not know that the backward pass
    of a network hybridized with static_shape=True writes them, and would read them before.
    """
    if any(parameter.grad_req == "null" for parameter in params):
        waitall()
    return [[array.as_nd_ndarray() for array in parameter.list_data()] for parameter in params]


def _at_least_single(array):
    """The array, as float32 if it is float16, in which an average's small changes would vanish. TypeError for bfloat16.
    """
    if np.dtype(array.dtype).kind == "V":
        raise TypeError("params: are in bfloat16, of which there is no average")
    return array.astype(np.float32) if array.dtype == np.float16 else array
