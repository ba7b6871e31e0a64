"""The paper's figures from records: each row an experiment; train loss, test loss and test accuracy against epochs.

Lines are means over the seeds, bands one standard deviation to either side. Equal records give equal files where the
version of matplotlib is equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.results import LABELS, Results

# The experiments in each figure's rows, top to bottom.
PAPER = {"2": ("mnist_logistic",)}
PANELS = (("train_loss", "train loss", "log"), ("test_loss", "test loss", "linear"),
          ("test_accuracy", "test accuracy", "linear"))
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {"sgd": "#000000", "adam": "#E69F00", "nadam": "#56B4E9", "nadam_mxnet": "#CC79A7", "amsgrad": "#009E73",
           "namsg": "#D55E00"}
STYLE = {"font.size": 10, "svg.hashsalt": "namsg-mx", "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
         "axes.spines.right": False}


def draw(rows: Sequence[Results], name: str, folder: Path) -> list[Path]:
    """Write ``name``.png and ``name``.svg into the folder and return their paths."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 3.6 * len(rows)), layout="constrained")
        for axes, results in zip(figure.subplots(len(rows), len(PANELS), squeeze=False), rows):
            _draw_row(axes, results)
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
    epochs = results.epochs[results.epochs["method"] == method]
    by_epoch = epochs.groupby("epoch")[column]
    mean, deviation = by_epoch.mean(), by_epoch.std().fillna(0)   # no deviation of a single run
    line, = panel.plot(mean.index, mean, color=COLOURS[method], label=_legend(results, method), linewidth=1.5,
                       marker="o" if len(mean) == 1 else None)
    panel.fill_between(mean.index, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, linewidth=0)


def _legend(results: Results, method: str) -> str:
    diverged = (results.runs[results.runs["method"] == method]["status"] == "diverged").sum()
    n = results.epochs[results.epochs["method"] == method]["seed"].nunique()
    return f"{LABELS[method]} (n = {n}" + (f", {diverged} diverged)" if diverged else ")")
