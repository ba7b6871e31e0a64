"""What the optimizers share: their common arguments, and an update from MXNet's call to the kernel. No equation."""

import contextlib
import math
from abc import ABC, abstractmethod
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
from mxnet.autograd import is_recording
from mxnet.base import MXNetError
from mxnet.lr_scheduler import LRScheduler
from mxnet.optimizer import Optimizer

from namsg_mx import kernels
from namsg_mx.checks import DECAY_RATE, FINITE, NONNEGATIVE, STEP_SIZE, check_count, check_number
from namsg_mx.kernels.projection import limits
from namsg_mx.kernels.sparse import dense_views
from namsg_mx.optimizers.arguments import (
    ScalarOrSchedule,
    check_bounds,
    check_choice,
    check_clip,
    check_flag,
    check_names,
    check_scheduler,
    check_setting,
    value_at,
)
from namsg_mx.optimizers.arrays import (
    Calls,
    as_lists,
    check_dtype,
    filled,
    in_precision,
    is_list_of_arrays,
    split_state,
)
from namsg_mx.optimizers.counting import CountingOptimizer

ALL_AT_ONCE = 2**31 - 1   # aggregate_num: the Updater hands over all the arrays of one dtype in one call
NONFINITE = ("propagate", "skip")
CHOICES = ("auto", *kernels.KERNELS)
UNCHOSEN_BASE_LR = (None, LRScheduler().base_lr)   # a scheduler's base_lr if none was given


class Settings(NamedTuple):
    """The settings of one update, schedules evaluated; ``None`` if a method has no such thing.

    ``learning_rate`` is the step size before ``lr_mult``. ``sgd_learning_rate`` is the step size of SGD, once `NAMSG`
    has switched to it; for `NAMSB`, the step size that its limits tend to. ``mu_beta1`` is the product of mu and beta1
    in line 7 of Algorithm 1.
    """

    learning_rate: float
    beta1: float
    eta: Optional[float] = None
    sgd_learning_rate: Optional[float] = None
    mu_beta1: Optional[float] = None


class Step(NamedTuple):
    """The numbers of one update, as a kernel takes them. ``measure`` asks for the sums of the switch to SGD, too.

    A subclass that sets ``measure`` defines ``_keep_switch_sums(indices, lrs, sums)``.
    """

    scalars: kernels.Scalars
    coefficients: kernels.Coefficients
    measure: bool = False


class LastUpdate(NamedTuple):
    """What ran in the latest update; ``None`` if a method has no such thing.

    ``kernel`` ran update ``k`` with these `Settings`. The first k is ``begin_num_update``, usually 0. If the weights
    have several dtypes, these are the last one's. ``nonfinite`` counts, over all updates so far and in one replica of
    the parameters, the gradient elements that are infinite or NaN after rescaling. Where the update divides by v or
    v_hat, those with an infinite square count, too.
    """

    kernel: str
    k: int
    learning_rate: float
    beta1: float
    eta: Optional[float]
    sgd_learning_rate: Optional[float]
    nonfinite: int


class ScheduledLearningRate(LRScheduler):
    """A schedule of k as MXNet's lr_scheduler, which is called with ``num_update`` = k + 1."""

    def __init__(self, schedule):
        super().__init__(base_lr=math.nan)   # unknown to the schedule
        self.schedule = schedule

    def __call__(self, num_update):
        return value_at("learning_rate", self.schedule, max(num_update - 1, 0), STEP_SIZE)


class ElementwiseOptimizer(CountingOptimizer, ABC):
    """Base of the optimizers whose step treats each element of the parameters by itself.

    A subclass names its state arrays in ``STATE`` and defines ``_step``, which returns the numbers of an update. The
    state of a parameter is the list of these arrays, each in the weight's shape and dtype. For float16 weights they are
    float32, and a float32 master copy of the weight ends the list.

    Parameters
    ----------
    learning_rate : float, schedule or None
        Step size alpha, in [0, inf). None: ``lr_scheduler``'s, else the method's default. A schedule is a picklable
        function of k (`namsg_mx.schedules`). k is the number of updates made before this one. If some steps skip
        parameters, k + 1 is the count of the parameter updated most often. A value from -1e-12 to 0 is 0: arithmetic
        such as 0.3 - 3 * 0.1 ends there.
    beta1 : float or schedule
        Decay rate of the momentum, in [0, 1).
    bounds : (float, float) or None
        Box F = [low, high] onto which each step projects every weight (Pi_F in Algorithm 1); None: no projection. The
        limits are rounded inward to the precision of the weights. ValueError for weights of which no number is between
        them.
    decoupled_wd : bool
        False: ``wd * weight`` is added to the gradient. True: ``alpha * wd * weight`` is added to the step instead;
        alpha is the update's step size times ``lr_mult``.
    lazy_update : bool
        For row_sparse gradients. False: rows that are missing in the gradient have gradient 0. True: these rows of
        weight and state stay as they are.
    nonfinite : {'propagate', 'skip'}
        What happens at a gradient element that is infinite or NaN, or whose square is infinite (in float32 from 1.8e19
        on) if the update divides by v or v_hat. 'skip': weight and state of the element stay as they are.
        'propagate': it goes into state and weight, as in MXNet. NaN makes the weight NaN. Infinity makes it infinite
        or NaN, unless ``clip_gradient`` or ``bounds`` keep it finite. An infinite square makes ``v_hat`` infinite or
        so large that the weight practically never moves again; ``clip_gradient``, which acts between this check and
        the state, prevents that, and so do the limits of `NAMSB`. `last_update` has the number of such elements in
        either case.
    kernel : {'auto', 'cuda', 'cpu', 'ndarray'}
        The implementation of the step. 'auto': the fastest for the weights' device and dtype. Any other: that one, or
        the first update raises RuntimeError with the reason. `last_update` tells which one ran. Arrays that overlap
        take 'ndarray' under 'auto', and so does the update that measures for `NAMSG.switch_to_sgd` in any case.
    lr_scheduler : mxnet.lr_scheduler.LRScheduler, optional
        MXNet's own, or any picklable callable with a ``base_lr``. As in MXNet, a number given as ``learning_rate``
        overwrites the scheduler's ``base_lr``. If no ``learning_rate`` is given, the method's default replaces a
        ``base_lr`` of None or 0.01, MXNet's default; to use 0.01, give ``learning_rate=0.01``. MXNet's Adam replaces
        any by its default.
        ``CosineScheduler``, ``PolyScheduler`` and warm-ups keep the ``base_lr`` that they were made with, with every
        optimizer: give it to them.
    rescale_grad, wd, clip_gradient, begin_num_update, multi_precision, ...
        As in `mxnet.optimizer.Optimizer`. The gradient is rescaled, then decayed, then clipped. As in MXNet, nothing is
        clipped if ``clip_gradient`` is None, infinite, 0 or below. rescale_grad is finite, wd in [0, inf), and
        begin_num_update an integer, at least 0. float16 weights need ``multi_precision=True``: epsilon vanishes in
        float16. A state that was made in another precision is converted, and needs no flag.

    Raises
    ------
    ValueError
        If an argument is out of range: with its name, its value and the range. A schedule's first value is checked at
        once, each later one in its update. Also for float16 weights without ``multi_precision``, in `create_state` at
        the latest.
    TypeError
        If there is no argument of this name.
    """

    STATE: Tuple[str, ...] = ()
    DEFAULT_LEARNING_RATE = 0.001
    LEARNING_RATES = STEP_SIZE
    # An lr_scheduler, and by num_update its latest rate and those beside it.
    _scheduled: Tuple[Optional[LRScheduler], Dict[int, float]] = (None, {})

    def __init__(self, learning_rate: Optional[ScalarOrSchedule], beta1: ScalarOrSchedule, *,
                 bounds: Optional[Tuple[float, float]] = None, decoupled_wd: bool = False, lazy_update: bool = False,
                 nonfinite: str = "propagate", kernel: str = "auto",
                 lr_scheduler: Optional[LRScheduler] = None, wd: float = 0.0,
                 clip_gradient: Optional[float] = None, rescale_grad: float = 1.0, begin_num_update: int = 0,
                 multi_precision: bool = False, **kwargs):
        check_names(type(self), kwargs)
        if lr_scheduler is not None:
            check_scheduler(lr_scheduler)
        if learning_rate is None and (lr_scheduler is None or lr_scheduler.base_lr in UNCHOSEN_BASE_LR):
            learning_rate = self.DEFAULT_LEARNING_RATE
        if learning_rate is not None:
            learning_rate = check_setting("learning_rate", learning_rate, self.LEARNING_RATES)
        if callable(learning_rate):
            if lr_scheduler is not None:
                raise ValueError(f"learning_rate={learning_rate!r} and lr_scheduler={lr_scheduler!r}: give one "
                                 "of the two")
            learning_rate, lr_scheduler = None, ScheduledLearningRate(learning_rate)
        super().__init__(learning_rate=learning_rate, lr_scheduler=lr_scheduler,
                         wd=check_number("wd", wd, NONNEGATIVE), clip_gradient=check_clip(clip_gradient),
                         rescale_grad=check_number("rescale_grad", rescale_grad, FINITE),
                         begin_num_update=check_count("begin_num_update", begin_num_update),
                         multi_precision=check_flag("multi_precision", multi_precision), **kwargs)
        if lr_scheduler is not None and learning_rate is None:   # a program may take the scheduler away
            self.lr = self.DEFAULT_LEARNING_RATE if math.isnan(lr_scheduler.base_lr) else lr_scheduler.base_lr
        # At once, as on a kvstore's server an error would only be printed.
        if any(parameter.dtype in (np.float16, "float16") and parameter.grad_req != "null"
               for parameter in self.param_dict.values()):
            self._check_half()
        self.beta1 = check_setting("beta1", beta1, DECAY_RATE)
        self.bounds = check_bounds(bounds)
        self.decoupled_wd = check_flag("decoupled_wd", decoupled_wd)
        self.lazy_update = check_flag("lazy_update", lazy_update)
        self.nonfinite = check_choice("nonfinite", nonfinite, NONFINITE)
        self.kernel = check_choice("kernel", kernel, CHOICES)
        self.aggregate_num = ALL_AT_ONCE
        self._last = None                  # the kernel, k and Settings of the latest update
        self._calls = Calls()
        self._nonfinite_before_loading = 0

    def set_learning_rate(self, lr: ScalarOrSchedule) -> None:
        """Set the step size: a number, as ``learning_rate``, or a schedule, in the place of any before.

        UserWarning for a number if there is a schedule or lr_scheduler.
        """
        lr = check_setting("learning_rate", lr, self.LEARNING_RATES)
        if callable(lr):
            self.lr_scheduler = ScheduledLearningRate(lr)
        else:
            super().set_learning_rate(lr)

    def last_update(self) -> Optional[LastUpdate]:
        """`LastUpdate` of the latest update. None before the first, and on workers whose servers update.

        Waits for the updates under way, to count their non-finite gradients.
        """
        if self._last is None:
            return None
        kernel, k, (learning_rate, beta1, eta, sgd_learning_rate, _) = self._last
        return LastUpdate(kernel, k, learning_rate, beta1, eta, sgd_learning_rate, self._count_nonfinite())

    def create_state(self, index, weight):
        """New state of a weight: a list of ``STATE``'s arrays, each in the weight's shape and dtype
        (float32 for float16 weights). All begin at 0, but v_hat at epsilon.
        """
        if weight.dtype == np.float16:
            self._check_half()
        return [filled(weight, self._first_value(name)) for name in self.STATE]

    def _first_value(self, name):
        """What all elements of this array of the state begin at."""
        return 0

    def _check_half(self):
        if not self.multi_precision:
            raise ValueError(f"multi_precision=False: must be True for float16 weights in {type(self).__name__}")

    def create_state_multi_precision(self, index, weight):
        """`create_state`; for a float16 weight in float32, with a float32 master copy of the weight as last array.

        Raises for a weight that no update can take: MXNet's Updater makes all states before the first of its updates,
        one for each dtype.
        """
        check_dtype(self, index, weight)
        if self.kernel != "auto":
            kernels.choose(check_choice("kernel", self.kernel, CHOICES), weight.context, weight.dtype)
        if self.bounds is not None:
            limits(check_bounds(self.bounds), weight.dtype)
        if weight.dtype != np.float16 or not self.multi_precision:
            return self.create_state(index, weight)
        # `tostype` only where it is needed: a dense weight it copies by an operator, which newer GPUs do not run.
        master = in_precision(weight if weight.stype == "default" else weight.tostype("default"), np.float32)
        state = self.create_state(index, master)
        # A subclass's state of another kind: a pair, as MXNet has it.
        return [*state, master] if is_list_of_arrays(state) else (master, state)

    def update(self, index, weight, grad, state):
        """Make one update of one parameter, or of many: all four arguments are then lists of one length.

        Weights and states change in place; gradients stay as they are. This returns before the step is made, but waits
        for row_sparse arrays, and once for the sums of `NAMSG.switch_to_sgd`. An update that raises an error does not
        count.

        Parameters
        ----------
        index : int or list of int
            The parameter's number, by which its updates are counted.
        weight : NDArray or list of NDArray
            float16, float32 or float64, all of one dtype; dense or row_sparse; of any shape.
        grad : NDArray or list of NDArray
            In its weight's shape and dtype; dense or row_sparse.
        state : list of NDArray, or list of such lists
            As `create_state_multi_precision` makes it: arrays in the weight's shape and dtype (float32 for float16). A
            state of another precision, as from a file, is converted.

        Raises
        ------
        TypeError
            If something is no NDArray, a state is no such list, or a dtype or storage type does not fit.
        ValueError
            If lengths, shapes or devices differ, a setting's or schedule's value is out of range, or no number of the
            weights' dtype is within ``bounds``.
        RuntimeError
            If the ``kernel`` asked for cannot run; and see `NAMSG.switch_to_sgd`.
        mxnet.base.MXNetError
            Inside of ``autograd.record()``, if a weight has a gradient attached. If a row_sparse gradient has rows that
            its weight does not. If arrays overlap and the ``kernel`` asked for is 'cpu' (but one gradient,
            in one shape, may be several parameters'), or arrays of one parameter share memory and it is 'cuda'.
        """
        index, weight, grad, state = as_lists(self, index, weight, grad, state)
        if not index:
            return   # MXNet's Updater takes empty lists, too
        # MXNet's operators check this, and the engine, which runs ours, does not.
        if is_recording() and any(getattr(each, "grad", None) is not None for each in weight):
            raise MXNetError("an update inside of autograd.record(): it would change weights of the graph")
        with dense_views(weight) as views:
            self._update(index, views, grad, state)

    def _update(self, index, weight, grad, state):
        check_flag("lazy_update", self.lazy_update)
        self._follow_move(index, state)
        if self.num_update < max(self._scheduled[1], default=0) - 1:
            self._scheduled = (None, {})   # a program has begun anew
        counts, num_update = self._index_update_count, self.num_update
        before, last = {i: counts[i] for i in index if i in counts}, self._last
        self._update_count(index)
        try:
            k = self.num_update - 1
            for binding in self._calls.bind(self, self._kernel_of(k), self._device_id, index, weight, grad, state):
                self._run(k, binding)
        except BaseException:   # what ends by an error, or by Ctrl-C, does not count, even if some of the step was made
            for i in index:
                counts.pop(i, None)
            counts.update(before)
            self.num_update, self._counted, self._last = num_update, num_update, last
            raise

    def _run(self, k, binding):
        """Run update k on the arrays of one device."""
        indices, arrays, kernel, counts = binding
        count = counts[self._is_replica(indices[0])]
        lrs, wds = self._rates(indices)
        settings = self.settings(k)
        scalars, coefficients, measure = self._step(k, settings, indices, lrs, wds)
        if measure:
            self._keep_switch_sums(indices, lrs, arrays.step(scalars, coefficients, count, measure=True))
        else:
            arrays.step(scalars, coefficients, count)
        self._last = kernel, k, settings

    def update_multi_precision(self, index, weight, grad, state):
        """`update`, by the name under which MXNet's Updater calls it.

        If a subclass defines an ``update`` of its own, it is called as in MXNet: for one array at a time, and for a
        float16 weight with its float32 master copy instead, and with gradient and state in float32.
        """
        if getattr(self.update, "__func__", None) is ElementwiseOptimizer.update:
            self.update(index, weight, grad, state)
            return
        index, weight, grad, state = as_lists(self, index, weight, grad, state)
        for i, its_weight, its_grad, its_state in zip(index, weight, grad, state):
            if its_weight.dtype != np.float16:
                self.update(i, its_weight, its_grad, its_state)
                continue
            with dense_views([its_weight]) as views:
                self._update_half(i, *views, its_grad, its_state)

    def _update_half(self, index, weight, grad, state):
        """``update`` of a subclass on the master copy of a float16 weight."""
        moments, master = split_state(self, index, weight, grad, state)
        bounds = self.bounds
        if bounds is not None:   # or the master's rounding might leave the box
            self.bounds = limits(check_bounds(bounds), np.float16)
        try:
            self.update(index, master, in_precision(grad, np.float32), moments)
        finally:
            self.bounds = bounds
        in_precision(master, np.float16).copyto(weight)

    def settings(self, k: int) -> Settings:
        """`Settings` of update k = 0, 1, ...; ValueError if a schedule's value is out of range.

        Any k will do with our schedules. MXNet's own, as ``lr_scheduler``, cannot go back: with them, ask for the
        latest update or the next. With `NAMSG`'s ``switch_to_sgd``, a k after the switch raises RuntimeError until
        this optimizer has made the switch.
        """
        return Settings(self._learning_rate_of(k + 1), value_at("beta1", self.beta1, k, DECAY_RATE))

    @abstractmethod
    def _step(self, k, settings, indices, lrs, wds):
        """The `Step` of update k: its numbers from `settings`, and each parameter's step size and weight decay."""

    def _kernel_of(self, k):
        """The ``kernel`` of update k, or 'auto'."""
        return check_choice("kernel", self.kernel, CHOICES)

    def _scalars(self, beta1, beta2, division, epsilon=0.0, divisor_limits=None):
        clip_gradient = check_clip(self.clip_gradient)
        clip_gradient = clip_gradient if clip_gradient and clip_gradient > 0 else None   # as in MXNet
        skips = check_choice("nonfinite", self.nonfinite, NONFINITE) == "skip"
        return kernels.Scalars(
            rescale_grad=check_number("rescale_grad", self.rescale_grad, FINITE), clip_gradient=clip_gradient,
            beta1=beta1, beta2=check_number("beta2", beta2, DECAY_RATE), epsilon=epsilon, division=division,
            decoupled_wd=check_flag("decoupled_wd", self.decoupled_wd), bounds=check_bounds(self.bounds),
            skip_nonfinite=skips, divisor_limits=divisor_limits)

    @property
    def learning_rate(self) -> float:
        """Step size as it is set now, before ``lr_mult``; of a schedule, at the latest update, or else at the first."""
        return self._learning_rate_of(max(self.num_update, self.begin_num_update + 1))

    def _learning_rate_of(self, num_update):
        if self.lr_scheduler is None:
            return check_number("learning_rate", self.lr, STEP_SIZE)
        scheduler, rates = self._scheduled
        if scheduler is not self.lr_scheduler:
            check_scheduler(self.lr_scheduler)
            rates = {}
        # MXNet's schedulers keep state and cannot go back. But num_update goes back by one, if replicas take turns.
        if num_update not in rates or num_update == max(rates):
            rate = check_number(f"learning_rate({num_update - 1})", _number(self.lr_scheduler(num_update)),
                                STEP_SIZE)
            rates = {**{number: of for number, of in rates.items() if abs(number - num_update) <= 1}, num_update: rate}
            self._scheduled = self.lr_scheduler, rates
        return rates[num_update]

    def _get_lrs(self, indices):
        rate = self.learning_rate
        return [rate * self._lr_mult_of(index) for index in indices]

    def _rates(self, indices):
        """Each array's step size and weight decay. A program may define MXNet's hooks for one array or for all."""
        has_lr = getattr(self._get_lr, "__func__", None) is not Optimizer._get_lr
        has_wd = getattr(self._get_wd, "__func__", None) is not Optimizer._get_wd
        lrs = [self._get_lr(i) for i in indices] if has_lr else self._get_lrs(indices)
        wds = [self._get_wd(i) for i in indices] if has_wd else self._get_wds(indices)
        check_number("wd", self.wd, NONNEGATIVE)
        # Copied: a subclass may return the same list each time.
        return [float(lr) for lr in lrs], [float(wd) for wd in wds]

    def _lr_mult_of(self, index):
        if index in self.param_dict:
            return self.param_dict[index].lr_mult
        return self.lr_mult.get(index, self.lr_mult.get(self.idx2name.get(index), 1.0))

    def _follow_move(self, indices, states):
        """If parameters have moved here from another device, which their states tell, take their counts along."""
        if len(self._all_index_update_counts) > 1:
            left = self._calls.left_device(self._device_id, indices, states)
            if left is not None:
                self._take_counts_along(left)

    def _count_nonfinite(self):
        return self._nonfinite_before_loading + self._calls.count_nonfinite()

    def __getstate__(self):
        # Without any NDArray or library: a kvstore server unpickles this while MXNet is still being imported.
        state = dict(super().__getstate__(), _nonfinite_before_loading=self._count_nonfinite())
        del state["_calls"]
        if self._scheduled[0] is not self.lr_scheduler:   # which a program has taken away: it may not be picklable
            state.pop("_scheduled", None)
        return state

    def __setstate__(self, state):
        for name in ("_bound", "_nonfinite_counts", "_scheduled_rates"):   # in older states files
            state.pop(name, None)
        if isinstance(state["_last"], LastUpdate):     # in older states files
            kernel, k, *settings, _ = state["_last"]
            state["_last"] = kernel, k, Settings(*settings)
        super().__setstate__(state)
        self._calls = Calls()


def _number(rate):
    """What a scheduler returns as a float, as MXNet takes it: it may be an array of one element."""
    with contextlib.suppress(TypeError, ValueError):
        return rate if isinstance(rate, str) else float(rate)
    return rate
