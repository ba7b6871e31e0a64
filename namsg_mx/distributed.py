"""Training with MXNet's distributed kvstore, without its silent failures.

The package does not import this module: a server imports the package inside ``import mxnet``, when there is no gluon.
"""

import atexit
import gc
import os

import numpy as np
from mxnet import gluon, nd
from mxnet.kvstore import KVStore, create

REASON = (
    "Look at that server's output: only there MXNet prints an error of unpickling the optimizer or of an update, and "
    "training would go on. Often the optimizer's module is not installed on the server, or it uses mx.nd, which is "
    "missing while the server is still inside 'import mxnet': import from mxnet.optimizer and mxnet.ndarray instead. "
    "Or take update_on_kvstore=False, which updates on the workers."
)

# Each server updates this array once, before any parameter. At 0 the smallest step is seen. At 1e-3 it is seen whether
# the value before was forgotten, as by a sum of gradients. The gradients have both signs, as bounds can stop one.
PROBE, PROBE_GRADIENT = np.array([0, 1e-3, 0, 1e-3], np.float32), np.array([1, 1, -1, -1], np.float32)

ONE_OPTIMIZER = (
    "the servers of the kvstore hold one optimizer at a time, and it is now the one of another DistributedTrainer of "
    "this process: take update_on_kvstore=False for all the Trainers, or one Trainer for all the parameters"
)


class ServerKeys(KVStore):
    """The distributed kvstore of this process, with keys for one Trainer: its key 0 is new to the servers.

    The servers hold keys and one optimizer. If a second Trainer used a key of the first, they would take its weights
    for a gradient; its optimizer replaces the first one's for all keys. All workers must make their Trainers' first
    steps in the same order.

    Parameters
    ----------
    kvstore : mxnet.kvstore.KVStore or str
        Of a type with 'dist'. For a str: the kvstore of this process, or a new one if there is none.
    count : int
        Number of keys.

    Raises
    ------
    RuntimeError
        If this process has a kvstore of another type. By all methods that take a key, while the servers hold another
        Trainer's optimizer.
    """

    _kvstore = None   # this process's: MXNet hangs if there is a second one, even after the first was freed
    _taken = 0        # number of keys
    _updated = None   # the ServerKeys whose optimizer the servers hold, or None

    def __init__(self, kvstore, count):
        if isinstance(kvstore, str):
            kvstore = self._of_type(kvstore)
        super().__init__(kvstore.handle)
        self.first = ServerKeys._taken
        ServerKeys._taken += count
        ServerKeys._kvstore = kvstore

    def __del__(self):
        """Nothing: the handle is freed with the kvstore that it is from."""

    @staticmethod
    def _of_type(name):
        kvstore = ServerKeys._kvstore or _made_by_the_program() or create(name)
        if kvstore.type != name:
            raise RuntimeError(f"kvstore={name!r}: MXNet allows one distributed kvstore in a process, and this one "
                               f"has {kvstore.type!r} already")
        return kvstore

    @staticmethod
    def leave():
        """Free the kvstore, which then takes leave of the servers: at exit, while MXNet still works."""
        ServerKeys._kvstore = None

    def set_optimizer(self, optimizer):
        nd.waitall()   # an update might still be waiting for another worker's gradient: the former optimizer makes it
        super().set_optimizer(optimizer)
        ServerKeys._updated = self

    def _key(self, key):
        if ServerKeys._updated not in (None, self):
            raise RuntimeError(ONE_OPTIMIZER)
        return self.first + key

    def init(self, key, *arguments, **options):
        super().init(self._key(key), *arguments, **options)

    def broadcast(self, key, *arguments, **options):
        super().broadcast(self._key(key), *arguments, **options)

    def push(self, key, *arguments, **options):
        super().push(self._key(key), *arguments, **options)

    def pull(self, key, *arguments, **options):
        super().pull(self._key(key), *arguments, **options)

    def pushpull(self, key, *arguments, **options):
        super().pushpull(self._key(key), *arguments, **options)

    def row_sparse_pull(self, key, *arguments, **options):
        super().row_sparse_pull(self._key(key), *arguments, **options)


atexit.register(ServerKeys.leave)


def _made_by_the_program():
    """A distributed kvstore that this process has, as for its rank, or None: MXNet does not tell."""
    return next((each for each in gc.get_objects() if type(each) is KVStore and "dist" in each.type), None)


class DistributedTrainer(gluon.Trainer):
    """A ``gluon.Trainer`` for kvstore 'dist_sync' and 'dist_async' that notices at the start if training cannot work.

    It has the arguments and methods of ``gluon.Trainer``; with other kvstores it is one. In the first `step`, before
    any gradient is sent, it

    - waits for the initial weights. MXNet does not: with ``update_on_kvstore=False``, another worker's gradients can
      then become a worker's initial weights;
    - with updates on the servers, has each server update an array of four elements once, which belongs to no network.
      If the optimizer raises an error on a server, MXNet keeps the weights as they are; if the server could not
      unpickle it, MXNet takes the sum of the gradients for the weights. Both are silent on the workers;
    - with updates on the servers, sends them each parameter's present ``lr_mult`` and ``wd_mult``. MXNet does not:
      frozen layers would train, and parameters that `exempt_from_decay` exempts would decay.

    Several Trainers in one process share its kvstore; each has keys of its own on the servers. With
    ``update_on_kvstore=False`` they may step in any order. Servers that update serve the latest Trainer only.

    Raises
    ------
    RuntimeError
        By `step` on every worker, if a server does not apply the optimizer: it keeps the weights as they are, or
        replaces them by the sum of the gradients. The message says which, and the likely causes. (With a step size of
        0 in the first update, only the second is noticed.) By the first `step` without a launcher. By any `step` while
        the servers hold the optimizer of another Trainer of this process. By `set_learning_rate`, once the servers have
        the optimizer; by `step`, if a parameter's ``lr_mult`` or ``wd_mult`` has changed since.

    Example
    -------
    For a process that a launcher has started:

    >>> net = gluon.nn.Dense(1, in_units=1, use_bias=False)
    >>> net.initialize(mx.init.One())
    >>> kvstore = 'dist_sync' if 'DMLC_ROLE' in os.environ else 'local'
    >>> trainer = DistributedTrainer(net.collect_params(), 'namsg', {'learning_rate': 0.1}, kvstore=kvstore)
    >>> with autograd.record():
    ...     output = net(nd.array([[1.0]]))
    >>> output.backward()
    >>> trainer.step(1)
    >>> net.weight.data().asnumpy().round(3)
    array([[0.81]], dtype=float32)
    """

    _is_checked = False
    _failure = None   # what the check has found

    def _init_kvstore(self):
        kvstore, first = self._kvstore_params["kvstore"], 0
        if isinstance(kvstore, (str, KVStore)) and "dist" in getattr(kvstore, "type", kvstore):
            if not isinstance(kvstore, ServerKeys):
                kvstore = ServerKeys(kvstore, len(self._params) + count_servers())
                self._kvstore_params["kvstore"] = kvstore
            first = kvstore.first
        self._sent = self._multipliers()
        self._optimizer.set_lr_mult({first + i: lr_mult for i, (lr_mult, _) in enumerate(self._sent)})
        self._optimizer.set_wd_mult({first + i: wd_mult for i, (_, wd_mult) in enumerate(self._sent)})
        super()._init_kvstore()

    def _multipliers(self):
        return [(parameter.lr_mult, parameter.wd_mult) for parameter in self._params]

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """``gluon.Trainer.step``, after the check."""
        if self._failure:
            raise RuntimeError(self._failure)
        if self._updates_on_servers() and self._multipliers() != self._sent:
            raise RuntimeError("lr_mult or wd_mult: the servers have them already, and a change would not reach them: "
                               "set them before the first step, or take update_on_kvstore=False")
        super().step(batch_size, ignore_stale_grad)

    def _updates_on_servers(self):
        return self._kv_initialized and self._distributed and self._update_on_kvstore

    def set_learning_rate(self, lr: float) -> None:
        """``gluon.Trainer.set_learning_rate``. RuntimeError once servers update: it would not reach them."""
        if self._updates_on_servers():
            raise RuntimeError(f"learning_rate={lr!r}: the servers have the optimizer already, and a change would not "
                               "reach them: give a schedule, or take update_on_kvstore=False")
        super().set_learning_rate(lr)

    def _init_params(self):
        super()._init_params()
        if self._distributed:
            nd.waitall()
            if self._update_on_kvstore and not self._is_checked:
                self._failure, self._is_checked = self._check_servers(), True
                if self._failure:
                    raise RuntimeError(self._failure)

    def _check_servers(self):
        """Why training would not work, or None."""
        context = self._contexts[0]
        gradient = PROBE_GRADIENT / (self._optimizer.rescale_grad or 1.0)   # which the optimizer makes 1 and -1
        probes = {key: nd.array(PROBE, context)
                  for key in range(len(self._params), len(self._params) + count_servers())}
        for key, probe in probes.items():
            self._kvstore.broadcast(key, probe, out=probe)
        # With dist_async and the like each worker's gradient is an update: a second one would count in the schedules.
        if "async" not in self._kvstore.type or self._kvstore.rank == 0:
            for key, probe in probes.items():
                self._kvstore.pushpull(key, nd.array(gradient, context), out=probe)
            nd.waitall()
        self._kvstore._barrier()
        for key, probe in probes.items():
            self._kvstore.pull(key, out=probe)
            found = probe.asnumpy()
            if (found[::2] == found[1::2]).all() and (found * gradient > 0).all():
                return ("a server of the kvstore takes the sum of the gradients for the weights, and does not apply "
                        f"the optimizer. {REASON}")
            if (found == PROBE).all() and self._first_learning_rate() > 0:
                return f"a server of the kvstore does not move the weights: it does not apply the optimizer. {REASON}"
        return None

    def _first_learning_rate(self):
        """The step size of the first update: MXNet's warm-ups answer 0 until then."""
        schedule, first = self._optimizer.lr_scheduler, self._optimizer.begin_num_update + 1
        return schedule(first) if schedule else self._optimizer.lr


def count_servers() -> int:
    """The number of servers. A `DistributedTrainer` takes as many keys in addition to its parameters'.

    MXNet puts a small array on server (9973 * key) % servers: as many successive keys as servers reach each server.
    RuntimeError in a process that no launcher has started.
    """
    if "DMLC_NUM_SERVER" not in os.environ:
        raise RuntimeError("a distributed kvstore needs a launcher, which starts scheduler, servers and workers, and "
                           "sets DMLC_NUM_SERVER (docs/scaling.md has one)")
    return int(os.environ["DMLC_NUM_SERVER"])
