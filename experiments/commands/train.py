"""The commands that train, `run` and `grid`; and `data`, which downloads what they need."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import Iterator, Sequence

from experiments.commands.ending import exit_status, fail
from experiments.commands.inputs import load_experiment, print_paths
from experiments.running.attempt import BUSY, FAILED, Outcome
from experiments.running.pool import train_in_pool
from experiments.running.progress import Progress
from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment, Run, RunOptions
from experiments.vocabulary.errors import DamagedError, RecordError, UsageError, explain
from experiments.vocabulary.records import RunRecord


def run(options: argparse.Namespace) -> int:
    """Train the runs that are not complete yet."""
    if options.kvstore:
        return _take_part(options)
    experiment, runs = _experiment_and_runs(options)
    if options.update_on_servers:
        raise UsageError("--update-on-servers: only with --kvstore")
    return _train(experiment, runs, _run_options(options, experiment.epochs), options)


def grid(options: argparse.Namespace) -> int:
    """Train the runs that a grid search lacks, and write the hyper-parameters that it selects."""
    experiment = config.load(options.config)
    runs = [run for run in experiment.grid_runs(options.method, options.seeds)
            if all(run.point.get(name) == value for name, value in options.at)]
    if not runs:
        at = " ".join(f"{name}={value}" for name, value in options.at)
        raise UsageError(f"--at {at}: {experiment.name} has no such point" if at else
                         f"{experiment.name}: none of the methods has a grid")
    status = _train(experiment, runs, _run_options(options, experiment.search.epochs), options)
    if status or options.at or (options.epochs or experiment.search.epochs) < experiment.search.epochs:
        return status
    from experiments.analysis import results, selection  # here, as they load pandas

    found = results.collect_grid(experiment, Path(options.results), options.method, options.seeds, partial=False)
    print(selection.describe(found))
    if experiment.selects and options.method is None and options.seeds is None:
        print_paths([selection.write(found, Path(options.results))])
    elif experiment.selects:
        print("not written: --tuned takes what is selected among all methods by the configuration's seeds")
    return 0


def _take_part(options: argparse.Namespace) -> int:
    """Take this process's part in training on MXNet's kvstore; returns the exit status. Worker 0 leads the others."""
    if options.scheduler or options.jobs:
        raise UsageError("--kvstore: makes one run at a time on all its workers; not with --scheduler or --jobs")
    from experiments.running import kvstore_process

    kvstore_process.check_environment()
    on_servers = options.update_on_servers or options.kvstore == "dist_async"
    with kvstore_process.join(options.kvstore, on_servers, options.threads) as workers:
        if workers is None:
            return 0

        def take_part() -> int:
            experiment, runs = workers.agree(lambda: _experiment_and_runs(options))
            run_options = _run_options(options, experiment.epochs, workers)
            workers.begin({**(run_options.distributed or {}), **run_options._asdict(), "number of runs": len(runs),
                           **{f"run {i}": str(run.folder) for i, run in enumerate(runs, start=1)}})
            return _train(experiment, runs, run_options, options, workers) if workers.rank == 0 else workers.follow()

        status = exit_status(take_part)
        workers.leave(status)
        return status


def _experiment_and_runs(options: argparse.Namespace) -> tuple[Experiment, list[Run]]:
    """What the command line asks for: an experiment, and which of its runs."""
    experiment = load_experiment(options.config, options)
    return experiment, experiment.runs(options.method, options.seeds)


def _run_options(options: argparse.Namespace, epochs: int, workers=None) -> RunOptions:
    """How the command line asks for runs to be made; ``epochs`` is the default for --epochs."""
    distributed = workers and {"kvstore": options.kvstore, "workers": workers.count,
                               "updates_on": "servers" if workers.updates_on_servers else "workers"}
    return RunOptions(Path(options.results), options.epochs or epochs, options.data, options.device, options.threads,
                      options.tensorboard, distributed)


def _train(experiment: Experiment, chosen: Sequence[Run], run_options: RunOptions, options: argparse.Namespace,
           workers=None) -> int:
    """Train the chosen runs that are not complete; returns the exit status. ``workers``: of a kvstore, if any."""
    _check_engine(options, workers)
    recorded, unusable = _unfinished(chosen, run_options)
    todo = [one for one in chosen if one.folder in recorded]
    complete = len(chosen) - len(todo) - len(unusable)
    print(f"{experiment.title}: {len(chosen)} runs of {run_options.epochs} epochs, {complete} already complete")
    for outcome in unusable:
        print(f"{outcome.run.name}: failed: {outcome.reason}")
    sys.stdout.flush()
    with _resumable(), Progress(recorded, run_options.epochs) as progress:
        if workers:
            outcomes = workers.train(todo, run_options, progress)
        elif options.scheduler:
            from experiments.running.dask_cluster import train_on_dask

            outcomes = train_on_dask(todo, run_options, options.scheduler, progress)
        else:
            outcomes = train_in_pool(todo, run_options, options.jobs or _default_jobs(run_options), progress)
    print(f"records: {run_options.results / experiment.name}")
    return _training_status(chosen, [*unusable, *outcomes], run_options)


def _check_engine(options: argparse.Namespace, workers) -> None:
    """UsageError for options that do not go together, or a process of a launcher without --kvstore."""
    if options.scheduler and options.jobs:
        raise UsageError("--jobs: not with --scheduler, where each worker makes one run at a time")
    if not workers and "DMLC_ROLE" in os.environ:
        raise UsageError("--kvstore is missing: a launcher (DMLC_ROLE) has started this as one process of many; run "
                         "has that option, grid has none")


def _unfinished(chosen: Sequence[Run], run_options: RunOptions) -> tuple[dict[Path, int], list[Outcome]]:
    """By folder, the recorded epochs of the runs that are not complete; and those whose records cannot be used."""
    recorded, unusable = {}, []
    for one in chosen:
        record = RunRecord(run_options.results / one.folder)
        try:
            record.check(one.config_json(run_options))
            if not record.is_complete(run_options.epochs):
                recorded[one.folder] = len(record.epochs.rows())
        except RecordError as error:   # of this run alone
            unusable.append(Outcome(one, FAILED, explain(error, record.folder)))
            if isinstance(error, DamagedError):   # else the folder is another run's
                record.fail(unusable[-1].reason)
    return recorded, unusable


def _training_status(chosen: Sequence[Run], outcomes: Sequence[Outcome], run_options: RunOptions) -> int:
    """The exit status: 0; or 1, with a line on stderr, if runs failed or another process is making some."""
    failed = sum(outcome.status == FAILED for outcome in outcomes)
    if failed:
        return fail(1, f"{failed} of {len(chosen)} runs failed")
    left = 0
    for one in (outcome.run for outcome in outcomes if outcome.status == BUSY):
        record = RunRecord(run_options.results / one.folder)
        record.check(one.config_json(run_options))   # the other process may have other options
        left += not record.is_complete(run_options.epochs)
    return fail(1, f"{left} of {len(chosen)} runs are not complete: another process is making them") if left else 0


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command makes the rest") from None


def get_data(options: argparse.Namespace) -> int:
    """Download the files of the data sets that are missing, then read and check them all."""
    from experiments.training import data  # which imports NumPy

    folder = data.find_folder(options.data)
    for name in data.FILES:
        data.download_missing(name, folder / name)
        train, test = data.load({"name": name}, str(folder))
        print(f"{folder / name}: {len(train.labels)} training and {len(test.labels)} test images, the official ones")
    return 0


def _default_jobs(run_options: RunOptions) -> int:
    if run_options.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // run_options.threads)
