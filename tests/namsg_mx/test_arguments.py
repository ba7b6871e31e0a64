"""Arguments: their ranges, also where a program sets them later; what is told of them by an update."""

import math

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, KERNELS, METHODS, array, assert_equal_bits, run, shapes_and_gradients
from mxnet.lr_scheduler import FactorScheduler

import namsg_mx
from namsg_mx import ExponentialDecay, InverseSquareRoot, ObservationDistance, StepDecay, WarmUp

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
    ({"bounds": (0, 1, 2)}, r"bounds=\(0, 1, 2\): must be None or two numbers"),
    ({"bounds": "12"}, r"bounds='12'"),
    ({"bounds": np.array(1.0)}, r"bounds=array\(1\.\)"),
    ({"clip_gradient": np.array([1, 2])}, r"clip_gradient=array\(\[1, 2\]\)"),
    ({"clip_gradient": mx.nd.ones(1)}, r"clip_gradient=\n"),
    ({"kernel": mx.nd.ones(1)}, r"kernel=\n"),
    ({"nonfinite": "ignore"}, r"nonfinite='ignore': must be one of 'propagate', 'skip'"),
    ({"kernel": "fpga"}, r"kernel='fpga': must be one of"),
    ({"lazy_update": 2}, r"lazy_update=2: must be True or False"),
    ({"multi_precision": 1.0}, r"multi_precision=1\.0: must be True or False"),
    ({"decoupled_wd": None}, r"decoupled_wd=None"),
    ({"switch_to_sgd": 0}, r"switch_to_sgd=0: must be an integer above 0"),
    ({"switch_to_sgd": 2.5}, r"switch_to_sgd=2\.5"),
    ({"switch_to_sgd": True}, r"switch_to_sgd=True: must be an integer"),
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


@pytest.mark.parametrize("flag", ["multi_precision", "decoupled_wd", "lazy_update"])
@pytest.mark.parametrize("value", [0, 1, np.bool_(True), np.int64(0), False])
def test_a_flag_may_be_an_integer(flag, value):
    """As `argparse` reads one with ``type=int``."""
    assert getattr(namsg_mx.NAMSG(**{flag: value}), flag) is bool(value)


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


@CPU_KERNEL
@pytest.mark.parametrize(("name", "value"), [
    ("decoupled_wd", True), ("wd", 0.2), ("lr", 0.3), ("rescale_grad", 0.5), ("clip_gradient", 0.5), ("beta1", 0.5),
    ("beta2", 0.5), ("eta", 2.0), ("nonfinite", "skip"), ("bounds", (-1, 1))])
def test_what_changes_between_two_updates_of_the_same_arrays_counts_in_the_next(name, value):
    """The CPU kernel keeps the numbers of the update before, and the ndarray kernel none."""
    made = []
    for kernel in ("cpu", "ndarray"):
        optimizer = namsg_mx.NAMSG(learning_rate=0.5, wd=0.1, kernel=kernel)
        weight, grad = array([4.0, 4.0, 0.1]), array([-1.0, np.inf, 1.0])
        state = optimizer.create_state(0, weight)
        optimizer.update(0, weight, grad, state)
        setattr(optimizer, name, value)
        optimizer.update(0, weight, grad, state)
        made.append([each.asnumpy() for each in (weight, *state)])
    assert_equal_bits(*made)


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


def test_bounds_may_be_in_arrays_of_one_element():
    for make in (np.float32, mx.np.array, lambda value: np.array([value])):
        assert namsg_mx.NAMSG(bounds=(make(-1.0), make(0.5))).bounds == (-1.0, 0.5)


@pytest.mark.parametrize("name, value", [
    ("clip_gradient", 10**400), ("bounds", (0, 10**400)), ("learning_rate", 10**400)])
def test_integers_beyond_all_floats_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: has more than 300 digits"):
        namsg_mx.NAMSG(**{name: value})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta1", [0, np.float32(0.5)])
def test_a_momentum_that_a_program_sets_is_a_number_of_any_kind(beta1, dtype):
    optimizer, weight = mx.optimizer.create("averagedsgd", learning_rate=0.5), mx.nd.ones(1, dtype=dtype)
    state = optimizer.create_state(0, weight)
    optimizer.beta1 = beta1
    optimizer.update(0, weight, mx.nd.ones(1, dtype=dtype), state)
    assert weight.asscalar() == 1 - 0.5 * (1 - beta1)
