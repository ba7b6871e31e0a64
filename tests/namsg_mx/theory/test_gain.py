"""Section 3: Psi against independent values, an adaptive quadrature and a closed form; regions, guideline, growth."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from namsg_mx.schedules import ObservationDistance
from namsg_mx.theory.gain import (
    GrowthRate,
    convergence_region,
    eigenvalues,
    growth_rate,
    max_gain_expectation,
    suggest_observation_distance,
)


def largest_modulus(*parameters):
    return np.abs(eigenvalues(*parameters)).max(axis=0)


def adaptive_quadrature(tau, beta, eta, noise):
    """(13) from (12) as printed, with break points that crowd to the zero of the discriminant."""
    def integrand(delta):
        return np.log(largest_modulus(tau, beta, eta, noise, delta)) * np.exp(-delta**2 / 2) / np.sqrt(2 * np.pi)

    kink = ((1 + beta - (1 + eta) * tau) ** 2 - 4 * (beta - eta * tau)) / (4 * tau * noise)
    crowd = np.append(0, np.geomspace(1e-9, 4, 8))
    points = np.unique(np.clip(np.concatenate([kink + crowd, kink - crowd, np.linspace(-9, 9, 7)]), -9, 9))
    return sum(quad(integrand, low, high, epsabs=1e-10, epsrel=1e-10)[0] for low, high in zip(points, points[1:]))


@pytest.mark.parametrize(("parameters", "psi"), [
    ((0.4, 0.9, 0, 0.1), -0.05317556), ((0.4, 0.9, 0.9, 0.1), -0.30947631),
    ((0.001, 0.9, 3, 10), -0.00277714), ((-0.0005, 0.9, 0, 1), 0.00457479)])
def test_psi_has_values_that_were_computed_elsewhere(parameters, psi):
    assert max_gain_expectation(*parameters) == pytest.approx(psi, abs=1e-8)


@pytest.mark.parametrize("parameters", [
    (0.0025, 0.9, 0, 0.05),                        # kink amid the distribution
    (0.002633403898972401, 0.9, 0, 0.5),           # and at delta = 0
    (1.0, 0.9, 0.9 + 1e-9, 0.2),                   # the logarithmic singularity, missed by a hair
    (1.0 - 1e-5, 0.9, 0.9, 1.0), (1.9 / 4, 0.9, 3 + 1e-4, 2.0), (1.9, 0.9, 1e-7, 0.5),
    (-3.0, 0.5, 2.0, 30.0), (-1e-4, 0.999, 10.0, 100.0), (4.0, 0.0, 0.3, 0.01), (1e-5, 0.9, 0.9, 1e-3)])
def test_psi_equals_an_adaptive_quadrature(parameters):
    assert max_gain_expectation(*parameters) == pytest.approx(adaptive_quadrature(*parameters), abs=1e-8)


@pytest.mark.parametrize("noise", [1e-6, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_psi_at_the_logarithmic_singularity_has_a_closed_form(beta, noise):
    """tau = 1, eta = beta: trace 0, determinant noise * delta; E log |delta| = -(Euler's gamma + log 2) / 2."""
    expected = (np.log(noise) - (np.euler_gamma + np.log(2)) / 2) / 2
    assert max_gain_expectation(1.0, beta, beta, noise) == pytest.approx(expected, abs=1e-10)


@given(tau=st.floats(-1, 4), beta=st.floats(0, 0.99), eta=st.floats(0, 10))
@example(tau=0.0, beta=0.9, eta=3.0)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_psi_without_noise_is_the_larger_modulus_and_with_little_noise_goes_there(tau, beta, eta):
    modulus = largest_modulus(tau, beta, eta, 0, 0)
    if modulus > 1e-3:
        assert max_gain_expectation(tau, beta, eta, 0) == pytest.approx(np.log(modulus), abs=1e-7)
        # The modulus varies as the square root of the noise at a double eigenvalue.
        assert max_gain_expectation(tau, beta, eta, 1e-14) == pytest.approx(np.log(modulus), abs=1e-3)


def test_psi_where_both_eigenvalues_vanish():
    assert max_gain_expectation(1, 0, 0, 0) == -np.inf


def test_psi_and_eigenvalues_broadcast():
    tau, eta = np.array([[-0.1], [0.4], [1.0]]), np.array([0, 0.9])
    psi = max_gain_expectation(tau, 0.9, eta, 0.5)
    assert psi.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        assert psi[i, j] == max_gain_expectation(tau[i, 0], 0.9, eta[j], 0.5)
    assert eigenvalues(tau, 0.9, eta, 0.5, delta=np.zeros((4, 1, 1))).shape == (2, 4, 3, 2)


def test_eigenvalues_are_those_of_the_system_11():
    tau, beta, eta, noise, delta = 0.3, 0.8, 1.5, 2.0, -0.7
    alpha, curvature = 0.1, 3.0
    system = [[1, -alpha], [curvature * (1 + noise * delta), beta - alpha * curvature * (1 + eta)]]
    np.testing.assert_allclose(np.sort_complex(eigenvalues(tau, beta, eta, noise, delta)),
                               np.sort_complex(np.linalg.eigvals(system)), rtol=1e-13)


@given(beta=st.floats(0, 0.999), eta=st.floats(0, 10))
@settings(deadline=None, derandomize=True)
def test_region_without_noise_is_where_both_eigenvalues_are_inside_the_unit_circle(beta, eta):
    limit = convergence_region(beta, eta)
    inside, outside = np.linspace(0, 1, 52)[1:-1] * limit, np.array([-1e-3, 1.0001, 1.5]) * limit
    assert (largest_modulus(inside, beta, eta, 0, 0) < 1).all()
    assert (largest_modulus(outside, beta, eta, 0, 0) > 1).all()


def test_region_with_noise_ends_at_the_first_zero_of_psi():
    beta, eta, noise = np.meshgrid([0.0, 0.9, 0.999], [0.0, 3.0], [0.01, 1.0, 10.0], indexing="ij")
    limit = convergence_region(beta, eta, noise)
    assert (max_gain_expectation(limit * (1 + 1e-7), beta, eta, noise) > 0).all()
    for share in np.geomspace(1e-5, 1 - 1e-7, 40):
        assert (max_gain_expectation(limit * share, beta, eta, noise) < 0).all()


def test_a_moderate_distance_converges_over_a_wider_range_than_none_and_a_large_one_under_noise():
    """Section 3 on Figure 1 (e); without noise the widest is eta = 0."""
    none, moderate, large = convergence_region(0.9, np.array([0, 0.9, 3]), noise=1)
    assert moderate > 2 * large > 4 * none
    assert (np.diff(convergence_region(0.9, np.array([0, 0.9, 3]))) < 0).all()


@pytest.mark.parametrize("noise", [0, 0.05, 0.1])
def test_where_a_large_distance_has_the_lower_psi(noise):
    """As `suggest_observation_distance` says it of beta = 0.9 and little noise."""
    tau = np.geomspace(1e-4, 0.1, 300)
    share = max_gain_expectation(tau, 0.9, 3.0, noise) / max_gain_expectation(tau, 0.9, 0.9, noise)   # both are below 0
    assert (share[tau >= 0.0035] > 1).all()
    assert share[tau < 0.003].min() > 2 / 3 and share[tau < 0.003].max() < 1
    assert share[tau < 0.001].min() > 0.97


def test_the_suggestion_is_the_guideline_unless_the_curvature_forbids_it():
    assert suggest_observation_distance(235) == ObservationDistance(235)
    assert suggest_observation_distance(235, start=0.93, end=2.5) == ObservationDistance(235, 0.93, 2.5)
    assert suggest_observation_distance(235, tau=0.1, start=0.93) == ObservationDistance(235, 0.93)
    limited = suggest_observation_distance(235, tau=0.6)
    assert limited.start == 0.9
    assert 2.6 < limited.end <= (1 + 0.9) / 0.6 - 0.5 < 3   # of 2 (1 + beta) / (1 + 2 eta) = tau
    at_edge = suggest_observation_distance(235, tau=3.0)
    assert at_edge.start == at_edge.end < 0.9
    # Where no curvature is known, none is looked at: at this beta its region would be lost in rounding.
    assert suggest_observation_distance(235, beta=0.9999999, noise=0.1) == ObservationDistance(235)
    # Under strong noise 0.01 is outside of the region of a distance below 0.9, and inside of that of a larger one.
    noisy = suggest_observation_distance(235, tau=0.01, noise=3)
    assert 0.9 < noisy.start <= noisy.end == 3.0


@pytest.mark.parametrize(("build", "message"), [
    (lambda: suggest_observation_distance(235, tau=3.8), r"^tau=3.8: is beyond .* every eta in \[0, 3\] .* smaller"),
    (lambda: suggest_observation_distance(235, tau=-1), r"^tau=-1: must be"),
    (lambda: suggest_observation_distance(235, start=2, end=1), r"^start=2, end=1: must be"),
    (lambda: max_gain_expectation(0.4, 1.0, 0, 0), r"^beta=1.0: must be finite and in \[0, 1\)"),
    (lambda: max_gain_expectation(np.inf, 0.9, 0, 0), "^tau=inf: must be"),
    (lambda: eigenvalues(0.4, 0.9, [0, -0.5], 0, 0), "^eta=-0.5: must be"),
    (lambda: convergence_region([0.9, 0.9999], 10, 1000), "^noise: no first zero of Psi is found at"),
    (lambda: growth_rate(0.4, 0.9, 0, -1), "^noise=-1.0: must be"),
    (lambda: growth_rate(0.4, 0.9, 0, 1, updates=0), "^updates=0: must be an integer, at least 1"),
    (lambda: growth_rate(0.4, 0.9, 0, 1, updates=2.5), "^updates=2.5: must be an integer, at least 1"),
    (lambda: growth_rate(0.4, 0.9, 0, 1, chains=1), "^chains=1: must be an integer, at least 2")])
def test_arguments_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_region_at_a_huge_distance():
    """Of 2 (1 + beta) / (1 + 2 eta), which little noise hardly moves."""
    for beta in (0.0, 0.9):
        assert convergence_region(beta, 1e6, 0.001) == pytest.approx(2 * (1 + beta) / (1 + 2e6), rel=1e-3)


def test_growth_is_that_of_a_product_of_the_matrices_11():
    """One long chain by matrix products, with alpha and lambda apart."""
    beta, eta, noise, alpha, curvature = 0.9, 0.9, 1.0, 0.1, 4.0
    random, state, total = np.random.default_rng(1), np.array([1.0, 0.0]), 0.0
    for delta in random.standard_normal(40000):
        state = np.array([[1, -alpha], [curvature * (1 + noise * delta),
                                        beta - alpha * curvature * (1 + eta)]]) @ state
        norm = np.linalg.norm(state)
        total, state = total + np.log(norm), state / norm
    growth = growth_rate(alpha * curvature, beta, eta, noise, updates=2000)
    assert total / 40000 == pytest.approx(growth.mean, abs=0.01)
    assert 0 < growth.standard_error < 0.003


def test_the_standard_error_of_a_rate_is_that_of_a_sample_mean():
    assert GrowthRate(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])).standard_error == pytest.approx([3**-0.5, 0])


def test_growth_without_noise_is_the_larger_modulus():
    for tau in (0.001, -0.0005):   # real eigenvalues, so that the norm does not oscillate
        growth = growth_rate(tau, 0.9, 0.9, 0, updates=1000, chains=2)
        assert growth.mean == pytest.approx(np.log(largest_modulus(tau, 0.9, 0.9, 0, 0)), abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_growth_of_what_becomes_0_is_without_a_lower_bound():
    """(11) is nilpotent there."""
    growth = growth_rate(1.0, 0.0, 0.0, 0.0, updates=20)
    assert growth.mean == max_gain_expectation(1.0, 0.0, 0.0, 0.0) == -np.inf
    assert np.isnan(growth.standard_error)


def test_chains_have_the_same_noise_at_every_point():
    alone = growth_rate(0.001, 0.9, 3, 10, updates=100, chains=4)
    among = growth_rate([[0.4, 0.001]], 0.9, [[0], [3]], 10, updates=100, chains=4)
    assert among.mean.shape == among.standard_error.shape == (2, 2)
    np.testing.assert_allclose(among.chains[1, 1], alone.chains)


@pytest.mark.parametrize(("parameters", "bounds"), [
    ((0.4, 0.9, 0.9, 0.1), False),       # complex for nearly every delta: Psi is below
    ((-0.0005, 0.9, 3, 10), False),      # a saddle point that Psi < 0 calls convergent, and the system leaves
    ((0.4, 0.9, 0.9, 1), True), ((0.001, 0.9, 0.9, 10), True), ((-0.0005, 0.9, 0.9, 30), True)])
def test_where_psi_bounds_the_growth_and_where_it_does_not(parameters, bounds):
    growth = growth_rate(*parameters)
    excess = (growth.mean - max_gain_expectation(*parameters)) / growth.standard_error
    assert excess < -5 if bounds else excess > 5
    if parameters[0] < 0 and not bounds:
        assert max_gain_expectation(*parameters) < 0 < growth.mean


def test_importing_the_plugin_or_this_module_needs_no_scipy():
    script = "import sys; sys.modules['scipy'] = None; import namsg_mx.theory.gain"
    subprocess.run([sys.executable, "-c", script], check=True)
