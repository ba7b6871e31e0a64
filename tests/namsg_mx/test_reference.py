"""The reference itself: steps worked by hand, and the paper's identities."""

import mxnet as mx
import numpy as np
import pytest
from comparison import assert_equal_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from namsg_mx import reference

ALPHA, BETA1, BETA2, ETA = 0.1, 0.5, 0.75, 1.0


def test_three_steps_of_namsg_worked_by_hand():
    """Gradients 2, 4, -2 with epsilon 0.01; at beta1 = 1/2 and eta = 1, mu = 1: the step is g / sqrt(v_hat)."""
    x, state = 1.0, reference.initial_moments(np.float64(1.0), epsilon=0.01)
    worked = [   # g, m, v, v_hat
        (2.0, 1.0, 1.0, 1.0),          # m = 0.5 * 2;         v = 0.25 * 4
        (4.0, 2.5, 4.75, 4.75),        # m = 0.5 + 2;         v = 0.75 + 4
        (-2.0, 0.25, 4.5625, 4.75),    # m = 1.25 - 1;        v = 3.5625 + 1, below the maximum
    ]
    for g, m, v, v_hat in worked:
        expected = x - 0.1 * g / v_hat**0.5
        x, state = reference.namsg(x, g, state, ALPHA, BETA1, BETA2, ETA)
        assert state == (m, v, v_hat)
        assert x == pytest.approx(expected, rel=1e-15)


def test_namsg_mixes_momentum_and_gradient_by_mu():
    """eta = 0.25 at beta1 = 1/2: mu = 1/4, so the second step is (3/4 * 2.5 + 1/4 * 4) / sqrt(4.75)."""
    x, state = reference.namsg(1.0, 2.0, reference.initial_moments(np.float64(1), 0.01), ALPHA, BETA1, BETA2, 0.25)
    assert x == pytest.approx(1 - 0.1 * (0.75 * 1 + 0.25 * 2) / 1.0, rel=1e-15)
    x_next, _ = reference.namsg(x, 4.0, state, ALPHA, BETA1, BETA2, 0.25)
    assert x_next == pytest.approx(x - 0.1 * (0.75 * 2.5 + 0.25 * 4) / 4.75**0.5, rel=1e-15)


def test_epsilon_is_the_first_v_hat_and_nothing_else():
    x, state = reference.namsg(0.0, 1e-9, reference.initial_moments(np.float64(0), 1e-8), 1.0, 0.9, 0.99, 0.0)
    assert state.v_hat == 1e-8
    assert x == pytest.approx(-(0.1 * 1e-9) / 1e-4, rel=1e-12)


@pytest.mark.parametrize("x", [1, np.float32(1), np.ones(2, np.float32), np.ones(2, int)])
def test_moments_begin_in_float64_whatever_the_weights_are(x):
    state = reference.initial_moments(x, 0.1)
    assert {(moment.dtype, moment.shape) for moment in state} == {(np.dtype(np.float64), np.shape(x))}
    assert (state.v_hat == 0.1).all() and not state.m.any() and not state.v.any()


def test_projection_clips_each_element_to_the_box():
    x, _ = reference.namsg(np.array([0.0, 0.0]), np.array([1.0, -1.0]), reference.initial_moments(np.zeros(2)),
                           10.0, BETA1, BETA2, ETA, bounds=(-0.25, 0.5))
    assert x.tolist() == [-0.25, 0.5]
    x, x_hat, _ = reference.namsg_original(np.array([0.0, 0.0]), np.array([1.0, -1.0]),
                                           reference.initial_moments(np.zeros(2)), 10.0, BETA1, BETA2, ETA,
                                           bounds=(-0.25, 0.5))
    assert x.tolist() == x_hat.tolist() == [-0.25, 0.5]


def test_gradient_is_rescaled_then_decayed_then_clipped():
    assert reference.gradient(8.0, 2.0, rescale_grad=0.5, wd=0.25) == 4.5
    assert reference.gradient(8.0, 2.0, rescale_grad=0.5, wd=0.25, clip_gradient=4.0) == 4.0
    assert reference.gradient(-8.0, -2.0, rescale_grad=0.5, wd=0.25, clip_gradient=4.0) == -4.0


def test_amsgrad_is_namsg_without_observation_distance_to_the_bit():
    random = np.random.RandomState(0)
    a = b = random.standard_normal(100)
    state_a = state_b = reference.initial_moments(a)
    for _ in range(20):
        g = random.standard_normal(100)
        a, state_a = reference.amsgrad(a, g, state_a, ALPHA, 0.9, 0.99)
        b, state_b = reference.namsg(b, g, state_b, ALPHA, 0.9, 0.99, eta=0.0)
        assert_equal_bits([a, *state_a], [b, *state_b])


@settings(deadline=None, derandomize=True)
@given(beta1=st.floats(0.05, 0.99), eta=st.floats(0, 5), alpha=st.floats(1e-4, 0.1), seed=st.integers(0, 2**32 - 1))
def test_original_form_equals_algorithm_1_where_v_hat_is_constant(beta1, eta, alpha, seed):
    """Form (6) with constant alpha, beta1, eta and v_hat, and no projection: its x_hat is Algorithm 1's x."""
    random = np.random.RandomState(seed)
    x = x_hat = observed = random.standard_normal(5)
    # An epsilon above every v to come holds v_hat constant.
    state_6 = state_1 = reference.initial_moments(x, epsilon=1e4)
    for _ in range(30):
        target = random.standard_normal(5)
        x, x_hat, state_6 = reference.namsg_original(x, x_hat - target, state_6, 100 * alpha, beta1, 0.99, eta)
        observed, state_1 = reference.namsg(observed, observed - target, state_1, 100 * alpha, beta1, 0.99, eta)
        np.testing.assert_allclose(observed, x_hat, rtol=1e-10, atol=1e-12)


def test_three_steps_of_namsb_worked_by_hand():
    """As NAMSG's above (m_hat = g), at alpha = alpha_SGD = 0.1 and gamma = 1: root in [t / (t + 1), (t + 1) / t]."""
    x, state = 1.0, reference.initial_moments(np.float64(1.0), epsilon=0.01)
    worked = [   # g, v_hat, clipped root
        (2.0, 1.0, 1.0),       # xi in [0.05, 0.2]: the root 1 is between 1/2 and 2
        (4.0, 4.75, 1.5),      # xi in [0.2/3, 0.15]: 2.18 is above 3/2
        (0.5, 4.75, 4 / 3),    # v = 3.5625 + 0.0625, below the maximum; above 4/3
    ]
    for t, (g, v_hat, root) in enumerate(worked, start=1):
        expected = x - 0.1 * g / root
        x, state = reference.namsb(x, g, state, t, ALPHA, BETA1, BETA2, ETA, alpha_sgd=0.1, gamma=1.0)
        assert state.v_hat == v_hat
        assert x == pytest.approx(expected, rel=1e-14)


def test_amsbound_is_held_above_the_lower_limit_of_the_root():
    """root sqrt(0.01) = 0.1 at t = 1, below alpha / xi_u = 1/2: the step is alpha_SGD * 2 * m, m = 0.5 * 0.1."""
    x, _ = reference.amsbound(0.0, 0.1, reference.initial_moments(np.float64(0.0), 0.01), 1, ALPHA, BETA1, BETA2,
                              alpha_sgd=0.1, gamma=1.0)
    assert x == pytest.approx(-0.1 * 2 * 0.05, rel=1e-14)


def test_step_limits_close_in_on_sgd():
    assert reference.step_limits(1, 0.5, 0.001) == pytest.approx((0.5 * 0.001 / 1.001, 0.5 * 1001))
    assert reference.step_limits(10**9, 0.5, 0.001) == pytest.approx((0.5, 0.5), rel=1e-5)


def test_sgd_conventions_agree_for_a_constant_step_size():
    """protocol: the paper's (alpha, beta) is MXNet's learning_rate = (1 - beta) alpha, momentum = beta."""
    random = np.random.RandomState(0)
    a = b = random.standard_normal(10)
    m = velocity = np.zeros(10)
    for _ in range(30):
        g = random.standard_normal(10)
        a, m = reference.sgd(a, m, g, alpha=1.0, beta=0.9)
        b, velocity = reference.sgd_mxnet(b, velocity, g, learning_rate=0.1, momentum=0.9)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_switched_step_size_projects_sgd_on_the_last_adaptive_step():
    """proj of alpha_hat * m_hat on u_hat is u_hat: alpha_hat <m_hat, u> / ||u||**2 = 1, over all arrays together."""
    random = np.random.RandomState(0)
    m_hats = [random.standard_normal(n) for n in (3, 5)]
    v_hats = [random.uniform(0.1, 1, n) for n in (3, 5)]
    alpha_hat = reference.switched_step_size(m_hats, v_hats, alpha=0.01)
    u = np.concatenate([0.01 * m / np.sqrt(v) for m, v in zip(m_hats, v_hats)])
    direction = alpha_hat * np.concatenate(m_hats)
    np.testing.assert_allclose((direction @ u) / (u @ u), 1.0, rtol=1e-14)


def test_adam_is_mxnets():
    """The definition beside the one that the experiments run: every argument in its place, over twelve steps."""
    random = np.random.RandomState(0)
    optimizer = mx.optimizer.create("adam", learning_rate=0.1, beta1=0.8, beta2=0.95, epsilon=1e-2)
    x, m, v = random.standard_normal(20), np.zeros(20), np.zeros(20)
    weight = mx.nd.array(x)
    state = optimizer.create_state(0, weight)
    for t in range(1, 13):
        g = random.standard_normal(20)
        x, m, v = reference.adam(x, m, v, g, t=t, alpha=0.1, beta1=0.8, beta2=0.95, epsilon=1e-2)
        optimizer.update(0, weight, mx.nd.array(g), state)
        np.testing.assert_allclose(weight.asnumpy(), x, atol=2e-6)


def test_first_step_of_adam_and_nadam_by_hand():
    """At t = 1 both moments are g's and its square's, bias corrected: Adam moves by alpha * sign(g)."""
    x, m, v = reference.adam(0.0, 0.0, 0.0, 4.0, t=1, alpha=0.1, beta1=0.9, beta2=0.99, epsilon=0.0)
    assert (m, v) == (pytest.approx(0.4), pytest.approx(0.16))
    assert x == pytest.approx(-0.1)
    mu1, mu2 = reference.nadam_momentum(1, 0.9), reference.nadam_momentum(2, 0.9)
    assert mu1 == pytest.approx(0.9 * (1 - 0.5 * 0.96**0.004))
    x, _, _ = reference.nadam(0.0, 0.0, 0.0, 4.0, t=1, alpha=0.1, beta1=0.9, beta2=0.99, epsilon=0.0)
    m_bar = (1 - mu1) * 4.0 / (1 - mu1) + mu2 * 0.4 / (1 - mu1 * mu2)
    assert x == pytest.approx(-0.1 * m_bar / 4.0)
