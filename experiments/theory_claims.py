"""The claims of Sections 3 and 4, judged by the equations and by the simulations that `figure theory` records.

'Growth' is the simulated growth rate of the dynamic system (11) along one eigenvector, per update; differences count
from three standard errors on. What the paper reads off Psi is judged by growth, as Psi is the paper's estimate of it,
but for the regions of convergence. Growth at two eta is that of the same noise, step by step.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
import pandas as pd

from experiments.comparison import FAILS, HOLDS, NOT_RUN, TOO_FEW
from experiments.criteria import Claim, Computed, Judgement
from experiments.evidence import Evidence
from namsg_mx.theory.gain import convergence_region
from namsg_mx.theory.regret import amsgrad_coefficients, namsg_coefficients

GAIN, REGRET = "gain", "regret"   # Sections 3 and 4
BETA, BETA2 = 0.9, 0.99
ERRORS = 3   # standard errors that make a difference
NOTHING = Judgement(NOT_RUN, "", 0, pd.DataFrame())


def _verdict(holds: bool) -> str:
    return HOLDS if holds else FAILS


def _judged_by_growth(judge: Callable[[pd.DataFrame], tuple[str, str, pd.DataFrame]]
                      ) -> Callable[[Evidence], Judgement]:
    """A rule on theory_growth.csv, a row per (tau, eta, noise), as a rule on the evidence."""
    def judged(evidence: Evidence) -> Judgement:
        growth = evidence.table("figures", "theory_growth.csv")
        if growth.empty:
            return NOTHING
        verdict, finding, numbers = judge(growth)
        return Judgement(verdict, finding, len(numbers), numbers.reset_index(drop=True))
    return judged


def _beside_no_distance(growth: pd.DataFrame, tau: float, etas: tuple[float, ...]) -> pd.DataFrame:
    """Growth and Psi at eta = 0 and at each of these eta, a row per eta and noise level."""
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
    """Growth beside that at eta = 0 at the noise levels where the better of eta = 0.9 and 3, or eta = 0, converges."""
    rows = _beside_no_distance(growth, tau, (0.9, 3.0))
    lowest = rows[["growth at η", "growth at 0"]].min(axis=1).groupby(rows["r"]).transform("min")
    return rows[lowest < 0]


def _high_curvature(growth):
    rows = _converging(growth, 0.4)
    lower = rows.groupby("r")["difference / error"].min() < -ERRORS
    return (_verdict(lower.all()), f"lower growth than at η = 0 at {lower.sum()} of {len(lower)} noise levels, up to "
            f"r = {lower.index.max():.2g}", rows)


def _low_curvature_with_noise(growth):
    rows = _converging(growth, 0.001)
    best = rows.loc[rows.groupby("r")["difference / error"].idxmin()].set_index("r")
    lower, last = best["difference / error"] < -ERRORS, best.iloc[-1]
    levels = ", ".join(f"{r:.2g}" for r in lower.index[lower])
    return _signs([-last["difference / error"]]), (
        f"lower growth than at η = 0 at r = {levels or 'none'} of {', '.join(f'{r:.2g}' for r in lower.index)}; at "
        f"{last.name:.2g} {last['growth at η']:.5f} with η = {last['η']:g}, {last['growth at 0']:.5f} with 0"), rows


def _trapped(growth):
    rows = growth[(growth["tau"] < 0) & (growth["eta"] == 0)]
    trapped = rows["growth"] < -ERRORS * rows["standard_error"]
    begins = f", from r = {rows[trapped]['noise'].min():.2g} on" if trapped.any() else ""
    return (_verdict(trapped.any()), f"(11) contracts to the saddle point at {trapped.sum()} of {len(rows)} points"
            + begins, rows)


def _leaves_saddles(growth):
    rows = pd.concat([_beside_no_distance(growth, tau, (3.0,)) for tau in (-0.0002, -0.0005)])
    rows = rows[rows["growth at 0 / error"] < -ERRORS]
    higher, lower = rows["difference / error"] > ERRORS, rows["difference / error"] < -ERRORS
    verdict = HOLDS if higher.mean() >= 0.5 else FAILS if lower.mean() > 0.5 else TOO_FEW
    texts = [f"αλ = {tau:g}: " + ", ".join(
        f"{row['difference']:+.5f} of {row['growth at 0']:.5f} at r = {row['r']:.2g}" for _, row in of_tau.iterrows())
        for tau, of_tau in rows.groupby("τ")]
    return verdict, (f"higher at {higher.sum()} and lower at {lower.sum()} of {len(rows)} points where it is trapped; "
                     + "; ".join(texts)), rows


def _noise_helps(growth):
    rows = growth[(growth["tau"] < 0) & (growth["eta"] == 0)]
    found, texts = [], []
    for tau, of_tau in rows.groupby("tau"):
        of_tau = of_tau.set_index("noise").sort_index()
        first, lowest, last = of_tau.iloc[0], of_tau.loc[of_tau["growth"].idxmin()], of_tau.iloc[-1]
        # With common noise the error of a difference is not known here, but at most the sum of both.
        errors = (of_tau["growth"] - first["growth"]) / (of_tau["standard_error"] + first["standard_error"])
        found.append(errors.iloc[1:].max())
        above = errors.index[errors > ERRORS]
        texts.append(f"αλ = {tau:g}: growth {first['growth']:+.4f} at r = {first.name:g}, "
                     f"{lowest['growth']:+.4f} at {lowest.name:.2g}, {last['growth']:+.4f} at {last.name:g}"
                     + (f"; above the first from {above.min():.2g} on" if len(above) else ""))
    return _verdict(min(found) > ERRORS), "; ".join(texts), rows


def _low_curvature(growth):
    rows = pd.concat([_beside_no_distance(growth, tau, (3.0,)) for tau in (0.01, 0.001, 0.0001)])
    rows = rows[np.isclose(rows["r"], rows["r"].min())]
    finding = "; ".join(f"αλ = {row['τ']:g}: {row['growth at η']:.5f} at η = 3, {row['growth at 0']:.5f} at 0 "
                        f"({row['difference / error']:+.1f} errors)" for _, row in rows.iterrows())
    return _signs(-rows["difference / error"]), finding, rows


def _signs(differences) -> str:
    """The verdict on 'all of them are above 0', in standard errors."""
    differences = np.asarray(differences)
    return HOLDS if (differences > ERRORS).all() else FAILS if (differences < -ERRORS).any() else TOO_FEW


def _psi_is_a_bound(growth):
    excess = (growth["growth"] - growth["psi"]) / growth["standard_error"]
    beyond = excess > ERRORS
    return _verdict(not beyond.any()), (f"growth is above Ψ at {beyond.sum()} of {len(growth)} points, by up to "
                              f"{(growth['growth'] - growth['psi'])[beyond].max():.3f} per update"), growth


def _without_noise() -> tuple[np.ndarray, pd.DataFrame]:
    """The ends of the regions of convergence without noise at eta = 0, 0.9, 3 and 5; these as a table."""
    etas = np.array([0, 0.9, 3, 5])
    limits = convergence_region(BETA, etas)
    return limits, pd.DataFrame({"η": etas, "largest αλ that converges": limits})


def _diverges(evidence):
    limits, numbers = _without_noise()
    return Judgement(_verdict(limits[-1] < 0.4), f"αλ = 0.4 is outside of the region at η = 5, which ends at "
                     f"{limits[-1]:.3f}", len(numbers), numbers)


def _region(evidence):
    etas, levels = (0.0, 0.9, 3.0, 5.0), (0.0, 0.3, 1.0)
    numbers = pd.DataFrame({f"r = {r:g}": convergence_region(BETA, etas, r) for r in levels}, index=etas)
    finding = "; ".join(f"η = {eta:g} up to {', '.join(f'{x:.2f}' for x in numbers.loc[eta])}" for eta in (0.9, 3, 0))
    holds = (numbers.loc[0.9] > 0.4).all() and (numbers.loc[0.9] > numbers.loc[3.0]).all()
    return Judgement(_verdict(holds), f"{finding} (r = 0, 0.3, 1)", len(levels),
                     numbers.rename_axis("η").reset_index())


def _region_shrinks(evidence):
    limits, numbers = _without_noise()
    shrinks = (limits[1:] < limits[:-1]).all() and limits[2] <= limits[1] / 2
    return Judgement(_verdict(shrinks), f"{', '.join(f'{x:.2f}' for x in limits)} at η = 0, 0.9, 3, 5 without noise",
                     len(numbers), numbers)


def _coefficients(evidence):
    beta1 = np.array([0.5, 0.9, 0.99])
    ratios = [ours / theirs for ours, theirs in zip(namsg_coefficients(beta1, BETA2),
                                                    amsgrad_coefficients(beta1, BETA2))]
    numbers = pd.DataFrame({"β1": beta1, **{f"term {i}": ratio for i, ratio in enumerate(ratios, start=1)}})
    return Judgement(_verdict(all((ratio < 1).all() for ratio in ratios)), "NAMSG's over AMSGRAD's at β1 = 0.9: "
                     + ", ".join(f"{ratio[1]:.3f}" for ratio in ratios), len(numbers), numbers)


def _bound(evidence):
    table = evidence.table("figures", "theory_regret.csv")
    if table.empty:
        return NOTHING
    runs = table[table["method"] == "namsg"]
    return Judgement(_verdict((runs["regret"] <= runs["bound"]).all()), "regret over bound, at most: "
                     f"{(runs['regret'] / runs['bound']).max():.4f}", len(runs), runs.reset_index(drop=True))


def _counterexamples(evidence):
    table = evidence.table("figures", "theory_counterexamples.csv")
    if table.empty:
        return NOTHING
    last = table[table["t"] == table["t"].max()].set_index("method")
    right = last.loc[["amsgrad", "namsg"], ["deterministic", "stochastic"]] < 0
    wrong = last.loc[["adam", "dozatnadam"], ["deterministic", "stochastic"]] > 0
    finding = "; ".join(f"{method} {row['deterministic']:.2f} and {row['stochastic']:.2f}"
                        for method, row in last.iterrows())
    return Judgement(_verdict(right.to_numpy().all() and wrong.to_numpy().all()), f"x after {last['t'].iloc[0]} rounds "
                     f"(−1 is best): {finding}", len(last), last.reset_index())


FIGURE_THEORY = ["python -m experiments figure theory"]
DISTINCTLY = f"by more than {ERRORS} standard errors"
CLAIMS = [
    Claim("a-accelerates", GAIN, "Figure 1 (a)",
          "... a proper observation distance η accelerates the convergence for high curvature eigen-directions, ...",
          Computed("growth at αλ = 0.4, β = 0.9, the better of η = 0.9 and 3 less η = 0",
                   f"below 0 {DISTINCTLY} at every noise level of theory_growth.csv at which one of these converges",
                   _judged_by_growth(_high_curvature), FIGURE_THEORY)),
    Claim("a-diverges", GAIN, "Figure 1 (a)", "... while a large η may cause divergence.",
          Computed("the largest αλ for which (11) converges without noise", "below 0.4 at η = 5", _diverges)),
    Claim("b", GAIN, "Figure 1 (b)",
          "... a positive η accelerates the convergence of low curvature eigen-directions for relatively high noise "
          "level ...",
          Computed("growth at αλ = 0.001, β = 0.9, the better of η = 0.9 and 3 less η = 0, at the highest noise level "
                   "of theory_growth.csv at which one of these converges",
                   f"below 0 {DISTINCTLY}; does not hold where it is as far above",
                   _judged_by_growth(_low_curvature_with_noise), FIGURE_THEORY)),
    Claim("c-trapped", GAIN, "Figure 1 (c), (d)",
          "... momentum methods may be trapped by saddle points with small negative eigenvalues, ...",
          Computed("growth at αλ = −0.0002 and −0.0005, η = 0", f"below 0 {DISTINCTLY} at some noise level",
                   _judged_by_growth(_trapped), FIGURE_THEORY)),
    Claim("c-mitigates", GAIN, "Figure 1 (c), (d)", "... and a large η can mitigate the problem.",
          Computed("growth at αλ = −0.0002 and −0.0005, η = 3 less η = 0, where that at η = 0 is below 0 "
                   f"{DISTINCTLY}",
                   f"above 0 {DISTINCTLY} at half of these noise levels at least; does not hold where it is as far "
                   "below at more",
                   _judged_by_growth(_leaves_saddles), FIGURE_THEORY)),
    Claim("c-noise", GAIN, "Figure 1 (c), (d)", "... large gradient noise is helpful to escape saddle points.",
          Computed("growth at αλ = −0.0002 and −0.0005, η = 0, less that at the smallest noise level",
                   f"above 0 {DISTINCTLY} at some noise level, for both",
                   _judged_by_growth(_noise_helps), FIGURE_THEORY)),
    Claim("e-domain", GAIN, "Figure 1 (e)",
          "... a moderate observation distance, such as η = 0.9, results in a large convergence domain, allowing the "
          "convergence for high curvature eigen-directions.",
          Computed("the largest αλ with Ψ < 0, at r = 0, 0.3 and 1",
                   "at η = 0.9 above 0.4, (a)'s high curvature, and above that at η = 3, at each", _region)),
    Claim("e-low", GAIN, "Figure 1 (e)",
          "... a large η accelerates the convergence for low curvature eigen-directions, ...",
          Computed("growth at αλ = 0.01, 0.001 and 0.0001, r = 0.1, η = 3 less η = 0",
                   f"below 0 {DISTINCTLY} at each; does not hold where one is as far above",
                   _judged_by_growth(_low_curvature), FIGURE_THEORY)),
    Claim("e-shrinks", GAIN, "Figure 1 (e)",
          "... the maximum eigenvalue allowed for convergence decreases rapidly as η increases, ...",
          Computed("the largest αλ for which (11) converges without noise, at η = 0, 0.9, 3, 5",
                   "decreasing, and halved at least from 0.9 to 3", _region_shrinks)),
    Claim("bound-of-growth", GAIN, "Section 3",
          "[The max gain expectation] ... is an upper bound of the expectation of logarithmic convergence rate in the "
          "dynamic system (11).",
          Computed("growth less Ψ, over Figure 1's ranges", f"nowhere above 0 {DISTINCTLY}",
                   _judged_by_growth(_psi_is_a_bound), FIGURE_THEORY)),

    Claim("coefficients", REGRET, "Section 4",
          "... when β1 is close to 1, which is the typical situation, NAMSG has lower coefficients on all of the 3 "
          "terms.",
          Computed("coefficients of (14) over those of (15), β2 = 0.99", "below 1 at β1 = 0.5, 0.9 and 0.99",
                   _coefficients)),
    Claim("regret-bound", REGRET, "Theorem 1", "... we have the following bound on the regret [(14)] ...",
          Computed("regret of the real optimizer on online logistic regression and random convex quadratics, over the "
                   "bound", "at most 1 at every recorded round", _bound, FIGURE_THEORY)),
    Claim("nonconvergence", REGRET, "Section 4",
          "The positive definiteness of Γ_t results in a nonincreasing step size and avoids the non-convergence of "
          "ADAM.",
          Computed("the parameter after the last round of Reddi et al.'s counterexamples, on [−1, 1], best at −1",
                   "below 0 for AMSGRAD and NAMSG, above for ADAM and NADAM, in both problems", _counterexamples,
                   FIGURE_THEORY)),
]
