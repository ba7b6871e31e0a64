"""Joins this process to MXNet's distributed kvstore, and ends it if another process of the kvstore is lost.

MXNet is loaded only on joining. By ps-lite's heartbeats the scheduler hears of all processes, and each of them of the
scheduler: the scheduler ends if a worker or server is lost, and the others then end because the scheduler is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import threading
import time
from typing import Any, Iterator

from experiments.running.kvstore_exit import exit_now
from experiments.vocabulary.counts import is_count
from experiments.vocabulary.errors import UsageError

VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
ROLES = ("scheduler", "server", "worker")
MANY = 10**6
# ps-lite's numbers for processes: the scheduler 1, servers 8, 10, ..., workers 9, 11, ...
SCHEDULER, FIRST_SERVER, FIRST_WORKER, STRIDE = 1, 8, 9, 2
JOINING_SECONDS = 600   # for all processes to join: a cluster's machines come one by one
LOST_SECONDS = 3        # until a scheduler that has stopped listening counts as lost
SILENT_SECONDS = 30     # until a silent process counts as lost; NAMSG_SILENT_SECONDS in the environment overrides it


def check_environment() -> None:
    """UsageError if the launcher's variables are missing or wrong, or NAMSG_SILENT_SECONDS is no number.

    In the scheduler also if its port is taken: ps-lite would abort.
    """
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise UsageError(f"--kvstore: {missing[0]} is not set; python -m experiments.launch starts the processes and "
                         "sets it: see docs/scaling.md")
    if os.environ["DMLC_ROLE"] not in ROLES:
        raise UsageError(f"DMLC_ROLE={os.environ['DMLC_ROLE']!r}: must be one of {', '.join(ROLES)}")
    for name, most in (("DMLC_NUM_WORKER", MANY), ("DMLC_NUM_SERVER", MANY), ("DMLC_PS_ROOT_PORT", 65535)):
        if not is_count(os.environ[name], most):
            raise UsageError(f"{name}={os.environ[name]!r}: must be a whole number from 1 to {most}")
    if not is_count(_silent_seconds(), MANY):
        raise UsageError(f"NAMSG_SILENT_SECONDS={_silent_seconds()!r}: must be a positive whole number of seconds")
    _check_address()


def _address() -> tuple[str, int]:
    """The scheduler's host and port."""
    return os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])


def _check_address() -> None:
    host, port = _address()
    if os.environ.get("DMLC_USE_KUBERNETES", "0") != "0":
        host = "0.0.0.0"   # ps-lite listens there on Kubernetes, where a pod may start before its name is known
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
        if os.environ["DMLC_ROLE"] == "scheduler":
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)   # as ps-lite does
                listener.bind(address)
                listener.listen()
    except (OSError, UnicodeError) as error:
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise UsageError(f"DMLC_PS_ROOT_PORT={port}: taken by another process" if is_taken else
                         f"DMLC_PS_ROOT_URI={host!r}: {getattr(error, 'strerror', None) or error}") from error


def _silent_seconds() -> str:
    return os.environ.get("NAMSG_SILENT_SECONDS", str(SILENT_SECONDS))


@contextlib.contextmanager
def join(kvstore: str, updates_on_servers: bool, threads: int) -> Iterator:
    """Load MXNet with this number of threads and join the kvstore.

    In a worker, yields its `KVStoreWorkers` at once. In the scheduler and in servers, serves until the training ends,
    then yields None. If another process is lost, this one exits with status 1 and one line on stderr, within twice the
    time after which a silent process counts as lost. If one does not join, it does so after `JOINING_SECONDS`.
    """
    role = os.environ["DMLC_ROLE"]
    mx = _load_mxnet(threads)
    from experiments.running.kvstore_server import Server
    from experiments.running.kvstore_workers import KVStoreWorkers

    with _Watch(mx, role) as watch:
        store = watch.store = mx.kv.create(kvstore if role == "worker" else "dist")
        if role == "worker":
            watch.has_joined()
            yield KVStoreWorkers(store, updates_on_servers)
        else:
            signal.signal(signal.SIGINT, signal.SIG_DFL)   # Python's handler would run only after serving
            Server(store, watch.has_joined).run()
            yield None


def _load_mxnet(threads: int):
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["PS_HEARTBEAT_INTERVAL"] = "1"
    os.environ.pop("PS_HEARTBEAT_TIMEOUT", None)   # with it, a new process takes a lost one's place in mid-step
    role = os.environ.pop("DMLC_ROLE")   # as server or scheduler, MXNet would serve while it is imported
    try:
        import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)
        import mxnet as mx
    finally:
        os.environ["DMLC_ROLE"] = role
    return mx


class _Watch:
    """Inside ``with``, a thread that ends the process if others do not join, or are lost.

    ``store``: the process's kvstore. Until `has_joined` is called, only the scheduler's port is watched: ps-lite
    has no heartbeats before it starts, and in servers and the scheduler it starts inside a call that does not return.
    """

    def __init__(self, mx, role: str):
        self.store: Any = None
        self._mx, self._role, self._seconds = mx, role, int(_silent_seconds())
        self._joined, self._ended = threading.Event(), threading.Event()
        self._start = time.monotonic()
        self._seen: float | None = None   # when the scheduler last listened
        self._others = {SCHEDULER: "the scheduler"}
        if role == "scheduler":
            self._others = {first + STRIDE * rank: f"{name} {rank}"
                            for name, first, variable in (("server", FIRST_SERVER, "DMLC_NUM_SERVER"),
                                                          ("worker", FIRST_WORKER, "DMLC_NUM_WORKER"))
                            for rank in range(int(os.environ[variable]))}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()   # before MXNet frees the kvstore, which the thread uses
        self._thread.join()

    def has_joined(self) -> None:
        """Watch heartbeats from now on: all processes have joined."""
        self._joined.set()

    def _run(self) -> None:
        while not self._ended.wait(1):
            if self._joined.is_set():
                self._check_heartbeats()
            else:
                self._check_scheduler()

    def _check_scheduler(self) -> None:
        now, listens = time.monotonic(), _scheduler_listens()
        if self._role == "scheduler":
            if listens:   # ps-lite has started; it reports no process as lost before all have joined
                self.has_joined()
        elif listens is not False:
            self._seen = now
        elif self._seen is not None and now - self._seen > LOST_SECONDS:
            exit_now(1, f"{self._role}: the scheduler is gone; start all the processes again")
        if now - self._start > JOINING_SECONDS:
            exit_now(1, f"a process is missing after {JOINING_SECONDS} s")

    def _check_heartbeats(self) -> None:
        lost = ctypes.c_int()
        for number, name in self._others.items():
            self._mx.base.check_call(self._mx.base._LIB.MXKVStoreGetNumDeadNode(
                self.store.handle, number, ctypes.byref(lost), self._seconds))
            if lost.value:
                exit_now(1, f"{self._role}: nothing heard of {name} for {self._seconds} s; started again, the same "
                            "command makes the rest")


def _scheduler_listens() -> bool | None:
    """Whether the scheduler's port is open; None if unknown, as it does not answer or its name is not known yet."""
    try:
        with socket.create_connection(_address(), timeout=5):
            return True
    except (socket.timeout, socket.gaierror):
        return None
    except OSError:
        return False
