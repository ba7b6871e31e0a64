"""results/README.md, docs/validity.md and the guide: the numbers that they tell are those of the records."""

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
from experiments.analysis.intervals import CONFIDENCE, quantile
from experiments.analysis.measures import by_seed
from experiments.analysis.survey import survey
from experiments.vocabulary.config import load

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


def test_all_verdicts_together_are_told_as_they_are():
    recorded = claims()
    decided = recorded[recorded["holm"].notna() & ~recorded["verdict"].isin(["n too small to say", "not run yet"])]
    stand = (decided["holm"] == decided["verdict"]).sum()
    made, expected = re.search(r"(\d+) comparisons have .* at most (\d+\.\d) wrong verdicts",
                               text("results/tables/claims.md")).groups()
    assert f"of {len(decided)} verdicts, {stand} stand" in PAGES
    assert f"family-wise error rate of all {recorded['holm'].notna().sum()} claims at 2.5 %, one-sided" in PAGES
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
    assert with_two_seeds.index.tolist() == ["adam", "amsgrad", "namsg"]
    assert (with_two_seeds[["learning_rate", "beta2"]] == [0.001, 0.99]).all(axis=None)


def test_the_second_seeds_of_table_a2_differ_by_so_much():
    of_all = curves("cifar10_resnet20")
    namsg, adam, amsgrad = (by_seed(of_all[of_all["method"] == method], "train_loss", (30, 30))
                            for method in ("namsg", "adam", "amsgrad"))
    assert (f"NAMSG's is {1 - namsg[1] / namsg[0]:.1%} lower with that, ADAM's {adam[1] / adam[0] - 1:.1%} higher and "
            f"AMSGRAD's {amsgrad[1] / amsgrad[0] - 1:.1%} higher").replace("%", " %") in PAGES


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
    for seed in (0, 1):
        namsg, swnts = (of_all[(of_all["method"] == method) & (of_all["seed"] == seed)].set_index("epoch")[measures]
                        for method in ("namsg", "swnts"))
        assert (namsg == swnts).all(axis=1).idxmin() == 16
    assert "are equal to the last digit in these 15 epochs; so are those with seed 1" in PAGES


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


def test_the_hours_are_those_of_status():
    experiment = load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    seconds = survey(experiment, RESULTS)["seconds_per_run"]
    hours = {method: taken / 3600 for method, taken in seconds.items() if taken}
    namsg = hours.pop("namsg")
    assert f"on ResNet-20 {min(hours.values()):.1f} to {max(hours.values()):.1f} hours on average" in PAGES
    assert f"but NAMSG's {namsg:.1f} hours" in PAGES

    def of(methods, seed):
        seconds = [pd.read_csv(RESULTS / run.folder / "seconds.csv")
                   for run in experiment.runs(methods, [seed])]
        return [f"{each[['training', 'evaluation']].to_numpy().sum() / 3600:.1f}" for each in seconds]

    *first, last = of(["sgd", "adam", "amsgrad", "namsg1", "swnts", "swnts1"], 1)
    assert f"seed 1 of SGD, ADAM, AMSGRAD, NAMSG1, SWNTS and SWNTS1 ({', '.join(first)} and {last} hours)" in PAGES
    assert "seed 2 of ADAM and NAMSG ({} and {} hours)".format(*of(["adam", "namsg"], 2)) in PAGES


def test_which_runs_of_resnet_20_are_of_one_model_of_xeon():
    experiment = load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    later, earlier, third = ({each["model"] for run in experiment.runs(methods, [seed]) for each in environments(run)}
                             for methods, seed in ((["amsgrad", "namsg1", "swnts", "swnts1"], 1),
                                                   (["namsg", "sgd", "adam"], 1), (["namsg", "adam"], 2)))
    assert len(later) == len(earlier) == len(third) == 1 and later != earlier
    assert ("In seed 1 AMSGRAD, NAMSG1, SWNTS and SWNTS1 are of one model of Xeon, and NAMSG, SGD and ADAM of another; "
            "those of seed 2 are of one.") in PAGES


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
