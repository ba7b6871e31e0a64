"""Form (6) beside Algorithm 1 in float64: the gradient, the real optimizer's run, and the table by hand."""

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import CHECKOUT
from scipy.optimize import check_grad
from tiny_experiment import write_config

from experiments.claims.decisions import HOLDS, TOO_FEW
from experiments.claims.evidence import Evidence
from experiments.claims.sentences import CLAIMS
from experiments.display import tables
from experiments.theory import original_form
from experiments.training import data
from experiments.training.loop import train
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.records import RunRecord


def test_the_gradient_is_that_of_the_loss():
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((6, 4)), np.array([0, 1, 2, 2, 1, 0])
    x = random.standard_normal(15)
    losses = [original_form.softmax_regression(x, features[i:i + 1], labels[i:i + 1])[0] for i in range(6)]
    assert original_form.softmax_regression(x, features, labels)[0] == pytest.approx(np.mean(losses))
    loss, gradient = (lambda x, i=i: original_form.softmax_regression(x, features, labels)[i] for i in (0, 1))
    assert check_grad(loss, gradient, x) < 1e-6
    even = original_form.softmax_regression(np.zeros(15), features, labels)
    assert even[0] == pytest.approx(np.log(3))
    assert even[1][-3:] == pytest.approx([0, 0, 0])


def test_algorithm_1_is_the_real_optimizers_run(tmp_path):
    experiment = config.load(write_config(tmp_path))
    played = original_form.curves(experiment, data.load(experiment.data, None))
    run = experiment.runs(["namsg"], [1])[0]
    train(run, RunOptions(tmp_path, experiment.epochs, None, "cpu", 1, None, None), lambda row: None)
    rows = pd.DataFrame(RunRecord(tmp_path / run.folder).epochs.rows())
    of_seed = played[played["seed"] == 1]
    assert list(of_seed["algorithm_train"]) == pytest.approx(list(rows["train_loss"]), rel=1e-5)
    assert list(of_seed["algorithm_test"]) == pytest.approx(list(rows["test_loss"]), rel=1e-5)
    # The form that it approximates trains as well, and not in the same way.
    difference = np.abs(of_seed["original_train"] / of_seed["algorithm_train"] - 1)
    assert (difference < 0.2).all()
    assert (difference > 1e-4).any()


def test_the_table_by_hand():
    """Of ratios 1.1 and 1.21: log 1.1 times 1.5, and a half width of 12.706 * log 1.1 * sqrt(1 / 2) / sqrt(2)."""
    played = pd.DataFrame({"seed": [0, 1], "epoch": [1, 1], "algorithm_train": [1.1, 2.42],
                           "original_train": [1.0, 2.0], "algorithm_test": [1.0, 1.0], "original_test": [1.0, 1.0]})
    made = original_form.table(played, "A title")
    row, = made.numbers.to_dict("records")
    step = np.log(1.1)
    assert (row["n"], row["algorithm_train"], row["original_train"]) == pytest.approx((2, 1.76, 1.5))
    assert (row["train_difference"], row["train_low"], row["train_high"]) == pytest.approx(
        tuple(np.expm1([1.5 * step, step * (1.5 - 12.7062 / 2), step * (1.5 + 12.7062 / 2)])), rel=1e-4)
    assert (row["test_difference"], row["test_low"], row["test_high"]) == (0, 0, 0)
    assert made.cells["train loss, difference"].item().startswith("+15.369% (-")


def test_one_seed_has_no_interval_and_decides_nothing(tmp_path):
    epochs = range(1, 21)   # as many as the claim asks for
    played = pd.DataFrame({"seed": 0, "epoch": epochs, "algorithm_train": 1.1, "original_train": 1.0,
                           "algorithm_test": 1.0, "original_test": 1.0})
    made = original_form.table(played, "A title")
    assert made.cells["train loss, difference"].tolist() == ["+10.000%"] * 20
    tables.write(made, "original_form", tmp_path / "tables")
    claim = next(claim for claim in CLAIMS if claim.name == "algorithm")
    found = claim.rule.judge(Evidence(tmp_path, CHECKOUT / "configs"))
    assert (found.verdict, found.n) == (TOO_FEW, 1)
    assert ": +10.000%, n = 1; at most 10.00% in any epoch" in found.finding
    # Of several seeds, a table without the ends is not what was written.
    two = pd.read_csv(tmp_path / "tables" / "original_form.csv").assign(n=2)
    two.to_csv(tmp_path / "tables" / "original_form.csv", index=False)
    with pytest.raises(RecordError, match="original_form.csv: damaged"):
        claim.rule.judge(Evidence(tmp_path, CHECKOUT / "configs"))


@pytest.mark.parametrize(("n", "verdict"), [(9, TOO_FEW), (10, HOLDS)])   # mnist_logistic.yaml's seeds: 10
def test_the_claim_is_decided_once_all_seeds_are_there(tmp_path, n, verdict):
    losses = pd.DataFrame([(seed, epoch, 1.0 + 1e-4 * seed) for seed in range(n) for epoch in range(1, 21)],
                          columns=["seed", "epoch", "algorithm_train"])
    played = losses.assign(original_train=1.0, algorithm_test=1.0, original_test=1.0)
    tables.write(original_form.table(played, "A title"), "original_form", tmp_path / "tables")
    found = next(claim for claim in CLAIMS if claim.name == "algorithm").rule.judge(
        Evidence(tmp_path, CHECKOUT / "configs"))
    assert (found.verdict, found.n) == (verdict, n)
    assert (found.p == 1) == (verdict == TOO_FEW)


@pytest.mark.parametrize("arguments, message", [
    (["--data", "nowhere"], "train-images-idx3-ubyte.gz: not found"), ([], "mnist_logistic.yaml: No such file")])
def test_what_it_lacks_is_told(tmp_path, monkeypatch, capsys, arguments, message):
    if not arguments:
        monkeypatch.chdir(tmp_path)   # not the checkout
    monkeypatch.setattr("sys.argv", ["original_form", *arguments])
    with pytest.raises(SystemExit) as ended:
        original_form.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_table_that_cannot_be_written_is_told(tmp_path, monkeypatch, capsys):
    played = pd.DataFrame({"seed": [0, 1], "epoch": [1, 1], **dict.fromkeys(
        ("algorithm_train", "original_train", "algorithm_test", "original_test"), [1.0, 2.0])})
    monkeypatch.setattr(original_form, "curves", lambda experiment, data_set: played)   # which take minutes
    monkeypatch.setattr(original_form.data, "load", lambda *of: None)
    monkeypatch.setattr("sys.argv", ["original_form", "--results", str(tmp_path)])
    (tmp_path / "tables" / "original_form.md").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        original_form.main()
    assert ended.value.code == 1
    assert "tables/original_form.md" in capsys.readouterr().err
