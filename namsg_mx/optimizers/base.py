"""What the optimizers here share: lists of arrays, precisions, sparse gradients, counts, settings. No equation."""

import math
from operator import is_
from typing import NamedTuple, Optional

import numpy as np
from mxnet.context import cpu
from mxnet.lr_scheduler import LRScheduler
from mxnet.ndarray import NDArray, full, zeros
from mxnet.optimizer import Optimizer

from namsg_mx import kernels
from namsg_mx.kernels.fused import is_same_array
from namsg_mx.kernels.projection import limits
from namsg_mx.kernels.sparse import dense_views
from namsg_mx.optimizers.arguments import (
    DECAY_RATE,
    FINITE,
    NONNEGATIVE,
    check_bounds,
    check_choice,
    check_clip,
    check_count,
    check_flag,
    check_names,
    check_number,
    check_setting,
    value_at,
)

ALL_AT_ONCE = 2**31 - 1   # aggregate_num: the Updater hands over all the arrays of one dtype in one call
UNCHOSEN_BASE_LR = (None, LRScheduler().base_lr)   # of a scheduler that was given none


class LastUpdate(NamedTuple):
    """What ran in the latest update; ``None`` where a method has no such thing.

    ``kernel`` ran update ``k`` (0 for the first) with step size ``learning_rate`` (before ``lr_mult``), ``beta1`` and
    ``eta``. ``sgd_learning_rate`` is the step size of SGD where `NAMSG` has switched to it, or that `NAMSB` tends to.
    ``nonfinite`` counts the gradient elements (rescaled) that were not finite, or whose square was not where the update
    divides by v or v_hat, in all updates so far and in one replica of the parameters.
    """

    kernel: str
    k: int
    learning_rate: float
    beta1: float
    eta: Optional[float]
    sgd_learning_rate: Optional[float]
    nonfinite: int


class ScheduledLearningRate(LRScheduler):
    """A schedule of the update number, in the form in which MXNet asks for it: by ``num_update``, from 1."""

    def __init__(self, schedule):
        super().__init__(base_lr=math.nan)   # which the schedule does not know
        self.schedule = schedule

    def __call__(self, num_update):
        return value_at("learning_rate", self.schedule, max(num_update - 1, 0), NONNEGATIVE)


def filled(weight, value):
    """A new array like ``weight`` with ``value`` in all its elements.

    Like `in_precision` made on the CPU and copied: MXNet's operators do not run on GPUs newer than it, copies do.
    """
    return full(weight.shape, value, cpu(), weight.dtype).as_in_context(weight.context)


def in_precision(values, dtype):
    """A copy of an array in another dtype."""
    return values.as_in_context(cpu()).astype(dtype).as_in_context(values.context)


class Binding(NamedTuple):
    """The arrays of an update on one device: their form for a kernel, that kernel's name, and their count.

    ``count`` is what their non-finite gradients are added to, and ``replica_count`` where another device has counted
    them already.
    """

    indices: list
    arrays: object
    kernel: str
    count: NDArray
    replica_count: NDArray


class Call:
    """What an update was given, and its `Binding` for each device: more than one in model parallelism alone.

    ``num_update`` is the optimizer's at the latest update that was given this. ``kept`` are weights and states.
    """

    def __init__(self, indices, weights, grads, states, lazy_update, bindings):
        self.indices, self.grads, self.bindings = list(indices), list(grads), bindings
        self.kept = _kept(weights, states)
        self.lazy_update, self.num_update = lazy_update, 0

    def takes(self, indices, weights, grads, states):
        """Whether an update of these arrays is this one, or has become it by other gradients, as some programs make."""
        if self.indices != list(indices) or not _are_same(self.kept, _kept(weights, states)):
            return False
        if not _are_same(self.grads, grads):
            if not all(isinstance(grad, NDArray) for grad in grads):   # an error
                return False
            if len(self.bindings) > 1 or not self.bindings[0].arrays.rebind(grads):
                return False
            self.grads = list(grads)
        return True


class ElementwiseOptimizer(Optimizer):
    """Base of the optimizers whose step treats each element of the parameters by itself.

    A subclass names its state arrays in ``STATE`` and defines ``_step``. The state of a parameter is the list of these
    arrays in the weight's shape, float32 for float16 weights, which then have a float32 master copy of the weight at
    the list's end.

    Parameters
    ----------
    learning_rate : float, schedule or None
        Step size alpha, in [0, inf). None: ``lr_scheduler``'s, else the method's default. A schedule is a picklable
        function of k = 0, 1, ..., the number of updates before this one (`namsg_mx.schedules`). Where a step leaves out
        parameters, that is how many the parameter has had that had the most, as MXNet counts.
    beta1 : float or schedule
        Decay rate of the momentum, in [0, 1).
    bounds : (float, float) or None
        Box F = [low, high] on which each step projects every weight (Pi_F in Algorithm 1); None: no projection. The
        limits are rounded inward to the precision of the weights; an update raises ValueError if they leave no number.
    decoupled_wd : bool
        False: the gradient gets ``wd * weight`` added. True: the step gets ``alpha * wd * weight`` added instead, alpha
        the step size of that update with ``lr_mult``.
    lazy_update : bool
        For row_sparse gradients. False: rows that are not in the gradient have gradient 0. True: they and their state
        stay as they are.
    nonfinite : {'propagate', 'skip'}
        What a gradient element does that is infinite or not a number, or, in an update that divides by v or v_hat,
        whose square is infinite (in float32 from 1.8e19 on): go on into state and weight, as in MXNet, where the former
        makes the weight NaN, and the latter makes ``v_hat`` infinite, or so large that the weight practically never
        moves again (not with ``clip_gradient``, which comes after this judgement and before the state, nor with
        `NAMSB`, whose limits hold); or leave weight and state of that element untouched. `last_update` has their number
        in either case.
    kernel : {'auto', 'cuda', 'cpu', 'ndarray'}
        The implementation of the step: 'auto' is the fastest for their device and dtype; one that is named runs, or the
        first update raises RuntimeError with the reason. `last_update` tells which one ran.
    lr_scheduler : mxnet.lr_scheduler.LRScheduler, optional
        MXNet's own, or any picklable callable with a ``base_lr``. As in MXNet, a number given as ``learning_rate``
        overwrites the scheduler's ``base_lr``. So does the method's default where no ``base_lr`` was chosen, that is,
        where it is None or MXNet's 0.01; MXNet's Adam overwrites any by its default.
    rescale_grad, wd, clip_gradient, begin_num_update, multi_precision, ...
        As in `mxnet.optimizer.Optimizer`. The gradient is rescaled, then decayed, then clipped, unless
        ``clip_gradient`` is None, infinite, or 0 and below, as in MXNet. float16 weights need
        ``multi_precision=True``, as epsilon vanishes in float16.

    Raises
    ------
    ValueError
        With the argument's name, its value and the range.
    """

    STATE = ()
    DEFAULT_LEARNING_RATE = 0.001
    _scheduled_rates = {}   # by num_update: the latest two that lr_scheduler was asked for

    def __init__(self, learning_rate, beta1, *, bounds=None, decoupled_wd=False, lazy_update=False,
                 nonfinite="propagate", kernel="auto", lr_scheduler=None, wd=0.0, clip_gradient=None, rescale_grad=1.0,
                 begin_num_update=0, multi_precision=False, **kwargs):
        check_names(type(self), kwargs)
        # Either would be called with another number than it takes: an update's from 0 here, and MXNet's from 1.
        if isinstance(learning_rate, LRScheduler):
            raise ValueError(f"learning_rate={learning_rate!r}: MXNet's schedulers are given as lr_scheduler")
        if lr_scheduler is not None and not (callable(lr_scheduler) and hasattr(lr_scheduler, "base_lr")):
            raise ValueError(f"lr_scheduler={lr_scheduler!r}: must be an mxnet.lr_scheduler.LRScheduler, or be called "
                             "and have a base_lr as these; other schedules are given as learning_rate")
        if learning_rate is None and (lr_scheduler is None or lr_scheduler.base_lr in UNCHOSEN_BASE_LR):
            learning_rate = self.DEFAULT_LEARNING_RATE
        if learning_rate is not None:
            learning_rate = check_setting("learning_rate", learning_rate, NONNEGATIVE)
        if callable(learning_rate):
            if lr_scheduler is not None:
                raise ValueError(f"learning_rate={learning_rate!r} and lr_scheduler={lr_scheduler!r}: give one "
                                 "schedule of the two")
            learning_rate, lr_scheduler = None, ScheduledLearningRate(learning_rate)
        super().__init__(learning_rate=learning_rate, lr_scheduler=lr_scheduler,
                         wd=check_number("wd", wd, NONNEGATIVE), clip_gradient=check_clip(clip_gradient),
                         rescale_grad=check_number("rescale_grad", rescale_grad, FINITE),
                         begin_num_update=check_count("begin_num_update", begin_num_update),
                         multi_precision=check_flag("multi_precision", multi_precision), **kwargs)
        self.beta1 = check_setting("beta1", beta1, DECAY_RATE)
        self.bounds = check_bounds(bounds)
        self.decoupled_wd = check_flag("decoupled_wd", decoupled_wd)
        self.lazy_update = check_flag("lazy_update", lazy_update)
        self.nonfinite = check_choice("nonfinite", nonfinite, ("propagate", "skip"))
        self.kernel = check_choice("kernel", kernel, ("auto", *kernels.KERNELS))
        self.aggregate_num = ALL_AT_ONCE
        self._last = None                  # LastUpdate without its count
        self._device_id = 0                # the current one
        self._bound = {}                   # by kernel, device and first index: the latest Call, the latest used last
        self._nonfinite_counts = {}        # by context: a Binding's count and replica_count
        self._nonfinite_before_loading = 0
        self._loaded_update_counts = {}    # by parameter index

    def set_learning_rate(self, lr):
        """Set the step size, a number in [0, inf); UserWarning is raised where a schedule or lr_scheduler rules it."""
        super().set_learning_rate(check_number("learning_rate", lr, NONNEGATIVE))

    def last_update(self):
        """`LastUpdate` of the latest update, or None before the first, and on workers whose servers update.

        Its count waits for the updates under way.
        """
        return self._last and self._last._replace(nonfinite=self._count_nonfinite())

    def create_state(self, index, weight):
        if weight.dtype == np.float16:
            raise ValueError(f"multi_precision=False: must be True for float16 weights in {type(self).__name__}")
        return [filled(weight, 0) for _ in self.STATE]

    def create_state_multi_precision(self, index, weight):
        if weight.dtype != np.float16 or not self.multi_precision:
            return self.create_state(index, weight)
        # An array that is dense already would be copied by an operator, which newer GPUs do not run.
        master = in_precision(weight if weight.stype == "default" else weight.tostype("default"), np.float32)
        state = self.create_state(index, master)
        # What a subclass makes otherwise takes MXNet's own form.
        return [*state, master] if _is_list_of_arrays(state) else (master, state)

    def update(self, index, weight, grad, state):
        """One update of one array (int, NDArray, NDArray, list) or of many (lists of these); waits for no dense one."""
        if not isinstance(index, (list, tuple)):
            index, weight, grad, state = [index], [weight], [grad], [state]
        with dense_views(weight) as views:
            self._update(index, views, grad, state)

    def _update(self, index, weight, grad, state):
        self._follow_move(index[0], state[0])
        counts, num_update = self._index_update_count, self.num_update
        before = {i: counts[i] for i in index if i in counts}
        self._update_count(index)
        try:
            for binding in self._bind(self._kernel_of(self.num_update - 1), index, weight, grad, state):
                if self._is_replica(binding.indices[0]):
                    binding = binding._replace(count=binding.replica_count)
                self._step(binding.indices, *self._rates(binding.indices), binding)
        except Exception:   # an update that raises an error does not count
            for i in index:
                counts.pop(i, None)
            counts.update(before)
            self.num_update = num_update
            raise

    def update_multi_precision(self, index, weight, grad, state):
        """`update`, by which MXNet's Updater calls it.

        An ``update`` that a subclass defines is called as MXNet calls those of its own optimizers: with one array at a
        time, and with the float32 master copy in the place of a float16 weight, gradient and state to match.
        """
        if getattr(self.update, "__func__", None) is ElementwiseOptimizer.update:
            self.update(index, weight, grad, state)
            return
        if not isinstance(index, (list, tuple)):
            index, weight, grad, state = [index], [weight], [grad], [state]
        for i, its_weight, its_grad, its_state in zip(index, weight, grad, state):
            if its_weight.dtype != np.float16:
                self.update(i, its_weight, its_grad, its_state)
                continue
            with dense_views([its_weight]) as views:
                self._update_half(i, *views, its_grad, its_state)

    def _update_half(self, index, weight, grad, state):
        """``update`` of a subclass on the master copy of a float16 weight."""
        moments, master = self._split_state(weight, grad, state)
        bounds = self.bounds
        if bounds is not None:   # or the master's rounding might leave the box
            self.bounds = limits(check_bounds(bounds), np.float16)
        try:
            self.update(index, master, in_precision(grad, np.float32), moments)
        finally:
            self.bounds = bounds
        in_precision(master, np.float16).copyto(weight)

    def _split_state(self, weight, grad, state):
        """The state of a float16 weight, as ``create_state`` of a subclass may make it, and the master copy."""
        if isinstance(state, tuple) and len(state) == 2:
            master, moments = state
            return moments, master
        if not _is_list_of_arrays(state) or len(state) <= len(self.STATE) + 1:
            _check_arrays(self, weight, grad, state)
            _adapt_precision(state, len(self.STATE), weight)
        *moments, master = state
        return moments, master

    def _step(self, indices, lrs, wds, binding):
        """Make the step of this method on ``binding.arrays``, and set ``_last``."""
        raise NotImplementedError

    def _kernel_of(self, k):
        """The kernel that update k asks for."""
        return self.kernel

    def _bind(self, kernel, indices, weights, grads, states):
        """The `Binding` of these arrays on each device: those of the previous update if it had the same arrays."""
        # Not by all the indices: a network that skips layers at random has ever new sets of them.
        key = (kernel, self._device_id, indices[0])
        call = self._bound.pop(key, None)
        if call is None or not call.takes(indices, weights, grads, states) or call.lazy_update != self.lazy_update:
            call = self._new_call(kernel, indices, weights, grads, states)
        call.num_update = self.num_update
        self._bound[key] = call
        # Let go of what the last two updates did not use: after `reset_ctx`, all the arrays on the device before.
        while next(iter(self._bound.values())).num_update < self.num_update - 1:
            del self._bound[next(iter(self._bound))]
        return call.bindings

    def _new_call(self, kernel, indices, weights, grads, states):
        for weight, grad, state in zip(weights, grads, states):
            _check_arrays(self, weight, grad, state)
            _adapt_precision(state, len(self.STATE), weight)
        if len({weight.dtype for weight in weights}) > 1:
            raise TypeError(f"{type(self).__name__}: the weights of one update must have one dtype, as MXNet's "
                            "Updater hands them over")
        parts = {}
        for arrays in zip(indices, weights, grads, states):
            parts.setdefault(arrays[1].context, []).append(arrays)
        return Call(indices, weights, grads, states, self.lazy_update, [
            self._bind_on_device(kernel, context, *map(list, zip(*part))) for context, part in parts.items()])

    def _bind_on_device(self, kernel, context, indices, weights, grads, states):
        kernel, arrays = kernels.bind(kernel, weights, grads, states, self.lazy_update)
        if context not in self._nonfinite_counts:
            self._nonfinite_counts[context] = [zeros((1,), cpu(), np.int64).as_in_context(context) for _ in range(2)]
        return Binding(indices, arrays, kernel, *self._nonfinite_counts[context])

    def _scalars(self, beta1, beta2, division, epsilon=0.0, divisor_limits=None):
        clip_gradient = self.clip_gradient if self.clip_gradient and self.clip_gradient > 0 else None   # as in MXNet
        return kernels.Scalars(self.rescale_grad, clip_gradient, beta1, beta2, epsilon, division, self.decoupled_wd,
                               check_bounds(self.bounds), self.nonfinite == "skip", divisor_limits)

    @property
    def learning_rate(self):
        """The step size of the latest update, before ``lr_mult``, or, before the first, of that."""
        if self.lr_scheduler is None:
            return self.lr
        # MXNet's schedulers keep state and cannot go back, and where replicas take turns num_update does.
        rates, asked = self._scheduled_rates, self.num_update
        if asked in rates and asked < max(rates):
            return rates[asked]
        rates = {**rates, asked: float(self.lr_scheduler(asked))}
        self._scheduled_rates = {number: rate for number, rate in rates.items() if number >= asked - 1}
        return rates[asked]

    def _get_lrs(self, indices):
        rate = self.learning_rate
        return [rate * self._lr_mult_of(index) for index in indices]

    def _rates(self, indices):
        """The step size and the weight decay of each array, by the hooks that a subclass defines, of one or of all."""
        one, base = type(self), Optimizer
        lrs = self._get_lrs(indices) if one._get_lr is base._get_lr else [self._get_lr(i) for i in indices]
        wds = self._get_wds(indices) if one._get_wd is base._get_wd else [self._get_wd(i) for i in indices]
        return lrs, wds

    def _lr_mult_of(self, index):
        if index in self.param_dict:
            return self.param_dict[index].lr_mult
        return self.lr_mult.get(index, self.lr_mult.get(self.idx2name.get(index), 1.0))

    def _set_current_context(self, device_id):
        # MXNet counts updates by device, and would begin again at 0 on one that the states were not saved on. Its
        # num_update is of all devices: a replica on the second would see the first one's, one too many in a schedule.
        left, self._device_id = self._index_update_count, device_id
        self._all_index_update_counts.setdefault(device_id, dict(self._loaded_update_counts))
        super()._set_current_context(device_id)
        if self._index_update_count is not left:
            self.num_update = self._most_updates(self._index_update_count)

    def _most_updates(self, counts):
        return max(counts.values(), default=self.begin_num_update)

    def _follow_move(self, index, state):
        """Take the counts along with a parameter that has moved here from another device, as its state tells."""
        if len(self._all_index_update_counts) < 2 or (self.kernel, self._device_id, index) in self._bound:
            return
        counts = self._index_update_count
        for key, call in reversed(list(self._bound.items())):
            if any(each is state for each in call.kept):
                before = self._all_index_update_counts.get(key[1], counts)
                if before is not counts:
                    counts.update({i: max(count, counts.get(i, 0)) for i, count in before.items()})
                    self.num_update = self._most_updates(counts)
                    del self._bound[key]   # or it would not be noticed when the parameter moves back
                return

    def _is_replica(self, index):
        """Whether the gradient of this update is one that another device has counted: replicas see the same one."""
        name = self.idx2name.get(index)
        if isinstance(index, int) and name is not None and self.idx2name.get(index - 1) == name:
            return True   # Module gives replicas successive indices
        here = self._index_update_count
        return any(counts is not here and counts.get(index, 0) >= here[index]
                   for counts in self._all_index_update_counts.values())

    def _count_nonfinite(self):
        counted = (count for count, _ in self._nonfinite_counts.values())
        return self._nonfinite_before_loading + sum(int(count.asscalar()) for count in counted)

    def __getstate__(self):
        # A kvstore server unpickles this while MXNet is being imported: no NDArray may be in it, and no library.
        counts = dict(self._loaded_update_counts)
        for on_device in (self._index_update_count, *self._all_index_update_counts.values()):
            counts.update({i: max(count, counts.get(i, 0)) for i, count in on_device.items()})
        return dict(super().__getstate__(), _bound={}, _nonfinite_counts={},
                    _nonfinite_before_loading=self._count_nonfinite(), _loaded_update_counts=counts,
                    _index_update_count=dict(counts), _all_index_update_counts={},
                    num_update=self._most_updates(counts))


def _kept(weights, states):
    """The weights of an update, its states as they are, and their arrays."""
    kept = [*weights, *states]
    for state in states:
        if isinstance(state, list):
            kept += state
    return kept


def _are_same(objects, others):
    return len(objects) == len(others) and (all(map(is_, objects, others)) or all(map(is_same_array, objects, others)))


def _check_arrays(optimizer, weight, grad, state):
    name = type(optimizer).__name__
    for what, array in (("weight", weight), ("gradient", grad)):
        if not isinstance(array, NDArray):
            raise TypeError(f"{name}: the {what} must be an NDArray, not of type {type(array).__name__}")
    if weight.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{name}: weights must have dtype float16, float32 or float64, not {np.dtype(weight.dtype)}")
    if weight.stype != "default":
        raise TypeError(f"{name}: weights of storage type {weight.stype!r} are not supported")
    if not _is_list_of_arrays(state) or len(state) - len(optimizer.STATE) not in (0, 1):
        raise TypeError(f"{name}: the state must be a list of {', '.join(optimizer.STATE)} (and, for float16 weights, "
                        "the float32 master copy), as create_state makes it, not "
                        f"{_describe(state, len(optimizer.STATE))}")
    if grad.stype not in ("default", "row_sparse"):
        raise TypeError(f"{name}: gradients of storage type {grad.stype!r} are not supported")
    # cpu(0), cpu(1), cpu_pinned(0) are one memory, and a kvstore mixes them.
    devices = [str(c) if c.device_type == "gpu" else "cpu" for c in (array.context for array in (weight, grad, *state))]
    if len(set(devices)) > 1:
        raise ValueError(f"{name}: weight, gradient and state must be on one device, not {', '.join(devices)}")
    shapes = [array.shape for array in (weight, grad, *state)]
    if len(set(shapes)) > 1:
        raise ValueError(f"{name}: weight, gradient and state must have one shape, not {', '.join(map(str, shapes))}")
    if grad.dtype != weight.dtype or len({array.dtype for array in state}) > 1:
        dtypes = [np.dtype(array.dtype).name for array in (weight, grad, *state)]
        raise TypeError(f"{name}: weight and gradient must have one dtype, and the states one, not {', '.join(dtypes)}")


def _is_list_of_arrays(state):
    return isinstance(state, list) and all(isinstance(each, NDArray) for each in state)


def _describe(state, count):
    if not isinstance(state, (list, tuple)):
        return f"of type {type(state).__name__}"
    if len(state) - count not in (0, 1):
        return f"a {type(state).__name__} of {len(state)}; a state of another length was saved by another optimizer"
    return f"a {type(state).__name__} of {len(state)} ({', '.join(type(each).__name__ for each in state)})"


def _adapt_precision(state, count, weight):
    """Give a state that was saved in one precision the form of another, in place, as it is the Updater's own list."""
    precision = np.float32 if weight.dtype == np.float16 else weight.dtype
    if state[0].dtype != precision:
        state[:] = [in_precision(each, precision) for each in state]
    if weight.dtype == np.float16 and len(state) == count:
        state.append(in_precision(weight, np.float32))
    elif weight.dtype != np.float16 and len(state) > count:
        state.pop()
