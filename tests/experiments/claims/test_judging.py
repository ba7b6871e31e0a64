"""Verdicts together: what Bonferroni leaves of them, in short, as JSON, by the command."""

import json

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import CHECKOUT, LOGISTIC, NOISE, MadeUp, compared, runs
from scipy import stats

from experiments.claims import answer, judging, sentences
from experiments.claims.claim import Judgement
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN, PARTLY, TOO_FEW
from experiments.claims.evidence import Evidence
from experiments.claims.rules import Comparison, EpochsToLoss, Level
from experiments.commands import cli
from experiments.display import tables

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


def judgement(verdict, p, made=0):
    return Judgement(verdict, "", 10, pd.DataFrame(), p, made)


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
    assert judging.as_json(told, MadeUp())["p"] is None and judging.describe(told).startswith("DOES NOT HOLD  ")
    assert tables.claims([told]).cells[["verdict", "p", "by Bonferroni"]].values.tolist() == [[FAILS, "", ""]]


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


def test_the_committed_verdicts_are_those_of_the_committed_records():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")
    evidence = Evidence(CHECKOUT / "results", CHECKOUT / "configs")
    judged = tables.claims(judging.judge(evidence, sentences.CLAIMS)).numbers
    pd.testing.assert_frame_equal(judged.set_index("name")[["verdict", "n"]], recorded[["verdict", "n"]])


def test_json_has_numbers_to_the_last_digit():
    numbers = pd.DataFrame({"p": [1.2e-12, 0.1 + 0.2, np.inf], "n": [1, 2, 3], "verdict": ["a", None, "b"]})
    told = judging.Verdict(sentences.CLAIMS[0], Judgement(HOLDS, "", 3, numbers))
    read = json.loads(json.dumps(judging.as_json(told, MadeUp())))["numbers"]
    assert judging.as_json(told._replace(judgement=told.judgement._replace(made=3)), MadeUp())["made"] == 3
    assert read == [{"p": 1.2e-12, "n": 1, "verdict": "a"}, {"p": 0.1 + 0.2, "n": 2, "verdict": None},
                    {"p": None, "n": 3, "verdict": "b"}]


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
