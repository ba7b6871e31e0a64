"""Section 4: the bounds worked by hand, the conditions in words, and the best fixed point with its certificate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from namsg_mx.theory.regret import (
    FixedPoint,
    Trajectory,
    amsgrad_bound,
    amsgrad_coefficients,
    best_fixed_point,
    bounded_quantities,
    corollary_bound,
    namsg_bound,
    namsg_coefficients,
    regret,
    violated_conditions,
)

# Two rounds in two dimensions. gamma = 0.5 / 0.8 = 0.625.
RUN = Trajectory(g=np.array([[3.0, 0.0], [4.0, 2.0]]), v_hat=np.array([[4.0, 1.0], [9.0, 4.0]]),
          alpha=np.array([0.1, 0.1 / np.sqrt(2)]), beta1=np.array([0.5, 0.25]), eta=np.array([0.5, 0.3]), beta2=0.64)


def test_coefficients_by_hand():
    """At beta1 = 1/2 and gamma = 5/8: 1 - beta1**2 = 3/4; 3/4 / (2 * 1/2 * 3/8) = 2."""
    assert namsg_coefficients(0.5, 0.64) == pytest.approx((2 / 3, 2 / 3, (2 + 1) * 4 / 3))
    assert amsgrad_coefficients(0.5, 0.64) == pytest.approx((2, 1, 4 * 8 / 3))


@pytest.mark.parametrize("coefficients", [namsg_coefficients, amsgrad_coefficients])
@pytest.mark.parametrize(("beta1", "beta2", "message"), [
    (1.5, 0.5, r"^beta1=1.5: must be a number in \[0, 0.707107\)"), (0.8, 0.64, "^beta1=0.8: must be"),
    (-0.1, 0.64, "^beta1=-0.1: must be"), (np.array([0.5, np.nan]), 0.64, "^beta1=nan: must be"),
    (0.5, np.array([0.64, 0.16]), r"^beta1=0.5: must be a number in \[0, 0.4\)"), ("a", 0.64, "^beta1='a': must be"),
    (0.5, 0.0, r"^beta2=0.0: must be a number in \(0, 1\)"), (0.5, 1.0, "^beta2=1.0: must be"),
    (0.5, None, "^beta2=None: must be")])
def test_coefficients_are_of_a_gamma_below_1(coefficients, beta1, beta2, message):
    """Beyond it (14) and (15) have negative terms, or infinite ones."""
    with pytest.raises(ValueError, match=message):
        coefficients(beta1, beta2)


@pytest.mark.parametrize("coefficients", [namsg_coefficients, amsgrad_coefficients])
def test_coefficients_of_arrays_are_those_of_their_elements(coefficients):
    beta1, beta2 = np.array([[0.0], [0.5]]), np.array([0.64, 0.99])
    for i, j in np.ndindex(2, 2):
        of_one = coefficients(beta1[i, 0], beta2[j])
        of_all = [np.broadcast_to(term, (2, 2))[i, j] for term in coefficients(beta1, beta2)]
        assert of_all == pytest.approx(list(of_one), rel=1e-14)


def test_a_bound_needs_a_gamma_below_1():
    for bound in (namsg_bound, amsgrad_bound):
        with pytest.raises(ValueError, match="^beta1=0.5: must be a number in "):
            bound(RUN._replace(beta2=0.25), 2)


def test_bounds_by_hand():
    """D = 2: D**2 sqrt(2) / 0.1 * (3 + 2); D**2 (beta1_1**p * 3 / 0.1 + beta1_2**p * 5 sqrt(2) / 0.1);
    0.1 sqrt(1 + log 2) / 0.6 * (5 + 2)."""
    first, third = 4 * np.sqrt(2) / 0.1 * 5, 0.1 * np.sqrt(1 + np.log(2)) / 0.6 * 7
    second = {p: 4 * (0.5**p * 30 + 0.25**p * 50 * np.sqrt(2)) for p in (1, 2)}
    assert namsg_bound(RUN, 2) == pytest.approx((2 / 3 * first, 2 / 3 * second[2], 4 * third))
    assert amsgrad_bound(RUN, 2) == pytest.approx((2 * first, second[1], 32 / 3 * third))
    assert namsg_bound(RUN, 2).total == pytest.approx(sum(namsg_bound(RUN, 2)))
    # (16): beta1 D**2 G d / (2 alpha (1 - beta1**2) (1 - lambda)**2), with lambda = 1/2 and G = 3.
    assert corollary_bound(RUN, 2, decay=0.5, gradient_bound=3) == pytest.approx(
        namsg_bound(RUN, 2)._replace(decay=0.5 * 4 * 3 * 2 / (0.2 * 0.75 * 0.25)))


def test_what_the_terms_bound_by_hand():
    """a = 3/4 and 0.975, sqrt(v_hat) / alpha = (20, 10) and 10 sqrt(2) (3, 2), m_1 = (1.5, 0), u = (2.25, 0) and
    0.975 (4, 2) + 0.025 (1.5, 0) = (3.9375, 1.95)."""
    x, best = np.array([[1.0, 1.0], [0.5, 1.0], [0.0, 0.0]]), np.array([0.0, -1.0])
    root = 10 * np.sqrt(2)
    expected = ((20 * (1 - 0.25) + 0) / 1.5 + root * (3 * 0.25 + 2 * (4 - 1)) / 1.95,
                0.25 * (20 + 10 * 4) / 1.5 + 0.025 * root * (3 * 0.25 + 2 * 4) / 1.95,
                2.25**2 / 20 / 1.5 + (3.9375**2 / 3 + 1.95**2 / 2 + 0.025 * 1.5**2 / 3) / root / 1.95)
    assert bounded_quantities(RUN, x, best) == pytest.approx(expected)
    without_distance = bounded_quantities(RUN._replace(eta=np.zeros(2)), x, best)   # AMSGRAD: a = 1/2 and 3/4, u = m
    assert without_distance.gradients == pytest.approx(
        1.5**2 / 20 + ((0.375 + 3) ** 2 / 3 + 1.5**2 / 2 + 0.25 * 1.5**2 / 3) / root / 1.5)


def test_bound_of_a_prefix_sees_no_later_round():
    first = RUN.first(1)
    assert namsg_bound(first, 2) == pytest.approx((2 / 3 * 4 / 0.1 * 3, 2 / 3 * 4 * 0.25 * 30, 4 * 0.1 / 0.6 * 3))


@given(rounds=st.integers(1, 50), decay=st.floats(0.05, 0.95), beta1=st.floats(0, 0.95), seed=st.integers(0, 99))
@settings(deadline=None, derandomize=True)
def test_the_corollary_is_above_the_theorem_with_the_factor_that_the_print_lacks(rounds, decay, beta1, seed):
    random = np.random.default_rng(seed)
    g = random.uniform(-2, 2, (rounds, 3))
    t = np.arange(rounds)
    run = Trajectory(g, np.maximum.accumulate(g**2), 0.01 / np.sqrt(t + 1), beta1 * decay**t, beta1 * decay**t, 0.99)
    theorem, corollary = namsg_bound(run, 2), corollary_bound(run, 2, decay, gradient_bound=2)
    assert corollary.decay >= theorem.decay
    assert (corollary.preconditioner, corollary.gradients) == (theorem.preconditioner, theorem.gradients)


@pytest.mark.parametrize(("decay", "gradient_bound", "message"), [
    (0.9, 3, r"^decay=0.9: .*beta1 \* decay\*\*\(t - 1\)"), (1.0, 3, "^decay=1.0: must be"),
    (0.5, 2.9, r"^gradient_bound=2.9: sqrt\(v_hat\) reaches 3")])
def test_the_corollary_refuses_another_schedule_or_a_gradient_bound_that_was_broken(decay, gradient_bound, message):
    with pytest.raises(ValueError, match=message):
        corollary_bound(RUN, 2, decay, gradient_bound)


@given(beta1=st.floats(1e-6, 0.9999), share=st.floats(1e-6, 0.9999))
@settings(deadline=None, derandomize=True)
def test_all_coefficients_of_namsg_are_lower_at_every_beta1_above_0(beta1, share):
    """The paper says so for beta1 close to 1. gamma = beta1 / sqrt(beta2) is between beta1 and 1 (docs/theory.md)."""
    gamma = beta1 + share * (1 - beta1)
    namsg, amsgrad = (coefficients(beta1, (beta1 / gamma) ** 2)
                      for coefficients in (namsg_coefficients, amsgrad_coefficients))
    assert all(ours < theirs for ours, theirs in zip(namsg, amsgrad))
    assert namsg.gradients / amsgrad.gradients == pytest.approx(
        (1.5 * beta1**2 + (1 - beta1) * (1 - gamma)) / (1 + beta1), rel=1e-6)


@pytest.mark.parametrize(("changes", "words"), [
    ({}, []),
    ({"beta1": np.array([0.5, 5e-324]), "eta": np.array([0.5, 0.0])}, []),   # rounded to 0: nothing is broken
    ({"alpha": np.array([0.1, 0.1])}, ["alpha_t must be alpha / sqrt(t), alpha > 0; first broken in round 2"]),
    ({"beta1": np.array([0.25, 0.5]), "eta": np.array([0.3, 1.0])},
     ["beta1_t must not increase; first broken in round 2"]),
    ({"beta2": 0.25}, ["gamma = beta1 / sqrt(beta2) must be below 1; first broken in round 1"]),
    ({"beta2": 1.0}, ["beta2 must be in (0, 1); first broken in round 1"]),
    ({"beta2": 0.0}, ["beta2 must be in (0, 1); first broken in round 1",
                      "gamma = beta1 / sqrt(beta2) must be below 1; first broken in round 1"]),
    ({"beta1": np.array([0.5, -0.25])}, ["beta1 must be in [0, 1); first broken in round 2",
                                         "eta_t must be at most beta1_t / (1 - beta1_t); first broken in round 2"]),
    ({"alpha": -RUN.alpha}, ["alpha_t must be alpha / sqrt(t), alpha > 0; first broken in round 1"]),
    ({"alpha": np.array([1e-9, 1e-9])}, ["alpha_t must be alpha / sqrt(t), alpha > 0; first broken in round 2"]),
    ({"eta": np.array([0.5, 0.0])}, ["eta_t must be at least beta1_t; first broken in round 2"]),
    ({"eta": np.array([1.1, 0.5])}, ["eta_t must be at most beta1_t / (1 - beta1_t); first broken in round 1"]),
    ({"beta1": np.array([0.5, 0.5]), "eta": np.array([0.9, 0.6])},
     ["(1 - beta1_t) (1 + eta_t) must not decrease; first broken in round 2"]),
    ({"beta1": np.array([1.0, 0.5]), "eta": np.array([1.0, 0.6]), "beta2": 1.5},
     ["beta1 must be in [0, 1); first broken in round 1", "beta2 must be in (0, 1); first broken in round 1"])])
def test_conditions_of_theorem_1_in_words(changes, words):
    assert violated_conditions(RUN._replace(**changes)) == words


def test_best_fixed_point_of_separable_quadratics_is_the_clipped_centre():
    centre, curvature = np.array([0.3, -2.0, 5.0, 0.0]), np.array([1e-3, 1.0, 50.0, 1e3])

    def total(x):
        return (curvature * (x - centre) ** 2).sum() / 2, curvature * (x - centre)

    best = best_fixed_point(total, np.ones(4), (-1, 1))
    np.testing.assert_allclose(best.x, [0.3, -1, 1, 0], atol=1e-4)
    least = (1 + 50 * 16) / 2
    assert least - 1e-9 <= best.loss <= least + best.gap + 1e-9
    assert 0 <= best.gap < 1e-4
    assert regret([300.0, 200.0], best) == pytest.approx(500 - least, abs=1e-3)
    assert regret([500.0], FixedPoint(best.x, 400.0, 1.0)) == 101   # the largest that the gap allows


def test_best_fixed_point_refuses_what_it_cannot_certify():
    def kinked(x):   # where no gradient comes near 0
        return np.abs(x - 0.3).sum(), np.where(x < 0.3, -1.0, 1.0)

    with pytest.raises(RuntimeError, match="the best fixed point was not found: its loss .* above the least loss"):
        best_fixed_point(kinked, np.array([0.9, -0.9]), (-1, 1))
