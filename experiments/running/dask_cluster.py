"""Runs many trainings on a Dask cluster: its scheduler gives each to a worker, and to another if that is lost.

A worker makes one run at a time in its own process, which loads MXNet with the run's number of threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import sys
import threading
import uuid
from concurrent.futures import CancelledError
from typing import Sequence

from distributed import Client, as_completed, get_worker, rpc, wait
from distributed.scheduler import KilledWorker

from experiments.running.attempt import FAILED, UNUSABLE, Message, Outcome, conclude, try_run
from experiments.running.progress import Progress
from experiments.vocabulary.config import Run, RunOptions
from experiments.vocabulary.errors import UsageError, one_line

ANSWER_SECONDS = 10
_ONE_RUN_AT_A_TIME = threading.Lock()   # MXNet has one random state per process


def train_on_dask(runs: Sequence[Run], options: RunOptions, address: str, progress: Progress) -> list[Outcome]:
    """Make the runs on this scheduler's cluster; returns how each ended, in the order in which they ended.

    Workers must see the results and data folders under the same paths, and import the same experiments. UsageError if
    no scheduler answers, or a worker that is there cannot import them. UsageError from one run, or KeyboardInterrupt,
    cancels all runs that no worker has begun; workers complete the others. ConnectionError if the scheduler is lost.
    Without a worker it waits for one, and says so.
    """
    options = options._replace(results=options.results.absolute(), data=options.data and os.path.abspath(options.data),
                               tensorboard=options.tensorboard and os.path.abspath(options.tensorboard))
    _check_scheduler(address)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)   # a lost scheduler is reported below
    outcomes: list[Outcome] = []
    topic = f"namsg-epochs-{uuid.uuid4()}"   # unique, as others may use the cluster, too
    workers: set[str] = set()   # their addresses

    def follow_workers(event):
        if event[1]["action"] == "add-worker":
            workers.add(event[1]["worker"])
        elif event[1]["action"] == "remove-worker":
            workers.discard(event[1]["worker"])
            if not workers and len(outcomes) < len(runs):
                progress.line("no worker is left (the last one's output says why); the runs go on when one joins")

    with Client(address, timeout=ANSWER_SECONDS) as client:
        _check_workers(client, address)
        client.subscribe_topic("all", follow_workers)   # the scheduler's own topic
        workers.update(client.scheduler_info()["workers"])
        if runs and not workers:
            progress.line("no worker yet; the runs begin when one joins")
        by_folder = {str(run.folder): run for run in runs}
        client.subscribe_topic(topic, lambda event: progress.epoch(by_folder[event[1]["run"]], event[1]["epoch"]))
        futures = {client.submit(_train_on_worker, run, options, topic, pure=False): run for run in runs}
        try:
            for future in as_completed(futures):
                run = futures[future]
                outcomes.append(conclude(run, options, *_message(future)))
                progress.ended(*outcomes[-1])
        except CancelledError:
            raise ConnectionError(f"--scheduler {address}: the scheduler is lost; with another one, the same command "
                                  "makes the rest") from None
        finally:
            client.cancel(list(futures), force=True)
    return outcomes


def _check_scheduler(address: str) -> None:
    """UsageError unless a scheduler answers. A Client would wait forever for a server that accepts and says nothing."""
    async def identity() -> str:
        async with rpc(address, timeout=ANSWER_SECONDS) as other:
            return (await other.identity())["type"]
    try:
        answer = asyncio.run(asyncio.wait_for(identity(), ANSWER_SECONDS))
    except Exception as error:   # a server of another kind can cause any error
        raise UsageError(f"--scheduler {address}: no Dask scheduler answers there ({one_line(error)})") from error
    if answer != "Scheduler":
        raise UsageError(f"--scheduler {address}: a Dask {answer.lower()} answers there, not a scheduler")


def _check_workers(client: Client, address: str) -> None:
    """UsageError if a worker cannot import this module: its process would end with the first task, without a word.

    Workers that are busy, hang or end just now are not waited for: the scheduler sees to them.
    """
    imports = [client.submit(importlib.import_module, __name__, workers=[worker], pure=False)
               for worker in client.scheduler_info()["workers"]]
    with contextlib.suppress(asyncio.TimeoutError):
        wait(imports, timeout=ANSWER_SECONDS)
    for error in (future.exception() for future in imports if future.status == "error"):
        if isinstance(error, ImportError):
            raise UsageError(f"--scheduler {address}: a worker cannot import {__name__} ({error}); start the workers "
                             "in the checkout, with its environment") from error


def _message(future) -> Message:
    try:
        return future.result()
    except KilledWorker:
        return FAILED, "every worker that tried it was lost"


def _train_on_worker(run: Run, options: RunOptions, topic: str) -> Message:
    """On a Dask worker: make a run, or the rest of it, and log its epochs to the topic."""
    with _ONE_RUN_AT_A_TIME:
        if "mxnet" not in sys.modules:
            os.environ["OMP_NUM_THREADS"] = str(options.threads)
        elif os.environ.get("OMP_NUM_THREADS") != str(options.threads):
            return UNUSABLE, (f"--threads {options.threads}: a worker has loaded MXNet with "
                              f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}; restart the workers")
        worker = get_worker()
        return try_run(run, options, lambda epoch: worker.log_event(topic, {"run": str(run.folder), "epoch": epoch}))
