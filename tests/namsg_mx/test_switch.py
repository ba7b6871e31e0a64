"""SWNTS: the switch from NAMSG to SGD, against the reference, however the parameters arrive."""

import contextlib
import copy

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, array, assert_close, assert_equal_bits, signed_gradients

from namsg_mx import NAMSG, StepDecay, reference

SHAPES = [(3,), (4, 5), (1,)]
SWITCH, STEPS = 6, 14
ALPHA, BETA1, BETA2, ETA, WD, RESCALE = StepDecay(0.02, at=(10,)), 0.8, 0.97, 1.5, 0.01, 0.5
LR_MULT = [1.0, 0.5, 2.0]


def reference_run(weights, gradients, lr_mult):
    """Weights and alpha_hat * alpha_k / alpha_{SWITCH-1} of each update, all in float64."""
    xs = [w.astype(np.float64) for w in weights]
    states = [reference.initial_moments(x) for x in xs]
    trajectory, rates, alpha_hat = [], [], None
    mu = reference.observation_factor(ETA, BETA1)
    for k, grads in enumerate(gradients):
        alpha = ALPHA(k)
        gs = [reference.gradient(g.astype(np.float64), x, RESCALE, WD) for g, x in zip(grads, xs)]
        for i, g in enumerate(gs):
            if k < SWITCH:
                xs[i], states[i] = reference.namsg(xs[i], g, states[i], alpha * lr_mult[i], BETA1, BETA2, ETA)
            else:
                rate = alpha_hat * alpha / ALPHA(SWITCH - 1)
                xs[i], m = reference.sgd(xs[i], states[i].m, g, rate * lr_mult[i], BETA1, ETA)
                states[i] = states[i]._replace(m=m)
        if k == SWITCH - 1:
            # SGD's direction of a parameter is lr_mult * m_hat, and alpha_hat is common to all.
            m_hats = [mult * ((1 - mu) * s.m + mu * g) for mult, s, g in zip(lr_mult, states, gs)]
            alpha_hat = reference.switched_step_size(m_hats, [s.v_hat for s in states], alpha)
        trajectory.append(list(xs))
        rates.append(alpha_hat * alpha / ALPHA(SWITCH - 1) if k >= SWITCH else None)
    return trajectory, rates


def optimizer(**options):
    return NAMSG(learning_rate=ALPHA, beta1=BETA1, beta2=BETA2, eta=ETA, wd=WD, rescale_grad=RESCALE,
                 switch_to_sgd=SWITCH, **options)


def data():
    random = np.random.RandomState(5)
    weights = [random.standard_normal(s).astype(np.float32) for s in SHAPES]
    return weights, list(zip(*[signed_gradients(s, STEPS, seed=i) for i, s in enumerate(SHAPES)]))


@CPU_KERNEL
def test_only_the_update_that_measures_takes_the_slow_kernel():
    namsg, weight, kernels = optimizer(), array(np.ones(3)), []
    state = namsg.create_state(0, weight)
    for _ in range(SWITCH + 3):
        namsg.update(0, weight, array(np.ones(3)), state)
        kernels.append(namsg.last_update().kernel)
    assert kernels[SWITCH - 1] == "ndarray"
    del kernels[SWITCH - 1]
    assert set(kernels) == {"cpu"}


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
@pytest.mark.parametrize("lr_mult", [[1.0] * 3, LR_MULT], ids=["", "lr_mult"])
def test_follows_the_reference(together, lr_mult):
    namsg = optimizer()
    namsg.set_lr_mult(dict(enumerate(lr_mult)))
    weights, gradients = data()
    trajectory, rates = reference_run(weights, gradients, lr_mult)
    arrays = [array(w) for w in weights]
    states = [namsg.create_state(i, w) for i, w in enumerate(arrays)]
    for k, grads in enumerate(gradients):
        grads = [array(g) for g in grads]
        if together:
            namsg.update([0, 1, 2], arrays, grads, states)
        else:
            for i in range(3):
                namsg.update(i, arrays[i], grads[i], states[i])
        for x, w in zip(trajectory[k], arrays):
            # Rounding of all the steps so far, each within the contract.
            assert_close("weight", w.asnumpy(), x, np.maximum(np.abs(x), 1.0), ulps=32 * (k + 1))
        rate = namsg.last_update().sgd_learning_rate
        assert rate == (None if rates[k] is None else pytest.approx(rates[k], rel=1e-5))


def test_second_moments_rest_after_the_switch():
    namsg = optimizer()
    weights, gradients = data()
    weight = array(weights[1])
    state = namsg.create_state(0, weight)
    for k in range(STEPS):
        if k == SWITCH:
            frozen = [state[1].asnumpy(), state[2].asnumpy()]
        namsg.update(0, weight, array(gradients[k][1]), state)
    assert np.array_equal(state[1].asnumpy(), frozen[0])
    assert np.array_equal(state[2].asnumpy(), frozen[1])


@pytest.mark.parametrize("at", [SWITCH - 1, SWITCH, SWITCH + 1])
def test_saved_and_loaded_around_the_switch_goes_on_to_the_bit(at):
    weights, gradients = data()

    def train(stop_at=None):
        updater = mx.optimizer.get_updater(optimizer())
        arrays = [array(w) for w in weights]
        for k, grads in enumerate(gradients):
            if k == stop_at:
                saved = updater.get_states(dump_optimizer=True)
                updater = mx.optimizer.get_updater(NAMSG())
                updater.set_states(saved)
            updater([0, 1, 2], [array(g) for g in grads], arrays)
        return [a.asnumpy() for a in arrays]

    assert_equal_bits(train(), train(stop_at=at))


def test_skipped_nonfinite_gradients_have_no_part_in_the_step_size():
    runs = []
    for bad in ([np.nan], [np.inf], []):   # the last has no such element
        namsg = NAMSG(switch_to_sgd=2, nonfinite="skip", clip_gradient=1.0)
        weight = array([1.0, 2.0][:1 + len(bad)])
        state = namsg.create_state(0, weight)
        for g in ([1.0, 1.0], [0.5, *bad], [0.5, 0.5]):
            namsg.update(0, weight, array(g[:weight.size]), state)
        runs.append(namsg.last_update().sgd_learning_rate)
    assert runs[0] == runs[1] == runs[2] > 0


@pytest.mark.parametrize("lazy", [False, True])
def test_parameters_without_a_step_in_the_update_before_have_no_part_in_the_step_size(lazy):
    """One that the update leaves out, and by lazy updates one whose row_sparse gradient has no rows."""
    namsg = NAMSG(switch_to_sgd=2, lazy_update=lazy)
    weights = [array([[1.0], [2.0]]), array([1.0, -1.0]), array([3.0])]
    states = [namsg.create_state(i, weight) for i, weight in enumerate(weights)]
    sparse, dense = np.array([[[0.0], [7.0]], [[0.0], [0.0]]]), np.array([[1.0, -3.0], [0.5, 2.0]])
    for k in range(2):
        gradients = [array(sparse[k]).tostype("row_sparse"), array(dense[k]), array([8.0])]
        some = slice(3 - k)   # not the last one in update 1
        namsg.update([0, 1, 2][some], weights[some], gradients[some], states[some])
    m_hats, v_hats = [], []
    for gradients in [dense] if lazy else [dense, sparse]:
        moments, mu = reference.initial_moments(gradients[0]), reference.observation_factor(0.9, 0.9)
        for g in gradients:
            _, moments = reference.namsg(0.0, g, moments, 0.002, 0.9, 0.99, 0.9)
        m_hats.append((1 - mu) * moments.m + mu * gradients[1])
        v_hats.append(moments.v_hat)
    expected = reference.switched_step_size(m_hats, v_hats, 0.002)
    assert namsg.settings(2).sgd_learning_rate == pytest.approx(expected, rel=1e-5)


def test_settings_after_the_switch_are_told_once_it_is_made():
    namsg, weight = NAMSG(switch_to_sgd=2), array([1.0])
    state = namsg.create_state(0, weight)
    for _ in range(2):
        assert namsg.settings(1).sgd_learning_rate is None
        with pytest.raises(RuntimeError, match="switch_to_sgd=2: SGD's step size comes from update 1, .*did not make"):
            namsg.settings(7)
        namsg.update(0, weight, array([1.0]), state)
    assert namsg.settings(7).sgd_learning_rate > 0


def test_a_weight_that_is_nan_is_told_at_the_switch_and_spreads_to_no_other():
    namsg = NAMSG(switch_to_sgd=np.int64(2))
    weights = [array([1.0, 2.0]), array([3.0])]
    states = [namsg.create_state(i, w) for i, w in enumerate(weights)]
    gradients = [array([np.nan, 1.0]), array([1.0])]
    for _ in range(2):
        namsg.update([0, 1], weights, gradients, states)
    with pytest.raises(RuntimeError, match="switch_to_sgd=2: .* comes from update 1, .* or made one infinite or NaN"):
        namsg.update([0, 1], weights, gradients, states)
    assert np.isfinite([weights[0].asnumpy()[1], weights[1].asscalar()]).all()


def with_two_parameters(at):
    optimizer = NAMSG(learning_rate=0.1)
    optimizer.switch_to_sgd(at)
    weights = [array([1.0]), array([2.0, -1.0])]
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]

    def update(i, k):
        optimizer.update(i, weights[i], array([0.5, 3.0][:i + 1]) * (k + 1), states[i])

    return optimizer, update


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("asked", [False, True])
def test_a_switch_that_is_put_off_takes_the_later_updates_step_size(asked, together):
    """Of the parameters of that update, which may be fewer than those before."""
    optimizer, update = with_two_parameters(2)
    for k in range(4):
        if k == 2:
            if asked:
                optimizer.settings(2)
            optimizer.switch_to_sgd(4)
        update(0, k)
        if k < 3 or together:
            update(1, k)
    expected, update = with_two_parameters(4)
    for k in range(4):
        update(0, k)
        if k < 3 or together:
            update(1, k)
    assert optimizer.settings(4) == expected.settings(4)


def test_settings_that_are_asked_for_between_two_parameters_fix_no_step_size():
    rates = []
    for asked in (False, True):
        optimizer, update = with_two_parameters(2)
        for k in range(2):
            update(0, k)
            if k == 1 and asked:
                optimizer.settings(2)
            update(1, k)
        rates.append(optimizer.settings(2))
    assert rates[0] == rates[1]


class Interrupted:
    """A schedule under which Ctrl-C is pressed once, in update k."""

    def __init__(self, k):
        self.k = k

    def __call__(self, k):
        if k == self.k:
            self.k = None
            raise KeyboardInterrupt
        return 0.01


def test_an_update_that_is_interrupted_does_not_count():
    weights = [array([1.0]), array([1.0])]
    for weight, rate in zip(weights, (Interrupted(1), 0.01)):
        optimizer = NAMSG(learning_rate=rate)
        state = optimizer.create_state(0, weight)
        for _ in range(4):
            with contextlib.suppress(KeyboardInterrupt):
                optimizer.update(0, weight, array([1.0]), state)
        assert optimizer.num_update == (3 if weight is weights[0] else 4)
        if weight is weights[0]:
            optimizer.update(0, weight, array([1.0]), state)
    assert_equal_bits(*([weight.asnumpy()] for weight in weights))


def test_a_switch_is_not_taken_back():
    namsg = NAMSG(switch_to_sgd=2)
    weight = array([1.0, 2.0])
    state = namsg.create_state(0, weight)
    for _ in range(2):
        namsg.update(0, weight, array([1.0, -1.0]), state)
    namsg.switch_to_sgd(3)   # update 2, the next one, would have been the first by SGD
    for _ in range(2):
        namsg.update(0, weight, array([1.0, -1.0]), state)
    rate = namsg.last_update().sgd_learning_rate
    with pytest.raises(ValueError, match="switch_to_sgd=6: switched at update 3 already"):
        namsg.switch_to_sgd(6)
    namsg.update(0, weight, array([1.0, -1.0]), state)
    assert namsg.last_update().sgd_learning_rate == rate > 0


def test_can_be_asked_for_while_training():
    namsg = NAMSG()
    weight = array([1.0, 2.0])
    state = namsg.create_state(0, weight)
    for _ in range(3):
        namsg.update(0, weight, array([1.0, -1.0]), state)
    with pytest.raises(ValueError, match="switch_to_sgd=3: must be an integer above 3"):
        namsg.switch_to_sgd(3)
    namsg.switch_to_sgd(4)
    namsg.update(0, weight, array([1.0, -1.0]), state)
    assert namsg.last_update().sgd_learning_rate is None
    namsg.update(0, weight, array([1.0, -1.0]), state)
    assert namsg.last_update().sgd_learning_rate > 0


@pytest.mark.parametrize(("num_update", "gradient"), [(0, 0.0), (5, 0.0), (7, 1.0)])
def test_a_switch_without_a_step_before_it_raises(num_update, gradient):
    """Update 5 has no gradient, or another optimizer has made it."""
    namsg = NAMSG(switch_to_sgd=6)
    namsg.num_update = num_update
    weight = array([1.0])
    state = namsg.create_state(0, weight)
    with pytest.raises(RuntimeError, match="switch_to_sgd=6: .*did not make, or which changed no weight"):
        for _ in range(7):
            namsg.update(0, weight, array([gradient]), state)


def test_copies_that_switch_measure_for_themselves():
    def updated(optimizer, gradient, count):
        weight = mx.nd.ones(2)
        state = optimizer.create_state(0, weight)
        for _ in range(count):
            optimizer.update(0, weight, mx.nd.array(gradient), state)
            yield
        yield optimizer.last_update().sgd_learning_rate

    alone = [list(updated(mx.optimizer.create("namsg", switch_to_sgd=2), gradient, 4))[-1]
             for gradient in ([1, 2], [1, 500])]
    one = mx.optimizer.create("namsg", switch_to_sgd=2)
    in_turn = list(zip(updated(one, [1, 2], 4), updated(copy.copy(one), [1, 500], 4)))
    assert list(in_turn[-1]) == alone and alone[0] != alone[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", ["auto", "ndarray"])
def test_mxnets_numpy_arrays_are_updated_before_and_after_the_switch(kernel, dtype):
    results = []
    for make in (mx.np.array, mx.nd.array):
        optimizer = mx.optimizer.create("namsg", switch_to_sgd=3, kernel=kernel)
        weight = make([1.0, 2.0, 3.0], dtype=dtype)
        state = optimizer.create_state(0, weight)
        for _ in range(5):
            optimizer.update(0, weight, make([1.0, 0.0, 2.0], dtype=dtype), state)
        results.append([weight.asnumpy(), *(each.asnumpy() for each in state)])
    assert_equal_bits(*results)
