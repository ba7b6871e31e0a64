"""Draws curves against epochs from records: the figures of the paper, and those of one experiment.

Lines are means over seeds. Bands are one standard deviation to either side, clipped to the runs' range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

import matplotlib
import pandas as pd
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from experiments.analysis.measures import MEASURES
from experiments.analysis.results import Results
from experiments.analysis.step_size import first_epoch_after_drop
from experiments.claims import parts
from experiments.display.drawing import STYLE, label_plainly, save
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.methods import BOUNDED_METHODS, DASHES, FIVE, LABELS, STRATEGY_METHODS, colours
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
            _fit_ratios(axes, curves, label)
        if scale == "log":
            label_plainly(axes)
        if column in INSETS and after is not None:
            _draw_inset(axes.inset_axes(INSETS[column]), curves, colour, after,
                        "after the step size drops" if drops else f"from epoch {after} on")


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


def _fit_ratios(axes, curves: Mapping[str, pd.DataFrame], label: str) -> None:
    """Fit the axis to the ratios once they have settled; the title says if it cuts off higher ones."""
    values = pd.concat(curves.values())
    settled = pd.concat(curve["high"][curve.index > SETTLED * curve.index.max()] for curve in curves.values())
    highest = settled.max() * 1.01
    axes.set_ylim(values["low"].min() * 0.99, highest)
    if values["high"].max() > highest:
        axes.set_title(f"{label}, cut above", fontsize=10)


def _draw_inset(axes, curves: Mapping[str, pd.DataFrame], colour: Mapping[str, str], first: int, title: str) -> None:
    """Draw the curves from the epoch ``first`` on."""
    _draw_curves(axes, {method: curve[curve.index >= first] for method, curve in curves.items()}, colour)
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


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
