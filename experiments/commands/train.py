"""The commands that train: `run` and `grid`; and `data`, which they need."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Iterator, Sequence

from experiments.commands.ending import exit_status, fail
from experiments.commands.inputs import load_experiment, print_paths
from experiments.running.pool import train_in_pool
from experiments.running.progress import Progress
from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment, Options, Run
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.records import RunRecord


def run(options: argparse.Namespace) -> int:
    """Train what is not complete yet."""
    if options.kvstore:
        return _take_part(options)
    experiment, runs = _plan(options)
    if options.update_on_servers:
        raise UsageError("--update-on-servers: only with --kvstore")
    return _make(experiment, runs, _how(options, experiment.epochs), options)


def grid(options: argparse.Namespace) -> int:
    """Train what a grid search lacks, and write what it selects."""
    experiment = config.load(options.config)
    runs = [run for run, point in experiment.grid(options.method, options.seeds)
            if all(point.get(name) == value for name, value in options.at)]
    if not runs:
        raise UsageError(f"--at {' '.join(f'{n}={v:g}' for n, v in options.at)}: {experiment.name} has no such point")
    status = _make(experiment, runs, _how(options, experiment.tuning.epochs), options)
    if status or options.at or (options.epochs or experiment.tuning.epochs) < experiment.tuning.epochs:
        return status
    from experiments.analysis import results, selection  # here, as they load pandas

    found = results.collect_grid(experiment, Path(options.results), options.method, options.seeds, partial=False)
    print(selection.describe(found))
    if experiment.tuning.selects and options.method is None and options.seeds is None:
        print_paths([selection.write(found, Path(options.results))])
    return 0


def _take_part(options: argparse.Namespace) -> int:
    """This process's part in training by MXNet's kvstore: worker 0 leads, with all the others; the exit status."""
    if options.scheduler or options.jobs:
        raise UsageError("--kvstore: makes one run at a time on all its workers; not with --scheduler or --jobs")
    from experiments.running import kvstore_process

    kvstore_process.check_environment()
    on_servers = options.update_on_servers or options.kvstore == "dist_async"
    with kvstore_process.joined(options.kvstore, on_servers, options.threads) as workers:
        if workers is None:
            return 0

        def take_part() -> int:
            experiment, runs = workers.agree(lambda: _plan(options))
            how = _how(options, experiment.epochs, workers)
            workers.begin({**how.distributed, **how._asdict(), "number of runs": len(runs),
                         **{f"run {i}": str(run.folder) for i, run in enumerate(runs, start=1)}})
            return _make(experiment, runs, how, options, workers) if workers.rank == 0 else workers.follow()

        status = exit_status(take_part)
        workers.leave(status)
        return status


def _plan(options: argparse.Namespace) -> tuple[Experiment, list[Run]]:
    """The experiment and the runs that are asked for."""
    experiment = load_experiment(options.config, options)
    return experiment, experiment.runs(options.method, options.seeds)


def _how(options: argparse.Namespace, epochs: int, workers=None) -> Options:
    """How runs are made, by default so many epochs of them."""
    distributed = workers and {"kvstore": options.kvstore, "workers": workers.count,
                             "updates_on": "servers" if workers.updates_on_servers else "workers"}
    return Options(Path(options.results), options.epochs or epochs, options.data, options.device, options.threads,
                   options.tensorboard, distributed)


def _make(experiment: Experiment, chosen: Sequence[Run], how: Options, options: argparse.Namespace, workers=None
          ) -> int:
    """Train those of the runs that are not complete, by all the ``workers`` of a kvstore if any; the exit status."""
    if not workers and "DMLC_ROLE" in os.environ:
        raise UsageError("--kvstore is missing: a launcher (DMLC_ROLE) has started this as one process of many")
    recorded = {}
    for one in chosen:
        record = RunRecord(how.results / one.folder)
        record.check(one.as_config(how))
        if not record.is_complete(how.epochs):
            recorded[one.folder] = len(record.epochs.rows())
    todo = [one for one in chosen if one.folder in recorded]
    print(f"{experiment.title}: {len(chosen)} runs of {how.epochs} epochs, {len(chosen) - len(todo)} already complete",
          flush=True)
    with _resumable(), Progress(recorded, how.epochs) as progress:
        if workers:
            outcomes = workers.train(todo, how, progress)
        elif options.scheduler:
            from experiments.running.dask_cluster import train_on_dask

            outcomes = train_on_dask(todo, how, options.scheduler, progress)
        else:
            outcomes = train_in_pool(todo, how, options.jobs or _default_jobs(how), progress)
    print(f"records: {how.results / experiment.name}")
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if failed:
        return fail(1, f"{failed} of {len(chosen)} runs failed")
    busy = sum(outcome.status == "busy" and not RunRecord(how.results / outcome.run.folder).is_complete(how.epochs)
               for outcome in outcomes)
    return fail(1, f"{busy} of {len(chosen)} runs are not complete: another process is at them") if busy else 0


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from the last epoch of each run") from None


def get_data(options: argparse.Namespace) -> int:
    """Download what is missing of the data sets, and read all of it."""
    from experiments.training import data  # which imports NumPy

    folder = data.find_folder(options.data)
    for name in data.FILES:
        data.download_missing(name, folder / name)
        train, test = data.load({"name": name}, str(folder))
        print(f"{folder / name}: {len(train.labels)} training and {len(test.labels)} test images, the official ones")
    return 0


def _default_jobs(how: Options) -> int:
    if how.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // how.threads)
