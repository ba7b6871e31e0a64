"""NAMSG as a user of ``gluon.Trainer`` meets it."""

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, METHODS, assert_close, assert_equal_bits, largest_terms, numpy_state, reference_step
from mxnet import autograd, gluon
from mxnet.gluon import nn

import namsg_mx
from namsg_mx import ObservationDistance, StepDecay, kernels

LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def dense_net(ctx=None, seed=0):
    mx.random.seed(seed)
    np.random.seed(seed)
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Dense(8, activation="relu", in_units=5), nn.BatchNorm(in_channels=8), nn.Dense(3, in_units=8))
    net.initialize(ctx=ctx)
    return net


def batches(count):
    random = np.random.RandomState(0)
    return [(mx.nd.array(random.standard_normal((16, 5))), mx.nd.array(random.randint(0, 3, 16))) for _ in range(count)]


def train(net, trainer, data):
    for x, y in data:
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()
        trainer.step(x.shape[0])
    return weights_of(net)


def weights_of(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


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


def one_parameter(dtype="float32"):
    parameter = gluon.Parameter("w", shape=(2,), dtype=dtype)
    parameter.initialize("one")
    return parameter


def step(trainer):
    """One with a gradient of 1 on each context of each parameter that has one."""
    trained = [parameter for parameter in trainer._params if parameter.grad_req != "null"]
    with autograd.record():
        losses = [data.sum() for parameter in trained for data in parameter.list_data()]
    autograd.backward(losses)
    trainer.step(1)


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


def test_convolutional_net_with_evaluation_passes_follows_the_reference():
    """An inference pass may leave weights in a oneDNN layout; the next step must still reach them."""
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, in_channels=3), nn.BatchNorm(in_channels=16), nn.Activation("relu"),
            nn.Conv2D(32, 3, strides=2, in_channels=16), nn.Flatten(), nn.Dense(10))
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    hyper = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "wd": 0.01}
    trainer = gluon.Trainer(net.collect_params(), "namsg", dict(hyper, learning_rate=0.002, eta=1.5))
    random = np.random.RandomState(0)
    for k in range(8):
        x = mx.nd.array(random.standard_normal((8, 3, 14, 14)))
        y = mx.nd.array(random.randint(0, 10, 8))
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()
        params = [(i, p) for i, p in enumerate(trainer._params) if p.grad_req != "null"]
        before = [p.data().asnumpy().astype(np.float64) for _, p in params]
        gradients = [p.grad().asnumpy().astype(np.float64) for _, p in params]
        updater = trainer._updaters[0]
        states = [updater.states.get(i) or trainer.optimizer.create_state(i, p.data()) for i, p in params]
        states = [numpy_state(("m", "v", "v_hat"), state) for state in states]
        net(x).wait_to_read()   # after the backward pass, as a training pass gives the weights their layout back
        trainer.step(8)
        step = dict(hyper, eta=1.5, rescale_grad=1 / 8)
        for (_, p), w, g, s in zip(params, before, gradients, states):
            expected, new = reference_step("namsg", w, g, s, k + 1, 0.002, step)
            assert_close(p.name, p.data().asnumpy(), expected, largest_terms(w, g, s, new, 0.002, step)["x"])


@pytest.mark.parametrize("update_on_kvstore", [True, False])
def test_several_contexts_train_as_one(update_on_kvstore):
    """Two CPU contexts, half a batch each, follow one context with the whole batch, schedules and switch included."""
    options = {"learning_rate": 0.02, "eta": ObservationDistance(8), "switch_to_sgd": 6}
    data = batches(10)

    def net_without_batchnorm(ctx):
        mx.random.seed(0)
        net = nn.Dense(3, in_units=5)
        net.initialize(mx.init.Uniform(0.3), ctx=ctx)
        return net

    single = net_without_batchnorm(mx.cpu(0))
    expected = train(single, gluon.Trainer(single.collect_params(), "namsg", options), data)
    contexts = [mx.cpu(0), mx.cpu(1)]
    double = net_without_batchnorm(contexts)
    double.weight.set_data(net_without_batchnorm(mx.cpu(0)).weight.data())
    trainer = gluon.Trainer(double.collect_params(), "namsg", options, update_on_kvstore=update_on_kvstore)
    for x, y in data:
        with autograd.record():
            losses = [LOSS(double(a), b) for a, b in zip(gluon.utils.split_and_load(x, contexts),
                                                         gluon.utils.split_and_load(y, contexts))]
        autograd.backward(losses)
        trainer.step(16)
    replicas = [[p.data(ctx).asnumpy() for p in double.collect_params().values()] for ctx in contexts]
    assert_equal_bits(*replicas)
    for a, b in zip(replicas[0], expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    last = trainer.optimizer.last_update()
    assert (last.k, last.eta, last.nonfinite) == (9, 3.0, 0)
    assert last.sgd_learning_rate > 0
    assert last.kernel == kernels.choose("auto", mx.cpu(), np.float32)


SCHEDULES = {
    "learning_rate": lambda: {"learning_rate": StepDecay(0.1, at=(2,))},
    "lr_scheduler": lambda: {"lr_scheduler": mx.lr_scheduler.FactorScheduler(1, 0.5, base_lr=0.1)},   # keeps state
    "beta1 and eta": lambda: {"beta1": namsg_mx.ExponentialDecay(0.9, 0.8), "eta": ObservationDistance(4)},
    "switch_to_sgd": lambda: {"switch_to_sgd": 3},
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("stale", [("w0", 0), ("w0", 2), ("w1", 1)], ids=str)
def test_replicas_of_several_precisions_stay_equal_when_a_parameter_is_skipped(schedule, stale):
    """They follow a single device to the bit: MXNet hands over each precision by itself, and counts by device."""
    def trained(contexts):
        parameters = [gluon.Parameter(name, shape=(2,), dtype=dtype)
                      for name, dtype in (("w0", "float32"), ("w1", "float16"), ("w2", "float64"))]
        for parameter in parameters:
            parameter.initialize("one", ctx=contexts)
        trainer = gluon.Trainer(parameters, "namsg", dict(schedule(), multi_precision=True), kvstore=None)
        for k in range(6):
            for context in contexts:
                with autograd.record():
                    loss = sum(p.data(context).astype("float32").sum() for p in parameters if (p.name, k) != stale)
                loss.backward()
            trainer.step(1, ignore_stale_grad=True)
        return [[parameter.data(context).asnumpy() for parameter in parameters] for context in contexts]

    alone, = trained([mx.cpu(0)])
    for replica in trained([mx.cpu(0), mx.cpu(1), mx.cpu(2)]):
        assert_equal_bits(replica, alone)


@CPU_KERNEL
def test_weights_that_a_kvstore_keeps_in_pinned_memory_take_the_cpu_kernel():
    weight = mx.nd.ones((2, 3), mx.cpu_pinned(0))
    gradient = mx.nd.ones((2, 3), mx.cpu_pinned(0))
    updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel="cpu"))
    updater(0, gradient, weight)
    expected, alone = mx.nd.ones((2, 3)), mx.optimizer.get_updater(namsg_mx.NAMSG(kernel="cpu"))
    alone(0, mx.nd.ones((2, 3)), expected)
    assert weight.context.device_type == "cpu_pinned"
    assert_equal_bits([weight.asnumpy()], [expected.asnumpy()])


def test_skipped_parameters_keep_weight_and_state():
    net = dense_net()
    unused = gluon.Parameter("unused", shape=(3,))
    unused.initialize()
    trainer = gluon.Trainer([*net.collect_params().values(), unused], "namsg")
    x, y = batches(1)[0]
    with autograd.record():
        loss = LOSS(net(x), y) + 0 * unused.data().sum()
    loss.backward()
    trainer.step(16)
    index = trainer._param2idx["unused"]
    before = [unused.data().asnumpy()] + [s.asnumpy() for s in trainer._updaters[0].states[index]]
    for _ in range(3):
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()
        trainer.step(16, ignore_stale_grad=True)
    assert_equal_bits(before, [unused.data().asnumpy()] + [s.asnumpy() for s in trainer._updaters[0].states[index]])
    assert trainer.optimizer._index_update_count[index] == 1
    assert trainer.optimizer.num_update == 4
    with autograd.record():
        loss = LOSS(net(x), y)
    loss.backward()
    with pytest.raises(UserWarning, match="unused.*has not been updated"):
        trainer.step(16)


def test_lr_mult_of_parameters():
    net = dense_net()
    before = weights_of(net)
    net.collect_params(".*weight").setattr("lr_mult", 0.0)
    train(net, gluon.Trainer(net.collect_params(), "namsg"), batches(2))
    for name, old, new in zip(net.collect_params(), before, weights_of(net)):
        assert np.array_equal(old, new) == name.endswith("weight"), name


def test_exempt_from_decay():
    """With zero gradients only decay moves a parameter: weights alone, after the helper."""
    net = dense_net()
    exempted = namsg_mx.exempt_from_decay(net.collect_params())
    assert namsg_mx.exempt_from_decay(net.collect_params(), "bias") == [n for n in exempted if n.endswith("bias")]
    assert [name.split("_", 1)[1] for name in exempted] == ["dense0_bias", "batchnorm0_gamma", "batchnorm0_beta",
                                                            "dense1_bias"]
    for p in net.collect_params().values():
        p.set_data(mx.nd.ones(p.shape))
    trainer = gluon.Trainer(net.collect_params(), "namsg", {"wd": 0.1, "decoupled_wd": True, "learning_rate": 0.5})
    with autograd.record():
        loss = 0 * LOSS(net(mx.nd.ones((4, 5))), mx.nd.ones(4))
    loss.backward()
    trainer.step(4)
    for name, p in net.collect_params().items():
        if p.grad_req != "null":
            np.testing.assert_allclose(p.data().asnumpy(), 0.95 if name.endswith("weight") else 1.0, rtol=1e-6)


def test_decay_that_changes_between_two_steps_counts_in_the_next():
    """That of all parameters, then by the helper that of the bias."""
    net = nn.Dense(1, in_units=1, weight_initializer="ones", bias_initializer="ones")
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "namsg", {"wd": 0.5, "decoupled_wd": True, "learning_rate": 0.5})

    def step():
        with autograd.record():
            loss = 0 * net(mx.nd.ones((1, 1)))
        loss.backward()
        trainer.step(1)
        return net.weight.data().asscalar(), net.bias.data().asscalar()

    assert step() == (0.75, 0.75)
    trainer.optimizer.wd = 1.0
    assert step() == (0.375, 0.375)
    namsg_mx.exempt_from_decay(net.collect_params())
    assert step() == (0.1875, 0.375)


def test_a_trainers_step_updates_all_its_parameters_in_one_call():
    class Counting(namsg_mx.NAMSG):
        def update_multi_precision(self, index, weight, grad, state):
            updated.append(index)
            super().update_multi_precision(index, weight, grad, state)

    net, updated = dense_net(), []
    trainer = gluon.Trainer(net.collect_params(), Counting())
    train(net, trainer, batches(2))
    trained = {trainer._param2idx[name] for name, p in net.collect_params().items() if p.grad_req != "null"}
    assert len(trained) == 6
    assert [set(indices) for indices in updated] == [trained, trained]


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


def test_gradients_accumulate_with_grad_req_add():
    """Two half batches added up are one whole batch."""
    def one_step(halves):
        mx.random.seed(0)
        net = nn.Dense(3, in_units=5)
        net.initialize()
        net.collect_params().setattr("grad_req", "add" if halves else "write")
        trainer = gluon.Trainer(net.collect_params(), "namsg")
        for x, y in batches(3):
            for part in ([slice(0, 8), slice(8, 16)] if halves else [slice(0, 16)]):
                with autograd.record():
                    loss = LOSS(net(x[part]), y[part])
                loss.backward()
            trainer.step(16)
            if halves:
                net.collect_params().zero_grad()
        return weights_of(net)

    for a, b in zip(one_step(True), one_step(False)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_numpy_arrays_and_set_np():
    script = """
        import namsg_mx
        import mxnet as mx
        from mxnet import autograd, gluon, np, npx
        npx.set_np()
        mx.random.seed(0)
        net = gluon.nn.Dense(1)
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), 'namsg', {'learning_rate': 0.05})
        x = np.random.normal(size=(64, 3))
        y = x.sum(axis=1, keepdims=True)
        for k in range(200):
            with autograd.record():
                loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            trainer.step(1)
        assert float(loss) < 1e-3, loss
        assert trainer.optimizer.last_update().nonfinite == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_module_fit():
    """The symbolic API, and the optimizer's settings from a tuple."""
    random = np.random.RandomState(0)
    x = random.standard_normal((256, 10)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.float32)
    data = mx.sym.Variable("data")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=2, name="fc"), name="softmax")
    module = mx.mod.Module(net)
    mx.random.seed(0)
    iterator = mx.io.NDArrayIter(x, y, batch_size=32)
    module.fit(iterator, num_epoch=15, optimizer="namsg", optimizer_params=(("learning_rate", 0.05), ("wd", 1e-4)))
    assert module.score(iterator, "acc")[0][1] > 0.97


@pytest.mark.parametrize("decoupled_wd", [False, True])
def test_module_decays_weights_only(decoupled_wd):
    """It knows them by their names. Without gradients nothing else moves them."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(net, grad_scale=0, name="softmax"))
    module.fit(mx.io.NDArrayIter(np.ones((8, 3)), np.zeros(8), batch_size=4), num_epoch=1, optimizer="namsg",
               optimizer_params={"wd": 0.1, "decoupled_wd": decoupled_wd},
               arg_params={"fc_weight": mx.nd.ones((2, 3)), "fc_bias": mx.nd.ones(2)})
    (_, bias), (_, weight) = sorted(module.get_params()[0].items())
    assert (bias.asnumpy() == 1).all() and (weight.asnumpy() < 1).all()


@pytest.mark.parametrize("contexts", [1, 2])
@pytest.mark.parametrize("update_on_kvstore", ["0", "1"])
def test_module_resumes_to_the_bit_with_its_count_of_updates(tmp_path, monkeypatch, update_on_kvstore, contexts):
    """As the guide has it. MXNet keeps the optimizer's states, and not how many updates they have had."""
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", update_on_kvstore)
    random = np.random.RandomState(0)
    x, y = random.standard_normal((64, 10)).astype(np.float32), random.randint(0, 2, 64).astype(np.float32)
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2), name="softmax")
    settings = {"learning_rate": StepDecay(0.05, at=(6, 12)), "eta": ObservationDistance(14)}
    devices, prefix = [mx.cpu(i) for i in range(contexts)], str(tmp_path / "module")

    def fit(module, begin, end, **count):
        module.fit(mx.io.NDArrayIter(x, y, batch_size=16), begin_epoch=begin, num_epoch=end, optimizer="namsg",
                   optimizer_params=dict(settings, **count))
        return [values.asnumpy() for _, values in sorted(module.get_params()[0].items())]

    mx.random.seed(0)
    module = mx.mod.Module(net, context=devices)
    fit(module, 0, 2)
    module.save_checkpoint(prefix, 2, save_optimizer_states=True)
    expected = fit(module, 2, 4)
    resumed = mx.mod.Module.load(prefix, 2, load_optimizer_states=True, context=devices)
    assert_equal_bits(fit(resumed, 2, 4, begin_num_update=2 * 4), expected)
    forgetful = mx.mod.Module.load(prefix, 2, load_optimizer_states=True, context=devices)
    assert not np.array_equal(fit(forgetful, 2, 4)[1], expected[1])


@pytest.mark.parametrize("update_on_kvstore", ["0", "1"])
def test_module_counts_a_gradient_that_is_not_finite_once_on_several_contexts(monkeypatch, update_on_kvstore):
    """It gives the replicas of a parameter an index each."""
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", update_on_kvstore)
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    module = mx.mod.Module(mx.sym.LinearRegressionOutput(net, name="regression"), label_names=["regression_label"],
                           context=[mx.cpu(0), mx.cpu(1)])
    x = np.ones((8, 3), np.float32)
    x[0, 0] = np.inf   # and the whole gradient is NaN
    module.fit(mx.io.NDArrayIter(x, np.ones((8, 2)), batch_size=8, label_name="regression_label"), num_epoch=2,
               optimizer="namsg", optimizer_params={"nonfinite": "skip"}, eval_metric="mse")
    assert module._optimizer.last_update().nonfinite == 2 * 6


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


def test_an_error_inside_an_update_on_several_contexts_is_printed_and_training_goes_on():
    """The guide's pitfall: it is raised in a callback of the kvstore."""
    script = """
        import namsg_mx
        import mxnet as mx
        from mxnet import autograd, gluon

        class Stumbling:
            calls = 0

            def __call__(self, k):
                Stumbling.calls += k == 1
                if Stumbling.calls == 1:
                    raise OSError('no schedule')
                return 0.1

        parameter = gluon.Parameter('w', shape=(1,))
        parameter.initialize('one', ctx=[mx.cpu(0), mx.cpu(1)])
        trainer = gluon.Trainer([parameter], 'averagedsgd', {'learning_rate': Stumbling(), 'beta1': 0.0},
                                update_on_kvstore=True)
        for _ in range(3):
            with autograd.record():
                losses = [data.sum() for data in parameter.list_data()]
            autograd.backward(losses)
            trainer.step(1)
            print(round(float(parameter.data().asscalar()), 3))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert result.stdout.split() == ["0.8", "0.8", "0.6"]
    assert "OSError: no schedule" in result.stderr


def test_layers_on_several_devices():
    """Model parallelism, which hands over weights of all the devices in one update: each is stepped on its own."""
    random = np.random.RandomState(0)
    x, y = random.standard_normal((64, 10)).astype(np.float32), random.randint(0, 2, 64).astype(np.float32)
    net = mx.sym.Variable("data")
    for group, units in (("first", 5), ("second", 2)):
        with mx.AttrScope(ctx_group=group):
            net = mx.sym.FullyConnected(net, num_hidden=units, name=group)
    net = mx.sym.SoftmaxOutput(net, name="softmax")

    def trained(second):
        module = mx.mod.Module(net, context=[mx.cpu(0)],
                               group2ctxs={"first": [mx.cpu(0)], "second": [mx.cpu(second)]})
        mx.random.seed(0)
        optimizer = namsg_mx.NAMSG(0.05, switch_to_sgd=3, param_idx2name={}, rescale_grad=1 / 16)
        module.fit(mx.io.NDArrayIter(x, y, batch_size=16), num_epoch=2, optimizer=optimizer, kvstore=None)
        contexts = {binding.counts[0].context for call in optimizer._calls.latest.values() for binding in call.bindings}
        return {name: values.asnumpy() for name, values in module.get_params()[0].items()}, contexts

    expected, contexts = trained(second=0)
    assert contexts == {mx.cpu(0)}
    found, contexts = trained(second=1)
    assert contexts == {mx.cpu(0), mx.cpu(1)}
    assert len(found) == 4 and all(np.array_equal(found[name], expected[name]) for name in expected)


def test_amp_loss_scaling_beside_the_nonfinite_policy():
    """AMP drops a whole step that overflows; NAMSG never sees it, so its count stays 0."""
    script = """
        import namsg_mx
        import mxnet as mx
        from mxnet import autograd, gluon
        from mxnet.contrib import amp
        weight = gluon.Parameter('weight', shape=(4, 3))
        weight.initialize(mx.init.One())
        trainer = gluon.Trainer([weight], 'namsg', {'nonfinite': 'skip'})
        amp.init()
        amp.init_trainer(trainer)
        x = mx.nd.ones((4, 3))
        def step(factor):
            with autograd.record():
                loss = ((weight.data() * x) ** 2).sum() * factor   # no operator that AMP runs in float16: CPUs cannot
                with amp.scale_loss(loss, trainer) as scaled:
                    autograd.backward(scaled)
            trainer.step(4)
            return weight.data().asnumpy()
        start = weight.data().asnumpy()
        overflowed = step(float('inf'))
        assert (overflowed == start).all()
        assert trainer.optimizer.last_update() is None
        moved = step(1.0)
        assert (moved != start).all()
        assert trainer.optimizer.last_update().nonfinite == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_namsg_before_and_after_the_import():
    """MXNet finds the name once namsg_mx is imported, also after MXNet and in any case."""
    script = """
        import mxnet as mx
        try:
            mx.optimizer.create('namsg')
        except ValueError as error:
            assert 'Cannot find optimizer namsg' in str(error)
        else:
            raise SystemExit('namsg was known before its import')
        import namsg_mx
        assert isinstance(mx.optimizer.create('NAMSG'), namsg_mx.NAMSG)
        for name in ('namsg', 'amsgrad', 'namsb', 'amsbound', 'dozatnadam', 'averagedsgd'):
            mx.optimizer.create(name)
    """
    prologue = "import numpy\nif not hasattr(numpy, 'bool'): numpy.bool = bool\n"
    subprocess.run([sys.executable, "-c", prologue + textwrap.dedent(script)], check=True)
