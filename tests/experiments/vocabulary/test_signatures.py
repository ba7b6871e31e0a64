"""What a configuration may give to optimizers and schedules is what their classes take, in the same ranges."""

import dataclasses
import inspect

import mxnet as mx
import pytest

from experiments.vocabulary import config
from namsg_mx import schedules

CLASSES = mx.optimizer.Optimizer.opt_registry   # by registered name
OURS = [name for name in config.OPTIMIZERS if CLASSES[name].__module__.startswith("namsg_mx")]
ARGUMENTS = [(name, argument) for name in OURS for argument in config.OPTIMIZERS[name]]
SCHEDULED_OTHERWISE = {"learning_rate"}   # given as an lr_scheduler
NOT_HYPERPARAMETERS = {"self", "kwargs", "lazy_update"}   # the last is how MXNet's Adam treats sparse gradients


def signature(optimizer):
    """The names that an optimizer's class spells out, and the optimizers that it derives from."""
    for cls in optimizer.__mro__:
        if cls in CLASSES.values():
            yield from inspect.signature(cls.__init__).parameters


def takes(name, **arguments):
    """Whether an optimizer is created with these arguments."""
    try:
        mx.optimizer.create(name, **arguments)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", config.OPTIMIZERS)
def test_a_configuration_may_give_all_that_an_optimizer_takes_and_nothing_else(name):
    spelled_out = set(signature(CLASSES[name])) - NOT_HYPERPARAMETERS
    assert {argument for argument in spelled_out if takes(name, **{argument: 0.5 if argument != "switch_to_sgd" else 5})
            } == set(config.OPTIMIZERS[name])


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if pair[1] not in SCHEDULED_OTHERWISE])
def test_an_argument_may_be_a_schedule_where_the_optimizer_takes_one(name, argument):
    may_be = argument in config.SCHEDULED and (argument != "beta1" or name not in config.OF_CONSTANT_BETA1)
    assert takes(name, **{argument: schedules.StepDecay(0.5, at=(10,), factor=0.5)}) == may_be


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if pair[1] not in config.INTEGERS])
def test_the_range_of_an_argument_is_the_optimizers(name, argument):
    """A configuration may refuse more: numbers that float32 rounds to 0, which optimizers accept."""
    low, high = config.range_of(name, argument)
    assert takes(name, **{argument: low})
    assert takes(name, **{argument: 0.0}) == (low == 0)
    assert not takes(name, **{argument: -1e-9})
    assert not takes(name, **{argument: high})


@pytest.mark.parametrize("name", config.SCHEDULES)
def test_a_schedules_keys_are_its_fields(name):
    fields = [field.name for field in dataclasses.fields(getattr(schedules, name))]
    assert ["epochs" if field == "updates" else field for field in fields] == list(config.SCHEDULES[name])
