"""Runs made twice: which count, and by how much they differ, on records whose differences are known."""

import math
import os
from pathlib import Path

import pandas as pd
import pytest
from tiny_experiment import experiments, record, write_config

from experiments.analysis import rounding
from experiments.analysis.results import read
from experiments.display import tables
from experiments.vocabulary import config

CHECKOUT = Path(__file__).parents[3]


def made(folder, first, again):
    """The tiny experiment, and its runs made twice; ``first`` and ``again``: by method and seed, the train losses."""
    experiment = config.load(write_config(folder))
    results = folder / "results"
    for where, losses in ((results / "rounding", first), (results, again)):
        for run in experiment.runs():
            if (run.method, run.seed) in losses:
                record(where, run, losses[run.method, run.seed], 3)
    return experiment, rounding.made_twice(read(experiment, results)[0], results)


LOSSES = [0.9, 0.5, 0.2]


def test_a_run_counts_that_is_complete_both_times(tmp_path):
    _, runs = made(tmp_path, {("adam", 0): LOSSES, ("adam", 1): LOSSES[:2], ("namsg", 1): LOSSES},
                   {("adam", 0): LOSSES, ("adam", 1): LOSSES, ("namsg", 0): LOSSES})
    for rows in runs:
        assert [*zip(rows["method"], rows["seed"], rows["epoch"])] == [("adam", 0, epoch) for epoch in (1, 2, 3)]
    assert runs.methods == ["adam"]


def test_nothing_made_twice(tmp_path):
    _, runs = made(tmp_path, {}, {("adam", 0): LOSSES})
    assert runs.methods == [] and all(rows.empty for rows in runs)


def test_losses_change_by_their_ratio_and_accuracies_by_their_difference(tmp_path):
    _, runs = made(tmp_path, {("adam", 0): [0.9, 0.5, 0.2], ("adam", 1): [0.9, 0.5, 0.4]},
                   {("adam", 1): [0.9, 0.5, 0.3], ("adam", 0): [0.9, 0.5, 0.22]})
    changes = rounding.change(runs, "adam", "train_loss", (3, 3))
    assert changes.to_dict() == pytest.approx({0: math.log(1.1), 1: math.log(0.75)})
    runs.again.loc[runs.again["seed"] == 1, "test_accuracy"] = 0.75   # all others are 0.5
    assert rounding.change(runs, "adam", "test_accuracy", (1, 3)).to_dict() == {0: 0.0, 1: 0.25}
    assert rounding.change(runs, "adam", "best_test_accuracy", (1, 3)).to_dict() == {0: 0.0, 1: 0.25}


def test_what_changes_between_two_stretches_of_epochs(tmp_path):
    """The loss falls to a half in the first run, from 0.9 to 0.3 in the second; accuracies rise by 0.1 and by 0.3."""
    _, runs = made(tmp_path, {("adam", 0): [0.9, 0.5, 0.45]}, {("adam", 0): [0.9, 0.8, 0.3]})
    changes = rounding.change(runs, "adam", "train_loss", (3, 3), (1, 1))
    assert changes.to_dict() == pytest.approx({0: math.log((0.3 / 0.9) / (0.45 / 0.9))})
    runs.first["test_accuracy"], runs.again["test_accuracy"] = [0.5, 0.5, 0.6], [0.4, 0.5, 0.7]
    assert rounding.change(runs, "adam", "test_accuracy", (3, 3), (1, 1)).to_dict() == pytest.approx({0: 0.3 - 0.1})


def test_epochs_to_a_common_loss(tmp_path):
    _, runs = made(tmp_path, {("adam", 0): [0.8, 0.6, 0.4]}, {("adam", 0): [0.8, 0.4, 0.3]})
    assert rounding.change_of_epochs(runs, "adam", 3).to_dict() == pytest.approx({0: math.log(2 / 3)})


def test_the_size_of_changes_is_their_root_mean_square():
    assert rounding.size(pd.Series([3.0, -4.0])) == pytest.approx(math.sqrt(12.5))


def test_the_table_has_sizes_mean_and_the_largest_change(tmp_path):
    again = {("adam", 0): [0.9, 0.6, 0.2 * math.exp(0.3)], ("adam", 1): [0.9, 0.5, 0.2 * math.exp(-0.1)],
             ("namsg", 0): [1.8, 0.5, 0.2]}
    experiment, runs = made(tmp_path, dict.fromkeys(again, LOSSES), again)
    runs.again.loc[(runs.again["seed"] == 1) & (runs.again["epoch"] == 2), ["test_loss", "test_accuracy"]] = 3.0, 0.25
    runs.again.loc[(runs.again["seed"] == 0) & (runs.again["epoch"] == 3), "test_accuracy"] = 0.6   # others: 1.5, 0.5
    adam, namsg = tables.of_rounding([(experiment, runs)]).numbers.to_dict("records")
    half = 12.7062047364 * 0.2   # of the interval of two values 0.4 apart: t quantile times the standard error
    assert adam == pytest.approx({
        "experiment": "tiny", "method": "adam", "n": 2, "train_loss_first": 0.0,
        "train_loss_last": math.expm1(math.sqrt(0.05)), "train_loss_mean": math.expm1(0.1),
        "low": math.expm1(0.1 - half), "high": math.expm1(0.1 + half), "train_loss_largest": math.expm1(0.3),
        "test_loss_largest": 1.0, "test_accuracy_last": math.sqrt(0.01 / 2), "test_accuracy_largest": 0.25})
    assert (namsg["n"], namsg["train_loss_first"], namsg["train_loss_largest"]) == pytest.approx((1, 1.0, 1.0))
    cells = tables.of_rounding([(experiment, runs)]).cells
    assert list(cells["last epoch, mean"]) == ["+0.11 (-0.91 to +13)", "+0"]


def test_the_table_has_the_factor_between_two_runs_whichever_is_higher(tmp_path):
    """As its title says: a loss that falls to a quarter is a factor of 4, as one that rises to four times it."""
    for again in (0.05, 0.8):
        (tmp_path / f"{again}").mkdir()
        experiment, runs = made(tmp_path / f"{again}", {("adam", 0): LOSSES}, {("adam", 0): [0.9, 0.5, again]})
        table = tables.of_rounding([(experiment, runs)])
        assert table.numbers["train_loss_largest"].item() == table.numbers["train_loss_last"].item() == pytest.approx(3)
        assert table.numbers["train_loss_mean"].item() == pytest.approx(again / 0.2 - 1)
    assert "the factor between the two runs, to either side, less 1" in table.title


@pytest.mark.filterwarnings("error")
def test_a_run_made_again_may_end_as_far_off_as_floats_go(tmp_path):
    experiment, runs = made(tmp_path, dict.fromkeys([("adam", 0), ("adam", 1)], LOSSES),
                            {("adam", 0): [0.9, 0.5, 1e200], ("adam", 1): [0.9, 0.0, 0.2]})
    row, = tables.of_rounding([(experiment, runs)]).numbers.to_dict("records")
    assert (row["high"], row["train_loss_largest"]) == (math.inf, math.inf)


def test_the_command_shows_what_another_number_of_threads_moves(tmp_path):
    (tmp_path / "configs").mkdir()
    write_config(tmp_path / "configs")
    in_folder = {"cwd": tmp_path, "env": dict(os.environ, PYTHONPATH=str(CHECKOUT))}
    for threads, folder in (("1", "results"), ("2", "results/rounding")):
        nothing = experiments("table", "rounding", **in_folder)
        assert (nothing.returncode, nothing.stderr) == (
            1, "experiments: results/rounding: no run there that results has, too\n")
        run = experiments("run", "configs/tiny.yaml", "--threads", threads, "--results", folder, **in_folder)
        assert run.returncode == 0, run.stderr
    shown = experiments("table", "rounding", **in_folder)
    assert shown.returncode == 0, shown.stderr
    written = pd.read_csv(tmp_path / "results" / "tables" / "rounding.csv")
    assert [*zip(written["method"], written["n"])] == [("adam", 2), ("namsg", 2)]
    assert (written["train_loss_largest"] < 1e-5).all()
    of_one = experiments("table", "rounding", "--config", "configs/tiny.yaml", **in_folder)
    assert of_one.stdout == shown.stdout
