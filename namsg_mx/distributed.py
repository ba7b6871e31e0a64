"""Training with MXNet's distributed kvstore, without its silent failures.

Not imported by the package itself: a server imports that while it is still inside ``import mxnet``, without its gluon.
"""

from mxnet import gluon, nd

REASON = (
    "An error inside a server, while it unpickles the optimizer or in an update, is printed in that server's output "
    "alone, and training would go on. Look there. Often the optimizer's module is not installed on the server, or it "
    "uses mx.nd while the server is still inside 'import mxnet' and has none: import from mxnet.optimizer and "
    "mxnet.ndarray instead. Or take update_on_kvstore=False, which updates on the workers."
)


class DistributedTrainer(gluon.Trainer):
    """A ``gluon.Trainer`` for kvstore 'dist_sync' and 'dist_async' that notices at the start if training cannot work.

    Arguments and methods are those of ``gluon.Trainer``. In the first `step`, before any gradient is sent, it

    - waits until the initial weights are there: MXNet does not, and with ``update_on_kvstore=False`` the weights of a
      worker can then begin as another worker's gradients;
    - with updates on the servers, has them update an array of two elements that no network knows. Where the optimizer
      raises an error on a server, MXNet keeps the weights as they are; where the server could not unpickle it, MXNet
      takes the sum of the gradients for the weights. Both are silent on the workers;
    - with updates on the servers, sends them each parameter's ``lr_mult`` and ``wd_mult`` as they are then. MXNet does
      not: frozen layers would train, and what `exempt_from_decay` leaves out would decay.

    With other kvstores it is a ``gluon.Trainer``.

    Raises
    ------
    RuntimeError
        By the first `step` and all later ones, on each worker: the servers do not apply the optimizer; says which of
        the two they do, and why that may be. A step size of 0 in the first update shows the second only.

    Example
    -------
    >>> from namsg_mx.distributed import DistributedTrainer
    >>> trainer = DistributedTrainer(net.collect_params(), 'namsg', kvstore='dist_sync', update_on_kvstore=True)
    """

    _is_checked = False
    _failure = None   # what the check has found

    def _init_kvstore(self):
        self._optimizer.set_lr_mult({i: parameter.lr_mult for i, parameter in enumerate(self._params)})
        self._optimizer.set_wd_mult({i: parameter.wd_mult for i, parameter in enumerate(self._params)})
        super()._init_kvstore()

    def step(self, batch_size, ignore_stale_grad=False):
        """As that of ``gluon.Trainer``, after the check."""
        if self._failure:
            raise RuntimeError(self._failure)
        super().step(batch_size, ignore_stale_grad)

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
        # From 0, with gradients of both signs: bounds stop one of the elements at most.
        key, probe = len(self._params), nd.zeros((2,), self._contexts[0])
        self._kvstore.broadcast(key, probe, out=probe)
        self._kvstore.pushpull(key, nd.array([1.0, -1.0], self._contexts[0]), out=probe)
        first, second = probe.asnumpy()
        if first > 0 > second:
            return ("the servers of the kvstore take the sum of the gradients for the weights, and do not apply the "
                    f"optimizer. {REASON}")
        if first == second == 0 and self._optimizer.learning_rate > 0:
            return ("the servers of the kvstore do not move the weights: they do not apply the optimizer. "
                    f"{REASON}")
        return None
