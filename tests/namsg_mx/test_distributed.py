"""DistributedTrainer on real servers: the failures on which MXNet is silent."""

import os
import subprocess
import sys
import textwrap

import mxnet as mx
import pytest
from comparison import assert_equal_bits
from loopback import run_cluster
from mxnet import autograd, gluon

from namsg_mx.distributed import DistributedTrainer

# Where servers and workers wait for each other, they do so without end. By a signal, so that the test kills them all.
pytestmark = pytest.mark.timeout(1800, method="signal")

# An optimizer that works on a worker and, on a server, fails where it is told to.
FAILING = """
    import os

    from mxnet.optimizer import SGD

    ON_SERVER = os.environ['DMLC_ROLE'] == 'server'

    class Optimizer(SGD):
        def __setstate__(self, state):
            if ON_SERVER and os.environ['FAILS'] == 'in unpickling':
                raise AttributeError('no nd')
            super().__setstate__(state)

        def update_multi_precision(self, *arguments):
            if ON_SERVER and os.environ['FAILS'] == 'in updates':
                raise AttributeError('no nd')
            (index, *_), *_ = arguments
            if ON_SERVER and os.environ['FAILS'] == f'on server {index % 2}':   # of two, which have every other key
                raise AttributeError('no nd')
            super().update_multi_precision(*arguments)
"""
SCRIPT = textwrap.dedent("""
    import namsg_mx
    import mxnet as mx
    from mxnet import autograd, gluon
    from namsg_mx.distributed import DistributedTrainer
    {optimizer}
    p = gluon.Parameter('w', shape=(3,))
    p.initialize()
    p.set_data(mx.nd.array([1.0, 2.0, 3.0]))
    trainer = DistributedTrainer([p], {arguments}, kvstore={kvstore}, update_on_kvstore={on_servers})
    failed = 0
    for k in range(5):
        with autograd.record():
            loss = (p.data() * mx.nd.array([1.0, -2.0, 0.5]) * (k + 1)).sum()
        loss.backward()
        try:
            trainer.step(1)
        except RuntimeError as error:
            print(type(error).__name__, error, flush=True)
            failed += 1
    print(failed, 'failed, weights', *p.data().asnumpy().tolist(), flush=True)
""")


def test_without_a_launcher_it_says_so_at_the_first_step(monkeypatch):
    monkeypatch.delenv("DMLC_NUM_SERVER", raising=False)
    parameter = gluon.Parameter("w", shape=(1,))
    parameter.initialize()
    trainer = DistributedTrainer([parameter], "namsg", kvstore="dist_sync")
    with pytest.raises(RuntimeError, match="a distributed kvstore needs a launcher, .* DMLC_NUM_SERVER"):
        trainer.step(1)


@pytest.mark.parametrize("kvstore", ["device", None])
def test_on_one_machine_it_is_gluons_trainer(kvstore):
    """Of several contexts; rates and multipliers may change at any time."""
    def trained(trainer_class):
        parameter = gluon.Parameter("w", shape=(2,))
        parameter.initialize("one", ctx=[mx.cpu(0), mx.cpu(1)])
        trainer = trainer_class([parameter], "namsg", kvstore=kvstore)
        for learning_rate, lr_mult in ((0.1, 1.0), (0.2, 1.0), (0.2, 0.5)):
            trainer.set_learning_rate(learning_rate)
            parameter.lr_mult = lr_mult
            with autograd.record():
                losses = [(weight * mx.nd.array([1, -2], weight.context)).sum() for weight in parameter.list_data()]
            autograd.backward(losses)
            trainer.step(1)
        return [weight.asnumpy() for weight in parameter.list_data()]

    assert_equal_bits(trained(DistributedTrainer), trained(gluon.Trainer))


@pytest.mark.slow
@pytest.mark.parametrize("fails, servers, says", [
    ("in unpickling", 1, "RuntimeError a server of the kvstore takes the sum of the gradients for the weights"),
    ("in updates", 1, "RuntimeError a server of the kvstore does not move the weights"),
    ("on server 0", 2, "RuntimeError a server of the kvstore does not move the weights"),
    ("on server 1", 2, "RuntimeError a server of the kvstore does not move the weights"),
])
@pytest.mark.parametrize("rate", ["learning_rate=0.1", "lr_scheduler=mx.lr_scheduler.PolyScheduler("
                                  "100, base_lr=0.1, warmup_steps=10)"], ids=["constant", "warm-up"])
def test_servers_that_do_not_apply_the_optimizer_are_noticed_in_each_step(tmp_path, fails, servers, says, rate):
    """Also where a warm-up from 0 answers 0 until the first update."""
    (tmp_path / "failing.py").write_text(textwrap.dedent(FAILING))
    script = SCRIPT.format(optimizer="import failing",
                           arguments=f"failing.Optimizer({rate})", kvstore="'dist_sync'", on_servers=True)
    outputs, _ = run_cluster(script, workers=1, servers=servers, FAILS=fails,
                             PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    for out, _ in outputs:
        *errors, last = out.splitlines()
        assert len(errors) == 5, outputs
        assert all(error.startswith(says) and "import from mxnet.optimizer" in error for error in errors), outputs
        assert last == "5 failed, weights 1.0 2.0 3.0", outputs


MULTIPLIERS = textwrap.dedent("""
    import namsg_mx
    from mxnet import autograd, gluon
    from namsg_mx.distributed import DistributedTrainer
    frozen, exempt = gluon.Parameter('frozen', shape=(1,)), gluon.Parameter('exempt', shape=(1,))
    for p in (frozen, exempt):
        p.initialize('one')
    frozen.lr_mult, exempt.wd_mult = 0.0, 0.0
    trainer = DistributedTrainer([frozen, exempt], 'namsg', {{'learning_rate': 0.1, 'wd': 1.0}}, kvstore={kvstore},
                                 update_on_kvstore={on_servers})
    for _ in range(3):
        with autograd.record():
            loss = frozen.data() + 0 * exempt.data()
        loss.backward()
        trainer.step(1)
    print(frozen.data().asscalar(), exempt.data().asscalar(), flush=True)
""")


@pytest.mark.slow
@pytest.mark.parametrize("on_servers", [True, False])
def test_servers_keep_to_the_multipliers_of_the_parameters(on_servers):
    """A frozen parameter stays though it has a gradient; one without a gradient stays where decay leaves it out."""
    outputs, statuses = run_cluster(MULTIPLIERS.format(kvstore="'dist_sync'", on_servers=on_servers), workers=1)
    assert statuses == [0], outputs
    assert [out.split() for out, _ in outputs] == [["1.0", "1.0"]]


CHANGES = textwrap.dedent("""
    import namsg_mx
    from mxnet import autograd, gluon
    from namsg_mx.distributed import DistributedTrainer
    p = gluon.Parameter('w', shape=(1,))
    p.initialize('one')
    trainer = DistributedTrainer([p], 'namsg', kvstore='dist_sync', update_on_kvstore={on_servers})
    for value in (0.0, 1.0):
        with autograd.record():
            loss = p.data().sum()
        loss.backward()
        for act in (lambda: {change}, lambda: trainer.step(1)):
            try:
                act()
            except RuntimeError as error:
                print(error)
        print(trainer.learning_rate, p.data().asscalar() == 1, flush=True)
""")


@pytest.mark.slow
@pytest.mark.parametrize(("change", "says", "rates"), [
    ("trainer.set_learning_rate(value)", "learning_rate=1.0: the servers have the optimizer already", ("0.0", "1.0")),
    ("setattr(p, 'lr_mult', value)", "lr_mult or wd_mult: the servers have them already", ("0.002", "0.002"))])
def test_a_change_that_would_not_reach_the_servers_is_refused(change, says, rates):
    outputs, statuses = run_cluster(CHANGES.format(on_servers=True, change=change), workers=1)
    assert statuses == [0], outputs
    first, refused, second = outputs[0][0].splitlines()
    assert first == second == f"{rates[0]} True"
    assert refused.startswith(says)
    outputs, statuses = run_cluster(CHANGES.format(on_servers=False, change=change), workers=1)
    assert statuses == [0], outputs
    assert outputs[0][0].splitlines() == [f"{rates[0]} True", f"{rates[1]} False"]


ASYNCHRONOUS = textwrap.dedent("""
    import namsg_mx
    from mxnet import autograd, gluon
    from namsg_mx.distributed import DistributedTrainer
    p = gluon.Parameter('w', shape=(1,))
    p.initialize('zeros')
    trainer = DistributedTrainer([p], 'averagedsgd', {{'learning_rate': namsg_mx.InverseSquareRoot(1.0), 'beta1': 0.0}},
                                 kvstore={kvstore})
    with autograd.record():
        loss = p.data().sum()
    loss.backward()
    trainer.step(1)
    p.data().wait_to_read()
    trainer._kvstore._barrier()
    trainer._kvstore.pull(0, out=p.list_data())
    print(p.data().asscalar(), flush=True)
""")


@pytest.mark.slow
@pytest.mark.parametrize("kvstore", ["dist_async", "dist_async_device"])
def test_the_check_does_not_count_in_the_schedules_of_dist_async(kvstore):
    """Two workers' gradients of 1 are the updates 0 and 1."""
    outputs, statuses = run_cluster(ASYNCHRONOUS.format(kvstore=repr(kvstore)))
    assert statuses == [0, 0], outputs
    assert [float(out) for out, _ in outputs] == pytest.approx([-1 - 0.5**0.5] * 2)


@pytest.mark.parametrize("on_servers", [True, False])
@pytest.mark.slow
def test_otherwise_it_is_a_trainer(on_servers):
    """Its weights are those of one process, to the bit, also where bounds stop the weights that the check moves."""
    arguments = "'namsg', {'learning_rate': 0.1, 'rescale_grad': 1 / WORKERS, 'bounds': (0.0, 9.0)}"
    outputs, statuses = run_cluster(SCRIPT.format(optimizer="WORKERS = 2", arguments=arguments,
                                                  kvstore="'dist_sync'", on_servers=on_servers))
    assert statuses == [0, 0], outputs
    alone = SCRIPT.format(optimizer="WORKERS = 1", arguments=arguments, kvstore=None, on_servers=None)
    expected = subprocess.run([sys.executable, "-c", alone], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert expected.startswith("0 failed, weights")
    assert [out for out, _ in outputs] == [expected] * 2


@pytest.mark.slow
@pytest.mark.parametrize("arguments, batch_size", [
    ("'namsg', {'learning_rate': 0.1, 'rescale_grad': -1.0}", 1),                          # gradient ascent
    ("'sgd', {'learning_rate': 1.0, 'rescale_grad': -1.0}", 1),                            # adds the gradients
    ("'ftrl', {'learning_rate': 0.1}", 256),                                               # has a threshold
    ("'namsg', {'learning_rate': 1e-9}", 256),
], ids=["ascent", "sum", "threshold", "small steps"])
def test_optimizers_that_move_otherwise_are_applied(arguments, batch_size):
    def output(kvstore, on_servers):
        return SCRIPT.format(optimizer="", arguments=arguments, kvstore=kvstore, on_servers=on_servers).replace(
            "trainer.step(1)", f"trainer.step({batch_size})")
    outputs, statuses = run_cluster(output("'dist_sync'", True), workers=1)
    alone = subprocess.run([sys.executable, "-c", output(None, None)], check=True, text=True, stdout=subprocess.PIPE)
    assert statuses == [0], outputs
    assert outputs[0][0] == alone.stdout
    assert alone.stdout.startswith("0 failed, weights")


@pytest.mark.slow
def test_the_kvstore_that_a_program_has_made_is_used():
    """A second one would wait for ever."""
    script = SCRIPT.format(optimizer="store = mx.kv.create('dist_sync'); rank = store.rank", on_servers=True,
                           arguments="'namsg', {'learning_rate': 0.1}", kvstore="'dist_sync'")
    outputs, statuses = run_cluster(script, workers=1)
    assert statuses == [0], outputs
    assert outputs[0][0].startswith("0 failed, weights")


@pytest.mark.slow
def test_a_kvstore_of_another_type_is_refused():
    """MXNet has one in a process, whose type would be that of all Trainers."""
    script = SCRIPT.format(optimizer="store = mx.kv.create('dist_sync')", on_servers=True, arguments="'namsg'",
                           kvstore="'dist_async'")
    outputs, statuses = run_cluster(script, workers=1)
    assert statuses == [0], outputs
    first, *_, last = outputs[0][0].splitlines()
    assert first == ("RuntimeError kvstore='dist_async': MXNet allows one distributed kvstore in a process, and this "
                     "one has 'dist_sync' already")
    assert last == "5 failed, weights 1.0 2.0 3.0"


SEVERAL = textwrap.dedent("""
    import namsg_mx
    import mxnet as mx
    from mxnet import autograd, gluon
    from namsg_mx.distributed import DistributedTrainer
    def model(start, stype='default', **options):
        p = gluon.Parameter('w', shape=(3, 1), stype=stype, grad_stype=stype)
        p.initialize(mx.init.Constant(start))
        options.update(learning_rate=0.01, rescale_grad=1 / {workers})
        data = p.data if stype == 'default' else lambda: p.row_sparse_data(mx.nd.arange(3))
        return p, data, DistributedTrainer([p], 'namsg', options, kvstore={kvstore}, update_on_kvstore={on_servers})
    def step(p, data, trainer):
        try:
            with autograd.record():
                loss = mx.nd.Embedding(mx.nd.arange(3), data(), 3, 1, sparse_grad=data().stype == 'row_sparse').sum()
            loss.backward()
            trainer.step(1)
            print(data().asnumpy().tolist(), flush=True)
        except RuntimeError as error:
            print(error, flush=True)
    first, second = model(1.0), model(5.0, {stype!r}, beta1=0.5)
    second[0].lr_mult = 2.0
    for each in {order}:
        step(*each)
""")


def steps_of_several(on_servers, order, stype="default"):
    """What two workers print, which is one thing, and what a process alone prints that does the same.

    ``stype`` is the second parameter's on the workers.
    """
    outputs, statuses = run_cluster(SEVERAL.format(kvstore="'dist_sync'", on_servers=on_servers, order=order,
                                                   workers=2, stype=stype))
    assert statuses == [0, 0], outputs
    alone = SEVERAL.format(kvstore=None, on_servers=None, order=order, workers=1, stype="default")
    expected = subprocess.run([sys.executable, "-c", alone], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert outputs[0][0] == outputs[1][0]
    return outputs[0][0].splitlines(), expected.splitlines()


@pytest.mark.slow
def test_several_take_turns_where_workers_update():
    """As the two networks of a GAN. Under the keys of the first, weights of the second would be gradients."""
    found, expected = steps_of_several(False, "[first, second] * 3")
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("stype", ["default", "row_sparse"])
def test_several_one_after_the_other_where_servers_update(stype):
    """The optimizer belongs to the servers: theirs is the latest, and it is said to the Trainer of the one before."""
    found, expected = steps_of_several(True, "[first, first, second, second, first]", stype)
    assert found[:4] == expected[:4]
    assert found[4].startswith("the servers of the kvstore hold one optimizer at a time")
