"""The rules on runs, on made-up records whose verdicts are known."""


import numpy as np
import pytest
from made_up_evidence import LOGISTIC, NOISE, MadeUp, compared, runs
from scipy import stats

from experiments.analysis.intervals import interval
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN, PARTLY, TOO_FEW
from experiments.claims.rules import Comparison, EpochsToLoss, Level


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


@pytest.mark.slow
def test_of_equal_methods_either_is_called_faster_as_seldom_as_the_interval_says():
    random, verdicts = np.random.default_rng(0), []
    for _ in range(200):
        losses = [1 / np.arange(1, 21) + random.normal(0, 0.001, (10, 20)) for _ in range(2)]
        evidence = MadeUp(runs("adam", losses[0]) + runs("namsg", losses[1]))
        verdicts.append(EpochsToLoss(LOGISTIC, "namsg", ("adam",), 20).judge(evidence).verdict)
    for verdict in (HOLDS, FAILS):
        assert 0 < verdicts.count(verdict) / 200 <= 0.05   # 0.025 each
