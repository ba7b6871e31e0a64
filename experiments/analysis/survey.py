"""Reads from the records which runs are done, running, failed or missing, and how long the rest would take."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean
from typing import Any, Mapping, NamedTuple, Sequence

from experiments.vocabulary.config import Experiment, Run
from experiments.vocabulary.errors import RecordError, explain
from experiments.vocabulary.records import RunRecord

# 'unfinished': some epochs are recorded. The run goes on from there if it has its checkpoint, which git does not keep.
# 'missing': none is.
STATES = ("done", "diverged", "running", "failed", "unfinished", "missing")


class RunStatus(NamedTuple):
    """A run's state (one of STATES), why it failed, its complete epochs, and the seconds that each took.

    ``seconds`` is empty if the times of some epochs are unknown.
    """

    run: Run
    state: str
    reason: str | None
    epochs: int
    seconds: Sequence[float]


def survey(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
           seeds: Sequence[int] | None = None) -> dict[str, Any]:
    """The status of an experiment's runs, as a dict for JSON.

    ``methods``: by default, those that run by default and others that have records. ``seeds``: by default, the
    configuration's.

    ``seconds_per_run``: by method, the mean time of its complete runs; None without any. ``seconds_left``: the time
    for the rest in one process; None if no epoch is recorded to estimate it from. ``grid``: states and time left of the
    default methods' grid search, all methods counted together; None without a grid search, or if methods or seeds are
    chosen.
    """
    has_grid = experiment.tuning and methods is None and seeds is None
    if methods is None:
        methods = [m.name for m in experiment.methods.values()
                   if m.by_default or (results / experiment.name / m.name).exists()]
    statuses = [_inspect(run, RunRecord(results / run.folder), experiment.epochs)
                for run in experiment.runs(methods, seeds)]
    counts: dict[str, Counter[str]] = {method: Counter() for method in methods}
    for status in statuses:
        counts[status.run.method][status.state] += 1
    return {
        "experiment": experiment.name, "tuned": experiment.is_tuned, "epochs": experiment.epochs,
        "results": str(results),
        "methods": {method: {state: count[state] for state in STATES} for method, count in counts.items()},
        "seconds_per_run": {method: _seconds_per_run(statuses, method) for method in methods},
        "failed": _failed(statuses), "seconds_left": _seconds_left(statuses, experiment.epochs),
        "grid": _survey_grid(experiment, results) if has_grid else None,
    }


def _survey_grid(experiment: Experiment, results: Path) -> dict[str, Any]:
    epochs = experiment.search.epochs
    statuses = [_inspect(run, RunRecord(results / run.folder), epochs) for run in experiment.grid_runs()]
    count = Counter(s.state for s in statuses)
    return {"epochs": epochs, "runs": {state: count[state] for state in STATES},
            "failed": _failed(statuses), "seconds_left": _seconds_left(statuses, epochs)}


def counted(states: Mapping[str, int]) -> str:
    """How many runs have each state, for example '96 done, 20 missing'."""
    return ", ".join(f"{n} {state}" for state, n in states.items() if n)


def _failed(statuses: Sequence[RunStatus]) -> dict[str, str | None]:
    return {str(s.run.folder): s.reason for s in statuses if s.state == "failed"}


def _inspect(run: Run, record: RunRecord, epochs: int) -> RunStatus:
    try:
        record.made_with(run.settings, run.seed)
        state, rows = record.read(epochs)
        if state == "short":
            record.check_goes_on()
        seconds = _seconds(record, state, len(rows))
        is_running = state == "short" and record.is_running()
        reason = record.failure() if state == "short" else None
    except RecordError as error:
        return RunStatus(run, "failed", explain(error, record.folder), 0, [])
    if state == "short":
        state = "running" if is_running else "failed" if reason else "unfinished" if rows else "missing"
    return RunStatus(run, state, reason, len(rows), seconds)


def _seconds(record: RunRecord, state: str, epochs: int) -> list[float]:
    try:
        seconds = [row["training"] + row["evaluation"] for row in record.seconds.rows()]
    except RecordError:
        if state == "short":   # the run cannot go on
            raise
        return []
    return seconds[:epochs] if len(seconds) >= epochs else []


def _seconds_per_run(statuses: Sequence[RunStatus], method: str) -> float | None:
    complete = [sum(s.seconds) for s in statuses if s.run.method == method and s.state == "done" and s.seconds]
    return mean(complete) if complete else None


def _seconds_left(statuses: Sequence[RunStatus], epochs: int) -> float | None:
    """The time for the rest, by each method's mean epoch; by the mean over all methods if it has no epoch."""
    everything = [seconds for s in statuses for seconds in s.seconds]
    total = 0.0
    by_method = defaultdict(list)
    for status in statuses:
        by_method[status.run.method].append(status)
    for of_method in by_method.values():
        left = sum(max(0, epochs - s.epochs) for s in of_method if s.state not in ("done", "diverged"))
        recorded = [seconds for s in of_method for seconds in s.seconds] or everything
        if left and not recorded:
            return None
        total += left * mean(recorded) if left else 0.0
    return total
