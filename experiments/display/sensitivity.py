"""Draws the methods' sensitivity to the step size, from grid searches."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence

import matplotlib
import pandas as pd
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments.analysis import selection
from experiments.analysis.measures import MEASURES
from experiments.analysis.results import Grid
from experiments.display.drawing import STYLE, label_plainly, save
from experiments.display.figures import PAPER
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.methods import LABELS, colours, dashes


def draw(grids: Sequence[Grid], folder: Path) -> list[Path]:
    """Draw train loss at the last epoch of grid searches against the step size, a row per search.

    One line per method and beta2; a ring around each method's best point, or a square if it lies on an edge of the grid
    in alpha. Methods without beta2, such as SGD, have a panel of their own, as their step sizes differ. Points where a
    run diverged are left out. Writes sensitivity.png and sensitivity.svg into the folder and returns their paths.
    RecordError for a search of which no point can be drawn.
    """
    order = [row.experiment for rows in PAPER.values() for row in rows]
    grids = sorted(grids, key=lambda grid: [*order, grid.experiment.name].index(grid.experiment.name))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.8 * len(grids) + 0.8), layout="constrained")
        *parts, below = figure.subfigures(len(grids) + 1, 1, height_ratios=[3.8] * len(grids) + [0.8])
        colour = colours(method for grid in grids for method in grid.experiment.methods)
        lowest = [selection.along_step_size(selection.averages(grid)) for grid in grids]
        dash = dashes(pd.concat(points["beta2"] for points in lowest))
        for part, grid, points in zip(parts, grids, lowest):
            _draw_grid(part, grid, points, colour, dash)
        _draw_legend(below, grids, lowest, colour, dash)
        return save(figure, "sensitivity", folder)


def _draw_grid(part: SubFigure, grid: Grid, points: pd.DataFrame, colour: Mapping[str, str],
               dash: Mapping[float, str]) -> None:
    """``points``: those of the grid that are drawn."""
    if points.empty:
        raise RecordError(f"{grid.experiment.name}: a run diverged at each step size of the grid, or it has none: "
                          "nothing can be drawn")
    part.suptitle(title_of_grid(grid, points), x=0.01, ha="left", fontweight="bold", parse_math=False)
    without = points.groupby("method")["beta2"].transform("count") == 0
    shown = [methods for methods in (points[~without]["method"].unique(), points[without]["method"].unique())
             if len(methods)]
    panels = part.subplots(1, len(shown), squeeze=False, width_ratios=[2, 1.3][:len(shown)])[0]
    selected = selection.select(grid)
    for axes, methods in zip(panels, shown):
        for method in (method for method in selected if method in methods):
            for beta2, of_beta2 in points[points["method"] == method].groupby("beta2", dropna=False):
                line = of_beta2.sort_values("learning_rate")
                axes.errorbar(line["learning_rate"], line["mean"], line["std"].fillna(0), marker=".", linewidth=1.3,
                              color=colour[method], linestyle=dash.get(beta2, "-"))
            axes.plot(selected[method]["chosen"]["learning_rate"], selected[method]["train_loss"],
                      _mark(selected[method]), markersize=10, color=colour[method], fillstyle="none")
        steps = sorted(points[points["method"].isin(methods)]["learning_rate"].unique())
        axes.set(xscale="log", yscale="log", xlabel="step size α", title=", ".join(LABELS[m] for m in methods))
        axes.set_xticks(steps, [f"{step:g}" for step in steps])
        axes.xaxis.set_minor_locator(NullLocator())
        label_plainly(axes)


def title_of_grid(grid: Grid, points: pd.DataFrame, separator: str = ": ") -> str:
    """The title of a figure of these rows of `selection.averages`."""
    n = sorted({points["n"].min(), points["n"].max()})   # an unfinished search has points with fewer runs
    return (f"{grid.experiment.title}{separator}{MEASURES['train_loss'].label} at epoch "
            f"{grid.experiment.search.epochs} (n = {' to '.join(map(str, n))} a point)")


def _mark(selected: dict) -> str:
    return "s" if "learning_rate" in selected["edges"] else "o"


def _draw_legend(part: SubFigure, grids: Sequence[Grid], drawn: Sequence[pd.DataFrame], colour: Mapping[str, str],
                 dash: Mapping[float, str]) -> None:
    """Explain the colours, dashes, bars, rings and squares that are drawn."""
    methods = dict.fromkeys(method for points in drawn for method in points["method"].unique())
    marks = {_mark(selected) for grid in grids for method, selected in selection.select(grid).items()
             if method in methods}
    others = sorted({name for grid, points in zip(grids, drawn) for method in points["method"].unique()
                     for name, values in grid.experiment.methods[method].grid.items()
                     if name not in ("learning_rate", "beta2") and len(values) > 1})
    words = {"o": "lowest of a method", "s": "lowest, on the edge of the grid"}
    handles = [Line2D([], [], color=colour[method], label=LABELS[method]) for method in methods]
    handles += [Line2D([], [], color="#666666", linestyle=style, label=f"β2 = {beta2:g}")
                for beta2, style in dash.items()]
    handles += [Line2D([], [], color="#666666", linestyle="", marker=mark, markersize=9, fillstyle="none",
                       label=words[mark]) for mark in sorted(marks)]
    part.legend(handles=handles, loc="center", ncols=5, fontsize=9, frameon=False,
                title="bars: one standard deviation" + ("; each point: the lowest over "
                                                        f"{', '.join(others)}" if others else ""), title_fontsize=8)
