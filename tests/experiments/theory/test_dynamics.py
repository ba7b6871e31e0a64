"""The real optimizer converges at the rate that Section 3 gives it."""

import numpy as np
import pytest

from experiments.theory.dynamics import measured_rate
from namsg_mx.theory.gain import convergence_region, eigenvalues


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("eta", [0.0, 0.9, 3.0])
def test_namsg_on_quadratics_grows_at_the_larger_modulus(beta, eta):
    """From saddle points over the double eigenvalue to just beyond the region of convergence."""
    tau = np.concatenate([[-1e-2, -1e-4], np.geomspace(1e-4, 1.03 * convergence_region(beta, eta), 20),
                          [(1 - np.sqrt(beta)) ** 2]])
    expected = np.abs(eigenvalues(tau, beta, eta, noise=0, delta=0)).max(axis=0)
    # At the double eigenvalue rounding is seen through a square root.
    np.testing.assert_allclose(measured_rate(tau, beta, eta), expected, rtol=1e-7)


def test_a_divergence_that_moves_the_preconditioner_is_an_error():
    with pytest.raises(ValueError, match="the gradients grow until they move v_hat"):
        measured_rate([100.0], 0.9, 3.0)
