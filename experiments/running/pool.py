"""Runs many trainings in parallel processes; a crash stops only its own.

The parent never loads MXNet. Each process loads it once, with the run's number of threads, and makes one run after the
other: loading takes a second or two, as long as many short runs. A process whose run has failed is replaced.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Iterator, Sequence

from experiments.running.attempt import EPOCH, FAILED, Message, Outcome, conclude, try_run
from experiments.running.progress import Progress
from experiments.vocabulary.config import Run, RunOptions


def train_in_pool(runs: Sequence[Run], options: RunOptions, jobs: int, progress: Progress) -> list[Outcome]:
    """Make the runs, at most ``jobs`` at once; returns how each ended, in the order in which they ended.

    UsageError from one run (missing data, for instance) ends them all, and so does KeyboardInterrupt. Started again,
    each goes on from its checkpoint.
    """
    os.environ["OMP_NUM_THREADS"] = str(options.threads)   # read by MXNet when a worker loads it
    waiting, outcomes = deque(runs), []
    active: dict[Any, _Worker] = {}   # by its connection
    idle: list[_Worker] = []
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                worker = idle.pop() if idle else _Worker(options)
                worker.begin(waiting.popleft())
                active[worker.connection] = worker
            for connection in wait(list(active)):
                worker = active[connection]
                kind, content = worker.receive()
                if kind == EPOCH:
                    progress.epoch(worker.run, content)
                    continue
                del active[connection]
                if kind == FAILED:
                    worker.end()
                else:
                    idle.append(worker)
                outcomes.append(conclude(worker.run, options, kind, content))
                progress.ended(*outcomes[-1])
    finally:
        for worker in (*active.values(), *idle):
            worker.process.terminate()   # all of them, before the first is waited for
        for worker in (*active.values(), *idle):
            worker.end()
    return outcomes


class _Worker:
    """The parent's end of a process that makes one run after the other."""

    def __init__(self, options: RunOptions):
        self.run: Run   # the latest
        spawn = multiprocessing.get_context("spawn")   # MXNet does not survive a fork
        self.connection, child = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(options, child))
        with _interrupts_blocked():
            self.process.start()
        child.close()   # so that the child's death ends the connection

    def begin(self, run: Run) -> None:
        """Let the process make this run, as its next."""
        self.run = run
        with contextlib.suppress(BrokenPipeError):   # it has died: `receive` says so
            self.connection.send(run)

    def receive(self) -> Message:
        """The worker's next message; FAILED if it died without one."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            how = f"was killed by signal {-code}" if code and code < 0 else f"exited with {code}"
            return FAILED, f"its process {how}"

    def end(self) -> None:
        """End the process, at once: after an error in MXNet its own exit may wait for ever."""
        self.process.terminate()
        self.process.join()
        self.connection.close()


def _work(options: RunOptions, connection: Connection) -> None:
    """The main function of a worker process."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):   # the parent wants no more runs, or has ended
        while True:
            run = connection.recv()
            connection.send(try_run(run, options, lambda epoch: connection.send((EPOCH, epoch))))


def _exit_with_parent() -> None:
    # A parent that was killed cannot end its workers, which would keep their runs locked.
    parent = multiprocessing.parent_process()
    if parent is not None:   # as in every process that multiprocessing starts
        parent.join()
    os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started here never sees Ctrl-C, which a terminal sends to all processes; the parent sees it later."""
    resource_tracker.ensure_running()   # else the first process starts it, and that would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
