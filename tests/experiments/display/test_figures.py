"""The paper's figures and its table A2, from made-up records: which methods, which runs, which numbers."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_experiment import record, write_config

from experiments.analysis.results import collect, read_grid
from experiments.claims import judging
from experiments.claims.decisions import VERDICTS
from experiments.claims.evidence import Evidence
from experiments.claims.sentences import CLAIMS
from experiments.commands import cli
from experiments.display import charts, figures, tables
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three epochs of all the methods, and 30 of three points of ResNet-20's grid, of which one has two seeds."""
    folder = tmp_path_factory.mktemp("results")
    experiment = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    grid = {(run.method, run.point["learning_rate"], run.point["beta2"], run.seed): run
            for run in experiment.grid_runs(["namsg", "adam"])}
    for (method, seed), loss in {("namsg", 0): 0.3, ("namsg", 1): 0.2, ("adam", 0): 0.4}.items():
        record(folder, grid[method, 0.001, 0.99, seed], [loss] * 30, 30)
    of_sgd = next(run for run in experiment.grid_runs(["sgd"]) if run.point["learning_rate"] == 0.1)
    record(folder, of_sgd, [0.5] * 30, 30)
    made = {run.folder for run in grid.values()}
    mnist = [config.load(CHECKOUT / "configs" / f"mnist_{name}.yaml") for name in ("logistic", "cnn")]
    for run in [*experiment.runs(seeds=[0]), *(run for each in mnist for run in each.runs(seeds=[0]))]:
        if run.folder not in made:
            record(folder, run, [0.9, 0.8, 0.7], 75)
    return folder


def make(monkeypatch, results, *command):
    monkeypatch.chdir(CHECKOUT)
    return cli.main([*command, "--results", str(results), "--partial"])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    drawn, save = [], figures.save
    monkeypatch.setattr(figures, "save", lambda figure, *arguments: drawn.append(figure) or save(figure, *arguments))
    return drawn


RESNET = "ResNet-20 on CIFAR-10"
FIVE = ["SGD", "ADAM", "NADAM", "AMSGRAD", "NAMSG"]


def panels_of(figure):
    """Rows of a figure: its title, and its panels by theirs."""
    *rows, _ = figure.subfigs
    return [(row._suptitle.get_text(), {axes.get_title(): axes for axes in row.axes}) for row in rows]


@pytest.mark.parametrize(("name", "rows"), [
    ("2", [("Logistic regression on MNIST", FIVE), ("CNN on MNIST", FIVE)]),
    ("3", [(RESNET, FIVE), (f"{RESNET}: strategies", ["SGD", "ADAM", "NAMSG", "NAMSG1", "SWNTS", "SWNTS1"])]),
    ("A1", [(f"{RESNET}: limits of the step", ["NAMSB1", "NAMSB2", "AMSB1", "AMSB2"])])])
def test_figures_of_the_paper_have_its_rows_methods_and_numbers(monkeypatch, results, drawn, name, rows):
    assert make(monkeypatch, results, "figure", name) == 0
    found = panels_of(drawn[0])
    assert [title for title, _ in found] == [f"{title} (unfinished)" for title, _ in rows]
    for (_, panels), (_, methods) in zip(found, rows):
        assert list(panels) == ["train loss", *(["train loss / NAMSG's"] if "NAMSG" in methods else []), "test loss",
                                "test accuracy"]
        assert [axes.get_yscale() for axes in panels.values()] == ["log"] * (len(panels) - 2) + ["linear"] * 2
        one = methods.index(next(method for method in methods if method not in ("ADAM", "NAMSG")))
        for title, numbers in (("train loss", [0.9, 0.8, 0.7]), ("test loss", [1.5] * 3), ("test accuracy", [0.5] * 3)):
            assert [line.get_label() for line in panels[title].lines] == methods
            assert list(panels[title].lines[one].get_xdata()) == [1, 2, 3]
            assert list(panels[title].lines[one].get_ydata()) == pytest.approx(numbers)
    assert {path.name for path in (results / "figures").glob(f"figure{name}.*")} == \
        {f"figure{name}.png", f"figure{name}.svg"}


def test_figures_of_records_load_no_mxnet():
    """It takes longer to import than they to draw. Tables do not, either."""
    script = ("import sys, experiments.display.figures, experiments.display.heat_map, experiments.display.sensitivity, "
              "experiments.display.tables; sys.exit('mxnet' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, check=False).returncode == 0


def test_a_figure_of_ones_own_is_drawn_without_verdicts(monkeypatch, results, drawn):
    """As docs/architecture.md has it: a name in PAPER with its rows."""
    row = figures.PaperRow("cifar10_resnet20", ("namsg", "adam"), "two of them")
    monkeypatch.setitem(figures.PAPER, "mine", (row, row))
    assert make(monkeypatch, results, "figure", "mine") == 0
    assert [title for title, _ in panels_of(drawn[0])] == [f"{RESNET}: two of them (unfinished)"] * 2
    assert not any("claims" in text.get_text() for part in drawn[0].subfigs for text in part.texts)


def test_the_ratio_is_of_runs_with_the_same_seed(monkeypatch, results, drawn):
    """NAMSG has seeds 0 and 1, ADAM seed 0."""
    assert make(monkeypatch, results, "figure", "3") == 0
    (_, panels), _ = panels_of(drawn[0])
    lines = {line.get_label(): line for line in panels["train loss"].lines}
    assert list(lines["NAMSG"].get_ydata()) == pytest.approx([0.25] * 30)   # the mean of two seeds
    ratios = {line.get_label(): line for line in panels["train loss / NAMSG's"].lines}
    assert list(ratios["NAMSG"].get_ydata()) == pytest.approx([1] * 30)
    assert list(ratios["ADAM"].get_ydata()) == pytest.approx([0.4 / 0.3] * 30)
    assert list(ratios["SGD"].get_ydata()) == pytest.approx([3, 0.8 / 0.3, 0.7 / 0.3])


def test_each_row_says_how_many_claims_have_which_verdict(monkeypatch, results, drawn):
    """As the claims of its part do."""
    assert make(monkeypatch, results, "figure", "3") == 0
    said = [[text.get_text() for text in row.texts if "claims" in text.get_text()] for row in drawn[0].subfigs[:-1]]
    evidence = Evidence(results, CHECKOUT / "configs")
    for (line,), part in zip(said, ("cifar10_resnet20", "strategies")):
        verdicts = [verdict.judgement.verdict for verdict in
                    judging.judge(evidence, [claim for claim in CLAIMS if claim.part == part])]
        counts = ", ".join(f"{name} {verdicts.count(name)}" for name in VERDICTS if name in verdicts)
        assert line == f"The paper's {len(verdicts)} claims: {counts}"


@pytest.mark.parametrize("chosen", [["--seeds", "0"], ["--method", "namsg"]])
def test_some_of_the_runs_are_drawn_without_verdicts_of_all(monkeypatch, results, drawn, tmp_path, chosen):
    assert make(monkeypatch, results, "figure", "3", *chosen, "--output", str(tmp_path)) == 0
    assert not [text for row in drawn[0].subfigs[:-1] for text in row.texts if "claims" in text.get_text()]


@pytest.mark.parametrize(("name", "words"), [
    ("2", [*FIVE]),
    ("A1", ["NAMSB1", "NAMSB2", "AMSB1", "AMSB2"]),
    ("3", ["SGD (n = 1 of 5)", "ADAM (n = 1 of 5)", "NADAM (n = 1 of 5)", "AMSGRAD (n = 1 of 5)", "NAMSG (n = 2 of 5)",
           "NAMSG1 (n = 1 of 5)", "SWNTS (n = 1 of 5)", "SWNTS1 (n = 1 of 5)"])])
def test_the_legend_says_n_once_where_it_is_the_same(monkeypatch, results, drawn, name, words):
    assert make(monkeypatch, results, "figure", name) == 0
    legend, = drawn[0].subfigs[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == words
    said = legend.get_title().get_text()
    assert said.startswith({"2": "n = 1 of 10 seeds; ", "A1": "n = 1 of 5 seeds; ", "3": "lines: means; "}[name])
    assert "bands: one standard deviation" in said


def test_epochs_after_the_drop_of_the_step_size_are_enlarged(monkeypatch, tmp_path, drawn):
    """The recorded step sizes show the drop; a slow decay is none."""
    experiment = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    for run in experiment.runs(["sgd", "namsg"], [0]):
        record(tmp_path, run, [0.9] * 10, 75, learning_rates=[0.1] * 4 + [0.09, 0.06, 0.03] + [0.01] * 3)
    assert make(monkeypatch, tmp_path, "figure", "configs/cifar10_resnet20.yaml") == 0
    (_, panels), = panels_of(drawn[0])
    enlarged = {title: [list(inset.lines[0].get_xdata()) for inset in axes.child_axes]
                for title, axes in panels.items()}
    assert enlarged == {"train loss": [], "train loss / NAMSG's": [], "test loss": [[8, 9, 10]],
                        "test accuracy": [[8, 9, 10]]}
    titles = {inset.get_title() for axes in panels.values() for inset in axes.child_axes}
    assert titles == {"after the step size drops"}
    for run in experiment.runs(["adam"], [0]):   # whose step size does not
        record(tmp_path, run, [0.9] * 10, 75, learning_rates=[0.1] * 10)
    assert make(monkeypatch, tmp_path, "figure", "configs/cifar10_resnet20.yaml") == 0
    (_, panels), = panels_of(drawn[1])
    assert {inset.get_title() for axes in panels.values() for inset in axes.child_axes} == {"from epoch 8 on"}


def test_a_legend_of_many_methods_has_several_rows_inside_of_the_figure(tmp_path, monkeypatch, drawn):
    experiment = config.load(CHECKOUT / "configs" / "mnist_cnn_distance.yaml")
    runs = experiment.runs(seeds=[0])
    assert len(runs) == 10
    for run in runs:
        record(tmp_path, run, [0.9] * 10, 10)
    assert make(monkeypatch, tmp_path, "figure", "configs/mnist_cnn_distance.yaml", "--seeds", "0") == 0
    figure = drawn[0]
    figure.draw_without_rendering()
    legend, = figure.subfigs[-1].legends
    inside = figure.bbox
    assert inside.x0 <= legend.get_window_extent().x0 and legend.get_window_extent().x1 <= inside.x1


def test_table_a2_has_the_papers_numbers_beside_ours(monkeypatch, results):
    assert make(monkeypatch, results, "table", "A2") == 0
    header, _, row = (results / "tables" / "tableA2.md").read_text(encoding="utf-8").splitlines()[2:]
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row))))
    assert cells == {"α": "0.001", "β2": "0.99", "ADAM, paper": "0.3394", "ADAM, ours": "0.4000 (n = 1)",
                     "NAMSG, paper": "0.3152", "NAMSG, ours": "0.2500 ± 0.0707 (n = 2)"}


def test_table_a2_has_its_columns_in_the_configurations_order(tmp_path):
    """Also where the first cell lacks NADAM."""
    experiment = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    for run in experiment.grid_runs(["adam", "nadam", "namsg"], [0]):
        if run.point["beta2"] == 0.99 and run.point["learning_rate"] in (0.0005, 0.001) and (
                run.method != "nadam" or run.point["learning_rate"] == 0.001):
            record(tmp_path, run, [0.5], 30, "diverged")
    made = tables.table_a2(read_grid(experiment, tmp_path, ["adam", "nadam", "namsg"])[0])
    assert list(made.cells.columns) == ["α", "β2", *(f"{method}, {whose}" for method in ("ADAM", "NADAM", "NAMSG")
                                                     for whose in ("paper", "ours"))]
    assert made.cells["NADAM, ours"].tolist() == ["", "diverged"]


def test_table_a2_has_no_method_without_beta2(monkeypatch, results, capsys):
    assert make(monkeypatch, results, "table", "A2", "--method", "sgd") == 2
    assert capsys.readouterr().err == "experiments: Table A2 has no SGD\n"


def losses_of(folder, losses):
    """The row of an experiment's figure; by method the train losses of its runs, which diverged where they are short.
    """
    experiment = config.load(write_config(folder))
    for run in experiment.runs():
        record(folder, run, losses[run.method], 3, "diverged")
    return figures.Row(collect(experiment, folder, None, None, False))


@pytest.mark.parametrize(("adam", "namsg", "panels"), [
    ([0.5] * 3, [0.4] * 3, 4), ([], [0.4] * 3, 3), ([0.5] * 3, [], 3), ([0.5] * 3, [0.4], 3)])
def test_a_method_of_which_all_runs_diverged_has_no_line(tmp_path, drawn, adam, namsg, panels):
    """And where that is NAMSG, or the only other method, there is no ratio of the two."""
    figures.draw([losses_of(tmp_path, {"adam": adam, "namsg": namsg})], "figure", tmp_path)
    assert len(drawn[0].axes) == panels
    assert [len(line.get_xdata()) for line in drawn[0].axes[0].lines] == [
        len(losses) if len(losses) == 3 else 0 for losses in (adam, namsg)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("adam", "namsg", "panels"), [
    ([0.5] * 3, [0.4, 0.0, 0.4], 4), ([0.5, 0.5, 0.0], [0.4, 0.4, 0.2], 4), ([0.5] * 3, [0.4, 0.0, 0.0], 4),
    ([0.5] * 3, [0.0] * 3, 3)])
def test_a_train_loss_of_0_has_no_ratio(tmp_path, drawn, adam, namsg, panels):
    row = losses_of(tmp_path, {"adam": adam, "namsg": namsg})
    figures.draw([row], "figure", tmp_path)
    assert len(drawn[0].axes) == panels
    assert len(charts.curves(row.results, charts.legend(row.results))) == panels
    if panels == 4:
        line, _ = drawn[0].axes[1].lines
        assert list(line.get_xdata()) == [i for i in (1, 2, 3) if adam[i - 1] and namsg[i - 1]]


@pytest.mark.parametrize(("adams", "namsgs", "n"), [((3, 3), (3, 3), ""), ((3, 3), (3, 1), ", n = 1"),
                                                    ((3, 1), (3, 3), ""), ((3, 1), (1, 3), None)])
def test_the_ratios_say_n_where_pairs_are_fewer_than_runs(tmp_path, drawn, adams, namsgs, n):
    """By method, how far its two runs came: those with one epoch diverged."""
    experiment = config.load(write_config(tmp_path))
    for method, lengths in (("adam", adams), ("namsg", namsgs)):
        for run, length in zip(experiment.runs([method]), lengths):
            record(tmp_path, run, [0.5] * length, 3, "diverged")
    row = figures.Row(collect(experiment, tmp_path, None, None, False))
    figures.draw([row], "figure", tmp_path)
    second = drawn[0].axes[1].get_title()
    # Without n, there is no pair, and the panel is left out.
    assert second == ("test loss" if n is None else f"train loss / NAMSG's{n}")
    assert charts.curves(row.results, charts.legend(row.results))[1]["layout"]["title"]["text"] == second


def test_where_all_runs_diverged_nothing_can_be_drawn(tmp_path):
    with pytest.raises(RecordError, match="tiny: all runs diverged: nothing can be drawn"):
        figures.draw([losses_of(tmp_path, {"adam": [], "namsg": [0.4]})], "figure", tmp_path)
    assert not list(tmp_path.glob("figure*"))
