"""Every public object has an example in its docstring, and the examples run as they stand."""

import doctest
import inspect
import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import namsg_mx
from namsg_mx import distributed
from namsg_mx.theory import gain, regret

NAMES = {"mx": mx, "np": np, "os": os, "autograd": autograd, "gluon": gluon, "nd": nd}   # what examples may use
# And `run`, which the first statement of Trajectory's example makes: the bounds' examples go on with it.
OF_TRAJECTORY, = doctest.DocTestFinder(recurse=False).find(regret.Trajectory)
exec(OF_TRAJECTORY.examples[0].source, dict(vars(regret)), NAMES)


def public_objects():
    objects = [getattr(namsg_mx, name) for name in namsg_mx.__all__] + [distributed.DistributedTrainer]
    for module in (gain, regret):
        objects += [each for name, each in vars(module).items() if not name.startswith("_") and
                    getattr(each, "__module__", None) == module.__name__]
    return objects


@pytest.mark.parametrize("public", public_objects(), ids=lambda public: public.__name__)
def test_the_example_runs(public):
    module = inspect.getmodule(public)
    example, = doctest.DocTestFinder(recurse=False).find(public, public.__name__, globs={**NAMES, **vars(module)})
    assert example.examples, "has no example"
    report = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert failed == 0, "".join(report)


@pytest.mark.parametrize("name", namsg_mx.__all__)
def test_public_signatures_have_type_hints(name):
    public = getattr(namsg_mx, name)
    ours = [member for owner in getattr(public, "__mro__", ()) if owner.__module__.startswith("namsg_mx")
            for key, member in vars(owner).items()
            if inspect.isfunction(member) and not key.startswith("_")
            and not hasattr(mx.optimizer.Optimizer, key)]
    missing = [(function.__qualname__, parameter.name) for function in (public, *ours)
               for parameter in inspect.signature(function).parameters.values()
               if parameter.annotation is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
               and parameter.name != "self"]
    assert missing == []
