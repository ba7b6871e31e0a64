"""The paper's figures and tables on CIFAR-10, from made-up records: which methods, which runs, which numbers."""

from pathlib import Path

import pytest
from tiny_experiment import record

from experiments import cli, config, figures

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three epochs of all the methods, and 30 of two points of the grid search, of which one has two seeds."""
    folder = tmp_path_factory.mktemp("results")
    experiment = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    grid = {(run.method, point["learning_rate"], point["beta2"], run.seed): run
            for run, point in experiment.grid(["namsg", "adam"])}
    for (method, seed), loss in {("namsg", 0): 0.3, ("namsg", 1): 0.2, ("adam", 0): 0.4}.items():
        record(folder, grid[method, 0.001, 0.99, seed], [loss] * 30, 30)
    made = {run.folder for run in grid.values()}
    for run in experiment.runs(seeds=[0]):
        if run.folder not in made:
            record(folder, run, [0.9, 0.8, 0.7], 75)
    return folder


def make(monkeypatch, results, *command):
    monkeypatch.chdir(CHECKOUT)
    return cli.main([*command, "--results", str(results), "--partial"])


@pytest.mark.parametrize(("name", "rows"), [("3", (figures.FIVE, figures.STRATEGIES)), ("A1", (figures.BOUNDED,))])
def test_figures_of_the_paper_have_its_rows_and_methods(monkeypatch, results, name, rows):
    drawn, save = [], figures.save
    monkeypatch.setattr(figures, "save", lambda figure, *arguments: drawn.append(figure) or save(figure, *arguments))
    assert make(monkeypatch, results, "figure", name) == 0
    axes = drawn[0].axes
    assert len(axes) == 3 * len(rows)
    for panel, methods in zip(axes[::3], rows):
        assert [text.get_text() for text in panel.get_legend().get_texts()] == \
            [f"{figures.LABELS[method]} (n = {2 if method == 'namsg' else 1})" for method in methods]
    assert all("(unfinished)" in panel.get_title() for panel in axes[1::3])
    assert {path.name for path in (results / "figures").glob(f"figure{name}.*")} == \
        {f"figure{name}.png", f"figure{name}.svg"}


def test_table_a2_has_the_papers_numbers_beside_ours(monkeypatch, results):
    assert make(monkeypatch, results, "table", "A2") == 0
    header, _, row = (results / "tables" / "tableA2.md").read_text(encoding="utf-8").splitlines()[2:]
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row))))
    assert cells == {"α": "0.001", "β2": "0.99", "ADAM, paper": "0.3394", "ADAM, ours": "0.4000 (n = 1)",
                     "NAMSG, paper": "0.3152", "NAMSG, ours": "0.2500 ± 0.0707 (n = 2)"}


def test_a_search_of_which_nothing_is_recorded_is_left_out(monkeypatch, results, capsys):
    assert make(monkeypatch, results, "figure", "sensitivity") == 1
    error = capsys.readouterr().err
    assert error.startswith("experiments: mnist_cnn: ")   # the first of those that select
    assert "--partial" not in error
    configs = [str(CHECKOUT / "configs" / f"{name}.yaml") for name in ("mnist_cnn", "cifar10_resnet20")]
    assert make(monkeypatch, results, "figure", "sensitivity", "--config", *configs) == 0
