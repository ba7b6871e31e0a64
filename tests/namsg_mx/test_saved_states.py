"""Saved states: another Trainer goes on from them to the bit, also on other devices, and in a later version."""

import pickle
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, assert_equal_bits
from mxnet import autograd, gluon
from mxnet.gluon import nn
from small_networks import batches, dense_net, one_parameter, step, train

import namsg_mx
from namsg_mx import ObservationDistance, StepDecay


@pytest.mark.parametrize("method", METHODS)
def test_saved_states_go_on_in_a_fresh_trainer_to_the_bit(method, tmp_path):
    options = {"learning_rate": StepDecay(0.02, at=(3, 14))}
    if method == "namsg":
        options.update(eta=ObservationDistance(15), switch_to_sgd=12)
    data = batches(20)
    uninterrupted = dense_net()
    expected = train(uninterrupted, gluon.Trainer(uninterrupted.collect_params(), method, options), data)

    first = dense_net()
    trainer = gluon.Trainer(first.collect_params(), method, options)
    train(first, trainer, data[:11])
    first.save_parameters(str(tmp_path / "net"))
    trainer.save_states(str(tmp_path / "states"))
    second = dense_net(seed=1)
    second.load_parameters(str(tmp_path / "net"))
    resumed = gluon.Trainer(second.collect_params(), method)   # all settings come with the states
    resumed.load_states(str(tmp_path / "states"))
    assert_equal_bits(train(second, resumed, data[11:]), expected)


# The weights when states/<method>.states was saved, after three updates by commit 46f1757, and after two more by it.
OLD_STATES = {
    "namsg": ([0.559508740901947, 1.4404911994934082], [0.5057059526443481, 1.4942939281463623]),
    "dozatnadam": ([0.7427647113800049, 1.257235050201416], [0.5950593948364258, 1.4049402475357056]),
    "namsb": ([0.41834557056427, 1.58165442943573], [0.0003959536552429199, 1.9996041059494019])}


@pytest.mark.parametrize("method", OLD_STATES)
def test_a_states_file_of_an_earlier_version_goes_on_to_the_bit(method):
    saved, expected = OLD_STATES[method]
    net = nn.Dense(1, in_units=2, use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array([saved]))
    trainer = gluon.Trainer(net.collect_params(), method)   # namsg's step size and eta were schedules
    trainer.load_states(str(Path(__file__).parent / "states" / f"{method}.states"))
    assert trainer.optimizer.last_update().k == 2
    for _ in range(2):
        with autograd.record():
            output = net(mx.nd.array([[1.0, -0.01]]))
        output.backward()
        trainer.step(1)
    assert net.weight.data().asnumpy().tolist() == [expected]
    assert trainer.optimizer.last_update().k == 4


@pytest.mark.parametrize("saved_on", [0, 1])
@pytest.mark.parametrize("devices", [(1,), (0, 1), (2, 0)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_saved_states_go_on_on_other_devices_to_the_bit(method, devices, saved_on):
    """MXNet counts the updates of each device by themselves."""
    options = {"learning_rate": StepDecay(0.02, at=(3, 8))}
    if method == "namsg":
        options.update(eta=ObservationDistance(12), switch_to_sgd=9)
    gradients = np.random.RandomState(0).standard_normal((12, 5)).astype(np.float32)

    def go_on(updaters, weights, gradients):
        for g in gradients:
            for updater, weight in zip(updaters, weights):
                updater([0], [mx.nd.array(g, weight.context)], [weight])

    whole, weight = mx.optimizer.get_updater(mx.optimizer.create(method, **options)), mx.nd.ones(5)
    go_on([whole], [weight], gradients)
    first, part = mx.optimizer.get_updater(mx.optimizer.create(method, **options)), mx.nd.ones(5, mx.cpu(saved_on))
    go_on([first], [part], gradients[:5])
    updaters = [mx.optimizer.get_updater(mx.optimizer.create(method)) for _ in devices]
    for updater in updaters:
        updater.set_states(first.get_states(dump_optimizer=True))
        updater.optimizer = updaters[0].optimizer   # as gluon.Trainer has it
    weights = [part.as_in_context(mx.cpu(i)) for i in devices]
    go_on(updaters, weights, gradients[5:])
    for found in weights:
        assert_equal_bits([found.asnumpy()], [weight.asnumpy()])
    assert updaters[0].optimizer.last_update().k == 11


@pytest.mark.slow
def test_a_killed_process_leaves_states_that_another_goes_on_with(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        import namsg_mx
        import mxnet as mx
        from mxnet import autograd, gluon
        folder, start, stop, kill = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "kill"
        mx.random.seed(1)
        net = gluon.nn.Dense(3, in_units=4)
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), 'namsg', {'eta': namsg_mx.ObservationDistance(8)})
        if start:
            net.load_parameters(folder + '/net')
            trainer.load_states(folder + '/states')
        for k in range(start, stop):
            mx.random.seed(100 + k)
            x = mx.nd.random.normal(shape=(6, 4))
            with autograd.record():
                loss = ((net(x) - x[:, :3]) ** 2).sum()
            loss.backward()
            trainer.step(6)
            if kill and k == 4:
                net.save_parameters(folder + '/net')
                trainer.save_states(folder + '/states')
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        net.save_parameters(folder + '/end')
    """)

    def run(folder, *arguments):
        folder.mkdir(exist_ok=True)
        return subprocess.run([sys.executable, "-c", script, str(folder), *arguments], check=False).returncode

    assert run(tmp_path / "a", "0", "10", "no") == 0
    assert run(tmp_path / "b", "0", "7", "kill") == -9
    assert run(tmp_path / "b", "5", "10", "no") == 0
    a, b = (mx.nd.load(str(tmp_path / folder / "end")) for folder in "ab")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name].asnumpy(), b[name].asnumpy()) for name in a)


def test_updates_of_an_unpickled_optimizer_count_also_for_an_updater_that_takes_it_over():
    optimizer, weight = namsg_mx.NAMSG(), mx.nd.ones(1)
    state = optimizer.create_state(0, weight)
    for _ in range(3):
        optimizer.update(0, weight, mx.nd.ones(1), state)
    optimizer = pickle.loads(pickle.dumps(optimizer))
    for _ in range(5):
        optimizer.update(0, weight, mx.nd.ones(1), state)
    mx.optimizer.get_updater(optimizer)(0, mx.nd.ones(1), weight)
    assert optimizer.num_update == 9
    assert optimizer.last_update().k == 8


def test_states_of_adams_trainer_end_in_an_assertion_error_without_a_word(tmp_path):
    """As the guide has it: the file brings Adam along, and its states are none of this Trainer's."""
    path, trainer = str(tmp_path / "states"), gluon.Trainer([one_parameter()], "adam")
    step(trainer)
    trainer.save_states(path)
    trainer = gluon.Trainer([one_parameter()], "namsg")
    trainer.load_states(path)
    with pytest.raises(AssertionError) as raised:
        step(trainer)
    assert str(raised.value) == ""


def test_states_with_one_array_more_are_taken_for_those_of_another_precision():
    """The guide's warning of states without their optimizer, as `Module` saves them."""
    saved, loaded = (mx.optimizer.get_updater(mx.optimizer.create(method)) for method in ("namsg", "dozatnadam"))
    weight, gradient = mx.nd.ones(2), mx.nd.ones(2)
    saved(0, gradient, weight)
    loaded.set_states(saved.get_states())
    assert len(loaded.states[0]) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded(0, gradient, weight)
    assert len(loaded.states[0]) == 2


@pytest.mark.parametrize(("method", "expected"), [("namsg", 0.2358), ("adam", 0.6)])
def test_parameters_that_are_loaded_after_the_first_step_are_undone_by_the_master_weights(method, expected):
    """As the guide has it for float16: 1 less two steps, wherever the program has put the weight in between."""
    parameter = one_parameter("float16")
    trainer = gluon.Trainer([parameter], method, {"multi_precision": True, "learning_rate": 0.2})
    step(trainer)
    parameter.set_data(mx.nd.full(2, 9, dtype="float16"))
    step(trainer)
    np.testing.assert_allclose(parameter.data().asnumpy(), expected, rtol=2e-3)
