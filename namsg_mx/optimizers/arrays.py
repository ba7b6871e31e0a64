"""Binds the arrays of an update for a kernel, once for many updates; checks their types, shapes and precisions."""

from operator import is_
from typing import List, NamedTuple

import numpy as np
from mxnet.context import cpu
from mxnet.ndarray import NDArray, full, zeros

from namsg_mx import kernels
from namsg_mx.kernels.memory import is_same_array


def filled(weight, value):
    """A new array like ``weight``, but float32 for float16, with ``value`` in all its elements.

    It is made on the CPU and copied: GPUs newer than MXNet run its copies, but not its operators.
    """
    return full(weight.shape, value, cpu(), precision_of_state(weight)).as_in_context(weight.context)


def precision_of_state(weight):
    """The dtype of a weight's state: float16 weights have theirs, and a master copy, in float32."""
    return np.float32 if weight.dtype == np.float16 else weight.dtype


def in_precision(values, dtype):
    """A copy of an array in another dtype, made on the CPU like `filled`."""
    return values.as_in_context(cpu()).astype(dtype).as_in_context(values.context)


class Binding(NamedTuple):
    """The arrays of an update on one device.

    ``indices`` are the parameters' indices, ``arrays`` what a kernel's ``bind`` returned, and ``kernel`` its name.
    Non-finite gradients are added to the first of ``counts``, or to the second if another device has counted the same.
    """

    indices: list
    arrays: object
    kernel: str
    counts: List[NDArray]


class Call:
    """The arguments of one call of ``update``, and a `Binding` for each device (model parallelism has several).

    ``num_update`` is the optimizer's when these arguments were last given. ``kept`` holds weights and states.
    """

    def __init__(self, indices, weights, grads, states, options, bindings):
        self.indices, self.grads, self.bindings = list(indices), list(grads), bindings
        self.kept = _kept(weights, states)
        self.options, self.num_update = options, 0

    def takes(self, indices, weights, grads, states):
        """Whether the bindings serve these arguments. Only the gradients may be other arrays: they are then bound."""
        if self.indices != list(indices) or not _are_same(self.kept, _kept(weights, states)):
            return False
        if _are_identical(self.grads, grads):
            return True
        are_arrays = len(grads) == len(self.grads) and all(isinstance(grad, NDArray) for grad in grads)
        if are_arrays and len(self.bindings) == 1 and self.bindings[0].arrays.rebind(grads):
            self.grads = list(grads)
            return True
        return _are_same(self.grads, grads)


class Calls:
    """The calls of the two latest updates, for the next update to use their bindings.

    ``latest`` has them by device and first index, the latest used last. Not by all the indices: a network that skips
    layers at random has another set of them in each step. Which device each state was updated on is known for longer:
    a parameter that many updates have left out may be the first one to move.
    """

    def __init__(self):
        self.latest = {}
        self._homes = {}    # by device, by parameter's index: the state that was updated there last
        self._counts = {}   # by context: a Binding's counts

    def bind(self, optimizer, kernel, device_id, indices, weights, grads, states):
        """The `Binding` of these arrays on each device, from an earlier call if it had the same arrays."""
        key, options, num_update = (device_id, indices[0]), (kernel, optimizer.lazy_update), optimizer.num_update
        call = self.latest.pop(key, None)
        if call is None or call.options != options or not call.takes(indices, weights, grads, states):
            check_update(optimizer, indices, weights, grads, states)
            bindings = self._bind(kernel, indices, weights, grads, states, optimizer.lazy_update)
            call = Call(indices, weights, grads, states, options, bindings)
            self._move_in(device_id, indices, states)
        call.num_update = num_update
        self.latest[key] = call
        # Free what the last two updates did not use: after `reset_ctx`, all the arrays on the former device.
        while abs(next(iter(self.latest.values())).num_update - num_update) > 1:   # above: a program has begun anew
            del self.latest[next(iter(self.latest))]
        return call.bindings

    def _bind(self, kernel, indices, weights, grads, states, lazy_update):
        parts = {}
        for arrays in zip(indices, weights, grads, states):
            parts.setdefault(arrays[1].context, []).append(arrays)
        bindings = []
        for context, part in parts.items():
            indices, *arrays = map(list, zip(*part))
            chosen, bound = kernels.bind(kernel, *arrays, lazy_update)
            if context not in self._counts:
                self._counts[context] = [zeros((1,), cpu(), np.int64).as_in_context(context) for _ in range(2)]
            bindings.append(Binding(indices, bound, chosen, self._counts[context]))
        return bindings

    def left_device(self, device_id, indices, states):
        """The device on which one of these states was updated last, if that is another one: they have moved here."""
        for device, home in self._homes.items():
            if device != device_id and any(i in home and home[i] is state for i, state in zip(indices, states)):
                return device
        return None

    def _move_in(self, device_id, indices, states):
        for home in self._homes.values():
            for index, state in zip(indices, states):
                if home.get(index) is state:
                    del home[index]
        self._homes.setdefault(device_id, {}).update(zip(indices, states))

    def count_nonfinite(self):
        """Non-finite gradients so far in one replica of the parameters. Waits for the updates under way."""
        return sum(int(count.asscalar()) for count, _ in self._counts.values())


def _kept(weights, states):
    """The weights of an update, its states as they are, and their arrays."""
    kept = [*weights, *states]
    for state in states:
        if isinstance(state, list):
            kept += state
    return kept


def _are_identical(objects, others):
    return len(objects) == len(others) and all(map(is_, objects, others))


def _are_same(objects, others):
    """Whether these are the same arrays, by whatever handles."""
    return _are_identical(objects, others) or (len(objects) == len(others) and all(map(is_same_array, objects, others)))


def as_lists(optimizer, index, weight, grad, state):
    """The arguments of an update as lists, those of a single parameter, too. ValueError unless they have one length."""
    if not isinstance(index, (list, tuple)):
        return [index], [weight], [grad], [state]
    if not len(index) == len(weight) == len(grad) == len(state):
        raise ValueError("{}: an update takes as many indices as weights, gradients and states, not {}, {}, {} and {}"
                         .format(type(optimizer).__name__, *map(len, (index, weight, grad, state))))
    return index, weight, grad, state


def check_update(optimizer, indices, weights, grads, states):
    """TypeError or ValueError if the arrays of an update do not fit; states take the precision of their weights."""
    for arguments in zip(indices, weights, grads, states):
        check_arrays(optimizer, *arguments)
    if len({weight.dtype for weight in weights}) > 1:
        raise TypeError(f"{type(optimizer).__name__}: the weights of one update must have one dtype; MXNet's Updater "
                        "makes one update for each")
    for weight, state in zip(weights, states):   # once nothing is refused, as digits may be lost
        adapt_precision(state, len(optimizer.STATE), weight)


def check_arrays(optimizer, index, weight, grad, state):
    """TypeError or ValueError, with the parameter's name, if its arrays do not fit the optimizer or each other."""
    name = _name_of(optimizer, index)
    for what, array in (("weight", weight), ("gradient", grad)):
        if not isinstance(array, NDArray):
            raise TypeError(f"{name}: the {what} must be an NDArray, not of type {type(array).__name__}")
    check_dtype(optimizer, index, weight)
    if weight.stype != "default":
        raise TypeError(f"{name}: weights of storage type {weight.stype!r} are not supported")
    if not is_list_of_arrays(state) or len(state) - len(optimizer.STATE) not in (0, 1):
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
    dtypes = [array.dtype for array in (weight, grad, *state)]
    if dtypes[0] != dtypes[1] or len(set(dtypes[2:])) > 1:
        raise TypeError(f"{name}: weight and gradient must have one dtype, and all arrays of the state one, not "
                        f"{', '.join(np.dtype(dtype).name for dtype in dtypes)}")


def check_dtype(optimizer, index, weight):
    """TypeError, with the parameter's name, if no update takes weights of this dtype."""
    if weight.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{_name_of(optimizer, index)}: weights must have dtype float16, float32 or float64, not "
                        f"{np.dtype(weight.dtype)}")


def _name_of(optimizer, index):
    """The optimizer's and a parameter's name, as Gluon or a Module gave it to the optimizer; else its index."""
    parameter = optimizer.param_dict.get(index)
    name = optimizer.idx2name.get(index, index) if parameter is None else parameter.name
    return f"{type(optimizer).__name__}, parameter {name}"


def is_list_of_arrays(state):
    return isinstance(state, list) and all(isinstance(each, NDArray) for each in state)


def _describe(state, count):
    if not isinstance(state, (list, tuple)):
        return f"of type {type(state).__name__}"
    if len(state) - count not in (0, 1):
        return f"a {type(state).__name__} of {len(state)}; a state of another length was saved by another optimizer"
    return f"a {type(state).__name__} of {len(state)} ({', '.join(type(each).__name__ for each in state)})"


def adapt_precision(state, count, weight):
    """Give a state that was saved in one precision the form of another: in place, as the Updater holds the list."""
    precision = precision_of_state(weight)
    if state[0].dtype != precision:
        state[:] = [in_precision(each, precision) for each in state]
    if weight.dtype == np.float16 and len(state) == count:
        state.append(in_precision(weight, np.float32))
    elif weight.dtype != np.float16 and len(state) > count:
        state.pop()


def split_state(optimizer, index, weight, grad, state):
    """The moments of a float16 weight, in the form that a subclass's ``create_state`` gave them, and the master copy.
    """
    if isinstance(state, tuple) and len(state) == 2:
        master, moments = state
        return moments, master
    if not is_list_of_arrays(state) or len(state) <= len(optimizer.STATE) + 1:
        check_arrays(optimizer, index, weight, grad, state)
        adapt_precision(state, len(optimizer.STATE), weight)
    *moments, master = state   # a longer list is a subclass's own
    return moments, master
