"""Where a step size drops."""

import pandas as pd
import pytest

from experiments.analysis.step_size import first_epoch_after_drop


def epochs(rates, sgd_rates=None, method="namsg", seed=0):
    """Rows of a run with these step sizes, the last epoch first."""
    sgd_rates = sgd_rates or [None] * len(rates)
    return [(method, seed, epoch, rate, sgd_rate)
            for epoch, (rate, sgd_rate) in enumerate(zip(rates, sgd_rates), start=1)][::-1]


def first(*runs):
    columns = ["method", "seed", "epoch", "learning_rate", "sgd_learning_rate"]
    return first_epoch_after_drop(pd.DataFrame([row for run in runs for row in run], columns=columns))


@pytest.mark.parametrize(("rates", "epoch"), [
    ([1, 1, 0.1, 0.1], 3), ([1, 0.39], 2), ([1, 0.41], None), ([1, 1 / 2, 1 / 3, 1 / 4], None), ([0.1, 1], None),
    ([1], None), ([], None)])
def test_a_drop_is_to_less_than_two_fifths_in_one_epoch(rates, epoch):
    assert first(epochs(rates)) == epoch


def test_it_is_the_first_of_any_run_and_of_either_step_size():
    steady, later = epochs([1] * 5, seed=1), epochs([1, 1, 1, 0.1, 0.1], method="adam")
    assert first(steady, later) == 4
    assert first(steady, later, epochs([1, 1, 1], [None, 0.5, 0.05])) == 3


def test_a_run_that_begins_lower_than_another_one_has_not_dropped():
    assert first(epochs([1, 1]), epochs([0.01, 0.01], seed=1), epochs([0.02, 0.02], method="adam")) is None
