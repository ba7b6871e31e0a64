"""Training with MXNet's distributed kvstore, without its silent failures.

Not imported by the package itself: a server imports that while it is still inside ``import mxnet``, without its gluon.
"""

import atexit
import os

from mxnet import gluon, nd
from mxnet.kvstore import KVStore, create

REASON = (
    "An error inside a server, while it unpickles the optimizer or in an update, is printed in that server's output "
    "alone, and training would go on. Look there. Often the optimizer's module is not installed on the server, or it "
    "uses mx.nd while the server is still inside 'import mxnet' and has none: import from mxnet.optimizer and "
    "mxnet.ndarray instead. Or take update_on_kvstore=False, which updates on the workers."
)


ONE_OPTIMIZER = (
    "the servers of the kvstore have the optimizer of another DistributedTrainer of this process, and have one at a "
    "time: take update_on_kvstore=False for all the Trainers, or one Trainer for all the parameters"
)


class ServerKeys(KVStore):
    """A Trainer's keys in the distributed kvstore of this process: its key 0 is one that no Trainer had before.

    Keys and the optimizer belong to the servers. What a second Trainer sends under a key of the first is a gradient to
    them, and its optimizer takes the place of the first one's, for all keys. All the workers must come to their
    Trainers' first steps in the same order.

    Parameters
    ----------
    kvstore : mxnet.kvstore.KVStore or str
        Of a type with 'dist'. A str is the kvstore that this process has, or else a new one.
    count : int
        Number of keys.

    Raises
    ------
    RuntimeError
        If this process has a kvstore of another type; by all methods that take a key, while the servers have the
        optimizer of another Trainer.
    """

    _kvstore = None   # this process's: MXNet hangs where a second one is made, or one after another was freed
    _taken = 0        # number of keys
    _updated = None   # the ServerKeys of which the servers have the optimizer, or None

    def __init__(self, kvstore, count):
        if isinstance(kvstore, str):
            kvstore = self._of_type(kvstore)
        super().__init__(kvstore.handle)
        self.first = ServerKeys._taken
        ServerKeys._taken += count
        ServerKeys._kvstore = kvstore

    def __del__(self):
        """The handle is freed with the kvstore that it is from."""

    @staticmethod
    def _of_type(name):
        kvstore = ServerKeys._kvstore or create(name)
        if kvstore.type != name:
            raise RuntimeError(f"kvstore={name!r}: MXNet bears one distributed kvstore in a process, and another "
                               f"DistributedTrainer has {kvstore.type!r} here")
        return kvstore

    @staticmethod
    def leave():
        """Let go of the kvstore, which then says goodbye to the servers: at exit, while MXNet is still whole."""
        ServerKeys._kvstore = None

    def set_optimizer(self, optimizer):
        nd.waitall()   # or it might make the update of which the servers still await another worker's gradient
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


class DistributedTrainer(gluon.Trainer):
    """A ``gluon.Trainer`` for kvstore 'dist_sync' and 'dist_async' that notices at the start if training cannot work.

    Arguments and methods are those of ``gluon.Trainer``. In the first `step`, before any gradient is sent, it

    - waits until the initial weights are there: MXNet does not, and with ``update_on_kvstore=False`` the weights of a
      worker can then begin as another worker's gradients;
    - with updates on the servers, has each of them update, once, an array of two elements that no network knows. Where
      the optimizer raises an error on a server, MXNet keeps the weights as they are; where the server could not
      unpickle it, MXNet takes the sum of the gradients for the weights. Both are silent on the workers;
    - with updates on the servers, sends them each parameter's ``lr_mult`` and ``wd_mult`` as they are then. MXNet does
      not: frozen layers would train, and what `exempt_from_decay` leaves out would decay.

    Several in one process take turns as they like with ``update_on_kvstore=False``: each has keys of its own on the
    servers, and all share the process's kvstore. Servers that update do so for the latest alone.

    With other kvstores it is a ``gluon.Trainer``.

    Raises
    ------
    RuntimeError
        By the first `step` and all later ones, on each worker: a server does not apply the optimizer; says which of
        the two it does, and why that may be. A step size of 0 in the first update shows the second only. By any
        `step` while the servers have the optimizer of another one of this process. By `set_learning_rate`, once the
        servers have the optimizer.

    Example
    -------
    In a process that a launcher has started; else ``kvstore='dist_sync'`` waits for one:

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
        self._optimizer.set_lr_mult({first + i: parameter.lr_mult for i, parameter in enumerate(self._params)})
        self._optimizer.set_wd_mult({first + i: parameter.wd_mult for i, parameter in enumerate(self._params)})
        super()._init_kvstore()

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """As that of ``gluon.Trainer``, after the check."""
        if self._failure:
            raise RuntimeError(self._failure)
        super().step(batch_size, ignore_stale_grad)

    def set_learning_rate(self, lr: float) -> None:
        """As that of ``gluon.Trainer``, but RuntimeError once the servers have the optimizer: MXNet tells them nothing.
        """
        if self._kv_initialized and self._distributed and self._update_on_kvstore:
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
        probes = {key: nd.zeros((2,), self._contexts[0])
                  for key in range(len(self._params), len(self._params) + count_servers())}
        for key, probe in probes.items():
            self._kvstore.broadcast(key, probe, out=probe)
        # With dist_async each worker's gradient is an update, and a second one would count in the schedules.
        if self._kvstore.type != "dist_async" or self._kvstore.rank == 0:
            for key, probe in probes.items():
                # From 0, with gradients of both signs: bounds stop one of the elements at most.
                self._kvstore.pushpull(key, nd.array([1.0, -1.0], self._contexts[0]), out=probe)
            nd.waitall()
        self._kvstore._barrier()
        for key, probe in probes.items():
            self._kvstore.pull(key, out=probe)
            first, second = probe.asnumpy()
            if first > 0 > second:
                return ("a server of the kvstore takes the sum of the gradients for the weights, and does not apply "
                        f"the optimizer. {REASON}")
            if first == second == 0 and self._optimizer.learning_rate > 0:
                return f"a server of the kvstore does not move the weights: it does not apply the optimizer. {REASON}"
        return None


def count_servers() -> int:
    """The number of servers, which is that of the keys that a `DistributedTrainer` takes beyond its parameters'.

    MXNet puts a small array on the server (9973 * key) % servers: so many successive keys are one on each.
    """
    return int(os.environ["DMLC_NUM_SERVER"])
