"""The step size of each update, from a number, a schedule or MXNet's lr_scheduler, also if it is set later."""

import math
import pickle
from decimal import Decimal

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, array, assert_equal_bits
from mxnet import gluon
from mxnet.lr_scheduler import FactorScheduler
from small_networks import batches, dense_net, train

import namsg_mx
from namsg_mx import StepDecay


def test_set_learning_rate():
    net = dense_net()
    trainer = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": 0.01})
    train(net, trainer, batches(1))
    trainer.set_learning_rate(0.003)
    train(net, trainer, batches(1))
    assert trainer.learning_rate == 0.003
    assert trainer.optimizer.last_update().learning_rate == 0.003
    with pytest.raises(ValueError, match=r"learning_rate=-1: must be a number in \[0, inf\)"):
        trainer.set_learning_rate(-1)
    scheduled = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": StepDecay(0.1, at=(1,))})
    assert scheduled.learning_rate == 0.1
    with pytest.raises(UserWarning, match="LRScheduler"):
        scheduled.set_learning_rate(0.1)


@pytest.mark.parametrize("before", [0.5, StepDecay(0.5, at=(1,))])
def test_a_schedule_takes_the_place_of_what_there_was(before):
    """Its k goes on: it is the number of updates made so far, before it was set, too."""
    net = dense_net()
    trainer, rates = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": before}), []
    for k in range(4):
        if k == 2:
            trainer.set_learning_rate(StepDecay(0.2, at=(1, 3)))
        train(net, trainer, batches(1))
        rates.append(trainer.optimizer.last_update().learning_rate)
    assert rates[0] == 0.5 and rates[2:] == [pytest.approx(0.02), pytest.approx(0.002)]
    with pytest.raises(ValueError, match="a schedule must be picklable"):
        trainer.set_learning_rate(lambda k: 0.1)
    assert trainer.learning_rate == rates[-1]


def rates_of(method, steps, options):
    """The step size of each update of a parameter."""
    optimizer, rates = mx.optimizer.create(method, **options), []
    weight = mx.nd.ones(2)
    state = optimizer.create_state(0, weight)
    for _ in range(steps):
        optimizer.update(0, weight, mx.nd.ones(2), state)
        rates.append(optimizer.learning_rate)
    return rates


def factor_scheduler(**options):
    return mx.lr_scheduler.FactorScheduler(step=2, factor=0.5, **options)


def test_mxnets_lr_scheduler_keeps_its_own_base_lr_and_warm_up():
    scheduler = factor_scheduler(base_lr=0.4, warmup_steps=2)
    rates = rates_of("namsg", 5, {"lr_scheduler": scheduler})
    assert rates == pytest.approx([0.2, 0.4, 0.2, 0.2, 0.1])


@pytest.mark.parametrize("method", METHODS)
def test_a_learning_rate_overwrites_the_schedulers_base_lr_as_in_mxnet(method):
    """What image-classification, rcnn, ssd and MXNet's own tests write."""
    for options in ({}, {"base_lr": 0.7}, {"base_lr": 0.03}):
        rates = [rates_of(name, 5, {"learning_rate": 0.03, "lr_scheduler": factor_scheduler(**options)})
                 for name in (method, "adam")]
        assert rates[0] == rates[1] == pytest.approx([0.03, 0.03, 0.015, 0.015, 0.0075])


@pytest.mark.parametrize("method", METHODS)
def test_a_base_lr_that_nobody_chose_gives_way_to_the_default(method):
    """Coming from Adam, which overwrites any: 0.01, MXNet's default, would be ten times the step size of before."""
    assert rates_of("adam", 1, {"lr_scheduler": factor_scheduler()}) == [0.001]
    default = mx.optimizer.create(method).DEFAULT_LEARNING_RATE
    assert rates_of(method, 3, {"lr_scheduler": factor_scheduler()}) == [default, default, default / 2]
    assert rates_of(method, 1, {"lr_scheduler": factor_scheduler(base_lr=0.4)}) == [0.4]


@pytest.mark.parametrize(("make", "expected"), [
    (lambda: mx.lr_scheduler.PolyScheduler(10, base_lr=0.5, pwr=1), [0.45, 0.4, 0.35]),
    (lambda: mx.lr_scheduler.CosineScheduler(4, base_lr=0.5), [0.25 + 0.125 * 2**0.5, 0.25, 0.25 - 0.125 * 2**0.5]),
    (lambda: mx.lr_scheduler.FactorScheduler(9, base_lr=0.5, warmup_steps=4), [0.125, 0.25, 0.375]),
], ids=["PolyScheduler", "CosineScheduler", "warm-up"])
@pytest.mark.parametrize("method", [*METHODS, "adam"])
def test_some_schedulers_keep_the_base_lr_that_they_were_made_with(method, make, expected):
    """A number as ``learning_rate`` reaches neither them nor a warm-up, as the guide has it."""
    for options in ({"learning_rate": 0.03}, {}):
        assert rates_of(method, 3, dict(options, lr_scheduler=make())) == pytest.approx(expected)


class InverseSquareRootOfSockeye:
    """A scheduler as sockeye has them: no LRScheduler, and MXNet is to set its ``base_lr``."""

    def __init__(self, warmup):
        self.base_lr = None
        self.warmup = warmup

    def __call__(self, num_updates):
        warm = (num_updates + 1) * self.base_lr / (self.warmup + 1)
        return min(self.base_lr / math.sqrt(1 + num_updates), warm)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [{"learning_rate": 0.3}, {}], ids=["learning_rate", "default"])
def test_sockeyes_schedulers(method, given, tmp_path):
    optimizer = mx.optimizer.create(method, lr_scheduler=InverseSquareRootOfSockeye(3), **given)
    updater = mx.optimizer.get_updater(optimizer)
    weight = mx.nd.ones(2)
    rates = []
    for _ in range(3):
        updater(0, mx.nd.ones(2), weight)
        rates.append(optimizer.last_update().learning_rate)
    base = given.get("learning_rate", optimizer.DEFAULT_LEARNING_RATE)
    np.testing.assert_allclose(rates, np.multiply(base, [2 / 4, 1 / math.sqrt(3), 1 / 2]))
    resumed = mx.optimizer.get_updater(mx.optimizer.create(method))
    resumed.set_states(updater.get_states(dump_optimizer=True))
    copy = weight.copy()
    for update, its_weight in ((updater, weight), (resumed, copy)):
        update(0, mx.nd.ones(2), its_weight)
    assert_equal_bits([weight.asnumpy()], [copy.asnumpy()])


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


@pytest.mark.parametrize("rate", [np.array([0.5]), Decimal("0.5"), mx.np.array(0.5)])
def test_an_lr_scheduler_may_return_what_mxnet_takes(rate):
    optimizer = namsg_mx.NAMSG(lr_scheduler=Always(rate))
    weight = array([1.0])
    optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
    assert optimizer.last_update().learning_rate == 0.5


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, "0.1", None], ids=str)
def test_the_rates_of_an_lr_scheduler_are_checked(rate):
    optimizer = namsg_mx.NAMSG(lr_scheduler=Always(rate))
    weight = array([1.0])
    with pytest.raises(ValueError, match=r"learning_rate\(0\)=.*: must be a number in"):
        optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
    assert (weight.asscalar(), optimizer.num_update) == (1, 0)


def less_by_tenths(k):
    return 0.3 - k * 0.1


def test_a_step_size_that_arithmetic_left_just_below_0_is_0():
    assert less_by_tenths(3) < 0
    for options in ({"learning_rate": less_by_tenths}, {"lr_scheduler": Always(less_by_tenths(3))}, {}):
        optimizer = namsg_mx.NAMSG(**options)
        weight = array([1.0])
        state = optimizer.create_state(0, weight)
        for k in range(4):
            before = weight.asscalar()
            if not options:   # the program sets it
                optimizer.set_learning_rate(less_by_tenths(k))
            optimizer.update(0, weight, array([1.0]), state)
        assert (optimizer.last_update().learning_rate, optimizer.learning_rate, weight.asscalar()) == (0, 0, before)
    assert namsg_mx.NAMSG(learning_rate=-1e-12).learning_rate == 0
    with pytest.raises(ValueError, match=r"learning_rate=-1\.1e-12: must be a number in \[0, inf\)"):
        namsg_mx.NAMSG(learning_rate=-1.1e-12)
    with pytest.raises(ValueError, match=r"wd=-1e-17: must be a number in \[0, inf\)"):
        namsg_mx.NAMSG(wd=-1e-17)


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


def test_without_its_scheduler_it_goes_on_at_the_base_rate():
    for given, rate in (({"lr_scheduler": mx.lr_scheduler.FactorScheduler(5, base_lr=0.1)}, 0.1),
                        ({"learning_rate": namsg_mx.StepDecay(0.3, at=(1,))}, 0.002), ({"learning_rate": 0.4}, 0.4)):
        optimizer = mx.optimizer.create("namsg", **given)
        optimizer.lr_scheduler = None
        mx.optimizer.get_updater(optimizer)(0, mx.nd.ones(1), mx.nd.ones(1))
        assert optimizer.last_update().learning_rate == rate


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


def test_before_the_first_update_the_learning_rate_is_its():
    late = namsg_mx.NAMSG(learning_rate=namsg_mx.StepDecay(1.0, at=(100,)), begin_num_update=100)
    warm_up = namsg_mx.NAMSG(lr_scheduler=mx.lr_scheduler.FactorScheduler(100, base_lr=0.1, warmup_steps=10))
    for optimizer, rate in ((late, 0.1), (warm_up, 0.01), (namsg_mx.NAMSG(learning_rate=0.3), 0.3)):
        assert optimizer.learning_rate == pytest.approx(rate)
        weight = array([1.0])
        optimizer.update(0, weight, array([1.0]), optimizer.create_state(0, weight))
        assert optimizer.last_update().learning_rate == optimizer.learning_rate == pytest.approx(rate)
