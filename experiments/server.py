"""A server of MXNet's kvstore that ends with its first error, where MXNet's own prints it and goes on."""

from __future__ import annotations

import functools
import os
import pickle
import sys
import traceback
from typing import Callable

from mxnet.kvstore.kvstore_server import KVStoreServer
from mxnet.optimizer import Optimizer, get_updater

from experiments.group import FIRST_MESSAGE, SET_OPTIMIZER


class Server(KVStoreServer):
    """``Server(kvstore).run()`` serves until the workers end; in the scheduler's process it does what that has to."""

    def _controller(self) -> Callable:
        def control(command: int, body: bytes, _) -> None:
            if command == SET_OPTIMIZER:
                self._set_optimizer(pickle.loads(body))
        return _or_exit(control)

    def _set_optimizer(self, optimizer: Optimizer | None) -> None:
        """Update weights by this from now on; None where there will be no weights before the next one."""
        update_weight = optimizer and get_updater(optimizer)

        def update(key: int, pushed, kept) -> None:
            if key < FIRST_MESSAGE:
                update_weight(key, pushed, kept)
            else:
                kept += pushed
        self.kvstore._set_updater(_or_exit(update))


def _or_exit(function: Callable) -> Callable:
    """The same function, but an error, which the C code that calls it would ignore, ends the process."""
    @functools.wraps(function)
    def call(*arguments):
        try:
            function(*arguments)
        except BaseException as error:
            traceback.print_exc()
            print(f"experiments: a server fails: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return call
