"""Reads what claims are judged by, each thing once: complete runs, grid searches, CSV files and benchmarks."""

from __future__ import annotations

import contextlib
import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from experiments.analysis import results, rounding, selection
from experiments.analysis.results import Grid, Results
from experiments.analysis.rounding import MadeTwice
from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.files import damaged, read_json, reading
from experiments.vocabulary.folders import BENCHMARKS, FIGURES, TABLES


class CsvFile(NamedTuple):
    """A CSV file in a subfolder of the results, the columns that claims read (texts, and numbers), and its rows.

    ``rows``: columns of which each combination of values stands in one row; with ``within``, inside each value of that
    column. ``values``: by column, values that must be there. ``above``: by column, a bound that all values exceed.
    ``ends``: the ends of intervals over n runs, which there are none of where n = 1.
    """

    folder: str
    name: str
    texts: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[str] = ()
    within: str | None = None
    values: Mapping[str, Sequence[Any]] = {}
    above: Mapping[str, float] = {}
    ends: Sequence[str] = ()


THEORY_GROWTH = CsvFile(
    FIGURES, "theory_growth.csv", (),
    ("tau", "eta", "noise", "psi", "growth", "standard_error", "difference", "difference_error"),
    ("tau", "eta", "noise"), above={"noise": 0, "standard_error": 0},
    values={"tau": (0.4, 0.1, 0.01, 0.001, 0.0001, 0.0002, 0.0005, -0.0002, -0.0005), "eta": (0, 0.9, 3)})
_TERMS = [f"term_{i}" for i in (1, 2, 3)]
THEORY_REGRET = CsvFile(
    FIGURES, "theory_regret.csv", ("problem", "method"),
    ("T", "regret", "bound", *_TERMS, *(f"quantity_{i}" for i in (1, 2, 3))),
    ("method", "T"), "problem", above=dict.fromkeys(["bound", *_TERMS], 0), values={
        "problem": ("online logistic regression", "random convex quadratics", "one step from corner to corner"),
        "method": ("amsgrad", "namsg")})
THEORY_COUNTEREXAMPLES = CsvFile(
    FIGURES, "theory_counterexamples.csv", ("method",), ("t", "deterministic", "stochastic"), ("method", "t"),
    values={"method": ("adam", "dozatnadam", "amsgrad", "namsg")})
ORIGINAL_FORM = CsvFile(
    TABLES, "original_form.csv", (),
    ("epoch", "n", "algorithm_train", "original_train", "train_difference", "train_low", "train_high",
     "test_difference"),
    ("epoch",), above={"n": 0, **dict.fromkeys(["train_difference", "train_low", "train_high"], -1)},
    ends=("train_low", "train_high"))

STEP_BENCHMARK = "optimizer_step"                  # in benchmarks/
RESNET50, MXNET_ADAM = "ResNet-50", "MXNet adam"   # the shape and the contender in it that claims read
# By benchmark, what each of its measurements has beside the contenders.
MEASURED: Mapping[str, Mapping[str, type]] = {
    STEP_BENCHMARK: {"shapes": str, "threads": int}, "update_patterns": {"pattern": str, "threads": int},
    "training_step": {"network": str}, "gpu_step": {"shapes": str}}
VERDICT = {"shapes": str, "what": str, "share": float, "at most": float, "holds": bool}


class Evidence:
    """The records of a results folder; tables are empty where nothing is recorded. UsageError without the folder."""

    def __init__(self, folder: Path, configs: Path):
        self.folder, self._configs = Path(folder), Path(configs)
        if not self.folder.is_dir():
            raise UsageError(f"--results {self.folder}: no such folder")
        # Caches that live as long as this object.
        self.experiment = lru_cache(maxsize=None)(self._experiment)
        self.runs = lru_cache(maxsize=None)(self._runs)
        self.curves = lru_cache(maxsize=None)(self._curves)
        self.grid = lru_cache(maxsize=None)(self._grid)
        self.made_twice = lru_cache(maxsize=None)(self._made_twice)

    def _experiment(self, name: str) -> Experiment:
        """The configuration with this name."""
        return config.load(self._configs / f"{name}.yaml")

    def _runs(self, name: str, tuned: bool) -> Results:
        """All recorded runs of an experiment's methods; ``tuned``: with the values that our grid search selected."""
        experiment = self.experiment(name)
        if tuned:
            experiment = experiment.tuned(selection.chosen(experiment, self.folder) or {})
        return results.read(experiment, self.folder, list(experiment.methods))[0]

    def _curves(self, name: str, tuned: bool = False) -> pd.DataFrame:
        """A row per epoch of each complete run that did not diverge, as in `Results.epochs`."""
        return self.runs(name, tuned).complete

    def diverged(self, name: str, tuned: bool, method: str) -> int:
        """The number of a method's runs that diverged."""
        return self.runs(name, tuned).count_runs(method)["diverged"]

    def _grid(self, name: str, seeds: Sequence[int] | None = None) -> Grid:
        """What is recorded of an experiment's grid search, with its own seeds or with these."""
        experiment = self.experiment(name)
        methods = [method.name for method in experiment.methods.values() if method.grid]
        return results.read_grid(experiment, self.folder, methods, seeds)[0]

    def _made_twice(self, name: str) -> MadeTwice:
        """The runs of an experiment that were made twice, which show what rounding alone moves."""
        return rounding.made_twice(self.runs(name, False), self.folder)

    def table(self, file: CsvFile) -> pd.DataFrame:
        """The file's rows; none without the file. RecordError if they are not all that claims read."""
        path = self.folder / file.folder / file.name
        if not path.exists():
            return pd.DataFrame()
        with reading(path):
            content = path.read_bytes()
        with contextlib.suppress(ValueError):   # which pandas' errors of parsing and decoding are
            rows = pd.read_csv(io.BytesIO(content), float_precision="round_trip")
            if content.endswith(b"\n") and _is_whole(rows, file):   # else its last line was cut off
                return rows
        raise damaged(path)

    def benchmark(self, name: str) -> dict[str, Any] | None:
        """The report of a benchmark by its name; None without the file. RecordError if it is no report."""
        path = self.folder / BENCHMARKS / f"{name}.json"
        report = read_json(path, ("measurements", "rounds", "machine"))
        if report is not None and not _is_report(report, name):
            raise damaged(path)
        return report


def _is_whole(rows: pd.DataFrame, file: CsvFile) -> bool:
    """Whether these are rows as `CsvFile` says, with finite numbers."""
    if not {*file.texts, *file.numbers} <= {*rows}:
        return False
    for name in file.ends:
        rows = rows.assign(**{name: rows[name].mask(rows["n"] == 1, 0)})
    numbers = rows[[*file.numbers]]
    if not all(map(is_numeric_dtype, numbers.dtypes)) or not np.isfinite(numbers).all(axis=None):
        return False
    parts = [part for _, part in rows.groupby(file.within)] if file.within else [rows]
    for part in parts:
        keys = part[[*file.rows]]
        if file.rows and not len(part) == len(keys.drop_duplicates()) == math.prod(keys.nunique()):
            return False   # a row is missing, or stands twice
    for name, values in file.values.items():
        if not all({*values} <= {*part[name]} for part in ([rows] if name == file.within else parts)):
            return False
    return all((rows[name] > limit).all() for name, limit in file.above.items())


def _is_report(report: Mapping[str, Any], name: str) -> bool:
    """Whether a benchmark's report has what claims and the page of results read."""
    def is_timed(contender):
        return all(_has(contender, {key: list}) and len(contender[key]) == 3 and all(map(_is_number, contender[key]))
                   for key in ("seconds", "share"))

    measurements, verdicts = report["measurements"], report.get("verdicts", [])
    return (_is_number(report["rounds"]) and _has(report["machine"], {"processor": str, "cores": int})
            and isinstance(measurements, list) and isinstance(verdicts, list)
            and all(_has(measured, {**MEASURED[name], "contenders": dict})
                    and all(map(is_timed, measured["contenders"].values()))
                    and (name != STEP_BENCHMARK or MXNET_ADAM in measured["contenders"]) for measured in measurements)
            and all(_has(verdict, VERDICT) for verdict in verdicts))


def _has(content: Any, types: Mapping[str, type]) -> bool:
    """Whether this is a dict with such values; a float is any finite number."""
    return isinstance(content, dict) and all(
        _is_number(content.get(key)) if kind is float else isinstance(content.get(key), kind)
        for key, kind in types.items())


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
