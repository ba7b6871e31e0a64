"""The outcome of a grid search: the hyper-parameters with the lowest train loss, and whether they lie on an edge."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.config import Experiment
from experiments.records import read_json, write_json
from experiments.results import Grid

RULE = "lowest mean train loss at the last epoch of the grid search; a point where a run diverged is out"


def averages(grid: Grid) -> pd.DataFrame:
    """One row per method and point: its coordinates, n (runs that did not diverge), diverged, mean and std of loss.

    The mean is of the last epoch of the grid search, and so infinite where a run diverged.
    """
    keys = ["method", *grid.coordinates]
    rows = []
    for values, runs in grid.runs.groupby(keys, dropna=False, sort=False):
        diverged = int((runs["status"] == "diverged").sum())
        losses = runs["train_loss"]
        rows.append({**dict(zip(keys, values)), "n": len(runs) - diverged, "diverged": diverged,
                     "mean": losses.mean(), "std": losses.std() if not diverged else math.nan})
    return pd.DataFrame(rows)


def select(grid: Grid) -> dict[str, dict[str, Any]]:
    """By method: the chosen point, its mean train loss and n, and the edges of the grid that it lies on.

    ``edges`` names each coordinate whose grid has more than two values, of which the lowest or the highest was chosen:
    the optimum may lie beyond.
    """
    points = averages(grid)
    selected = {}
    for method in points["method"].unique():
        of_method = points[points["method"] == method]
        best = of_method.loc[of_method["mean"].idxmin()]
        values = grid.experiment.methods[method].grid
        selected[method] = {
            "chosen": {name: float(best[name]) for name in values}, "train_loss": float(best["mean"]),
            "n": int(best["n"]), "points": len(of_method), "diverged": int((of_method["diverged"] > 0).sum()),
            "edges": [name for name in values if len(values[name]) > 2
                      and best[name] in (min(values[name]), max(values[name]))]}
    return selected


def write(grid: Grid, results: Path) -> Path:
    """Write the selection as ``<results>/<experiment>/selection.json`` and return its path."""
    path = _path(grid.experiment, results)
    write_json(path, {"rule": RULE, "epochs": grid.experiment.tuning.epochs, "seeds": list(grid.seeds),
                      "methods": select(grid)})
    return path


def chosen(experiment: Experiment, results: Path) -> dict[str, dict[str, float]] | None:
    """The points that `write` recorded, by method; None before that."""
    selection = read_json(_path(experiment, results), ("methods",))
    return selection and {method: selected["chosen"] for method, selected in selection["methods"].items()}


def _path(experiment: Experiment, results: Path) -> Path:
    return results / experiment.name / "selection.json"


def describe(grid: Grid) -> str:
    """The selection as lines to read."""
    lines = [f"{RULE}:"]
    for method, selected in select(grid).items():
        point = ", ".join(f"{name} {value:g}" for name, value in selected["chosen"].items())
        edge = f"; on the edge of the grid in {', '.join(selected['edges'])}" if selected["edges"] else ""
        lines.append(f"  {method:24}{point}: {selected['train_loss']:.4f} (n = {selected['n']}, best of "
                     f"{selected['points']} points{edge})")
    return "\n".join(lines)
