"""README: its example runs, and its verdicts and numbers are those of the records."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from recorded import (
    CHECKOUT,
    RESULTS,
    accuracy_between_namsg_and_amsgrad,
    arrays_over_adam,
    benchmark,
    claims,
    curves,
    difference,
    minus,
    step_on_resnet50,
    table,
    text,
)

from experiments.claims import sentences
from experiments.claims.answer import SENTENCES
from experiments.claims.parts import BESIDE
from experiments.vocabulary import benchmarks
from experiments.vocabulary.methods import LABELS

README = text("README.md")
LINES = (CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()


def rows_of(cells):
    """README's rows of so many cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES
            if line.startswith("| ") and line.count("|") == cells + 1]


TOLD = {what: (verdict, numbers) for what, verdict, numbers in rows_of(3)}
# Those that are sentences of the report, with the names of their claims.
ROWS = {sentence: names for sentence, names in SENTENCES.items() if sentence in TOLD}
BEST_ACCURACY = pd.DataFrame({what: cells for what, *cells in rows_of(9)}).set_index(
    "best test accuracy, ResNet-20 on CIFAR-10")


def test_the_example_trains():
    """As it stands, in a process of its own."""
    example, = re.findall(r"```python\n(.*?)```", "\n".join(LINES), re.DOTALL)
    shows = "\n".join(["before = net.weight.data().asnumpy()", "trainer.step(256)",
                       "print(abs(net.weight.data().asnumpy() - before).max())"])
    ended = subprocess.run([sys.executable, "-c", example.replace("trainer.step(256)", shows)], check=False, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) > 0.001


def test_readme_is_short():
    assert len(LINES) <= 120


def test_verdicts_are_those_of_the_table_of_claims():
    recorded = claims()
    assert len(recorded) == len(sentences.CLAIMS)
    papers = [claim.name for claim in sentences.CLAIMS if claim.part != BESIDE]
    n = recorded.loc[papers, "verdict"].value_counts()
    of_resnet = len(_open_of_resnet(recorded.loc[papers]))
    is_open = n["n too small to say"] + n["not run yet"]
    assert (f"make {len(papers)} claims that can be tested. Of these {n['holds']} hold, {n['in part']} hold in part "
            f"and {n['does not hold']} do not. For {n['n too small to say']} n is too small to say, and "
            f"{n['not run yet']} are not run yet. Of these {is_open}, {of_resnet} are of ResNet-20"
            ) in README
    assert len(ROWS) == 9
    for beginning, names in ROWS.items():
        verdict, numbers = TOLD[beginning]
        rows = recorded.loc[list(names)]
        assert verdict == "; ".join(rows["verdict"].unique()), names
        if "n = " in numbers:
            assert {numbers.rpartition("n = ")[2].rstrip(")")} == set(rows["n"].astype(str)), names


def _open_of_resnet(recorded):
    """Table A3's claims are of ResNet-20, as are those on Table A2."""
    is_open = recorded["verdict"].isin(["n too small to say", "not run yet"])
    return recorded[is_open & recorded.index.str.contains("cifar10|table")]


def test_losses_are_those_of_the_tables():
    told = TOLD["NAMSG has the lowest train loss on MNIST"][1]
    for name, form in (("logistic", "logistic regression {:.4f}, the next is {}'s {:.4f}"),
                       ("cnn", "CNN {:.5f}, the next is {}'s {:.5f}")):
        losses = table(f"mnist_{name}")["train_loss_mean"][["sgd", "adam", "nadam", "amsgrad", "namsg"]].sort_values()
        assert losses.index[0] == "namsg"
        assert form.format(losses.iloc[0], LABELS[losses.index[1]], losses.iloc[1]) in told


def test_the_guideline_is_so_far_from_the_best():
    _, numbers = TOLD["The observation distance needs no grid search (abstract)"]
    cnn = difference("mnist_cnn_distance", "eta_0.9_to_3", "eta_0.9_to_5", "train_loss", (10, 10))
    told = minus(f"({cnn.low:.1f} to {cnn.high:+.1f} %)")
    assert f"{-cnn.mean:.1f} % below it on the CNN {told}, five seeds" in numbers and cnn.n == 5
    logistic = difference("mnist_logistic_distance", "eta_0.9_to_3", "eta_0.9_to_2", "train_loss", (20, 20))
    assert "within 0.1 % of the best of nine others on logistic regression, ten seeds" in numbers
    assert logistic.n == 10 and 0 < logistic.low < logistic.high < 0.1


def test_on_gpus_a_step_through_mxnets_engine_takes_so_long():
    milliseconds = []
    for name in ("gpu_step", "gpu/h100/gpu_step"):
        contenders, = (m["contenders"] for m in benchmark(name)["measurements"]
                       if m["shapes"] == "one array of 350 M")
        milliseconds.append(1000 * contenders["namsg, whole update by MXNet's engine"]["seconds"][1])
    assert "through MXNet's engine the update takes {:.2f} and {:.2f} ms".format(*milliseconds) in README


def test_shares_of_epochs_are_those_of_the_claims():
    recorded = claims()["finding"]
    shares = [re.search(rf"\b{other} [\d.]+: (0\.\d\d)", recorded[f"mnist_{name}-faster"])[1]
              for name in ("logistic", "cnn") for other in ("ADAM", "NADAM", "AMSGRAD")]
    told = TOLD["NAMSG converges faster than ADAM, NADAM and AMSGRAD on MNIST"][1]
    assert [f"0.{number}" for number in re.findall(r"(\d\d)(?:,| and| %)", told)] == shares


def test_the_advice_has_the_accuracies_of_table_a3():
    means = table("tableA3")["last_mean"]
    assert (f"Its mean of the last five epochs is {means['swnts1']:.4f}, SGD's {means['sgd']:.4f}, NAMSG's "
            f"{means['namsg']:.4f}, NAMSG1's {means['namsg1']:.4f}.") in README


def test_the_accuracies_before_the_drop_are_those_of_the_claims():
    finding = claims().loc["cifar10-test-before-drop", "finding"]
    others = {}   # by NAMSG's accuracy in the pairs, and their number
    for namsg, name, value, n in re.findall(r"NAMSG ([\d.]+), (\w+) ([\d.]+):.*?, n = (\d)", finding):
        others.setdefault((namsg, n), []).append(f"{name} {value}")
    pairs = "; ".join(f"NAMSG {namsg}, {', '.join(beside)} (n = {n})"
                      for (namsg, n), beside in sorted(others.items(), key=lambda pair: -int(pair[0][1])))
    assert TOLD["NAMSG is the best in test on CIFAR-10 before the step size drops"][1] == (
        f"accuracy in the epochs 52 to 61, by the seeds that both have: {pairs}")


def test_part_e_of_figure_1_gains_where_the_claims_say():
    finding = claims().loc["e-low", "finding"]
    row = next(row for row in TOLD if row.startswith("Figure 1"))
    assert "at αλ = 0.01 wherever it converges, but at 0.001 only from a noise of r = 18 on" in TOLD[row][1]
    gains = {curvature: ends for curvature, *ends in re.findall(
        r"αλ = ([\d.]+): lower at r from (\S+) to (\S+) of (\S+) to ([^,]+)", finding)}
    assert gains["0.01"][:2] == gains["0.01"][2:]
    assert gains["0.001"][0] == "18" and gains["0.001"][1] == gains["0.001"][3]


def test_so_many_sentences_on_figure_1_hold():
    recorded = claims()
    verdicts = recorded["verdict"][recorded["where"].str.startswith("Figure 1")].value_counts()
    row = next(row for row in TOLD if row.startswith("Figure 1"))
    assert TOLD[row][0] == f"{verdicts['holds']} hold, {verdicts['in part']} in part"
    assert verdicts.sum() == 9


def test_accuracies_are_those_of_table_a3_and_of_the_records():
    recorded = table("tableA3")
    best = curves("cifar10_resnet20").groupby(["method", "seed"])["test_accuracy"].max().groupby("method").mean()
    pd.testing.assert_series_equal(recorded["best_mean"].dropna().sort_index(), best, check_names=False)
    recorded = recorded[recorded["best_paper_mean"].notna()]
    assert BEST_ACCURACY["here"].to_dict() == {LABELS[method]: f"{best[method]:.4f}" for method in recorded.index}
    recorded = recorded.rename(LABELS)
    assert BEST_ACCURACY["n"].to_dict() == {method: f"{n:.0f}" for method, n in recorded["n"].items()}
    papers = {method: f"{mean:.4f}" for method, mean in recorded["best_paper_mean"].items()}
    papers["SWNTS1"] += " or 0.9158"   # in its table, and in its text
    assert BEST_ACCURACY["the paper, n = 5"].to_dict() == papers
    complete = recorded.index[recorded["n"] == 5]
    assert f"where only {' and '.join(complete)} has all its five seeds so far" in README


def test_the_cost_is_that_of_the_benchmark():
    contenders = step_on_resnet50()
    slower = arrays_over_adam(contenders)
    share = contenders["MXNet adam"]["share"][1]
    told = TOLD["NAMSG is efficient in computation; in memory"][1]
    assert (f"takes {share:.2f} of the time of MXNet's ADAM, and without a compiled kernel {slower:.0f} times"
            in told)
    assert f"{1 / share:.1f} times faster than MXNet's `adam`" in README
    fused = contenders["PyTorch Adam, amsgrad, fused"]["share"][1]
    assert f"{fused:.2f} of the time of PyTorch's fused AMSGrad |" in README
    assert f"| {slower:.0f} times slower than MXNet's `adam` |" in README


def test_training_steps_are_those_of_the_benchmark():
    shares = {}
    for measured in benchmark("training_step")["measurements"]:
        shares[measured["network"]], = (each["share"][1] for name, each in measured["contenders"].items()
                                        if name.startswith("PyTorch"))
    assert (f"| a training step, 2 CPU threads | of ResNet-20 {shares['ResNet-20']:.2f} of eager PyTorch's time, of "
            f"the CNN {shares['CNN']:.2f} |") in README


@pytest.mark.parametrize("what, name", [("a step on 350 M weights", "gpu_step"), ("the same", "gpu/h100/gpu_step")])
def test_the_gpus_numbers_are_those_of_its_benchmark(what, name):
    report = benchmark(name)
    large = next(m for m in report["measurements"] if m["shapes"] == "one array of 350 M")["contenders"]
    milliseconds = 1e3 * large["namsg, cuda kernel"]["seconds"][1]
    copy, torch = (large[name]["share"][1] for name in ("copy of as many bytes", "PyTorch Adam, amsgrad, fused"))
    gpu = " ".join(report["machine"]["processor"].split()[:2])   # 'NVIDIA H100', without its memory
    assert (f"| {what}, {gpu} | {milliseconds:.2f} ms: as fast as a copy "
            f"of the same bytes ({copy:.2f}), {torch:.2f} of PyTorch's fused AMSGrad |") in README
    assert all(each["holds"] for each in report["verdicts"])
    page = (RESULTS / "benchmarks" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall("^- (.*)$", page, re.MULTILINE) == [benchmarks.describe(each) for each in report["verdicts"]]


def by_method(finding):
    """(method, percent) of each difference in a finding."""
    return [(method, float(percent)) for method, percent in re.findall(
        r"(?:^|; )([^;]*?) \d\.\d+, [^;]*?: \+(\d+\.\d)%", finding)]


def test_differences_of_the_cnn_are_those_of_the_claims():
    recorded = claims()["finding"]
    (_, above), = by_method(recorded["mnist_cnn-amsgrad-close"])
    assert TOLD["AMSGRAD is close to NAMSG on the CNN"][1] == (
        f"train loss {above:.0f} % above it, best test accuracy the same within "
        f"{accuracy_between_namsg_and_amsgrad()}; n = 10")
    behind = {method: f"{percent:.0f} %" for method, percent in by_method(recorded["mnist_cnn-initial"])}
    assert TOLD["ADAM and NADAM lead SGD in the CNN's first epochs"][1] == (
        f"in the first two ADAM is {behind['ADAM']} behind, NADAM {behind['NADAM']} and MXNet's NADAM "
        f"{behind['NADAM (MXNet)']}; n = 10")
