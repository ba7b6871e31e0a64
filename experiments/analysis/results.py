"""Reads the records of many runs as pandas tables; missing runs are an error, unless ``partial`` allows them."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import pandas as pd

from experiments.vocabulary.config import Experiment, Run
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.folders import RESULTS
from experiments.vocabulary.methods import HYPERPARAMETERS
from experiments.vocabulary.records import RunRecord
from experiments.vocabulary.seeds import seed_range

COMMON = ("layers", "pixels", "train_images", "test_images")   # choices that all runs of an experiment share
COMMON_BY_SEED = ("initial_weights",)   # those that its runs with one seed share


def describe_n(n: int, seeds: int, diverged: int) -> str:
    """n as text: '10', or '8 of 10, 2 diverged' if runs are missing or diverged."""
    return (f"{n}" if n == seeds else f"{n} of {seeds}") + (f", {diverged} diverged" if diverged else "")


class Results(NamedTuple):
    """Runs of one experiment, up to the last epoch of its configuration.

    ``seeds``: the configuration's, and others that were asked for; n is counted among them.
    ``runs``: one row per run with columns method, seed, status ('done', 'diverged' or 'short') and epochs (how many are
    complete). ``epochs``: one row per run and epoch with the columns method, seed, and those in epochs.csv.

    ``epochs`` has a method's complete runs, or, if none is complete, its short runs up to the last epoch that all of
    them have. So each mean over a method's runs is of one epoch. Runs that diverged are left out: means over their
    first epochs would hide that they diverged.
    """

    experiment: Experiment
    seeds: Sequence[int]
    runs: pd.DataFrame
    epochs: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        return list(self.runs["method"].unique())

    @property
    def complete(self) -> pd.DataFrame:
        """The rows of ``epochs`` whose runs are done."""
        done = self.runs[self.runs["status"] == "done"][["method", "seed"]]
        return self.epochs.merge(done, on=["method", "seed"])

    def curve(self, method: str, column: str) -> pd.DataFrame:
        """By epoch, mean, std and n of a method's runs, and a band (low, high) of one std to either side of the mean.

        The band is clipped to the runs' range; else skewed values would take it below losses of 0 and above
        accuracies of 1.
        """
        return _curve(self.epochs[self.epochs["method"] == method], column)

    def loss_ratio(self, method: str, other: str) -> pd.DataFrame:
        """As `curve`, for a method's train loss over another method's with the same seed, where neither is 0."""
        one, base = (self.epochs[self.epochs["method"] == name].set_index(["seed", "epoch"])["train_loss"]
                     for name in (method, other))
        return _curve((one[one > 0] / base[base > 0]).dropna().reset_index(), "train_loss")

    def count_runs(self, method: str) -> dict[str, int]:
        """By status, the number of a method's runs."""
        statuses = self.runs[self.runs["method"] == method]["status"]
        return {status: int((statuses == status).sum()) for status in ("done", "diverged", "short")}

    def describe_n(self, method: str) -> str:
        """How many runs a method's curve is of, as text."""
        shown = self.epochs[self.epochs["method"] == method]["seed"].nunique()
        return describe_n(shown, len(self.seeds), self.count_runs(method)["diverged"])

    def only(self, methods: Sequence[str]) -> Results:
        """Only the runs of these methods."""
        return self._replace(runs=self.runs[self.runs["method"].isin(methods)],
                             epochs=self.epochs[self.epochs["method"].isin(methods)])


def _curve(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    by_epoch = rows.groupby("epoch")[column]
    mean, std = by_epoch.mean(), by_epoch.std()
    width = std.fillna(0)   # a single run has no deviation
    return pd.DataFrame({"mean": mean, "std": std, "n": by_epoch.count(),
                         "low": (mean - width).clip(lower=by_epoch.min()),
                         "high": (mean + width).clip(upper=by_epoch.max())})


def recorded_methods(experiment: Experiment, results: Path, seeds: Sequence[int] | None, partial: bool,
                     is_grid: bool) -> list[str]:
    """The methods of an experiment's tables: the default ones, and others that are recorded.

    A method is recorded if all its runs are complete, or with ``partial`` at least one. ``is_grid``: its runs in the
    grid search.
    """
    def is_recorded(method: str) -> bool:
        found, short = (read_grid if is_grid else read)(experiment, results, [method], seeds)
        return bool((found.runs["status"] != "short").any() and (partial or not short))

    return [m.name for m in experiment.methods.values() if (m.grid or not is_grid)
            and (m.by_default or is_recorded(m.name))]


def collect(experiment: Experiment, results: Path, methods: Sequence[str] | None, seeds: Sequence[int] | None,
            partial: bool) -> Results:
    """Read an experiment's records. RecordError if a run is missing or short; with ``partial``, if all are missing."""
    found, short = read(experiment, results, methods, seeds)
    if found.runs.empty or (short and not partial):
        raise RecordError(_what_is_missing(experiment, results, short, "run", seeds, partial or found.runs.empty))
    return found


def read(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
         seeds: Sequence[int] | None = None) -> tuple[Results, list[tuple[Run, int]]]:
    """What is recorded of an experiment, and the runs that are missing or short, with the epochs that they have.

    RecordError for records that are damaged, of other settings, or made on different kvstores.
    """
    runs, epochs, short = [], [], []
    chosen = experiment.runs(methods, seeds)
    for run in chosen:
        status, rows = RunRecord(results / run.folder).read(experiment.epochs)
        if status == "short":
            short.append((run, len(rows)))
        if rows or status == "diverged":
            runs.append((run.method, run.seed, status, len(rows)))
            epochs += [{"method": run.method, "seed": run.seed, **row} for row in rows]
    _check_alike(chosen, results)
    found = _in_order(experiment, pd.DataFrame(runs, columns=["method", "seed", "status", "epochs"]))
    shown = _shown(found, pd.DataFrame(epochs, columns=["method", "seed", *EPOCH_COLUMNS]))
    return Results(experiment, sorted({*experiment.seeds, *(run.seed for run in chosen)}), found, shown), short


def _shown(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Results.epochs`, chosen from all recorded rows."""
    kept = [epochs[:0]]
    for method, of_method in runs.groupby("method", sort=False):
        done, short = (of_method[of_method["status"] == status] for status in ("done", "short"))
        shown = short if done.empty else done
        rows = epochs[(epochs["method"] == method) & epochs["seed"].isin(shown["seed"])]
        kept.append(rows[rows["epoch"] <= shown["epochs"].min()])
    return pd.concat(kept, ignore_index=True)


class Grid(NamedTuple):
    """The runs of a grid search, up to its last epoch.

    ``coordinates``: the names of HYPERPARAMETERS, then any others that the grids have. ``runs``: one row per run with
    columns method, one column per coordinate (NaN if the method lacks it), seed, status ('done' or 'diverged') and
    train_loss (of the last epoch; infinite if the run diverged).
    """

    experiment: Experiment
    seeds: Sequence[int]
    coordinates: Sequence[str]
    runs: pd.DataFrame

    def only(self, methods: Sequence[str]) -> Grid:
        """Only the runs of these methods."""
        return self._replace(runs=self.runs[self.runs["method"].isin(methods)])


def collect_grid(experiment: Experiment, results: Path, methods: Sequence[str] | None, seeds: Sequence[int] | None,
                 partial: bool) -> Grid:
    """Read a grid search's records. RecordError if any run is missing or short; with ``partial``, if all are.

    UsageError if none of the methods has a grid.
    """
    found, short = read_grid(experiment, results, methods, seeds)
    if found.runs.empty and not short:
        raise UsageError(f"{experiment.name}: none of the methods has a grid")
    if found.runs.empty or (short and not partial):
        raise RecordError(_what_is_missing(experiment, results, short, "grid", seeds, partial or found.runs.empty))
    return found


def collect_grids(experiments: Sequence[Experiment], results: Path,
                  methods: Callable[[Experiment], Sequence[str] | None], seeds: Sequence[int] | None,
                  partial: bool) -> list[Grid]:
    """As `collect_grid`, for several grid searches; with ``partial``, only for those with records, if any have."""
    begun = [experiment for experiment in experiments
             if not partial or not read_grid(experiment, results, methods(experiment), seeds)[0].runs.empty]
    return [collect_grid(experiment, results, methods(experiment), seeds, partial)
            for experiment in begun or experiments]


def read_grid(experiment: Experiment, results: Path, methods: Sequence[str] | None = None,
              seeds: Sequence[int] | None = None) -> tuple[Grid, list[tuple[Run, int]]]:
    """What is recorded of a grid search, and the runs that are missing or short, with the epochs that they have."""
    runs, short = [], []
    chosen = experiment.grid_runs(methods, seeds)
    for run in chosen:
        status, rows = RunRecord(results / run.folder).read(experiment.search.epochs)
        if status == "short":
            short.append((run, len(rows)))
        else:
            loss = rows[-1]["train_loss"] if status == "done" else math.inf
            runs.append({"method": run.method, **run.point, "seed": run.seed, "status": status, "train_loss": loss})
    _check_alike(chosen, results)
    coordinates = list(dict.fromkeys([*HYPERPARAMETERS, *(name for run in chosen for name in run.point)]))
    found = pd.DataFrame(runs, columns=["method", *coordinates, "seed", "status", "train_loss"])
    return Grid(experiment, sorted({run.seed for run in chosen}), coordinates, _in_order(experiment, found)), short


def _in_order(experiment: Experiment, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs method by method, as the configuration has them; else the first to be recorded were first in tables."""
    places = {method: place for place, method in enumerate(experiment.methods)}
    return runs.sort_values("method", key=lambda methods: methods.map(places), kind="stable", ignore_index=True)


def _check_alike(runs: Sequence[Run], results: Path) -> None:
    """RecordError if records are not of these runs, or not to be compared.

    They may not be made with different kvstores or numbers of workers, which change the algorithm (dist_async) or the
    batches, while threads and devices only change roundings. They must have the same network and images, and begin with
    the same weights if they have the same seed; older records do not say which these were.
    """
    folders: dict[str, Path] = {}   # by kvstore and workers, the first record made with them
    first: dict[tuple[str, int | None], tuple[Path, Any]] = {}   # by choice, and seed if it is of one
    for run in runs:
        record = RunRecord(results / run.folder)
        recorded = record.made_with(run.settings, run.seed)
        if recorded is None:
            continue
        made, choices = recorded
        folders.setdefault(made, record.folder)
        if len(folders) > 1:
            (one, folder), (two, another) = folders.items()
            raise RecordError(f"{folder} was made with {one}, {another} with {two}: keep them in different --results")
        for key in filter(choices.__contains__, (*COMMON, *COMMON_BY_SEED)):
            place = key, run.seed if key in COMMON_BY_SEED else None
            other, others = first.setdefault(place, (record.folder, choices[key]))
            if choices[key] != others:
                raise RecordError(f"{record.folder} was made with other {key} than {other} (config.json): keep them in "
                                  "different --results")


def _what_is_missing(experiment: Experiment, results: Path, short: Sequence[tuple[Run, int]], command: str,
                     seeds: Sequence[int] | None, partial: bool) -> str:
    """What to say of the ``short`` runs, of these ``seeds`` if some were asked for, and the command that makes them.

    ``partial``: whether to show the others was asked for already, or there are none.
    """
    run, recorded = short[0]
    epochs = experiment.search.epochs if command == "grid" else experiment.epochs
    return (f"{experiment.name}: {len(short)} runs in {results} are missing or short, the first {run.name} with "
            f"{recorded} of {epochs} epochs; make them by "
            f"{command_line(experiment, results, command, *_choosing(experiment, [run for run, _ in short], seeds))}"
            + ("" if partial else ", or show the others by --partial"))


def _choosing(experiment: Experiment, runs: Sequence[Run], seeds: Sequence[int] | None) -> list[str]:
    """The options by which a command makes these runs; without ``seeds`` that were asked for, of all seeds."""
    options = ["--tuned"] if experiment.is_tuned else []
    options += ["--method", *dict.fromkeys(run.method for run in runs)]
    return options + (["--seeds", seed_range(sorted({run.seed for run in runs}))] if seeds is not None else [])


def command_line(experiment: Experiment, results: Path, command: str, *options: str) -> str:
    """A command on an experiment, as it is given in the checkout."""
    return with_results(shlex.join(["python", "-m", "experiments", command, experiment.path, *options]), results)


def with_results(command: str, results: Path) -> str:
    """A command on this results folder; the same where that is the default, or if it is not of the experiments."""
    is_ours = command.startswith("python -m experiments")
    return f"{command} --results {shlex.quote(str(results))}" if is_ours and results != RESULTS else command
