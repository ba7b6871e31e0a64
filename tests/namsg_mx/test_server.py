"""Real kvstore servers on loopback: scheduler, server and two workers, each its own process."""

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from loopback import run_cluster

import namsg_mx

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


def test_the_switch_to_sgd_is_refused_once_the_optimizer_is_on_servers():
    """kvstore.set_optimizer pickles it with protocol 0, and a later switch would stay with the worker."""
    optimizer = namsg_mx.NAMSG()
    optimizer.switch_to_sgd(5)
    optimizer = namsg_mx.NAMSG()
    pickle.dumps(optimizer, 0)
    with pytest.raises(ValueError, match=r"switch_to_sgd=5: the servers .* update_on_kvstore=False"):
        optimizer.switch_to_sgd(5)


def test_the_switch_to_sgd_is_refused_on_servers():
    """The error is the worker's own, before any step: on a server MXNet would print and ignore it."""
    script = SCRIPT.format(imports=IMPORTS["namsg_mx first"], options="{'switch_to_sgd': 3}", kvstore=ON_SERVERS)
    outputs, statuses = run_cluster(script)
    assert statuses == [1, 1]
    assert all("switch_to_sgd=3" in error and "update_on_kvstore=False" in error for _, error in outputs)
