"""Updates that are refused, or end by an error: they are named, and do not count."""

import re

import mxnet as mx
import numpy as np
import pytest
from comparison import KERNELS, METHODS, array, assert_equal_bits
from mxnet import autograd, gluon

import namsg_mx
from namsg_mx import StepDecay


class Stumbling:
    """A schedule that raises an error once, at k = 1."""

    def __init__(self, value):
        self.value, self.raises = value, True

    def __call__(self, k):
        if k == 1 and self.raises:
            self.raises = False
            raise OSError("no schedule")
        return self.value


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("spoil", [
    lambda *arrays: [array(np.ones(3)) if a is arrays[1] else a for a in arrays],
    lambda *arrays: [array(np.ones(2), np.float64) if a is arrays[1] else a for a in arrays],
    lambda weight, grad, state: [weight, grad, []],
], ids=["shape", "dtype", "state"])
def test_an_update_that_raises_does_not_count(kernel, spoil):
    """Whoever catches the error goes on as if it had not been."""
    results = []
    for spoilt in (False, True):
        optimizer = namsg_mx.NAMSG(learning_rate=StepDecay(0.1, at=(2, 4)), kernel=kernel, nonfinite="skip")
        weight, grad = array([1.0, 2.0]), array([0.5, np.inf])
        state = optimizer.create_state(0, weight)
        for k in range(5):
            if spoilt and k in (0, 2):
                with pytest.raises((TypeError, ValueError)):
                    optimizer.update([0], *([each] for each in spoil(weight, grad, state)))
            optimizer.update([0], [weight], [grad], [state])
        assert optimizer.last_update()[1:] == (4, pytest.approx(0.001), 0.9, 0.9, None, 5)
        results.append([each.asnumpy() for each in (weight, *state)])
    assert_equal_bits(*results)


@pytest.mark.parametrize("options, dtype, error", [
    ({}, "int32", TypeError), ({"kernel": "cpu"}, "float64", RuntimeError),
    ({"bounds": (1.0001, 1.0002), "multi_precision": True}, "float16", ValueError)])
def test_a_step_of_two_dtypes_is_refused_before_a_weight_moves(options, dtype, error):
    """MXNet's Updater makes one update for each: the first has been made when the second is refused."""
    updater = mx.optimizer.get_updater(mx.optimizer.create("namsg", **options))
    weights, grads = ([mx.nd.ones(2), mx.nd.ones(2, dtype=dtype)] for _ in range(2))
    for _ in range(2):
        with pytest.raises(error):
            updater([0, 1], grads, weights)
    assert (weights[0] == 1).asnumpy().all() and updater.optimizer.num_update == 0


@pytest.mark.parametrize("setting", ["learning_rate", "beta1", "eta"])
def test_an_update_whose_schedule_raises_does_not_count(setting):
    optimizer = namsg_mx.NAMSG(**{setting: Stumbling(0.5)})
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([1.0]), state)
    before = weight.asscalar()
    with pytest.raises(OSError, match="no schedule"):
        optimizer.update(0, weight, array([1.0]), state)
    assert (weight.asscalar(), optimizer.num_update, optimizer.last_update().k) == (before, 1, 0)
    optimizer.update(0, weight, array([1.0]), state)
    assert (optimizer.num_update, optimizer.last_update().k) == (2, 1)


def test_an_update_that_fails_on_its_second_device_is_none():
    """What ran last is the update before, though the first device has made its part."""
    class Stumbles(namsg_mx.NAMSG):
        def _get_lrs(self, indices):
            if indices == [1] and self.num_update == 2:
                raise OSError("no rates")
            return super()._get_lrs(indices)

    optimizer, weights = Stumbles(), [mx.nd.ones(2, mx.cpu(device)) for device in range(2)]
    gradients, states = [weight.copy() for weight in weights], [optimizer.create_state(0, weight) for weight in weights]
    optimizer.update([0, 1], weights, gradients, states)
    before, made = optimizer.last_update(), weights[0].asnumpy()
    with pytest.raises(OSError, match="no rates"):
        optimizer.update([0, 1], weights, gradients, states)
    assert (weights[0].asnumpy() < made).all()
    assert optimizer.last_update() == before and before.k == 0


def test_a_replica_does_not_count_what_failed_on_another_device():
    optimizer = namsg_mx.NAMSG()
    updaters = [mx.optimizer.get_updater(optimizer) for _ in range(2)]
    weights, gradients = ([mx.nd.ones(2, mx.cpu(device)) for device in range(2)] for _ in range(2))
    for _ in range(2):
        updaters[0](0, gradients[0], weights[0])
    with pytest.raises(ValueError, match="must have one shape"):
        updaters[0](0, mx.nd.ones(3), weights[0])
    for k in range(2):
        updaters[1](0, gradients[1], weights[1])
        assert optimizer.last_update().k == k
    assert_equal_bits(*([weight.asnumpy()] for weight in weights))


def test_a_refused_update_without_a_state_takes_no_counts_of_another_device():
    optimizer = namsg_mx.NAMSG()
    updates = [mx.optimizer.get_updater(optimizer) for _ in range(2)]
    weights = [mx.nd.ones(1, mx.cpu(device)) for device in range(2)]
    for device, count in ((0, 5), (1, 1)):
        for _ in range(count):
            updates[device](0, weights[device].copy(), weights[device])
    with pytest.raises(TypeError, match="the state must be a list"):
        optimizer.update(7, weights[1], weights[1].copy(), None)
    updates[1](0, weights[1].copy(), weights[1])
    assert optimizer.last_update().k == 1


def test_an_update_of_nothing_is_none():
    """MXNet's Updater takes empty lists, too."""
    optimizer = namsg_mx.NAMSG()
    optimizer.update([], [], [], [])
    optimizer.update_multi_precision([], [], [], [])
    assert (optimizer.num_update, optimizer.last_update()) == (0, None)


@pytest.mark.parametrize("bad", [None, 3.0, np.ones(1, np.float32)], ids=["None", "number", "NumPy"])
def test_what_is_no_array_of_mxnet_is_named(bad):
    """In the first update and in one that takes other gradients than the one before."""
    optimizer = namsg_mx.NAMSG()
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    for _ in range(2):
        with pytest.raises(TypeError, match="NAMSG, parameter 0: the gradient must be an NDArray, not of type"):
            optimizer.update(0, weight, bad, state)
        optimizer.update(0, weight, array([1.0]), state)
    assert optimizer.last_update().k == 1


def test_the_parameter_that_does_not_fit_has_its_name_in_gluon(tmp_path):
    """As with the states of another network."""
    def train(in_units, load):
        layer = gluon.nn.Dense(2, in_units=in_units, prefix="last_")
        layer.initialize()
        trainer = gluon.Trainer(layer.collect_params(), "namsg")
        if load:
            trainer.load_states(str(tmp_path / "states"))
        with mx.autograd.record():
            loss = layer(mx.nd.ones((1, in_units))).sum()
        loss.backward()
        trainer.step(1)
        trainer.save_states(str(tmp_path / "states"))

    train(4, load=False)
    with pytest.raises(ValueError, match=r"^NAMSG, parameter last_weight: .* must have one shape, not \(2, 3\), .*4\)"):
        train(3, load=True)


def test_the_parameter_that_does_not_fit_has_its_name_in_a_module():
    optimizer = mx.optimizer.create("namsg", param_idx2name={0: "fc_weight", 1: "fc_bias"})
    weights = [array([1.0]), array([1.0])]
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
    with pytest.raises(ValueError, match="^NAMSG, parameter fc_bias: weight, gradient and state must have one shape"):
        optimizer.update([0, 1], weights, [array([1.0]), array([1.0, 2.0])], states)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_weights_in_which_the_step_has_no_meaning_are_refused(method, dtype):
    dtype = np.dtype([("bfloat16", np.uint16)]) if dtype == "bfloat16" else dtype   # MXNet's own
    weight = mx.nd.ones(2).astype(dtype)
    updater = mx.optimizer.get_updater(mx.optimizer.create(method))
    with pytest.raises(TypeError, match="weights must have dtype float16, float32 or float64, not "):
        updater(0, weight, weight)


@pytest.mark.parametrize(("make", "message"), [
    (lambda weight: mx.optimizer.create("adam").create_state(0, weight), "a tuple of 2; .*saved by another optimizer"),
    (lambda weight: [weight.copy()], "a list of 1; .*saved by another optimizer"),
    (lambda weight: tuple(namsg_mx.NAMSG().create_state(0, weight)),
     r"must be a list of m, v, v_hat .*a tuple of 3 \(NDArray, NDArray, NDArray\)$"),
    (lambda weight: weight.copy(), "not of type NDArray"),
    (lambda weight: None, "not of type NoneType"),
    (lambda weight: [None, None, None], "must be a list of m, v, v_hat")])
def test_states_that_are_none_of_its_own_are_refused(make, message):
    weight = array([1.0])
    with pytest.raises(TypeError, match=message):
        namsg_mx.NAMSG().update(0, weight, weight, make(weight))


def test_weights_of_two_dtypes_in_one_update_are_refused():
    optimizer = namsg_mx.NAMSG(multi_precision=True)
    weights = [array([1.0]), array([1.0]).astype(np.float16)]
    states = [optimizer.create_state(0, weights[0]), optimizer.create_state_multi_precision(1, weights[1])]
    with pytest.raises(TypeError, match="the weights of one update must have one dtype"):
        optimizer.update([0, 1], weights, [weight.copy() for weight in weights], states)


@pytest.mark.parametrize("refused", ["two dtypes", "a later gradient"])
def test_a_refused_update_leaves_the_precision_of_states(refused):
    """The first state is a float64 one, as from a file, and would lose digits."""
    weights = [array([1.0]), array([1.0]).astype(np.float64 if refused == "two dtypes" else np.float32)]
    grads = [weights[0], weights[1] if refused == "two dtypes" else array([1.0, 2.0])]
    states = [[array([0.1]).astype(np.float64) for _ in range(3)] for _ in weights]
    with pytest.raises((TypeError, ValueError), match="must have one (dtype|shape)"):
        namsg_mx.NAMSG().update([0, 1], weights, grads, states)
    assert {each.dtype for state in states for each in state} == {np.float64}


def test_a_state_of_two_dtypes_is_refused():
    weight = array([1.0])
    state = [array([0.0]), array([0.0]).astype(np.float64), array([0.0])]
    with pytest.raises(TypeError, match="all arrays of the state one, not float32, float32, float32, float64, float32"):
        namsg_mx.NAMSG().update(0, weight, weight, state)


@pytest.mark.parametrize("state", [None, "state", (array([1.0]),)])
def test_a_subclass_with_its_own_update_refuses_the_same_states(state):
    class Own(namsg_mx.NAMSG):
        def update(self, index, weight, grad, state):
            super().update(index, weight, grad, state)

    weight = array([1.0]).astype(np.float16)
    with pytest.raises(TypeError, match="Own, parameter 0: the state must be a list of m, v, v_hat"):
        Own(multi_precision=True).update_multi_precision(0, weight, weight, state)


def test_what_is_no_array_is_refused_while_a_graph_is_recorded_too():
    optimizer = namsg_mx.NAMSG()
    with mx.autograd.record(), pytest.raises(TypeError, match="the weight must be an NDArray, not of type ndarray"):
        optimizer.update(0, np.ones(3, np.float32), array(np.ones(3)), [array(np.zeros(3))] * 3)


def test_arrays_of_two_devices_are_refused():
    """Of a CPU and a GPU, where one says that it is there."""
    class Elsewhere(mx.nd.NDArray):
        __slots__ = ()
        context = property(lambda self: mx.gpu(0))

    for which in range(3):
        weight, grad = array([1.0]), array([1.0])
        state = namsg_mx.NAMSG().create_state(0, weight)
        (weight, grad, state[1])[which].__class__ = Elsewhere
        with pytest.raises(ValueError, match=r"weight, gradient and state must be on one device, not .*gpu\(0\)"):
            namsg_mx.NAMSG(kernel="ndarray").update(0, weight, grad, state)


def test_shapes_that_differ_are_refused_and_never_broadcast():
    optimizer = namsg_mx.NAMSG()
    weight = array(np.ones((3, 1)))
    state = optimizer.create_state(0, weight)
    with pytest.raises(ValueError, match=r"one shape, not \(3, 1\), \(1, 3\)"):
        optimizer.update(0, weight, array(np.ones((1, 3))), state)
    for shape in ((1, 3), (3,), (1,), (4, 1)):
        with pytest.raises(ValueError, match=rf"one shape, not .*, {re.escape(str(shape))}$"):
            optimizer.update(0, weight, array(np.ones((3, 1))), [*state[:-1], array(np.ones(shape))])
    assert (weight.asnumpy() == 1).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("earlier_updates", [0, 1])
def test_an_update_with_an_array_too_few_is_refused_and_moves_nothing(kernel, earlier_updates):
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    weights, gradients = [array([1.0]), array([1.0])], [array([1.0]), array([1.0])]
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
    for _ in range(earlier_updates):
        optimizer.update([0, 1], weights, gradients, states)
    before = [weight.asnumpy() for weight in weights]
    for arguments in ((weights, gradients[:1], states), (weights, [array([1.0])], states),
                      (weights[:1], gradients, states), (weights, gradients, states[:1])):
        with pytest.raises(ValueError, match="as many indices as weights, gradients and states, not 2, "):
            optimizer.update([0, 1], *arguments)
    with pytest.raises(ValueError, match="as many indices as weights, gradients and states, not 0, 2, 2 and 2"):
        optimizer.update([], weights, gradients, states)
    assert_equal_bits([weight.asnumpy() for weight in weights], before)
    assert optimizer.num_update == earlier_updates


def test_a_subclass_with_an_update_of_its_own_gets_no_array_too_few():
    class Own(namsg_mx.NAMSG):
        def update(self, index, weight, grad, state):
            super().update(index, weight, grad, state)

    optimizer, weights = Own(), [array([1.0]), array([1.0])]
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
    with pytest.raises(ValueError, match="as many indices as weights, gradients and states, not 2, 2, 1 and 2"):
        optimizer.update_multi_precision([0, 1], weights, [array([1.0])], states)
    assert [weight.asscalar() for weight in weights] == [1, 1]


@pytest.mark.parametrize("kernel", ["auto", "ndarray"])
def test_an_update_inside_of_record_is_refused_as_with_adam(kernel):
    parameter = gluon.Parameter("w", shape=(1,))
    parameter.initialize("one")
    trainer = gluon.Trainer([parameter], "namsg", {"kernel": kernel})
    with autograd.record():
        first, second = parameter.data() ** 2, parameter.data() ** 2
        first.backward()
        with pytest.raises(mx.MXNetError, match="inside of autograd.record"):
            trainer.step(1)
        second.backward()
    assert (parameter.data().asscalar(), parameter.grad().asscalar()) == (1, 2)
    trainer.step(1)
    assert parameter.data().asscalar() < 1


def test_half_precision_without_a_master_copy_is_refused_before_a_server_could_fail():
    parameter = gluon.Parameter("w", shape=(3,), dtype="float16")
    frozen = gluon.Parameter("frozen", shape=(3,), dtype="float16", grad_req="null")
    for each in (parameter, frozen):
        each.initialize()
    with pytest.raises(ValueError, match="multi_precision=False: must be True for float16 weights in NAMSG"):
        gluon.Trainer([parameter], "namsg")
    gluon.Trainer([frozen], "namsg")
    gluon.Trainer([parameter], "namsg", {"multi_precision": True})
