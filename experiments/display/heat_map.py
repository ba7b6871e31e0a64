"""Draws a grid search over step size and observation distance as a heat map."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.analysis import selection
from experiments.analysis.results import Grid
from experiments.display.drawing import STYLE, save
from experiments.display.sensitivity import title_of_grid
from experiments.vocabulary.errors import RecordError, UsageError

RANGE = (0.001, 0.1)   # of the colours: losses within 0.1 % of the lowest share one, those above 10 % another


def draw(grid: Grid, folder: Path) -> list[Path]:
    """Draw mean train loss at the last epoch of a grid search over alpha and eta, and write it as `drawing.save` does.

    A cell has the mean over seeds. Its colour says how far it lies above the lowest cell, which is bold. Cells
    where a run diverged say so. RecordError if a run diverged in every cell; UsageError if the grid has several
    methods, or varies anything else.
    """
    points = selection.averages(grid)
    if points.duplicated(["learning_rate", "eta"]).any():
        raise UsageError(f"{grid.experiment.name}: a heat map has the learning_rate and eta of one method, and this "
                         f"grid has {', '.join(grid.coordinates)} of {', '.join(points['method'].unique())}")
    mean = points.pivot(index="eta", columns="learning_rate", values="mean").sort_index(ascending=False)
    if not np.isfinite(mean.to_numpy()).any():
        raise RecordError(f"{grid.experiment.name}: a run diverged at each point of the grid: nothing can be drawn")
    lowest = np.nanmin(mean.to_numpy())
    excess = mean / lowest - 1
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(7.5, 5.2), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(excess.where(np.isfinite(excess)).clip(*RANGE), norm=LogNorm(*RANGE), cmap="cividis_r",
                            aspect="auto")
        for (row, column), value in np.ndenumerate(mean):
            is_dark = excess.iat[row, column] > (RANGE[0] * RANGE[1]) ** 0.5
            said = f"{value:.4f}" if np.isfinite(value) else "diverged" if np.isinf(value) else ""   # NaN: not run
            axes.text(column, row, said, ha="center", va="center",
                      color="white" if is_dark and np.isfinite(value) else "black", fontsize=9,
                      fontweight="bold" if value == lowest else "normal")
        axes.set_xticks(range(len(mean.columns)), [f"{alpha:g}" for alpha in mean.columns])
        axes.set_yticks(range(len(mean.index)), [f"{eta:g}" for eta in mean.index])
        axes.set(xlabel="step size α", ylabel="observation distance η (0: AMSGRAD's step)")
        axes.set_title(title_of_grid(grid, points, ":\n"), fontsize=10, parse_math=False)
        bar = figure.colorbar(image, format=PercentFormatter(1, decimals=1), extend="max")
        bar.set_label("above the lowest (in bold)")
        return save(figure, "distance", folder)
