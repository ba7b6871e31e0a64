"""The records of many runs as tables of pandas, for figures and tables. Refuses what is missing unless told not to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence

import pandas as pd

from experiments.config import Experiment, Run
from experiments.errors import RecordError
from experiments.records import EPOCH_COLUMNS, RunRecord

LABELS = {"sgd": "SGD", "sgd_mxnet": "SGD (α as MXNet's)", "adam": "ADAM", "nadam": "NADAM",
          "nadam_mxnet": "NADAM (MXNet)", "amsgrad": "AMSGRAD", "namsg": "NAMSG", "namsg_2019": "NAMSG (Sept 2019)",
          "namsg1": "NAMSG1", "swnts": "SWNTS", "swnts1": "SWNTS1", "namsb1": "NAMSB1", "namsb2": "NAMSB2",
          "amsb1": "AMSB1", "amsb2": "AMSB2"}


class Results(NamedTuple):
    """Runs of one experiment, up to the epoch where its configuration ends.

    ``runs``: one row per run with columns method, seed, status ('done', 'diverged' or 'short') and epochs (complete
    ones). ``epochs``: one row per run and epoch with columns method, seed and those of epochs.csv, without the runs
    that diverged, as a mean over the rest of their epochs would hide that.
    """

    experiment: Experiment
    runs: pd.DataFrame
    epochs: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        return list(self.runs["method"].unique())

    def only(self, methods: Sequence[str]) -> Results:
        """The runs of these methods."""
        return self._replace(runs=self.runs[self.runs["method"].isin(methods)],
                             epochs=self.epochs[self.epochs["method"].isin(methods)])


def collect(experiment: Experiment, results: Path, methods: Sequence[str] | None, seeds: Sequence[int] | None,
            partial: bool) -> Results:
    """Read an experiment's records. RecordError if any run is missing or short, or, if ``partial``, if all are missing.
    """
    found, short = read(experiment, results, methods, seeds)
    if found.runs.empty or (short and not partial):
        raise RecordError(_what_is_missing(experiment, results, short, "run", experiment.epochs))
    return found


def read(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
         seeds: Sequence[int] | None = None) -> tuple[Results, list[tuple[Run, int]]]:
    """What is recorded of an experiment, and the runs that are missing or short with their epochs."""
    runs, epochs, short = [], [], []
    for run in experiment.runs(methods, seeds):
        status, rows = read_run(RunRecord(results / run.folder), experiment.epochs)
        if status == "short":
            short.append((run, len(rows)))
        if rows or status == "diverged":
            runs.append((run.method, run.seed, status, len(rows)))
        if status != "diverged":
            epochs += [{"method": run.method, "seed": run.seed, **row} for row in rows]
    return Results(experiment, pd.DataFrame(runs, columns=["method", "seed", "status", "epochs"]),
                   pd.DataFrame(epochs, columns=["method", "seed", *EPOCH_COLUMNS])), short


class Grid(NamedTuple):
    """The runs of a grid search, up to its last epoch.

    ``runs``: one row per run with columns method, those of ``coordinates`` (NaN where a method lacks one), seed, status
    ('done' or 'diverged') and train_loss, that of the last epoch.
    """

    experiment: Experiment
    seeds: Sequence[int]
    coordinates: Sequence[str]
    runs: pd.DataFrame

    def only(self, methods: Sequence[str]) -> Grid:
        """The runs of these methods."""
        return self._replace(runs=self.runs[self.runs["method"].isin(methods)])


def collect_grid(experiment: Experiment, results: Path, methods: Sequence[str] | None, seeds: Sequence[int] | None,
                 partial: bool) -> Grid:
    """Read the records of a grid search. RecordError if any run is missing or short, or, if ``partial``, if all are."""
    found, short = read_grid(experiment, results, methods, seeds)
    if found.runs.empty or (short and not partial):
        raise RecordError(_what_is_missing(experiment, results, short, "grid", experiment.tuning.epochs))
    return found


def read_grid(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
              seeds: Sequence[int] | None = None) -> tuple[Grid, list[tuple[Run, int]]]:
    """What is recorded of a grid search, and the runs that are missing or short with their epochs."""
    runs, short = [], []
    chosen = experiment.grid(methods, seeds)
    for run, point in chosen:
        status, rows = read_run(RunRecord(results / run.folder), experiment.tuning.epochs)
        if status == "short":
            short.append((run, len(rows)))
        else:
            loss = rows[-1]["train_loss"] if status == "done" else float("nan")
            runs.append({"method": run.method, **point, "seed": run.seed, "status": status, "train_loss": loss})
    coordinates = list(dict.fromkeys(name for _, point in chosen for name in point))
    return Grid(experiment, sorted({run.seed for run, _ in chosen}), coordinates,
                pd.DataFrame(runs, columns=["method", *coordinates, "seed", "status", "train_loss"])), short


def read_run(record: RunRecord, epochs: int) -> tuple[str, list[dict]]:
    """A run's status, 'done', 'diverged' or 'short' of this many epochs, and its rows up to there."""
    done, rows = record.completion(), record.epochs.rows()
    if done and len(rows) < done["epochs"]:
        raise RecordError(f"{record.epochs.path}: has {len(rows)} epochs where {done['epochs']} were complete")
    if done and done["status"] == "diverged" and done["epochs"] < epochs:
        return "diverged", rows[:done["epochs"]]
    return ("done" if done and done["epochs"] >= epochs else "short"), rows[:epochs]


def _what_is_missing(experiment: Experiment, results: Path, short: Sequence[tuple[Run, int]], command: str,
                     epochs: int) -> str:
    run, recorded = short[0]
    return (f"{experiment.name}: {len(short)} runs in {results} are missing or short, the first {run.method} seed "
            f"{run.seed} with {recorded} of {epochs} epochs; make them by python -m experiments {command}, "
            "or show what is there by --partial")
