"""The measures of a run: each one's label, how two of its values are compared, and its values by seed."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class Measure(NamedTuple):
    """A measure's label, and whether two values are compared by their ratio (losses) or by their difference.

    ``better``: where a better value lies, 'below' or 'above'. A run that diverged has the worst value.
    """

    label: str
    by_ratio: bool
    better: str


MEASURES = {
    # Running: over the examples as they were trained on.
    "train_loss": Measure("train loss", by_ratio=True, better="below"),
    "train_loss_full": Measure("train loss, whole set", by_ratio=True, better="below"),
    "test_loss": Measure("test loss", by_ratio=True, better="below"),
    "test_accuracy": Measure("test accuracy", by_ratio=False, better="above"),
    "best_test_accuracy": Measure("best test accuracy", by_ratio=False, better="above"),
    "overfitting": Measure("test loss less train loss", by_ratio=False, better="below"),
}


def by_seed(curves: pd.DataFrame, measure: str, epochs: tuple[int, int]) -> pd.Series:
    """A method's values by seed: each run's mean over the epochs from ``epochs[0]`` to ``epochs[1]``.

    For 'best_test_accuracy', the maximum instead of the mean. ``curves`` has a row per run of the method and epoch,
    with the column seed and the columns of epochs.csv.
    """
    rows = curves[curves["epoch"].between(*epochs)]
    if measure == "best_test_accuracy":
        return rows.groupby("seed")["test_accuracy"].max()
    if measure == "overfitting":
        rows = rows.assign(overfitting=rows["test_loss"] - rows["train_loss"])
    return rows.groupby("seed")[measure].mean()
