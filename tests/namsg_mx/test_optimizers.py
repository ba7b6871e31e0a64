"""The optimizers' steps against the float64 reference, weights and states, and the identities of the methods."""

import copy
import math
import pickle
import re
import sys
from decimal import Decimal

import mxnet as mx
import numpy as np
import pytest
from comparison import (
    CPU_KERNEL,
    METHODS,
    array,
    assert_equal_bits,
    numpy_state,
    reference_step,
    signed_gradients,
    step_beside_reference,
)
from mxnet.lr_scheduler import FactorScheduler

import namsg_mx
from namsg_mx import ExponentialDecay, InverseSquareRoot, ObservationDistance, StepDecay, WarmUp, reference
from namsg_mx.optimizers import nadam

KERNELS = [pytest.param("cpu", marks=CPU_KERNEL), "ndarray"]
STEPS = 12
# Every hyper-parameter away from its default at once; the clip acts on some gradients, the box on some weights.
EVERYTHING = {"rescale_grad": 0.25, "wd": 0.03, "clip_gradient": 1.5, "bounds": (-1.2, 0.9)}
OPTIONS = {
    "defaults": {},
    "everything": EVERYTHING,
    "decoupled": dict(EVERYTHING, decoupled_wd=True),
    "skip": dict(EVERYTHING, nonfinite="skip"),
}


def create(method, **options):
    """The optimizer and, for each k, the step size and the reference's hyper-parameters at that update."""
    settings = {"learning_rate": InverseSquareRoot(0.02)}
    if method == "namsg":
        settings.update(beta1=ExponentialDecay(0.85, 0.99), beta2=0.97, epsilon=1e-6,
                        eta=ObservationDistance(7, 0.5, 2.0))
    elif method == "amsgrad":
        settings.update(beta1=ExponentialDecay(0.85, 0.99), beta2=0.97, epsilon=1e-6)
    elif method in ("namsb", "amsbound"):
        settings.update(beta1=ExponentialDecay(0.85, 0.99), beta2=0.97, epsilon=1e-6, gamma=0.2,
                        sgd_learning_rate=StepDecay(0.5, at=(6,)))
        if method == "namsb":
            settings["eta"] = ObservationDistance(7, 0.5, 2.0)
    elif method == "averagedsgd":
        settings.update(beta1=ExponentialDecay(0.85, 0.99))
    elif method == "dozatnadam":
        settings.update(beta1=0.85, beta2=0.97, epsilon=1e-4, schedule_decay=0.1)
    else:
        raise ValueError(f"there are no settings for {method}")
    optimizer = mx.optimizer.create(method, **settings, **options)

    def at(k):
        hyper = {name: value(k) if callable(value) else value for name, value in settings.items()}
        hyper.update({name: value for name, value in options.items() if name != "nonfinite"})
        return hyper.pop("learning_rate"), hyper

    return optimizer, at


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


def run(optimizer, weights, gradients, together=True):
    """Weights and states after a step with each of ``gradients`` (lists of arrays), all at once or one by one."""
    weights = [array(w) for w in weights]
    states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
    for grads in gradients:
        grads = [array(g) for g in grads]
        if together:
            optimizer.update(list(range(len(weights))), weights, grads, states)
        else:
            for i, arrays in enumerate(zip(weights, grads, states)):
                optimizer.update(i, *arrays)
    return [a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]]


def shapes_and_gradients(steps=10):
    shapes = [(3,), (4, 5), (1,), (2, 3, 3)]
    random = np.random.RandomState(3)
    weights = [random.standard_normal(s).astype(np.float32) for s in shapes]
    return weights, list(zip(*[signed_gradients(s, steps, seed=i) for i, s in enumerate(shapes)]))


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


INVALID = [
    ({"learning_rate": -0.1}, r"learning_rate=-0\.1: must be a number in \[0, inf\)"),
    ({"learning_rate": float("nan")}, r"learning_rate=nan"),
    ({"learning_rate": "fast"}, r"learning_rate='fast'"),
    ({"learning_rate": True}, r"learning_rate=True"),
    ({"beta1": 1.0}, r"beta1=1\.0: must be a number in \[0, 1\)"),
    ({"beta1": -0.1}, r"beta1=-0\.1"),
    ({"beta2": 1.5}, r"beta2=1\.5: must be a number in \[0, 1\)"),
    ({"epsilon": 0}, r"epsilon=0: must be a number in \[1.17549e-38, inf\)"),
    ({"epsilon": 1e-50}, "epsilon=1e-50: must be"),
    ({"eta": -1}, r"eta=-1: must be a number in \[0, inf\)"),
    ({"eta": float("inf")}, r"eta=inf"),
    ({"mu": -1}, r"mu=-1"),
    ({"eta": 0.9, "mu": 0.1}, r"eta=0\.9 and mu=0\.1: give at most one"),
    ({"wd": -1}, r"wd=-1"),
    ({"clip_gradient": "1"}, r"clip_gradient='1': must be a number in \(-inf, inf\)"),
    ({"clip_gradient": float("nan")}, r"clip_gradient=nan"),
    ({"rescale_grad": float("nan")}, r"rescale_grad=nan: must be a number in \(-inf, inf\)"),
    ({"rescale_grad": None}, r"rescale_grad=None"),
    ({"multi_precision": "x"}, r"multi_precision='x': must be True or False"),
    ({"begin_num_update": -1}, r"begin_num_update=-1: must be an integer, at least 0"),
    ({"begin_num_update": "3"}, r"begin_num_update='3'"),
    ({"begin_num_update": 2.5}, r"begin_num_update=2.5: must be an integer, at least 0"),
    ({"eta": mx.lr_scheduler.FactorScheduler(2)}, r"eta=.*: MXNet's schedulers are given as lr_scheduler"),
    ({"eta": ObservationDistance}, r"eta=.*: is a class; give an instance, ObservationDistance\(\.\.\.\)"),
    ({"learning_rate": StepDecay}, r"learning_rate=.*: is a class"),
    ({"beta1": namsg_mx.HarmonicDecay}, r"beta1=.*: is a class"),
    ({"beta1": ObservationDistance(5, start=1.0)}, r"beta1\(0\)=1\.0: must be a number in \[0, 1\)"),
    ({"bounds": (1, 1)}, r"bounds=\(1, 1\): .*low < high"),
    ({"bounds": 3}, r"bounds=3"),
    ({"bounds": "12"}, r"bounds='12'"),
    ({"bounds": np.array(1.0)}, r"bounds=array\(1\.\)"),
    ({"clip_gradient": np.array([1, 2])}, r"clip_gradient=array\(\[1, 2\]\)"),
    ({"clip_gradient": mx.nd.ones(1)}, r"clip_gradient=\n"),
    ({"kernel": mx.nd.ones(1)}, r"kernel=\n"),
    ({"nonfinite": "ignore"}, r"nonfinite='ignore': must be one of 'propagate', 'skip'"),
    ({"kernel": "fpga"}, r"kernel='fpga': must be one of"),
    ({"lazy_update": 1}, r"lazy_update=1: must be True or False"),
    ({"decoupled_wd": None}, r"decoupled_wd=None"),
    ({"switch_to_sgd": 0}, r"switch_to_sgd=0: must be an integer above 0"),
    ({"switch_to_sgd": 2.5}, r"switch_to_sgd=2\.5"),
    ({"eta": lambda k: 1.0}, r"eta=.*picklable"),
    ({"learning_rate": -0.1, "lr_scheduler": FactorScheduler(10)}, r"learning_rate=-0\.1: must be a number in"),
    ({"learning_rate": FactorScheduler(10)}, "learning_rate=.*: MXNet's schedulers are given as lr_scheduler"),
    ({"lr_scheduler": InverseSquareRoot(1.0)}, "lr_scheduler=.*: must be an mxnet.lr_scheduler.LRScheduler"),
    ({"lr_scheduler": 0.1}, "lr_scheduler=0.1: must be an mxnet.lr_scheduler.LRScheduler"),
    ({"learning_rate": InverseSquareRoot(1.0), "lr_scheduler": FactorScheduler(10)}, r"give one of the two"),
]


@pytest.mark.parametrize(("arguments", "message"), INVALID,
                         ids=lambda case: ", ".join(case) if isinstance(case, dict) else case)   # no addresses
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        mx.optimizer.create("namsg", **arguments)


@pytest.mark.parametrize("name", ["eta", "mu", "switch_to_sgd"])
@pytest.mark.parametrize("method", ["AMSGrad", "AMSBound"])
def test_amsgrad_and_amsbound_have_no_observation_distance(method, name):
    with pytest.raises(ValueError, match=f"{name}=1: {method} has none"):
        getattr(namsg_mx, method)(**{name: 1})


@pytest.mark.parametrize("method", ["AMSGrad", "AMSBound"])
def test_no_observation_distance_may_be_given_to_amsgrad_and_amsbound(method):
    assert getattr(namsg_mx, method)(eta=None, mu=None).settings(0).eta == 0


@pytest.mark.parametrize("clip_gradient", [None, -math.inf, np.array(np.inf)])
def test_what_clips_nothing(clip_gradient):
    weight = array([1.0])
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, clip_gradient=clip_gradient)
    optimizer.update(0, weight, array([100.0]), optimizer.create_state(0, weight))
    assert weight.asscalar() == -99.0


def test_a_count_may_be_a_float_without_a_fraction():
    """As epochs times examples by batch size."""
    number = namsg_mx.NAMSG(begin_num_update=10 * 320 / 32).num_update
    assert (number, type(number)) == (100, int)


@pytest.mark.parametrize("method", ["AMSGrad", "AMSBound", "NAMSB"])
def test_the_switch_to_sgd_is_namsgs(method):
    with pytest.raises(ValueError, match=f"switch_to_sgd=5: {method} has none; use NAMSG"):
        getattr(namsg_mx, method)().switch_to_sgd(5)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"gamma": 0}, r"gamma=0: must be a number in \(0, inf\)"),
    ({"learning_rate": 0.0}, r"learning_rate=0\.0: must be a number in \[1.17549e-38, inf\)"),
    ({"sgd_learning_rate": 0}, r"sgd_learning_rate=0: must be a number in \(0, inf\)"),
    ({"learning_rate": 1e-40}, r"learning_rate=1e-40: must be a number in \[1.17549e-38, inf\)"),
    ({"sgd_learning_rate": lambda k: 0.1}, r"sgd_learning_rate=.*picklable"),
    ({"switch_to_sgd": 5}, r"switch_to_sgd=5: NAMSB has none"),
])
def test_namsb_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        namsg_mx.NAMSB(**arguments)


def test_namsb_refuses_an_update_without_a_step_size():
    with pytest.raises(ValueError, match=r"learning_rate\(0\)=0\.0: must be a number in \[1.17549e-38, inf\)"):
        namsg_mx.NAMSB(learning_rate=WarmUp(0.1, updates=2))
    with pytest.raises(ValueError, match=r"learning_rate=0: must be a number in \[1.17549e-38, inf\)"):
        namsg_mx.NAMSB().set_learning_rate(0)
    optimizer = namsg_mx.NAMSB(learning_rate=once)
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([1.0]), state)
    with pytest.raises(ValueError, match=r"learning_rate\(1\)=0\.0: must be a number in \[1.17549e-38, inf\)"):
        optimizer.update(0, weight, array([1.0]), state)
    assert optimizer.num_update == 1


def once(k):
    return 0.1 if k == 0 else 0.0


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


@pytest.mark.parametrize(("method", "arguments", "message"), [
    ("namsg", {"lr": 0.1}, "NAMSG has no argument 'lr'; here that is learning_rate"),
    ("namsg", {"betas": (0.9, 0.99)}, "NAMSG has no argument 'betas'; here that is beta1 and beta2"),
    ("amsgrad", {"weight_decay": 0.1}, "AMSGrad has no argument 'weight_decay'; here that is wd"),
    ("dozatnadam", {"eps": 1e-8}, "DozatNadam has no argument 'eps'; here that is epsilon"),
    ("averagedsgd", {"eps": 1e-8}, "AveragedSGD has no argument 'eps'$"),
    ("namsb", {"momentum": 0.9}, "NAMSB has no argument 'momentum'; here that is beta1"),
    ("amsbound", {"speed": 1}, "AMSBound has no argument 'speed'$")])
def test_unknown_arguments_are_refused_with_the_one_that_is_meant(method, arguments, message):
    with pytest.raises(TypeError, match=message):
        mx.optimizer.create(method, **arguments)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("method", METHODS)
def test_a_clip_of_0_and_below_or_infinity_is_none_as_in_mxnet(method, kernel):
    weights, gradients = shapes_and_gradients(3)
    expected = run(mx.optimizer.create(method, kernel=kernel), weights, gradients)
    for clip in (0, 0.0, -1.0, np.inf):
        assert_equal_bits(run(mx.optimizer.create(method, kernel=kernel, clip_gradient=clip), weights, gradients),
                          expected)
        later = mx.optimizer.create(method, kernel=kernel, clip_gradient=1.5)
        later.clip_gradient = clip
        assert_equal_bits(run(later, weights, gradients), expected)


def halved_late(k):
    """An array without dimensions, as numpy.where makes them of numbers."""
    return np.where(k < 2, 0.5, 0.25)


class HalvedLate:
    """The same as an lr_scheduler."""

    base_lr = 0.5

    def __call__(self, num_update):
        return halved_late(num_update)


class Always:
    """An lr_scheduler with one rate."""

    base_lr = 0.5

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, num_update):
        return self.rate


class ByCount(mx.lr_scheduler.LRScheduler):
    """base_lr / num_update."""

    def __call__(self, num_update):
        return self.base_lr / num_update


@pytest.mark.parametrize("method", METHODS)
def test_numbers_may_be_arrays_without_dimensions_as_in_mxnet(method):
    weights, gradients = shapes_and_gradients(3)
    settings = {"wd": 0.1, "clip_gradient": 1.5, "rescale_grad": 0.5, "bounds": (-1.0, 2.0)}
    for schedule in ({"learning_rate": halved_late}, {"lr_scheduler": HalvedLate(), "learning_rate": 0.5}):
        at = 2 if "lr_scheduler" not in schedule else 1   # MXNet counts from 1
        expected = run(mx.optimizer.create(method, learning_rate=StepDecay(0.5, at=(at,), factor=0.5), **settings),
                       weights, gradients)
        arrays = {name: np.array(value) for name, value in settings.items()}
        assert_equal_bits(run(mx.optimizer.create(method, **schedule, **arrays), weights, gradients), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bounds", [[-0.5, 0.5], np.array([-0.5, 0.5])], ids=["list", "array"])
def test_bounds_can_be_set_at_any_time(kernel, bounds):
    weights, gradients = shapes_and_gradients(3)
    later = mx.optimizer.create("namsg", kernel=kernel)
    later.bounds = bounds
    assert_equal_bits(run(later, weights, gradients),
                      run(mx.optimizer.create("namsg", kernel=kernel, bounds=(-0.5, 0.5)), weights, gradients))
    later.bounds = (0.5, -0.5)
    with pytest.raises(ValueError, match="low < high"):
        run(later, weights, gradients)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bounds_that_change_between_two_updates_of_the_same_arrays_count_in_the_next(kernel):
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, kernel=kernel)
    weight, grad = array([4.0]), array([-1.0])
    state, made = optimizer.create_state(0, weight), []
    for bounds in (None, (0, 3), (0, 2), None):
        optimizer.bounds = bounds
        optimizer.update(0, weight, grad, state)
        made.append(weight.asscalar())
    assert made == [5, 3, 2, 3]


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_numbers_that_are_set_later_may_be_arrays_of_one_element(kernel, shape):
    """As ``rescale_grad`` after ``trainer.step(mask.sum().asnumpy())``."""
    weights, gradients = shapes_and_gradients(3)
    settings = {"learning_rate": 0.5, "beta1": 0.5, "beta2": 0.5, "epsilon": 1e-3, "eta": 0.5, "rescale_grad": 0.5,
                "clip_gradient": 0.5}
    later = namsg_mx.NAMSG(kernel=kernel)
    for name, value in settings.items():
        setattr(later, "lr" if name == "learning_rate" else name, np.full(shape, value))
    assert_equal_bits(run(later, weights, gradients),
                      run(namsg_mx.NAMSG(kernel=kernel, **settings), weights, gradients))


@pytest.mark.parametrize(("name", "value", "message"), [
    ("beta1", 1.5, r"beta1=1\.5: must be a number in \[0, 1\)"), ("beta2", "0.9", "beta2='0.9': must be a number"),
    ("eta", -1.0, r"eta=-1\.0: must be a number in"), ("mu", 0.1, r"eta=0\.9 and mu=0\.1: give at most one"),
    ("nonfinite", "Skip", "nonfinite='Skip': must be one of 'propagate', 'skip'"),
    ("kernel", "cpuu", "kernel='cpuu': must be one of"), ("lr", -0.1, r"learning_rate=-0\.1: must be a number in"),
    ("lr", "0.1", "learning_rate='0.1': must be a number"), ("wd", math.nan, "wd=nan: must be a number"),
    ("rescale_grad", math.nan, "rescale_grad=nan: must be"), ("clip_gradient", "1", "clip_gradient='1': must be"),
    ("decoupled_wd", 7, "decoupled_wd=7: must be True or False"), ("lazy_update", "no", "lazy_update='no': must be"),
    ("bounds", (1, 0), "bounds=.*low < high"),
    ("lr_scheduler", StepDecay(0.1, at=(2,)), "other schedules are given as learning_rate")])
def test_what_is_set_later_is_checked_by_the_next_update(name, value, message):
    """An update that raises changes nothing."""
    assert_checked(namsg_mx.NAMSG(), name, value, message)


@pytest.mark.parametrize(("method", "name", "value", "message"), [
    ("dozatnadam", "epsilon", -1, "epsilon=-1: must be"), ("dozatnadam", "beta2", 1.0, "beta2=1.0: must be"),
    ("dozatnadam", "beta2", "0.9", "beta2='0.9': must be"), ("dozatnadam", "schedule_decay", -1, "schedule_decay=-1: "),
    ("dozatnadam", "beta1", ExponentialDecay(0.9, 0.5), r"beta1=.*: must be a number in \[0, 1\)"),
    ("namsb", "gamma", -5, "gamma=-5: must be"), ("averagedsgd", "beta1", 2, "beta1=2: must be")])
def test_what_is_set_later_on_other_methods_is_checked(method, name, value, message):
    assert_checked(mx.optimizer.create(method), name, value, message)


def test_an_epsilon_that_is_set_later_is_checked_where_states_begin():
    optimizer = namsg_mx.NAMSG()
    optimizer.epsilon = -1
    with pytest.raises(ValueError, match="epsilon=-1: must be"):
        optimizer.create_state(0, array([1.0]))


def assert_checked(optimizer, name, value, message):
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([1.0]), state)
    before = [each.asnumpy() for each in (weight, *state)]
    setattr(optimizer, name, value)
    with pytest.raises(ValueError, match=message):
        optimizer.update(0, weight, array([1.0]), state)
    assert optimizer.num_update == 1
    assert_equal_bits([each.asnumpy() for each in (weight, *state)], before)


@pytest.mark.parametrize("rate", [np.array([0.5]), Decimal("0.5"), mx.np.array(0.5)])
def test_an_lr_scheduler_may_return_what_mxnet_takes(rate):
    optimizer = namsg_mx.NAMSG(lr_scheduler=Always(rate))
    weight = array([1.0])
    optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
    assert optimizer.last_update().learning_rate == 0.5


def test_a_scheduler_that_was_taken_away_is_not_saved():
    """It may not be picklable, which is why a program takes it away."""
    class Local(ByCount):
        pass

    optimizer = namsg_mx.NAMSG(lr_scheduler=Local(base_lr=0.5))
    weight = array([1.0])
    optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(optimizer)
    optimizer.lr_scheduler = None
    assert pickle.loads(pickle.dumps(optimizer)).num_update == 1


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, "0.1", None], ids=str)
def test_the_rates_of_an_lr_scheduler_are_checked(rate):
    optimizer = namsg_mx.NAMSG(lr_scheduler=Always(rate))
    weight = array([1.0])
    with pytest.raises(ValueError, match=r"learning_rate\(0\)=.*: must be a number in"):
        optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
    assert (weight.asscalar(), optimizer.num_update) == (1, 0)


@pytest.mark.parametrize("make", [
    lambda: FactorScheduler(1, 0.9, base_lr=1e-3), lambda: mx.lr_scheduler.CosineScheduler(20, base_lr=1e-3)])
def test_a_schedule_that_begins_anew_begins_anew(make):
    """As programs restart one: they clear MXNet's counts, and give another scheduler."""
    optimizer = namsg_mx.NAMSG(lr_scheduler=FactorScheduler(1, 0.9, base_lr=0.1))
    weight = array([1.0])
    state = optimizer.create_state(0, weight)

    def rates(count):
        made = []
        for _ in range(count):
            optimizer.update(0, weight, array([1.0]), state)
            made.append(optimizer.last_update().learning_rate)
        return made

    rates(10)
    optimizer._index_update_count.clear()
    optimizer.num_update, optimizer.lr_scheduler = 0, make()
    expected = make()
    assert rates(12) == [expected(num_update) for num_update in range(1, 13)]
    # Also with the same scheduler, if it can go back.
    optimizer._index_update_count.clear()
    optimizer.num_update, optimizer.lr_scheduler = 0, ByCount(base_lr=1.0)
    assert rates(5) == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    for before in (2, 1):   # updates, after which it begins anew with another base_lr
        for base_lr in (1.0, 8.0):
            optimizer._index_update_count.clear()
            optimizer.num_update, optimizer.lr_scheduler.base_lr = 0, base_lr
            assert rates(before) == [base_lr / num_update for num_update in range(1, before + 1)]


def test_rates_that_were_asked_for_ahead_are_not_taken_of_another_scheduler():
    optimizer = namsg_mx.NAMSG(lr_scheduler=ByCount(base_lr=1.0))
    assert [optimizer.settings(k).learning_rate for k in (5, 4)] == [1 / 6, 1 / 5]
    optimizer.lr_scheduler = ByCount(base_lr=8.0)
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    for k in range(8):
        optimizer.update(0, weight, array([1.0]), state)
        assert optimizer.last_update().learning_rate == 8 / (k + 1)


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
        with pytest.raises(TypeError, match="NAMSG: the gradient must be an NDArray, not of type"):
            optimizer.update(0, weight, bad, state)
        optimizer.update(0, weight, array([1.0]), state)
    assert optimizer.last_update().k == 1


def test_a_schedule_that_leaves_its_range_is_named_with_the_update():
    optimizer = namsg_mx.NAMSG(beta1=ObservationDistance(2, start=0.5, end=1.5))
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([1.0]), state)
    for use in (lambda: optimizer.update(0, weight, array([1.0]), state), lambda: optimizer.settings(1)):
        with pytest.raises(ValueError, match=r"beta1\(1\)=1\.0: must be a number in \[0, 1\)"):
            use()


def test_last_update_tells_what_ran():
    optimizer = namsg_mx.NAMSG(learning_rate=InverseSquareRoot(0.5), eta=ObservationDistance(4), kernel="ndarray")
    assert optimizer.last_update() is None
    weight = array([1.0, 2.0])
    state = optimizer.create_state(0, weight)
    for _ in range(4):
        optimizer.update(0, weight, array([1.0, 2.0]), state)
    last = optimizer.last_update()
    assert (last.kernel, last.k, last.beta1, last.nonfinite) == ("ndarray", 3, 0.9, 0)
    assert (last.learning_rate, last.eta) == (0.25, pytest.approx(2.475))
    assert last.sgd_learning_rate is None


@pytest.mark.parametrize(("method", "options", "expected"), [
    ("namsg", {"learning_rate": InverseSquareRoot(0.5), "eta": ObservationDistance(4)}, (0.25, 0.9, 2.475, None)),
    ("namsg", {"mu": 0.1}, (0.002, 0.9, 0.9, None)),
    ("namsb", {"sgd_learning_rate": InverseSquareRoot(0.2)}, (0.001, 0.9, 0.9, 0.1)),
    ("amsgrad", {"beta1": InverseSquareRoot(0.8)}, (0.001, 0.4, 0.0, None)),
    ("dozatnadam", {}, (0.001, 0.9, None, None)),
    ("averagedsgd", {}, (0.1, 0.9, None, None))])
def test_the_settings_of_an_update_are_told_before_it_and_by_an_optimizer_that_makes_none(method, options, expected):
    """As on a worker whose servers update."""
    told = mx.optimizer.create(method, **options).settings(3)
    assert told[:4] == tuple(x if x is None else pytest.approx(x) for x in expected)
    optimizer, weight = mx.optimizer.create(method, **options), array([1.0, 2.0])
    state = optimizer.create_state(0, weight)
    for _ in range(4):
        optimizer.update(0, weight, array([1.0, 2.0]), state)
    assert optimizer.last_update()[2:6] == told[:4]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e38])
def test_a_skipped_nonfinite_gradient_leaves_its_element_untouched(method, bad):
    skipping, _ = create(method, nonfinite="skip", wd=0.1, rescale_grad=10.0)
    weight = array([1.0, 2.0, 3.0])
    state = skipping.create_state(0, weight)
    skipping.update(0, weight, array([0.5, 0.5, 0.5]), state)
    before = [a.asnumpy() for a in [weight, *state]]
    skipping.update(0, weight, array([0.5, bad, 0.5]), state)
    after = [a.asnumpy() for a in [weight, *state]]
    for old, new in zip(before, after):
        assert new[1] == old[1]
    assert before[0][0] != after[0][0]
    assert before[0][2] != after[0][2]
    assert skipping.last_update().nonfinite == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_a_gradient_that_is_not_finite_does_where_it_goes_on_and_that_it_is_counted(kernel):
    """Infinite: the weight is NaN. Its square infinite: v_hat is for good, and the weight never moves again."""
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    weight = array([1.0, 1.0, 1.0])
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, array([np.inf, 1e25, 1e18]), state)
    assert optimizer.last_update().nonfinite == 2
    for _ in range(10):
        optimizer.update(0, weight, array([1.0, 1.0, 1.0]), state)
    nan, frozen, moved = weight.asnumpy()
    assert np.isnan(nan) and frozen == 1 and 0 < moved < 1
    assert np.isinf(state[2].asnumpy()[1])
    assert optimizer.last_update().nonfinite == 2   # as before: those of the gradient, whatever the weight


def test_nonfinite_gradients_are_counted_once_wherever_their_parameters_are():
    """Parameters 0 and 1 are replicas on two devices; 2 and 3 are updated on one each, as a kvstore on GPUs does it."""
    optimizer = namsg_mx.NAMSG()
    for device, alone in ((mx.cpu(0), 2), (mx.cpu(1), 3)):
        updater = mx.optimizer.get_updater(optimizer)
        ones, bad = ([mx.nd.array([1.0, value], ctx=device) for _ in range(2)] for value in (1.0, np.inf))
        updater([0, 1], bad, ones)
        updater(alone, mx.nd.array([np.nan], ctx=device), mx.nd.array([1.0], ctx=device))
    assert optimizer.last_update().nonfinite == 4


def test_replicas_of_which_one_skips_the_first_parameter_count_once():
    optimizer = namsg_mx.NAMSG()
    for skipped, device in enumerate((mx.cpu(0), mx.cpu(1))):
        updater = mx.optimizer.get_updater(optimizer)
        bad = [mx.nd.array([np.nan, 1.0], device) for _ in range(3)]
        updater(list(range(skipped, 3)), bad[skipped:], [each.copy() for each in bad[skipped:]])
    assert optimizer.last_update().nonfinite == 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_gradients_that_are_not_finite_are_counted_than_float32_counts(kernel):
    n = 2**24 + 3
    optimizer, weight = namsg_mx.AveragedSGD(kernel=kernel), mx.nd.zeros(n)
    optimizer.update(0, weight, mx.nd.full(n, np.nan), optimizer.create_state(0, weight))
    assert optimizer.last_update().nonfinite == n


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_weights_in_which_the_step_has_no_meaning_are_refused(method, dtype):
    dtype = np.dtype([("bfloat16", np.uint16)]) if dtype == "bfloat16" else dtype   # MXNet's own
    weight = mx.nd.ones(2).astype(dtype)
    updater = mx.optimizer.get_updater(mx.optimizer.create(method))
    with pytest.raises(TypeError, match="weights must have dtype float16, float32 or float64, not "):
        updater(0, weight, weight)


@pytest.mark.parametrize("kernel", KERNELS)
def test_sgd_has_no_square_that_could_be_infinite(kernel):
    optimizer = namsg_mx.AveragedSGD(kernel=kernel, nonfinite="skip")
    weight = array([1.0, 1.0])
    optimizer.update(0, weight, array([1e25, np.inf]), optimizer.create_state(0, weight))
    assert weight.asnumpy()[0] < -1e20 and weight.asnumpy()[1] == 1
    assert optimizer.last_update().nonfinite == 1


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
def test_a_state_that_is_replaced_is_the_one_that_goes_on(kernel):
    updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel=kernel))
    weight = array([1.0])
    updater(0, array([1.0]), weight)
    updater.states[0][0] = array([100.0])
    updater(0, array([1.0]), weight)
    assert updater.states[0][0].asscalar() == pytest.approx(0.9 * 100 + 0.1)


def new_handle(array):
    """Another NDArray of the same memory, as npx.set_np() and kvstores make for each update."""
    return array.as_np_ndarray().as_nd_ndarray()


@pytest.mark.parametrize("kernel", KERNELS)
def test_arrays_by_other_handles_are_bound_once(kernel):
    weight, gradient = array([1.0, 2.0]), array([3.0, -4.0])
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    state = optimizer.create_state(0, weight)
    optimizer.update(0, weight, gradient, state)
    first, = optimizer._calls.latest.values()
    optimizer.update(0, new_handle(weight), new_handle(gradient), state)
    second, = optimizer._calls.latest.values()
    assert second.bindings is first.bindings
    twice = array([1.0, 2.0])
    updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel=kernel))
    for _ in range(2):
        updater(0, gradient, twice)
    assert_equal_bits([weight.asnumpy()], [twice.asnumpy()])


@pytest.mark.parametrize("kernel", KERNELS)
def test_another_part_of_the_same_memory_is_another_array(kernel):
    """Of the same shape, dtype and memory."""
    both, gradient = array([[1.0, 2.0], [1.0, 2.0]]), array([3.0, -4.0])
    optimizer = namsg_mx.NAMSG(kernel=kernel)
    state = optimizer.create_state(0, gradient)
    optimizer.update(0, both[0], gradient, state)
    optimizer.update(0, both[1], gradient, state)
    first, second = both.asnumpy()
    assert (first != [1, 2]).all() and (second != [1, 2]).all()


def test_what_is_bound_does_not_grow_with_the_sets_of_parameters_that_are_updated():
    """As with layers that are skipped at random."""
    optimizer, random = namsg_mx.NAMSG(), np.random.RandomState(0)
    weights, gradients = ([array([1.0]) for _ in range(8)] for _ in range(2))
    states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
    for _ in range(200):
        chosen = sorted(random.choice(8, 5, replace=False).tolist())
        optimizer.update(chosen, *([each[i] for i in chosen] for each in (weights, gradients, states)))
        assert len(optimizer._calls.latest) <= 4   # the first of five out of eight is 0, 1, 2 or 3
    alone = namsg_mx.NAMSG(kernel="ndarray")
    weight = array([1.0])
    state = alone.create_state(0, weight)
    for _ in range(optimizer._index_update_count[0]):
        alone.update(0, weight, array([1.0]), state)
    assert weights[0].asscalar() == weight.asscalar()


@pytest.mark.parametrize("kernel", KERNELS)
def test_arrays_of_a_device_that_parameters_have_left_are_let_go(kernel):
    """After `reset_ctx` a model's memory on the GPU before would stay taken."""
    def arrays(context):
        weight = mx.nd.ones((3,), context)
        return [weight, weight.copy(), optimizer.create_state(0, weight)]

    optimizer = namsg_mx.NAMSG(kernel=kernel)
    left = arrays(mx.cpu(0))
    held = [sys.getrefcount(each) for each in (*left[:2], *left[2])]
    for context, updates in ((mx.cpu(0), 2), (mx.cpu(1), 2)):
        now = left if context == mx.cpu(0) else arrays(context)
        for _ in range(updates):
            optimizer.update(0, *now)
    del now
    mx.nd.waitall()
    assert [sys.getrefcount(each) for each in (*left[:2], *left[2])] == held


def test_arrays_from_before_a_program_began_anew_are_let_go():
    optimizer = namsg_mx.NAMSG()
    weight = array([1.0])
    state = optimizer.create_state(0, weight)
    held = sys.getrefcount(weight)
    for _ in range(5):
        optimizer.update(0, weight, array([1.0]), state)
    optimizer._index_update_count.clear()
    optimizer.num_update = 0
    other = array([1.0])
    state = optimizer.create_state(1, other)
    for _ in range(2):
        optimizer.update(1, other, array([1.0]), state)
    assert sys.getrefcount(weight) == held


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


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_skipped_element_keeps_its_state_whatever_that_is(kernel):
    """v is above v_hat in no state of ours; a program can set one."""
    optimizer, weight = namsg_mx.NAMSG(nonfinite="skip", kernel=kernel), array([1.0, 1.0])
    state = optimizer.create_state(0, weight)
    for values, number in zip(state, (3, 4, 1)):
        values[:] = number
    optimizer.update(0, weight, array([np.nan, 0.0]), state)
    assert [values.asnumpy()[0] for values in (weight, *state)] == [1, 3, 4, 1]
    assert state[2].asnumpy()[1] == state[1].asnumpy()[1] > 3


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
    with pytest.raises(TypeError, match="Own: the state must be a list of m, v, v_hat"):
        Own(multi_precision=True).update_multi_precision(0, weight, weight, state)


def test_before_the_first_update_the_learning_rate_is_its():
    late = namsg_mx.NAMSG(learning_rate=namsg_mx.StepDecay(1.0, at=(100,)), begin_num_update=100)
    warm_up = namsg_mx.NAMSG(lr_scheduler=mx.lr_scheduler.FactorScheduler(100, base_lr=0.1, warmup_steps=10))
    for optimizer, rate in ((late, 0.1), (warm_up, 0.01), (namsg_mx.NAMSG(learning_rate=0.3), 0.3)):
        assert optimizer.learning_rate == pytest.approx(rate)
        weight = array([1.0])
        optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
        assert optimizer.last_update().learning_rate == optimizer.learning_rate == pytest.approx(rate)


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


def test_bounds_may_be_in_arrays_of_one_element():
    for make in (np.float32, mx.np.array, lambda value: np.array([value])):
        assert namsg_mx.NAMSG(bounds=(make(-1.0), make(0.5))).bounds == (-1.0, 0.5)


@pytest.mark.parametrize("name, value", [
    ("clip_gradient", 10**400), ("bounds", (0, 10**400)), ("learning_rate", 10**400)])
def test_integers_beyond_all_floats_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: has more than 300 digits"):
        namsg_mx.NAMSG(**{name: value})
