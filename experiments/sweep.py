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
import traceback
from collections import deque
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence, Tuple, Union

from experiments.config import Options, Run
from experiments.errors import RecordError, UsageError
from experiments.progress import Progress
from experiments.records import Busy, RunRecord
from experiments.tensorboard import Log

# What a worker says: ("epoch", number) after each, and one of the others at its end, with a text.
EPOCH, ENDED, BUSY, FAILED, UNUSABLE = "epoch", "ended", "busy", "failed", "unusable"
Words = Tuple[str, Union[int, str]]


class Outcome(NamedTuple):
    """How a run ended: status 'done', 'diverged', 'busy' or 'failed', and why in the latter case."""

    run: Run
    status: str
    reason: str = ""


def sweep(runs: Sequence[Run], options: Options, jobs: int, progress: Progress) -> list[Outcome]:
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
                outcomes.append(outcome(worker.run, options, kind, content))
                progress.ended(*outcomes[-1])
    finally:
        for worker in active.values():
            worker.process.terminate()
        for worker in active.values():
            worker.process.join()
    return outcomes


def attempt(run: Run, options: Options, report: Callable[[int], None], *workers) -> Words:
    """Make a run in this process, whose MXNet must have the run's number of threads; returns the last words.

    ``report`` gets the number of each epoch whose record is written; ``workers`` is as `experiments.training.train`
    takes it.
    """
    try:
        from experiments.training import train  # here, as it loads MXNet

        with Log(Path(options.tensorboard, run.folder)) if options.tensorboard else contextlib.nullcontext() as log:
            def recorded(row):
                if log is not None:
                    log.add(row)
                report(row["epoch"])

            train(run, options, recorded, *workers)
        return ENDED, ""
    except Busy:
        return BUSY, "another process is at it"
    except UsageError as error:
        return UNUSABLE, str(error)
    except RecordError as error:
        return FAILED, str(error)
    except OSError as error:   # a full disk, a folder that is read-only
        return FAILED, f"{error.filename or options.results / run.folder}: {error.strerror or error}"
    except Exception as error:
        traceback.print_exc()
        return FAILED, _reason(error)


def _reason(error: Exception) -> str:
    """An error in one line, with its type."""
    lines = str(error).strip().splitlines() or [""]
    line = lines[-1 if lines[0].startswith("Traceback") else 0]   # MXNet's are texts of a traceback
    name = type(error).__name__
    return line if line.startswith(f"{name}: ") else f"{name}: {line}"


def outcome(run: Run, options: Options, kind: str, text: str) -> Outcome:
    """What became of a run, from a worker's last words: notes a failure in its record; UNUSABLE raises UsageError."""
    record = RunRecord(options.results / run.folder)
    if kind == UNUSABLE:
        raise UsageError(text)
    if kind == ENDED or kind == FAILED and _is_complete(record, options.epochs):   # killed as it ended
        return Outcome(run, record.completion()["status"])
    if kind == FAILED:
        record.fail(text)
    return Outcome(run, kind, text)


def _is_complete(record: RunRecord, epochs: int) -> bool:
    try:
        return record.is_complete(epochs)
    except RecordError:   # it has failed for that
        return False


class _Worker:
    """The parent's end of a process that makes one run."""

    def __init__(self, run: Run, options: Options):
        self.run = run
        spawn = multiprocessing.get_context("spawn")   # MXNet does not survive a fork
        self.connection, child = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(run, options, child))
        with _interrupts_blocked():
            self.process.start()
        child.close()   # so that the child's death ends the connection

    def receive(self) -> Words:
        """The worker's next words; FAILED where it died without any."""
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            return FAILED, f"its process {f'was killed by signal {-code}' if code < 0 else f'exited with {code}'}"


def _work(run: Run, options: Options, connection: Connection) -> None:
    """What a worker process does."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):   # the parent has ended, and nobody listens
        connection.send(attempt(run, options, lambda epoch: connection.send((EPOCH, epoch))))


def _exit_with_parent() -> None:
    # A parent that was killed cannot end its workers, and they would keep their runs locked.
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started here never sees Ctrl-C, which a terminal sends to all; the parent sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
