"""NAMSG as a user of ``gluon.Trainer`` meets it."""

import contextlib
import subprocess
import sys
import textwrap

import mxnet as mx
import numpy as np
import pytest
from comparison import METHODS, assert_close, assert_equal_bits, largest_terms, numpy_state, reference_step
from mxnet import autograd, gluon
from mxnet.gluon import nn
from small_networks import LOSS, batches, dense_net, train, weights_of

import namsg_mx


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
    for suffixes in ("bias", ["bias"]):
        assert namsg_mx.exempt_from_decay(net.collect_params(), suffixes) == [n for n in exempted
                                                                              if n.endswith("bias")]
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


class FailsOnce(mx.operator.CustomOp):
    """The identity, whose second backward pass raises."""

    passes = 0

    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        FailsOnce.passes += 1
        if FailsOnce.passes == 2:
            raise ValueError("the backward pass failed")
        self.assign(in_grad[0], req[0], out_grad[0])


@mx.operator.register("fails_once")
class FailsOnceProp(mx.operator.CustomOpProp):
    def create_operator(self, ctx, shapes, dtypes):
        return FailsOnce()


@pytest.mark.parametrize("method, moves", [("adam", 3), ("namsg", 2)])
def test_without_the_gradient_of_a_failed_layer_no_parameter_moves_but_the_update_counts(method, moves):
    """The guide's pitfall. With adam the other parameter moves."""
    FailsOnce.passes = 0
    failing, other = (gluon.Parameter(name, shape=(1,)) for name in ("failing", "other"))
    for parameter in (failing, other):
        parameter.initialize("one")
    trainer = gluon.Trainer([failing, other], method, {"learning_rate": 0.1}, kvstore=None)
    errors, weights = [], [1]
    for _ in range(3):
        with autograd.record():
            loss = mx.nd.Custom(failing.data(), op_type="fails_once").sum() + other.data().sum()
        loss.backward()
        trainer.step(1)
        try:
            failing.data().wait_to_read()
        except mx.base.MXNetError as error:
            errors.append(str(error))
        with contextlib.suppress(mx.base.MXNetError):
            mx.nd.waitall()
        weights.append(other.data().asscalar())
    assert len(errors) == 1 and "kCustomOpBackward" in errors[0]
    assert trainer.optimizer.num_update == 3
    assert np.count_nonzero(np.diff(weights)) == moves


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


@pytest.mark.parametrize("method", ["adam", *METHODS])
def test_numbers_in_mxnets_numpy_arrays(method):
    """As a mask's sum, by which a step is divided, or a rate that was computed."""
    mx.npx.set_np()
    try:
        parameter = gluon.Parameter("w", shape=(2,))
        parameter.initialize("one")
        trainer = gluon.Trainer([parameter], method, {"learning_rate": 0.1}, kvstore=None)
        for each in (mx.np.array(4.0), mx.np.array([True, False, True]).sum()):
            with autograd.record():
                loss = (parameter.data() * 3).sum()
            loss.backward()
            trainer.step(each)
        trainer.set_learning_rate(mx.np.array(0.05))
        assert float(trainer.learning_rate) == pytest.approx(0.05)
        assert (parameter.data().asnumpy() < 1).all()
    finally:
        mx.npx.reset_np()


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
