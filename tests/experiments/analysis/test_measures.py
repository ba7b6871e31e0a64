"""The measures of a run, by hand."""

import pandas as pd
import pytest

from experiments.analysis.measures import MEASURES, by_seed

CURVES = pd.DataFrame({"seed": [0, 0, 0, 1, 1, 1], "epoch": [1, 2, 3] * 2, "train_loss": [0.9, 0.5, 0.1, 0.8, 0.4, 0.2],
                       "test_loss": [1.0, 0.8, 0.6, 1.1, 0.7, 0.9], "test_accuracy": [0.1, 0.9, 0.5, 0.2, 0.3, 0.7]})


@pytest.mark.parametrize(("measure", "epochs", "values"), [
    ("train_loss", (2, 3), (0.3, 0.3)), ("test_loss", (1, 1), (1.0, 1.1)), ("test_accuracy", (2, 3), (0.7, 0.5)),
    ("best_test_accuracy", (1, 3), (0.9, 0.7)), ("best_test_accuracy", (3, 3), (0.5, 0.7)),
    ("overfitting", (2, 3), (0.4, 0.5))])
def test_a_value_is_the_mean_or_the_best_of_some_epochs(measure, epochs, values):
    assert by_seed(CURVES, measure, epochs).to_dict() == pytest.approx(dict(enumerate(values)))


def test_losses_are_compared_by_their_ratio_and_all_else_by_its_difference():
    """A difference of losses can be 0 or negative, and has no ratio."""
    assert {name for name, measure in MEASURES.items() if measure.by_ratio} == {
        "train_loss", "train_loss_full", "test_loss"}
