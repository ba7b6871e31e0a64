"""The report's charts, which Plotly draws in a browser, so that a reader can inspect values and hide methods.

Each trace has its method as ``meta``; the page's legend uses it to show and hide the method. Colours stand out on white
and on black, and colour-blind readers can tell them apart.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from experiments.analysis.measures import MEASURES
from experiments.analysis.results import Results
from experiments.analysis.selection import along_step_size
from experiments.display.figures import BASE, PANELS, SETTLED, ratios_of, title_of_ratios
from experiments.vocabulary.methods import LABELS, ON_ANY_GROUND, colours, dashes

# A curve is hidden at first if it strays from the median of all values this many times as far as the median curve.
FAR = 4
PLOTLYS = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}   # by matplotlib's names of dashes


class Entry(NamedTuple):
    """A method in a chart's legend; ``shown``: from the first, as its curve does not flatten the others."""

    method: str
    label: str
    colour: str
    shown: bool


def legend(results: Results) -> list[Entry]:
    """The methods that have runs; labels say how many runs a curve averages, how many diverged, how many are short."""
    entries, colour = [], colours(results.experiment.methods, ON_ANY_GROUND)
    flattening = set()
    for column, scale in PANELS.items():
        flattening |= _flattening({m: results.curve(m, column)["mean"] for m in results.methods}, scale)
    for method in results.methods:
        short = results.count_runs(method)["short"]
        n = results.describe_n(method) + (f", {short} short" if short else "")
        entries.append(Entry(method, f"{LABELS[method]} (n = {n})", colour[method], method not in flattening))
    return entries


def curves(results: Results, entries: list[Entry]) -> list[dict[str, Any]]:
    """Train loss, test loss and test accuracy against epochs: means, and bands of one standard deviation.

    ``entries``: the `legend` of these results.
    If NAMSG is beside others, the second is the train loss over NAMSG's, enlarged so that small differences show.
    """
    made = [_panel(entries, {entry.method: results.curve(entry.method, column) for entry in entries},
                   MEASURES[column].label, scale) for column, scale in PANELS.items()]
    over = ratios_of(results)
    if over:
        settled = pd.concat(over[entry.method] for entry in entries if entry.shown)
        ratio = _panel(entries, over, title_of_ratios(results, over), "linear")
        settled = settled[settled.index > SETTLED * settled.index.max()]
        low, high = settled["low"].min(), settled["high"].max()
        margin = 0.05 * (high - low) or 0.05
        ratio["layout"]["yaxis"]["range"] = [low - margin, high + margin]
        made.insert(1, ratio)
    return made


def _panel(entries: list[Entry], drawn: Mapping[str, pd.DataFrame], title: str, scale: str) -> dict[str, Any]:
    figure = _figure(title, "epoch", scale)
    for entry in entries:
        curve, common = drawn[entry.method], {"meta": entry.method, "visible": entry.shown}
        for edge, fill in (("low", None), ("high", "tonexty")):
            figure.add_scatter(x=curve.index, y=_rounded(curve[edge]), mode="lines", line_width=0, fill=fill,
                               fillcolor=_transparent(entry.colour), hoverinfo="skip", **common)
        spread = [f"{d:.2g}, n = {k}" if d == d else f"– (n = {k})" for d, k in zip(curve["std"], curve["n"])]
        figure.add_scatter(x=curve.index, y=_rounded(curve["mean"]),
                           mode="lines+markers" if len(curve) == 1 else "lines", line_color=entry.colour,
                           name=LABELS[entry.method], customdata=spread, hovertemplate="%{y:.4g} ± %{customdata}",
                           **common)
    if scale == "log":
        _label_decades(figure, pd.concat(curve["mean"] for curve in drawn.values()))
    return figure.to_dict()


def _flattening(values: Mapping[str, pd.Series], scale: str) -> set[str]:
    """The methods beside whose far values the other methods' curves could not be told apart. Never NAMSG."""
    on_axis = {method: np.log(of_method[of_method > 0]) if scale == "log" else of_method
               for method, of_method in values.items() if len(of_method)}
    if not on_axis:
        return set()
    middle = pd.concat(on_axis.values()).median()
    reach = pd.Series({method: (of_method - middle).abs().max() for method, of_method in on_axis.items()})
    return {*reach.index[reach > FAR * reach.median()]} - {BASE}


def sensitivity(grid: pd.DataFrame, epochs: int) -> tuple[dict[str, Any], list[Entry]]:
    """A chart of train loss at a grid search's last epoch against the step size, and its legend.

    One line per method and beta2, of the lowest losses over all other hyper-parameters. ``grid`` has the rows of
    `experiments.analysis.selection.averages`.
    """
    figure = _figure(f"{MEASURES['train_loss'].label} at epoch {epochs}", "α", "log")
    alphas = sorted(grid["learning_rate"].dropna().unique())
    figure.update_xaxes(type="log", tickvals=alphas, ticktext=[f"{alpha:g}" for alpha in alphas])
    entries, colour = [], colours(grid["method"].unique(), ON_ANY_GROUND)
    points = along_step_size(grid)
    dash = dashes(points["beta2"])
    flattening = _flattening(dict(iter(points.groupby("method")["mean"])), "log")
    for method, of_method in points.groupby("method", sort=False):
        entries.append(Entry(method, LABELS[method], colour[method], method not in flattening))
        for beta2, line in of_method.sort_values("learning_rate").groupby("beta2", dropna=False):
            name = LABELS[method] + (f", β2 = {beta2:g}" if beta2 == beta2 else "")
            figure.add_scatter(x=line["learning_rate"], y=_rounded(line["mean"]), mode="lines+markers", name=name,
                               line={"color": colour[method], "dash": PLOTLYS[dash.get(beta2, "-")]},
                               meta=method, visible=method not in flattening, hovertemplate="%{y:.4g}")
    _label_decades(figure, points["mean"])
    return figure.to_dict(), entries


def _figure(title: str, x: str, scale: str) -> go.Figure:
    figure = go.Figure(layout=go.Layout(
        template="none", title={"text": title, "font_size": 14, "x": 0.5}, xaxis_title=x, yaxis_type=scale,
        showlegend=False, hovermode="x unified", margin={"l": 52, "r": 12, "t": 36, "b": 42}, height=320,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)"))
    return figure.update_xaxes(automargin=True).update_yaxes(automargin=True)


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
