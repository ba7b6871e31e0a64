"""What claims are judged by: complete runs, grid searches and other records, each read once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Sequence

import pandas as pd

from experiments.analysis import results, selection
from experiments.analysis.results import Grid, Results
from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.records import read_json

# Files of the results folder that claims are judged by, and that others of the project write.
THEORY_GROWTH = ("figures", "theory_growth.csv")
THEORY_REGRET = ("figures", "theory_regret.csv")
THEORY_COUNTEREXAMPLES = ("figures", "theory_counterexamples.csv")
ORIGINAL_FORM = ("tables", "original_form.csv")
OPTIMIZER_STEP = ("benchmarks", "optimizer_step.json")
RESNET50, MXNET_ADAM = "ResNet-50", "MXNet adam"   # shapes and a contender of that benchmark


class Evidence:
    """The records of a results folder; what has not been recorded is an empty table. UsageError without the folder."""

    def __init__(self, folder: Path, configs: Path):
        self.folder, self._configs = Path(folder), Path(configs)
        if not self.folder.is_dir():
            raise UsageError(f"--results {self.folder}: no such folder")
        # Caches of this object, which end with it.
        self.experiment = lru_cache(maxsize=None)(self._experiment)
        self.runs = lru_cache(maxsize=None)(self._runs)
        self.curves = lru_cache(maxsize=None)(self._curves)
        self.grid = lru_cache(maxsize=None)(self._grid)

    def _experiment(self, name: str) -> Experiment:
        """The configuration of this name."""
        return config.load(self._configs / f"{name}.yaml")

    def _runs(self, name: str, tuned: bool = False) -> Results:
        """All that is recorded of an experiment's methods; ``tuned``: with the values of our grid search, if any."""
        experiment = self.experiment(name)
        if tuned:
            experiment = experiment.tuned(selection.chosen(experiment, self.folder) or {})
        return results.read(experiment, self.folder, list(experiment.methods))[0]

    def _curves(self, name: str, tuned: bool = False) -> pd.DataFrame:
        """A row per epoch of each run that is complete and did not diverge, as in `Results.epochs`."""
        return self.runs(name, tuned).complete

    def diverged(self, name: str, tuned: bool, method: str) -> int:
        """How many of a method's runs diverged."""
        return self.runs(name, tuned).count(method)["diverged"]

    def _grid(self, name: str, seeds: Sequence[int] | None = None) -> Grid:
        """What is recorded of an experiment's grid search; of its seeds, or of others."""
        experiment = self.experiment(name)
        return results.read_grid(experiment, self.folder, list(experiment.methods), seeds)[0]

    def table(self, *path: str) -> pd.DataFrame:
        """A CSV file of the results folder."""
        file = self.folder.joinpath(*path)
        return pd.read_csv(file) if file.exists() else pd.DataFrame()

    def json(self, *path: str) -> Any:
        """A JSON file of the results folder; None without it."""
        return read_json(self.folder.joinpath(*path), None)
