"""Rules of decision on made-up records whose verdicts are known, and the list of claims."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tiny_experiment import record, write_selection

from experiments.analysis.intervals import interval
from experiments.analysis.results import Grid
from experiments.analysis.rounding import MadeTwice
from experiments.claims import answer, judging, sentences
from experiments.claims.claim import Judgement
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN, PARTLY, TOO_FEW
from experiments.claims.evidence import THEORY_COUNTEREXAMPLES, THEORY_REGRET, Evidence
from experiments.claims.grid_rules import BestOfGrid, GridCells, PublishedCells
from experiments.claims.parts import PARTS
from experiments.claims.rules import Comparison, EpochsToLoss, Level
from experiments.commands import cli, train
from experiments.display import tables
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.paper import TABLE_A2, TABLE_A3, printed_name
from namsg_mx.theory.gain import convergence_region, growth_rate, max_gain_expectation
from namsg_mx.theory.regret import namsg_coefficients

CHECKOUT = Path(__file__).parents[3]
LOGISTIC = "mnist_logistic"   # has 10 seeds


class MadeUp(Evidence):
    """Curves (``tuned``: those of our search's values), grids (rows of method, point, seed, status and loss),
    divergences and runs made ``twice`` that a test gives.
    """

    def __init__(self, curves=(), grid=(), diverged=(), tuned=(), twice=((), ())):
        super().__init__(CHECKOUT / "tests", CHECKOUT / "configs")   # a folder without records
        columns = ["method", "seed", "epoch", "train_loss", "test_loss", "test_accuracy", "overfitting"]
        runs = pd.DataFrame(list(grid), columns=["method", *POINT, "seed", "status", "train_loss"])
        self.curves = lambda experiment, of_tuned=False: pd.DataFrame(list(tuned if of_tuned else curves),
                                                                      columns=columns)
        self.grid = lambda experiment, seeds=None: Grid(
            self.experiment(experiment), [0, 1], POINT,
            runs[runs["seed"].isin(seeds or self.experiment(experiment).tuning.seeds)])
        self.diverged = lambda experiment, of_tuned, method: 0 if of_tuned else diverged.count(method)
        self.made_twice = lambda experiment: MadeTwice(*(pd.DataFrame(list(rows), columns=columns) for rows in twice))


def named(names):
    """The claims with these names."""
    return [claim for claim in sentences.CLAIMS if claim.name in names]


def runs(method, losses, accuracies=None):
    """Rows of runs with these train losses (a list per seed) and test accuracies; test loss 1."""
    return [(method, seed, epoch, loss, 1.0, accuracies[seed][epoch - 1] if accuracies else 0.5, 1 - loss)
            for seed, run in enumerate(losses) for epoch, loss in enumerate(run, start=1)]


def compared(relation="below", limit=0.0, measure="train_loss"):
    return Comparison(LOGISTIC, ("namsg",), ("adam",), measure, (2, 2), relation, limit)


POINT = ["learning_rate", "beta1", "beta2"]
NOISE = [0.01, -0.01, 0.02, -0.02, 0.0] * 2


def test_where_nothing_is_decided_the_finding_says_what_rounding_moves():
    adam, twice = runs("adam", [[1, 0.5]] * 10), (runs("namsg", [[1, 0.5], [1, 0.5]], [[0.8, 0.9], [0.8, 0.9]]),
                                                  runs("namsg", [[1, 0.6], [1, 0.5]], [[0.8, 0.9], [0.8, 0.93]]))
    few, all_seeds = (MadeUp(adam + runs("namsg", [[1, 0.4 + noise] for noise in NOISE[:n]]), twice=twice)
                      for n in (2, 10))
    loss = f"; rounding alone moves NAMSG by {np.expm1(np.log(1.2) / 2**0.5):.1%} (n = 2)"
    assert compared().judge(few).finding.endswith(loss)
    assert compared(measure="test_accuracy").judge(few).finding.endswith(
        f"; rounding alone moves NAMSG by {0.03 / 2**0.5:.4f} (n = 2)")
    assert Level(LOGISTIC, "namsg", "train_loss", (2, 2), "below", 0.2).judge(few).finding.endswith(loss)
    # to 0.6, the first run takes 1.8 epochs and the second one 2
    assert EpochsToLoss(LOGISTIC, "namsg", ("adam",), 2).judge(few).finding.endswith(
        f"; rounding alone moves NAMSG by {np.expm1(np.log(2 / 1.8) / 2**0.5):.1%} (n = 2)")
    assert "rounding" not in compared().judge(all_seeds).finding
    beside_itself = Comparison(LOGISTIC, ("namsg",), None, "train_loss", (2, 2), against_epochs=(1, 1))
    fewer = MadeUp(few_runs := runs("namsg", [[1, 0.5]] * 2), twice=(few_runs, runs("namsg", [[0.5, 0.5]] * 2)))
    assert beside_itself.judge(fewer).finding.endswith("; rounding alone moves NAMSG by 100.0% (n = 2)")


def test_a_rule_says_in_words_what_it_judges():
    all_run = "decided when all the configuration's seeds are run, or no run to come can change it"
    assert compared("within", 0.1).holds_if == (
        "each 95 % t interval of the mean lies between -9.1% and +10.0%, and no run of NAMSG or ADAM diverged; "
        f"{all_run}")
    assert compared().holds_if == (
        "each 95 % t interval of the mean lies below 0, and no run of NAMSG diverged; runs of ADAM that diverged are "
        f"left out; {all_run}")
    assert compared("above").holds_if == (
        "each 95 % t interval of the mean lies above 0, and no run of ADAM diverged; runs of NAMSG that diverged are "
        f"left out; {all_run}")
    assert "no run of NAMSG diverged" in compared("above", measure="test_accuracy").holds_if
    assert "no run of ADAM diverged" in compared("below", measure="test_accuracy").holds_if
    assert "lies between -0.1 and +0.1," in compared("within", 0.1, "test_accuracy").holds_if
    assert "lies above +0.1," in compared("above", 0.1, "test_accuracy").holds_if
    assert "lies below 0," in compared().holds_if and "lies below -5.0%," in compared(limit=-0.05).holds_if
    assert compared().quantity == ("train loss of NAMSG, epoch 2, compared with ADAM; paired by seed, geometric mean "
                                   "of the ratio, less 1")
    tuned = Comparison(LOGISTIC, ("namsg", "sgd"), ("adam",), "test_accuracy", (1, 2), tuned=True)
    assert tuned.quantity == ("test accuracy of NAMSG and SGD, epochs 1 to 2, compared with ADAM; paired by seed, mean "
                              "difference, values of our grid search")
    level = Level(LOGISTIC, "namsg", "best_test_accuracy", (1, 3), "above", 0.9)
    assert level.quantity == "best test accuracy of NAMSG, epochs 1 to 3, less 0.9"
    assert level.holds_if == ("the 95 % t interval of the mean lies above 0, and no run of NAMSG diverged; "
                              f"{all_run}")
    assert Level(LOGISTIC, "namsg", "test_loss", (1, 3), "above", 0.9).holds_if == (
        f"the 95 % t interval of the mean lies above 0; runs of NAMSG that diverged are left out; {all_run}")
    level = Level(LOGISTIC, "namsg", "test_accuracy", (1, 3), "above", 0.9, 0.003)
    assert "lies above 0.003," in level.holds_if
    level = Level(LOGISTIC, "namsg", "test_accuracy", (1, 3), "within", 1, 0.003)
    assert "lies between -0.003 and 0.003," in level.holds_if
    assert EpochsToLoss(LOGISTIC, "namsg", ("sgd", "adam"), 2, 0.8).holds_if.startswith(
        "each 95 % t interval of the mean lies below 0.8, and no run of NAMSG diverged; runs of SGD and ADAM that "
        f"diverged are left out; {all_run}")
    assert GridCells("namsg", "adam", 6).quantity.startswith("cells of Table A2 (α × β2) in which NAMSG's mean")
    for method in ("namsg", "nadam_mxnet"):   # the paper's table calls both NADAMs "nadam"
        assert GridCells(method, "adam", 6).holds_if.startswith("at least 6 of the 10 cells, ")
    assert PublishedCells("namsg", 0.05).quantity.startswith("NAMSG's mean running train loss at the 30th epoch over")
    assert "lies between -4.8% and +5.0%" in PublishedCells("namsg", 0.05).holds_if
    assert BestOfGrid(LOGISTIC, ("adam",), 0.02).holds_if.startswith(
        "the 95 % t interval of the mean over the seeds 102 to 109, which are not the search's, lies below +2%")


@pytest.mark.parametrize("rule", [GridCells("namsg", "adam", 6), PublishedCells("namsg", 0.05)])
def test_of_cells_it_is_what_moves_their_last_epoch(rule):
    twice = [runs("namsg", [[1] * 29 + [loss, 1]]) for loss in (0.5, 0.6)]
    few = rule.judge(MadeUp(grid=grid_cells(3, 4), twice=twice))
    assert few.verdict == TOO_FEW
    assert few.finding.endswith("; rounding alone moves NAMSG by 20.0% (n = 1)")


def test_losses_are_compared_by_their_ratio_in_pairs():
    """Seeds differ much more than methods: unpaired, nothing could be said."""
    adam = [[1, 10.0**seed] for seed in range(10)]
    namsg = [[1, 0.9 * 10.0**seed * (1 + noise)] for seed, noise in enumerate(NOISE)]
    found = compared().judge(MadeUp(runs("adam", adam) + runs("namsg", namsg)))
    assert (found.verdict, found.n) == (HOLDS, 10)
    row, = found.numbers.to_dict("records")
    logs = np.log(0.9) + np.log1p(NOISE)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(tuple(np.expm1(interval(logs)[1:])))
    assert (row["value"], row["other"]) == pytest.approx((np.mean([run[1] for run in namsg]), 111111111.1))
    assert found.p == row["p"] == pytest.approx(stats.ttest_1samp(logs, 0, alternative="less").pvalue)
    assert "-10.0%" in found.finding


@pytest.mark.parametrize(("ratio", "relation", "limit", "verdict"), [
    (1.1, "below", 0, FAILS), (1.0, "below", 0, TOO_FEW), (1.0, "within", 0.1, HOLDS), (1.3, "within", 0.1, FAILS),
    (1.1, "above", 0.05, HOLDS), (1.0, "above", -0.1, HOLDS), (1.0, "above", 0.1, FAILS)])
def test_relations_and_limits(ratio, relation, limit, verdict):
    namsg = [[1, 0.5 * ratio * (1 + noise)] for noise in NOISE]
    evidence = MadeUp(runs("adam", [[1, 0.5]] * 10) + runs("namsg", namsg))
    assert compared(relation, limit).judge(evidence).verdict == verdict


def test_only_common_seeds_count_and_one_is_too_few():
    evidence = MadeUp(runs("adam", [[1, 0.5]]) + runs("namsg", [[1, 0.1], [1, 0.1]]))
    found = compared().judge(evidence)
    assert (found.verdict, found.n) == (TOO_FEW, 1)
    assert "(" not in found.finding   # no interval
    nothing = compared().judge(MadeUp(runs("namsg", [[1, 0.1]])))
    assert (nothing.verdict, nothing.n, nothing.finding) == (NOT_RUN, 0, "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("adam", [0.5, 0.0])
def test_a_loss_of_exactly_0_decides_nothing(adam):
    """Its ratio has no logarithm, and so the mean no interval."""
    namsg = [[1, 0.4 * (1 + noise)] for noise in NOISE]
    namsg[3][1] = 0.0
    found = compared().judge(MadeUp(runs("adam", [[1, adam]] * 10) + runs("namsg", namsg)))
    assert (found.verdict, found.p) == (TOO_FEW, 1.0)
    assert "nan" not in found.finding


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rule", [compared(), compared("within", 0.1), EpochsToLoss(LOGISTIC, "namsg", ("adam",), 2)])
def test_a_loss_may_be_as_large_as_floats_are(rule):
    """The interval of two logarithms that are 460 apart ends beyond them."""
    twice = [runs("namsg", [[1, loss], [1, 0.5]]) for loss in (0.5, 1e200)]
    found = rule.judge(MadeUp(runs("adam", [[1, 0.5]] * 2) + runs("namsg", [[1, 1e200], [1, 0.4]]), twice=twice))
    assert (found.verdict, found.n) == (TOO_FEW, 2)
    point = (0.001, 0.9, 0.99)
    grid = adams_grid({PAPERS_ADAM: 0.5, point: 0.55}, (*SEARCH, *OTHERS))
    grid = [(*row[:6], 1e200) if row[1:5] == (*PAPERS_ADAM, 103) else row for row in grid]
    assert BestOfGrid(LOGISTIC, ("adam",), 0.02).judge(MadeUp(grid=grid)).verdict == TOO_FEW


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", [1e200, 0.0])
def test_a_published_cell_may_be_as_far_off_as_floats_go(loss):
    cells = [("adam", alpha, 0.9, beta2, seed, "done", loss if i == 0 else printed)
             for i, ((alpha, beta2), printed) in enumerate(TABLE_A2["adam"].items()) for seed in (0, 1)]
    found = PublishedCells("adam", 0.05).judge(MadeUp(grid=cells))
    assert found.verdict == TOO_FEW and "diverged" not in found.finding


def test_nothing_is_decided_before_all_the_configurations_seeds_are_run():
    """However clear it is: whoever looks at each new seed would find a difference in time where there is none."""
    adam = runs("adam", [[1, 0.5]] * 10)
    namsg = runs("namsg", [[1, 0.1 + noise] for noise in NOISE])
    for relation, verdict in (("below", HOLDS), ("above", FAILS)):
        assert compared(relation).judge(MadeUp(adam + namsg)).verdict == verdict
        few = compared(relation).judge(MadeUp(adam + namsg[:-2]))
        assert (few.verdict, few.made) == (TOO_FEW, 0)
        assert compared(relation).judge(MadeUp(adam[:-2] + namsg)).verdict == TOO_FEW


@pytest.mark.parametrize("rule", [
    EpochsToLoss(LOGISTIC, "namsg", ("adam",), 2), Level(LOGISTIC, "namsg", "train_loss", (2, 2), "below", 0.2)])
def test_no_other_rule_decides_before_all_the_seeds_are_run(rule):
    adam, namsg = runs("adam", [[1, 0.5]] * 10), runs("namsg", [[1, 0.1 + noise] for noise in NOISE])
    assert rule.judge(MadeUp(adam + namsg)).verdict == HOLDS
    few = rule.judge(MadeUp(adam + namsg[:-2]))
    assert (few.verdict, few.made) == (TOO_FEW, 0)


@pytest.mark.parametrize("rule", [compared(), EpochsToLoss(LOGISTIC, "namsg", ("adam",), 2)])
def test_a_run_of_the_method_that_is_to_come_is_not_made_up_for_by_a_rivals_that_diverged(rule):
    adam, namsg = runs("adam", [[1, 0.5]] * 9), runs("namsg", [[1, 0.1 + noise] for noise in NOISE])
    assert rule.judge(MadeUp(adam + namsg, diverged=["adam"])).verdict == HOLDS
    found = rule.judge(MadeUp(adam + namsg[:-2], diverged=["adam"]))
    assert (found.verdict, found.made) == (TOO_FEW, 0)


def test_the_values_of_our_search_are_judged_by_their_own_runs():
    adam, namsg = runs("adam", [[1, 0.5]] * 10), runs("namsg", [[1, 0.1 + noise] for noise in NOISE])
    rule = Comparison(LOGISTIC, ("namsg",), ("adam",), "train_loss", (2, 2), tuned=True)
    assert rule.judge(MadeUp(adam + namsg)).verdict == NOT_RUN
    assert rule.judge(MadeUp(tuned=adam + namsg)).verdict == HOLDS


def test_every_pair_must_hold():
    evidence = MadeUp([row for method, loss in (("sgd", 0.6), ("adam", 0.4), ("namsg", 0.5))
                       for row in runs(method, [[1, loss + noise / 100] for noise in NOISE])])
    found = Comparison(LOGISTIC, ("namsg",), ("sgd", "adam"), "train_loss", (2, 2)).judge(evidence)
    assert found.verdict == FAILS
    assert list(found.numbers["verdict"]) == [HOLDS, FAILS] and found.made == 2


def test_a_method_beside_itself_at_other_epochs():
    losses = [[1.0 + noise, 0.8, 0.6, 0.4 + noise] for noise in NOISE]
    found = Comparison(LOGISTIC, ("namsg",), None, "train_loss", (3, 4), against_epochs=(1, 2)).judge(
        MadeUp(runs("namsg", losses)))
    assert found.verdict == HOLDS
    assert found.numbers[["value", "other"]].values.tolist() == [pytest.approx([0.5, 0.9])]
    assert found.numbers["against"].item() == "epochs 1 to 2"


def test_what_the_curves_do_holds_in_part_where_some_methods_do_and_others_do_not():
    rise, fall, either = ([[1.0, last + noise] for noise in NOISE] for last in (1.1, 0.9, 1.0))
    for losses, verdict in (((rise, rise), HOLDS), ((fall, fall), FAILS), ((rise, fall), PARTLY),
                            ((rise, either), TOO_FEW)):
        evidence = MadeUp([row for method, run in zip(("sgd", "namsg"), losses) for row in runs(method, run)])
        rule = Comparison(LOGISTIC, ("sgd", "namsg"), None, "train_loss", (2, 2), "above", against_epochs=(1, 1))
        found = rule.judge(evidence)
        assert (found.verdict, found.p < 0.025) == (verdict, verdict != TOO_FEW)
        assert "in part" in rule.holds_if and "in part" not in compared().holds_if


@pytest.mark.parametrize("tuned", [False, True])
def test_runs_that_diverged_are_counted_from_their_records(tmp_path, tuned):
    experiment = config.load(CHECKOUT / "configs" / f"{LOGISTIC}.yaml")
    if tuned:
        chosen = {method: experiment.methods[method].points()[0] for method in ("adam", "namsg")}
        write_selection(tmp_path, experiment, chosen)
        experiment = experiment.tuned(chosen)
    for run in experiment.runs(["adam", "namsg"]):
        loss = 0.5 if run.method == "adam" else 0.4 + NOISE[run.seed]
        if (run.method, run.seed) == ("namsg", 3):
            record(tmp_path, run, [1], 20, "diverged")
        else:
            record(tmp_path, run, [1, *[loss] * 19], 20)
    evidence = Evidence(tmp_path, CHECKOUT / "configs")
    found = Comparison(LOGISTIC, ("namsg",), ("adam",), "train_loss", (2, 2), tuned=tuned).judge(evidence)
    assert (found.verdict, found.n) == (FAILS, 9)
    assert found.finding.endswith("n = 9, 1 of NAMSG's diverged")
    assert evidence.diverged(LOGISTIC, False, "namsg") == (not tuned)
    assert evidence.diverged(LOGISTIC, tuned, "adam") == 0


def test_a_method_that_diverges_is_not_better_and_is_counted():
    adam, namsg = runs("adam", [[1, 0.5]] * 9), runs("namsg", [[1, 0.4 + noise / 10] for noise in NOISE])
    found = compared().judge(MadeUp(adam + namsg, diverged=["namsg"]))
    assert (found.verdict, found.n) == (FAILS, 9)
    assert found.finding.endswith("n = 9, 1 of NAMSG's diverged")
    both = MadeUp(adam[:-4] + namsg[:-6], diverged=["namsg", "adam", "adam"])
    assert compared().judge(both).finding.endswith("n = 7, 1 of NAMSG's and 2 of ADAM's diverged")
    assert compared().judge(MadeUp(adam + namsg, diverged=["adam"])).verdict == HOLDS   # the tenth
    assert compared().judge(MadeUp(adam + namsg[:-2], diverged=["adam"])).verdict == TOO_FEW   # its own is to come


DECIDES, LEFT_OUT = (FAILS, None), "is left out"


@pytest.mark.parametrize(("relation", "measure", "of_namsg", "of_adam"), [
    ("below", "train_loss", DECIDES, LEFT_OUT), ("above", "train_loss", LEFT_OUT, DECIDES),
    ("within", "train_loss", DECIDES, DECIDES), ("above", "test_accuracy", DECIDES, LEFT_OUT),
    ("below", "test_accuracy", LEFT_OUT, DECIDES), ("within", "test_accuracy", DECIDES, DECIDES),
    ("above", "overfitting", LEFT_OUT, DECIDES)])
def test_a_run_that_diverged_has_the_worst_value(relation, measure, of_namsg, of_adam):
    """It decides against a claim, or makes it only clearer. The others' runs are as the claim has it."""
    sign = {"below": -1, "above": 1, "within": 0}[relation]
    values = {"namsg": [[0, 0.5 + 0.1 * sign + noise / 100] for noise in NOISE], "adam": [[0, 0.5]] * 10}
    made = {name: runs(name, np.subtract(1, of) if measure == "overfitting" else of, of) for name, of in values.items()}
    rule = compared(relation, 0.1 if relation == "within" else 0, measure)
    assert rule.judge(MadeUp(made["namsg"] + made["adam"])).verdict == HOLDS
    for method, expected in (("namsg", of_namsg), ("adam", of_adam)):
        fewer = {name: rows[:-2] if name == method else rows for name, rows in made.items()}
        found = rule.judge(MadeUp(fewer["namsg"] + fewer["adam"], diverged=[method]))
        assert found.n == 9
        if expected == DECIDES:
            assert (found.verdict, found.p) == DECIDES
        else:
            assert (found.verdict, 0 < found.p < 0.025) == (HOLDS, True)
        # The last run of the other is to come.
        other, = {"namsg", "adam"} - {method}
        short = {**fewer, other: made[other][:-2]}
        verdict = rule.judge(MadeUp(short["namsg"] + short["adam"], diverged=[method])).verdict
        assert verdict == (FAILS if expected == DECIDES else TOO_FEW)


def test_a_number_that_a_method_is_worse_than_is_not_reached_by_runs_that_diverged():
    rows = runs("namsg", [[1, 0.5 + noise] for noise in NOISE])
    for relation, level, expected in (("above", 0.4, HOLDS), ("below", 0.6, FAILS)):
        rule = Level(LOGISTIC, "namsg", "train_loss", (2, 2), relation, level)
        assert rule.judge(MadeUp(rows)).verdict == HOLDS
        assert rule.judge(MadeUp(rows[:-2], diverged=["namsg"])).verdict == expected
        assert rule.judge(MadeUp(rows[:-4], diverged=["namsg"])).verdict == (TOO_FEW if expected == HOLDS else FAILS)


def test_a_curve_that_diverged_does_nothing_that_is_said_of_curves():
    rise = [row for name in ("sgd", "namsg") for row in runs(name, [[1.0, 1.1 + noise / 10] for noise in NOISE])]
    rule = Comparison(LOGISTIC, ("sgd", "namsg"), None, "train_loss", (2, 2), "above", against_epochs=(1, 1))
    found = rule.judge(MadeUp(rise, diverged=["sgd"]))
    assert (found.verdict, list(found.numbers["verdict"])) == (PARTLY, [FAILS, HOLDS])
    assert found.p == pytest.approx(2 * found.numbers["p"][1])   # at least one of the two holds
    assert rule.judge(MadeUp(rise, diverged=["sgd", "namsg"])).p is None


@pytest.mark.parametrize("rule", [compared(), EpochsToLoss(LOGISTIC, "namsg", ("adam",), 2)])
def test_what_a_run_that_diverged_decides_is_no_verdict_by_an_interval(rule):
    """Not one with the smallest p-value, which would count among the claims."""
    adam, namsg = runs("adam", [[1, 0.5]] * 10), runs("namsg", [[1, 0.4 + noise / 10] for noise in NOISE[:9]])
    by_divergence, by_interval = rule.judge(MadeUp(adam + namsg, diverged=["namsg"])), judgement(HOLDS, 0.02)
    assert (by_divergence.verdict, by_divergence.p, by_divergence.made) == (FAILS, None, 0)
    assert not judging.is_decided(by_divergence)
    assert judging.by_bonferroni([by_divergence, by_interval]) == ["", HOLDS]
    assert judging.together([by_divergence, by_interval]).startswith("1 verdicts are by intervals. 0 comparisons ")
    claim = sentences.CLAIMS[0]._replace(rule=rule)
    told = judging.Verdict(claim, by_divergence)
    assert judging.as_json(told, Path("results"))["p"] is None and judging.describe(told).startswith("DOES NOT HOLD  ")
    assert tables.claims([told]).cells[["verdict", "p", "by Bonferroni"]].values.tolist() == [[FAILS, "", ""]]


@pytest.mark.parametrize("rule", [compared(), EpochsToLoss(LOGISTIC, "namsg", ("adam",), 2)])
def test_where_all_runs_of_a_method_diverged(rule):
    adam, namsg = (runs(name, [[1, 0.5]] * 10) for name in ("adam", "namsg"))
    found = rule.judge(MadeUp(adam, diverged=["namsg"] * 10))
    assert (found.verdict, found.n) == (FAILS, 0)
    assert "10 of NAMSG's diverged" in found.finding and "nan" not in found.finding
    assert rule.judge(MadeUp(namsg, diverged=["adam"] * 10)).verdict == TOO_FEW


def test_a_measure_beside_a_number():
    accuracies = [[0.1, 0.9 + noise / 100, 0.2] for noise in NOISE]
    evidence = MadeUp(runs("namsg", [[1, 1, 1]] * 10, accuracies))
    for level, relation, limit, verdict in ((0.89, "above", 0, HOLDS), (0.91, "above", 0, FAILS),
                                            (0.9, "above", 0, TOO_FEW), (0.9, "within", 0.003, HOLDS),
                                            (0.91, "within", 0.003, FAILS)):
        rule = Level(LOGISTIC, "namsg", "best_test_accuracy", (1, 3), relation, level, limit)
        assert rule.judge(evidence).verdict == verdict
    assert Level(LOGISTIC, "namsg", "best_test_accuracy", (1, 3), "above", 0.89).judge(evidence).verdict == HOLDS
    last = Level(LOGISTIC, "namsg", "test_accuracy", (3, 3), "within", 0.2).judge(evidence)
    assert (last.numbers["value"].item(), last.n) == (pytest.approx(0.2), 10)
    assert last.finding == "NAMSG 0.2, level 0.2: +0.0000 (+0.0000 to +0.0000), n = 10"
    evidence.diverged = lambda *_: 1
    assert rule.judge(evidence).verdict == FAILS


def test_epochs_to_a_train_loss_of_both():
    adam = [0.8, 0.7, 0.6, 0.5]
    namsg = [[0.7, 0.5, 0.4, 0.3], [0.7, 0.4, 0.4, 0.3]] * 5   # reach 0.5 after 2 and 1 2/3 epochs
    rule = EpochsToLoss(LOGISTIC, "namsg", ("adam",), 4)
    found = rule.judge(MadeUp(runs("adam", [adam] * 10) + runs("namsg", namsg)))
    row, = found.numbers.to_dict("records")
    expected = interval(np.log(np.array([2, 5 / 3] * 5) / 4))
    assert (row["epochs"], row["other epochs"], row["train loss"]) == pytest.approx((11 / 6, 4, 0.5))
    assert (row["share"], row["low"], row["high"]) == pytest.approx(tuple(np.exp(expected[1:])))
    assert (found.verdict, found.n) == (HOLDS, 10)
    assert found.p == pytest.approx(stats.ttest_1samp(np.log(np.array([2, 5 / 3] * 5) / 4), 0,
                                                      alternative="less").pvalue)
    assert found.finding.startswith("1.8 epochs to 0.5, ADAM 4.0: 0.46 (0.43 to 0.49), n = 10")
    swapped = EpochsToLoss(LOGISTIC, "adam", ("namsg",), 4).judge(
        MadeUp(runs("adam", [adam] * 10) + runs("namsg", namsg)))
    assert (swapped.verdict, swapped.numbers["share"].item()) == (FAILS, pytest.approx(1 / row["share"]))
    for share, verdict in ((0.5, HOLDS), (0.46, TOO_FEW), (0.4, FAILS)):
        asked = EpochsToLoss(LOGISTIC, "namsg", ("adam",), 4, share)
        assert asked.judge(MadeUp(runs("adam", [adam] * 10) + runs("namsg", namsg))).verdict == verdict
    diverged = rule.judge(MadeUp(runs("adam", [adam] * 10) + runs("namsg", namsg[:9]), diverged=["namsg"]))
    assert (diverged.verdict, diverged.numbers["diverged"].item()) == (FAILS, 1)


SHORT = [   # in short, of a rule on seeds 0 and 1 of SGD, 0 of ADAM and both of NAMSG
    (Comparison(LOGISTIC, ("namsg",), ("sgd", "adam"), "train_loss", (2, 2)), "train loss NAMSG 0.3000, SGD 0.7000 "
     "(n = 2); NAMSG 0.2000, ADAM 0.5000 (n = 1)"),
    (Comparison(LOGISTIC, ("sgd",), ("namsg",), "train_loss", (2, 2)), "train loss SGD 0.7000, NAMSG 0.3000; n = 2"),
    (Comparison(LOGISTIC, ("sgd", "namsg"), None, "train_loss", (2, 2), against_epochs=(1, 1)),
     "train loss SGD 0.7000, epoch 1 1.000 (n = 2); NAMSG 0.3000, epoch 1 0.9000 (n = 2)"),
    (EpochsToLoss(LOGISTIC, "namsg", ("sgd", "adam"), 2), "epochs that NAMSG needs: 65 % of SGD's (n = 2), 79 % of "
     "ADAM's (n = 1)"),
    (EpochsToLoss(LOGISTIC, "namsg", ("sgd",), 2), "epochs that NAMSG needs: 65 % of SGD's; n = 2"),
    (Level(LOGISTIC, "sgd", "train_loss", (2, 2), "below", 0.5), "SGD 0.7000, against 0.5000; n = 2")]


@pytest.mark.parametrize(("rule", "text"), SHORT, ids=range(len(SHORT)))
def test_in_short_a_mean_is_of_the_runs_that_n_counts(rule, text):
    made = {"sgd": [[1, 0.6], [1, 0.8]], "adam": [[1, 0.5]], "namsg": [[0.9, 0.2], [0.9, 0.4]]}
    evidence = MadeUp([row for method, losses in made.items() for row in runs(method, losses)])
    told = judging.Verdict(sentences.CLAIMS[0]._replace(rule=rule), rule.judge(evidence))
    assert answer.in_short(told) == text


@pytest.mark.slow
def test_of_equal_methods_either_is_called_faster_as_seldom_as_the_interval_says():
    random, verdicts = np.random.default_rng(0), []
    for _ in range(200):
        losses = [1 / np.arange(1, 21) + random.normal(0, 0.001, (10, 20)) for _ in range(2)]
        evidence = MadeUp(runs("adam", losses[0]) + runs("namsg", losses[1]))
        verdicts.append(EpochsToLoss(LOGISTIC, "namsg", ("adam",), 20).judge(evidence).verdict)
    for verdict in (HOLDS, FAILS):
        assert 0 < verdicts.count(verdict) / 200 <= 0.05   # 0.025 each


def grid_cells(lower, run=10, seeds=(0, 1)):
    """Table A2's cells for NAMSG and ADAM, of which NAMSG has the lower loss in so many."""
    cells = list(TABLE_A2["namsg"])[:run]
    return [(method, alpha, 0.9, beta2, seed, "done", 0.5 if method == "adam" else 0.4 if i < lower else 0.6)
            for i, (alpha, beta2) in enumerate(cells) for method in ("adam", "namsg") for seed in seeds]


@pytest.mark.parametrize(("lower", "run", "verdict"), [
    (6, 10, HOLDS), (5, 10, FAILS), (6, 6, HOLDS), (5, 6, TOO_FEW), (0, 5, FAILS), (0, 4, TOO_FEW), (0, 0, NOT_RUN)])
def test_cells_of_a_grid_decide_as_soon_as_the_rest_cannot_change_it(lower, run, verdict):
    found = GridCells("namsg", "adam", 6).judge(MadeUp(grid=grid_cells(lower, run)))
    assert (found.verdict, found.n) == (verdict, 2 if run else 0)
    if run == 10:
        assert (found.numbers["lower"].sum(), found.numbers["lower in the paper"].sum()) == (lower, 9)
    assert found.finding == (f"lower in {lower} of the {run} cells run here, {run} of them with 2 seeds; in 9 of 10 of "
                             "the paper's table")


def test_a_cell_counts_once_both_have_all_its_seeds():
    """The second could turn it."""
    one_seed, both = grid_cells(10, seeds=(0,)), grid_cells(10)
    only_namsg = [row for row in both if row[0] == "namsg" and row[4] == 1]
    found = GridCells("namsg", "adam", 6).judge(MadeUp(grid=one_seed + only_namsg))
    assert (found.verdict, found.n, set(found.numbers["n"])) == (TOO_FEW, 1, {1})
    assert found.finding.startswith("lower in 10 of the 10 cells run here, 0 of them with 2 seeds; ")
    assert GridCells("namsg", "adam", 6).judge(MadeUp(grid=both)).verdict == HOLDS


def test_a_cell_where_both_have_one_loss_is_not_lower():
    equal = [(*row[:6], 0.5) for row in grid_cells(10)]
    assert GridCells("namsg", "adam", 6).judge(MadeUp(grid=equal)).verdict == FAILS


def test_a_cell_where_a_run_diverged_is_not_lower():
    diverged = [(*row[:5], "diverged", np.inf) if (row[0], row[4]) == ("namsg", 1) else row
                for row in grid_cells(10, seeds=(0, 1))]
    found = GridCells("namsg", "adam", 6).judge(MadeUp(grid=diverged))
    assert (found.verdict, found.finding[:22]) == (FAILS, "lower in 0 of the 10 c")
    others = [(*row[:5], "diverged", np.inf) if row[0] == "adam" else row for row in grid_cells(0)]
    assert GridCells("namsg", "adam", 6).judge(MadeUp(grid=others)).verdict == HOLDS


PAPERS_ADAM = (0.005, 0.9, 0.99)   # Table A1, logistic regression
SEARCH, OTHERS = (100, 101), range(102, 110)


def adams_grid(losses, seeds=SEARCH, noise=0.0):
    """ADAM's points: the loss of some, of the others one above all these; the paper's is noisy, in turn up and down."""
    points = config.load(CHECKOUT / "configs" / "mnist_logistic.yaml").methods["adam"].points()
    return [("adam", *point, seed, "done", losses.get(point, 0.7) + (point == PAPERS_ADAM) * noise * (-1) ** seed)
            for point in (tuple(p[name] for name in POINT) for p in points) for seed in seeds]


@pytest.mark.parametrize(("loss", "noise", "verdict"), [
    (0.50, 0.001, HOLDS), (0.505, 0.001, HOLDS), (0.55, 0.001, FAILS), (0.51, 0.01, TOO_FEW)])
def test_the_papers_point_beside_the_best_of_the_grid(loss, noise, verdict):
    """The seeds that compare two points are not the ones that chose the best."""
    rival = (0.001, 0.9, 0.99)
    grid = adams_grid({PAPERS_ADAM: 0.52, rival: 0.5}) + adams_grid({PAPERS_ADAM: loss, rival: 0.5}, OTHERS, noise)
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02)
    found = rule.judge(MadeUp(grid=grid))
    row, = found.numbers.to_dict("records")
    assert found.verdict == verdict
    assert (row["there"], row["lowest"], row["excess"], row["rank"]) == pytest.approx((0.52, 0.5, 0.04, 2))
    expected = interval(np.log((loss + noise * np.array([1, -1] * 4)) / 0.5))
    assert (found.n, row["judges"], row["difference"], row["low"], row["high"]) == pytest.approx(
        (8, 8, *np.expm1(expected[1:])))
    assert found.finding.startswith("ADAM +4.0% (rank 2 of 10), with other seeds ")
    assert " of 0.001, 0.9, 0.99 (" in found.finding
    to_come = rule.judge(MadeUp(grid=[row for row in grid if row[4] < 109]))
    assert (found.made, to_come.verdict, to_come.made) == (1, TOO_FEW, 0)


def test_the_seeds_that_chose_the_best_of_a_grid_do_not_judge_it():
    """However far it is from the others."""
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02)
    for loss in (0.1, 0.9):
        found = rule.judge(MadeUp(grid=adams_grid({PAPERS_ADAM: loss})))
        assert (found.verdict, found.n, found.p) == (TOO_FEW, 2, 1)
    assert found.finding == "ADAM +28.6% (rank 10 of 10)"
    assert rule.judge(MadeUp(grid=adams_grid({})[1:])).verdict == NOT_RUN   # a seed is missing
    # Its rival is the lowest of the others where it is the lowest itself.
    lowest = adams_grid({PAPERS_ADAM: 0.4, (0.01, 0.9, 0.999): 0.41}, (*SEARCH, *OTHERS), 0.001)
    found = rule.judge(MadeUp(grid=lowest))
    assert (found.verdict, found.numbers["beside"].item()) == (HOLDS, "0.01, 0.9, 0.999")
    # Of two methods each has its own row.
    both = lowest + [("amsgrad", *row[1:]) for row in adams_grid({PAPERS_ADAM: 0.4}, (*SEARCH, *OTHERS), 0.001)]
    rows = BestOfGrid(LOGISTIC, ("adam", "amsgrad"), 0.02).judge(MadeUp(grid=both)).numbers
    assert rows["verdict"].tolist() == [HOLDS, FAILS]
    defaults = (("learning_rate", 0.01), ("beta1", 0.9), ("beta2", 0.999))
    assert BestOfGrid(LOGISTIC, ("adam",), 0.1, defaults).judge(MadeUp(grid=lowest)).verdict == HOLDS


def test_a_point_of_the_grid_is_judged_by_what_is_recorded(tmp_path):
    """All points with the search's seeds, and two of them with the others."""
    experiment, rival = config.load(CHECKOUT / "configs" / "mnist_logistic.yaml"), (0.001, 0.9, 0.99)
    losses = {PAPERS_ADAM: 0.5, rival: 0.55}
    for run in experiment.grid_runs(["adam"], [*SEARCH, 102, 103]):
        loss = losses.get(tuple(run.point[name] for name in POINT), 0.7)
        if run.seed in SEARCH or loss < 0.7:
            record(tmp_path, run, [loss + run.seed % 2 / 1000] * 10, 10)
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02, judges=(102, 103))
    found = rule.judge(Evidence(tmp_path, CHECKOUT / "configs"))
    assert (found.verdict, found.n, found.numbers["beside"].item()) == (HOLDS, 2, "0.001, 0.9, 0.99")
    assert found.numbers["difference"].item() == pytest.approx(-0.0909, abs=1e-3)


def test_a_point_of_the_grid_that_diverges_is_not_the_best():
    def diverges(grid, at, of):
        return [(*row[:5], "diverged", np.inf) if row[1:4] == at and row[4] in of else row for row in grid]

    rule, rival = BestOfGrid(LOGISTIC, ("adam",), 0.02), (0.001, 0.9, 0.99)
    grid = adams_grid({PAPERS_ADAM: 0.5, rival: 0.51}, (*SEARCH, *OTHERS), 0.001)
    assert rule.judge(MadeUp(grid=grid)).verdict == HOLDS
    assert rule.judge(MadeUp(grid=diverges(grid, PAPERS_ADAM, [100]))).verdict == FAILS
    found = rule.judge(MadeUp(grid=diverges(grid, PAPERS_ADAM, [105])))
    assert (found.verdict, found.p) == (FAILS, None) and found.finding.endswith("n = 7, 1 diverged there")
    found = rule.judge(MadeUp(grid=[row for row in diverges(grid, rival, [105]) if row[1:5] != (*PAPERS_ADAM, 105)]))
    assert (found.verdict, found.made) == (TOO_FEW, 0)   # a run is to come at the point
    found = rule.judge(MadeUp(grid=diverges(grid, rival, [105])))
    assert found.verdict == HOLDS and found.finding.endswith("n = 7, 1 diverged at 0.001, 0.9, 0.99")
    found = rule.judge(MadeUp(grid=diverges(grid, rival, [100])))
    assert (found.verdict, found.numbers["lowest"].item()) == (HOLDS, 0.5)


@pytest.mark.parametrize(("factor", "spread", "verdict"), [
    (1.0, 0.01, HOLDS), (1.04, 0.01, HOLDS), (1.1, 0.01, FAILS), (0.9, 0.01, FAILS), (1.04, 0.05, TOO_FEW)])
def test_published_cells(factor, spread, verdict):
    """Each cell is so many times the paper's, in turn more and less."""
    ratios = factor * (1 + spread * np.array([1, -1] * 5))
    grid = [("adam", alpha, 0.9, beta2, seed, "done", ratio * loss + (0.001 if seed else -0.001))
            for ratio, ((alpha, beta2), loss) in zip(ratios, TABLE_A2["adam"].items()) for seed in (0, 1)]
    found = PublishedCells("adam", 0.05).judge(MadeUp(grid=grid))
    assert (found.verdict, found.n, found.made) == (verdict, 2, 2)
    assert list(found.numbers["difference"]) == pytest.approx(list(ratios - 1))
    mean = np.expm1(np.log(ratios).mean())
    assert found.finding.startswith(f"ADAM {mean:+.1%}")
    assert found.finding.endswith(f"higher in {(ratios > 1).sum()} of 10 cells run here, 10 of them with 2 seeds")
    short = PublishedCells("adam", 0.05).judge(MadeUp(grid=grid[1:]))
    assert (short.verdict, short.n, short.made) == (TOO_FEW, 1, 0)
    assert " to " not in short.finding
    diverged = [(*grid[0][:5], "diverged", np.inf), *grid[1:]]
    found = PublishedCells("adam", 0.05).judge(MadeUp(grid=diverged))
    assert (found.verdict, found.p) == (FAILS, None)
    assert found.finding.endswith(", 1 where a run diverged")
    only = PublishedCells("adam", 0.05).judge(MadeUp(grid=diverged[:2]))
    assert (only.verdict, "nan" in only.finding) == (FAILS, False)
    assert PublishedCells("adam", 0.05).judge(MadeUp()).verdict == NOT_RUN


def judgement(verdict, p, made=0):
    return Judgement(verdict, "", 10, pd.DataFrame(), p, made)


def test_all_verdicts_together():
    """With four claims that intervals decide or will decide, of 0.025 each has a fourth. By Holm 0.008 would stand."""
    judgements = [judgement(HOLDS, 0.008, made=4), judgement(FAILS, 0.001, made=3), judgement(HOLDS, None),
                  judgement(TOO_FEW, 1.0, made=20), judgement(PARTLY, 0.02, made=5), judgement(NOT_RUN, None)]
    assert judging.by_bonferroni(judgements) == [TOO_FEW, FAILS, "", TOO_FEW, TOO_FEW, ""]
    assert judging.by_bonferroni(judgements[:3]) == [HOLDS, FAILS, ""]
    table = tables.claims([judging.Verdict(claim, each) for claim, each in zip(sentences.CLAIMS, judgements)])
    assert ("3 verdicts are by intervals. 32 comparisons have all their runs, and each errs once in forty times at "
            "most: at most 0.8 wrong verdicts are to be expected.") in table.title
    assert list(table.numbers["p"]) == ["0.008", "0.001", "", "1", "0.02", ""]
    assert list(table.cells["p"]) == ["0.008", "0.001", "", "", "0.02", ""]
    assert list(table.cells["by Bonferroni"]) == list(table.numbers["bonferroni"]) == judging.by_bonferroni(judgements)


def test_verdicts_by_bonferroni_are_rarely_wrong_though_claims_depend_and_err_in_two_directions():
    """Two claims on one mean, 0: that it is below 0.3, which is right, and below 0. By Holm 3.7 % err, as computed."""
    def decide(limit, value):
        return judgement(HOLDS if value < limit else FAILS, stats.norm.sf(abs(value - limit)))

    judged = [judging.by_bonferroni([decide(0.3, value), decide(0, value)])
              for value in np.random.default_rng(0).normal(size=20_000)]
    errors = np.mean([right == FAILS or wrong == HOLDS for right, wrong in judged])
    assert errors == pytest.approx(stats.norm.sf(2.2414) + stats.norm.sf(2.5414), abs=0.003) and errors < 0.025


# Epochs that a method needs to a train loss, as a share of ADAM's; test loss before and after the step size drops.
PAPERS = {"sgd": (1.1, 0.40, 0.45), "adam": (1.0, 0.40, 0.46), "nadam": (0.95, 0.40, 0.46),
          "nadam_mxnet": (0.95, 0.40, 0.46), "amsgrad": (0.9, 0.40, 0.50), "namsg": (0.7, 0.38, 0.50),
          "namsg1": (0.75, 0.38, 0.45), "swnts": (0.9, 0.38, 0.45), "swnts1": (0.9, 0.38, 0.45),
          "namsb1": (0.7, 0.40, 0.45), "amsb1": (0.8, 0.40, 0.45), "namsb2": (0.8, 0.40, 0.45),
          "amsb2": (0.9, 0.40, 0.45)}


def test_on_cifar10_all_holds_where_the_records_are_as_the_paper_says():
    """Its order of the methods in every epoch, and the numbers that it prints, with little noise."""
    random, curves = np.random.default_rng(0), []
    for method, (share, *test_losses) in PAPERS.items():
        (last, _), (best, _) = TABLE_A3[printed_name(method)]
        for seed in range(5):
            for epoch in range(1, 76):
                dropped = epoch > 61
                train_loss = share / epoch * (0.3 if dropped else 1)
                accuracy = best if epoch == 68 else last if dropped else 0.86 + 0.01 * (method == "namsg")
                train_loss, test_loss, accuracy = np.array([train_loss, test_losses[dropped], accuracy]) * (
                    1 + 1e-5 * random.standard_normal(3))
                curves.append((method, seed, epoch, train_loss, test_loss, accuracy, test_loss - train_loss))
    grid = [(method, alpha, 0.9, beta2, seed, "done", loss * (1 + 1e-5 * random.standard_normal()))
            for method in ("adam", "nadam", "nadam_mxnet", "amsgrad", "namsg")
            for (alpha, beta2), loss in TABLE_A2[printed_name(method)].items() for seed in range(10)]
    sgd = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml").methods["sgd"].points()
    grid += [("sgd", *point.values(), np.nan, seed, "done",
              0.4 + abs(point["learning_rate"] - 0.2) + 1e-5 * random.standard_normal())
             for point in sgd for seed in range(10)]
    evidence = MadeUp(curves, grid)
    on_cifar = [claim for claim in sentences.CLAIMS if claim.name.startswith(("cifar10", "tableA"))]
    assert len(on_cifar) > 40
    assert {claim.name: claim.rule.judge(evidence).verdict for claim in on_cifar} == \
        {claim.name: HOLDS for claim in on_cifar}


def test_the_committed_verdicts_are_those_of_the_committed_records():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")
    evidence = Evidence(CHECKOUT / "results", CHECKOUT / "configs")
    judged = tables.claims(judging.judge(evidence, sentences.CLAIMS)).numbers
    pd.testing.assert_frame_equal(judged.set_index("name")[["verdict", "n"]], recorded[["verdict", "n"]])


def growth(*points):
    """theory_growth.csv with these (tau, eta, noise, growth), and standard errors of 1e-5, of differences 5e-6."""
    table = pd.DataFrame(points, columns=["tau", "eta", "noise", "growth"]).assign(
        standard_error=1e-5, difference_error=5e-6, psi=0.0)
    zero = table[table["eta"] == 0].set_index(["tau", "noise"])["growth"]
    return table.assign(difference=[row.growth - zero[row.tau, row.noise] for row in table.itertuples()])


SADDLES, VALLEYS, LOW = (-0.0002, -0.0005), (0.0002, 0.0005), (0.01, 0.001, 0.0001)


@pytest.mark.parametrize(("name", "taus", "etas", "growths", "verdict"), [
    # The better of eta = 0.9 and 3 counts, wherever one of the three converges.
    ("a-accelerates", [0.4], (0, 0.9, 3), {1: (-2, -1, -3), 10: (1, -1, 2), 100: (1, 2, 2)}, HOLDS),
    ("a-accelerates", [0.4], (0, 0.9, 3), {1: (-2, -1, -1), 10: (-2, -3, -1), 100: (1, 2, 2)}, FAILS),
    # 'b' is judged at r = 10, as all diverge at 100.
    ("b", [0.001], (0, 0.9, 3), {1: (-2, -1, -1), 10: (-2, -2, -3), 100: (1, 2, 3)}, HOLDS),
    ("b", [0.001], (0, 0.9, 3), {1: (-2, -3, -3), 10: (-2, -1, -1), 100: (1, 0.5, 0.5)}, FAILS),
    ("b", [0.001], (0, 0.9, 3), {1: (-2, -3, -3), 10: (-2, -2.001, -1), 100: (1, 0.5, 0.5)}, TOO_FEW),
    ("c-trapped", SADDLES, (0,), {1: (1,), 10: (-0.04,)}, HOLDS),
    ("c-trapped", SADDLES, (0,), {1: (1,), 10: (-0.02,)}, FAILS),
    ("bound-of-growth", LOW, (0,), {1: (-1,), 10: (0.02,)}, HOLDS),   # of Psi = 0
    ("bound-of-growth", LOW, (0,), {1: (-1,), 10: (0.04,)}, FAILS),
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 0.5), 10: (-2, -1), 30: (-2, -1.5)}, HOLDS),
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 0.5), 10: (-2, -1), 30: (-2, -3)}, PARTLY),
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 2), 10: (-2, -3), 30: (-2, -3)}, FAILS),
    # -0.02 is not below 0 by three standard errors.
    ("c-mitigates", SADDLES, (0, 3), {1: (1, 0.5), 10: (-2, -1), 30: (-0.02, -1), 50: (-0.02, -1)}, HOLDS),
    ("e-low", LOW, (0, 3), {1: (-2, -3), 10: (-1, -2), 100: (2, 1)}, HOLDS),
    ("e-low", LOW, (0, 3), {1: (-2, -1), 10: (-1, -2), 100: (2, 1)}, PARTLY),
    ("e-low", LOW, (0, 3), {1: (-2, -1), 10: (-1, -0.5), 100: (2, 1)}, FAILS)])
def test_claims_on_growth(name, taus, etas, growths, verdict):
    """``growths``: by noise level, those at each eta, in thousandths."""
    assert judged(name, [(tau, eta, noise, g / 1000) for tau in taus for noise, of_noise in growths.items()
                         for eta, g in zip(etas, of_noise)]).verdict == verdict


@pytest.mark.parametrize(("saddles", "valleys", "verdict"), [   # growth at eta = 0, in thousandths, by noise level
    ({0.1: 1, 10: -1, 100: 2}, {0.1: -1, 10: -1, 100: -0.5}, HOLDS),
    ({0.1: 1, 10: -1, 100: 2}, {0.1: -1, 10: -1, 100: 1.9}, PARTLY),    # all is driven apart
    ({0.1: 1, 10: -1, 100: 0.5}, {0.1: -1, 10: -1, 100: -1}, FAILS)])
def test_noise_helps_to_escape_where_it_does_not_drive_all_apart(saddles, valleys, verdict):
    found = judged("c-noise", [(tau, 0, noise, g / 1000) for taus, growths in ((SADDLES, saddles), (VALLEYS, valleys))
                               for tau in taus for noise, g in growths.items()])
    assert found.verdict == verdict


def judged(name, points):
    """What a claim on growth finds at these (tau, eta, noise, growth)."""
    evidence = MadeUp()
    evidence.table = lambda table: growth(*points)
    claim, = (claim for claim in sentences.CLAIMS if claim.name == name)
    return claim.rule.judge(evidence)


def test_a_term_of_the_bound_that_is_below_its_quantity_breaks_theorem_1():
    """Though the regret is far below the whole."""
    claim, = (claim for claim in sentences.CLAIMS if claim.name == "regret-bound")
    evidence = MadeUp()
    table = Evidence(CHECKOUT / "results", CHECKOUT / "configs").table(THEORY_REGRET)
    evidence.table = lambda _: table
    assert claim.rule.judge(evidence).verdict == HOLDS
    for i in (1, 2, 3):
        evidence.table = lambda _, column=f"term_{i}": table.assign(**{column: table[column] / 5})
        assert claim.rule.judge(evidence).verdict == FAILS
    evidence.table = lambda _: table.assign(regret=table["regret"] * 20)
    assert claim.rule.judge(evidence).verdict == FAILS


@pytest.mark.parametrize("problem", ["deterministic", "stochastic"])
@pytest.mark.parametrize("method", ["adam", "dozatnadam", "amsgrad", "namsg"])
def test_in_a_counterexample_each_method_must_end_where_it_is_said_to(method, problem):
    table = Evidence(CHECKOUT / "results", CHECKOUT / "configs").table(THEORY_COUNTEREXAMPLES)
    claim, = named(["nonconvergence"])
    for value, verdict in ((1.0, HOLDS), (-1.0, FAILS)):
        evidence, turned = MadeUp(), table.copy()
        turned.loc[(turned["method"] == method) & (turned["t"] == turned["t"].max()), problem] *= value
        evidence.table = lambda _, turned=turned: turned
        assert claim.rule.judge(evidence).verdict == verdict


FILES = {"figures/theory_growth.csv": [c.name for c in sentences.CLAIMS if c.part == "gain"],
         "figures/theory_regret.csv": ["regret-bound"], "figures/theory_counterexamples.csv": ["nonconvergence"],
         "tables/original_form.csv": ["algorithm"], "benchmarks/optimizer_step.json": ["cost"]}


def changed(content):
    """The file's content, damaged in several ways."""
    lines = content.splitlines(keepends=True)
    for i in {1, 2, 3, len(lines) // 5, len(lines) // 3, len(lines) // 2, len(lines) - 3, len(lines) - 1}:
        cut = sum(map(len, lines[:i]))
        for at in (cut, cut - 1, cut + 1, cut + len(lines[i]) // 2, cut + len(lines[i]) - 2):
            yield content[:at]
        yield b"".join(lines[:i] + lines[i + 1:])
        yield b"".join(lines[:i + 1] + lines[i:])
        for old, new in ((b"0.", b"nan"), (b"0.", b"NaN"), (b"0.", b"x"), (b"0.", b""), (b"0.", b"-Infinity"),
                         (b",", b",inf,"), (b"-", b"-1e309"), (b'"', b'"_')):
            yield b"".join([*lines[:i], lines[i].replace(old, new, 1), *lines[i + 1:]])
    yield from (content[:-1], b"", b"\n", lines[0], b"{}\n", b"[]\n", b"null\n")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_or_changed_is_named_or_changes_no_verdict(tmp_path, name):
    content, path = (CHECKOUT / "results" / name).read_bytes(), tmp_path / name
    path.parent.mkdir()

    def verdicts():
        judged = judging.judge(Evidence(tmp_path, CHECKOUT / "configs"), named(FILES[name]))
        return [(verdict.judgement.verdict, verdict.judgement.n) for verdict in judged]

    path.write_bytes(content)
    whole, refused = verdicts(), 0
    assert all(verdict != NOT_RUN for verdict, _ in whole)
    for damaged in changed(content):
        path.write_bytes(damaged)
        try:
            assert verdicts() == whole, damaged
        except RecordError as error:
            assert str(error) == f"{path}: damaged: not what was written"
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".csv")])
def test_rows_in_another_order_are_named_or_change_no_finding(tmp_path, name):
    """A finding of the last epoch must not be another's."""
    head, *rows = (CHECKOUT / "results" / name).read_text().splitlines(keepends=True)
    path = tmp_path / name
    path.parent.mkdir()

    def findings():
        return [verdict.judgement.finding for verdict in
                judging.judge(Evidence(tmp_path, CHECKOUT / "configs"), named(FILES[name]))]

    path.write_text(head + "".join(rows))
    whole = findings()
    path.write_text(head + "".join(reversed(rows)))
    try:
        assert findings() == whole
    except RecordError as error:
        assert str(error) == f"{path}: damaged: not what was written"


@pytest.mark.parametrize("change", [
    lambda report: report.update(rounds=None), lambda report: report["machine"].pop("processor"),
    lambda report: report["machine"].update(cores="2"), lambda report: report.update(machine=[]),
    lambda report: report.update(measurements={}), lambda report: report.update(verdicts=[{"shapes": "x"}]),
    lambda report: report["measurements"].append(1), lambda report: report["measurements"][0].pop("shapes"),
    lambda report: report["measurements"][0].pop("threads"),
    lambda report: report["measurements"][0].update(contenders=[]),
    lambda report: report["measurements"][0]["contenders"].pop("MXNet adam"),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"].pop("share"),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"].update(seconds=[1, 2]),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"]["share"].__setitem__(1, float("nan")),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"]["share"].__setitem__(1, "1")])
def test_a_benchmark_has_all_that_is_read_of_it(tmp_path, change):
    path = tmp_path / "benchmarks" / "optimizer_step.json"
    path.parent.mkdir()
    report = json.loads((CHECKOUT / "results" / "benchmarks" / path.name).read_text())
    path.write_text(json.dumps(report))
    assert Evidence(tmp_path, CHECKOUT / "configs").benchmark("optimizer_step") == report
    change(report)
    path.write_text(json.dumps(report))
    with pytest.raises(RecordError, match="optimizer_step.json: damaged"):
        Evidence(tmp_path, CHECKOUT / "configs").benchmark("optimizer_step")


@pytest.mark.parametrize("name", ["optimizer_step", "update_patterns", "training_step", "gpu_step"])
def test_the_committed_benchmarks_are_whole(name):
    assert Evidence(CHECKOUT / "results", CHECKOUT / "configs").benchmark(name)["measurements"]


def test_every_claim_says_what_it_needs_to():
    assert len({claim.name for claim in sentences.CLAIMS}) == len(sentences.CLAIMS)
    for claim in sentences.CLAIMS:
        assert claim.part in PARTS
        assert claim.where and claim.sentence and claim.rule.quantity and claim.rule.holds_if


def test_claims_name_epochs_that_their_experiments_have():
    for rule in (claim.rule for claim in sentences.CLAIMS):
        if isinstance(rule, (Comparison, EpochsToLoss, Level)):
            epochs = config.load(CHECKOUT / "configs" / f"{rule.experiment}.yaml").epochs
            stretches = [(1, rule.epoch)] if isinstance(rule, EpochsToLoss) else [
                rule.epochs, getattr(rule, "against_epochs", None) or (1, 1)]
            assert all(1 <= first <= last <= epochs for first, last in stretches)


@pytest.mark.parametrize("claim", sentences.CLAIMS, ids=lambda claim: claim.name)
def test_its_commands_make_the_runs_that_it_is_judged_by(claim, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    needed, made = methods_of(claim.rule), set()
    for command in claim.rule.commands:
        words = command.split()
        if words[:3] == ["python", "-m", "experiments.theory.original_form"]:
            continue
        if words[0] == "make":
            assert f"{words[1]}:" in (CHECKOUT / "Makefile").read_text()
            continue
        options = cli._parser().parse_args(words[3:])
        if options.command in (train.run, train.grid):
            made |= {method.name for method in config.load(options.config).select(options.method)}
    assert needed <= made
    if isinstance(claim.rule, BestOfGrid):   # each method more is days of training
        assert needed == made


def methods_of(rule):
    if isinstance(rule, Comparison):
        return {*rule.methods, *(rule.others or ())}
    if isinstance(rule, EpochsToLoss):
        return {rule.method, *rule.others}
    if isinstance(rule, GridCells):
        return {rule.method, rule.other}
    if isinstance(rule, (Level, PublishedCells)):
        return {rule.method}
    return set(getattr(rule, "methods", ()))


def test_without_records_nothing_is_judged_but_equations_and_what_optimizers_keep(tmp_path):
    verdicts = judging.judge(Evidence(tmp_path, CHECKOUT / "configs"), sentences.CLAIMS)
    judged = [v.claim.name for v in verdicts if v.judgement.verdict != NOT_RUN]
    assert judged == ["a-diverges", "e-domain", "e-shrinks", "coefficients", "memory"]
    memory, = (v.judgement for v in verdicts if v.claim.name == "memory")
    assert (memory.verdict, memory.finding) == (FAILS, "SGD 1, ADAM 2, NADAM 2, AMSGRAD 3, NAMSG 3")


def test_the_sections_on_theory_are_judged_as_the_documentation_has_them():
    """docs/theory.md, on the committed simulation."""
    claims = [claim for claim in sentences.CLAIMS if claim.part in ("gain", "regret")]
    verdicts = {v.claim.name: v.judgement.verdict
                for v in judging.judge(Evidence(CHECKOUT / "results", CHECKOUT / "configs"), claims)}
    assert {name for name, verdict in verdicts.items() if verdict == FAILS} == {"bound-of-growth"}
    assert {name for name, verdict in verdicts.items() if verdict == PARTLY} == {"c-mitigates", "c-noise", "e-domain",
                                                                                "e-low", "e-shrinks"}
    assert set(verdicts.values()) == {HOLDS, PARTLY, FAILS}


def test_json_has_numbers_to_the_last_digit():
    numbers = pd.DataFrame({"p": [1.2e-12, 0.1 + 0.2, np.inf], "n": [1, 2, 3], "verdict": ["a", None, "b"]})
    told = judging.Verdict(sentences.CLAIMS[0], Judgement(HOLDS, "", 3, numbers))
    read = json.loads(json.dumps(judging.as_json(told, Path("results"))))["numbers"]
    assert judging.as_json(told._replace(judgement=told.judgement._replace(made=3)), Path("results"))["made"] == 3
    assert read == [{"p": 1.2e-12, "n": 1, "verdict": "a"}, {"p": 0.1 + 0.2, "n": 2, "verdict": None},
                    {"p": None, "n": 3, "verdict": "b"}]


def test_the_noise_levels_of_traps_are_those_of_the_committed_simulation():
    """As docs/theory.md has them."""
    verdict, = judging.judge(Evidence(CHECKOUT / "results", CHECKOUT / "configs"), named(["c-trapped"]))
    assert verdict.judgement.finding.endswith(
        "at 5 of 34 points: r = 32, 56 at αλ = -0.0005; r = 56, 100, 180 at αλ = -0.0002")


def test_where_psi_gains_is_as_the_documentation_has_it():
    """The ends of docs/theory.md's regions of convergence, and from which tau or r on eta > 0 has the lower Psi."""
    text = " ".join((CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8").split())

    def region(eta, r):
        return float(convergence_region(0.9, eta, r))

    assert region(0, 0.8) < region(0.9, 0.8) and region(0, 0.75) > region(0.9, 0.75)
    assert "the region of η = 0 is smaller than that of η = 0.9 from r = 0.8 on." in text
    assert region(0, 0.78) > 1 > region(0, 0.79) and region(0.9, 1.5) > 1
    ends = [region(3, r) for r in np.linspace(0, 1.5, 31)]
    assert (f"That of η = 0 does so only up to r = 0.78, and that of η = 3 ends between {min(ends):.2f} and "
            f"{max(ends):.2f}.") in text

    def gains_from(eta, r):
        taus = np.arange(0.0005, 0.005, 1e-6)
        lower = max_gain_expectation(taus, 0.9, eta, r) < max_gain_expectation(taus, 0.9, 0, r)
        assert lower[lower.argmax():].all()
        return taus[lower.argmax()]

    up_to = [gains_from(3, r) for r in np.linspace(0, 0.75, 16)]
    assert (f"for η = 3 from τ = {min(up_to):.4f} to {max(up_to):.4f} on for r up to 0.75, from {gains_from(3, 1):.4f} "
            f"on at r = 1, from {gains_from(3, 3):.4f} on at r = 3") in text
    assert f"at {gains_from(0.9, 0):.4f} for η = 0.9, at {gains_from(3, 0):.4f} for η = 3" in text
    slow, slower = (max_gain_expectation(0.001, 0.9, eta, 0) for eta in (0, 3))
    assert slow == pytest.approx(-0.001 / (1 - 0.9), rel=0.15)
    assert f"at τ = 0.001 and η = 3 by {1 - slower / slow:.1%}".replace("%", " %") in text
    escape, faster = (max_gain_expectation(-0.001, 0.9, eta, 0) for eta in (0, 3))
    assert faster / escape - 1 == pytest.approx(1 - slower / slow, rel=0.3)
    for eta in (0.9, 3, 5):
        assert max_gain_expectation(0.001, 0.9, eta, 2.7) < max_gain_expectation(0.001, 0.9, 0, 2.7)
    assert max_gain_expectation(0.001, 0.9, 3, 2.6) > max_gain_expectation(0.001, 0.9, 0, 2.6)
    assert "τ = 0.001 from r = 2.7 on" in text


def test_the_regions_of_convergence_are_those_of_the_documentation():
    """By psi to the digit, by growth to 10 %: within it (11) contracts there, and beyond it grows."""
    text = (CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8")
    table = text.partition("Largest τ")[2].partition("So the system")[0]
    header, *rows = re.findall(r"^\| (r|[\d.]+) \| (.*) \|$", table, re.MULTILINE)
    etas = [float(name.replace("η = ", "")) for name in header[1].split(" | ")]
    levels = np.array([[float(r)] for r, _ in rows])
    by_psi, by_growth = np.array([re.findall(r"([\d.]+) \(([\d.]+)\)", cells) for _, cells in rows]).transpose(2, 0, 1)
    assert levels.size == 8 and etas == [0, 0.9, 3, 5]
    for cells, row in zip(by_psi, convergence_region(0.9, etas, levels)):
        assert [f"{end:.{len(cell.partition('.')[2])}f}" for cell, end in zip(cells, row)] == list(cells)
    for factor, sign in ((0.9, -1), (1.1, 1)):
        rate = growth_rate(factor * by_growth.astype(float), 0.9, etas, levels, updates=8000)
        assert (sign * rate.mean > 3 * rate.standard_error).all()
    by_growth = pd.DataFrame(by_growth.astype(float), index=levels.ravel(), columns=etas)
    shrinks = (by_growth.diff(axis=1).iloc[:, 1:] < 0).all(axis=1)
    assert list(by_growth.index[shrinks]) == [0, 0.5]
    assert list(by_growth.index[by_growth[0.9] > 1.1 * by_growth[3]]) == [0, 0.5, 0.75, 1, 1.5, 1.75]


def test_how_much_lower_the_third_term_of_the_bound_could_be():
    text = " ".join((CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8").split())
    lower = 0.5 + 0.9**2 / ((1 - 0.9**2) * (1 - 0.9 / 0.99**0.5))
    assert f"{lower / namsg_coefficients(0.9, 0.99).gradients:.2f} of it at β1 = 0.9 (β2 = 0.99)" in text


def test_the_documentation_counts_the_points_of_the_committed_simulation():
    growth = pd.read_csv(CHECKOUT / "results" / "figures" / "theory_growth.csv")
    text = " ".join((CHECKOUT / "docs" / "theory.md").read_text(encoding="utf-8").split())
    psi, found, error = growth["psi"], growth["growth"], 3 * growth["standard_error"]
    bounds, fails = (psi > found + error).sum(), (psi < found - error).sum()
    assert (f"Ψ is above the growth at {bounds} points and below it at {fails}; at {len(growth) - bounds - fails} it "
            "is neither:" in text)
    assert f"At {((psi < 0) & (found > error)).sum()} of these points, all of them saddle points" in text
    assert f"at {((psi > 0) & (found < -error)).sum()} points Ψ > 0 and yet it contracts" in text


def test_the_command_prints_and_writes_what_is_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CHECKOUT)
    results = ["--results", str(tmp_path)]
    assert cli.main(["claims", *results]) == 0
    assert capsys.readouterr().out.count("holds if: ") == len(sentences.CLAIMS)
    assert (tmp_path / "tables" / "claims.csv").read_text().count("\n") == len(sentences.CLAIMS) + 1
    assert cli.main(["claims", "coefficients", "mnist_cnn-lowest", "--json", *results]) == 0
    judged, unjudged = json.loads(capsys.readouterr().out)
    assert [row["β1"] for row in judged["numbers"]] == [0.5, 0.9, 0.99]
    assert (unjudged["verdict"], unjudged["n"]) == (NOT_RUN, 0)
    assert all(command.startswith("python -m experiments run configs/mnist_cnn.yaml ")
               and command.endswith(f" --results {tmp_path}") for command in unjudged["commands"])
    assert cli.main(["claims", "everything", *results]) == 2
    assert "claim 'everything': there are a-accelerates" in capsys.readouterr().err
