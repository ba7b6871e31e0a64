"""results/README.md, docs/validity.md and the guide: the numbers that they tell are those of the records."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from recorded import (
    CHECKOUT,
    EVIDENCE,
    RESULTS,
    accuracy_between_namsg_and_amsgrad,
    arrays_over_adam,
    benchmark,
    claims,
    curves,
    difference,
    environments,
    minus,
    step_on_resnet50,
    table,
    text,
)

from experiments.analysis.epochs_to_loss import epochs_to_common_loss, share_of_epochs
from experiments.analysis.intervals import CONFIDENCE, interval, quantile
from experiments.analysis.measures import by_seed
from experiments.analysis.survey import survey
from experiments.vocabulary.config import load
from experiments.vocabulary.methods import LABELS

PAGES = text("results/README.md") + " " + text("docs/validity.md")
GUIDE = text("docs/guide.md")


def test_what_test_data_and_the_whole_training_set_say_of_the_lowest_train_loss():
    last = difference("mnist_logistic", "namsg", "amsgrad", "train_loss_full", (20, 20))
    assert f"{-last.mean:.1f} % below AMSGRAD ({-last.high:.1f} to {-last.low:.1f} %, n = {last.n})" in PAGES
    late = difference("mnist_logistic", "namsg", "amsgrad", "train_loss_full", (12, 19))
    assert f"AMSGRAD is lower, by {late.mean:.1f} % on average ({late.low:.1f} to {late.high:.1f} %;" in PAGES
    for epoch in range(1, 11):
        found = difference("mnist_cnn", "namsg", "amsgrad", "train_loss_full", (epoch, epoch))
        assert found.high < 0 if epoch >= 7 else found.low < 0 < found.high
    adam, nadam = (difference("mnist_logistic", "namsg", name, "best_test_accuracy", (1, 20))
                   for name in ("adam", "nadam"))
    sgd = difference("mnist_logistic", "namsg", "sgd", "test_loss", (20, 20))
    assert (f"is {-adam.mean:.4f} below ADAM's ({-adam.high:.4f} to {-adam.low:.4f}) and {-nadam.mean:.4f} below "
            f"NADAM's ({-nadam.high:.4f} to {-nadam.low:.4f}), and its last test loss {sgd.mean:.1f} % above SGD's "
            f"({sgd.low:.1f} to {sgd.high:.1f} %; n = {sgd.n})") in PAGES


def test_single_epochs_of_the_cnn_are_told():
    nadam, adam = ([difference("mnist_cnn", name, "sgd", "train_loss", (epoch, epoch)) for epoch in range(1, 7)]
                   for name in ("nadam", "adam"))
    assert [found.low > 0 for found in nadam] == [True, True] + [False] * 4
    assert not any(found.high < 0 for found in nadam + adam)
    assert (f"In the fourth NADAM is {-nadam[3].mean:.1f} % ahead, but not distinctly ({-nadam[3].high:.1f} to "
            f"{-nadam[3].low:.1f} %)").replace("(-", "(\N{MINUS SIGN}") in PAGES


def test_how_far_behind_the_first_epochs_of_the_cnn_are():
    told = []
    for method, name in (("adam", "ADAM"), ("nadam", "NADAM"), ("nadam_mxnet", "MXNet's")):
        found = [difference("mnist_cnn", method, "sgd", "train_loss", (1, last)) for last in range(1, 7)]
        assert all(each.low > 0 and each.n == 10 for each in found)
        told.append(f"{name} by {min(each.mean for each in found):.1f} to {max(each.mean for each in found):.1f} %")
    assert ", ".join(told) in PAGES


def test_how_far_mxnets_nadam_is_from_dozats_on_the_cnn():
    found = difference("mnist_cnn", "nadam_mxnet", "nadam", "train_loss", (10, 10))
    assert found.n == 10
    assert minus(f"reaches from {found.low:.0f} to {found.high:+.0f} %") in PAGES


def test_how_often_the_train_loss_rises_at_the_end_on_the_cnn():
    of_all = curves("mnist_cnn")
    last = of_all[of_all["epoch"] >= 7].pivot(index=["method", "seed"], columns="epoch", values="train_loss")
    rises = (last.diff(axis=1) > 0).any(axis=1).groupby("method").sum()
    assert (f"rises in {rises['adam']}, {rises['nadam']} and {rises['nadam_mxnet']} of the ten seeds" in PAGES)
    assert rises[["sgd", "amsgrad", "namsg"]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", ["adam", "nadam"])
def test_what_a_lower_rate_at_the_end_mends(method):
    finding = claims().loc[f"mnist_cnn-lower-{method}", "finding"]
    *lower, n = re.search(r": -([\d.]+)% \(-([\d.]+)% to -([\d.]+)%\), n = (\d+)", finding).groups()
    mean, most, least = map(float, lower)
    assert n == "10"
    assert f"{mean:.0f} % lower with {method.upper()} ({least:.0f} to {most:.0f} %; n = 10)" in PAGES


@pytest.mark.parametrize("method, told", [
    ("AMSGRAD", "AMSGRAD's is {mean} % below the one that was lowest in the search ({low} to {high} %, n = {n})"),
    ("NAMSG", "is {mean} % below the next one ({low} to {high} %, n = {n})"),
])
def test_what_new_seeds_say_of_the_grids_points_on_the_cnn(method, told):
    finding = claims().loc["mnist_cnn-grid", "finding"]
    mean, low, high, n = re.search(rf"\b{method} \S+ \(rank .*?\), with other seeds -([\d.]+)% of .*? "
                                   r"\((\S+)% to (\S+)%\), n = (\d+)", finding).groups()
    assert told.format(mean=mean, low=minus(low), high=high, n=n) in PAGES


@pytest.mark.parametrize("experiment, last, refused, undecided", [
    ("mnist_logistic_distance", 20, ["eta_9"], ["eta_0"]),
    ("mnist_cnn_distance", 10, ["eta_0", "eta_0.5", "eta_0.9_to_2", "eta_5", "eta_9"],
     ["eta_0.9", "eta_0.9_to_3", "eta_0.9_to_5", "eta_2", "eta_3"]),
])
def test_which_distances_the_rule_of_the_guideline_would_pass(experiment, last, refused, undecided):
    """As it judges the guideline's schedule: by the interval above the lowest of the others."""
    means = _means_by_distance(experiment, last)
    found = {method: difference(experiment, method, means.drop(method).idxmin(), "train_loss", (last, last))
             for method in means.index}
    assert [method for method in found if found[method].low > 1] == refused
    assert [method for method in found if found[method].low < 1 < found[method].high] == undecided


def _means_by_distance(experiment, last):
    of_all = curves(experiment)
    return of_all[of_all["epoch"] == last].groupby("method")["train_loss"].mean()


def test_what_the_distances_are_told_to_do():
    def percent(found, sign=1):
        numbers = sorted(round(sign * value, 1) for value in (found.low, found.high))
        return "{:.1f} to {:.1f} %".format(*numbers)

    zero = difference("mnist_logistic_distance", "eta_0", "eta_0.9_to_2", "train_loss", (20, 20))
    assert _means_by_distance("mnist_logistic_distance", 20).idxmin() == "eta_0.9_to_2"
    assert f"{zero.mean:.1f} % above the best ({percent(zero)})" in PAGES
    means = _means_by_distance("mnist_cnn_distance", 10)
    assert means.sort_values().index[:2].tolist() == ["eta_0.9_to_3", "eta_0.9_to_5"]
    ours = {method: difference("mnist_cnn_distance", "eta_0.9_to_3", method, "train_loss", (10, 10))
            for method in means.index.drop("eta_0.9_to_3")}
    assert f"It ends {-ours['eta_0'].mean:.1f} % below η = 0 ({percent(ours['eta_0'], -1)})" in PAGES
    assert f"{-ours['eta_5'].mean:.1f} % below η = 5, {-ours['eta_9'].mean:.1f} % below η = 9" in PAGES
    following = ours["eta_0.9_to_5"]
    told = minus(f"({following.low:+.1f} to {following.high:+.1f} %)")
    assert f"and {-following.mean:.1f} % below the next, from 0.9 to 5 {told}" in PAGES
    undecided = [ours[method].high for method in ("eta_2", "eta_3", "eta_0.9_to_5")]
    assert (round(min(undecided)), round(max(undecided))) == (2, 4)
    below = [-difference("mnist_cnn_distance", method, "eta_0", "train_loss", (10, 10)).mean
             for method in ("eta_0.9", "eta_2", "eta_3", "eta_0.9_to_2", "eta_0.9_to_3")]
    assert f"ends {min(below):.0f} to {max(below):.0f} % below η = 0" in PAGES
    assert sorted(method for method, found in ours.items() if found.high > 1) == ["eta_0.9_to_5", "eta_2", "eta_3"]
    of_all = curves("mnist_cnn_distance")
    losses = of_all[of_all["epoch"] == 10].groupby("method")["test_loss"].mean()
    others = losses.drop("eta_0")
    assert others.min() > losses["eta_0"]
    assert (f"η = 0 has the lowest mean, {losses['eta_0']:.4f}, the nine others {others.min():.4f} to "
            f"{others.max():.4f}") in PAGES
    best = of_all.groupby(["method", "seed"])["test_accuracy"].max().groupby("method").mean()
    assert f"best test accuracies lie within {best.max() - best.min():.4f}" in PAGES
    runs = load(CHECKOUT / "configs" / "mnist_cnn_distance.yaml").runs()
    assert len({each["model"] for run in runs for each in environments(run)}) == 1
    assert "n = 5, all of one model of processor" in PAGES


def test_the_lowest_step_size_of_theorem_1_may_not_be_the_best():
    grid = EVIDENCE.grid("mnist_logistic").runs
    losses = grid[(grid["method"] == "namsg_theorem1") & (grid["beta2"] == 0.999)].groupby("learning_rate")[
        "train_loss"].mean()
    assert losses.idxmin() == losses.index.min() == 0.02
    assert "at β2 = 0.999 its loss is lowest at 0.02, the lowest that was searched" in PAGES


def test_a_region_by_psi_ends_before_the_system_diverges():
    growth = pd.read_csv(RESULTS / "figures" / "theory_growth.csv")
    row = growth[(growth["tau"] == 0.4) & (growth["eta"] == 0.9) & (growth["noise"].round(1) == 1.8)].iloc[0]
    assert minus(f"at τ = 0.4, η = 0.9 and r = 1.8 Ψ is {row['psi']:+.3f}, and the growth {row['growth']:.3f}") in PAGES


def test_looking_at_each_new_seed_errs_so_often():
    """Of normal differences whose mean is 0: how often one of the intervals of the first 2, 3, ... leaves it out."""
    draws = np.random.default_rng(0).normal(size=(20000, 10))
    decided = np.zeros(len(draws), bool)
    wrong = {}
    for n in range(2, 11):
        some = draws[:, :n]
        half = quantile(n) * some.std(axis=1, ddof=1) / n ** 0.5
        decided |= abs(some.mean(axis=1)) > half
        wrong[n] = decided.mean() / (1 - CONFIDENCE)
    assert wrong[5] == pytest.approx(2.7, abs=0.15) and wrong[10] == pytest.approx(4, abs=0.15)
    assert "would err 2.7 times (five seeds) to four times (ten) as often as the interval says" in PAGES


def test_the_slowest_pattern_is_told():
    report = benchmark("update_patterns")
    shares = [each["share"][1] for measured in report["measurements"] for name, each in measured["contenders"].items()
              if name == "MXNet adam"]
    assert f"take up to {max(shares):.2f} of ADAM's time" in PAGES


def test_swnts1_is_so_far_ahead_of_namsg1_by_its_average():
    of_all = curves("cifar10_resnet20")
    before_switch = of_all[of_all["epoch"] <= 15].set_index(["method", "seed", "epoch"])
    ahead = (before_switch.loc["swnts1"] - before_switch.loc["namsg1"]).dropna(subset="train_loss")
    assert (ahead["train_loss"] == 0).all()
    n, by_epoch = ahead.index.unique("seed").size, ahead["test_accuracy"].groupby("epoch").mean()
    assert (by_epoch.loc[:6] < 0).all() and (by_epoch.loc[10:] > 0).all()
    assert (f"on average it is behind in test accuracy up to the sixth epoch, and {by_epoch.loc[10:].mean():.3f} ahead "
            f"in the epochs 10 to 15 (n = {n})" in PAGES)


def test_the_guide_says_how_much_slower_array_operations_are():
    """In the steps and the patterns that are measured."""
    reports = [benchmark(name) for name in ("optimizer_step", "update_patterns")]
    shares = [arrays_over_adam(measured["contenders"]) for report in reports for measured in report["measurements"]]
    assert f"takes {min(shares):.0f} to {max(shares):.0f} times as long" in GUIDE


def test_the_guide_says_how_much_slower_denormal_numbers_are():
    def slower(name):
        before, after = (measured["contenders"] for measured in benchmark(name)["measurements"]
                         if measured["threads"] == 1 and measured["pattern"].startswith("dense gradient"))
        return [after[name]["seconds"][1] / before[name]["seconds"][1] for name in ("namsg, cpu kernel", "MXNet adam")]

    assert ("a step takes {:.0f} times as long, and one of MXNet's adam {:.0f} times (one thread of an Intel Xeon,"
            .format(*slower("embedding/update_patterns")) in GUIDE)
    assert [benchmark(name)["machine"]["processor"] for name in ("embedding/update_patterns", "update_patterns")] == [
        "Intel(R) Xeon(R) Processor", "AMD EPYC"]
    assert "; on an AMD EPYC {:.1f} and {:.1f} times".format(*slower("update_patterns")) in GUIDE
    m, normal = np.float32(1e-3), 0   # after a gradient of 0.01, as in the benchmark
    for _ in range(5000):
        normal += m >= np.finfo(np.float32).tiny
        m *= np.float32(0.9)
    assert round(normal, -2) == 800 and m > 0


def test_all_verdicts_together_are_told_as_they_are():
    recorded = claims()
    by_intervals = recorded[recorded["bonferroni"].notna()]
    decided = by_intervals[~by_intervals["verdict"].isin(["n too small to say", "not run yet"])]
    stand = (decided["bonferroni"] == decided["verdict"]).sum()
    made, expected = re.search(r"(\d+) comparisons have .* at most (\d+\.\d) wrong verdicts",
                               text("results/tables/claims.md")).groups()
    assert f"of {len(decided)} verdicts, {stand} stand" in PAGES
    assert f"family-wise error rate of all {len(by_intervals)} claims at 2.5 %, one-sided" in PAGES
    assert f"{made} comparisons have all their runs, so that at most {expected} wrong verdicts" in PAGES


def test_the_shares_of_epochs_are_told_by_more_than_one_last_epoch():
    told = {}
    for name, epochs in (("mnist_logistic", (3, 20)), ("mnist_cnn", (2, 10))):
        for epoch in epochs:
            shares = {other: share_of_epochs(epochs_to_common_loss(curves(name), "namsg", other, epoch))
                      for other in ("adam", "nadam", "amsgrad")}
            assert all(share.high < 1 for share in shares.values())
            told[name, epoch] = f"{shares['adam'].mean:.2f}"
    assert (f"NAMSG needs {told['mnist_logistic', 3]} of ADAM's epochs by epoch 3 of logistic regression and "
            f"{told['mnist_logistic', 20]} by epoch 20; on the CNN {told['mnist_cnn', 2]} by epoch 2 and "
            f"{told['mnist_cnn', 10]} by epoch 10") in PAGES


def test_how_much_overfitting_is_augmentations():
    of_all = curves("cifar10_resnet20")
    last = of_all[of_all["epoch"] == 75].set_index(["method", "seed"])
    excess = {}
    for loss in ("train_loss", "train_loss_full"):
        gap = last["test_loss"] - last[loss]
        excess[loss] = (gap["namsg"] - gap["adam"]).dropna()
    assert (f"NAMSG's is {excess['train_loss'].mean():.4f} above ADAM's so, and {excess['train_loss_full'].mean():.4f} "
            f"by the loss of the whole training set (n = {len(excess['train_loss'])})") in PAGES


def test_table_a2_is_told_beside_the_papers():
    cells = table("tableA2")
    differences = cells["mean"] / cells["paper"] - 1
    assert (f"Of the {len(cells)} cells {(differences > 0).sum()} are higher, and all together "
            f"{differences.mean():.1%}".replace("%", " %")) in PAGES
    with_two_seeds = cells[cells["n"] > 1]
    assert with_two_seeds.index.tolist() == ["adam", "nadam", "amsgrad", "namsg"]
    methods = load(CHECKOUT / "configs" / "cifar10_resnet20.yaml").methods
    for method, cell in with_two_seeds.iterrows():
        values = methods[method].parameters
        assert (cell["learning_rate"], cell["beta2"]) == (values["learning_rate"]["initial"], values["beta2"])


def test_the_second_seeds_of_table_a2_differ_by_so_much():
    of_all = curves("cifar10_resnet20")
    namsg, adam, amsgrad, nadam = (by_seed(of_all[of_all["method"] == method], "train_loss", (30, 30))
                                   for method in ("namsg", "adam", "amsgrad", "nadam"))
    assert (f"NAMSG's is {1 - namsg[1] / namsg[0]:.1%} lower with that, ADAM's {adam[1] / adam[0] - 1:.1%} higher and "
            f"AMSGRAD's {amsgrad[1] / amsgrad[0] - 1:.1%} higher, NADAM's {1 - nadam[1] / nadam[0]:.1%} lower"
            ).replace("%", " %") in PAGES


def test_what_rounding_moves_is_that_of_its_table():
    rows = table("rounding", index=["experiment", "method"])
    logistic, resnet = rows.loc["mnist_logistic"], rows.loc["cifar10_resnet20", "namsg"]
    assert (f"more than {logistic['train_loss_largest'].max():.2g} of itself, and its accuracy not at all "
            f"(n = {logistic['n'].sum()})").replace("e-08", "e-8") in PAGES
    assert logistic["test_accuracy_largest"].max() == 0
    namsg, nadam = rows.loc["mnist_cnn", "namsg"], rows.loc["mnist_cnn", "nadam"]
    assert namsg["n"] == nadam["n"] == 10
    assert (f"NAMSG's by {namsg['train_loss_last']:.1%}, NADAM's by {nadam['train_loss_last']:.0%} (root mean square; "
            "n = 10)").replace("%", " %") in PAGES
    (of_namsg, namsgs), (of_nadam, nadams) = (
        (each["train_loss_mean"], f"({100 * each['low']:.{digits}f} to {100 * each['high']:+.{digits}f} %)")
        for each, digits in ((namsg, 1), (nadam, 0)))
    assert minus(f"NAMSG's mean moves by {100 * of_namsg:.1f} % {namsgs}, NADAM's by {100 * of_nadam:+.1f} % {nadams}"
                 ) in PAGES
    best, = re.findall(r"rounding alone moves NAMSG by (\S+)", claims().loc["tableA3-namsg-best", "finding"])
    assert (f"NAMSG's train loss moves by {100 * resnet['train_loss_last']:.1f} % in the last epoch, its best test "
            f"accuracy by {best}; before") in PAGES
    assert f"test loss moves by {100 * resnet['test_loss_largest']:.0f} % (n = {resnet['n']:.0f})" in PAGES


def test_swnts_is_namsg_until_its_16th_epoch_on_two_machines():
    of_all = curves("cifar10_resnet20")
    measures = ["train_loss", "test_loss", "test_accuracy"]
    for seed in (0, 1, 2):
        namsg, swnts = (of_all[(of_all["method"] == method) & (of_all["seed"] == seed)].set_index("epoch")[measures]
                        for method in ("namsg", "swnts"))
        assert (namsg == swnts).all(axis=1).idxmin() == 16
    assert ("are equal to the last digit in these 15 epochs; so are those with seed 1, of two models of Xeon, and "
            "those with seed 2, of") in PAGES


def test_how_long_a_run_takes_is_what_status_says():
    ranges = []
    for name, unit, digits in (("mnist_logistic", 1, 0), ("mnist_cnn", 60, 0), ("cifar10_resnet20", 3600, 1)):
        told = survey(load(CHECKOUT / "configs" / f"{name}.yaml"), RESULTS)["seconds_per_run"]
        taken = [seconds / unit for seconds in told.values() if seconds]
        ranges.append(f"{min(taken):.{digits}f} to {max(taken):.{digits}f}")
    assert (f"{ranges[0]} seconds on logistic regression, {ranges[1]} minutes on the CNN, and {ranges[2]} hours on "
            "ResNet-20") in text("docs/reproduction.md")


def test_mxnets_nadam_selects_table_a1s_values():
    searched = table("tableA1").loc["nadam_mxnet"].set_index("experiment")
    for name in ("mnist_logistic", "mnist_cnn"):
        assert searched.loc[name, "train_loss_at_papers"] == searched.loc[name, "train_loss_ours"], name
    assert "MXNet's NADAM was searched, too: on both networks Table A1's values" in PAGES


def test_the_hours_and_machines_of_resnet_20_are_those_of_its_runs():
    experiment = load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    machines = {None: "A", "AuthenticAMD 25 17 1": "B", "GenuineIntel 6 207 2": "C", "GenuineIntel 6 167 1": "D"}
    methods = ["sgd", "adam", "nadam", "amsgrad", "namsg", "namsg1", "swnts", "swnts1"]

    def told(run):
        if not (RESULTS / run.folder / "done.json").exists():
            return ""
        seconds = pd.read_csv(RESULTS / run.folder / "seconds.csv")[["training", "evaluation"]].to_numpy().sum()
        model, = {each.get("model") for each in environments(run)}
        return f"{seconds / 3600:.1f} {machines[model]}"

    header = f"| seed | {' | '.join(LABELS[method] for method in methods)} |"
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    rows = page.partition(header)[2].partition("\n\n")[0].splitlines()[2:]
    by_seed_told = [[str(seed), *(told(*experiment.runs([method], [seed])) for method in methods)]
                    for seed in experiment.seeds]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [
        row for row in by_seed_told if any(row[1:])]


def test_runs_of_namsg_on_the_cnn_are_equal_to_the_byte_on_two_models_of_xeon():
    """The guideline's schedule among the distances is NAMSG itself."""
    first, again = (load(CHECKOUT / "configs" / f"{name}.yaml").runs([method], seeds=range(5))
                    for name, method in (("mnist_cnn", "namsg"), ("mnist_cnn_distance", "eta_0.9_to_3")))
    made = set()
    for pair in zip(first, again):
        assert pair[0].seed == pair[1].seed
        one, other = ((RESULTS / run.folder / "epochs.csv").read_bytes() for run in pair)
        assert one == other
        made |= {(run.experiment, each["model"], each["commit"]) for run in pair for each in environments(run)}
    (_, model, commit), (_, another, same) = sorted(made)
    assert model != another and commit == same and {name.split()[0] for name in (model, another)} == {"GenuineIntel"}
    assert "NAMSG's seeds 0 to 4 on the CNN were made again on another day" in PAGES


def test_the_tuned_runs_of_the_cnn_are_of_three_machines():
    evidence, machines = EVIDENCE, {}
    experiment = evidence.runs("mnist_cnn", tuned=True).experiment
    for run in experiment.runs(["sgd", "adam", "nadam", "amsgrad", "namsg"]):
        made = environments(run)
        machines.setdefault(run.method, set()).update(
            (one["processor"].partition(" Processor")[0], re.search("v[0-9]+", one["system"])[0]) for one in made)
    first, second, xeon = ("AMD EPYC", "v657"), ("AMD EPYC", "v782"), ("Intel(R) Xeon(R)", "v657")
    assert machines == {method: {machine} for method, machine in zip(
        ("sgd", "adam", "nadam", "amsgrad", "namsg"),
        [second, second, xeon, first, xeon])}
    assert ("AMSGRAD's are of the first EPYC, NAMSG's and NADAM's of an Intel Xeon, and SGD's and ADAM's of the second "
            "EPYC") in PAGES


def test_the_guide_has_the_losses_of_both_settings():
    logistic, cnn = table("mnist_logistic"), table("mnist_cnn")
    for settings, method in (("the paper's (Table A1)", "namsg"), ("of September 2019", "namsg_2019")):
        of_logistic, of_cnn = logistic.loc[method], cnn.loc[method]
        assert of_logistic["n"] == of_cnn["n"] == 10
        assert (f"| {settings} | {of_logistic['train_loss_mean']:.3f} | {of_logistic['test_loss_mean']:.3f} | "
                f"{of_cnn['train_loss_mean']:.4f} | {of_cnn['test_loss_mean']:.3f} |") in GUIDE


def test_how_close_amsgrad_is_on_the_cnn():
    share = float(re.search(r"AMSGRAD [\d.]+: ([\d.]+)", claims().loc["mnist_cnn-faster", "finding"])[1])
    assert (f"it needs {100 * (1 / share - 1):.0f} % more epochs, and its best test accuracy is the same within "
            f"{accuracy_between_namsg_and_amsgrad()}.") in PAGES


def test_how_slow_mxnets_array_operations_are():
    assert f"takes {arrays_over_adam(step_on_resnet50()):.0f} times as long as MXNet's ADAM" in PAGES


def _relative(values):
    """Of log-ratios by seed: mean, low and high in per cent, and n."""
    found = interval(values.dropna())
    return (*(100 * np.expm1(value) for value in (found.mean, found.low, found.high)), found.n)


def _at(rows, method, epoch, column="train_loss"):
    """By seed, a method's value after an epoch."""
    return rows[(rows["method"] == method) & (rows["epoch"] == epoch)].set_index("seed")[column]


def test_a_finer_grid_would_change_no_order():
    gains, best = {}, {}
    for experiment in ("mnist_logistic", "mnist_cnn"):
        for method, points in EVIDENCE.grid(experiment).runs.fillna({"beta2": 0}).groupby("method"):
            means = points.groupby(["beta2", "learning_rate"])["train_loss"].mean()
            line = means[means.idxmin()[0]]
            i = line.argmin()
            x, y = np.log(line.index[i - 1:i + 2]), line.iloc[i - 1:i + 2].to_numpy()
            a, b, c = np.polyfit(x, y, 2)
            best[experiment, method] = y[1], c - b * b / 4 / a
            gains[experiment, method] = 100 * (1 - (c - b * b / 4 / a) / y[1])
    theorem1 = gains.pop(("mnist_logistic", "namsg_theorem1"))
    logistic, cnn = (max(gain for (name, _), gain in gains.items() if name == experiment)
                     for experiment in ("mnist_logistic", "mnist_cnn"))
    assert (f"at most {logistic:.1f} % of the train loss on logistic regression (Theorem 1's setting {theorem1:.1f} %) "
            f"and {cnn:.1f} % on the CNN") in PAGES
    for experiment in ("mnist_logistic", "mnist_cnn"):
        pairs = [pair for (name, _), pair in best.items() if name == experiment]
        assert np.argsort([coarse for coarse, _ in pairs]).tolist() == np.argsort([fine for _, fine in pairs]).tolist()


def test_what_is_left_of_namsgs_lead_beside_lower_rates_at_the_end():
    train, tests, best = [], {}, []
    for method in ("adam", "nadam", "nadam_mxnet"):
        train.append(difference("mnist_cnn", f"{method}_lower", "namsg", "train_loss", (10, 10)).mean)
        tests[method] = difference("mnist_cnn", "namsg", f"{method}_lower", "test_loss", (10, 10))
        best.append(difference("mnist_cnn", "namsg", f"{method}_lower", "best_test_accuracy", (1, 10)).mean)
    assert f"still end {min(train):.0f} to {max(train):.0f} % above NAMSG's train loss" in PAGES
    assert f"The best test accuracies differ by at most {max(map(abs, best)):.4f}" in PAGES
    nadam, mxnets = tests["nadam"], tests["nadam_mxnet"]
    assert (f"{nadam.mean:.1f} % above NADAM's ({nadam.low:.1f} to {nadam.high:.1f} %) and {mxnets.mean:.1f} % above "
            f"that of MXNet's NADAM ({mxnets.low:.1f} to {mxnets.high:.1f} %; n = {mxnets.n})") in PAGES
    assert tests["adam"].low < 0


def test_where_namsg_is_behind_in_the_grids_of_mnist():
    ahead, behind = {}, []
    for experiment in ("mnist_logistic", "mnist_cnn"):
        runs = EVIDENCE.grid(experiment).runs
        means = runs[runs["method"] != "sgd"].groupby(["method", "beta2", "learning_rate"])["train_loss"].mean()
        for other in ("amsgrad", "adam", "nadam", "nadam_mxnet"):
            shares = means["namsg"] / means[other] - 1
            assert len(shares) == 10
            ahead[experiment, other] = (shares < 0).sum()
            if experiment == "mnist_logistic" and other != "amsgrad":
                behind += [100 * share for share in shares[0.99][:0.002]]
    assert (f"in {ahead['mnist_logistic', 'amsgrad']} of 10 cells beside AMSGRAD on logistic regression, and in "
            f"{ahead['mnist_cnn', 'amsgrad']} of 10 on the CNN; beside ADAM in {ahead['mnist_logistic', 'adam']} and "
            f"{ahead['mnist_cnn', 'adam']}, beside NADAM in {ahead['mnist_logistic', 'nadam']} and "
            f"{ahead['mnist_cnn', 'nadam']} (n = 2)") in PAGES
    assert f"it is {min(behind):.0f} to {max(behind):.0f} % behind ADAM and NADAM" in PAGES


def test_the_search_on_the_cnn_chose_a_worse_point_of_amsgrad_than_table_a1s():
    ours, papers = EVIDENCE.runs("mnist_cnn", tuned=True).epochs, curves("mnist_cnn")
    mean, low, high, n = _relative(np.log(_at(ours, "amsgrad", 10) / _at(papers, "amsgrad", 10)))
    assert f"on the CNN ends {mean:.1f} % above Table A1's ({low:.1f} to {high:.1f} %, n = {n})" in PAGES
    lead, papers_lead = (-_relative(np.log(_at(rows, "namsg", 10) / _at(rows, "amsgrad", 10)))[0]
                         for rows in (ours, papers))
    assert f"is {lead:.1f} % with our values and {papers_lead:.1f} % with the paper's" in PAGES
    judges = EVIDENCE.grid("mnist_cnn", seeds=range(102, 110)).runs
    judges = judges[judges["method"] == "amsgrad"].set_index(["learning_rate", "beta2", "seed"])["train_loss"]
    judges = judges.sort_index()
    pairs = [np.log(judges[0.002, 0.99] / judges[0.001, 0.999]),
             np.log(_at(papers, "amsgrad", 6) / _at(ours, "amsgrad", 6))]
    mean, low, high, n = _relative(pd.concat(pairs))
    assert f"it would be {-mean:.1f} % below ({minus(f'{low:.1f} to {high:.1f}')} %, n = {n})" in PAGES


def test_which_verdicts_fall_narrowly_and_would_stand_by_holm():
    by_intervals = claims()[claims()["bonferroni"].notna()].sort_values("p")
    adjusted = by_intervals["p"] * len(by_intervals)
    narrow = adjusted[adjusted.between(0.01, 0.05)]
    assert narrow.index.tolist() == ["mnist_cnn-generalizes", "mnist_logistic-overfits"]
    assert "adjusted p-values of {:.3f} and {:.3f};".format(*narrow) in PAGES
    by_holm = (by_intervals["p"] * np.arange(len(by_intervals), 0, -1)).cummax()
    assert f"Holm's procedure, by which {(by_holm <= 0.025).sum()} verdicts stood" in PAGES
    assert (by_holm[narrow.index] <= 0.025).all()


def test_how_often_five_seeds_would_show_the_papers_orders():
    """With Table A3's means and deviations of the last five epochs, independent and normal."""
    random, published = np.random.default_rng(0), table("tableA3")

    def shown(method, other):
        one, base = (random.normal(*published.loc[name, ["last_paper_mean", "last_paper_std"]], (100_000, 5))
                     for name in (method, other))
        pairs = one - base
        return (pairs.mean(axis=1) > quantile(5) * pairs.std(axis=1, ddof=1) / 5 ** 0.5).mean()

    swnts1, swnts, namsg1 = (100 * shown(method, "sgd") for method in ("swnts1", "swnts", "namsg1"))
    assert (f"show SWNTS1 above SGD in {swnts1:.0f} of 100 cases, but SWNTS in {swnts:.0f}, NAMSG1 in {namsg1:.0f}, "
            f"and SGD above ADAM in {100 * shown('sgd', 'adam'):.0f}.") in PAGES
    above_namsg = min(shown(method, "namsg") for method in ("namsg1", "swnts", "swnts1"))
    assert f"to be above NAMSG in {100 * above_namsg:.0f} or more" in PAGES


def test_what_the_drop_takes_off_every_methods_train_loss_on_resnet_20():
    rows, falls = curves("cifar10_resnet20"), {}
    for method in ("sgd", "adam", "nadam", "amsgrad", "namsg"):
        falls[method] = 100 * (1 - _at(rows, method, 63) / _at(rows, method, 61)).dropna()
    every = pd.concat(falls)
    assert f"falls by {every.min():.0f} to {every.max():.0f} % from the 61st epoch to the 63rd" in PAGES
    assert max(falls, key=lambda method: falls[method].mean()) == "sgd"
    n = [len(of_method) for of_method in falls.values()]
    assert f"SGD's the most (n = {min(n)} to {max(n)})" in PAGES


def test_where_the_distance_brings_nothing_on_the_cnn():
    runs = EVIDENCE.grid("mnist_cnn").runs
    means = runs[runs["method"] != "sgd"].groupby(["method", "beta2", "learning_rate"])["train_loss"].mean()
    shares = 100 * (means["namsg"] / means["amsgrad"] - 1)
    lower = -shares[0.99][:0.005]
    assert (f"With β2 = 0.99 NAMSG is {lower.min():.0f} to {lower.max():.0f} % below AMSGRAD up to α = 0.005, and "
            f"{shares[0.99, 0.01]:.0f} % above at 0.01") in PAGES
    lower = -shares[0.999][:0.001]
    second, third, last = shares[0.999][0.002:]
    assert (f"With β2 = 0.999 it is {lower.min():.0f} to {lower.max():.0f} % below up to 0.001, {second:.0f} and "
            f"{third:.0f} % above at 0.002 and 0.005, and {-last:.0f} % below at 0.01") in PAGES
    best = means["namsg"].min() / means["amsgrad"].min() - 1
    assert f"Each at its best point, NAMSG is {-best:.0%} below".replace("%", " %") in PAGES


def test_what_a_moderate_distance_brings_at_first_and_a_larger_one_at_the_end():
    def of(other, epoch, experiment):
        return difference(f"{experiment}_distance", "eta_0.9_to_3", other, "train_loss", (epoch, epoch))

    logistic, cnn = (of("eta_3", 1, experiment) for experiment in ("mnist_logistic", "mnist_cnn"))
    assert f"{-logistic.mean:.1f}" == f"{-cnn.mean:.1f}"
    assert (f"is {-cnn.mean:.1f} % below η = 3 throughout on both networks ({-logistic.high:.1f} to "
            f"{-logistic.low:.1f} %, n = {logistic.n}; {-cnn.high:.1f} to {-cnn.low:.1f} %, n = {cnn.n})") in PAGES
    logistic, cnn = of("eta_3", 20, "mnist_logistic"), of("eta_3", 10, "mnist_cnn")
    assert -0.1 < logistic.low < logistic.high < 0.1 and cnn.low < 0 < cnn.high
    logistic, cnn = of("eta_0.9", 20, "mnist_logistic"), of("eta_0.9", 10, "mnist_cnn")
    assert (f"is {-logistic.mean:.1f} % below η = 0.9 throughout on logistic regression ({-logistic.high:.1f} to "
            f"{-logistic.low:.1f} %), and {-cnn.mean:.1f} % on the CNN") in PAGES
    assert minus(f"on the CNN ({-cnn.high:.1f} to {-cnn.low:+.1f} %)") in PAGES


def test_how_far_amsgrad_is_from_a_distance_of_zero_on_the_cnn():
    papers, distances = curves("mnist_cnn"), curves("mnist_cnn_distance")
    by_epoch = {epoch: np.log(_at(distances, "eta_0", epoch) / _at(papers, "amsgrad", epoch)).dropna()
                for epoch in range(1, 11)}
    last = by_epoch[10]
    assert (f"its train loss moves by {100 * np.sqrt((last ** 2).mean()):.1f} % in the last epoch (root mean square; "
            f"n = {len(last)}), and by up to {100 * abs(by_epoch[8]).max():.0f} % in the eighth") in PAGES
    assert max(by_epoch, key=lambda epoch: abs(by_epoch[epoch]).max()) == 8


def test_what_is_between_the_five_methods_test_accuracies_on_the_cnn():
    best = curves("mnist_cnn").groupby(["method", "seed"])["test_accuracy"].max().groupby("method").mean()
    five = best[["sgd", "adam", "nadam", "amsgrad", "namsg"]]
    assert f"{0.001 / (five.max() - five.min()):.1f} of what lies between the five methods" in PAGES


def test_how_many_runs_are_older():
    folders = [path.parent for path in RESULTS.glob("*/*/*/config.json")]
    older = [folder for folder in folders if "choices" not in json.loads((folder / "config.json").read_text())]
    assert round(5 * len(older) / len(folders)) == 2 and "Two fifths of the runs are older." in PAGES
