"""Which of the recorded runs means are of, and records that do not belong together."""

import statistics

import pandas as pd
import pytest
from tiny_experiment import record, write_config

from experiments.analysis import results
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError


@pytest.fixture
def experiment(tmp_path):
    return config.load(write_config(tmp_path))   # 3 epochs, seeds 0 and 1


def shown(experiment, folder):
    """The last epoch of each run that counts in means, by seed."""
    epochs = results.read(experiment, folder)[0].epochs
    return epochs.groupby("seed")["epoch"].max().to_dict()


@pytest.mark.parametrize(("made", "expected"), [
    ((3, 3), {0: 3, 1: 3}), ((3, 1), {0: 3}), ((2, 1), {0: 1, 1: 1}), ((2, 0), {0: 2}), ((0, 0), {})])
def test_means_are_of_complete_runs_or_of_an_epoch_that_all_have(experiment, tmp_path, made, expected):
    for run, epochs in zip(experiment.runs(["adam"]), made):
        if epochs:
            record(tmp_path, run, [0.5] * epochs, 3)
    assert shown(experiment, tmp_path) == expected


@pytest.mark.parametrize(("losses", "low", "high"), [
    ([0.0, 0.4, 0.5, 0.6, 1.0], 0.5 - 0.36056, 0.5 + 0.36056),
    ([0.0, 0.0, 0.0, 0.0, 1.0], 0.0, 0.2 + 0.44721),   # 0.2 - 0.44721 would be no loss,
    ([1.0, 1.0, 1.0, 1.0, 0.0], 0.8 - 0.44721, 1.0)])  # and 0.8 + 0.44721 no accuracy
def test_bands_are_of_one_deviation_and_end_where_the_runs_do(experiment, losses, low, high):
    runs = [{"method": "adam", "seed": seed, "epoch": 1, "train_loss": loss} for seed, loss in enumerate(losses)]
    curve = results.Results(experiment, pd.DataFrame(), pd.DataFrame(runs)).curve("adam", "train_loss")
    assert curve.loc[1, ["n", "mean", "low", "high"]].tolist() == pytest.approx(
        [5, sum(losses) / 5, low, high], abs=1e-5)
    assert curve.loc[1, "std"] == pytest.approx(statistics.stdev(losses))


def test_the_band_of_one_run_is_its_line(experiment, tmp_path):
    record(tmp_path, next(iter(experiment.runs(["adam"]))), [0.5], 3)
    curve = results.read(experiment, tmp_path)[0].curve("adam", "train_loss")
    assert curve[["mean", "low", "high"]].loc[1].tolist() == [0.5] * 3


def test_runs_that_diverged_are_counted_and_left_out(experiment, tmp_path):
    first, second = experiment.runs(["adam"])
    record(tmp_path, first, [0.5] * 2, 3, "diverged")
    record(tmp_path, second, [0.5], 3)
    found = results.read(experiment, tmp_path)[0]
    assert found.count("adam") == {"done": 0, "diverged": 1, "short": 1}
    assert shown(experiment, tmp_path) == {1: 1}
    assert found.complete.empty


def test_runs_of_different_kvstores_are_not_pooled(experiment, tmp_path):
    asynchronous = {"kvstore": "dist_async", "workers": 2, "updates_on": "servers"}
    one, two = experiment.runs(["adam"])
    record(tmp_path, one, [0.5] * 3, 3)
    record(tmp_path, two, [0.5] * 3, 3, distributed=asynchronous)
    with pytest.raises(RecordError, match="seed0 was made with no --kvstore, .*seed1 with --kvstore dist_async, 2"):
        results.read(experiment, tmp_path)
    assert results.read(experiment, tmp_path, seeds=[1])[0].count("adam")["done"] == 1


def test_a_folder_with_another_runs_records_is_named(experiment, tmp_path):
    one, two = experiment.runs(["adam"])
    record(tmp_path, one, [0.5] * 3, 3)
    (tmp_path / one.folder).rename(tmp_path / two.folder)
    with pytest.raises(RecordError, match="seed1/config.json: is not the configuration of this run"):
        results.read(experiment, tmp_path)
