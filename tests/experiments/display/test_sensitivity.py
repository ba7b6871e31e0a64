"""The figure of sensitivity to the step size, from made-up records: which searches it shows, and which panels."""

from pathlib import Path

import pytest
from tiny_experiment import record

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
