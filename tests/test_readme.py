"""README: its commands parse, its links exist, its example runs, and its verdicts are those of the records."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from mxnet import autograd, gluon, nd

from experiments import claims, cli
from experiments.evidence import Evidence
from experiments.results import LABELS

CHECKOUT = Path(__file__).parents[1]
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "results" / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
README = DOCUMENTS[0].read_text(encoding="utf-8")
RESULTS = DOCUMENTS[1].read_text(encoding="utf-8")
# The rows of README's table of verdicts that are claims', by how they begin.
ROWS = {
    "NAMSG has the lowest train loss, logistic regression": "mnist_logistic-lowest",
    "it converges faster than ADAM, NADAM (both) and AMSGRAD there": "mnist_logistic-faster",
    "test loss rises after the first epochs there": "mnist_logistic-overfits",
    "constant α and β1 converge faster than decreasing ones there": "mnist_logistic-constant",
    "NAMSG has the lowest train loss, CNN": "mnist_cnn-lowest mnist_cnn-lowest-tuned",
    "AMSGRAD is close to NAMSG, CNN": "mnist_cnn-amsgrad-close",
    "NAMSG converges faster than ADAM, NADAM (both) and AMSGRAD, CNN": "mnist_cnn-faster",
    "ADAM and NADAM lead SGD in the first epochs, CNN": "mnist_cnn-initial",
    "Table A1's values are the best of the grid: logistic regression; CNN": "mnist_logistic-grid mnist_cnn-grid",
    "NAMSG needs considerably fewer iterations than ADAM, ResNet-20 on CIFAR-10; NAMSG1 fewer":
        "cifar10-iterations cifar10-namsg1-faster",
    "NAMSG has the best test accuracy there before the step size drops": "cifar10-test-before-drop",
    "NAMSG is efficient in computation; in memory": "cost memory",
    "Algorithm 1 trains logistic regression like the form (6) that it approximates": "algorithm",
    "the regret is at most the bound (14), whose coefficients are below AMSGRAD's": "regret-bound coefficients",
    "the max gain expectation Ψ is an upper bound of the growth rate": "bound-of-growth",
}
# README's rows of three cells, by the first.
TOLD = {row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("|").split("|")]
                                    for line in README.splitlines() if line.startswith("| ") and line.count("|") == 4)}
BEST_ACCURACY = ("best test accuracy of ResNet-20: SGD 0.9088, ADAM 0.9073, NADAM 0.9070, NAMSG 0.9048, "
                 "AMSGRAD 0.9043, NAMSG1 0.9102, SWNTS 0.9109, SWNTS1 0.9145")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_relative_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


def test_commands_parse(monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    text = "\n".join(document.read_text(encoding="utf-8") for document in [DOCUMENTS[0], *DOCUMENTS[2:]])
    commands = re.findall(r"python -m experiments ([^#`'\n]+)", text.replace("\\\n", " "))
    assert len(commands) > 15
    for command in commands:
        if "--help" not in command:
            cli._parser().parse_args(shlex.split(command))


def test_the_example_trains():
    example, = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    net = gluon.nn.Dense(1, in_units=2)
    net.initialize()
    names = {"net": net, "updates_per_epoch": 10}
    exec(example, names)
    before = net.weight.data().asnumpy()
    with autograd.record():
        loss = net(nd.ones((4, 2)))
    loss.backward()
    names["trainer"].step(4)
    assert (net.weight.data().asnumpy() < before).all()


def test_verdicts_are_those_of_the_table_of_claims():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")
    assert len(recorded) == len(claims.CLAIMS)
    assert f"has all {len(claims.CLAIMS)} with their numbers" in README
    for beginning, names in ROWS.items():
        verdict, numbers = TOLD[beginning]
        rows = recorded.loc[names.split()]
        assert verdict == "; ".join(rows["verdict"].unique()), names
        if "n = " in numbers:
            assert {numbers.rpartition("n = ")[2]} == set(rows["n"].astype(str)), names


def test_so_many_sentences_on_figure_1_hold():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv")
    verdicts = recorded["verdict"][recorded["where"].str.startswith("Figure 1")].value_counts()
    assert TOLD["the nine sentences on Figure 1"][0] == f"{verdicts['holds']} hold, {verdicts['in part']} in part"
    assert verdicts.sum() == 9


def test_accuracies_are_those_of_table_a3_and_of_the_records():
    table = pd.read_csv(CHECKOUT / "results" / "tables" / "tableA3.csv").set_index("method")
    evidence = Evidence(CHECKOUT / "results", CHECKOUT / "configs")
    best = evidence.curves("cifar10_resnet20").groupby(["method", "seed"])["test_accuracy"].max()
    best, told = best.groupby("method").mean(), table["best_mean"].dropna()
    pd.testing.assert_series_equal(told.sort_index(), best, check_names=False)
    numbers = TOLD[BEST_ACCURACY][1]
    told = dict(re.findall(r"(\w+) (0\.\d{4})", numbers))
    table = table[[f"{LABELS[method]} 0." in BEST_ACCURACY for method in table.index]]
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")["verdict"]
    assert TOLD[BEST_ACCURACY][0] == "; ".join(recorded[[f"tableA3-{method}-best" for method in table.index]].unique())
    assert told == {LABELS[method]: f"{row['best_mean']:.4f}" for method, row in table.iterrows()}
    assert f"n = {table['n'].min()} of {table['seeds'].min()} (" in numbers


def test_the_cost_is_that_of_the_benchmark():
    """Of a step on ResNet-50's weights, on the most threads."""
    report = json.loads((CHECKOUT / "results" / "benchmarks" / "optimizer_step.json").read_text())
    contenders = max((m for m in report["measurements"] if m["shapes"] == "ResNet-50"),
                     key=lambda m: m["threads"])["contenders"]
    adam, arrays = (contenders[name]["seconds"][1] for name in ("MXNet adam", "namsg, ndarray kernel"))
    told = TOLD["NAMSG is efficient in computation; in memory"][1]
    assert f"takes {contenders['MXNet adam']['share'][1]:.2f} of the time of MXNet's ADAM" in told
    assert f"array operations {arrays / adam:.0f} times as long" in told


def test_all_verdicts_together_are_told_as_they_are():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv", keep_default_na=False)
    decided = recorded[(recorded["holm"] != "") & ~recorded["verdict"].isin(["n too small to say", "not run yet"])]
    stand = (decided["holm"] == decided["verdict"]).sum()
    title = (CHECKOUT / "results" / "tables" / "claims.md").read_text(encoding="utf-8").splitlines()[0]
    expected, = re.findall("at most (\\d+\\.\\d) wrong ones", title)
    text = " ".join(RESULTS.split())
    assert f"of {len(decided)} verdicts, {stand} stand" in text
    assert f"at most {expected} wrong ones" in text


def test_table_a2_is_told_beside_the_papers():
    table = pd.read_csv(CHECKOUT / "results" / "tables" / "tableA2.csv")
    differences = table["mean"] / table["paper"] - 1
    text = " ".join(RESULTS.split())
    numbers = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    assert (f"Of the {numbers[len(table)]} cells that have one seed {numbers[(differences > 0).sum()]} are higher, and "
            f"all together {differences.mean():.1%}".replace("%", " %")) in text
    assert set(table["n"]) == {1}


def test_the_gpus_numbers_are_those_of_its_benchmark():
    report = json.loads((CHECKOUT / "results" / "benchmarks" / "gpu_step.json").read_text())
    large = next(m for m in report["measurements"] if m["shapes"] == "one array of 350 M")["contenders"]
    milliseconds = 1e3 * large["namsg, cuda kernel"]["seconds"][1]
    copy, torch = (large[name]["share"][1] for name in ("copy of as many bytes", "PyTorch Adam, amsgrad, fused"))
    assert (f"On an {report['machine']['processor']} its bits are the CPU's, and a step of 350 M parameters takes "
            f"{milliseconds:.2f} ms: {copy:.2f} of a copy of as many bytes, {torch:.2f} of PyTorch's") in README
    assert all(each["holds"] for each in report["verdicts"])
