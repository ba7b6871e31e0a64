"""The claims of Sections 3 and 4, judged by the equations and by the simulations that `figure theory` records.

'Growth' is the simulated growth rate per update of the dynamic system (11) along one eigenvector. The paper estimates
it by Psi: what the paper reads off Psi is judged by growth, except for the regions of convergence. A difference counts
if it is above three standard errors; growths at two eta are simulated with the same noise in each step.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable

import numpy as np
import pandas as pd

from experiments.claims.claim import NOTHING, Claim, Computed, Judgement
from experiments.claims.decisions import FAILS, HOLDS, PARTLY, TOO_FEW, verdict_of
from experiments.claims.evidence import THEORY_COUNTEREXAMPLES, THEORY_GROWTH, THEORY_REGRET, Evidence
from experiments.claims.parts import GAIN, REGRET
from experiments.vocabulary.methods import LABELS, METHOD_OF
from namsg_mx.theory.gain import convergence_region
from namsg_mx.theory.regret import amsgrad_coefficients, namsg_coefficients

BETA, BETA2 = 0.9, 0.99
ERRORS = 3   # a difference counts if it is above so many standard errors
SIX_DIGITS = 1e-5   # relative error of a number that is recorded with six digits


def _level(r: float) -> str:
    """A noise level with two digits: 180, not 1.8e+02."""
    return f"{float(f'{r:.2g}'):g}"


def _above_zero(distinct: pd.Series) -> str:
    """The verdict on 'above 0 at all points', from values in standard errors: in part if only at some points."""
    above, below = distinct > ERRORS, distinct < -ERRORS
    if above.any():
        return HOLDS if above.all() else PARTLY
    return FAILS if below.any() else TOO_FEW


def _judged_by_growth(judge: Callable[[pd.DataFrame], tuple[str, str, pd.DataFrame]]
                      ) -> Callable[[Evidence], Judgement]:
    """Turn a rule on the rows of theory_growth.csv, one per (tau, eta, noise), into a rule on the evidence."""
    def judged(evidence: Evidence) -> Judgement:
        growth = evidence.table(THEORY_GROWTH)
        if growth.empty:
            return NOTHING
        # Rules take the first and the last noise level.
        verdict, finding, numbers = judge(growth.sort_values(["tau", "eta", "noise"], ascending=[False, True, True]))
        return Judgement(verdict, finding, len(numbers), numbers.reset_index(drop=True))
    return judged


def _beside_no_distance(growth: pd.DataFrame, tau: float, etas: tuple[float, ...]) -> pd.DataFrame:
    """Growth and Psi at each of these eta, beside eta = 0: a row per eta and noise level."""
    at = growth[np.isclose(growth["tau"], tau)]
    zero = at[at["eta"] == 0].set_index("noise")
    rows = []
    for eta in etas:
        remote = at[at["eta"] == eta].set_index("noise")
        rows.append(pd.DataFrame({
            "τ": tau, "r": zero.index, "η": eta, "growth at η": remote["growth"], "growth at 0": zero["growth"],
            "growth at 0 / error": zero["growth"] / zero["standard_error"], "Ψ at η": remote["psi"],
            "Ψ at 0": zero["psi"], "difference": remote["difference"],
            "difference / error": remote["difference"] / remote["difference_error"]}))
    return pd.concat(rows, ignore_index=True)


def _converging(growth: pd.DataFrame, tau: float) -> pd.DataFrame:
    """`_beside_no_distance` at eta = 0.9 and 3, at the noise levels where at least one of the three eta converges."""
    rows = _beside_no_distance(growth, tau, (0.9, 3.0))
    lowest = rows[["growth at η", "growth at 0"]].min(axis=1).groupby(rows["r"]).transform("min")
    return rows[lowest < 0]


@_judged_by_growth
def _high_curvature(growth):
    rows = _converging(growth, 0.4)
    lower = rows.groupby("r")["difference / error"].min() < -ERRORS
    return (verdict_of(lower.all()), f"lower growth than at η = 0 at {lower.sum()} of {len(lower)} noise levels, up to "
            f"r = {_level(lower.index.max())}", rows)


@_judged_by_growth
def _low_curvature_with_noise(growth):
    rows = _converging(growth, 0.001)
    best = rows.loc[rows.groupby("r")["difference / error"].idxmin()].set_index("r")
    lower, last = best["difference / error"] < -ERRORS, best.iloc[-1]
    levels = ", ".join(map(_level, lower.index[lower]))
    return _above_zero(-best["difference / error"].iloc[[-1]]), (
        f"lower growth than at η = 0 at r = {levels or 'none'} of {', '.join(map(_level, lower.index))}; at "
        f"{_level(last.name)} {last['growth at η']:.5f} with η = {last['η']:g}, {last['growth at 0']:.5f} with 0"), rows


@_judged_by_growth
def _trapped(growth):
    rows = growth[(growth["tau"] < 0) & (growth["eta"] == 0)]
    trapped = rows["growth"] < -ERRORS * rows["standard_error"]
    where = [f"r = {', '.join(map(_level, of_tau['noise']))} at αλ = {tau:g}"
             for tau, of_tau in rows[trapped].groupby("tau")]
    return (verdict_of(trapped.any()), f"(11) contracts to the saddle point at {trapped.sum()} of {len(rows)} points"
            + (f": {'; '.join(where)}" if where else ""), rows)


@_judged_by_growth
def _leaves_saddles(growth):
    rows = pd.concat([_beside_no_distance(growth, tau, (3.0,)) for tau in (-0.0002, -0.0005)])
    rows = rows[rows["growth at 0 / error"] < -ERRORS]
    higher, lower = rows["difference / error"] > ERRORS, rows["difference / error"] < -ERRORS
    texts = [f"αλ = {tau:g}: " + ", ".join(
        f"{row['difference']:+.5f} of {row['growth at 0']:.5f} at r = {_level(row['r'])}"
        for _, row in of_tau.iterrows())
        for tau, of_tau in rows.groupby("τ")]
    return _above_zero(rows["difference / error"]), (
        f"higher at {higher.sum()} and lower at {lower.sum()} of {len(rows)} points where it is trapped, above 0 at "
        f"{(rows['growth at η'] > 0).sum()}; " + "; ".join(texts)), rows


@_judged_by_growth
def _noise_helps(growth):
    at = growth[growth["eta"] == 0]
    rows, verdicts, texts = [], [], []
    for tau in sorted(at["tau"][at["tau"] < 0].unique()):
        saddle, valley = (at[np.isclose(at["tau"], value)].set_index("noise").sort_index() for value in (tau, -tau))
        first, lowest, last = saddle.iloc[0], saddle.loc[saddle["growth"].idxmin()], saddle.iloc[-1]
        # With common noise the error of the difference is unknown here, but at most the sum of both errors.
        errors = (saddle["growth"] - first["growth"]) / (saddle["standard_error"] + first["standard_error"])
        helped = saddle.index[errors > ERRORS]
        escapes = [r for r in helped if valley["growth"][r] < 0]
        verdicts.append(HOLDS if escapes else PARTLY if len(helped) else FAILS)
        texts.append(f"αλ = {tau:g}: growth {first['growth']:+.4f} at r = {first.name:g}, "
                     f"{lowest['growth']:+.4f} at {_level(lowest.name)}, {last['growth']:+.4f} at {last.name:g}"
                     + (f"; above the first from {_level(helped.min())} on, with "
                        f"{saddle['growth'][helped.min()]:+.4f}, where αλ = {-tau:g} has "
                        f"{valley['growth'][helped.min()]:+.4f}" if len(helped) else ""))
        rows.append(saddle.assign(valley=valley["growth"]).reset_index())
    verdict = next((verdict for verdict in (FAILS, PARTLY) if verdict in verdicts), HOLDS)
    return verdict, "; ".join(texts), pd.concat(rows)


@_judged_by_growth
def _low_curvature(growth):
    rows = pd.concat([_beside_no_distance(growth, tau, (3.0,)) for tau in (0.01, 0.001, 0.0001)])
    rows = rows[rows[["growth at η", "growth at 0"]].min(axis=1) < 0]
    texts = []
    for tau, of_tau in rows.groupby("τ", sort=False):
        lower = of_tau["r"][of_tau["difference / error"] < -ERRORS]
        first = of_tau.iloc[0]
        where = f"r from {_level(lower.min())} to {_level(lower.max())}" if len(lower) else "no r"
        texts.append(f"αλ = {tau:g}: lower at {where} of {_level(of_tau['r'].min())} to {_level(of_tau['r'].max())}, "
                     f"{first['growth at η']:.5f} at η = 3 and {first['growth at 0']:.5f} at 0 for r = "
                     f"{_level(first['r'])}")
    return _above_zero(-rows["difference / error"]), "; ".join(texts), rows


@_judged_by_growth
def _psi_is_a_bound(growth):
    excess = (growth["growth"] - growth["psi"]) / growth["standard_error"]
    beyond = excess > ERRORS
    largest = f", by up to {(growth['growth'] - growth['psi'])[beyond].max():.3f} per update" if beyond.any() else ""
    return verdict_of(not beyond.any()), f"growth is above Ψ at {beyond.sum()} of {len(growth)} points{largest}", growth


@lru_cache(maxsize=None)
def _regions() -> pd.DataFrame:
    """Noise levels r from 0 to 3, and the largest alpha * lambda with Psi < 0 at each, by eta = 0, 0.9, 3 and 5."""
    levels = np.arange(0, 3.25, 0.25)
    return pd.DataFrame({"r": levels, **{f"η = {eta:g}": convergence_region(BETA, eta, levels)
                                         for eta in (0.0, 0.9, 3.0, 5.0)}})


def _up_to(levels: pd.Series, holds: pd.Series) -> tuple[str, str]:
    """The verdict on what is asked for at each noise level, and the finding's beginning: up to where it holds."""
    upto = f"so up to r = {levels[holds].max():g} of {levels.max():g}; " if holds.any() else ""
    return HOLDS if holds.all() else PARTLY if holds.any() else FAILS, upto


def _diverges(evidence):
    numbers = _regions()
    limit = numbers["η = 5"].iloc[0]
    return Judgement(verdict_of(limit < 0.4), f"αλ = 0.4 is outside of the region at η = 5, which ends at {limit:.3f} "
                     "without noise", 1, numbers[:1])


def _region(evidence):
    numbers = _regions()
    verdict, upto = _up_to(numbers["r"], (numbers["η = 0.9"] > 0.4) & (numbers["η = 0.9"] > numbers["η = 3"]))
    shown = numbers.set_index("r").loc[[0, 1, 1.5, 1.75, 3]]
    finding = "; ".join(f"{name} up to {', '.join(f'{x:.2f}' for x in shown[name])}"
                        for name in ("η = 0.9", "η = 3", "η = 0"))
    at = ", ".join(f"{r:g}" for r in shown.index)
    return Judgement(verdict, f"{upto}{finding} (r = {at})", len(numbers), numbers)


def _region_shrinks(evidence):
    numbers = _regions()
    ends = numbers.drop(columns="r")
    is_halved = ends["η = 3"] <= ends["η = 0.9"] / 2
    verdict, upto = _up_to(numbers["r"], (ends.diff(axis=1).iloc[:, 1:] < 0).all(axis=1) & is_halved)
    shown = numbers.set_index("r").loc[[0, 1, 3]]
    return Judgement(verdict, upto + "; ".join(f"{', '.join(f'{x:.2g}' for x in row)} at r = {r:g}"
                                               for r, row in zip(shown.index, shown.to_numpy()))
                     + " (η = 0, 0.9, 3, 5)", len(numbers), numbers)


def _coefficients(evidence):
    beta1 = np.array([0.5, 0.9, 0.99])
    ratios = [ours / theirs for ours, theirs in zip(namsg_coefficients(beta1, BETA2),
                                                    amsgrad_coefficients(beta1, BETA2))]
    numbers = pd.DataFrame({"β1": beta1, **{f"term {i}": ratio for i, ratio in enumerate(ratios, start=1)}})
    return Judgement(verdict_of(all((ratio < 1).all() for ratio in ratios)), "NAMSG's over AMSGRAD's at β1 = 0.9: "
                     + ", ".join(f"{ratio[1]:.3f}" for ratio in ratios), len(numbers), numbers)


def _bound(evidence):
    table = evidence.table(THEORY_REGRET)
    if table.empty:
        return NOTHING
    runs = table[table["method"] == "namsg"]
    shares = pd.DataFrame({"regret": runs["regret"] / runs["bound"],
                           **{f"term {i}": runs[f"quantity_{i}"] / runs[f"term_{i}"] for i in (1, 2, 3)}})
    finding = "; ".join(f"{problem}: {of_problem.pop('regret'):.2g}, its terms "
                        + ", ".join(f"{share:.2g}" for share in of_problem.values())
                        for problem, of_problem in shares.groupby(runs["problem"]).max().to_dict("index").items())
    return Judgement(verdict_of((shares <= 1 + SIX_DIGITS).all(axis=None)), "regret over bound, at most, and what "
                     f"each term bounds over it: {finding}", len(runs), runs.reset_index(drop=True))


def _counterexamples(evidence):
    table = evidence.table(THEORY_COUNTEREXAMPLES)
    if table.empty:
        return NOTHING
    last = table[table["t"] == table["t"].max()].set_index("method").loc[["adam", "dozatnadam", "amsgrad", "namsg"]]
    right = last.loc[["amsgrad", "namsg"], ["deterministic", "stochastic"]] < 0
    wrong = last.loc[["adam", "dozatnadam"], ["deterministic", "stochastic"]] > 0
    finding = "; ".join(f"{LABELS[METHOD_OF[method]]} {row['deterministic']:.2f} and {row['stochastic']:.2f}"
                        for method, row in last.iterrows())
    return Judgement(verdict_of(right.to_numpy().all() and wrong.to_numpy().all()), f"x after {last['t'].iloc[0]} "
                     f"rounds (−1 is best): {finding}", len(last), last.reset_index())


FIGURE_THEORY = ["python -m experiments figure theory"]
DISTINCTLY = f"by more than {ERRORS} standard errors"
CLAIMS = [
    Claim("a-accelerates", GAIN, "Figure 1 (a)",
          "... a proper observation distance η accelerates the convergence for high curvature eigen-directions, ...",
          Computed("growth at αλ = 0.4, β = 0.9, the better of η = 0.9 and 3 less η = 0",
                   f"below 0 {DISTINCTLY} at every noise level of theory_growth.csv at which one of these converges",
                   _high_curvature, FIGURE_THEORY)),
    Claim("a-diverges", GAIN, "Figure 1 (a)", "... while a large η may cause divergence.",
          Computed("the largest αλ for which (11) converges without noise", "below 0.4 at η = 5", _diverges)),
    Claim("b", GAIN, "Figure 1 (b)",
          "... a positive η accelerates the convergence of low curvature eigen-directions for relatively high noise "
          "level ...",
          Computed("growth at αλ = 0.001, β = 0.9, the better of η = 0.9 and 3 less η = 0, at the highest noise level "
                   "of theory_growth.csv at which one of these converges",
                   f"below 0 {DISTINCTLY}; does not hold where it is as far above",
                   _low_curvature_with_noise, FIGURE_THEORY)),
    Claim("c-trapped", GAIN, "Figure 1 (c), (d)",
          "... momentum methods may be trapped by saddle points with small negative eigenvalues, ...",
          Computed("growth at αλ = −0.0002 and −0.0005, η = 0", f"below 0 {DISTINCTLY} at some noise level",
                   _trapped, FIGURE_THEORY)),
    Claim("c-mitigates", GAIN, "Figure 1 (c), (d)", "... and a large η can mitigate the problem.",
          Computed("growth at αλ = −0.0002 and −0.0005, η = 3 less η = 0, where that at η = 0 is below 0 "
                   f"{DISTINCTLY}",
                   f"above 0 {DISTINCTLY} at each of these noise levels; in part at some",
                   _leaves_saddles, FIGURE_THEORY)),
    Claim("c-noise", GAIN, "Figure 1 (c), (d)", "... large gradient noise is helpful to escape saddle points.",
          Computed("growth at αλ = −0.0002 and −0.0005, η = 0, less that at the smallest noise level",
                   f"above 0 {DISTINCTLY}, for both, at some noise level at which (11) converges along αλ = 0.0002 and "
                   "0.0005, so that noise frees from saddle points and does not drive apart all; in part where it is "
                   "so at other levels alone",
                   _noise_helps, FIGURE_THEORY)),
    Claim("e-domain", GAIN, "Figure 1 (e)",
          "... a moderate observation distance, such as η = 0.9, results in a large convergence domain, allowing the "
          "convergence for high curvature eigen-directions.",
          Computed("the largest αλ with Ψ < 0, at r = 0, 0.25, ..., 3",
                   "at η = 0.9 above 0.4, (a)'s high curvature, and above that at η = 3, at each; in part at some",
                   _region)),
    Claim("e-low", GAIN, "Figure 1 (e)",
          "... a large η accelerates the convergence for low curvature eigen-directions, ...",
          Computed("growth at αλ = 0.01, 0.001 and 0.0001, η = 3 less η = 0",
                   f"below 0 {DISTINCTLY} at every noise level of theory_growth.csv at which one of these converges; "
                   "in part at some",
                   _low_curvature, FIGURE_THEORY)),
    Claim("e-shrinks", GAIN, "Figure 1 (e)",
          "... the maximum eigenvalue allowed for convergence decreases rapidly as η increases, ...",
          Computed("the largest αλ with Ψ < 0, at η = 0, 0.9, 3, 5 and r = 0, 0.25, ..., 3",
                   "decreasing in η, and halved at least from 0.9 to 3, at each r; in part at some", _region_shrinks)),
    Claim("bound-of-growth", GAIN, "Section 3",
          "[The max gain expectation] ... is an upper bound of the expectation of logarithmic convergence rate in the "
          "dynamic system (11).",
          Computed("growth less Ψ, over Figure 1's ranges", f"nowhere above 0 {DISTINCTLY}",
                   _psi_is_a_bound, FIGURE_THEORY)),

    Claim("coefficients", REGRET, "Section 4",
          "... when β1 is close to 1, which is the typical situation, NAMSG has lower coefficients on all of the 3 "
          "terms.",
          Computed("coefficients of (14) divided by coefficients of (15), β2 = 0.99",
                   "below 1 at β1 = 0.5, 0.9 and 0.99", _coefficients)),
    Claim("regret-bound", REGRET, "Theorem 1", "... we have the following bound on the regret [(14)] ...",
          Computed("regret of the real optimizer on online logistic regression, on random convex quadratics and in one "
                   "step from corner to corner, over the bound; and what each of its terms bounds, over the term",
                   "at most 1 at every recorded round", _bound, FIGURE_THEORY)),
    Claim("nonconvergence", REGRET, "Section 4",
          "The positive definiteness of Γ_t results in a nonincreasing step size and avoids the non-convergence of "
          "ADAM.",
          Computed("the parameter after the last round of Reddi et al.'s counterexamples, on [−1, 1], best at −1",
                   "below 0 for AMSGRAD and NAMSG, above for ADAM and NADAM, in both problems", _counterexamples,
                   FIGURE_THEORY)),
]
