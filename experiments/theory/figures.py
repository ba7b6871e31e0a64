"""Draws Figure 1 (`draw_gain`, seconds) and the theory beside the real optimizer (`draw_theory`, half a minute).

Both are computed from equations and seeded simulations, and read no records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.claims.evidence import THEORY_COUNTEREXAMPLES, THEORY_GROWTH, THEORY_REGRET
from experiments.claims.theory import BETA, BETA2
from experiments.display.drawing import STYLE, save
from experiments.theory.dynamics import measured_rate
from experiments.theory.online import Logistic, Quadratics, counterexamples, play, play_slopes, settings
from experiments.theory.progress import follow
from experiments.vocabulary.files import write_atomically
from experiments.vocabulary.methods import COLOURS, LABELS, METHOD_OF
from namsg_mx.schedules import HarmonicDecay
from namsg_mx.theory.gain import GrowthRate, convergence_region, eigenvalues, growth_rate, max_gain_expectation
from namsg_mx.theory.regret import (
    amsgrad_bound,
    amsgrad_coefficients,
    best_fixed_point,
    bounded_quantities,
    namsg_bound,
    namsg_coefficients,
    regret,
)

# Figure 1's panels by alpha * lambda, with noise levels around which the sign or the order of the curves changes.
PANELS = {0.4: (0.1, 0.5, 1, 2), 0.001: (0.1, 1, 3, 10), -0.0002: (0.1, 3, 10, 50), -0.0005: (0.1, 3, 10, 30)}
DISTANCES = {0.0: "#000000", 0.9: "#D55E00", 3.0: "#0072B2"}   # a colour means an observation distance throughout
WIDTHS = {0.0: 3.2, 0.9: 1.9, 3.0: 0.9}   # of their lines: some lines coincide
NOISE = np.geomspace(0.1, 1000, 17)   # up to where noise alone makes (11) diverge along all of these directions
# The panels of growth by alpha * lambda, with the range drawn: where growth changes its sign.
GROWTH_PANELS = {0.4: (-0.5, 0.6), 0.001: (-0.025, 0.025), -0.0005: (-0.012, 0.025)}
ROUNDS = 2000   # of the online problems
PROBLEMS: Mapping[str, type[Logistic] | type[Quadratics]] = {
    "online logistic regression": Logistic, "random convex quadratics": Quadratics}
METHODS = {optimizer: LABELS[method] for optimizer, method in METHOD_OF.items()}
METHOD_COLOURS = {optimizer: COLOURS[method] for optimizer, method in METHOD_OF.items()}


def draw_gain(folder: Path) -> list[Path]:
    """Draw Figure 1 as figure1.png and .svg into the folder and return their paths.

    (a) to (d): Psi against eta at one alpha * lambda each, a line per noise level. (e): Psi against alpha * lambda.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 7.2), layout="constrained")
        panels = figure.subplot_mosaic([["a", "a", "b", "b", "c", "c"], ["d", "d", "e", "e", "e", "e"]])
        etas = np.linspace(0, 5, 201)
        for name, (at, levels) in zip("abcd", PANELS.items()):
            for noise, grey, style in zip(levels, ("#000000", "#555555", "#888888", "#AAAAAA"), ("-", "--", "-.", ":")):
                panels[name].plot(etas, max_gain_expectation(at, BETA, etas, noise), style, color=grey,
                                  linewidth=1.8, label=f"σ/|λ| = {noise:g}")
            low, high = panels[name].get_ylim()
            panels[name].set(title=f"({name}) αλ = {_number(at)}", xlabel="observation distance η", ylabel="Ψ",
                             ylim=(low, high + 0.35 * (high - low)))   # room for the legend
            panels[name].legend(fontsize=8.5, ncols=2, loc="upper center")
        tau = np.geomspace(1e-4, 4, 400)
        for eta, colour in {**DISTANCES, 5.0: "#009E73"}.items():
            for noise, style in ((0.1, "-"), (1, "--")):
                panels["e"].plot(tau, max_gain_expectation(tau, BETA, eta, noise), style, color=colour,
                                 label=f"η = {eta:g}, σ/|λ| = {noise:g}")
        panels["e"].set(title="(e) against the curvature", xlabel="αλ", ylabel="Ψ", xscale="log", ylim=(-0.75, 0.35))
        panels["e"].legend(fontsize=8.5, ncols=2, loc="lower left")
        for panel in panels.values():
            panel.axhline(0, color="#B22222", linewidth=0.8)
        panels["e"].annotate("Ψ < 0", (1.3e-4, -0.03), color="#B22222", va="top", fontsize=9)
        figure.suptitle(f"Max gain expectation Ψ of an iteration, β = {BETA:g}; below 0 (red line) the paper expects "
                        "convergence", x=0.01, ha="left", fontweight="bold")
        return save(figure, "figure1", folder)


def draw_theory(folder: Path) -> list[Path]:
    """Draw theory.png and .svg into the folder, write their numbers beside them, and return all paths.

    Top row, Section 3: the real optimizer's rate beside max |xi|, and simulated growth beside Psi. Bottom row, Section
    4: regret beside its bounds, the bounds' coefficients, and Reddi et al.'s counterexamples. Numbers:
    theory_growth.csv, theory_regret.csv and theory_counterexamples.csv.
    """
    growth, regrets, counterexamples_played = growth_table(), regret_table(), counterexample_table()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(17, 7.6), layout="constrained")
        panels = figure.subplots(2, 4)
        _draw_rates(panels[0, 0])
        for panel, (tau, limits) in zip(panels[0, 1:], GROWTH_PANELS.items()):
            _draw_growth(panel, tau, limits, growth)
        for panel, problem in zip(panels[1], PROBLEMS):
            _draw_regret(panel, problem, regrets[regrets["problem"] == problem])
        _draw_coefficients(panels[1, 2])
        _draw_counterexamples(panels[1, 3], counterexamples_played)
        paths = save(figure, "theory", folder)
    return [*paths, *(_write(table, folder / file.name) for table, file in (
        (growth, THEORY_GROWTH), (regrets, THEORY_REGRET), (counterexamples_played, THEORY_COUNTEREXAMPLES)))]


def _write(table: pd.DataFrame, path: Path) -> Path:
    write_atomically(path, table.to_csv(index=False, float_format="%.6g").encode())
    return path


def growth_table() -> pd.DataFrame:
    """Psi beside the simulated growth rate of (11), over Figure 1's ranges: a row per point.

    Columns: tau, beta, eta, noise; psi; growth and its standard_error; difference, which is growth less growth at
    eta = 0 with the same noise, and its standard error difference_error.
    """
    eta, noise = np.meshgrid([*DISTANCES], NOISE, indexing="ij")
    rows = []
    for tau in follow([*PANELS, 0.1, 0.01, 0.0001, 0.0002, 0.0005], "growth of (11)"):
        growth = growth_rate(tau, BETA, eta, noise, updates=3000, chains=512)
        difference = GrowthRate(growth.chains - growth.chains[0])   # DISTANCES begin with 0
        columns = {"tau": np.full_like(eta, tau), "beta": np.full_like(eta, BETA), "eta": eta, "noise": noise,
                   "psi": max_gain_expectation(tau, BETA, eta, noise), "growth": growth.mean,
                   "standard_error": growth.standard_error, "difference": difference.mean,
                   "difference_error": difference.standard_error}
        rows.append(pd.DataFrame({name: column.ravel() for name, column in columns.items()}))
    return pd.concat(rows, ignore_index=True)


def regret_table() -> pd.DataFrame:
    """The regret of AMSGRAD and NAMSG beside their bounds: a row per problem, method and number of rounds T.

    Columns: problem, method, T; regret and bound; each term of the bound and the quantity that it bounds
    (`namsg_mx.theory.regret.bounded_quantities`), as term_1 and quantity_1 and so on.
    """
    bounds = (-1.0, 1.0)
    rows = []
    for name, problem, start, alpha, beta1 in follow(_problems(), "regret and its bounds"):
        rounds = np.unique(np.geomspace(min(10, len(problem.a)), len(problem.a), 12).astype(int))
        dimension = problem.a.shape[-1]
        best = [best_fixed_point(problem.first(t).total, np.zeros(dimension), bounds) for t in rounds]
        for method, bound in (("amsgrad", amsgrad_bound), ("namsg", namsg_bound)):
            arguments = settings(method, alpha, HarmonicDecay(beta1), BETA2)
            losses, x, run = play(problem, method, arguments, [start] * dimension, bounds)
            for t, point in zip(rounds, best):
                terms = bound(run.first(t), bounds[1] - bounds[0])
                quantities = bounded_quantities(run.first(t), x[:t + 1], point.x)
                rows.append({"problem": name, "method": method, "T": t, "regret": regret(losses[:t], point),
                             "bound": terms.total,
                             **{f"{kind}_{i}": value for kind, values in (("term", terms), ("quantity", quantities))
                                for i, value in enumerate(values, start=1)}})
    return pd.DataFrame(rows)


def _problems() -> list[tuple[str, Logistic | Quadratics, float, float, float]]:
    """Each problem: its name, itself, the start of all elements, alpha and beta1."""
    drawn = [(name, kind.random(ROUNDS, 8, seed=0), 0.5, 0.1, BETA) for name, kind in PROBLEMS.items()]
    return [*drawn, ("one step from corner to corner", Quadratics.far_away(), 1.0, 2.0, 0.1)]


def counterexample_table() -> pd.DataFrame:
    """Reddi et al.'s counterexamples: a row per method and round t.

    Columns: method, t; deterministic, x in the deterministic problem; stochastic, mean x over the stochastic draws.
    """
    slopes = counterexamples(3 * ROUNDS)
    every = 50
    rows = [{"method": method, "t": every * (i + 1), "deterministic": x[0], "stochastic": x[1:].mean()}
            for method in follow(METHODS, "counterexamples")
            for i, x in enumerate(play_slopes(method, slopes, alpha=0.5, every=every))]
    return pd.DataFrame(rows)


def _draw_rates(panel) -> None:
    for eta, colour in DISTANCES.items():
        limit = convergence_region(BETA, eta)
        tau = np.geomspace(1e-3, 1.05 * limit, 300)
        panel.plot(tau, np.abs(eigenvalues(tau, BETA, eta, noise=0, delta=0)).max(axis=0), color=colour,
                   label=f"η = {eta:g}")
        measured = tau[::20]
        panel.plot(measured, measured_rate(measured, BETA, eta), "o", color=colour, markersize=4, fillstyle="none")
        panel.axvline(limit, color=colour, linewidth=0.8, linestyle=":")
    panel.plot([], [], "o", color="#666666", markersize=4, fillstyle="none", label="the optimizer itself")
    panel.plot([], [], ":", color="#666666", linewidth=0.8, label="end of convergence")
    panel.set(title="Without noise: max |ξ|, factor of an update", xlabel="αλ", xscale="log", ylim=(0.3, 1.45))
    panel.legend(fontsize=8.5, ncols=2, loc="upper left")


def _draw_growth(panel, tau: float, limits: tuple[float, float], growth: pd.DataFrame) -> None:
    smooth = np.geomspace(NOISE[0], NOISE[-1], 200)
    for eta, colour in DISTANCES.items():
        rows = growth[(growth["tau"] == tau) & (growth["eta"] == eta)]
        panel.plot(smooth, max_gain_expectation(tau, BETA, eta, smooth), color=colour, linewidth=WIDTHS[eta],
                   label=f"Ψ, η = {eta:g}")
        panel.errorbar(NOISE, rows["growth"], 2 * rows["standard_error"], fmt="o", color=colour, markersize=4,
                       fillstyle="none")
    panel.plot([], [], "o", color="#666666", markersize=4, fillstyle="none", label="growth of (11), simulated")
    panel.axhline(0, color="#888888", linewidth=0.8)
    low, high = limits
    panel.set(title=f"With noise, αλ = {_number(tau)}: rate per update", xlabel="noise σ/|λ|", xscale="log",
              ylim=(low, high + 0.35 * (high - low)))
    panel.legend(fontsize=8.5, loc="upper left", ncols=2, framealpha=1)


def _draw_regret(panel, problem: str, regrets: pd.DataFrame) -> None:
    for method in ("amsgrad", "namsg"):
        rows = regrets[regrets["method"] == method]
        for column, style, label in (("regret", "-", "regret"), ("bound", "--", "bound")):
            panel.plot(rows["T"], rows[column], style, color=METHOD_COLOURS[method],
                       label=f"{METHODS[method]}, {label}")
    panel.set(title=f"Regret: {problem}", xlabel="rounds T", xscale="log", yscale="log")
    panel.legend(fontsize=8.5)


def _draw_coefficients(panel) -> None:
    beta1 = np.linspace(0, 0.99, 200)
    coefficients = zip(namsg_coefficients(beta1, BETA2), amsgrad_coefficients(beta1, BETA2))
    for name, (namsg, amsgrad), style in zip(("1st", "2nd", "3rd"), coefficients, ("-", "--", "-.")):
        panel.plot(beta1, namsg / amsgrad, style, color="#444444", label=f"{name} term")
    panel.axhline(1, color="#888888", linewidth=0.8)
    panel.set(title="Bounds' terms, NAMSG's / AMSGRAD's", xlabel="β1", ylim=(0, 1.1))
    panel.legend(fontsize=8.5)


def _draw_counterexamples(panel, played: pd.DataFrame) -> None:
    for method, label in METHODS.items():
        rows = played[played["method"] == method]
        for column, style in (("deterministic", "-"), ("stochastic", "--")):
            panel.plot(rows["t"], rows[column], style, color=METHOD_COLOURS[method],
                       label=label if style == "-" else None)
    panel.plot([], [], "--", color="#666666", label="stochastic, mean")
    panel.set(title="Reddi et al.: x, best at −1", xlabel="rounds t")
    panel.legend(fontsize=8.5)


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
