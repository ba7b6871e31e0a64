"""The report's charts, by hand: means, bands, deviations and n of curves, means of a grid."""

import pandas as pd
import pytest
from tiny_experiment import write_config

from experiments.analysis.results import Results
from experiments.display import charts
from experiments.vocabulary import config
from experiments.vocabulary.records import EPOCH_COLUMNS


def test_curves_have_means_bands_and_deviations(tmp_path):
    """Of 0.1, 0.2 and 0.6, mean 0.3, the deviation of a sample is sqrt((0.04 + 0.01 + 0.09) / 2) = 0.26458."""
    epochs = [{**dict.fromkeys(EPOCH_COLUMNS, 0.5), "method": "adam", "seed": seed, "epoch": 1, "train_loss": loss}
              for seed, loss in enumerate((0.1, 0.2, 0.6))]
    runs = [{"method": "adam", "seed": seed, "status": "done", "epochs": 1} for seed in range(3)]
    results = Results(config.load(write_config(tmp_path)), pd.DataFrame(runs), pd.DataFrame(epochs))
    train, test, accuracy = charts.curves(results)
    low, high, mean = train["data"]
    assert [trace["y"] for trace in (low, high, mean)] == [[0.1], [pytest.approx(0.56458)], [pytest.approx(0.3)]]
    assert list(mean["customdata"]) == ["0.26, n = 3"]
    assert [panel["data"][2]["customdata"][0] for panel in (test, accuracy)] == ["0, n = 3"] * 2
    assert charts.legend(results)[0].label == "ADAM (n = 3 of 2)"


def test_sensitivity_has_the_means_of_points_where_no_run_diverged():
    grid = pd.DataFrame({"method": "adam", "learning_rate": [0.001, 0.002, 0.005], "beta2": 0.99,
                         "mean": [0.4, 0.25, float("inf")], "diverged": [0, 0, 1]})
    chart, entries = charts.sensitivity(grid, 6)
    line, = chart["data"]
    assert list(line["y"]) == [0.4, 0.25]
    assert (line["name"], [entry.label for entry in entries]) == ("ADAM, β2 = 0.99", ["ADAM"])
