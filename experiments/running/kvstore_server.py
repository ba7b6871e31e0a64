"""A server of MXNet's kvstore that ends with its first error; MXNet's own server prints an error and goes on."""

from __future__ import annotations

import contextlib
import functools
import pickle
import traceback
from typing import Any, Callable

from mxnet.kvstore import KVStore
from mxnet.kvstore.kvstore_server import KVStoreServer
from mxnet.optimizer import Optimizer, get_updater

from experiments.running.kvstore_exit import exit_now
from experiments.running.kvstore_workers import BEGIN, FIRST_MESSAGE, TO_SERVERS


class Server(KVStoreServer):
    """``Server(kvstore, has_joined).run()`` serves until the workers end; the scheduler's process runs it, too.

    In servers, ``has_joined`` is called when the workers have joined; in the scheduler never.
    """

    def __init__(self, kvstore: KVStore, has_joined: Callable[[], None]):
        super().__init__(kvstore)
        self._has_joined = has_joined

    def _controller(self) -> Callable:
        def control(command: int, body: bytes, _) -> None:
            if command == TO_SERVERS:
                content = pickle.loads(body)
                if content == BEGIN:
                    self._has_joined()
                else:
                    self._set_optimizer(content)
        return _or_exit(control)

    def _set_optimizer(self, optimizer: Optimizer | None) -> None:
        """Update weights by this optimizer from now on; None: there are no weights yet, only messages to add up."""
        update_weight: Any = optimizer and get_updater(optimizer)

        def update(key: int, pushed, kept) -> None:
            if key < FIRST_MESSAGE:
                update_weight(key, pushed, kept)
            else:
                kept += pushed
        self.kvstore._set_updater(_or_exit(update))


def _or_exit(function: Callable) -> Callable:
    """The same function, but an error ends the process: the C code that calls it would ignore the error."""
    @functools.wraps(function)
    def call(*arguments):
        try:
            function(*arguments)
        except BaseException as error:
            with contextlib.suppress(OSError, ValueError):
                traceback.print_exc()
            exit_now(1, f"a server fails: {type(error).__name__}: {error}")
    return call
