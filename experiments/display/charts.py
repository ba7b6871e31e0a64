"""The report's charts, which Plotly draws in a browser, so that a reader can inspect values and hide methods.

Each trace has its method as ``meta``; the page's legend uses it to show and hide the method. Colours stand out on white
and on black, and colour-blind readers can tell them apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from experiments.analysis.measures import MEASURES
from experiments.analysis.results import Results, describe_n
from experiments.display.figures import PANELS
from experiments.vocabulary.methods import DASHED_BETA2, LABELS, ON_ANY_GROUND, colours


class Entry(NamedTuple):
    """A method in a chart's legend."""

    method: str
    label: str
    colour: str


def legend(results: Results) -> list[Entry]:
    """The methods that have runs; labels say how many runs a curve averages, how many diverged, how many are short."""
    entries, colour = [], colours(results.experiment.methods, ON_ANY_GROUND)
    for method in results.methods:
        shown = results.epochs[results.epochs["method"] == method]
        count = results.count(method)
        n = describe_n(shown["seed"].nunique(), len(results.experiment.seeds), count["diverged"])
        short = f", {count['short']} short" if count["short"] else ""
        entries.append(Entry(method, f"{LABELS[method]} (n = {n}{short})", colour[method]))
    order = list(results.experiment.methods)
    return sorted(entries, key=lambda entry: order.index(entry.method))


def curves(results: Results) -> list[dict[str, Any]]:
    """Charts of train loss, test loss and test accuracy against epochs: means, with bands of one standard deviation."""
    made = []
    for column, scale in PANELS.items():
        figure = _figure(MEASURES[column].label, "epoch", scale)
        for entry in legend(results):
            curve = results.curve(entry.method, column)
            for edge, fill in (("low", None), ("high", "tonexty")):
                figure.add_scatter(x=curve.index, y=_rounded(curve[edge]), mode="lines", line_width=0, fill=fill,
                                   fillcolor=_transparent(entry.colour), hoverinfo="skip", meta=entry.method)
            spread = [f"{d:.2g}, n = {k}" if d == d else f"– (n = {k})" for d, k in zip(curve["std"], curve["n"])]
            figure.add_scatter(x=curve.index, y=_rounded(curve["mean"]),
                               mode="lines+markers" if len(curve) == 1 else "lines", line_color=entry.colour,
                               name=LABELS[entry.method], meta=entry.method,
                               customdata=spread, hovertemplate="%{y:.4g} ± %{customdata}")
        if scale == "log":
            _label_decades(figure, results.epochs[column])
        made.append(figure.to_dict())
    return made


def sensitivity(grid: pd.DataFrame, epochs: int) -> tuple[dict[str, Any], list[Entry]]:
    """A chart of train loss at a grid search's last epoch against the step size, and its legend.

    One line per method and beta2. ``grid`` has the rows of `experiments.analysis.selection.averages`.
    """
    figure = _figure(f"{MEASURES['train_loss'].label} at epoch {epochs}", "α", "log")
    alphas = sorted(grid["learning_rate"].unique())
    figure.update_xaxes(type="log", tickvals=alphas, ticktext=[f"{alpha:g}" for alpha in alphas])
    entries, colour = [], colours(grid["method"].unique(), ON_ANY_GROUND)
    for method, of_method in grid[grid["diverged"] == 0].groupby("method", sort=False):
        entries.append(Entry(method, LABELS[method], colour[method]))
        for beta2, line in of_method.sort_values("learning_rate").groupby("beta2", dropna=False):
            name = LABELS[method] + (f", β2 = {beta2:g}" if beta2 == beta2 else "")
            figure.add_scatter(x=line["learning_rate"], y=_rounded(line["mean"]), mode="lines+markers", name=name,
                               line={"color": colour[method], "dash": "dash" if beta2 == DASHED_BETA2 else "solid"},
                               meta=method, hovertemplate="%{y:.4g}")
    _label_decades(figure, grid["mean"][grid["diverged"] == 0])
    return figure.to_dict(), entries


def _figure(title: str, x: str, scale: str) -> go.Figure:
    figure = go.Figure(layout=go.Layout(
        template="none", title={"text": title, "font_size": 14, "x": 0.5}, xaxis_title=x, yaxis_type=scale,
        showlegend=False, hovermode="x unified", margin={"l": 52, "r": 12, "t": 36, "b": 42}, height=320,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)"))
    return figure.update_yaxes(automargin=True)


def _label_decades(figure: go.Figure, values: pd.Series) -> None:
    """Label a logarithmic axis with whole values; Plotly writes single digits between the powers of ten."""
    low, high = values.min(), values.max()
    steps = (1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5) if high < 1000 * low else (1,)
    ticks = [step * 10.0**decade for decade in range(-8, 4) for step in steps]
    shown = [tick for tick in ticks if 0.8 * low <= tick <= 1.2 * high]
    figure.update_yaxes(tickvals=shown, ticktext=[f"{tick:g}" for tick in shown])


def _rounded(values: pd.Series) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"
