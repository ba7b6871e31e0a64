"""The claims on theory, on made-up growth and as the documentation has them."""

import re

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import CHECKOUT, MadeUp, named

from experiments.claims import judging, sentences
from experiments.claims.decisions import FAILS, HOLDS, PARTLY, TOO_FEW
from experiments.claims.evidence import THEORY_COUNTEREXAMPLES, THEORY_REGRET, Evidence
from namsg_mx.theory.gain import convergence_region, growth_rate, max_gain_expectation
from namsg_mx.theory.regret import namsg_coefficients


def growth(*points):
    """theory_growth.csv with these (tau, eta, noise, growth), and standard errors of 1e-5, of differences 5e-6."""
    table = pd.DataFrame(points, columns=["tau", "eta", "noise", "growth"]).assign(
        standard_error=1e-5, difference_error=5e-6, psi=0.0)
    zero = table[table["eta"] == 0].set_index(["tau", "noise"])["growth"]
    return table.assign(difference=[row.growth - zero[row.tau, row.noise] for row in table.itertuples()])


SADDLES, VALLEYS, LOW = (-0.0002, -0.0005), (0.0002, 0.0005), (0.01, 0.001, 0.0001)


@pytest.mark.parametrize(("name", "taus", "etas", "growths", "verdict"), [
    # The better of eta = 0.9 and 3 counts, wherever one of the three converges.
    ("a-accelerates", [0.4], (0, 0.9, 3), {1: (-2, -1, -3), 10: (1, -1, 2), 100: (1, 2, 2)}, HOLDS),
    ("a-accelerates", [0.4], (0, 0.9, 3), {1: (-2, -1, -1), 10: (-2, -3, -1), 100: (1, 2, 2)}, FAILS),
    # 'b' is judged at r = 10, as all diverge at 100.
    ("b", [0.001], (0, 0.9, 3), {1: (-2, -1, -1), 10: (-2, -2, -3), 100: (1, 2, 3)}, HOLDS),
    ("b", [0.001], (0, 0.9, 3), {1: (-2, -3, -3), 10: (-2, -1, -1), 100: (1, 0.5, 0.5)}, FAILS),
    ("b", [0.001], (0, 0.9, 3), {1: (-2, -3, -3), 10: (-2, -2.001, -1), 100: (1, 0.5, 0.5)}, TOO_FEW),
    ("c-trapped", SADDLES, (0,), {1: (1,), 10: (-0.04,)}, HOLDS),
    ("c-trapped", SADDLES, (0,), {1: (1,), 10: (-0.02,)}, FAILS),
    ("bound-of-growth", LOW, (0,), {1: (-1,), 10: (0.02,)}, HOLDS),   # of Psi = 0
    ("bound-of-growth", LOW, (0,), {1: (-1,), 10: (0.04,)}, FAILS),
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 0.5), 10: (-2, -1), 30: (-2, -1.5)}, HOLDS),
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 0.5), 10: (-2, -1), 30: (-2, -3)}, PARTLY),
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 2), 10: (-2, -3), 30: (-2, -3)}, FAILS),
    # -0.02 is not below 0 by three standard errors.
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 0.5), 10: (-2, -1), 30: (-0.02, -1), 50: (-0.02, -1)}, HOLDS),
    ("e-low", LOW, (0, 3), {1: (-2, -3), 10: (-1, -2), 100: (2, 1)}, HOLDS),
    ("e-low", LOW, (0, 3), {1: (-2, -1), 10: (-1, -2), 100: (2, 1)}, PARTLY),
    ("e-low", LOW, (0, 3), {1: (-2, -1), 10: (-1, -0.5), 100: (2, 1)}, FAILS)])
def test_claims_on_growth(name, taus, etas, growths, verdict):
    """``growths``: by noise level, those at each eta, in thousandths."""
    assert judged(name, [(tau, eta, noise, g / 1000) for tau in taus for noise, of_noise in growths.items()
                         for eta, g in zip(etas, of_noise)]).verdict == verdict


@pytest.mark.parametrize(("saddles", "valleys", "verdict"), [   # growth at eta = 0, in thousandths, by noise level
    ({0.1: 1, 10: -1, 100: 2}, {0.1: -1, 10: -1, 100: -0.5}, HOLDS),
    ({0.1: 1, 10: -1, 100: 2}, {0.1: -1, 10: -1, 100: 1.9}, PARTLY),    # all is driven apart
    ({0.1: 1, 10: -1, 100: 0.5}, {0.1: -1, 10: -1, 100: -1}, FAILS)])
def test_noise_helps_to_escape_where_it_does_not_drive_all_apart(saddles, valleys, verdict):
    found = judged("c-noise", [(tau, 0, noise, g / 1000) for taus, growths in ((SADDLES, saddles), (VALLEYS, valleys))
                               for tau in taus for noise, g in growths.items()])
    assert found.verdict == verdict


def judged(name, points):
    """What a claim on growth finds at these (tau, eta, noise, growth)."""
    evidence = MadeUp()
    evidence.table = lambda table: growth(*points)
    claim, = (claim for claim in sentences.CLAIMS if claim.name == name)
    return claim.rule.judge(evidence)


def test_a_term_of_the_bound_that_is_below_its_quantity_breaks_theorem_1():
    """Though the regret is far below the whole."""
    claim, = (claim for claim in sentences.CLAIMS if claim.name == "regret-bound")
    evidence = MadeUp()
    table = Evidence(CHECKOUT / "results", CHECKOUT / "configs").table(THEORY_REGRET)
    evidence.table = lambda _: table
    assert claim.rule.judge(evidence).verdict == HOLDS
    for i in (1, 2, 3):
        evidence.table = lambda _, column=f"term_{i}": table.assign(**{column: table[column] / 5})
        assert claim.rule.judge(evidence).verdict == FAILS
    evidence.table = lambda _: table.assign(regret=table["regret"] * 20)
    assert claim.rule.judge(evidence).verdict == FAILS


@pytest.mark.parametrize("problem", ["deterministic", "stochastic"])
@pytest.mark.parametrize("method", ["adam", "dozatnadam", "amsgrad", "namsg"])
def test_in_a_counterexample_each_method_must_end_where_it_is_said_to(method, problem):
    table = Evidence(CHECKOUT / "results", CHECKOUT / "configs").table(THEORY_COUNTEREXAMPLES)
    claim, = named(["nonconvergence"])
    for value, verdict in ((1.0, HOLDS), (-1.0, FAILS)):
        evidence, turned = MadeUp(), table.copy()
        turned.loc[(turned["method"] == method) & (turned["t"] == turned["t"].max()), problem] *= value
        evidence.table = lambda _, turned=turned: turned
        assert claim.rule.judge(evidence).verdict == verdict


def test_the_sections_on_theory_are_judged_as_the_documentation_has_them():
    """docs/theory.md, on the committed simulation."""
    claims = [claim for claim in sentences.CLAIMS if claim.part in ("gain", "regret")]
    verdicts = {v.claim.name: v.judgement.verdict
                for v in judging.judge(Evidence(CHECKOUT / "results", CHECKOUT / "configs"), claims)}
    assert {name for name, verdict in verdicts.items() if verdict == FAILS} == {"bound-of-growth"}
    assert {name for name, verdict in verdicts.items() if verdict == PARTLY} == {"c-mitigates", "c-noise", "e-domain",
                                                                                "e-low", "e-shrinks"}
    assert set(verdicts.values()) == {HOLDS, PARTLY, FAILS}


def test_the_noise_levels_of_traps_are_those_of_the_committed_simulation():
    """As docs/theory.md has them."""
    verdict, = judging.judge(Evidence(CHECKOUT / "results", CHECKOUT / "configs"), named(["c-trapped"]))
    assert verdict.judgement.finding.endswith(
        "at 5 of 34 points: r = 32, 56 at αλ = -0.0005; r = 56, 100, 180 at αλ = -0.0002")


def test_where_psi_gains_is_as_the_documentation_has_it():
    """The ends of docs/theory.md's regions of convergence, and from which tau or r on eta > 0 has the lower Psi."""
    text = " ".join((CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8").split())

    def region(eta, r):
        return float(convergence_region(0.9, eta, r))

    assert region(0, 0.8) < region(0.9, 0.8) and region(0, 0.75) > region(0.9, 0.75)
    assert "the region of η = 0 is smaller than that of η = 0.9 from r = 0.8 on." in text
    assert region(0, 0.78) > 1 > region(0, 0.79) and region(0.9, 1.5) > 1
    ends = [region(3, r) for r in np.linspace(0, 1.5, 31)]
    assert (f"That of η = 0 does so only up to r = 0.78, and that of η = 3 ends between {min(ends):.2f} and "
            f"{max(ends):.2f}.") in text

    def gains_from(eta, r):
        taus = np.arange(0.0005, 0.005, 1e-6)
        lower = max_gain_expectation(taus, 0.9, eta, r) < max_gain_expectation(taus, 0.9, 0, r)
        assert lower[lower.argmax():].all()
        return taus[lower.argmax()]

    up_to = [gains_from(3, r) for r in np.linspace(0, 0.75, 16)]
    assert (f"for η = 3 from τ = {min(up_to):.4f} to {max(up_to):.4f} on for r up to 0.75, from {gains_from(3, 1):.4f} "
            f"on at r = 1, from {gains_from(3, 3):.4f} on at r = 3") in text
    assert f"at {gains_from(0.9, 0):.4f} for η = 0.9, at {gains_from(3, 0):.4f} for η = 3" in text
    slow, slower = (max_gain_expectation(0.001, 0.9, eta, 0) for eta in (0, 3))
    assert slow == pytest.approx(-0.001 / (1 - 0.9), rel=0.15)
    assert f"at τ = 0.001 and η = 3 by {1 - slower / slow:.1%}".replace("%", " %") in text
    escape, faster = (max_gain_expectation(-0.001, 0.9, eta, 0) for eta in (0, 3))
    assert faster / escape - 1 == pytest.approx(1 - slower / slow, rel=0.3)
    for eta in (0.9, 3, 5):
        assert max_gain_expectation(0.001, 0.9, eta, 2.7) < max_gain_expectation(0.001, 0.9, 0, 2.7)
    assert max_gain_expectation(0.001, 0.9, 3, 2.6) > max_gain_expectation(0.001, 0.9, 0, 2.6)
    assert "τ = 0.001 from r = 2.7 on" in text


def test_the_regions_of_convergence_are_those_of_the_documentation():
    """By psi to the digit, by growth to 10 %: within it (11) contracts there, and beyond it grows."""
    text = (CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8")
    table = text.partition("Largest τ")[2].partition("So the system")[0]
    header, *rows = re.findall(r"^\| (r|[\d.]+) \| (.*) \|$", table, re.MULTILINE)
    etas = [float(name.replace("η = ", "")) for name in header[1].split(" | ")]
    levels = np.array([[float(r)] for r, _ in rows])
    by_psi, by_growth = np.array([re.findall(r"([\d.]+) \(([\d.]+)\)", cells) for _, cells in rows]).transpose(2, 0, 1)
    assert levels.size == 8 and etas == [0, 0.9, 3, 5]
    for cells, row in zip(by_psi, convergence_region(0.9, etas, levels)):
        assert [f"{end:.{len(cell.partition('.')[2])}f}" for cell, end in zip(cells, row)] == list(cells)
    for factor, sign in ((0.9, -1), (1.1, 1)):
        rate = growth_rate(factor * by_growth.astype(float), 0.9, etas, levels, updates=8000)
        assert (sign * rate.mean > 3 * rate.standard_error).all()
    by_growth = pd.DataFrame(by_growth.astype(float), index=levels.ravel(), columns=etas)
    shrinks = (by_growth.diff(axis=1).iloc[:, 1:] < 0).all(axis=1)
    assert list(by_growth.index[shrinks]) == [0, 0.5]
    assert list(by_growth.index[by_growth[0.9] > 1.1 * by_growth[3]]) == [0, 0.5, 0.75, 1, 1.5, 1.75]


def test_how_much_lower_the_third_term_of_the_bound_could_be():
    text = " ".join((CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8").split())
    lower = 0.5 + 0.9**2 / ((1 - 0.9**2) * (1 - 0.9 / 0.99**0.5))
    assert f"{lower / namsg_coefficients(0.9, 0.99).gradients:.2f} of it at β1 = 0.9 (β2 = 0.99)" in text


def test_the_documentation_counts_the_points_of_the_committed_simulation():
    growth = pd.read_csv(CHECKOUT / "results" / "figures" / "theory_growth.csv")
    text = " ".join((CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8").split())
    psi, found, error = growth["psi"], growth["growth"], 3 * growth["standard_error"]
    bounds, fails = (psi > found + error).sum(), (psi < found - error).sum()
    assert (f"Ψ is above the growth at {bounds} points and below it at {fails}; at {len(growth) - bounds - fails} it "
            "is neither:" in text)
    assert f"At {((psi < 0) & (found > error)).sum()} of these points, all of them saddle points" in text
    assert f"at {((psi > 0) & (found < -error)).sum()} points Ψ > 0 and yet it contracts" in text
