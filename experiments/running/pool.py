"""Many runs at a time, each in a process of its own, so that the end of one, however violent, is not that of others.

The parent never loads MXNet: each process loads it afresh, with its number of threads, which makes a run's numbers
independent of how many run beside it.
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
from typing import Iterator, Sequence

from experiments.running.attempt import EPOCH, FAILED, Message, Outcome, conclude, try_run
from experiments.running.progress import Progress
from experiments.vocabulary.config import Run, RunOptions


def train_in_pool(runs: Sequence[Run], options: RunOptions, jobs: int, progress: Progress) -> list[Outcome]:
    """Make the runs, at most ``jobs`` at once, and return how each ended, in the order in which they did.

    UsageError from any of them (data that are not there) ends them all, as does KeyboardInterrupt; each then goes on
    from its checkpoint when it is started again.
    """
    os.environ["OMP_NUM_THREADS"] = str(options.threads)   # read by MXNet when a worker loads it
    waiting, active, outcomes = deque(runs), {}, []
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                worker = _Worker(waiting.popleft(), options)
                active[worker.connection] = worker
            for connection in wait(list(active)):
                worker = active[connection]
                kind, content = worker.receive()
                if kind == EPOCH:
                    progress.epoch(worker.run, content)
                    continue
                del active[connection]
                worker.process.join()
                outcomes.append(conclude(worker.run, options, kind, content))
                progress.ended(*outcomes[-1])
    finally:
        for worker in active.values():
            worker.process.terminate()
        for worker in active.values():
            worker.process.join()
    return outcomes


class _Worker:
    """The parent's end of a process that makes one run."""

    def __init__(self, run: Run, options: RunOptions):
        self.run = run
        spawn = multiprocessing.get_context("spawn")   # MXNet does not survive a fork
        self.connection, child = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(run, options, child))
        with _interrupts_blocked():
            self.process.start()
        child.close()   # so that the child's death ends the connection

    def receive(self) -> Message:
        """The worker's next words; FAILED where it died without any."""
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            return FAILED, f"its process {f'was killed by signal {-code}' if code < 0 else f'exited with {code}'}"


def _work(run: Run, options: RunOptions, connection: Connection) -> None:
    """What a worker process does."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):   # the parent has ended, and nobody listens
        connection.send(try_run(run, options, lambda epoch: connection.send((EPOCH, epoch))))


def _exit_with_parent() -> None:
    # A parent that was killed cannot end its workers, and they would keep their runs locked.
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started here never sees Ctrl-C, which a terminal sends to all; the parent sees it afterwards."""
    resource_tracker.ensure_running()   # else the first process starts it, which takes the block off
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
