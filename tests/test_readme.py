"""README: its commands parse, its links exist, its example runs, and its verdicts are those of the records."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.analysis.epochs_to_loss import epochs_to_common_loss, share_of_epochs
from experiments.analysis.intervals import CONFIDENCE, interval, quantile
from experiments.analysis.measures import by_seed
from experiments.analysis.survey import survey
from experiments.claims import sentences
from experiments.claims.answer import SENTENCES
from experiments.claims.evidence import Evidence
from experiments.claims.parts import BESIDE
from experiments.commands import cli, train
from experiments.vocabulary import benchmarks
from experiments.vocabulary.config import load
from experiments.vocabulary.folders import RESULTS as RESULTS_FOLDER
from experiments.vocabulary.methods import LABELS
from experiments.vocabulary.records import RunRecord

CHECKOUT = Path(__file__).parents[1]
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "results" / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
README = DOCUMENTS[0].read_text(encoding="utf-8")
RESULTS = DOCUMENTS[1].read_text(encoding="utf-8")
# README's rows of three cells, by the first.
TOLD = {row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("|").split("|")]
                                    for line in README.splitlines() if line.startswith("| ") and line.count("|") == 4)}
# Those that are sentences of the report, with the names of their claims.
ROWS = {sentence: names for sentence, names in SENTENCES.items() if sentence in TOLD}
# Its table of ResNet-20's best test accuracies, whose rows have nine cells.
WIDE = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()
        if line.startswith("| ") and line.count("|") == 10]
BEST_ACCURACY = pd.DataFrame({what: cells for what, *cells in WIDE}).set_index(
    "best test accuracy, ResNet-20 on CIFAR-10")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_relative_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)", document.read_text(encoding="utf-8"))
    targets = [(document.parent / path if path else document, place) for path, place in links if "://" not in path]
    assert not [target for target, _ in targets if not target.exists()]
    assert not [(target, place) for target, place in targets if place and place not in places(target)]


def places(document):
    """The places in a document that a link may lead to: its headings, as GitHub names them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def commands(monkeypatch):
    """The options of each command in README and docs/, and in the command line's own help."""
    monkeypatch.chdir(CHECKOUT)
    text = "\n".join(document.read_text(encoding="utf-8") for document in [DOCUMENTS[0], *DOCUMENTS[2:]])
    found = re.findall(r"python -m experiments ([^#`'\n]+)", text.replace("\\\n", " "))
    found += [example for examples in cli.EXAMPLES.values() for example in examples]
    return [cli._parser().parse_args(shlex.split(command)) for command in found if "--help" not in command]


def test_commands_parse(commands):
    assert len(commands) > 40


def test_no_command_is_refused_for_what_is_recorded_already(commands):
    """As one that asks for a kvstore, or for other threads, without a results folder of its own."""
    workers, asked = SimpleNamespace(count=4, updates_on_servers=False), []
    for options in commands:
        if options.command is train.run and Path(options.config).exists() and Path(options.results) == RESULTS_FOLDER:
            experiment, runs = train._experiment_and_runs(options)
            made = train._run_options(options, experiment.epochs, workers if options.kvstore else None)
            for run in runs:
                RunRecord(made.results / run.folder).check(run.config_json(made))
            asked += runs
    assert len(asked) > 20


def test_the_example_trains():
    """As it stands, in a process of its own."""
    example, = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shows = "\n".join(["before = net.weight.data().asnumpy()", "trainer.step(256)",
                       "print(abs(net.weight.data().asnumpy() - before).max())"])
    ended = subprocess.run([sys.executable, "-c", example.replace("trainer.step(256)", shows)], check=False, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) > 0.001


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_verdicts_are_those_of_the_table_of_claims():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")
    assert len(recorded) == len(sentences.CLAIMS)
    papers = [claim.name for claim in sentences.CLAIMS if claim.part != BESIDE]
    n = recorded.loc[papers, "verdict"].value_counts()
    of_resnet = len(_open_of_resnet(recorded.loc[papers]))
    is_open = n["n too small to say"] + n["not run yet"]
    assert (f"make {len(papers)} claims that can be tested. Of these {n['holds']} hold, {n['in part']} hold in part "
            f"and {n['does not hold']} do not. For {n['n too small to say']} n is too small to say, and "
            f"{n['not run yet']} are not run yet. Of these {is_open}, {of_resnet} are of ResNet-20"
            ) in " ".join(README.split())
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
        table = pd.read_csv(CHECKOUT / "results" / "tables" / f"mnist_{name}.csv").set_index("method")
        losses = table["train_loss_mean"][["sgd", "adam", "nadam", "amsgrad", "namsg"]].sort_values()
        assert losses.index[0] == "namsg"
        assert form.format(losses.iloc[0], LABELS[losses.index[1]], losses.iloc[1]) in told
    guide = (CHECKOUT / "docs" / "guide.md").read_text(encoding="utf-8")
    logistic, cnn = (pd.read_csv(CHECKOUT / "results" / "tables" / f"mnist_{name}.csv").set_index("method")
                     for name in ("logistic", "cnn"))
    for settings, method in (("the paper's (Table A1)", "namsg"), ("of September 2019", "namsg_2019")):
        of_logistic, of_cnn = logistic.loc[method], cnn.loc[method]
        assert of_logistic["n"] == of_cnn["n"] == 10
        assert (f"| {settings} | {of_logistic['train_loss_mean']:.3f} | {of_logistic['test_loss_mean']:.3f} | "
                f"{of_cnn['train_loss_mean']:.4f} | {of_cnn['test_loss_mean']:.3f} |") in guide
    finding = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name").loc[
        "mnist_cnn-generalizes", "finding"]
    low, high = map(float, re.search(r"AMSGRAD [\d.]+: [-+.\d]+ \(([-+.\d]+) to ([-+.\d]+)\)", finding).groups())
    assert f"the same within {max(-low, high)};" in TOLD["AMSGRAD is close to NAMSG on the CNN"][1]
    faster = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name").loc[
        "mnist_cnn-faster", "finding"]
    share = float(re.search(r"AMSGRAD [\d.]+: ([\d.]+)", faster)[1])
    assert (f"it needs {100 * (1 / share - 1):.0f} % more epochs, and its best test accuracy is the same within "
            f"{max(-low, high)}.") in " ".join(RESULTS.split())


def _difference(experiment, method, other, measure, epochs):
    """The mean difference of two methods and its interval: of losses relative and in per cent."""
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves(experiment)
    values, others = (by_seed(curves[curves["method"] == name], measure, epochs) for name in (method, other))
    if "loss" not in measure:
        return interval(values - others)
    found = interval(np.log(values / others))
    return found._replace(**{name: 100 * np.expm1(getattr(found, name)) for name in ("mean", "low", "high")})


def test_what_test_data_and_the_whole_training_set_say_of_the_lowest_train_loss():
    text = " ".join(RESULTS.split())
    last = _difference("mnist_logistic", "namsg", "amsgrad", "train_loss_full", (20, 20))
    assert f"{-last.mean:.1f} % below AMSGRAD ({-last.high:.1f} to {-last.low:.1f} %, n = {last.n})" in text
    late = _difference("mnist_logistic", "namsg", "amsgrad", "train_loss_full", (12, 19))
    assert f"AMSGRAD is lower, by {late.mean:.1f} % on average ({late.low:.1f} to {late.high:.1f} %;" in text
    for epoch in range(1, 11):
        found = _difference("mnist_cnn", "namsg", "amsgrad", "train_loss_full", (epoch, epoch))
        assert found.high < 0 if epoch >= 7 else found.low < 0 < found.high
    adam, nadam = (_difference("mnist_logistic", "namsg", name, "best_test_accuracy", (1, 20))
                   for name in ("adam", "nadam"))
    sgd = _difference("mnist_logistic", "namsg", "sgd", "test_loss", (20, 20))
    assert (f"is {-adam.mean:.4f} below ADAM's ({-adam.high:.4f} to {-adam.low:.4f}) and {-nadam.mean:.4f} below "
            f"NADAM's ({-nadam.high:.4f} to {-nadam.low:.4f}), and its last test loss {sgd.mean:.1f} % above SGD's "
            f"({sgd.low:.1f} to {sgd.high:.1f} %; n = {sgd.n})") in text


def test_single_epochs_of_the_cnn_are_told():
    nadam, adam = ([_difference("mnist_cnn", name, "sgd", "train_loss", (epoch, epoch)) for epoch in range(1, 7)]
                   for name in ("nadam", "adam"))
    assert [found.low > 0 for found in nadam] == [True, True] + [False] * 4
    assert not any(found.high < 0 for found in nadam + adam)
    assert (f"In the fourth NADAM is {-nadam[3].mean:.1f} % ahead, but not distinctly ({-nadam[3].high:.1f} to "
            f"{-nadam[3].low:.1f} %)").replace("(-", "(\N{MINUS SIGN}") in " ".join(RESULTS.split())


def test_how_far_behind_the_first_epochs_of_the_cnn_are():
    told = []
    for method, name in (("adam", "ADAM"), ("nadam", "NADAM"), ("nadam_mxnet", "MXNet's")):
        found = [_difference("mnist_cnn", method, "sgd", "train_loss", (1, last)) for last in range(1, 7)]
        assert all(each.low > 0 and each.n == 10 for each in found)
        told.append(f"{name} by {min(each.mean for each in found):.1f} to {max(each.mean for each in found):.1f} %")
    assert ", ".join(told) in " ".join(RESULTS.split())


def test_how_far_mxnets_nadam_is_from_dozats_on_the_cnn():
    found = _difference("mnist_cnn", "nadam_mxnet", "nadam", "train_loss", (10, 10))
    assert found.n == 10
    assert f"reaches from {found.low:.0f} to {found.high:+.0f} %".replace("-", "\N{MINUS SIGN}") in RESULTS


def test_how_often_the_train_loss_rises_at_the_end_on_the_cnn():
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves("mnist_cnn")
    last = curves[curves["epoch"] >= 7].pivot(index=["method", "seed"], columns="epoch", values="train_loss")
    rises = (last.diff(axis=1) > 0).any(axis=1).groupby("method").sum()
    assert (f"rises in {rises['adam']}, {rises['nadam']} and {rises['nadam_mxnet']} of the ten seeds"
            in " ".join(RESULTS.split()))
    assert rises[["sgd", "amsgrad", "namsg"]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", ["adam", "nadam"])
def test_what_a_lower_rate_at_the_end_mends(method):
    finding = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name").loc[
        f"mnist_cnn-lower-{method}", "finding"]
    *lower, n = re.search(r": -([\d.]+)% \(-([\d.]+)% to -([\d.]+)%\), n = (\d+)", finding).groups()
    mean, most, least = map(float, lower)
    assert n == "10"
    assert (f"{mean:.0f} % lower with {method.upper()} ({least:.0f} to {most:.0f} %; n = 10)"
            in " ".join(RESULTS.split()))


@pytest.mark.parametrize("method, told", [
    ("AMSGRAD", "AMSGRAD's is {mean} % below the one that was lowest in the search ({low} to {high} %, n = {n})"),
    ("NAMSG", "is {mean} % below the next one ({low} to {high} %, n = {n})"),
])
def test_what_new_seeds_say_of_the_grids_points_on_the_cnn(method, told):
    finding = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name").loc[
        "mnist_cnn-grid", "finding"]
    mean, low, high, n = re.search(rf"\b{method} \S+ \(rank .*?\), with other seeds -([\d.]+)% of .*? "
                                   r"\((\S+)% to (\S+)%\), n = (\d+)", finding).groups()
    assert told.format(mean=mean, low=low.replace("-", "\N{MINUS SIGN}"), high=high, n=n) in " ".join(RESULTS.split())


@pytest.mark.parametrize("experiment, last, refused, undecided", [
    ("mnist_logistic_distance", 20, ["eta_9"], ["eta_0"]),
    ("mnist_cnn_distance", 10, ["eta_0", "eta_0.5", "eta_0.9_to_2", "eta_5", "eta_9"],
     ["eta_0.9", "eta_0.9_to_3", "eta_0.9_to_5", "eta_2", "eta_3"]),
])
def test_which_distances_the_rule_of_the_guideline_would_pass(experiment, last, refused, undecided):
    """As it judges the guideline's schedule: by the interval above the lowest of the others."""
    means = _means_by_distance(experiment, last)
    found = {method: _difference(experiment, method, means.drop(method).idxmin(), "train_loss", (last, last))
             for method in means.index}
    assert [method for method in found if found[method].low > 1] == refused
    assert [method for method in found if found[method].low < 1 < found[method].high] == undecided


def _means_by_distance(experiment, last):
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves(experiment)
    return curves[curves["epoch"] == last].groupby("method")["train_loss"].mean()


def test_what_the_distances_are_told_to_do():
    def percent(found, sign=1):
        numbers = sorted(round(sign * value, 1) for value in (found.low, found.high))
        return "{:.1f} to {:.1f} %".format(*numbers)

    text = " ".join(RESULTS.split())
    zero = _difference("mnist_logistic_distance", "eta_0", "eta_0.9_to_2", "train_loss", (20, 20))
    assert _means_by_distance("mnist_logistic_distance", 20).idxmin() == "eta_0.9_to_2"
    assert f"{zero.mean:.1f} % above the best ({percent(zero)})" in text
    means = _means_by_distance("mnist_cnn_distance", 10)
    assert means.sort_values().index[:2].tolist() == ["eta_0.9_to_3", "eta_0.9_to_5"]
    ours = {method: _difference("mnist_cnn_distance", "eta_0.9_to_3", method, "train_loss", (10, 10))
            for method in means.index.drop("eta_0.9_to_3")}
    assert f"It ends {-ours['eta_0'].mean:.1f} % below η = 0 ({percent(ours['eta_0'], -1)})" in text
    assert f"{-ours['eta_5'].mean:.1f} % below η = 5, {-ours['eta_9'].mean:.1f} % below η = 9" in text
    following = ours["eta_0.9_to_5"]
    told = f"({following.low:+.1f} to {following.high:+.1f} %)".replace("-", "\N{MINUS SIGN}")
    assert f"and {-following.mean:.1f} % below the next, from 0.9 to 5 {told}" in text
    _, numbers = TOLD["The observation distance needs no grid search (abstract)"]
    assert f"{-following.mean:.1f} % below it on the CNN {told}, five seeds" in numbers and following.n == 5
    lowest = _difference("mnist_logistic_distance", "eta_0.9_to_3", "eta_0.9_to_2", "train_loss", (20, 20))
    assert "within 0.1 % of the best of nine others on logistic regression, ten seeds" in numbers and lowest.n == 10
    assert 0 < lowest.low < lowest.high < 0.1
    undecided = [ours[method].high for method in ("eta_2", "eta_3", "eta_0.9_to_5")]
    assert (round(min(undecided)), round(max(undecided))) == (2, 4)
    below = [-_difference("mnist_cnn_distance", method, "eta_0", "train_loss", (10, 10)).mean
             for method in ("eta_0.9", "eta_2", "eta_3", "eta_0.9_to_2", "eta_0.9_to_3")]
    assert f"ends {min(below):.0f} to {max(below):.0f} % below η = 0" in text
    assert sorted(method for method, found in ours.items() if found.high > 1) == ["eta_0.9_to_5", "eta_2", "eta_3"]
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves("mnist_cnn_distance")
    losses = curves[curves["epoch"] == 10].groupby("method")["test_loss"].mean()
    others = losses.drop("eta_0")
    assert others.min() > losses["eta_0"]
    assert (f"η = 0 has the lowest mean, {losses['eta_0']:.4f}, the nine others {others.min():.4f} to "
            f"{others.max():.4f}") in text
    best = curves.groupby(["method", "seed"])["test_accuracy"].max().groupby("method").mean()
    assert f"best test accuracies lie within {best.max() - best.min():.4f}" in text
    models = {each["model"] for file in (CHECKOUT / "results" / "mnist_cnn_distance").glob("*/*/environment.json")
              for each in json.loads(file.read_text())}
    assert len(models) == 1 and "n = 5, all of one model of processor" in text


def test_the_lowest_step_size_of_theorem_1_may_not_be_the_best():
    grid = Evidence(CHECKOUT / "results", CHECKOUT / "configs").grid("mnist_logistic").runs
    losses = grid[(grid["method"] == "namsg_theorem1") & (grid["beta2"] == 0.999)].groupby("learning_rate")[
        "train_loss"].mean()
    assert losses.idxmin() == losses.index.min() == 0.02
    assert "at β2 = 0.999 its loss is lowest at 0.02, the lowest that was searched" in " ".join(RESULTS.split())


def test_a_region_by_psi_ends_before_the_system_diverges():
    growth = pd.read_csv(CHECKOUT / "results" / "figures" / "theory_growth.csv")
    row = growth[(growth["tau"] == 0.4) & (growth["eta"] == 0.9) & (growth["noise"].round(1) == 1.8)].iloc[0]
    assert (f"at τ = 0.4, η = 0.9 and r = 1.8 Ψ is {row['psi']:+.3f}, and the growth {row['growth']:.3f}").replace(
        "-", "\N{MINUS SIGN}") in " ".join(RESULTS.split())


def test_on_gpus_a_step_through_mxnets_engine_takes_so_long():
    text = " ".join(README.split())
    milliseconds = []
    for path in ("gpu_step.json", "gpu/h100/gpu_step.json"):
        report = json.loads((CHECKOUT / "results" / "benchmarks" / path).read_text())
        contenders, = (m["contenders"] for m in report["measurements"] if m["shapes"] == "one array of 350 M")
        milliseconds.append(1000 * contenders["namsg, whole update by MXNet's engine"]["seconds"][1])
    assert "through MXNet's engine the update takes {:.2f} and {:.2f} ms".format(*milliseconds) in text


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
    assert ("would err 2.7 times (five seeds) to four times (ten) as often as the interval says"
            in " ".join(RESULTS.split()))


def test_the_slowest_pattern_is_told():
    report = json.loads((CHECKOUT / "results" / "benchmarks" / "update_patterns.json").read_text())
    shares = [each["share"][1] for measured in report["measurements"] for name, each in measured["contenders"].items()
              if name == "MXNet adam"]
    assert f"take up to {max(shares):.2f} of ADAM's time" in " ".join(RESULTS.split())


def test_shares_of_epochs_are_those_of_the_claims():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")["finding"]
    shares = [re.search(rf"\b{other} [\d.]+: (0\.\d\d)", recorded[f"mnist_{name}-faster"])[1]
              for name in ("logistic", "cnn") for other in ("ADAM", "NADAM", "AMSGRAD")]
    told = TOLD["NAMSG converges faster than ADAM, NADAM and AMSGRAD on MNIST"][1]
    assert [f"0.{number}" for number in re.findall(r"(\d\d)(?:,| and| %)", told)] == shares


def test_the_advice_has_the_accuracies_of_table_a3():
    table = pd.read_csv(CHECKOUT / "results" / "tables" / "tableA3.csv").set_index("method")["last_mean"]
    assert (f"Its mean of the last five epochs is {table['swnts1']:.4f}, SGD's {table['sgd']:.4f}, NAMSG's "
            f"{table['namsg']:.4f}, NAMSG1's {table['namsg1']:.4f}.") in " ".join(README.split())


def test_the_accuracies_before_the_drop_are_those_of_the_claims():
    finding = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name").loc[
        "cifar10-test-before-drop", "finding"]
    others = {}   # by NAMSG's accuracy in the pairs, and their number
    for namsg, name, value, n in re.findall(r"NAMSG ([\d.]+), (\w+) ([\d.]+):.*?, n = (\d)", finding):
        others.setdefault((namsg, n), []).append(f"{name} {value}")
    pairs = "; ".join(f"NAMSG {namsg}, {', '.join(beside)} (n = {n})" for (namsg, n), beside in others.items())
    assert TOLD["NAMSG is the best in test on CIFAR-10 before the step size drops"][1] == (
        f"accuracy in the epochs 52 to 61: {pairs}")


def test_swnts1_is_so_far_ahead_of_namsg1_by_its_average():
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves("cifar10_resnet20")
    before_switch = curves[curves["epoch"] <= 15].set_index(["method", "seed", "epoch"])
    ahead = (before_switch.loc["swnts1"] - before_switch.loc["namsg1"]).dropna(subset="train_loss")
    assert (ahead["train_loss"] == 0).all()
    n, by_epoch = ahead.index.unique("seed").size, ahead["test_accuracy"].groupby("epoch").mean()
    assert (by_epoch.loc[:6] < 0).all() and (by_epoch.loc[10:] > 0).all()
    assert (f"on average it is behind in test accuracy up to the sixth epoch, and {by_epoch.loc[10:].mean():.3f} ahead "
            f"in the epochs 10 to 15 (n = {n})" in " ".join(RESULTS.split()))


def test_part_e_of_figure_1_gains_where_the_claims_say():
    finding = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name").loc["e-low", "finding"]
    row = next(row for row in TOLD if row.startswith("Figure 1"))
    assert "at αλ = 0.01 wherever it converges, but at 0.001 only from a noise of r = 18 on" in TOLD[row][1]
    gains = {curvature: ends for curvature, *ends in re.findall(
        r"αλ = ([\d.]+): lower at r from (\S+) to (\S+) of (\S+) to ([^,]+)", finding)}
    assert gains["0.01"][:2] == gains["0.01"][2:]
    assert gains["0.001"][0] == "18" and gains["0.001"][1] == gains["0.001"][3]


def test_so_many_sentences_on_figure_1_hold():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv")
    verdicts = recorded["verdict"][recorded["where"].str.startswith("Figure 1")].value_counts()
    row = next(row for row in TOLD if row.startswith("Figure 1"))
    assert TOLD[row][0] == f"{verdicts['holds']} hold, {verdicts['in part']} in part"
    assert verdicts.sum() == 9


def test_accuracies_are_those_of_table_a3_and_of_the_records():
    table = pd.read_csv(CHECKOUT / "results" / "tables" / "tableA3.csv").set_index("method")
    evidence = Evidence(CHECKOUT / "results", CHECKOUT / "configs")
    best = evidence.curves("cifar10_resnet20").groupby(["method", "seed"])["test_accuracy"].max()
    best, told = best.groupby("method").mean(), table["best_mean"].dropna()
    pd.testing.assert_series_equal(told.sort_index(), best, check_names=False)
    table = table[table["best_paper_mean"].notna()]
    ours = {LABELS[method]: f"{best[method]:.4f}" for method in table.index}
    table.index = table.index.map(LABELS)
    assert BEST_ACCURACY["here"].to_dict() == ours
    assert BEST_ACCURACY["n"].to_dict() == {method: f"{n:.0f}" for method, n in table["n"].items()}
    papers = {method: f"{mean:.4f}" for method, mean in table["best_paper_mean"].items()}
    papers["SWNTS1"] += " or 0.9158"   # in its table, and in its text
    assert BEST_ACCURACY["the paper, n = 5"].to_dict() == papers
    seeds = ["one", "two", "three", "four"][table["n"].max() - 1]
    assert f"at most {seeds} seeds of five are run" in " ".join(README.split())


def arrays_over_adam(contenders):
    """The median over the rounds of the array operations' time as a share of MXNet's adam's."""
    rounds = (contenders[name]["rounds"] for name in ("namsg, ndarray kernel", "MXNet adam"))
    return np.median(np.divide(*rounds))


def test_the_cost_is_that_of_the_benchmark():
    """Of a step on ResNet-50's weights, on the most threads."""
    report = json.loads((CHECKOUT / "results" / "benchmarks" / "optimizer_step.json").read_text())
    contenders = max((m for m in report["measurements"] if m["shapes"] == "ResNet-50"),
                     key=lambda m: m["threads"])["contenders"]
    slower = arrays_over_adam(contenders)
    share = contenders["MXNet adam"]["share"][1]
    told = TOLD["NAMSG is efficient in computation; in memory"][1]
    assert (f"takes {share:.2f} of the time of MXNet's ADAM, and without a compiled kernel {slower:.0f} times"
            in told)
    assert f"{1 / share:.1f} times faster than MXNet's `adam`" in README
    fused = contenders["PyTorch Adam, amsgrad, fused"]["share"][1]
    assert f"{fused:.2f} of the time of PyTorch's fused AMSGrad |" in README
    assert f"| {slower:.0f} times slower than MXNet's `adam` |" in README
    assert f"takes {slower:.0f} times as long as MXNet's ADAM" in " ".join(RESULTS.split())


def test_the_guide_says_how_much_slower_array_operations_are():
    """In the steps and the patterns that are measured."""
    reports = [json.loads((CHECKOUT / "results" / "benchmarks" / f"{name}.json").read_text())
               for name in ("optimizer_step", "update_patterns")]
    shares = [arrays_over_adam(measured["contenders"]) for report in reports for measured in report["measurements"]]
    guide = " ".join((CHECKOUT / "docs" / "guide.md").read_text(encoding="utf-8").split())
    assert f"takes {min(shares):.0f} to {max(shares):.0f} times as long" in guide


def test_training_steps_are_those_of_the_benchmark():
    report = json.loads((CHECKOUT / "results" / "benchmarks" / "training_step.json").read_text())
    shares = {}
    for measured in report["measurements"]:
        shares[measured["network"]], = (each["share"][1] for name, each in measured["contenders"].items()
                                        if name.startswith("PyTorch"))
    assert (f"| a training step, 2 CPU threads | of ResNet-20 {shares['ResNet-20']:.2f} of PyTorch's time, of the CNN "
            f"{shares['CNN']:.2f} |") in README


def test_all_verdicts_together_are_told_as_they_are():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv", keep_default_na=False)
    decided = recorded[(recorded["holm"] != "") & ~recorded["verdict"].isin(["n too small to say", "not run yet"])]
    stand = (decided["holm"] == decided["verdict"]).sum()
    title = (CHECKOUT / "results" / "tables" / "claims.md").read_text(encoding="utf-8").splitlines()[0]
    made, expected = re.search("(\\d+) comparisons have .* at most (\\d+\\.\\d) wrong verdicts", title).groups()
    text = " ".join(RESULTS.split())
    assert f"of {len(decided)} verdicts, {stand} stand" in text
    assert f"family-wise error rate of all {(recorded['holm'] != '').sum()} claims at 2.5 %, one-sided" in text
    assert f"{made} comparisons have all their runs, so that at most {expected} wrong verdicts" in text


def test_the_shares_of_epochs_are_told_by_more_than_one_last_epoch():
    told = {}
    for name, epochs in (("mnist_logistic", (3, 20)), ("mnist_cnn", (2, 10))):
        curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves(name)
        for epoch in epochs:
            shares = {other: share_of_epochs(epochs_to_common_loss(curves, "namsg", other, epoch))
                      for other in ("adam", "nadam", "amsgrad")}
            assert all(share.high < 1 for share in shares.values())
            told[name, epoch] = f"{shares['adam'].mean:.2f}"
    assert (f"NAMSG needs {told['mnist_logistic', 3]} of ADAM's epochs by epoch 3 of logistic regression and "
            f"{told['mnist_logistic', 20]} by epoch 20; on the CNN {told['mnist_cnn', 2]} by epoch 2 and "
            f"{told['mnist_cnn', 10]} by epoch 10") in " ".join(RESULTS.split())


def test_how_much_overfitting_is_augmentations():
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves("cifar10_resnet20")
    last = curves[curves["epoch"] == 75].set_index(["method", "seed"])
    excess = {}
    for loss in ("train_loss", "train_loss_full"):
        gap = last["test_loss"] - last[loss]
        excess[loss] = (gap["namsg"] - gap["adam"]).dropna()
    assert (f"NAMSG's is {excess['train_loss'].mean():.4f} above ADAM's so, and {excess['train_loss_full'].mean():.4f} "
            f"by the loss of the whole training set (n = {len(excess['train_loss'])})") in " ".join(RESULTS.split())


def test_table_a2_is_told_beside_the_papers():
    table = pd.read_csv(CHECKOUT / "results" / "tables" / "tableA2.csv")
    differences = table["mean"] / table["paper"] - 1
    text = " ".join(RESULTS.split())
    assert (f"Of the {len(table)} cells {(differences > 0).sum()} are higher, and all together "
            f"{differences.mean():.1%}".replace("%", " %")) in text
    with_two_seeds = table[table["n"] > 1]
    assert with_two_seeds[["method", "learning_rate", "beta2"]].values.tolist() == [
        [method, 0.001, 0.99] for method in ("adam", "amsgrad", "namsg")]


def test_the_second_seeds_of_table_a2_differ_by_so_much():
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves("cifar10_resnet20")
    namsg, adam, amsgrad = (by_seed(curves[curves["method"] == method], "train_loss", (30, 30))
                            for method in ("namsg", "adam", "amsgrad"))
    assert (f"NAMSG's is {1 - namsg[1] / namsg[0]:.1%} lower with that, ADAM's {adam[1] / adam[0] - 1:.1%} higher and "
            f"AMSGRAD's {amsgrad[1] / amsgrad[0] - 1:.1%} higher").replace("%", " %") in " ".join(RESULTS.split())


def test_what_rounding_moves_is_that_of_its_table():
    text = " ".join(RESULTS.split()).replace(" %", "%").replace("\N{MINUS SIGN}", "-")
    rows = pd.read_csv(CHECKOUT / "results" / "tables" / "rounding.csv").set_index(["experiment", "method"])
    logistic, cnn, nadam, resnet = rows.loc["mnist_logistic"], rows.loc["mnist_cnn", "namsg"], rows.loc[
        "mnist_cnn", "nadam"], rows.loc["cifar10_resnet20", "namsg"]
    assert (f"more than {logistic['train_loss_largest'].max():.2g} of itself, and its accuracy not at all "
            f"(n = {logistic['n'].sum()})").replace("e-08", "e-8") in text
    assert logistic["test_accuracy_largest"].max() == 0
    assert (f"by {resnet['train_loss_first']:.3%} in the first epoch, by {resnet['train_loss_largest']:.1%} at most "
            f"and by {resnet['train_loss_last']:.1%} in the last one") in text
    assert f"test loss moves by {resnet['test_loss_largest']:.0%} (n = {resnet['n']:.0f})" in text
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")["finding"]
    best, = re.findall(r"rounding alone moves NAMSG by (\S+)", recorded["tableA3-namsg-best"])
    assert f"its best test accuracy by {best}" in text
    assert (f"by {cnn['train_loss_first']:.2%} in the first epoch and by {cnn['train_loss_last']:.1%} in the last one "
            f"(root mean square; n = {cnn['n']:.0f}), to either side: its mean by {cnn['train_loss_mean']:.1%} "
            f"({cnn['low']:.1%} to {cnn['high']:+.1%})").replace("% to", " to") in text
    assert (f"moves by {nadam['train_loss_first']:.2%} in the first epoch and by {nadam['train_loss_last']:.0%} in the "
            f"last one; its mean by {nadam['train_loss_mean']:+.1%} ({nadam['low']:.0%} to {nadam['high']:+.0%}; "
            f"n = {nadam['n']:.0f})").replace("% to", " to") in text


def test_swnts_is_namsg_until_its_16th_epoch_on_two_machines():
    curves = Evidence(CHECKOUT / "results", CHECKOUT / "configs").curves("cifar10_resnet20")
    measures = ["train_loss", "test_loss", "test_accuracy"]
    for seed in (0, 1):
        namsg, swnts = (curves[(curves["method"] == method) & (curves["seed"] == seed)].set_index("epoch")[measures]
                        for method in ("namsg", "swnts"))
        assert (namsg == swnts).all(axis=1).idxmin() == 16
    assert "are equal to the last digit in these 15 epochs; so are those with seed 1" in " ".join(RESULTS.split())


def test_how_long_a_run_takes_is_what_status_says():
    text = " ".join((CHECKOUT / "docs" / "reproduction.md").read_text(encoding="utf-8").split())
    ranges = []
    for name, unit, digits in (("mnist_logistic", 1, 0), ("mnist_cnn", 60, 0), ("cifar10_resnet20", 3600, 1)):
        told = survey(load(CHECKOUT / "configs" / f"{name}.yaml"), CHECKOUT / "results")["seconds_per_run"]
        taken = [seconds / unit for seconds in told.values() if seconds]
        ranges.append(f"{min(taken):.{digits}f} to {max(taken):.{digits}f}")
    assert (f"{ranges[0]} seconds on logistic regression, {ranges[1]} minutes on the CNN, and {ranges[2]} hours on "
            "ResNet-20") in text


def test_mxnets_nadam_selects_table_a1s_values():
    table = pd.read_csv(CHECKOUT / "results" / "tables" / "tableA1.csv")
    searched = table[table["method"] == "nadam_mxnet"].set_index("experiment")
    for name in ("mnist_logistic", "mnist_cnn"):
        assert searched.loc[name, "train_loss_at_papers"] == searched.loc[name, "train_loss_ours"], name
    assert "MXNet's NADAM was searched, too: on both networks Table A1's values" in " ".join(RESULTS.split())


def test_the_hours_are_those_of_status():
    experiment, text = load(CHECKOUT / "configs" / "cifar10_resnet20.yaml"), " ".join(RESULTS.split())
    hours = {method: seconds / 3600 for method, seconds in survey(experiment, CHECKOUT / "results")[
        "seconds_per_run"].items() if seconds}
    namsg = hours.pop("namsg")
    assert f"on ResNet-20 {min(hours.values()):.1f} to {max(hours.values()):.1f} hours on average" in text
    assert f"but NAMSG's {namsg:.1f} hours" in text

    def of(methods, seed):
        seconds = [pd.read_csv(CHECKOUT / "results" / run.folder / "seconds.csv")
                   for run in experiment.runs(methods, [seed])]
        return [f"{each[['training', 'evaluation']].to_numpy().sum() / 3600:.1f}" for each in seconds]

    *first, last = of(["sgd", "adam", "amsgrad", "namsg1", "swnts", "swnts1"], 1)
    assert f"seed 1 of SGD, ADAM, AMSGRAD, NAMSG1, SWNTS and SWNTS1 ({', '.join(first)} and {last} hours)" in text
    assert f"seed 2 of NAMSG ({of(['namsg'], 2)[0]} hours)" in text


def test_runs_of_namsg_on_the_cnn_are_equal_to_the_byte_on_two_models_of_xeon():
    """The guideline's schedule among the distances is NAMSG itself."""
    first, again = (load(CHECKOUT / "configs" / f"{name}.yaml").runs([method], seeds=range(5))
                    for name, method in (("mnist_cnn", "namsg"), ("mnist_cnn_distance", "eta_0.9_to_3")))
    made = set()
    for pair in zip(first, again):
        assert pair[0].seed == pair[1].seed
        folders = [CHECKOUT / "results" / run.folder for run in pair]
        one, other = ((folder / "epochs.csv").read_bytes() for folder in folders)
        assert one == other
        made |= {(run.experiment, each["model"], each["commit"]) for run, folder in zip(pair, folders)
                 for each in json.loads((folder / "environment.json").read_text())}
    (_, model, commit), (_, another, same) = sorted(made)
    assert model != another and commit == same and {name.split()[0] for name in (model, another)} == {"GenuineIntel"}
    assert "NAMSG's seeds 0 to 4 on the CNN were made again on another day" in " ".join(RESULTS.split())


def test_the_tuned_runs_of_the_cnn_are_of_three_machines():
    evidence, machines = Evidence(CHECKOUT / "results", CHECKOUT / "configs"), {}
    experiment = evidence.runs("mnist_cnn", tuned=True).experiment
    for run in experiment.runs(["sgd", "adam", "nadam", "amsgrad", "namsg"]):
        made = json.loads((CHECKOUT / "results" / run.folder / "environment.json").read_text())
        machines.setdefault(run.method, set()).update(
            (one["processor"].partition(" Processor")[0], re.search("v[0-9]+", one["system"])[0]) for one in made)
    first, second, xeon = ("AMD EPYC", "v657"), ("AMD EPYC", "v782"), ("Intel(R) Xeon(R)", "v657")
    assert machines == {method: {machine} for method, machine in zip(
        ("sgd", "adam", "nadam", "amsgrad", "namsg"),
        [second, second, xeon, first, xeon])}
    assert ("AMSGRAD's are of the first EPYC, NAMSG's and NADAM's of an Intel Xeon, and SGD's and ADAM's of the second "
            "EPYC") in " ".join(RESULTS.split())


@pytest.mark.parametrize("what, folder", [("a step on 350 M weights", "."), ("the same", "gpu/h100")])
def test_the_gpus_numbers_are_those_of_its_benchmark(what, folder):
    folder = CHECKOUT / "results" / "benchmarks" / folder
    report = json.loads((folder / "gpu_step.json").read_text())
    large = next(m for m in report["measurements"] if m["shapes"] == "one array of 350 M")["contenders"]
    milliseconds = 1e3 * large["namsg, cuda kernel"]["seconds"][1]
    copy, torch = (large[name]["share"][1] for name in ("copy of as many bytes", "PyTorch Adam, amsgrad, fused"))
    gpu = " ".join(report["machine"]["processor"].split()[:2])   # 'NVIDIA H100', without its memory
    assert (f"| {what}, {gpu} | {milliseconds:.2f} ms: as fast as a copy "
            f"of the same bytes ({copy:.2f}), {torch:.2f} of PyTorch's fused AMSGrad |") in README
    assert all(each["holds"] for each in report["verdicts"])
    table = (folder / "gpu_step.md").read_text(encoding="utf-8")
    assert re.findall("^- (.*)$", table, re.MULTILINE) == [benchmarks.describe(each) for each in report["verdicts"]]


def by_method(finding):
    """(method, percent) of each difference in a finding."""
    return [(method, float(percent)) for method, percent in re.findall(
        r"(?:^|; )([^;]*?) \d\.\d+, [^;]*?: \+(\d+\.\d)%", finding)]


def test_differences_of_the_cnn_are_those_of_the_claims():
    recorded = pd.read_csv(CHECKOUT / "results" / "tables" / "claims.csv").set_index("name")["finding"]
    (_, above), = by_method(recorded["mnist_cnn-amsgrad-close"])
    assert f"{above:.0f} % above it" in TOLD["AMSGRAD is close to NAMSG on the CNN"][1]
    behind = {method: f"{percent:.0f} %" for method, percent in by_method(recorded["mnist_cnn-initial"])}
    assert TOLD["ADAM and NADAM lead SGD in the CNN's first epochs"][1] == (
        f"in the first two ADAM is {behind['ADAM']} behind, NADAM {behind['NADAM']} and MXNet's NADAM "
        f"{behind['NADAM (MXNet)']}; n = 10")
