"""Compares how many epochs two methods need to the same train loss."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from experiments.analysis.intervals import ConfidenceInterval, interval, log_ratio


def epochs_to(losses: np.ndarray, target: float) -> float:
    """After how many epochs (at least 1) a run's loss is at most the target, interpolated linearly; inf if never."""
    reached = np.flatnonzero(losses <= target)
    if not len(reached):
        return math.inf
    i = int(reached[0])
    return 1.0 if i == 0 else float(i + (losses[i - 1] - target) / (losses[i - 1] - losses[i]))


def epochs_to_common_loss(curves: pd.DataFrame, method: str, other: str, last: int) -> pd.DataFrame:
    """For each common seed, the lowest running train loss that both runs reach by epoch ``last``, and how soon.

    ``curves`` has a row per run and epoch with columns method, seed, epoch and train_loss. Returns the columns
    train_loss, epochs and other_epochs, indexed by seed. Both runs reach this loss, so no run is censored. The two
    methods are treated alike, so a method is exactly as fast as itself.

    (The other's loss at a fixed epoch would not do. It favours the method, which may reach it by chance in any of its
    epochs; and a run that ends a little higher never reaches it.)
    """
    until = curves[curves["epoch"] <= last].sort_values("epoch")
    runs, others = ({seed: run["train_loss"].to_numpy() for seed, run in until[until["method"] == name].groupby("seed")}
                    for name in (method, other))
    rows = {}
    for seed in sorted(runs.keys() & others.keys()):
        target = max(runs[seed].min(), others[seed].min())
        rows[seed] = (target, epochs_to(runs[seed], target), epochs_to(others[seed], target))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["train_loss", "epochs", "other_epochs"])


def share_of_epochs(pairs: pd.DataFrame) -> ConfidenceInterval:
    """The geometric mean of epochs / other_epochs over pairs of runs, with its 95 % t interval."""
    n, *logarithms = log_share(pairs)
    return ConfidenceInterval(n, *np.exp(logarithms))


def log_share(pairs: pd.DataFrame) -> ConfidenceInterval:
    """The logarithm of `share_of_epochs`: a mean with its t interval."""
    return interval(log_ratio(pairs["epochs"], pairs["other_epochs"]))
