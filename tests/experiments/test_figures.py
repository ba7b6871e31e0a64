"""The paper's figures and its table A2, from made-up records: which methods, which runs, which numbers."""

from pathlib import Path

import pytest
from tiny_experiment import record

from experiments import cli, config, figures

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three epochs of all the methods, and 30 of three points of ResNet-20's grid, of which one has two seeds."""
    folder = tmp_path_factory.mktemp("results")
    experiment = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    grid = {(run.method, point["learning_rate"], point["beta2"], run.seed): run
            for run, point in experiment.grid(["namsg", "adam"])}
    for (method, seed), loss in {("namsg", 0): 0.3, ("namsg", 1): 0.2, ("adam", 0): 0.4}.items():
        record(folder, grid[method, 0.001, 0.99, seed], [loss] * 30, 30)
    of_sgd = next(run for run, point in experiment.grid(["sgd"]) if point["learning_rate"] == 0.1)
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


@pytest.mark.parametrize(("name", "rows"), [
    ("2", [("Logistic regression on MNIST", FIVE), ("CNN on MNIST", FIVE)]),
    ("3", [(RESNET, FIVE), (RESNET, ["SGD", "ADAM", "NAMSG", "NAMSG1", "SWNTS", "SWNTS1"])]),
    ("A1", [(RESNET, ["NAMSB1", "NAMSB2", "AMSB1", "AMSB2"])])])
def test_figures_of_the_paper_have_its_rows_methods_and_numbers(monkeypatch, results, drawn, name, rows):
    assert make(monkeypatch, results, "figure", name) == 0
    axes = drawn[0].axes
    assert len(axes) == 3 * len(rows)
    for (train, test, accuracy), (title, methods) in zip(zip(axes[::3], axes[1::3], axes[2::3]), rows):
        of_two_seeds = "NAMSG" if title == RESNET else None
        assert [text.get_text() for text in train.get_legend().get_texts()] == \
            [f"{method} (n = {2 if method == of_two_seeds else 1} of {5 if title == RESNET else 10})"
             for method in methods]
        assert test.get_title() == f"{title} (unfinished)"
        assert [panel.get_yscale() for panel in (train, test, accuracy)] == ["log", "linear", "linear"]
        assert [panel.get_ylabel() for panel in (train, test, accuracy)] == ["train loss", "test loss", "test accuracy"]
        one = methods.index(next(method for method in methods if method not in ("ADAM", "NAMSG")))
        for panel, numbers in ((train, [0.9, 0.8, 0.7]), (test, [1.5] * 3), (accuracy, [0.5] * 3)):
            assert list(panel.lines[one].get_xdata()) == [1, 2, 3]
            assert list(panel.lines[one].get_ydata()) == pytest.approx(numbers)
    if name == "3":
        assert list(axes[0].lines[4].get_ydata()) == pytest.approx([0.25] * 30)   # the mean of two seeds
    assert {path.name for path in (results / "figures").glob(f"figure{name}.*")} == \
        {f"figure{name}.png", f"figure{name}.svg"}


def test_table_a2_has_the_papers_numbers_beside_ours(monkeypatch, results):
    assert make(monkeypatch, results, "table", "A2") == 0
    header, _, row = (results / "tables" / "tableA2.md").read_text(encoding="utf-8").splitlines()[2:]
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row))))
    assert cells == {"α": "0.001", "β2": "0.99", "ADAM, paper": "0.3394", "ADAM, ours": "0.4000 (n = 1)",
                     "NAMSG, paper": "0.3152", "NAMSG, ours": "0.2500 ± 0.0707 (n = 2)"}


def test_a_grid_of_step_sizes_alone(monkeypatch, results, drawn, capsys):
    config = str(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    assert make(monkeypatch, results, "figure", "sensitivity", "--method", "sgd", "--config", config) == 0
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == ["SGD"]
    assert make(monkeypatch, results, "table", "A2", "--method", "sgd") == 2
    assert capsys.readouterr().err == "experiments: Table A2 has no SGD\n"


def test_a_search_of_which_nothing_is_recorded_is_left_out(monkeypatch, results, capsys):
    assert make(monkeypatch, results, "figure", "sensitivity") == 1
    error = capsys.readouterr().err
    assert error.startswith("experiments: mnist_cnn: ")   # the first of those that select
    assert "--partial" not in error
    configs = [str(CHECKOUT / "configs" / f"{name}.yaml") for name in ("mnist_cnn", "cifar10_resnet20")]
    assert make(monkeypatch, results, "figure", "sensitivity", "--config", *configs) == 0
