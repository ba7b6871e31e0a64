"""The paper's figures from records, and how sensitive the methods are to the step size.

Lines are means over the seeds, bands one standard deviation to either side, within the range of the runs. Equal
records give equal files where the version of matplotlib is equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import selection
from experiments.results import LABELS, Grid, Results, describe_n

FIVE = ("sgd", "adam", "nadam", "amsgrad", "namsg")
STRATEGIES = ("sgd", "adam", "namsg", "namsg1", "swnts", "swnts1")
BOUNDED = ("namsb1", "namsb2", "amsb1", "amsb2")
# The rows of each figure of the paper, top to bottom: experiment and methods.
PAPER = {
    "2": (("mnist_logistic", FIVE), ("mnist_cnn", FIVE)),
    "3": (("cifar10_resnet20", FIVE), ("cifar10_resnet20", STRATEGIES)),
    "A1": (("cifar10_resnet20", BOUNDED),),
}
PANELS = (("train_loss", "train loss", "log"), ("test_loss", "test loss", "linear"),
          ("test_accuracy", "test accuracy", "linear"))
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {"sgd": "#000000", "sgd_mxnet": "#999999", "adam": "#E69F00", "nadam": "#56B4E9", "nadam_mxnet": "#CC79A7",
           "amsgrad": "#009E73", "namsg": "#D55E00", "namsg_2019": "#7F3C8D", "namsg_decreasing_alpha": "#882255",
           "namsg_theorem1": "#117733", "namsg1": "#882255", "swnts": "#0072B2", "swnts1": "#117733",
           "namsb1": "#D55E00", "namsb2": "#882255", "amsb1": "#009E73", "amsb2": "#0072B2"}
STYLE = {"font.size": 10, "svg.hashsalt": "namsg-mx", "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
         "axes.spines.right": False}


def draw(rows: Sequence[Results], name: str, folder: Path) -> list[Path]:
    """Draw a row per result: train loss, test loss and test accuracy against epochs.

    Writes ``name``.png and ``name``.svg into the folder and returns their paths.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 3.6 * len(rows)), layout="constrained")
        for axes, results in zip(figure.subplots(len(rows), len(PANELS), squeeze=False), rows):
            _draw_row(axes, results)
        return save(figure, name, folder)


def draw_sensitivity(grids: Sequence[Grid], name: str, folder: Path) -> list[Path]:
    """Draw a panel per grid search: the train loss at its last epoch against the step size.

    A line per method and beta2; a ring around the best point of each method, a square where that lies on an edge of the
    grid in alpha. Points where a run diverged are left out. Writes and returns as `draw`.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.5 * len(grids), 4.2), layout="constrained")
        for axes, grid in zip(figure.subplots(1, len(grids), squeeze=False)[0], grids):
            _draw_grid(axes, grid)
        return save(figure, name, folder)


def save(figure: Figure, name: str, folder: Path) -> list[Path]:
    """Write ``name``.png and ``name``.svg into the folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    figure.savefig(paths[0], dpi=150)
    figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _draw_row(axes: Sequence, results: Results) -> None:
    for panel, (column, title, scale) in zip(axes, PANELS):
        for method in results.methods:
            _draw_curve(panel, results, method, column)
        panel.set(xlabel="epoch", ylabel=title, yscale=scale)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(fontsize=8.5)
    short = (results.runs["status"] == "short").any()
    axes[1].set_title(results.experiment.title + (" (unfinished)" if short else ""))


def _draw_curve(panel, results: Results, method: str, column: str) -> None:
    curve = results.curve(method, column)
    panel.plot(curve.index, curve["mean"], color=COLOURS[method], label=_legend(results, method), linewidth=1.5,
               marker="o" if len(curve) == 1 else None)
    panel.fill_between(curve.index, curve["low"], curve["high"], color=COLOURS[method], alpha=0.2, linewidth=0)


def _legend(results: Results, method: str) -> str:
    n = results.epochs[results.epochs["method"] == method]["seed"].nunique()
    seeds, diverged = len(results.experiment.seeds), results.count(method)["diverged"]
    return f"{LABELS[method]} (n = {describe_n(n, seeds, diverged)})"


def _draw_grid(axes, grid: Grid) -> None:
    points = selection.averages(grid)
    points = points[points["diverged"] == 0]
    for method, selected in selection.select(grid).items():
        for beta2, of_beta2 in points[points["method"] == method].groupby("beta2", dropna=False):
            line = of_beta2.sort_values("learning_rate")
            label = LABELS[method] + (f", β2 = {beta2:g}" if beta2 == beta2 else "")   # NaN: the method has none
            axes.errorbar(line["learning_rate"], line["mean"], line["std"].fillna(0), label=label, marker=".",
                          color=COLOURS[method], linestyle="--" if beta2 == 0.999 else "-", linewidth=1.3)
        marker = "s" if "learning_rate" in selected["edges"] else "o"
        axes.plot(selected["chosen"]["learning_rate"], selected["train_loss"], marker, markersize=10,
                  color=COLOURS[method], fillstyle="none")
    axes.set(xscale="log", yscale="log", xlabel="α",
             ylabel=f"train loss at epoch {grid.experiment.tuning.epochs}")
    n = sorted({points["n"].min(), points["n"].max()})   # a search that is not complete has points of fewer runs
    axes.set_title(f"{grid.experiment.title} (n = {' to '.join(map(str, n))} a point)")
    axes.legend(fontsize=7)
