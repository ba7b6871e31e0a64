"""The count of updates, which schedules take: of parameters that move or begin late, of replicas, set by programs."""

import pickle

import mxnet as mx
import numpy as np
import pytest
from comparison import assert_equal_bits
from mxnet import autograd, gluon
from small_networks import step

import namsg_mx
from namsg_mx import StepDecay


def test_parameters_that_move_take_their_counts_along():
    """MXNet counts by device. A schedule goes on, and gradients that are not finite add up."""
    def trained(moves):
        parameters = [gluon.Parameter(f"w{i}", shape=(2,)) for i in range(2)]
        for parameter in parameters:
            parameter.initialize("one", ctx=mx.cpu(0))
        trainer = gluon.Trainer(parameters, "namsg", {"learning_rate": StepDecay(0.1, at=(2, 4)), "nonfinite": "skip"})
        for k in range(6):
            if k in moves:
                for parameter in parameters:
                    parameter.reset_ctx(mx.cpu(moves[k]))
            with autograd.record():
                loss = sum((p.data() * mx.nd.array([1, np.inf], p.list_ctx()[0])).sum() for p in parameters)
            loss.backward()
            trainer.step(1)
        last = trainer.optimizer.last_update()
        assert (last.k, last.nonfinite) == (5, 12)
        return [parameter.data().asnumpy() for parameter in parameters]

    for moves in ({3: 1}, {1: 1}, {2: 1, 4: 2}, {2: 1, 3: 0}, {1: 1, 4: 0}, {1: 2, 2: 0, 4: 2}):
        assert_equal_bits(trained(moves), trained({}))


def test_a_parameter_that_moves_takes_no_other_back_to_an_older_count():
    """The other one was on that device, and has made more updates since it left."""
    optimizer = namsg_mx.NAMSG()
    weights = [mx.nd.ones(1), mx.nd.ones(1)]
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]

    def update(index, device):
        optimizer._set_current_context(device)
        optimizer.update(index, weights[index], mx.nd.ones(1), states[index])

    for index, device in ((0, 1), (1, 1), (0, 1), (1, 1), (0, 0), (0, 0), (1, 1), (1, 0)):
        update(index, device)
    assert optimizer._index_update_count == {0: 4, 1: 4}
    update(0, 0)
    assert optimizer.last_update().k == 4


@pytest.mark.parametrize("moves", [False, True])
def test_a_move_is_seen_by_a_parameter_that_updates_have_left_out(moves):
    """Its own update is the first one after the move."""
    a, b = (gluon.Parameter(name, shape=(1,)) for name in "ab")
    for parameter in (a, b):
        parameter.initialize("one", ctx=mx.cpu(0))
    trainer = gluon.Trainer([a, b], "namsg", {"learning_rate": StepDecay(0.5, at=(2,), factor=0.5)},
                            kvstore=None)
    for k, some in enumerate(([a, b], [a], [a], [b], [a, b])):
        if k == 3 and moves:
            for parameter in (a, b):
                parameter.reset_ctx(mx.cpu(1))
        with autograd.record():
            loss = sum(parameter.data().sum() for parameter in some)
        loss.backward()
        trainer.step(1, ignore_stale_grad=True)
        last = trainer.optimizer.last_update()
        assert (last.k, last.learning_rate) == [(0, 0.5), (1, 0.5), (2, 0.25), (2, 0.25), (3, 0.25)][k]


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_parameter_that_begins_late_takes_the_counts_of_the_others(frozen, moves):
    """The first one, which is frozen, or has no new gradient, until all move to another device."""
    parameters = [gluon.Parameter(f"w{i}", shape=(1,)) for i in range(2)]
    for parameter in parameters:
        parameter.initialize("one", ctx=mx.cpu(0))
    trainer = gluon.Trainer(parameters, "namsg", {"learning_rate": StepDecay(0.1, at=(4,))})

    def step(some):
        with autograd.record():
            loss = sum(parameter.data().sum() for parameter in some)
        loss.backward()
        trainer.step(1, ignore_stale_grad=True)

    if frozen:
        parameters[0].grad_req = "null"
    for k in range(5):
        step(parameters if k == 0 and not frozen else parameters[1:])
    parameters[0].grad_req = "write"
    if moves:
        for parameter in parameters:
            parameter.reset_ctx(mx.cpu(1))
    step(parameters)
    assert trainer.optimizer.last_update()[1:3] == (5, pytest.approx(0.01))


@pytest.mark.parametrize("devices", [(0, 0), (0, 1)])
def test_a_parameter_that_begins_late_on_another_device_of_a_kvstore(devices):
    """MXNet's kvstore has one Updater, and each key on one of its GPUs."""
    optimizer = namsg_mx.NAMSG(learning_rate=StepDecay(0.1, at=(4,)))
    update = mx.optimizer.get_updater(optimizer)
    weights = [mx.nd.ones(1, ctx=mx.cpu(device)) for device in devices]
    for k in range(8):
        for key, weight in enumerate(weights[:1 if k < 5 else 2]):
            update(key, mx.nd.ones(1, ctx=weight.context), weight)
            assert optimizer.last_update().k == k
    assert optimizer.__getstate__()["num_update"] == 8


@pytest.mark.parametrize(("update_on_kvstore", "moved"), [(True, 0.2), (False, 0.02)])
@pytest.mark.parametrize("method", ["averagedsgd", "sgd"])
def test_a_parameter_that_begins_late_and_is_the_first_stays_behind_on_a_kvstore(method, update_on_kvstore, moved):
    """The guide's pitfall, which MXNet's sgd has, too: the step size falls to a tenth at k = 3."""
    late, other = (gluon.Parameter(name, shape=(1,)) for name in ("late", "other"))
    for parameter in (late, other):
        parameter.initialize("one", ctx=[mx.cpu(0), mx.cpu(1)])
    late.grad_req = "null"
    options = {"learning_rate": StepDecay(0.1, at=(3,)), "beta1": 0.0}
    if method == "sgd":   # MXNet's schedulers count from 1, and this one decays after 3
        options = {"lr_scheduler": mx.lr_scheduler.MultiFactorScheduler([3], factor=0.1, base_lr=0.1)}
    trainer = gluon.Trainer([late, other], method, options, update_on_kvstore=update_on_kvstore)
    for k in range(4):
        if k == 2:
            late.grad_req = "write"
        before = [parameter.data().asscalar() for parameter in (late, other)]
        step(trainer)
    moves = np.subtract(before, [parameter.data().asscalar() for parameter in (late, other)])
    np.testing.assert_allclose(moves, [moved, 0.02], rtol=1e-5)


def test_replicas_that_take_turns_in_blocks_count_each_by_its_own():
    optimizer = namsg_mx.NAMSG()
    updates = [mx.optimizer.get_updater(optimizer) for _ in range(2)]
    weights = [mx.nd.ones(1, ctx=mx.cpu(device)) for device in range(2)]
    made = {0: [], 1: []}
    for device, count in ((0, 5), (1, 3), (0, 2), (1, 3)):
        for _ in range(count):
            updates[device](0, mx.nd.ones(1, ctx=mx.cpu(device)), weights[device])
            made[device].append(optimizer.last_update().k)
    assert made == {0: list(range(7)), 1: list(range(6))}
    assert optimizer._least_num_update == 0


@pytest.mark.parametrize(("begins", "steps", "sets", "expected"), [
    (0, 10, 5, [4, 4, 4, 4, 4, 5, 6]), (100, 2, 0, [0, 1, 2]), (0, 4, None, [3, 3, 3, 3, 4]), (0, 4, 0, [0, 1, 2])])
def test_replicas_stay_together_where_a_program_begins_anew(begins, steps, sets, expected):
    """It clears MXNet's counts, and may set num_update; MXNet keeps that until a count is above it."""
    optimizer = namsg_mx.NAMSG(begin_num_update=begins)
    updates = [mx.optimizer.get_updater(optimizer) for _ in range(2)]
    weights = [mx.nd.ones(1, ctx=mx.cpu(device)) for device in range(2)]

    def step():
        made = []
        for device in range(2):
            updates[device](0, mx.nd.ones(1, ctx=mx.cpu(device)), weights[device])
            made.append(optimizer.last_update().k)
        return made

    for _ in range(steps):
        step()
    for counts in optimizer._all_index_update_counts.values():
        counts.clear()
    optimizer.begin_num_update = 0
    if sets is not None:
        optimizer.num_update = sets
    assert [step() for _ in expected] == [[k, k] for k in expected]


@pytest.mark.parametrize("contexts", [[mx.cpu(0)], [mx.cpu(1)], [mx.cpu(0), mx.cpu(1)]])
def test_a_schedule_goes_on_where_a_program_sets_num_update(contexts):
    rates = {}
    for method in ("adam", "namsg"):
        parameter = gluon.Parameter("w", shape=(1,))
        parameter.initialize("one", ctx=contexts)
        scheduler = mx.lr_scheduler.PolyScheduler(10, base_lr=1.0)
        trainer = gluon.Trainer([parameter], method, {"learning_rate": 1.0, "lr_scheduler": scheduler},
                                update_on_kvstore=False)
        trainer.optimizer.num_update = 7
        rates[method] = []
        for _ in range(2):
            with autograd.record():
                losses = [2 * data for data in parameter.list_data()]
            autograd.backward(losses)
            trainer.step(1)
            rates[method].append(trainer.learning_rate)
        assert len({float(data.asscalar()) for data in parameter.list_data()}) == 1
        assert trainer.optimizer.num_update == 7
    assert rates["namsg"] == rates["adam"]
    restored = pickle.loads(pickle.dumps(trainer.optimizer))
    assert restored.num_update == 7
