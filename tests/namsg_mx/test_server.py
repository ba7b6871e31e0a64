"""Real kvstore servers on loopback: scheduler, server and two workers, each its own process."""

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from loopback import run_cluster

import namsg_mx

# Where servers and workers wait for each other, they do so without end. By a signal, so that the test kills them all.
pytestmark = pytest.mark.timeout(1800, method="signal")

SCRIPT = textwrap.dedent("""
    {imports}
    from mxnet import autograd, gluon
    p = gluon.Parameter('w', shape=(3,))
    p.initialize()
    p.set_data(mx.nd.array([1.0, 2.0, 3.0]))
    trainer = gluon.Trainer([p], 'namsg', {options}, {kvstore})
    for k in range(5):
        with autograd.record():
            loss = (p.data() * mx.nd.array([1.0, -2.0, 0.5]) * (k + 1)).sum()
        loss.backward()
        trainer.step(1)
    print('weights', *p.data().asnumpy().tolist(), flush=True)
""")
ON_SERVERS = "kvstore='dist_sync', update_on_kvstore=True"
IMPORTS = {"namsg_mx first": "import namsg_mx\nimport mxnet as mx",
           "mxnet first": "import mxnet as mx\nimport namsg_mx"}


@pytest.mark.slow
@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
def test_a_server_unpickles_and_applies_the_optimizer(imports):
    """Two workers' equal gradients, averaged on the server, move the weights as one process does, to the bit."""
    if "mxnet" in imports.splitlines()[0] and sys.version_info >= (3, 12):
        pytest.skip("on Python 3.12 namsg_mx must be imported first (namsg_mx/compat.py)")
    options = "{'learning_rate': 0.1, 'eta': namsg_mx.ObservationDistance(3), 'rescale_grad': 0.5}"
    outputs, statuses = run_cluster(SCRIPT.format(imports=imports, options=options, kvstore=ON_SERVERS))
    assert statuses == [0, 0], outputs
    local = SCRIPT.format(imports=imports, options=options.replace("0.5", "1.0"), kvstore="kvstore=None")
    expected = subprocess.run([sys.executable, "-c", local], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert [out for out, _ in outputs] == [expected] * 2
    assert not np.allclose([float(w) for w in expected.split()[1:]], [1, 2, 3])


ONCE_SENT = textwrap.dedent("""
    import pickle
    import namsg_mx
    import mxnet as mx
    kvstore, optimizer = mx.kv.create('dist_sync'), namsg_mx.NAMSG()
    kvstore.set_optimizer(optimizer)
    try:
        optimizer.switch_to_sgd(5)
    except ValueError as error:
        print(error, flush=True)
    pickle.loads(pickle.dumps(optimizer)).switch_to_sgd(5)   # which is on no server
""")


@pytest.mark.slow
def test_the_switch_to_sgd_is_refused_once_the_optimizer_is_on_servers():
    """It would stay with the worker."""
    outputs, statuses = run_cluster(ONCE_SENT, workers=1)
    assert statuses == [0], outputs
    assert outputs[0][0].startswith("switch_to_sgd=5: the servers ")
    assert "update_on_kvstore=False" in outputs[0][0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_any_pickle_leaves_the_switch_to_sgd_as_it_was(protocol):
    """MXNet sends the optimizer to servers with protocol 0, and so may anyone keep it."""
    optimizer = namsg_mx.NAMSG()
    copy = pickle.loads(pickle.dumps(optimizer, protocol))
    for each in (optimizer, copy):
        each.switch_to_sgd(5)
    assert pickle.loads(pickle.dumps(optimizer, protocol))._switch == 5


@pytest.mark.slow
def test_the_switch_to_sgd_is_refused_on_servers():
    """The error is the worker's own, before any step: on a server MXNet would print and ignore it."""
    script = SCRIPT.format(imports=IMPORTS["namsg_mx first"], options="{'switch_to_sgd': 3}", kvstore=ON_SERVERS)
    ((_, error),), statuses = run_cluster(script, workers=1)
    assert statuses == [1]
    assert "switch_to_sgd=3" in error and "update_on_kvstore=False" in error
