"""What a grid search selects, by hand-worked losses."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from tiny_experiment import CONFIG, step_size_grid, write_config

from experiments.analysis import selection
from experiments.analysis.results import Grid, collect_grid
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError

CHECKOUT = Path(__file__).parents[3]
THREE = CONFIG.replace("learning_rate: [0.001, 0.005]", "learning_rate: [0.001, 0.002, 0.005]")
LOSSES = {   # by method and step size, each seed's; NaN: it diverged
    "adam": {0.001: (0.5, 0.6, 0.7), 0.002: (0.4, 0.4, 0.7), 0.005: (0.3, math.nan, 0.3)},
    "namsg": {0.001: (0.1, 0.1, 0.1), 0.002: (0.3, 0.2, 0.1), 0.005: (0.2, 0.2, 0.2)}}


def grid(folder, losses):
    experiment = config.load(write_config(folder, THREE))
    runs = [(method, learning_rate, 0.9, 0.99, seed, "diverged" if math.isnan(loss) else "done",
             math.inf if math.isnan(loss) else loss)
            for method, points in losses.items() for learning_rate, its in points.items()
            for seed, loss in enumerate(its)]
    names = ["learning_rate", "beta1", "beta2"]
    return Grid(experiment, [0, 1, 2], names,
                pd.DataFrame(runs, columns=["method", *names, "seed", "status", "train_loss"]))


def test_means_and_deviations_of_each_point(tmp_path):
    points = selection.averages(grid(tmp_path, LOSSES)).set_index(["method", "learning_rate"])
    assert points["n"].tolist() == [3, 3, 2, 3, 3, 3]
    assert points["diverged"].tolist() == [0, 0, 1, 0, 0, 0]
    assert points["mean"].tolist() == pytest.approx([0.6, 0.5, math.inf, 0.1, 0.2, 0.2])
    assert points["std"].tolist() == pytest.approx([0.1, math.sqrt(0.03), math.nan, 0, 0.1, 0], nan_ok=True)


@pytest.mark.parametrize("name", ["mnist_logistic", "mnist_cnn"])
def test_the_committed_selection_is_that_of_the_committed_runs(name):
    experiment = config.load(CHECKOUT / "configs" / f"{name}.yaml")
    searched = collect_grid(experiment, CHECKOUT / "results", None, None, partial=False)
    recorded = json.loads((CHECKOUT / "results" / name / "selection.json").read_text())["methods"]
    assert selection.select(searched) == recorded


@pytest.mark.filterwarnings("error")
def test_a_mean_may_be_as_large_as_floats_are(tmp_path):
    points = selection.averages(grid(tmp_path, {"adam": {0.001: (1e200, 0.5, 0.5)}}))
    assert (points["mean"].item(), points["std"].item()) == (pytest.approx(1e200 / 3), math.inf)


def test_each_method_has_the_lowest_of_its_own_points(tmp_path):
    """One with a diverged run is out, however low its other losses are."""
    adam, namsg = selection.select(grid(tmp_path, LOSSES)).values()
    assert adam == {"chosen": {"learning_rate": 0.002, "beta1": 0.9, "beta2": 0.99}, "train_loss": pytest.approx(0.5),
                    "n": 3, "points": 3, "diverged": 1, "edges": []}
    assert namsg == {"chosen": {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.99}, "train_loss": pytest.approx(0.1),
                     "n": 3, "points": 3, "diverged": 0, "edges": ["learning_rate"]}


def test_what_the_grid_does_not_vary_is_not_chosen(tmp_path):
    chosen = selection.select(step_size_grid(tmp_path, {0.001: (0.5, 0.7), 0.005: (0.4, 0.5), 0.02: (0.1, math.inf)}))
    assert chosen["adam"] == {"chosen": {"learning_rate": 0.005}, "train_loss": 0.45, "n": 2, "points": 3,
                              "diverged": 1, "edges": []}
    edge = selection.select(step_size_grid(tmp_path, {0.001: (0.5, 0.7), 0.005: (0.4, 0.5), 0.02: (0.1, 0.2)}))["adam"]
    assert edge["edges"] == ["learning_rate"]


def test_a_chosen_value_is_the_grids_own(tmp_path):
    """A number of updates stays whole: the optimizer takes no other."""
    text = CONFIG.replace("grid: {learning_rate: [0.001, 0.005], beta1: [0.9], beta2: [0.99]}",
                          "grid: {switch_to_sgd: [5, 15]}").replace("optimizer: adam", "optimizer: namsg")
    experiment = config.load(write_config(tmp_path, text))
    runs = [("adam", at, 0, "done", loss) for at, loss in ((5, 0.2), (15, 0.3))]
    grid = Grid(experiment, [0], ["switch_to_sgd"],
                pd.DataFrame(runs, columns=["method", "switch_to_sgd", "seed", "status", "train_loss"]))
    chosen = selection.select(grid)["adam"]["chosen"]
    assert chosen == {"switch_to_sgd": 5} and type(chosen["switch_to_sgd"]) is int


@pytest.mark.parametrize("method", ["adam", "namsg"])
def test_a_method_that_diverged_everywhere_leaves_the_others_theirs(tmp_path, method):
    losses = {**LOSSES, method: dict.fromkeys(LOSSES[method], (0.1, math.nan, 0.1))}
    other, = {"adam", "namsg"} - {method}
    assert list(selection.select(grid(tmp_path, losses))) == [other]
    lines = selection.describe(grid(tmp_path, losses)).splitlines()
    assert lines[0] == selection.RULE + ":"
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:]}
    assert told == {method: "nothing, as a run diverged at each of its points",
                    other: {"adam": "learning_rate 0.002, beta1 0.9, beta2 0.99: 0.5000 (n = 3, best of 3 points)",
                            "namsg": "learning_rate 0.001, beta1 0.9, beta2 0.99: 0.1000 (n = 3, best of 3 points; on "
                                     "the edge of the grid in learning_rate)"}[other]}


def test_a_small_loss_is_told(tmp_path):
    losses = {"adam": {0.001: (2e-5,) * 3, 0.002: (1.25e-5,) * 3, 0.005: (3e-5,) * 3}}
    assert "0.99: 1.250e-05 (n = 3" in selection.describe(grid(tmp_path, losses))


def test_a_selection_of_another_grid_search_says_how_to_select_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("configs", "results/tiny"):
        (tmp_path / folder).mkdir(parents=True)
    selection.write(grid(tmp_path / "configs", LOSSES), Path("results"))
    assert selection.chosen(config.load(write_config(Path("configs"), THREE)), Path("results"))
    with pytest.raises(RecordError, match="; python -m experiments grid configs/tiny.yaml selects anew"):
        selection.chosen(config.load(write_config(Path("configs"))), Path("results"))


def test_a_line_over_the_step_size_shows_the_lowest_of_the_others():
    points = pd.DataFrame([("adam", 0.1, 0.99, 0.9, 0, 0.7), ("adam", 0.1, 0.99, 3.0, 0, 0.5),
                           ("adam", 0.1, 0.999, 0.9, 0, 0.6), ("adam", 0.2, 0.99, 0.9, 1, 0.1),
                           ("sgd", 0.1, math.nan, math.nan, 0, 0.9), ("other", math.nan, 0.9, 0.9, 0, 0.2)],
                          columns=["method", "learning_rate", "beta2", "eta", "diverged", "mean"])
    assert selection.along_step_size(points).index.tolist() == [1, 2, 4]
