"""The report's charts, by hand: means, bands, deviations and n of curves, means of a grid."""

import pandas as pd
import pytest
from tiny_experiment import write_config

from experiments.analysis.results import Results
from experiments.display import charts
from experiments.vocabulary import config
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS


def test_curves_have_means_bands_and_deviations(tmp_path):
    """Of 0.1, 0.2 and 0.6, mean 0.3, the deviation of a sample is sqrt((0.04 + 0.01 + 0.09) / 2) = 0.26458."""
    epochs = [{**dict.fromkeys(EPOCH_COLUMNS, 0.5), "method": "adam", "seed": seed, "epoch": 1, "train_loss": loss}
              for seed, loss in enumerate((0.1, 0.2, 0.6))]
    runs = [{"method": "adam", "seed": seed, "status": "done", "epochs": 1} for seed in range(3)]
    results = Results(config.load(write_config(tmp_path)), [0, 1], pd.DataFrame(runs), pd.DataFrame(epochs))
    train, test, accuracy = charts.curves(results, charts.legend(results))
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


def test_sensitivity_has_dashes_of_its_own_for_each_beta2():
    grid = pd.DataFrame({"method": ["adam"] * 3 + ["sgd"], "learning_rate": 0.001, "beta2": [0.999, 0.9, 0.99, None],
                         "mean": 0.4, "diverged": 0})
    chart, _ = charts.sensitivity(grid, 6)
    assert {line["name"]: line["line"]["dash"] for line in chart["data"]} == {
        "ADAM, β2 = 0.9": "solid", "ADAM, β2 = 0.99": "dash", "ADAM, β2 = 0.999": "dot", "SGD": "solid"}


def test_curves_that_flatten_all_others_are_off_at_first(tmp_path):
    """ADAM's losses are ten times those of the four others. Where it is NAMSG whose are, it stays."""
    text = write_config(tmp_path).read_text()
    block = text.partition("methods:\n")[2].partition("  namsg:\n")[0].partition("  adam:\n")[2]
    path = write_config(tmp_path, text + "".join(f"  {name}:\n{block}" for name in ("a", "b", "c")))
    experiment = config.load(path)
    for far in ("adam", "namsg"):
        epochs = [{**dict.fromkeys(EPOCH_COLUMNS, 0.5), "method": method, "seed": 0, "epoch": epoch,
                   "train_loss": (1 + i / 10) / epoch * (10 if method == far else 1)}
                  for i, method in enumerate(experiment.methods) for epoch in (1, 2, 3)]
        runs = [{"method": method, "seed": 0, "status": "done", "epochs": 3} for method in experiment.methods]
        results = Results(experiment, experiment.seeds, pd.DataFrame(runs), pd.DataFrame(epochs))
        off = {far} - {"namsg"}
        assert {entry.method for entry in charts.legend(results) if not entry.shown} == off
        train, ratio, *_ = charts.curves(results, charts.legend(results))
        assert {trace["meta"] for trace in train["data"] if not trace["visible"]} == off
        assert ratio["layout"]["title"]["text"] == "train loss / NAMSG's"


def test_points_that_flatten_all_others_are_off_at_first():
    grid = pd.DataFrame({"method": ["adam", "adam", "sgd", "sgd", "namsg", "namsg"], "learning_rate": [0.1, 0.2] * 3,
                         "beta2": 0.99, "mean": [0.3, 0.31, 3.0, 0.3, 0.29, 0.3], "diverged": 0})
    chart, entries = charts.sensitivity(grid, 6)
    assert [entry.shown for entry in entries] == [True, False, True]
    assert [line["visible"] for line in chart["data"]] == [True, False, True]
