"""Schedules against closed forms: both ends, each boundary; pure and picklable."""

import dataclasses
import pickle

import numpy as np
import pytest
from mxnet.lr_scheduler import FactorScheduler

from namsg_mx.schedules import (
    ExponentialDecay,
    HarmonicDecay,
    InverseSquareRoot,
    ObservationDistance,
    StepDecay,
    WarmUp,
)

CASES = [   # schedule, {k: value}
    (ObservationDistance(4), {0: 0.9, 1: 1.425, 2: 1.95, 3: 2.475, 4: 3.0, 5: 3.0, 10**6: 3.0}),
    (ObservationDistance(1, start=2.0, end=0.5), {0: 2.0, 1: 0.5, 2: 0.5}),
    (InverseSquareRoot(0.5), {0: 0.5, 3: 0.25, 99: 0.05}),
    (ExponentialDecay(0.9, 0.5), {0: 0.9, 1: 0.45, 2: 0.225, 1_000_000: 0.9e-300}),
    (HarmonicDecay(0.9), {0: 0.9, 1: 0.45, 2: 0.3}),
    (StepDecay(1.0, at=(12000,)), {0: 1.0, 11999: 1.0, 12000: 0.1, 10**6: 0.1}),
    (StepDecay(8.0, at=[2, 5], factor=0.5), {1: 8.0, 2: 4.0, 4: 4.0, 5: 2.0}),
    (WarmUp(2.0, updates=4, start=1.0), {0: 1.0, 1: 1.25, 4: 2.0, 5: 2.0}),
    (WarmUp(StepDecay(1.0, at=(6,)), updates=2), {0: 0.0, 1: 0.5, 2: 1.0, 5: 1.0, 6: 0.1}),
]


@pytest.mark.parametrize(("schedule", "values"), CASES, ids=lambda case: repr(case) if callable(case) else "")
def test_values(schedule, values):
    for k in [*values, *reversed(list(values))]:   # in any order: no state
        assert schedule(k) == pytest.approx(values[k], rel=1e-12, abs=0)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_a_ramp_ends_at_its_end_to_the_bit():
    """0.2 + (0.9 - 0.2) is below 0.9, and 1 + (1e-17 - 1) is 0."""
    assert [ObservationDistance(7, 0.2, 0.9)(k) for k in (7, 8)] == [0.9, 0.9]
    assert [WarmUp(1e-17, updates=5, start=1.0)(k) for k in (0, 5, 50)] == [1.0, 1e-17, 1e-17]


class LikeMXNets:
    base_lr = 0.1

    def __call__(self, num_update):
        return self.base_lr


@pytest.mark.parametrize("build", [
    lambda: ObservationDistance(0), lambda: ObservationDistance(5, start=-0.1),
    lambda: ObservationDistance(5, end=float("inf")), lambda: ObservationDistance(5, end=float("nan")),
    lambda: ExponentialDecay(0.9, 0.0), lambda: ExponentialDecay(0.9, 1.5), lambda: ExponentialDecay(0.9, -0.5),
    lambda: StepDecay(1.0, at=np.array(5)),
    lambda: StepDecay(1.0, at=(5, 2)), lambda: StepDecay(1.0, at=(1, 1, 2)), lambda: StepDecay(1.0, at=5),
    lambda: StepDecay(1.0, at=(5,), factor=-0.1),
    lambda: WarmUp(1.0, updates=0), lambda: WarmUp("a", 5), lambda: WarmUp(-1.0, 5), lambda: WarmUp(StepDecay, 5),
    lambda: WarmUp(FactorScheduler(2), 5),
    lambda: WarmUp(1.0, 5, start=None), lambda: ObservationDistance("a"), lambda: ObservationDistance(5, start="a"),
    lambda: ObservationDistance(2.5), lambda: WarmUp(0.1, updates=float("inf")), lambda: StepDecay(1.0, at=(1.5,)),
    lambda: WarmUp(LikeMXNets(), 5), lambda: ObservationDistance(True), lambda: InverseSquareRoot("a"),
    lambda: InverseSquareRoot(-1.0),
    lambda: HarmonicDecay(None), lambda: HarmonicDecay(float("nan")), lambda: ExponentialDecay("a", 0.5),
    lambda: ExponentialDecay(0.9, "a"), lambda: StepDecay(1.0, at="12"), lambda: StepDecay(1.0, at=(-1,)),
    lambda: StepDecay(1.0, at=(1, "2")), lambda: StepDecay("a", at=(5,)), lambda: StepDecay(1.0, at=(5,), factor="a")])
def test_arguments_out_of_range(build):
    with pytest.raises(ValueError, match=r"^(updates|start|end|factor|at|target|initial)=.*: must be"):
        build()


def test_a_factor_whose_powers_overflow():
    with pytest.raises(ValueError, match=r"^factor=1e\+200: too large for 2 numbers in at$"):
        StepDecay(1.0, at=(5, 6), factor=1e200)
    assert StepDecay(1.0, at=(5,), factor=1e200)(5) == 1e200


@pytest.mark.parametrize("factor", [0, -1, 2, float("nan")])
def test_the_range_of_a_factor_is_told_whole(factor):
    with pytest.raises(ValueError, match=r"^factor=.*: must be a number in \(0, 1\]$"):
        ExponentialDecay(0.9, factor)


@pytest.mark.parametrize(("schedule", "values"), [
    (ObservationDistance(1), {0: 0.9, 1: 3.0, 2: 3.0}), (WarmUp(1.0, updates=1), {0: 0.0, 1: 1.0}),
    (ObservationDistance(np.array(3)), {0: 0.9, 3: 3.0}), (ObservationDistance(2.0), {0: 0.9, 1: 1.95, 2: 3.0}),
    (StepDecay(1.0, at=(0,), factor=0.5), {0: 0.5, 9: 0.5}), (ExponentialDecay(0.9, 1.0), {0: 0.9, 9: 0.9})])
def test_the_ends_of_the_ranges_are_in_them(schedule, values):
    assert {k: schedule(k) for k in values} == pytest.approx(values)
    hash(schedule)   # no array inside


def test_a_number_beyond_floats_is_refused():
    with pytest.raises(ValueError, match="initial: has more than 300 digits"):
        InverseSquareRoot(10**400)


def test_a_decay_never_reaches_0():
    """At a beta1 of 0 mu would be infinite."""
    assert 0 < ExponentialDecay(0.9, 0.5)(10**6) < 1e-299


@pytest.mark.parametrize("schedule", [case[0] for case in CASES], ids=repr)
def test_schedules_do_not_change(schedule):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, next(iter(vars(schedule))), 1.0)


@pytest.mark.parametrize("build", [
    lambda number: ObservationDistance(4, start=number), lambda number: InverseSquareRoot(number), HarmonicDecay,
    lambda number: ExponentialDecay(number, 0.5), lambda number: StepDecay(number, at=(5,)),
    lambda number: WarmUp(number, updates=4)])
def test_an_array_that_changes_later_changes_no_schedule(build):
    number = np.array([0.5])
    schedule = build(number)
    number[0] = 7
    assert schedule == build(0.5) and hash(schedule) == hash(build(0.5))
    assert type(schedule(2)) is float
