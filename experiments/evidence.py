"""What claims are judged by: complete runs, grid searches and other records, each read once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import config, results, selection
from experiments.config import Experiment
from experiments.records import read_json

GRID_COLUMNS = ("method", "learning_rate", "beta1", "beta2", "n", "diverged", "mean", "std")


class Evidence:
    """The records of a results folder; what has not been recorded is an empty table."""

    def __init__(self, folder: Path, configs: Path):
        self._folder, self._configs = Path(folder), Path(configs)
        # Caches of this object, which end with it.
        self.experiment = lru_cache(maxsize=None)(self._experiment)
        self.curves = lru_cache(maxsize=None)(self._curves)
        self.grid = lru_cache(maxsize=None)(self._grid)

    def _experiment(self, name: str) -> Experiment:
        """The configuration of this name."""
        return config.load(self._configs / f"{name}.yaml")

    def _curves(self, name: str, tuned: bool = False) -> pd.DataFrame:
        """A row per epoch of each run that is complete and did not diverge, as in `Results.epochs`, and overfitting.

        ``overfitting`` is the test loss less the running train loss. ``tuned``: with our grid search's values.
        """
        experiment = self.experiment(name)
        if tuned:
            experiment = experiment.tuned(selection.chosen(experiment, self._folder) or {})
        found, _ = results.read(experiment, self._folder, list(experiment.methods))
        done = found.runs[found.runs["status"] == "done"][["method", "seed"]]
        epochs = found.epochs.merge(done, on=["method", "seed"])
        return epochs.assign(overfitting=epochs["test_loss"] - epochs["train_loss"])

    def _grid(self, name: str) -> pd.DataFrame:
        """A row per method and point of the grid that has runs, as `selection.averages` makes them."""
        experiment = self.experiment(name)
        found, _ = results.read_grid(experiment, self._folder, list(experiment.methods))
        return selection.averages(found).reindex(columns=GRID_COLUMNS)

    def table(self, *path: str) -> pd.DataFrame:
        """A CSV file of the results folder."""
        file = self._folder.joinpath(*path)
        return pd.read_csv(file) if file.exists() else pd.DataFrame()

    def json(self, *path: str) -> Any:
        """A JSON file of the results folder; None without it."""
        return read_json(self._folder.joinpath(*path), None)
