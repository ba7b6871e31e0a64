"""Epochs to a train loss, by hand; fair to both methods."""

import numpy as np
import pandas as pd
import pytest

from experiments.analysis.epochs_to_loss import epochs_to, epochs_to_common_loss, log_share, share_of_epochs


def curves(**runs):
    return pd.DataFrame([(method, seed, epoch, loss) for method, seeds in runs.items()
                         for seed, losses in seeds.items() for epoch, loss in enumerate(losses, start=1)],
                        columns=["method", "seed", "epoch", "train_loss"])


@pytest.mark.parametrize(("losses", "epochs"), [
    ([0.5, 0.4], 1), ([0.4, 0.3], 1), ([0.9, 0.5], 2), ([0.7, 0.4], 1 + 2 / 3), ([0.9, 0.8, 0.4], 2.75),
    ([0.95, 0.9, 0.8, 0.4], 3.75), ([0.9, 0.6], np.inf)])
def test_a_train_loss_is_reached_between_epochs(losses, epochs):
    assert epochs_to(np.array(losses), 0.5) == pytest.approx(epochs)


def test_the_loss_is_the_lowest_that_both_reach():
    found = epochs_to_common_loss(curves(a={0: [0.8, 0.4, 0.2], 1: [0.8, 0.6, 0.5], 2: [1.0]},
                                         b={0: [0.8, 0.6, 0.4], 1: [0.8, 0.3, 0.4]}), "a", "b", 3)
    assert list(found.index) == [0, 1]
    assert found.to_numpy() == pytest.approx(np.array([[0.4, 2, 3], [0.5, 3, 1.6]]))
    by_epoch_2 = epochs_to_common_loss(curves(a={0: [0.8, 0.4, 0.2]}, b={0: [0.8, 0.6, 0.4]}), "a", "b", 2)
    assert by_epoch_2.to_numpy() == pytest.approx(np.array([[0.6, 1.5, 2]]))


def test_exchanging_the_methods_exchanges_the_epochs_and_a_method_is_as_fast_as_itself():
    random = np.random.default_rng(0)
    made = curves(**{name: {seed: 1 / np.arange(1, 9) + random.normal(0, 0.05, 8) for seed in range(5)}
                     for name in "ab"})
    found, swapped = (epochs_to_common_loss(made, *pair, 8) for pair in ("ab", "ba"))
    assert np.isfinite(found.to_numpy()).all()
    np.testing.assert_array_equal(found[["epochs", "other_epochs"]], swapped[["other_epochs", "epochs"]])
    itself = epochs_to_common_loss(made, "a", "a", 8)
    np.testing.assert_array_equal(itself["epochs"], itself["other_epochs"])


def test_nothing_in_common():
    assert epochs_to_common_loss(curves(a={0: [1.0]}, b={1: [1.0]}), "a", "b", 1).empty


def test_the_share_of_epochs_by_hand():
    """Of 1/2 and 1/4 the geometric mean is 2**-1.5; the half width of two is 12.7062 / 2 times their distance."""
    pairs = pd.DataFrame({"epochs": [2.0, 1.0], "other_epochs": [4.0, 4.0]})
    powers = np.array([1.5, 1.5 + 12.7062 / 2, 1.5 - 12.7062 / 2])
    assert log_share(pairs) == pytest.approx((2, *(-powers * np.log(2))), rel=1e-4)
    assert share_of_epochs(pairs) == pytest.approx((2, *2**-powers), rel=1e-4)
