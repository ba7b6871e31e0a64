"""Draws the paper's figures from records, and the methods' sensitivity to the step size.

Lines are means over seeds. Bands are one standard deviation to either side, clipped to the runs' range. Equal records
give equal files with equal versions of matplotlib.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

import matplotlib
import pandas as pd
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from experiments.analysis import selection
from experiments.analysis.measures import MEASURES
from experiments.analysis.results import Grid, Results
from experiments.analysis.step_size import first_epoch_after_drop
from experiments.claims import parts
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.files import make_folder, write_atomically
from experiments.vocabulary.methods import (
    BOUNDED_METHODS,
    DASHES,
    FIVE,
    LABELS,
    STRATEGY_METHODS,
    colours,
    dashes,
)
from experiments.vocabulary.paper import CIFAR, CNN, LOGISTIC


class PaperRow(NamedTuple):
    """A row of a figure of the paper.

    ``shows`` says which part of the experiment it shows, '' for all of it. ``claims``: the part of the claims on it, a
    key of `experiments.claims.parts.PARTS`; None for a row on which there are none.
    """

    experiment: str
    methods: Sequence[str]
    shows: str = ""
    claims: str | None = None


# Each figure of the paper by its rows, top to bottom.
PAPER = {
    "2": (PaperRow(LOGISTIC, FIVE, claims=LOGISTIC), PaperRow(CNN, FIVE, claims=CNN)),
    "3": (PaperRow(CIFAR, FIVE, claims=CIFAR), PaperRow(CIFAR, STRATEGY_METHODS, "strategies", parts.STRATEGIES)),
    "A1": (PaperRow(CIFAR, BOUNDED_METHODS, "limits of the step", parts.BOUNDED),),
}
PANELS = {"train_loss": "log", "test_loss": "linear", "test_accuracy": "linear"}   # the scale of each measure's axis
BASE = "namsg"   # the second panel divides train losses by this method's
SETTLED = 0.25   # the axis of these ratios fits the values after this share of the epochs
INSETS = {"test_loss": (0.4, 0.38, 0.58, 0.52), "test_accuracy": (0.4, 0.1, 0.58, 0.5)}   # left, bottom, width, height
POSITION = 6   # decimals of a position, as a share of the figure's size: a thousandth of a pixel
STYLE = {"font.size": 10, "svg.hashsalt": "namsg-mx", "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
         "axes.spines.right": False}


class Row(NamedTuple):
    """A row of a figure.

    ``shows``: as in `PaperRow`. ``said`` stands above it, on the right.
    """

    results: Results
    shows: str = ""
    said: str = ""


def draw(rows: Sequence[Row], name: str, folder: Path) -> list[Path]:
    """Draw for each row four panels against epochs: train loss, train loss over NAMSG's, test loss, test accuracy.

    The second panel is left out without NAMSG, or if there is no ratio: its runs diverged, or a loss is 0. If the step
    size drops, insets of the test panels enlarge the epochs after that. Writes ``name``.png and ``name``.svg into the
    folder and returns their paths. RecordError for a row whose runs all diverged.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 3.5 * len(rows) + 0.6), layout="constrained")
        *parts, below = figure.subfigures(len(rows) + 1, 1, height_ratios=[3.5] * len(rows) + [0.6])
        colour = colours(method for row in rows for method in row.results.experiment.methods)
        for part, row in zip(parts, rows):
            _draw_row(part, row, colour)
        _draw_legend(below, figure, [row.results for row in rows])
        return save(figure, name, folder)


def draw_sensitivity(grids: Sequence[Grid], folder: Path) -> list[Path]:
    """Draw train loss at the last epoch of grid searches against the step size, a row per search.

    One line per method and beta2; a ring around each method's best point, or a square if it lies on an edge of the grid
    in alpha. Methods without beta2, such as SGD, have a panel of their own, as their step sizes differ. Points where a
    run diverged are left out. Writes and returns as `draw`.
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
        _draw_grid_legend(below, grids, lowest, colour, dash)
        return save(figure, "sensitivity", folder)


def save(figure: Figure, name: str, folder: Path) -> list[Path]:
    """Write ``name``.png and ``name``.svg into the folder and return their paths."""
    _fix_layout(figure)
    make_folder(folder)
    paths = []
    for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, **options)
        paths.append(folder / f"{name}.{kind}")
        write_atomically(paths[-1], content.getvalue())
    return paths


def _fix_layout(figure: Figure) -> None:
    """Lay the figure out for good, without the last bits of the positions.

    The solver of the constrained layout does not always give the same last bit, and SVG's names of clip paths hash all
    bits.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(POSITION))
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position().get_points().round(POSITION)))


def _draw_row(part: SubFigure, row: Row, colour: Mapping[str, str]) -> None:
    results = row.results
    if results.epochs.empty:
        raise RecordError(f"{results.experiment.name}: all runs diverged: nothing can be drawn")
    short = (results.runs["status"] == "short").any()
    title = results.experiment.title + (f": {row.shows}" if row.shows else "") + (" (unfinished)" if short else "")
    part.suptitle(title, x=0.01, ha="left", fontweight="bold", parse_math=False)
    part.text(0.99, 0.98, row.said, ha="right", va="top", fontsize=9)
    panels = [(measure, MEASURES[measure].label, scale) for measure, scale in PANELS.items()]
    ratios = ratios_of(results)
    if ratios:
        panels.insert(1, ("ratio", title_of_ratios(results, ratios), "log"))
    after = first_epoch_after_drop(results.epochs)
    drops = all(first_epoch_after_drop(of_method) == after for _, of_method in results.epochs.groupby("method"))
    for axes, (column, label, scale) in zip(part.subplots(1, len(panels)), panels):
        curves = ratios if column == "ratio" else {method: results.curve(method, column) for method in results.methods}
        _draw_curves(axes, curves, colour)
        axes.set(xlabel="epoch", yscale=scale)
        axes.set_title(label, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if column == "ratio":
            values = pd.concat(curves.values())
            highest = pd.concat(curve["high"][curve.index > SETTLED * curve.index.max()]
                                for curve in curves.values()).max() * 1.01
            axes.set_ylim(values["low"].min() * 0.99, highest)
            if values["high"].max() > highest:
                axes.set_title(f"{label}, cut above", fontsize=10)
        if scale == "log":
            _label_plainly(axes)
        if column in INSETS and after is not None:
            inset = axes.inset_axes(INSETS[column])
            _draw_curves(inset, {method: curve[curve.index >= after] for method, curve in curves.items()},
                         colour)
            inset.set_title("after the step size drops" if drops else f"from epoch {after} on", fontsize=8)
            inset.tick_params(labelsize=7)
            inset.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def ratios_of(results: Results) -> dict[str, pd.DataFrame]:
    """By method, `Results.loss_ratio` over NAMSG's; empty if no other method has one."""
    ratios = {method: results.loss_ratio(method, BASE) for method in results.methods}
    return ratios if any(len(curve) for method, curve in ratios.items() if method != BASE) else {}


def title_of_ratios(results: Results, ratios: Mapping[str, pd.DataFrame]) -> str:
    """The title of a panel of `Results.loss_ratio`; with n, the pairs, if that is not how many runs each method has."""
    pairs = {method: int(curve["n"].max()) if len(curve) else 0 for method, curve in ratios.items()}
    runs = results.epochs.groupby("method")["seed"].nunique()
    title = f"{MEASURES['train_loss'].label} / {LABELS[BASE]}'s"
    if all(pairs[method] == n for method, n in runs.items()):
        return title
    ends = sorted({low_or_high(pairs[method] for method in runs.index if method != BASE) for low_or_high in (min, max)})
    return f"{title}, n = {' to '.join(map(str, ends))}"


def _draw_curves(axes, curves: Mapping[str, pd.DataFrame], colour: Mapping[str, str]) -> None:
    for method, curve in curves.items():
        axes.plot(curve.index, curve["mean"], color=colour[method], linestyle=DASHES.get(method, "-"), linewidth=1.5,
                  marker="o" if len(curve) == 1 else None, label=LABELS[method])
        axes.fill_between(curve.index, curve["low"], curve["high"], color=colour[method], alpha=0.2, linewidth=0)


def _label_plainly(axes) -> None:
    """Label an axis 0.3 instead of 3 x 10^-1, with ticks also on an axis shorter than a decade."""
    low, high = axes.get_ylim()
    steps = (1, 2, 3, 5) if high < 30 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps) if high > 3 * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_legend(part: SubFigure, figure: Figure, all_results: Sequence[Results]) -> None:
    """Draw one legend for all rows; it gives n once if it is the same for all methods, else with each method."""
    handles, labels = [], []
    counts: dict[str, list[str]] = {}
    for results in all_results:
        for method in results.methods:
            counts.setdefault(LABELS[method], []).append(results.describe_n(method))
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    same = len({n for of_method in counts.values() for n in of_method}) == 1
    for label, of_method in counts.items():
        handles.append(lines[label])
        labels.append(label if same else f"{label} (n = {' and '.join(dict.fromkeys(of_method))})")
    n = f"n = {next(iter(counts.values()))[0]} seeds; " if same else ""
    columns = len(labels) if same and len(labels) <= 8 else 5
    part.legend(handles, labels, loc="center", ncols=columns, fontsize=9, frameon=False,
                title=f"{n}lines: means; bands: one standard deviation, within the range of the runs", title_fontsize=8)


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
        _label_plainly(axes)


def title_of_grid(grid: Grid, points: pd.DataFrame, separator: str = ": ") -> str:
    """The title of a figure of these rows of `selection.averages`."""
    n = sorted({points["n"].min(), points["n"].max()})   # an unfinished search has points with fewer runs
    return (f"{grid.experiment.title}{separator}{MEASURES['train_loss'].label} at epoch "
            f"{grid.experiment.search.epochs} (n = {' to '.join(map(str, n))} a point)")


def _mark(selected: dict) -> str:
    return "s" if "learning_rate" in selected["edges"] else "o"


def _draw_grid_legend(part: SubFigure, grids: Sequence[Grid], drawn: Sequence[pd.DataFrame],
                      colour: Mapping[str, str], dash: Mapping[float, str]) -> None:
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
