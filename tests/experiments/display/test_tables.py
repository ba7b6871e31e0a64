"""Tables from made-up records: means, deviations, n, and the paper's numbers beside them."""

import math

import pandas as pd
import pytest
from tiny_experiment import CONFIG, small_disk, step_size_grid, write_config

from experiments.analysis.results import Grid, Results
from experiments.display import tables
from experiments.vocabulary import config, paper
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS
from experiments.vocabulary.methods import HYPERPARAMETERS


def results_of(folder, losses, accuracies=None, statuses=None):
    """Results of the tiny experiment: by (method, seed), the train losses (and test accuracies) of its epochs."""
    epochs = [{**dict.fromkeys(EPOCH_COLUMNS, 0.5), "method": method, "seed": seed, "epoch": i + 1,
               "learning_rate": 0.1, "train_loss": loss,
               "test_accuracy": (accuracies or {}).get((method, seed), [0.5] * len(values))[i]}
              for (method, seed), values in losses.items() for i, loss in enumerate(values)]
    runs = [{"method": method, "seed": seed, "status": "done", "epochs": len(values)}
            for (method, seed), values in losses.items()]
    runs += [{"method": method, "seed": seed, "status": "diverged", "epochs": 0} for method, seed in statuses or ()]
    return Results(config.load(write_config(folder)), [0, 1], pd.DataFrame(runs), pd.DataFrame(epochs))


def test_a_schedules_first_value_stands_for_it(tmp_path):
    schedule = "{schedule: ObservationDistance, start: 0.5, end: 0.9, epochs: 1}"
    text = CONFIG.replace("beta1: 0.9\n", f"beta1: {schedule}\n").replace(", beta1: [0.9]", "")
    results = results_of(tmp_path, {("namsg", 0): [0.1]})._replace(experiment=config.load(write_config(tmp_path, text)))
    assert tables.summary(results).cells["β1"].tolist() == ["0.5"]


def test_n_is_of_the_seeds_that_were_asked_for(tmp_path):
    results = results_of(tmp_path, {("adam", seed): [0.5] for seed in range(4)})
    assert tables.summary(results._replace(seeds=[0, 1, 2, 3])).cells["n"].tolist() == ["4"]
    assert tables.summary(results._replace(seeds=[0, 1, 2, 3, 4])).cells["n"].tolist() == ["4 of 5"]


@pytest.mark.parametrize("etas", ["0.0, 0.9, 3.0", "3.0, 0.9, 0.0"])
def test_table_a1_knows_a_grids_other_hyper_parameters(tmp_path, etas):
    """The configuration's point has its eta, whatever the order; the best one is named, and on the edge."""
    text = CONFIG.replace("eta: {schedule: ObservationDistance, start: 0.9, end: 3.0, epochs: 1}", "eta: 0.9").replace(
        "grid: {learning_rate: [0.001, 0.005], beta1: [0.9], beta2: [0.99]}",
        f"grid: {{learning_rate: [0.005], beta2: [0.99], eta: [{etas}]}}")
    text = text.replace(f", eta: [{etas}]", "", 1)   # adam's
    experiment = config.load(write_config(tmp_path, text))
    runs = [{"method": run.method, **run.point, "seed": run.seed, "status": "done",
             "train_loss": 0.7 if run.method == "adam" else {0.0: 0.5, 0.9: 0.4, 3.0: 0.3}[run.point["eta"]]}
            for run in experiment.grid_runs()]
    names = [*HYPERPARAMETERS, "eta"]
    frame = pd.DataFrame(runs, columns=["method", *names, "seed", "status", "train_loss"])
    adam, namsg = tables.table_a1([Grid(experiment, [100], names, frame)]).cells.to_dict("records")
    assert namsg["paper (α, β1, β2)"] == "0.005, 0.9, 0.99, eta 0.9"
    assert namsg["ours (α, β1, β2)"] == "0.005, 0.99, eta 3"
    assert (namsg["train loss at ours"], namsg["at the paper's"]) == ("0.3000", "0.4000")
    assert (namsg["on the grid's edge"], adam["on the grid's edge"]) == ("eta", "")
    assert adam["ours (α, β1, β2)"] == "0.005, 0.99"


def test_the_summary_has_mean_deviation_and_n(tmp_path):
    results = results_of(tmp_path, {("adam", 0): [0.9, 0.2], ("adam", 1): [0.9, 0.4], ("namsg", 0): [0.9, 0.1]},
                         accuracies={("adam", 0): [0.9, 0.8], ("adam", 1): [0.7, 0.6]}, statuses=[("namsg", 1)])
    table = tables.summary(results)
    adam, namsg = (row for _, row in table.numbers.iterrows())
    assert (adam["train_loss_mean"], adam["train_loss_std"]) == pytest.approx((0.3, 0.1414), abs=1e-4)
    assert list(table.cells["n"]) == ["2", "1 of 2, 1 diverged"]
    assert list(table.cells["train loss"]) == ["0.3000 ± 0.1414", "0.1000"]
    assert list(table.cells["best test accuracy"]) == ["0.8000 ± 0.1414", "0.5000"]
    assert (namsg["n"], namsg["diverged"]) == (1, 1)


def test_a_row_is_of_one_epoch_also_where_a_measure_has_none_there(tmp_path):
    """The loss on the whole set is measured in some epochs alone, and the last is none of them."""
    results = results_of(tmp_path, {("adam", 0): [0.9, 0.8, 0.7], ("adam", 1): [0.9, 0.8, 0.7]})
    results.epochs.loc[results.epochs["epoch"] == 3, "train_loss_full"] = None
    row, = tables.summary(results).numbers.to_dict("records")
    assert (row["epochs"], row["train_loss_mean"]) == (3, pytest.approx(0.7))
    assert math.isnan(row["train_loss_full_mean"])
    assert tables.summary(results).cells["train loss, whole set"].item() == ""


def test_a_table_is_replaced_whole_or_left(tmp_path):
    small = tables.Table("A title", pd.DataFrame({"x": [0.125]}), pd.DataFrame({"x": ["0.1"]}))
    large = tables.Table("A title", pd.DataFrame({"x": range(9000)}), pd.DataFrame({"x": map(str, range(9000))}))
    with small_disk(tmp_path / "disk", "48k") as disk:
        before = {path: path.read_bytes() for path in tables.write(small, "name", disk)}
        with pytest.raises(OSError, match="No space left on device") as raised:
            tables.write(large, "name", disk)
        assert raised.value.filename == str(disk / "name.md")
        assert {path: path.read_bytes() for path in disk.iterdir()} == before


@pytest.mark.parametrize(("losses", "cell"), [
    ([0.3, 0.3], "0.3000 ± 0.0000"), ([0.1 + 0.2, 0.3], "0.3000 ± 0.0000"), ([0.9901, 0.9903], "0.9902 ± 0.0001"),
    ([0.00060, 0.00064], "0.00062 ± 0.00003"), ([3e-5], "3e-05"), ([3e-5, 3e-5 + 1e-12], "3e-05 ± 7.1e-13"),
    ([0.0], "0.0000"), ([0.002], "0.0020"),
    ([1e300], "1e+300"), ([1e9, 3e9], "2e+09 ± 1.4e+09")])
def test_a_deviation_has_a_digit_that_is_not_0(tmp_path, losses, cell):
    results = results_of(tmp_path, {("adam", seed): [loss] for seed, loss in enumerate(losses)})
    assert tables.summary(results).cells["train loss"].item() == cell


def test_epochs_to_a_train_loss_as_a_share_of_adams(tmp_path):
    """By epochs 1, 2 and 4. NAMSG's seed 1 ends above ADAM, so the loss that both reach is its own last one, 0.41."""
    results = results_of(tmp_path, {("adam", 0): [1.0, 0.6, 0.5, 0.4], ("adam", 1): [1.0, 0.6, 0.5, 0.4],
                                    ("namsg", 0): [0.7, 0.5, 0.4, 0.2], ("namsg", 1): [0.6, 0.5, 0.45, 0.41]})
    table = tables.epochs_to_loss(results)
    namsg = table.numbers[table.numbers["method"] == "namsg"].set_index("by_epoch")
    assert list(namsg.index) == [1, 2, 4]
    assert list(namsg["train_loss"]) == pytest.approx([1.0, 0.6, 0.405])
    assert list(namsg["epochs"]) == pytest.approx([1, 1.25, 3.5])   # 1 and 1, 1.5 and 1, 3 and 4
    assert list(namsg["reference_epochs"]) == pytest.approx([1, 2, 3.95])
    assert namsg["share"][4] == pytest.approx((3 / 4 * 4 / 3.9)**0.5)
    adam = table.numbers[table.numbers["method"] == "adam"]
    assert set(adam["share"]) == {1.0}
    assert list(table.cells["method"]) == ["NAMSG"]
    assert table.cells["by epoch 4"].item().endswith(": 3.5 of 4.0")


def test_epochs_to_a_train_loss_are_of_complete_runs(tmp_path):
    results = results_of(tmp_path, {("adam", 0): [1.0, 0.6, 0.5, 0.4], ("namsg", 0): [0.7, 0.5]})
    short = results.runs["status"].where(results.runs["method"] == "adam", "short")
    table = tables.epochs_to_loss(results._replace(runs=results.runs.assign(status=short)))
    assert table.cells.to_dict("records") == [
        {"method": "NAMSG", "n": "0 of 2", "by epoch 1": "", "by epoch 2": "", "by epoch 4": ""}]
    assert tables.epochs_to_loss(results).cells["n"].item() == "1 of 2"


@pytest.mark.parametrize(("diverged", "n"), [
    ("namsg", "1 of 2, 1 diverged"), ("adam", "1 of 2, 1 of ADAM's diverged")])
def test_epochs_to_a_train_loss_say_whose_runs_diverged(tmp_path, diverged, n):
    losses = {run: [0.9, 0.5] for run in (("adam", 0), ("adam", 1), ("namsg", 0), ("namsg", 1)) if run != (diverged, 1)}
    table = tables.epochs_to_loss(results_of(tmp_path, losses, statuses=[(diverged, 1)]))
    assert table.cells["n"].tolist() == [n]


def test_an_experiments_tables_compare_what_there_is(tmp_path):
    losses = {("adam", 0): [0.9, 0.2], ("namsg", 0): [0.9, 0.1]}
    assert all(tables.of_experiment(results_of(tmp_path, losses)).values())
    for method, seed in losses:
        alone = results_of(tmp_path, {(method, seed): losses[method, seed]})
        assert [ending for ending, table in tables.of_experiment(alone).items() if table] == [""]


def test_of_a_single_epoch_there_is_nothing_earlier_to_compare(tmp_path):
    table = tables.epochs_to_loss(results_of(tmp_path, {("adam", 0): [0.9], ("namsg", 0): [0.8]}))
    assert list(table.cells.columns) == ["method", "n", "by epoch 1"]


def test_epochs_are_compared_before_the_step_size_drops(tmp_path):
    results = results_of(tmp_path, {("adam", 0): [1.0, 0.6, 0.5, 0.1], ("namsg", 0): [0.7, 0.5, 0.4, 0.1]})
    results.epochs.loc[results.epochs["epoch"] == 4, "learning_rate"] = 0.01
    assert tables.epochs_to_loss(results).numbers["by_epoch"].max() == 3


@pytest.mark.parametrize("decay", [lambda epoch: epoch ** -0.5, lambda epoch: 1 / epoch])
def test_a_step_size_that_decays_does_not_drop(tmp_path, decay):
    losses = [1.0, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25]
    results = results_of(tmp_path, {("adam", 0): losses, ("namsg", 0): losses})
    results.epochs["learning_rate"] = 0.02 * results.epochs["epoch"].map(decay)
    assert set(tables.epochs_to_loss(results).numbers["by_epoch"]) == {2, 4, 8}


def test_table_a3_takes_the_last_five_epochs_and_the_best(tmp_path):
    accuracies = {("adam", 0): [0.1, 0.9, 0.5, 0.6, 0.7, 0.8, 0.4]}
    results = results_of(tmp_path, {("adam", 0): [0.5] * 7}, accuracies)
    row = tables.table_a3(results).numbers.iloc[0]
    short = results._replace(runs=results.runs.assign(status="short"))
    assert tables.table_a3(short).cells["best of each run, ours"].item() == ""
    assert row["last_mean"] == pytest.approx((0.5 + 0.6 + 0.7 + 0.8 + 0.4) / 5)
    assert row["best_mean"] == 0.9
    assert (row["last_paper_mean"], row["best_paper_std"]) == (0.9052, 0.0033)


def test_table_a3_by_hand(tmp_path):
    """Of 0.6, 0.7 and 0.9, mean 0.7333, the deviation of a sample is sqrt((0.0178 + 0.0011 + 0.0278) / 2) = 0.1528; of
    best ones 0.7, 0.9 and 0.9, sqrt((0.0178 + 0.0044 + 0.0044) / 2) = 0.1155. Over n they were 0.1247 and 0.0943."""
    accuracies = {("adam", 0): [0.7, *[0.6] * 5], ("adam", 1): [0.9, *[0.7] * 5], ("adam", 2): [0.1, *[0.9] * 5]}
    table = tables.table_a3(results_of(tmp_path, {run: [0.5] * 6 for run in accuracies}, accuracies))
    row, = table.numbers.to_dict("records")
    assert (row["last_mean"], row["last_std"]) == pytest.approx((0.73333, 0.15275), abs=1e-5)
    assert (row["best_mean"], row["best_std"]) == pytest.approx((0.83333, 0.11547), abs=1e-5)
    assert table.cells.to_dict("records") == [{
        "method": "ADAM", "n": "3 of 2", "mean of last 5 epochs, paper": "0.9052 ± 0.0026",
        "mean of last 5 epochs, ours": "0.7333 ± 0.1528", "best of each run, paper": "0.9073 ± 0.0033",
        "best of each run, ours": "0.8333 ± 0.1155"}]


def test_table_a3_has_each_methods_own_runs(tmp_path):
    accuracies = {("adam", 0): [0.6] * 6, ("namsg", 0): [0.8] * 6}
    numbers = tables.table_a3(results_of(tmp_path, {run: [0.5] * 6 for run in accuracies}, accuracies)).numbers
    assert list(numbers["n"]) == [1, 1]
    assert list(numbers["last_mean"]) == pytest.approx([0.6, 0.8])
    assert list(numbers["best_mean"]) == pytest.approx([0.6, 0.8])


def test_table_a1_has_the_losses_at_the_papers_values_and_at_ours(tmp_path):
    """The tiny experiment's values are learning_rate 0.005 for both methods; its grids have 0.001, too."""
    experiment = config.load(write_config(tmp_path))
    losses = {("adam", 0.001): (0.2, 0.3), ("adam", 0.005): (0.4, 0.5), ("namsg", 0.001): (0.6, 0.6),
              ("namsg", 0.005): (0.1, 0.2)}
    runs = pd.DataFrame([(method, alpha, 0.9, 0.99, seed, "done", loss) for (method, alpha), both in losses.items()
                         for seed, loss in enumerate(both)],
                        columns=["method", *HYPERPARAMETERS, "seed", "status", "train_loss"])
    made = tables.table_a1([Grid(experiment, [0, 1], [*HYPERPARAMETERS], runs)])
    adam, namsg = made.numbers.to_dict("records")
    for row, method, ours, loss_at_ours, loss_at_papers in ((adam, "adam", 0.001, 0.25, 0.45),
                                                            (namsg, "namsg", 0.005, 0.15, 0.15)):
        assert (row["method"], row["learning_rate_paper"], row["learning_rate_ours"]) == (method, 0.005, ours)
        assert (row["train_loss_ours"], row["train_loss_at_papers"]) == pytest.approx((loss_at_ours, loss_at_papers))
        assert (row["n"], row["n_at_papers"], row["points"], row["points_of_grid"]) == (2, 2, 2, 2)
    assert made.cells["n"].tolist() == ["2", "2"]
    is_done = runs["learning_rate"] == 0.001
    diverged = runs.assign(train_loss=runs["train_loss"].where(is_done, math.inf),
                           status=runs["status"].where(is_done, "diverged"))
    made = tables.table_a1([Grid(experiment, [0, 1], [*HYPERPARAMETERS], diverged)])
    assert made.cells["at the paper's"].tolist() == ["diverged", "diverged"]
    fewer = runs[(runs["method"] == "namsg") | (runs["learning_rate"] == 0.005) | (runs["seed"] == 0)]
    adam, namsg = tables.table_a1([Grid(experiment, [0, 1], [*HYPERPARAMETERS], fewer)]).cells.to_dict("records")
    assert (adam["ours (α, β1, β2)"], adam["train loss at ours"], adam["at the paper's"], adam["n"]) == (
        "", "", "0.4500", "2")   # points with other seeds do not compare
    assert (namsg["ours (α, β1, β2)"], namsg["train loss at ours"], namsg["n"]) == ("0.005, 0.9, 0.99", "0.1500", "2")


def test_table_a1_shows_small_losses(tmp_path):
    cells = tables.table_a1([step_size_grid(tmp_path, {0.001: (1e-5, 1e-5), 0.005: (2e-5, 2e-5)})]).cells
    assert (cells["train loss at ours"].item(), cells["at the paper's"].item()) == ("1e-05", "2e-05")


def test_table_a1_by_hand(tmp_path):
    """The paper's point is the tiny configuration's, 0.005."""
    table = tables.table_a1([step_size_grid(tmp_path, {0.001: (0.3, 0.4), 0.005: (0.4, 0.5), 0.02: (0.7, 0.8)})])
    row, = table.numbers.to_dict("records")
    assert (row["train_loss_ours"], row["train_loss_at_papers"]) == pytest.approx((0.35, 0.45))
    assert table.cells.to_dict("records") == [{
        "experiment": "tiny", "method": "ADAM", "paper (α, β1, β2)": "0.005, 0.9, 0.99", "ours (α, β1, β2)": "0.001",
        "train loss at ours": "0.3500", "at the paper's": "0.4500", "n": "2", "points": "3",
        "on the grid's edge": "α"}]


def test_table_a1_has_no_values_of_ours_where_the_grid_search_selects_none(tmp_path):
    text = CONFIG.replace("tuning: {epochs: 2, seeds: 100-100}", "tuning: {epochs: 2, seeds: 0-1, selects: false}")
    experiment = config.load(write_config(tmp_path, text))
    runs = pd.DataFrame([(run.method, *run.point.values(), run.seed, "done", run.point["learning_rate"])
                         for run in experiment.grid_runs()],
                        columns=["method", *HYPERPARAMETERS, "seed", "status", "train_loss"])
    for row in tables.table_a1([Grid(experiment, [0, 1], [*HYPERPARAMETERS], runs)]).cells.to_dict("records"):
        assert (row["ours (α, β1, β2)"], row["train loss at ours"], row["on the grid's edge"]) == ("", "", "")
        assert (row["at the paper's"], row["n"], row["points"]) == ("0.0050", "2", "2")


def test_table_a3_of_one_run_has_no_deviation(tmp_path):
    table = tables.table_a3(results_of(tmp_path, {("adam", 0): [0.5] * 6}, {("adam", 0): [0.9, *[0.6] * 5]}))
    assert table.numbers[["last_std", "best_std"]].isna().all(axis=None)
    assert table.cells["mean of last 5 epochs, ours"].item() == "0.6000"


def test_every_measure_of_the_summary_by_hand(tmp_path):
    """Of 0.2, 0.3 and 0.7: 0.4 and sqrt((0.04 + 0.01 + 0.09) / 2) = 0.26458."""
    results = results_of(tmp_path, {("adam", seed): [0.9, 0.9] for seed in range(3)})
    columns = ["train_loss", "train_loss_full", "test_loss", "test_accuracy"]
    last = results.epochs["epoch"] == 2
    for i, column in enumerate(columns):
        results.epochs.loc[last, column] = [i + value for value in (0.2, 0.3, 0.7)]
    table = tables.summary(results)
    row, = table.numbers.to_dict("records")
    for i, column in enumerate(columns):
        assert (row[f"{column}_mean"], row[f"{column}_std"]) == pytest.approx((i + 0.4, 0.26458), abs=1e-5)
        assert table.cells[tables.SHOWN[column]].item() == f"{i + 0.4:.4f} ± 0.2646"
    assert (row["best_test_accuracy_mean"], row["best_test_accuracy_std"]) == pytest.approx((3.4, 0.26458), abs=1e-5)
    assert (row["n"], row["epochs"], row["learning_rate"]) == (3, 2, 0.005)


def test_the_interval_of_a_share_of_epochs_by_hand(tmp_path):
    """NAMSG needs 1/2 and 1/4 of ADAM's 4 epochs: log 2 times 1 and 2, half width 12.7062 / 2 of it."""
    results = results_of(tmp_path, {**{("adam", seed): [1.0, 0.8, 0.6, 0.4] for seed in (0, 1)},
                                    ("namsg", 0): [0.9, 0.4, 0.4, 0.4], ("namsg", 1): [0.4] * 4})
    table = tables.epochs_to_loss(results)
    row, = table.numbers[(table.numbers["method"] == "namsg") & (table.numbers["by_epoch"] == 4)].to_dict("records")
    assert (row["epochs"], row["reference_epochs"], row["n"]) == (1.5, 4, 2)
    assert (row["share"], row["low"], row["high"]) == pytest.approx(
        [2 ** -power for power in (1.5, 1.5 + 12.7062 / 2, 1.5 - 12.7062 / 2)], rel=1e-4)
    assert table.cells["by epoch 4"].item() == "0.35 (0.00 to 28.90): 1.5 of 4.0"


def test_the_papers_numbers_keep_the_order_that_its_text_tells():
    """Section 5.2: NAMSG is faster than AMSGRAD for almost all settings, and than ADAM and NADAM for most."""
    assert all(len(column) == 10 for column in paper.TABLE_A2.values())
    assert {method: round(sum(column.values()), 4) for method, column in paper.TABLE_A2.items()} == {
        "adam": 4.8206, "nadam": 4.5348, "amsgrad": 4.7588, "namsg": 4.3892}   # no digit is mistyped
    columns = zip(*((*last, *best) for last, best in paper.TABLE_A3.values()))
    assert [round(sum(column), 4) for column in columns] == [10.8686, 0.027, 10.8928, 0.0322]
    faster = {other: sum(paper.TABLE_A2["namsg"][point] < loss for point, loss in paper.TABLE_A2[other].items())
              for other in ("adam", "nadam", "amsgrad")}
    assert faster == {"amsgrad": 10, "adam": 9, "nadam": 7}
    assert max(best for _, (best, _) in paper.TABLE_A3.values()) == 0.9145


def test_a_table_is_written_in_three_forms(tmp_path):
    table = tables.Table("A title", pd.DataFrame({"x": [0.125]}), pd.DataFrame({"x_1": ["0.1 ± 0.2"]}))
    md, csv, tex = tables.write(table, "name", tmp_path / "tables")
    assert md.read_text(encoding="utf-8") == "A title\n\n| x_1 |\n| --- |\n| 0.1 ± 0.2 |\n"
    assert csv.read_text() == "x\n0.125\n"
    assert r"x\_1" in tex.read_text(encoding="utf-8")
