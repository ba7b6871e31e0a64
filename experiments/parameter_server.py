"""A process's part in MXNet's distributed kvstore: to join it, and to end when another process is lost.

Loads MXNet only when it joins. ps-lite's heartbeats tell the scheduler of everybody, and everybody of the scheduler;
so the scheduler ends when it misses a worker or server, and the others when they miss the scheduler.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys
import threading
import time
from typing import Iterator

from experiments.errors import UsageError

VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
ROLES = ("scheduler", "server", "worker")
MANY = 10**6
# ps-lite's numbers of the processes: servers 8, 10, ..., workers 9, 11, ...
SCHEDULER, FIRST_SERVER, FIRST_WORKER, STRIDE = 1, 8, 9, 2
JOINING_SECONDS = 600   # until all processes are there; machines of a cluster come one by one
LOST_SECONDS = 3        # until a scheduler that listened, and does no more, counts as lost
SILENT_SECONDS = 30     # until a process counts as lost, unless the environment's NAMSG_SILENT_SECONDS says otherwise


def check_environment() -> None:
    """UsageError where the launcher's variables are not there or not right, or ours is not a number.

    In the scheduler also where its port is not free: ps-lite would abort.
    """
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise UsageError(f"--kvstore: {missing[0]} is not set; MXNet's launcher starts the processes and sets it: "
                         "see docs/scaling.md")
    if os.environ["DMLC_ROLE"] not in ROLES:
        raise UsageError(f"DMLC_ROLE={os.environ['DMLC_ROLE']!r}: must be one of {', '.join(ROLES)}")
    for name, most in (("DMLC_NUM_WORKER", MANY), ("DMLC_NUM_SERVER", MANY), ("DMLC_PS_ROOT_PORT", 65535)):
        if not _is_count(os.environ[name], most):
            raise UsageError(f"{name}={os.environ[name]!r}: must be a whole number from 1 to {most}")
    if not _is_count(_silent_seconds(), MANY):
        raise UsageError(f"NAMSG_SILENT_SECONDS={_silent_seconds()!r}: must be a whole number of seconds from 1 on")
    _check_address()


def _is_count(text: str, most: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most


def _address() -> tuple[str, int]:
    """The scheduler's."""
    return os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])


def _check_address() -> None:
    host, port = _address()
    if os.environ.get("DMLC_USE_KUBERNETES", "0") != "0":
        host = "0.0.0.0"   # which ps-lite takes there; the names of pods may come later than the pods
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
def joined(kvstore: str, updates_on_servers: bool, threads: int) -> Iterator:
    """The `experiments.group.Group` of a worker; None in the scheduler and in servers, after they have served.

    Loads MXNet with this number of threads. The process exits with status 1 and one line on stderr where others do not
    join, or are lost, which is noticed within twice the time after which a silent process counts as lost.
    """
    role = os.environ["DMLC_ROLE"]
    mx = _load_mxnet(threads)
    with _joining(role):
        store = mx.kv.create(kvstore if role == "worker" else "dist")
    with _watching(mx, store, role):
        if role == "worker":
            from experiments.group import Group

            yield Group(store, updates_on_servers)
        else:
            from experiments.server import Server

            signal.signal(signal.SIGINT, signal.SIG_DFL)   # Python would not see it before the end
            Server(store).run()
            yield None


def _load_mxnet(threads: int):
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["PS_HEARTBEAT_INTERVAL"] = "1"
    os.environ.pop("PS_HEARTBEAT_TIMEOUT", None)   # lets a new process take a lost one's place in the middle of a step
    role = os.environ.pop("DMLC_ROLE")   # in other roles than a worker's, MXNet would serve inside its import
    try:
        import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)
        import mxnet as mx
    finally:
        os.environ["DMLC_ROLE"] = role
    return mx


@contextlib.contextmanager
def _joining(role: str) -> Iterator[None]:
    """Inside, the process ends when others stay away for too long, or a scheduler that was there is gone."""
    joined = threading.Event()

    def watch():
        start, seen = time.monotonic(), None
        while not joined.wait(1):
            now = time.monotonic()
            if role != "scheduler":
                if not _is_refused():
                    seen = now
                elif seen is not None and now - seen > LOST_SECONDS:
                    _exit(f"{role}: the scheduler is gone; start all the processes again")
            if now - start > JOINING_SECONDS:
                _exit(f"a process is missing after {JOINING_SECONDS} s")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        joined.set()


def _is_refused() -> bool:
    """Whether nothing listens where the scheduler should; what only does not answer now refuses nothing."""
    try:
        with contextlib.suppress(socket.timeout, socket.gaierror), socket.create_connection(_address(), timeout=5):
            pass
    except OSError:
        return True
    return False


@contextlib.contextmanager
def _watching(mx, store, role: str) -> Iterator[None]:
    seconds = int(_silent_seconds())
    others = {SCHEDULER: "the scheduler"}
    if role == "scheduler":
        others = {first + STRIDE * rank: f"{name} {rank}"
                  for name, first, variable in (("server", FIRST_SERVER, "DMLC_NUM_SERVER"),
                                                ("worker", FIRST_WORKER, "DMLC_NUM_WORKER"))
                  for rank in range(int(os.environ[variable]))}
    ended = threading.Event()

    def watch():
        lost = ctypes.c_int()
        while not ended.wait(1):
            for number, name in others.items():
                mx.base.check_call(mx.base._LIB.MXKVStoreGetNumDeadNode(store.handle, number, ctypes.byref(lost),
                                                                        seconds))
                if lost.value:
                    _exit(f"{role}: nothing heard of {name} for {seconds} s; started again, the same command goes on "
                          "from the last checkpoint")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()   # before MXNet frees what the thread asks
        thread.join()


def _exit(message: str) -> None:
    """End the process at once: MXNet's own end waits for the processes that are lost."""
    sys.stdout.flush()
    print(f"experiments: {message}", file=sys.stderr, flush=True)
    os._exit(1)
