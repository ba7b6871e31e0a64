"""The heat map of a grid search over step size and observation distance, from made-up records."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_experiment import record

from experiments.analysis.results import collect_grid
from experiments.commands import cli
from experiments.display import heat_map
from experiments.vocabulary import config
from experiments.vocabulary.errors import UsageError

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def experiment():
    return config.load(CHECKOUT / "configs" / "mnist_logistic_distance.yaml")


def test_cells_are_means_where_they_belong_and_the_lowest_is_bold(tmp_path, monkeypatch, experiment):
    drawn = []
    monkeypatch.setattr(heat_map, "save", lambda figure, *_: drawn.append(figure) or [])
    monkeypatch.chdir(CHECKOUT)
    lowest, diverged = (0.002, 5.0), (0.02, 0.0)
    for run in experiment.grid_runs():
        at = run.point["learning_rate"], run.point["eta"]
        loss = 0.3 if at == lowest else 0.4 + at[1] / 100 + at[0]
        is_bad = at == diverged and run.seed == 1
        record(tmp_path, run, [loss + run.seed / 10] * (3 if is_bad else 20), 20, "diverged" if is_bad else "done")
    assert cli.main(["figure", "distance", "--results", str(tmp_path)]) == 0
    axes, bar = drawn[0].axes
    alphas = [label.get_text() for label in axes.get_xticklabels()]
    etas = [label.get_text() for label in axes.get_yticklabels()]
    assert alphas == ["0.001", "0.002", "0.005", "0.01", "0.02"]
    assert etas == ["9", "5", "3", "2", "0.9", "0.5", "0"]   # from top to bottom
    cells = {(float(alphas[int(x)]), float(etas[int(y)])): text
             for text in axes.texts for x, y in [text.get_position()]}
    assert len(cells) == 35
    assert [at for at, text in cells.items() if text.get_fontweight() == "bold"] == [lowest]
    assert cells[lowest].get_text() == "0.3500"   # of 0.3 and 0.4
    assert cells[0.001, 9.0].get_text() == "0.5410"
    assert cells[diverged].get_text() == "diverged"
    assert "n = 1 to 2 a point" in axes.get_title()
    colours = axes.images[0].get_array()
    assert colours[etas.index("9"), alphas.index("0.001")] == pytest.approx(0.1)   # 55 %, at the end of the colours
    assert colours.mask[etas.index("0"), alphas.index("0.02")]
    assert colours[etas.index("5"), alphas.index("0.002")] == pytest.approx(0.001)
    assert math.isclose(bar.get_ylim()[1], 0.1)


def test_a_search_that_is_not_complete_is_drawn_as_partial_alone(tmp_path, monkeypatch, experiment, capsys):
    monkeypatch.chdir(CHECKOUT)
    run = experiment.grid_runs()[0]
    record(tmp_path, run, [0.5] * 20, 20)
    assert cli.main(["figure", "distance", "--results", str(tmp_path)]) == 1
    assert "mnist_logistic_distance: " in capsys.readouterr().err
    assert cli.main(["figure", "distance", "--results", str(tmp_path), "--partial"]) == 0
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"distance.png", "distance.svg"}


def test_where_a_run_diverged_at_each_point_nothing_is_drawn(tmp_path, monkeypatch, experiment, capsys):
    monkeypatch.chdir(CHECKOUT)
    for run in experiment.grid_runs():
        record(tmp_path, run, [], 20, "diverged")
    assert cli.main(["figure", "distance", "--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "mnist_logistic_distance: a run diverged at each point of the grid" in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("distance.*"))


@pytest.mark.parametrize("more", [{"beta2": [0.99, 0.999]}, None])
def test_a_grid_that_varies_more_is_an_error_that_names_it(tmp_path, experiment, more):
    namsg, = (method for method in experiment.methods.values() if method.grid)
    other = replace(namsg, grid={**namsg.grid, **more}) if more else replace(namsg, name="other")
    wider = replace(experiment, methods={**experiment.methods, other.name: other})
    for run in wider.grid_runs(seeds=[0]):
        record(tmp_path, run, [0.3] * 20, 20)
    grid = collect_grid(wider, tmp_path, None, None, partial=True)
    with pytest.raises(UsageError, match="mnist_logistic_distance: .* one method, and this grid has learning_rate, "):
        heat_map.draw(grid, tmp_path)


def test_a_cell_that_is_not_run_is_empty(tmp_path, monkeypatch, experiment):
    drawn = []
    monkeypatch.setattr(heat_map, "save", lambda figure, *_: drawn.append(figure) or [])
    monkeypatch.chdir(CHECKOUT)
    for run in experiment.grid_runs():
        if run.seed == 0 and (run.point["learning_rate"], run.point["eta"]) in ((0.001, 0.0), (0.002, 0.5)):
            record(tmp_path, run, [0.3] * 20, 20)
    assert cli.main(["figure", "distance", "--results", str(tmp_path), "--partial"]) == 0
    assert sorted(text.get_text() for text in drawn[0].axes[0].texts) == ["", "", "0.3000", "0.3000"]
