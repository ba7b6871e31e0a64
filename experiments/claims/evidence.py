"""Reads what claims are judged by, each thing once: complete runs, grid searches, CSV files and benchmarks."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import pandas as pd
from pandas.api.types import is_numeric_dtype

from experiments.analysis import results, rounding, selection
from experiments.analysis.results import Grid, Results
from experiments.analysis.rounding import MadeTwice
from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.files import damaged, read_json
from experiments.vocabulary.folders import BENCHMARKS, FIGURES, TABLES


class CsvFile(NamedTuple):
    """A CSV file in a subfolder of the results, and the columns that claims read: texts, and numbers."""

    folder: str
    name: str
    texts: Sequence[str]
    numbers: Sequence[str]


THEORY_GROWTH = CsvFile(FIGURES, "theory_growth.csv", (), (
    "tau", "eta", "noise", "psi", "growth", "standard_error", "difference", "difference_error"))
THEORY_REGRET = CsvFile(FIGURES, "theory_regret.csv", ("problem", "method"), (
    "regret", "bound", *(f"{name}_{i}" for name in ("term", "quantity") for i in (1, 2, 3))))
THEORY_COUNTEREXAMPLES = CsvFile(FIGURES, "theory_counterexamples.csv", ("method",), (
    "t", "deterministic", "stochastic"))
ORIGINAL_FORM = CsvFile(TABLES, "original_form.csv", (), (
    "n", "algorithm_train", "original_train", "train_difference", "train_low", "train_high", "test_difference"))
STEP_BENCHMARK = "optimizer_step"                  # in benchmarks/
RESNET50, MXNET_ADAM = "ResNet-50", "MXNet adam"   # the shape and the contender in it that claims read


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

    def _runs(self, name: str, tuned: bool = False) -> Results:
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
        return self.runs(name, tuned).count(method)["diverged"]

    def _grid(self, name: str, seeds: Sequence[int] | None = None) -> Grid:
        """What is recorded of an experiment's grid search, with its own seeds or with these."""
        experiment = self.experiment(name)
        methods = [method.name for method in experiment.methods.values() if method.grid]
        return results.read_grid(experiment, self.folder, methods, seeds)[0]

    def _made_twice(self, name: str) -> MadeTwice:
        """The runs of an experiment that were made twice, which show what rounding alone moves."""
        return rounding.made_twice(self.runs(name), self.folder)

    def table(self, file: CsvFile) -> pd.DataFrame:
        """The file's rows; none without the file. RecordError if it lacks one of its columns."""
        path = self.folder / file.folder / file.name
        if not path.exists():
            return pd.DataFrame()
        with contextlib.suppress(ValueError):   # which pandas' errors of parsing and decoding are
            read = pd.read_csv(path)
            if {*file.texts, *file.numbers} <= {*read} and all(is_numeric_dtype(read[n]) for n in file.numbers):
                return read
        raise damaged(path)

    def benchmark(self, name: str) -> dict[str, Any] | None:
        """The report of a benchmark by its name; None without the file. RecordError if it is no report."""
        return read_json(self.folder / BENCHMARKS / f"{name}.json", ("measurements", "rounds", "machine"))
