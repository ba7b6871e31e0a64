"""Which of the recorded runs means are of, and records that do not belong together."""

import re
import shlex
import statistics
from pathlib import Path

import pandas as pd
import pytest
from tiny_experiment import CONFIG, record, write_config

from experiments.analysis import results
from experiments.commands import cli
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.records import RunRecord


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
    curve = results.Results(experiment, range(5), pd.DataFrame(), pd.DataFrame(runs)).curve("adam", "train_loss")
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
    assert found.count_runs("adam") == {"done": 0, "diverged": 1, "short": 1}
    assert shown(experiment, tmp_path) == {1: 1}
    assert found.complete.empty


def test_runs_of_different_kvstores_are_not_pooled(experiment, tmp_path):
    asynchronous = {"kvstore": "dist_async", "workers": 2, "updates_on": "servers"}
    one, two = experiment.runs(["adam"])
    record(tmp_path, one, [0.5] * 3, 3)
    record(tmp_path, two, [0.5] * 3, 3, distributed=asynchronous)
    with pytest.raises(RecordError, match="seed0 was made with no --kvstore, .*seed1 with --kvstore dist_async, 2"):
        results.read(experiment, tmp_path)
    assert results.read(experiment, tmp_path, seeds=[1])[0].count_runs("adam")["done"] == 1


def test_runs_of_one_kvstore_are_pooled(experiment, tmp_path):
    for run in experiment.runs(["adam"]):
        record(tmp_path, run, [0.5] * 3, 3, distributed={"kvstore": "dist_sync", "workers": 2, "updates_on": "workers"})
    assert results.read(experiment, tmp_path, ["adam"])[0].count_runs("adam")["done"] == 2


CHOICES = {"layers": ["Dense(784 -> 10, linear)"], "initial_weights": "0123", "pixels": [0.0, 1.0],
           "train_images": [300, 1, 28, 28], "test_images": [100, 1, 28, 28], "optimizer": {"beta1": 0.9}}


@pytest.mark.parametrize(("changed", "named"), [
    ({"layers": []}, "layers"), ({"initial_weights": "4567"}, "initial_weights"), ({"pixels": [0, 255]}, "pixels"),
    ({"train_images": [299, 1, 28, 28]}, "train_images"), ({"test_images": [1]}, "test_images"),
    ({"optimizer": {}}, None), ({}, None), (None, None)])
def test_runs_with_one_seed_begin_with_the_same_network_and_images(experiment, tmp_path, monkeypatch, changed, named):
    """What ADAM's and NAMSG's say of it; older ones say nothing (None). Another seed has other weights."""
    def made_with(run, options):
        choices = {**CHOICES, **(changed or {})} if run.method == "namsg" else CHOICES
        choices = {**choices, "initial_weights": f"{choices['initial_weights']} of seed {run.seed}"}
        older = changed is None and run.method == "namsg"
        return {**plain(run, options), **({} if older else {"choices": choices})}

    plain = config.Run.config_json
    monkeypatch.setattr(config.Run, "config_json", made_with)
    for run in experiment.runs():
        record(tmp_path, run, [0.5] * 3, 3)
    for run in experiment.grid_runs():
        record(tmp_path, run, [0.5] * 3, 3)
    for read in (results.read, results.read_grid):
        if named is None:
            assert not read(experiment, tmp_path)[1]
            continue
        with pytest.raises(RecordError, match=f"namsg/.* was made with other {named} than .*/adam/.*seed") as error:
            read(experiment, tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("named", ["layers", "pixels", "train_images", "test_images"])
def test_runs_of_one_method_have_the_same_network_and_images_with_every_seed(experiment, tmp_path, monkeypatch, named):
    def made_with(run, options):
        return {**plain(run, options), "choices": {**CHOICES, **({named: [run.seed]} if run.seed else {})}}

    plain = config.Run.config_json
    monkeypatch.setattr(config.Run, "config_json", made_with)
    for run in experiment.runs(["adam"]):
        record(tmp_path, run, [0.5] * 3, 3)
    with pytest.raises(RecordError, match=f"-seed1 was made with other {named} than .*-seed0 "):
        results.read(experiment, tmp_path, ["adam"])


def test_a_folder_with_another_runs_records_is_named(experiment, tmp_path):
    one, two = experiment.runs(["adam"])
    record(tmp_path, one, [0.5] * 3, 3)
    (tmp_path / one.folder).rename(tmp_path / two.folder)
    with pytest.raises(RecordError, match=r"seed1/config.json: is not the configuration of this run, but of one with "
                                          r"seed 0; move .*seed1 elsewhere$"):
        results.read(experiment, tmp_path)


@pytest.mark.parametrize(("old", "new"), [
    ('"workers": 2', '"workers": 3'), ('"initial_weights": "a"', '"initial_weights": "b"'), ('"seed": 0', '"seed": 7'),
    ('"threads": 1', '"threads": 2')])
def test_what_was_changed_is_named_and_not_what_it_differs_from(experiment, tmp_path, monkeypatch, old, new):
    """Where the change makes it differ from other runs, or from what is asked for."""
    plain, distributed = config.Run.config_json, {"kvstore": "dist_sync", "workers": 2, "updates_on": "workers"}
    monkeypatch.setattr(config.Run, "config_json", lambda run, options: {
        **plain(run, options), "choices": {"initial_weights": "a"}})
    for runs, read in ((experiment.runs(seeds=[0]), lambda: results.read(experiment, tmp_path, seeds=[0])),
                       (experiment.grid_runs(), lambda: results.read_grid(experiment, tmp_path))):
        for run in runs:
            record(tmp_path, run, [0.5] * 3, 3, distributed=distributed)
        path = tmp_path / runs[-1].folder / "config.json"
        whole = path.read_text()
        changed = re.sub(r'"seed": \d+', '"seed": 7', whole) if "seed" in old else whole.replace(old, new)
        assert changed != whole
        path.write_text(changed)
        with pytest.raises(RecordError, match="config.json: damaged: not what was written"):
            read()
        if "initial_weights" in old:   # which nobody can ask for
            continue
        with pytest.raises(RecordError, match="config.json: damaged: not what was written"):
            RunRecord(path.parent).check(run.config_json(RunOptions(tmp_path, 3, None, "cpu", 1, None, distributed)))


def test_the_rows_of_each_method_are_its_own(experiment, tmp_path):
    """Whatever their names, and in the configuration's order."""
    runs = [("namsg", 0, "done", 2), ("adam", 0, "short", 1)]
    epochs = pd.DataFrame([(method, seed, epoch) for method, seed, _, last in runs for epoch in range(1, last + 1)],
                          columns=["method", "seed", "epoch"])
    shown = results._shown(pd.DataFrame(runs, columns=["method", "seed", "status", "epochs"]), epochs)
    assert shown.values.tolist() == [["namsg", 0, 1], ["namsg", 0, 2], ["adam", 0, 1]]
    assert shown.index.tolist() == [0, 1, 2]


def test_a_loss_over_anothers_is_of_the_seeds_and_epochs_that_both_have(experiment, tmp_path):
    (adam, adam_too), (namsg, namsg_too) = (experiment.runs([method]) for method in ("adam", "namsg"))
    for run, losses in ((adam, [0.8, 0.4, 0.2]), (adam_too, [0.9, 0.6, 0.3]), (namsg, [0.4, 0.1, 0.1])):
        record(tmp_path, run, losses, 3)
    found = results.read(experiment, tmp_path)[0]
    assert found.loss_ratio("adam", "namsg")["mean"].tolist() == pytest.approx([2, 4, 2])
    assert found.loss_ratio("namsg", "adam")["n"].tolist() == [1, 1, 1]
    assert (found.describe_n("adam"), found.describe_n("namsg")) == ("2", "1 of 2")


@pytest.mark.filterwarnings("error")
def test_a_loss_over_anothers_is_left_out_where_one_is_0(experiment, tmp_path):
    for method, losses in (("adam", [0.8, 0.0, 0.2]), ("namsg", [0.0, 0.0, 0.1])):
        record(tmp_path, experiment.runs([method])[0], losses, 3)
    ratio = results.read(experiment, tmp_path)[0].loss_ratio("adam", "namsg")
    assert ratio["mean"].to_dict() == pytest.approx({3: 2})


@pytest.mark.parametrize(("made", "partial", "refused"), [
    ((3, 3), False, None), ((3, 3), True, None), ((3, 1), False, "1 runs .* seed 1 with 1 of 3 epochs"),
    ((3, 1), True, None), ((0, 0), True, "2 runs .* seed 0 with 0 of 3 epochs"),
    ((0, 0), False, "2 runs .* seed 0 with 0 of 3 epochs")])
def test_missing_runs_are_refused_or_with_partial_left_out(experiment, tmp_path, made, partial, refused):
    for run, epochs in zip(experiment.runs(["adam"]), made):
        if epochs:
            record(tmp_path, run, [0.5] * epochs, 3)
    if refused is None:
        assert len(results.collect(experiment, tmp_path, ["adam"], None, partial).runs) == 2
        return
    with pytest.raises(RecordError, match=refused) as error:
        results.collect(experiment, tmp_path, ["adam"], None, partial)
    advice = "" if partial or not any(made) else ", or show the others by --partial"
    assert str(error.value).endswith(f"make them by python -m experiments run {experiment.path} --method adam "
                                     f"--results {tmp_path}{advice}")


@pytest.mark.parametrize(("command", "folder", "arguments", "words"), [
    ("run", "results", {}, "--method adam namsg"), ("run", "results", {"methods": ["namsg"]}, "--method namsg"),
    ("run", "my results", {"seeds": [0, 7, 8]}, "--method adam namsg --seeds 0,7-8 --results 'my results'"),
    ("run", "results", {"methods": ["namsg"], "seeds": [0]}, "--method namsg --seeds 0"),
    ("grid", "results", {}, "--method adam namsg"), ("grid", "results", {"seeds": [101]}, "--method adam namsg --seeds "
                                                                                        "101"),
    ("run --tuned", "results", {}, "--tuned --method adam namsg")])
def test_the_command_that_makes_what_is_missing_does_so(tmp_path, monkeypatch, command, folder, arguments, words):
    """In the checkout, as it is printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "configs").mkdir()
    write_config(tmp_path / "configs")   # another one of this name
    experiment = config.load(write_config(tmp_path / "own").relative_to(tmp_path))
    if "--tuned" in command:
        experiment = experiment.tuned({name: method.points()[0] for name, method in experiment.methods.items()})
    collect, runs = {"run": (results.collect, experiment.runs),
                     "grid": (results.collect_grid, experiment.grid_runs)}[command.split()[0]]
    with pytest.raises(RecordError) as error:
        collect(experiment, Path(folder), arguments.get("methods"), arguments.get("seeds"), True)
    printed = str(error.value).partition("make them by ")[2]
    assert printed == f"python -m experiments {command.split()[0]} own/tiny.yaml {words}"
    options = cli._parser().parse_args(shlex.split(printed)[3:])
    assert runs(options.method, options.seeds) == runs(arguments.get("methods"), arguments.get("seeds"))
    assert (options.results, getattr(options, "tuned", False)) == (folder, "--tuned" in command)


@pytest.mark.parametrize(("command", "expected"), [
    ("python -m experiments claims", "python -m experiments claims --results 'my results'"),
    ("python -m experiments.theory.original_form --data DIR",
     "python -m experiments.theory.original_form --data DIR --results 'my results'"),
    ("make benchmark", "make benchmark")])
def test_a_command_on_another_folder(command, expected):
    assert results.with_results(command, Path("my results")) == expected
    assert results.with_results(command, Path("results")) == command


def test_a_method_whose_values_come_from_a_search_is_a_method_of_the_configuration(tmp_path, monkeypatch):
    """Not one of --tuned, whatever its source says."""
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, CONFIG.replace("source: a test", "source: our grid search"))
    experiment = config.load(path.name)
    for collect, command in ((results.collect, "run"), (results.collect_grid, "grid")):
        with pytest.raises(RecordError, match=f"by python -m experiments {command} tiny.yaml --method adam$"):
            collect(experiment, Path("results"), ["adam"], None, True)


@pytest.mark.parametrize(("made", "partial", "refused"), [
    (4, False, None), (4, True, None), (3, False, "1 runs .* with 1 of 2 epochs"), (3, True, None),
    (0, True, "4 runs .* with 0 of 2 epochs"), (0, False, "4 runs .* with 0 of 2 epochs")])
def test_points_of_a_grid_that_are_missing_are_refused_or_with_partial_left_out(experiment, tmp_path, made, partial,
                                                                                refused):
    points = experiment.grid_runs()
    assert len(points) == 4
    for run in points[:made]:
        record(tmp_path, run, [0.9, 0.5], 2)
    if 0 < made < 4:   # one more is on its way
        record(tmp_path, points[made], [0.9], 2)
    if refused is None:
        grid, = results.collect_grids([experiment], tmp_path, lambda _: None, None, partial)
        assert (grid.runs["train_loss"].tolist(), grid.seeds) == ([0.5] * made, [100])
        return
    with pytest.raises(RecordError, match=refused) as error:
        results.collect_grids([experiment], tmp_path, lambda _: None, None, partial)
    assert "make them by python -m experiments grid" in str(error.value)


def test_of_several_grid_searches_those_that_are_begun_are_shown(tmp_path):
    one, other = (config.load(write_config(tmp_path, name=name)) for name in ("one", "other"))
    record(tmp_path, other.grid_runs()[0], [0.9, 0.5], 2)
    grid, = results.collect_grids([one, other], tmp_path, lambda _: None, None, True)
    assert grid.experiment.name == "other"
    with pytest.raises(RecordError, match="one: 4 runs"):
        results.collect_grids([one, other], tmp_path, lambda _: None, None, False)


def test_methods_stand_in_the_configurations_order(experiment, tmp_path):
    """Also where NAMSG has the first seed, and ADAM the second."""
    record(tmp_path, experiment.runs(["namsg"])[0], [0.5] * 3, 3)
    record(tmp_path, experiment.runs(["adam"])[1], [0.5] * 3, 3)
    found = results.read(experiment, tmp_path)[0]
    assert found.methods == list(found.epochs["method"].unique()) == ["adam", "namsg"]
    seeds = [100, 101]
    for method, seed in (("namsg", 100), ("adam", 101)):
        for run in experiment.grid_runs([method], [seed]):
            record(tmp_path, run, [0.5] * 2, 2)
    grid = results.read_grid(experiment, tmp_path, None, seeds)[0]
    assert grid.runs["method"].tolist() == ["adam", "adam", "namsg", "namsg"]


@pytest.mark.parametrize(("asked", "seeds"), [(None, [0, 1]), ([0], [0, 1]), ([0, 1, 2, 3], [0, 1, 2, 3])])
def test_n_is_counted_among_the_seeds_that_are_asked_for(experiment, tmp_path, asked, seeds):
    for run in experiment.runs(["adam"], asked):
        record(tmp_path, run, [0.5] * 3, 3)
    found = results.read(experiment, tmp_path, ["adam"], asked)[0]
    assert found.seeds == seeds
    assert found.describe_n("adam") == ("1 of 2" if asked == [0] else f"{len(seeds)}")


def test_a_method_without_a_grid_has_none_to_read(tmp_path):
    text = CONFIG.replace("    grid: {learning_rate: [0.001, 0.005], beta1: [0.9], beta2: [0.99]}\n", "")
    experiment = config.load(write_config(tmp_path, text))
    with pytest.raises(UsageError, match="tiny: none of the methods has a grid"):
        results.collect_grid(experiment, tmp_path, None, None, True)


def test_a_diverged_point_has_an_infinite_loss(experiment, tmp_path):
    record(tmp_path, experiment.grid_runs()[0], [0.5], 2, "diverged")
    row, = results.read_grid(experiment, tmp_path)[0].runs.to_dict("records")
    assert (row["status"], row["train_loss"], row["learning_rate"]) == ("diverged", float("inf"), 0.001)


@pytest.mark.parametrize(("made", "partial", "shown"), [
    ((), False, ["adam"]), ((), True, ["adam"]), ((3, 3), False, ["adam", "namsg"]), ((3, 3), True, ["adam", "namsg"]),
    ((3, 1), False, ["adam"]), ((3, 1), True, ["adam", "namsg"]), ((1, 1), True, ["adam"])])
def test_a_method_that_is_not_a_default_is_shown_once_it_is_recorded(tmp_path, made, partial, shown):
    text = "".join(CONFIG.rpartition("source: a test\n")[:2]) + "    by_default: false\n"   # namsg, without a grid
    experiment = config.load(write_config(tmp_path, text))
    for run, epochs in zip(experiment.runs(["namsg"]), made):
        record(tmp_path, run, [0.5] * epochs, 3)
    assert results.recorded_methods(experiment, tmp_path, None, partial, is_grid=False) == shown
    assert results.recorded_methods(experiment, tmp_path, None, partial, is_grid=True) == ["adam"]


def test_a_method_with_a_grid_is_shown_once_its_grid_is_recorded(tmp_path):
    head, source, grid = CONFIG.rpartition("source: a test\n")
    text = f"{head}{source}    by_default: false\n{grid}".replace("{epochs: 2,", "{epochs: 3,")
    experiment = config.load(write_config(tmp_path, text))
    assert results.recorded_methods(experiment, tmp_path, None, False, is_grid=True) == ["adam"]
    for run in experiment.grid_runs(["namsg"]):
        record(tmp_path, run, [0.9, 0.8, 0.5], 3)
    assert results.recorded_methods(experiment, tmp_path, None, False, is_grid=True) == ["adam", "namsg"]
    grid, _ = results.read_grid(experiment, tmp_path, ["namsg"])
    assert grid.runs["train_loss"].tolist() == [0.5, 0.5]   # of the last epoch
