"""The figure of sensitivity to the step size, from made-up records: its curves, its panels, the searches it shows."""

from pathlib import Path

import pytest
from tiny_experiment import record, step_size_grid

from experiments.commands import cli
from experiments.display import sensitivity
from experiments.vocabulary import config

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def results(tmp_path):
    """A point of SGD's and one of ADAM's in the grid search of ResNet-20."""
    experiment = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    for method in ("sgd", "adam"):
        record(tmp_path, experiment.grid_runs([method])[0], [0.5] * 30, 30)
    return tmp_path


def make(monkeypatch, results, *arguments):
    monkeypatch.chdir(CHECKOUT)
    return cli.main(["figure", "sensitivity", *arguments, "--results", str(results), "--partial"])


@pytest.mark.parametrize(("chosen", "panels"), [(["--method", "sgd"], ["SGD"]), ([], ["ADAM", "SGD"])])
def test_methods_without_beta2_have_a_panel_of_their_own(monkeypatch, results, chosen, panels):
    drawn = []
    monkeypatch.setattr(sensitivity, "save", lambda figure, *_: drawn.append(figure) or [])
    path = str(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    assert make(monkeypatch, results, *chosen, "--config", path) == 0
    assert [axes.get_title() for axes in drawn[0].axes] == panels


def test_a_search_of_which_nothing_is_recorded_is_left_out(monkeypatch, results, capsys):
    assert make(monkeypatch, results) == 1
    error = capsys.readouterr().err
    assert error.startswith("experiments: mnist_cnn: ")   # the first of those that select
    assert "--partial" not in error
    configs = [str(CHECKOUT / "configs" / f"{name}.yaml") for name in ("mnist_cnn", "cifar10_resnet20")]
    assert make(monkeypatch, results, "--config", *configs) == 0
    assert {path.name for path in (results / "figures").iterdir()} == {"sensitivity.png", "sensitivity.svg"}


def test_it_draws_the_means_and_a_ring_around_the_lowest(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(sensitivity, "save", lambda figure, *_: drawn.append(figure) or [])
    sensitivity.draw([step_size_grid(tmp_path, {0.001: (0.5, 0.7), 0.005: (0.4, 0.5), 0.02: (0.7, 0.8)})], tmp_path)
    axes, = drawn[0].axes
    line, ring = (line for line in axes.lines if len(line.get_xdata()) != 2)
    assert list(line.get_xdata()) == [0.001, 0.005, 0.02]
    assert list(line.get_ydata()) == pytest.approx([0.6, 0.45, 0.75])
    bars = [bar[:, 1].tolist() for bar in axes.collections[0].get_segments()]
    assert bars == [pytest.approx([mean - std, mean + std])
                    for mean, std in ((0.6, 0.141421), (0.45, 0.070711), (0.75, 0.070711))]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([0.005], pytest.approx([0.45]))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
