"""Finds where a step size drops, which is not where it merely decays."""

from __future__ import annotations

import pandas as pd

DROPPED = 0.4   # of its value an epoch before; 1/t, the fastest decay, leaves a half


def first_epoch_after_drop(epochs: pd.DataFrame) -> int | None:
    """The first epoch at whose end a step size is below 0.4 of what it was an epoch before; None if there is none.

    ``epochs`` has a row per run and epoch, as `experiments.analysis.results.Results.epochs`.
    """
    ordered = epochs.sort_values("epoch")
    rates = ordered[["learning_rate", "sgd_learning_rate"]].astype(float)
    before = rates.groupby([ordered["method"], ordered["seed"]]).shift()
    dropped = ordered["epoch"][(rates < DROPPED * before).any(axis=1)]
    return None if dropped.empty else int(dropped.min())
