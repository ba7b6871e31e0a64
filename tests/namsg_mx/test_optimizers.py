"""The optimizers' steps against the float64 reference, weights and states, and the identities of the methods."""

import itertools

import mxnet as mx
import numpy as np
import pytest
from comparison import (
    EVERYTHING,
    KERNELS,
    METHODS,
    array,
    assert_equal_bits,
    create,
    numpy_state,
    reference_step,
    run,
    shapes_and_gradients,
    signed_gradients,
    step_beside_reference,
)

import namsg_mx
from namsg_mx import StepDecay, reference
from namsg_mx.optimizers import nadam

STEPS = 12
OPTIONS = {
    "defaults": {},
    "everything": EVERYTHING,
    "decoupled": dict(EVERYTHING, decoupled_wd=True),
    "skip": dict(EVERYTHING, nonfinite="skip"),
}


@pytest.mark.parametrize("size", [(1,), (31,), (4097,), (5, 3, 2, 2)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_steps_follow_the_reference(method, options, size):
    optimizer, at = create(method, **options)
    weight = array(np.random.RandomState(1).standard_normal(size))
    state = optimizer.create_state(0, weight)
    for k, g in enumerate(signed_gradients(size, STEPS)):
        lr, hyper = at(k)
        step_beside_reference(optimizer, method, weight, array(g), state, k + 1, lr, hyper)
    assert optimizer.last_update().nonfinite == 0


@pytest.mark.parametrize("method", ["namsg", "amsgrad"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_smallest_epsilon_divides_the_step(method, kernel):
    """Its root is 1.1e-19, and the squares of these gradients are far below it."""
    optimizer = mx.optimizer.create(method, learning_rate=0.1, beta2=0.99, epsilon=1.2e-38, kernel=kernel)
    weight = array([0.0, 1.0])
    step_beside_reference(optimizer, method, weight, array([1e-21, -3e-21]), optimizer.create_state(0, weight), 1, 0.1,
                          {"beta1": 0.9, "beta2": 0.99, "eta": 0.9})


@pytest.mark.parametrize("method", METHODS)
def test_whole_trajectory_in_float64(method):
    """Without rounding to float32 the optimizers are the reference, over many steps and not only from step to step."""
    optimizer, at = create(method, **EVERYTHING)
    x = np.random.RandomState(1).standard_normal(50)
    weight = array(x, dtype=np.float64)
    state = optimizer.create_state(0, weight)
    expected = numpy_state(optimizer.STATE, state)
    for k, g in enumerate(signed_gradients(50, 200)):
        lr, hyper = at(k)
        x, expected = reference_step(method, x, g.astype(np.float64), expected, k + 1, lr, hyper)
        optimizer.update(0, weight, array(g, dtype=np.float64), state)
    np.testing.assert_allclose(weight.asnumpy(), x, rtol=1e-12, atol=1e-13)
    for name, array_ in zip(optimizer.STATE, state):
        np.testing.assert_allclose(array_.asnumpy(), expected[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("beta1", [0.5, 1e-3, 1e-9, 1e-20, 1e-300])
def test_the_step_keeps_its_digits_as_beta1_vanishes(beta1, kernel):
    """mu goes to infinity then, and m to g: line 7 as it is printed would be all rounding."""
    optimizer = namsg_mx.NAMSG(learning_rate=0.1, beta1=beta1, beta2=0.0, epsilon=1e-30, eta=0.9, kernel=kernel)
    weight, first, second = array([1.0, 1.0]), np.array([0.5, -2.0]), np.array([0.75, 2.5])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array(first), state)
    before = weight.asnumpy()
    optimizer.update(0, weight, array(second), state)
    m_before = (1 - beta1) * first
    m = beta1 * m_before + (1 - beta1) * second
    m_hat = m + 0.9 * (1 - beta1) * (second - m_before)   # line 7, by mu * (g - m) = mu * beta1 * (g - m_before)
    np.testing.assert_allclose(before - weight.asnumpy(), 0.1 * m_hat / [0.75, 2.5], rtol=1e-5)


def test_eta_zero_is_amsgrad_to_the_bit():
    weights, gradients = shapes_and_gradients()
    settings = {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.97, "epsilon": 1e-7, "wd": 0.1}
    assert_equal_bits(run(namsg_mx.NAMSG(eta=0, **settings), weights, gradients),
                      run(namsg_mx.AMSGrad(**settings), weights, gradients))


def test_namsb_with_eta_zero_is_amsbound_to_the_bit():
    weights, gradients = shapes_and_gradients()
    settings = {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.97, "epsilon": 1e-7, "wd": 0.1, "gamma": 0.1}
    assert_equal_bits(run(namsg_mx.NAMSB(eta=0, **settings), weights, gradients),
                      run(namsg_mx.AMSBound(**settings), weights, gradients))


def test_namsb_is_namsg_as_long_as_its_limits_are_wide():
    """gamma = 1e-30: xi is between 0 and infinity, to float32."""
    weights, gradients = shapes_and_gradients()
    settings = {"learning_rate": 0.01, "eta": 1.5, "wd": 0.1}
    assert_equal_bits(run(namsg_mx.NAMSB(gamma=1e-30, **settings), weights, gradients),
                      run(namsg_mx.NAMSG(**settings), weights, gradients))


def test_namsb_becomes_sgd():
    """gamma = 1e9: both limits are alpha_SGD to float32, whose step AMSBound then makes, by lr_mult too."""
    weights, gradients = shapes_and_gradients()
    bounded = namsg_mx.AMSBound(learning_rate=0.01, sgd_learning_rate=0.3, gamma=1e9)
    sgd = namsg_mx.AveragedSGD(learning_rate=0.3)
    for optimizer in (bounded, sgd):
        optimizer.set_lr_mult({1: 0.5})
    for a, b in zip(run(bounded, weights, gradients)[::4], run(sgd, weights, gradients)[::2]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)   # the roundings of ten steps, in another order
    assert bounded.last_update().sgd_learning_rate == 0.3


@pytest.mark.parametrize(("mu", "eta"), [(0.5, 1.5), (StepDecay(0.5, at=(2, 5)), StepDecay(1.5, at=(2, 5)))])
def test_mu_and_eta_name_the_same_step(mu, eta):
    weights, gradients = shapes_and_gradients()
    assert_equal_bits(run(namsg_mx.NAMSG(beta1=0.75, mu=mu), weights, gradients),
                      run(namsg_mx.NAMSG(beta1=0.75, eta=eta), weights, gradients))


def test_beta1_zero_steps_along_the_gradient():
    optimizer = namsg_mx.NAMSG(learning_rate=0.5, beta1=0, beta2=0.5, eta=3.0)
    weight = array([0.0])
    optimizer.update(0, weight, array([4.0]), optimizer.create_state(0, weight))
    assert weight.asscalar() == pytest.approx(-0.5 * 4 / 8**0.5, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_grouping_and_order_of_parameters_change_nothing(method):
    weights, gradients = shapes_and_gradients()
    together = run(create(method)[0], weights, gradients)
    assert_equal_bits(together, run(create(method)[0], weights, gradients, together=False))
    backwards = run(create(method)[0], weights[::-1], [g[::-1] for g in gradients])
    per_parameter = len(together) // len(weights)
    groups = [backwards[i:i + per_parameter] for i in range(0, len(backwards), per_parameter)]
    assert_equal_bits(together, [a for group in groups[::-1] for a in group])


@pytest.mark.parametrize(("ours", "theirs", "options"), [
    ("averagedsgd", "sgd", {"wd": 0.01}), ("dozatnadam", "nadam", {"wd": 0.01, "clip_gradient": 2.0})])
def test_equals_mxnets_own_where_the_methods_coincide(ours, theirs, options):
    """SGD in the other convention, for a constant step size; Nadam for a model of one array."""
    weights, gradients = [np.linspace(-1, 1, 40, dtype=np.float32)], [[g] for g in signed_gradients(40, 20)]
    if theirs == "sgd":
        a, b = mx.optimizer.create(ours, learning_rate=1.0, beta1=0.9, **options), \
            mx.optimizer.create(theirs, learning_rate=0.1, momentum=0.9, **options)
    else:
        a, b = (mx.optimizer.create(name, learning_rate=0.01, **options) for name in (ours, theirs))
    np.testing.assert_allclose(run(a, weights, gradients)[0], run(b, weights, gradients, together=False)[0],
                               rtol=2e-5, atol=2e-6)


def test_mxnets_nadam_is_not_dozats_for_two_arrays_and_ours_is():
    """MXNet multiplies its momentum schedule once per array: the reason why `dozatnadam` exists."""
    weights, gradients = [np.ones(4, np.float32)] * 2, [[g, g] for g in signed_gradients(4, 3)]
    theirs = run(mx.optimizer.create("nadam", learning_rate=0.1), weights, gradients, together=False)
    ours = run(mx.optimizer.create("dozatnadam", learning_rate=0.1), weights, gradients, together=False)
    assert not np.allclose(theirs[0], theirs[3], rtol=1e-2)
    assert np.array_equal(ours[0], ours[3])


def test_the_count_in_dozatnadam_is_a_parameters_own():
    """One of two is skipped in two steps."""
    optimizer, at = create("dozatnadam")
    weights, t = [array(np.ones(4)), array(np.ones(4))], [0, 0]
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
    for k, g in enumerate(signed_gradients(4, 6)):
        for i in (0, 1) if k not in (2, 3) else (0,):
            t[i] += 1
            step_beside_reference(optimizer, "dozatnadam", weights[i], array(g), states[i], t[i], *at(k), index=i)
    assert t == [6, 4]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_stay_as_they_are(method, kernel):
    optimizer, _ = create(method, kernel=kernel, **EVERYTHING)
    weight, grad = array([1.0, -1.0, 0.5]), array([0.5, 100.0, -2.0])
    state = optimizer.create_state(0, weight)
    for _ in range(2):
        optimizer.update(0, weight, grad, state)
        assert_equal_bits([grad.asnumpy()], [np.array([0.5, 100.0, -2.0], np.float32)])


@pytest.mark.parametrize(("name", "defaults"), [
    ("namsg", {"learning_rate": 0.002, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "eta": 0.9, "mu": None}),
    ("amsgrad", {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
    ("namsb", {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "eta": 0.9,
               "sgd_learning_rate": 0.1, "gamma": 0.001}),
    ("amsbound", {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "sgd_learning_rate": 0.1,
                  "gamma": 0.001}),
    ("dozatnadam", {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "schedule_decay": 0.004}),
    ("averagedsgd", {"learning_rate": 0.1, "beta1": 0.9})])
def test_the_defaults_are_the_documented_ones(name, defaults):
    optimizer = mx.optimizer.create(name)
    assert {argument: getattr(optimizer, argument) for argument in defaults} == defaults


@pytest.mark.parametrize(("beta1", "schedule_decay"), [(0.9, 0.004), (0.99999, 50.0), (0.5, 0.0), (0.0, 0.004)])
def test_a_step_of_dozatnadam_costs_as_much_late_as_early(monkeypatch, beta1, schedule_decay):
    """The product of its momenta is made of the one before, and is the same to the bit in whatever order."""
    calls = []
    monkeypatch.setattr(nadam, "momentum", lambda t, *arguments: calls.append(t) or momentum(t, *arguments))
    momentum, products = reference.nadam_momentum, [1.0]
    for t in range(1, 20_001):
        products.append(products[-1] * momentum(t, beta1, schedule_decay))
    for t in (1, 2, 7, 3, 400, 39, 20_000, 19_999, 1):
        calls.clear()
        found = nadam.momentum_product(t, beta1, schedule_decay)
        assert found == products[t] or (found < 2e-16 and products[t] < 2e-16)   # 1 less either is 1
        assert t not in (3, 39, 19_999) or not calls
    if beta1 == 0.99999:
        calls.clear()
        nadam.momentum_product(20_001, beta1, schedule_decay)
        assert calls == [20_001]
    else:   # nor does it keep a number for each update
        assert len(nadam._momentum_products(beta1, schedule_decay)) < 100


@pytest.mark.parametrize("method", METHODS)
def test_minimises_a_badly_conditioned_quadratic(method):
    curvature = array([100.0, 1.0, 0.1])
    optimizer = mx.optimizer.create(method, learning_rate=0.01 if method == "averagedsgd" else 0.05, beta1=0.9)
    weight = array([1.0, -1.0, 1.0])
    state = optimizer.create_state(0, weight)
    for _ in range(2000):
        optimizer.update(0, weight, curvature * weight, state)
    assert float((curvature * weight**2).sum().asscalar()) < 0.05


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("wd", [1e-5, 1e-4])
def test_decoupled_decay_has_its_rate_in_float32(kernel, wd):
    """Over many steps with noise; 1 - lr * wd, rounded to float32, would be 1, or 1.2 times that rate."""
    lr, n, steps = 1e-3, 4000, 300
    weights = {}
    for decay in (0.0, wd):
        random = np.random.RandomState(0)
        optimizer = namsg_mx.AveragedSGD(learning_rate=lr, wd=decay, decoupled_wd=True, kernel=kernel)
        weight = array(random.uniform(1, 2, n))
        state = optimizer.create_state(0, weight)
        for _ in range(steps):
            optimizer.update(0, weight, array(random.standard_normal(n)), state)
        weights[decay] = weight.asnumpy().astype(np.float64)
    rate = (weights[0.0] - weights[wd]).mean() / weights[0.0].mean()
    assert rate == pytest.approx(1 - np.exp(-lr * wd * steps), rel=0.05)


@pytest.mark.parametrize("kernel", KERNELS)
def test_decoupled_decay_has_the_step_size_of_its_parameter(kernel):
    """A frozen one keeps its weight."""
    optimizer = namsg_mx.NAMSG(learning_rate=0.5, wd=0.25, decoupled_wd=True, kernel=kernel)
    optimizer.set_lr_mult({0: 0.0, 1: 0.5})
    weights = run(optimizer, [np.ones(3, np.float32)] * 3, [[np.zeros(3, np.float32)] * 3])[::4]
    assert_equal_bits(weights, [np.full(3, value, np.float32) for value in (1, 0.9375, 0.875)])


def test_lr_mult_of_a_parameters_name():
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, param_idx2name={0: "frozen", 1: "free"})
    optimizer.set_lr_mult({"frozen": 0.0})
    assert run(optimizer, [np.ones(1)] * 2, [[np.ones(1)] * 2])[::2] == [1, 0]


def test_nan_is_treated_as_in_the_reference():
    """NaN goes into m, v, v_hat and the weight, for good; numpy.maximum and numpy.clip do the same."""
    optimizer = namsg_mx.NAMSG(clip_gradient=1.0, bounds=(-5, 5))
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    for g in (1.0, np.nan, 1.0):
        optimizer.update(0, weight, array([g]), state)
    assert all(np.isnan(a.asscalar()) for a in [weight, *state])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("method", ["namsg", "amsgrad", "namsb", "amsbound"])
def test_a_program_may_set_states_to_0_to_begin_anew(method, kernel):
    """As it may with Adam's. Without a gradient the step would be 0 / 0."""
    optimizer, weight = mx.optimizer.create(method, kernel=kernel), array([1.0, 1.0])
    state = optimizer.create_state(0, weight)
    for gradient in ([1.0, 1.0], [0.0, -2.0], [0.0, 1.0]):
        if gradient == [0.0, -2.0]:
            for values in state:
                values[:] = 0
            before = weight.asnumpy()
        optimizer.update(0, weight, array(gradient), state)
    after = weight.asnumpy()
    assert after[0] == before[0] and np.isfinite(after[1]) and after[1] != before[1]
    if method in ("namsg", "amsgrad"):
        settings = (0.002, 0.9, 0.99, 0.9) if method == "namsg" else (0.001, 0.9, 0.999, 0.0)
        x, moments = np.float64(before[1]), reference.Moments(*np.zeros((3, 1)))
        for gradient in (-2.0, 1.0):
            x, moments = reference.namsg(x, gradient, moments, *settings)
        assert after[1] == pytest.approx(x.item(), rel=1e-6)


def test_the_limits_of_the_largest_gamma_are_still_there():
    """k * gamma is infinite there, and infinity over itself would be no limit."""
    weights, gradients = shapes_and_gradients()
    assert_equal_bits(run(namsg_mx.NAMSB(gamma=1e308), weights, gradients),
                      run(namsg_mx.NAMSB(gamma=1e300), weights, gradients))


def test_the_limits_of_a_large_gamma_are_finite_at_all_step_sizes():
    """alpha / alpha_SGD times gamma would be infinite, and a step divided by that 0."""
    for gamma in (1e100, 1e300):
        optimizer, weight = namsg_mx.NAMSB(1.0, sgd_learning_rate=1e-9, gamma=gamma), array([0.0])
        optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
        assert weight.asscalar() == pytest.approx(-1e-9 * (1 - 0.9 + 0.9 * 0.1), rel=1e-6)


# MXNet 1.9.1's own comparison of optimizers: compare_optimizer of test_utils.py, over the grid of test_optimizer.py.

GRID = [dict(zip(("beta1", "beta2", "clip_gradient", "rescale_grad", "wd"), values)) for values in itertools.product(
    (0.5, 0.9), (0.8, 0.99), (None, 0.4), (1.0, 0.14), (0.0, 0.05))]


STORAGES = [("default", "default"), ("default", "row_sparse"), ("row_sparse", "row_sparse")]


@pytest.mark.parametrize("storages", STORAGES, ids=" and ".join)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_mxnets_grid_of_settings_dtypes_and_storage_types(dtype, storages):
    """Two steps of each by MXNet's Updater, against the float64 reference; float16 by its master weights."""
    random = np.random.RandomState(0)
    start = random.standard_normal((3, 4, 5)).astype(dtype)
    gradients = random.standard_normal((2, 3, 4, 5)).astype(dtype)
    gradients[:, 1] *= storages[1] == "default"   # a row that a row_sparse gradient lacks
    for settings in GRID:
        optimizer = mx.optimizer.create("namsg", learning_rate=0.01, eta=1.5, multi_precision=True, **settings)
        updater = mx.optimizer.get_updater(optimizer)
        weight = mx.nd.array(start, dtype=dtype).tostype(storages[0])
        x, moments = start.astype(np.float64), reference.Moments(0.0, 0.0, optimizer.epsilon)
        for g in gradients:
            updater(0, mx.nd.array(g, dtype=dtype).tostype(storages[1]), weight)
            g = reference.gradient(g.astype(np.float64), x, *(settings[name] for name in (
                "rescale_grad", "wd", "clip_gradient")))
            x, moments = reference.namsg(x, g, moments, 0.01, settings["beta1"], settings["beta2"], eta=1.5)
        m, v, v_hat, *master = updater.states[0]
        target = master[0] if master else weight
        assert len(master) == (dtype == np.float16)
        for found, expected in zip((target, m, v, v_hat), (x, *moments)):
            np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-6, err_msg=str(settings))
        if master:
            assert_equal_bits([weight.asnumpy()], [target.asnumpy().astype(np.float16)])


def test_parameters_that_have_names_for_indices():
    """As in a kvstore with keys that are names."""
    optimizer = mx.optimizer.create("namsg", wd=0.1, param_idx2name={"a": "a_weight", "b": "b_bias"})
    updater = mx.optimizer.get_updater(optimizer)
    weights = [mx.nd.ones(2), mx.nd.ones(2)]
    updater(["a", "b"], [mx.nd.zeros(2), mx.nd.array([np.nan, 0])], weights)
    assert optimizer.last_update().nonfinite == 1
    assert (weights[0].asnumpy() < 1).all() and weights[1].asnumpy()[1] == 1   # as decay is for weights only
