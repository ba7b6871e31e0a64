"""Grid searches: every point with every tuning seed, the rule of selection, edges, and what the tables say of it."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_experiment import CONFIG, experiments, write_config, write_selection

from experiments.analysis import selection
from experiments.analysis.results import collect_grid, read_grid
from experiments.commands import cli
from experiments.display import sensitivity, tables
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.files import write_json

CHECKOUT = Path(__file__).parents[3]
# ADAM's grid has three step sizes, NAMSG's one.
GRID = CONFIG.replace("seeds: 100-100", "seeds: 100-101").replace("[0.001, 0.005]", "[0.001, 0.005, 0.02]", 1).replace(
    "[0.001, 0.005]", "[0.005]")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    path = write_config(folder, GRID)
    result = experiments("grid", path, "--results", folder / "results")
    assert result.returncode == 0, result.stderr
    return path, folder / "results", result.stdout


def test_every_point_with_every_tuning_seed_and_no_other(searched):
    path, results, output = searched
    runs = config.load(path).grid_runs()
    assert len(runs) == (3 + 1) * 2
    assert {run.seed for run in runs} == {100, 101}
    assert {str(run.folder) for run in runs} == \
        {str(done.parent.relative_to(results)) for done in results.glob("*/*/*/done.json")}
    assert "8 runs of 2 epochs" in output
    done = {line.partition("] ")[2] for line in output.splitlines() if line.startswith("[")}
    assert {f"{run.name}: done" for run in runs} <= {line.partition(";")[0] for line in done}
    assert runs[0].name == "adam learning_rate=0.001 beta1=0.9 beta2=0.99 seed 100"


def test_a_point_has_all_its_digits_as_at_takes_them(tmp_path):
    path = write_config(tmp_path, GRID.replace("[0.001, 0.005, 0.02]", "[0.00031622776601683794, 0.000316228]"))
    names = [run.name for run in config.load(path).grid_runs(["adam"], [100])]
    assert names == ["adam learning_rate=0.00031622776601683794 beta1=0.9 beta2=0.99 seed 100",
                     "adam learning_rate=0.000316228 beta1=0.9 beta2=0.99 seed 100"]


def test_the_selection_has_the_lowest_mean_train_loss(searched):
    path, results, output = searched
    written = json.loads((results / "tiny" / "selection.json").read_text())
    assert (written["epochs"], written["seeds"]) == (2, [100, 101])
    experiment = config.load(path)
    for method, selected in written["methods"].items():
        means = {}
        for run in experiment.grid_runs([method]):
            rows = (results / run.folder / "epochs.csv").read_text().splitlines()
            loss = float(rows[2].split(",")[rows[0].split(",").index("train_loss")])
            means.setdefault(run.point["learning_rate"], []).append(loss / 2)
        best = min(means, key=lambda alpha: sum(means[alpha]))
        assert selected["chosen"]["learning_rate"] == best
        assert selected["train_loss"] == pytest.approx(sum(means[best]))
        assert selected["edges"] == (["learning_rate"] if best != 0.005 else [])
        assert f"  {method:24}learning_rate {best:g}" in output


def test_sensitivity_and_table_a1(searched):
    path, results, _ = searched
    for name in (("figure", "sensitivity"), ("table", "A1")):
        result = experiments(*name, "--config", path, "--results", results)
        assert result.returncode == 0, result.stderr
    assert {p.name for p in (results / "figures").iterdir()} == {"sensitivity.png", "sensitivity.svg"}
    made = pd.read_csv(results / "tables" / "tableA1.csv")
    assert list(made["method"]) == ["adam", "namsg"]
    assert list(made["learning_rate_paper"]) == [0.005, 0.005]
    assert (made["train_loss_at_papers"] >= made["train_loss_ours"]).all()
    assert r"\begin{table}" in (results / "tables" / "tableA1.tex").read_text()


@pytest.mark.slow
def test_runs_with_the_values_that_were_selected(searched, tmp_path):
    """--tuned: other runs than the configuration's, but where its values are those that the search chose."""
    path, results, _ = searched
    copy = shutil.copytree(results, tmp_path / "results")
    chosen = selection.chosen(config.load(path), copy)
    assert chosen["namsg"]["learning_rate"] == 0.005
    chosen["adam"]["learning_rate"] = 0.02
    write_selection(copy, config.load(path), chosen)
    result = experiments("run", path, "--tuned", "--seeds", "0", "--results", copy)
    assert result.returncode == 0, result.stderr
    made = {json.loads(done.with_name("config.json").read_text())["method"]: done.parent.name
            for done in copy.glob("*/*/*seed0/done.json")}
    as_configured = {run.method: run.id for run in config.load(path).runs(seeds=[0])}
    assert made["namsg"] == as_configured["namsg"]
    assert made["adam"].startswith("lr0.02-")
    table = experiments("table", path, "--tuned", "--seeds", "0", "--results", copy)
    assert "tiny_tuned.md" in table.stdout
    assert "| ADAM | 0.02 | 0.9 | 0.99 | 1 of 2 | 3 |" in table.stdout
    status, = json.loads(experiments("status", path, "--tuned", "--results", copy, "--json").stdout)
    assert [(counts["done"], counts["missing"]) for counts in status["methods"].values()] == [(1, 1), (1, 1)]
    assert status["tuned"]
    assert experiments("status", path, "--tuned", "--results", copy).stdout.startswith("tiny, tuned, 3 epochs, in ")
    refused = experiments("run", path, "--tuned", "--results", tmp_path / "nothing")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no values are selected" in refused.stderr
    assert f"grid {path} --results {tmp_path / 'nothing'} selects them" in refused.stderr


@pytest.mark.parametrize(("old", "new"), [
    ("batch_size: 64", "batch_size: 32"), ("[0.001, 0.005, 0.02]", "[0.001, 0.005]"), ("  adam:", "  adam2:"),
    ("seeds: 100-101", "seeds: 100-102"), ("epochs: 2, seeds", "epochs: 1, seeds"), ("train: 300", "train: 400"),
    ("    grid: {learning_rate: [0.005], beta1: [0.9], beta2: [0.99]}", ""), ("weight_decay: 0.001", "weight_decay: 0"),
    ("tuning: {epochs: 2, seeds: 100-101}", ""), ("seeds: 100-101}", "seeds: 100-101, selects: false}")])
def test_a_selection_of_another_grid_search_is_refused(searched, tmp_path, old, new):
    """The configuration has changed since, or is another one of the same name in another folder."""
    _, results, _ = searched
    assert old in GRID
    changed = config.load(write_config(tmp_path, GRID.replace(old, new)))
    with pytest.raises(RecordError, match="tiny/selection.json: is not of this grid search"):
        selection.chosen(changed, results)


def test_run_and_table_refuse_a_selection_of_another_grid_search(searched, tmp_path):
    _, results, _ = searched
    other = write_config(tmp_path, GRID.replace("batch_size: 64", "batch_size: 32"))
    before = sorted(results.rglob("*"))
    for name in ("run", "table"):
        refused = experiments(name, other, "--tuned", "--results", results)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "tiny/selection.json: is not of this grid search" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert sorted(results.rglob("*")) == before


def test_what_a_selection_holds_is_not_changed_unnoticed(searched, tmp_path):
    path, results, _ = searched
    copy, experiment = shutil.copytree(results, tmp_path / "results"), config.load(path)
    file = copy / "tiny" / "selection.json"
    whole = file.read_bytes()
    chosen = selection.chosen(experiment, copy)
    for place in range(0, 8 * len(whole), 13):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        try:
            assert selection.chosen(experiment, copy) == chosen
        except RecordError as error:
            assert f"{file}: " in str(error)


def test_a_damaged_selection_is_named_with_the_command_that_makes_it(searched, tmp_path):
    path, results, _ = searched
    copy = shutil.copytree(results, tmp_path / "results")
    (copy / "tiny" / "selection.json").write_text("{")
    with pytest.raises(RecordError, match=f"selection.json: damaged.*; .* experiments grid {path} .*selects anew$"):
        selection.chosen(config.load(path), copy)


def test_a_selection_of_which_a_part_is_missing_or_another_is_not_believed(searched, tmp_path):
    path, results, _ = searched
    copy, experiment = shutil.copytree(results, tmp_path / "results"), config.load(path)
    file = copy / "tiny" / "selection.json"
    whole = json.loads(file.read_text())
    other = next(point for point in experiment.methods["adam"].points() if point != whole["methods"]["adam"]["chosen"])
    without = {name: value for name, value in whole.items() if name != "sha256"}
    for methods in ({"adam": {"chosen": other}}, {"other": whole["methods"]["adam"]}, {"adam": {}}, []):
        for changed in ({**whole, "methods": methods}, {**without, "methods": methods}):
            write_json(file, changed)
            with pytest.raises(RecordError, match="is not of this grid search"):
                selection.chosen(experiment, copy)


@pytest.mark.slow
def test_nothing_is_selected_where_every_point_diverged(tmp_path):
    """ADAM's one point; NAMSG's does not."""
    text = GRID.replace("[0.001, 0.005, 0.02]", "[1.0e+30]").replace("seeds: 100-101", "seeds: 100-100")
    path, results = write_config(tmp_path, text), tmp_path / "results"
    result = experiments("grid", path, "--results", results)
    assert result.returncode == 0, result.stderr
    assert "adam                    nothing, as a run diverged at each of its points" in result.stdout
    written = (results / "tiny" / "selection.json").read_text()
    assert list(json.loads(written)["methods"]) == ["namsg"]
    assert "Infinity" not in written
    assert list(selection.chosen(config.load(path), results)) == ["namsg"]
    rows = tables.table_a1([read_grid(config.load(path), results)[0]]).cells.set_index("method")
    assert rows.loc["ADAM", ["ours (α, β1, β2)", "train loss at ours", "n"]].tolist() == ["", "", "0"]
    adam = read_grid(config.load(path), results)[0].only(["adam"])
    assert selection.select(adam) == {}
    with pytest.raises(RecordError, match="a run diverged at each step size of the grid, or it has none"):
        sensitivity.draw([adam], tmp_path)


def test_some_points_of_the_grid(searched, tmp_path):
    path, _, _ = searched
    result = experiments("grid", path, "--at", "learning_rate=0.02", "beta2=0.99", "--seeds", "100", "--results",
                         tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 runs of 2 epochs" in result.stdout
    assert [done.parts[-3] for done in tmp_path.glob("*/*/*/done.json")] == ["adam"]
    assert not (tmp_path / "tiny" / "selection.json").exists()
    for wrong, message in (("learning_rate=7", "--at learning_rate=7.0: tiny has no such point"),
                           ("alpha", "'alpha' is not NAME=VALUE")):
        refused = experiments("grid", path, "--at", wrong, "--results", tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr


@pytest.mark.parametrize(("name", "message"), [
    (("figure", "sensitivity"), "none of the paper's experiments there has a grid search that selects values"),
    (("table", "A1"), "none of the paper's experiments is there")])
def test_in_another_folder_there_may_be_no_grid_search(tmp_path, name, message):
    (tmp_path / "configs").mkdir()
    write_config(tmp_path / "configs", CONFIG.replace("tuning: {epochs: 2, seeds: 100-100}\n", ""))
    refused = experiments(*name, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"experiments: configs: {message}\n"


def test_status_counts_the_grid_search(searched, tmp_path):
    path, results, _ = searched
    complete, = json.loads(experiments("status", path, "--results", results, "--json").stdout)
    assert (complete["grid"]["runs"]["done"], complete["grid"]["seconds_left"]) == (8, 0)
    assert complete["methods"]["adam"]["missing"] == 2   # the reported runs are others
    assert "grid search, 2 epochs: 8 missing" in experiments("status", path, "--results", tmp_path).stdout


def test_status_tells_why_a_run_of_the_grid_search_failed(searched, tmp_path):
    path, results, _ = searched
    shutil.copytree(results, tmp_path / "results")
    run = config.load(path).grid_runs()[0]
    (tmp_path / "results" / run.folder / "done.json").write_text("{")
    status = experiments("status", path, "--results", tmp_path / "results").stdout
    assert f"failed: {run.folder}: " in status
    assert "done.json: damaged" in status


@pytest.mark.parametrize("options", [["--method", "adam"], ["--seeds", "100"]], ids=lambda options: options[0])
def test_a_search_of_some_methods_or_seeds_says_that_it_writes_no_selection(searched, options, capsys):
    path, results, _ = searched
    before = (results / "tiny" / "selection.json").read_bytes()
    assert cli.main(["grid", str(path), "--results", str(results), *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "not written: --tuned takes what is selected among all methods by the configuration's seeds")
    assert (results / "tiny" / "selection.json").read_bytes() == before


def test_what_is_missing_is_refused(searched, tmp_path):
    path, _, _ = searched
    result = experiments("table", "A1", "--config", path, "--results", tmp_path)
    assert result.returncode == 1
    assert "make them by python -m experiments grid" in result.stderr


def test_reported_seeds_are_not_tuned_with(searched):
    with pytest.raises(UsageError, match="seed 1: tiny keeps seeds 0-1 for reported runs"):
        config.load(searched[0]).grid_runs(seeds=[1])


def test_a_point_of_a_scheduled_parameter_is_its_initial_value():
    schedule = {"schedule": "StepDecay", "initial": 0.001, "at": [100]}
    method = config.Method("m", "namsg", {"learning_rate": schedule, "beta1": 0.9}, None, "", {}, True)
    assert method.at({"learning_rate": 0.01, "beta2": 0.99}) == \
        {"learning_rate": {"schedule": "StepDecay", "initial": 0.01, "at": [100]}, "beta1": 0.9, "beta2": 0.99}


def test_a_recorded_run_that_diverged_takes_its_point_out(searched, tmp_path):
    """One seed of the best point, whose other seed is there."""
    experiment, results = config.load(searched[0]), shutil.copytree(searched[1], tmp_path / "results")
    best = selection.select(read_grid(experiment, results, ["adam"])[0])["adam"]["chosen"]
    run = next(run for run in experiment.grid_runs(["adam"]) if run.point == best)
    write_json(results / run.folder / "done.json", {"status": "diverged", "epochs": 1})
    selected = selection.select(read_grid(experiment, results, ["adam"])[0])["adam"]
    assert selected["chosen"] != best and selected["diverged"] == 1


def test_table_a1_says_what_the_papers_point_has(searched):
    path, results, _ = searched
    experiment = config.load(path)
    grid = collect_grid(experiment, results, None, None, False)
    table = tables.table_a1([grid]).numbers.set_index("method")
    points = selection.averages(grid)
    of_adam = points[(points["method"] == "adam") & (points["learning_rate"] == 0.005)]
    assert table.loc["adam", "train_loss_at_papers"] == pytest.approx(of_adam["mean"].iloc[0])
    best = points[points["method"] == "adam"].sort_values("mean").iloc[0]
    assert table.loc["adam", "train_loss_ours"] == pytest.approx(best["mean"])
    assert table.loc["adam", "learning_rate_ours"] == best["learning_rate"]


def test_a_run_that_is_a_reported_one_too_is_recorded_as_such(tmp_path):
    """Whichever command begins it."""
    shared = CONFIG.replace("tuning: {epochs: 2, seeds: 100-100}", "tuning: {epochs: 2, seeds: 0-0, selects: false}")
    experiment = config.load(write_config(tmp_path, shared))
    sources = {run.id: run.source for run in experiment.grid_runs(["adam"])}
    reported, = experiment.runs(["adam"], [0])
    assert sorted(sources.values()) == ["a test", "grid search"]
    assert sources[reported.id] == reported.source == "a test"
