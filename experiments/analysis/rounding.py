"""What rounding alone moves: runs made twice, with equal settings and seeds, where code or machine round differently.

Their first records are in the folder `rounding` of a results folder, under the names that their second ones have.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from experiments.analysis.epochs_to_loss import epochs_to_common_loss
from experiments.analysis.intervals import log_ratio
from experiments.analysis.measures import MEASURES, by_seed
from experiments.analysis.results import Results, read
from experiments.vocabulary.folders import ROUNDING


class MadeTwice(NamedTuple):
    """The rows of `Results.epochs` of the complete runs that were made twice: of the first time, and of the second."""

    first: pd.DataFrame
    again: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        return list(self.first["method"].unique())


def made_twice(again: Results, folder: Path) -> MadeTwice:
    """The complete runs of ``again`` that the folder also has under `ROUNDING`; both tables are empty without any."""
    first, _ = read(again.experiment, folder / ROUNDING, again.methods)
    both = [first.complete, again.complete]
    common = pd.merge(*(rows[["method", "seed"]].drop_duplicates() for rows in both))
    return MadeTwice(*(rows.merge(common, on=["method", "seed"]) for rows in both))


def change(runs: MadeTwice, method: str, measure: str, epochs: tuple[int, int],
           against: tuple[int, int] | None = None) -> pd.Series:
    """By seed, the second run's value less the first one's; for a loss, the logarithm of their ratio.

    A run's value is that of `by_seed`; with ``against``, that in the epochs from ``against[0]`` to ``against[1]`` is
    subtracted from it, or, of a loss, divides it.
    """
    if against:
        return change(runs, method, measure, epochs) - change(runs, method, measure, against)
    first, again = (by_seed(rows[rows["method"] == method], measure, epochs) for rows in runs)
    return log_ratio(again, first) if MEASURES[measure].by_ratio else again - first


def change_of_epochs(runs: MadeTwice, method: str, last: int) -> pd.Series:
    """By seed, the logarithm of the ratio of the epochs that the two runs need to a common train loss."""
    both = pd.concat([rows[rows["method"] == method].assign(method=name) for name, rows in runs._asdict().items()])
    pairs = epochs_to_common_loss(both, "again", "first", last)
    return log_ratio(pairs["epochs"], pairs["other_epochs"])


def size(changes: pd.Series) -> float:
    """The root mean square of some changes."""
    return math.sqrt((changes ** 2).mean())
