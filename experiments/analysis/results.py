"""The records of many runs as tables of pandas, for figures and tables. Refuses what is missing unless told not to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import pandas as pd

from experiments.vocabulary.config import Experiment, Run
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.methods import HYPERPARAMETERS
from experiments.vocabulary.records import EPOCH_COLUMNS, RunRecord


def describe_n(n: int, seeds: int, diverged: int) -> str:
    """n, marked where runs are missing or left out: '8 of 10, 2 diverged'."""
    return (f"{n}" if n == seeds else f"{n} of {seeds}") + (f", {diverged} diverged" if diverged else "")


class Results(NamedTuple):
    """Runs of one experiment, up to the epoch where its configuration ends.

    ``runs``: one row per run with columns method, seed, status ('done', 'diverged' or 'short') and epochs (complete
    ones). ``epochs``: one row per run and epoch with columns method, seed and those of epochs.csv; a method's runs all
    have as many, so that means are of one epoch. They are its complete runs, or, where it has none, its short ones up
    to the last epoch that each of them has; without those that diverged, as means over the rest would hide that.
    """

    experiment: Experiment
    runs: pd.DataFrame
    epochs: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        return list(self.runs["method"].unique())

    @property
    def complete(self) -> pd.DataFrame:
        """``epochs`` of the runs that are done."""
        done = self.runs[self.runs["status"] == "done"][["method", "seed"]]
        return self.epochs.merge(done, on=["method", "seed"])

    def curve(self, method: str, column: str) -> pd.DataFrame:
        """By epoch, mean, std and n of a method's runs, and the band, low to high, of one std to either side.

        The band ends where the runs do: of skewed values, it would reach below losses of 0 and above accuracies of 1.
        """
        return _curve(self.epochs[self.epochs["method"] == method], column)

    def curve_over(self, other: str, method: str, column: str) -> pd.DataFrame:
        """As `curve`, of a method's values as shares of those that another method has with the same seed."""
        one, base = (self.epochs[self.epochs["method"] == name].set_index(["seed", "epoch"])[column]
                     for name in (method, other))
        return _curve((one / base).dropna().reset_index(), column)

    def count(self, method: str) -> dict[str, int]:
        """How many of a method's runs have each status."""
        statuses = self.runs[self.runs["method"] == method]["status"]
        return {status: int((statuses == status).sum()) for status in ("done", "diverged", "short")}

    def only(self, methods: Sequence[str]) -> Results:
        """The runs of these methods."""
        return self._replace(runs=self.runs[self.runs["method"].isin(methods)],
                             epochs=self.epochs[self.epochs["method"].isin(methods)])


def _curve(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    by_epoch = rows.groupby("epoch")[column]
    mean, std = by_epoch.mean(), by_epoch.std()
    width = std.fillna(0)   # no deviation of a single run
    return pd.DataFrame({"mean": mean, "std": std, "n": by_epoch.count(),
                         "low": (mean - width).clip(lower=by_epoch.min()),
                         "high": (mean + width).clip(upper=by_epoch.max())})


def recorded_methods(experiment: Experiment, results: Path, seeds: Sequence[int] | None, partial: bool,
                     is_grid: bool) -> list[str]:
    """The methods of an experiment's tables: those by default, and of those on request the ones that are recorded.

    They are where all their runs are complete, or, if ``partial``, one is; of the grid search, if ``is_grid``.
    """
    def is_recorded(method: str) -> bool:
        found, short = (read_grid if is_grid else read)(experiment, results, [method], seeds)
        return bool((found.runs["status"] != "short").any() and (partial or not short))

    return [m.name for m in experiment.methods.values() if m.by_default or is_recorded(m.name)]


def collect(experiment: Experiment, results: Path, methods: Sequence[str] | None, seeds: Sequence[int] | None,
            partial: bool) -> Results:
    """Read an experiment's records. RecordError if any run is missing or short, or, if ``partial``, if all are missing.
    """
    found, short = read(experiment, results, methods, seeds)
    if found.runs.empty or (short and not partial):
        raise RecordError(_what_is_missing(experiment, results, short, "run", experiment.epochs, partial))
    return found


def read(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
         seeds: Sequence[int] | None = None) -> tuple[Results, list[tuple[Run, int]]]:
    """What is recorded of an experiment, and the runs that are missing or short with their epochs.

    RecordError for records that are damaged, of other settings, or of runs that were made in different ways.
    """
    runs, epochs, short = [], [], []
    chosen = experiment.runs(methods, seeds)
    _check_alike(chosen, results)
    for run in chosen:
        status, rows = RunRecord(results / run.folder).read(experiment.epochs)
        if status == "short":
            short.append((run, len(rows)))
        if rows or status == "diverged":
            runs.append((run.method, run.seed, status, len(rows)))
            epochs += [{"method": run.method, "seed": run.seed, **row} for row in rows]
    found = pd.DataFrame(runs, columns=["method", "seed", "status", "epochs"])
    return Results(experiment, found, _shown(found, pd.DataFrame(epochs, columns=["method", "seed", *EPOCH_COLUMNS]))
                   ), short


def _shown(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Results.epochs`, of all that are recorded."""
    kept = [epochs[:0]]
    for method, of_method in runs.groupby("method", sort=False):
        done, short = (of_method[of_method["status"] == status] for status in ("done", "short"))
        shown = short if done.empty else done
        rows = epochs[(epochs["method"] == method) & epochs["seed"].isin(shown["seed"])]
        kept.append(rows[rows["epoch"] <= shown["epochs"].min()])
    return pd.concat(kept, ignore_index=True)


class Grid(NamedTuple):
    """The runs of a grid search, up to its last epoch.

    ``coordinates``: the names of HYPERPARAMETERS, and any others that its points have. ``runs``: one row per run with
    columns method, those of ``coordinates`` (NaN where a method lacks one), seed, status ('done' or 'diverged') and
    train_loss, that of the last epoch, infinite where the run diverged.
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
        raise RecordError(_what_is_missing(experiment, results, short, "grid", experiment.tuning.epochs, partial))
    return found


def collect_grids(experiments: Sequence[Experiment], results: Path,
                  methods: Callable[[Experiment], Sequence[str] | None], seeds: Sequence[int] | None,
                  partial: bool) -> list[Grid]:
    """As `collect_grid`, of several; if ``partial``, of those of which anything is recorded, unless that is none."""
    begun = [experiment for experiment in experiments
             if not partial or not read_grid(experiment, results, methods(experiment), seeds)[0].runs.empty]
    return [collect_grid(experiment, results, methods(experiment), seeds, partial)
            for experiment in begun or experiments]


def read_grid(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
              seeds: Sequence[int] | None = None) -> tuple[Grid, list[tuple[Run, int]]]:
    """What is recorded of a grid search, and the runs that are missing or short with their epochs."""
    runs, short = [], []
    chosen = experiment.grid(methods, seeds)
    _check_alike([run for run, _ in chosen], results)
    for run, point in chosen:
        status, rows = RunRecord(results / run.folder).read(experiment.tuning.epochs)
        if status == "short":
            short.append((run, len(rows)))
        else:
            loss = rows[-1]["train_loss"] if status == "done" else math.inf
            runs.append({"method": run.method, **point, "seed": run.seed, "status": status, "train_loss": loss})
    coordinates = list(dict.fromkeys([*HYPERPARAMETERS, *(name for _, point in chosen for name in point)]))
    return Grid(experiment, sorted({run.seed for run, _ in chosen}), coordinates,
                pd.DataFrame(runs, columns=["method", *coordinates, "seed", "status", "train_loss"])), short


def _check_alike(runs: Sequence[Run], results: Path) -> None:
    """RecordError if records are not of these runs, or if they were made with different kvstores or numbers of workers.

    These are other algorithms (dist_async), or other batches. Threads and devices change roundings alone.
    """
    first = None
    for run in runs:
        record = RunRecord(results / run.folder)
        made = record.made_with(run.settings, run.seed)
        if made is None:
            continue
        if first is not None and made != first[1]:
            raise RecordError(f"{first[0].folder} was made with {first[1]}, {record.folder} with {made}: keep them in "
                              "different --results")
        first = first or (record, made)


def _what_is_missing(experiment: Experiment, results: Path, short: Sequence[tuple[Run, int]], command: str,
                     epochs: int, partial: bool) -> str:
    run, recorded = short[0]
    return (f"{experiment.name}: {len(short)} runs in {results} are missing or short, the first {run.method} seed "
            f"{run.seed} with {recorded} of {epochs} epochs; make them by python -m experiments {command}"
            + ("" if partial else ", or show what is there by --partial"))
