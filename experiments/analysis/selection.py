"""The outcome of a grid search: the hyper-parameters with the lowest train loss, and whether they lie on an edge.

selection.json holds a digest of the searched runs' ids, their epochs, and what was selected; readers compare it with
the configuration.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Mapping

import pandas as pd

from experiments.analysis.intervals import deviation
from experiments.analysis.results import Grid, command_line
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import DamagedError, RecordError
from experiments.vocabulary.files import read_json, write_json
from experiments.vocabulary.folders import SELECTION

RULE = "lowest mean train loss at the last epoch of the grid search; a point where a run diverged is out"


def averages(grid: Grid) -> pd.DataFrame:
    """One row per method and point: its coordinates, n (runs that did not diverge), diverged, mean and std.

    mean and std are of the train loss at the last epoch; the mean is infinite if a run diverged.
    """
    keys = ["method", *grid.coordinates]
    rows = []
    for values, runs in grid.runs.groupby(keys, dropna=False, sort=False):
        diverged = int((runs["status"] == "diverged").sum())
        losses = runs["train_loss"]
        rows.append({**dict(zip(keys, values)), "n": len(runs) - diverged, "diverged": diverged,
                     "mean": losses.mean(), "std": deviation(losses) if not diverged else math.nan})
    return pd.DataFrame(rows)


def along_step_size(points: pd.DataFrame) -> pd.DataFrame:
    """Of the rows of `averages`, those that lines over the step size show.

    Of each method, step size and beta2 it is the row with the lowest mean over all other hyper-parameters. Points where
    a run diverged are left out, and methods whose grid has no step sizes.
    """
    points = points[(points["diverged"] == 0) & points["learning_rate"].notna()]
    lowest = points.groupby(["method", "learning_rate", "beta2"], dropna=False)["mean"].idxmin()
    return points.loc[sorted(lowest)]


def select(grid: Grid) -> dict[str, dict[str, Any]]:
    """By method: the chosen point, its mean train loss and n, and the edges of the grid that it lies on.

    ``edges``: the coordinates with more than two values of which the lowest or highest was chosen, so the optimum may
    lie beyond. A method is left out if a run diverged at every point.
    """
    points = averages(grid)
    selected = {}
    for method in points["method"].unique():
        of_method = points[points["method"] == method]
        best = of_method.loc[of_method["mean"].idxmin()]
        if best["diverged"]:
            continue
        values = grid.experiment.methods[method].grid
        selected[method] = {
            "chosen": {name: next(value for value in values[name] if value == best[name]) for name in values},
            "train_loss": float(best["mean"]),
            "n": int(best["n"]), "points": len(of_method), "diverged": int((of_method["diverged"] > 0).sum()),
            "edges": [name for name in values if len(values[name]) > 2
                      and best[name] in (min(values[name]), max(values[name]))]}
    return selected


def write(grid: Grid, results: Path) -> Path:
    """Write the selection as ``<results>/<experiment>/selection.json`` and return its path."""
    path, methods = _path(grid.experiment, results), select(grid)
    write_json(path, {"rule": RULE, "epochs": grid.experiment.search.epochs, "seeds": list(grid.seeds),
                      "sha256": _digest(grid.experiment, methods), "methods": methods})
    return path


def chosen(experiment: Experiment, results: Path) -> dict[str, dict[str, float]] | None:
    """By method, the points that `write` recorded; None before that.

    RecordError if they are of another grid search than this experiment's.
    """
    path, search = _path(experiment, results), command_line(experiment, results, "grid")
    try:
        selection = read_json(path, ("methods",))
    except DamagedError as error:
        raise RecordError(f"{error}; {search} selects anew") from error
    if selection is None:
        return None
    try:
        points = {method: selected["chosen"] for method, selected in selection["methods"].items()}
        is_ours = experiment.selects and selection["sha256"] == _digest(experiment, selection["methods"])
    except (KeyError, TypeError, AttributeError):   # a damaged file
        is_ours = False
    if not is_ours:
        raise RecordError(f"{path}: is not of this grid search: the configuration has changed since, or is another one "
                          f"with this name; {search} selects anew")
    return points


def _digest(experiment: Experiment, methods: Mapping[str, Any]) -> str:
    """A digest of the grid search's runs, its epochs, and what was selected."""
    runs = sorted(str(run.folder) for run in experiment.grid_runs())
    content = json.dumps([runs, experiment.search.epochs, methods], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _path(experiment: Experiment, results: Path) -> Path:
    return results / experiment.name / SELECTION


def describe(grid: Grid) -> str:
    """The selection as lines to read."""
    lines, selection = [f"{RULE}:"], select(grid)
    for method in grid.runs["method"].unique():
        if method not in selection:
            lines.append(f"  {method:24}nothing, as a run diverged at each of its points")
            continue
        selected = selection[method]
        point = ", ".join(f"{name} {value}" for name, value in selected["chosen"].items())
        edge = f"; on the edge of the grid in {', '.join(selected['edges'])}" if selected["edges"] else ""
        lines.append(f"  {method:24}{point}: {selected['train_loss']:#.4g} (n = {selected['n']}, best of "
                     f"{selected['points']} points{edge})")
    return "\n".join(lines)
