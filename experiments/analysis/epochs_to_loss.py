"""How soon methods reach a train loss, in epochs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from experiments.analysis.intervals import ConfidenceInterval, interval


def epochs_to(losses: np.ndarray, target: float) -> float:
    """After how many epochs, from 1, a run's loss is at most the target, on lines between its epochs; inf if never."""
    reached = np.flatnonzero(losses <= target)
    if not len(reached):
        return math.inf
    i = int(reached[0])
    return 1.0 if i == 0 else float(i + (losses[i - 1] - target) / (losses[i - 1] - losses[i]))


def epochs_to_common_loss(curves: pd.DataFrame, method: str, other: str, last: int) -> pd.DataFrame:
    """By seed that both have, the lowest running train loss that both reach by epoch ``last``, and when each does.

    ``curves`` has a row per run and epoch with columns method, seed, epoch and train_loss. Columns: train_loss, epochs
    and other_epochs. Both runs reach such a loss, so none is censored, and exchanging the methods exchanges the two: a
    method is exactly as fast as itself. (The other's loss at a fixed epoch would favour the method, which may reach
    it by chance in any of the epochs, and cannot be reached by a run that ends a little higher.)
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
    """The geometric mean, over pairs of runs, of epochs / other_epochs, with its 95 % t interval."""
    n, *logarithms = log_share(pairs)
    return ConfidenceInterval(n, *np.exp(logarithms))


def log_share(pairs: pd.DataFrame) -> ConfidenceInterval:
    """The logarithm of `share_of_epochs`, of which the interval is a t interval."""
    return interval(np.log(pairs["epochs"] / pairs["other_epochs"]))
