"""The committed tables and figures are what their commands make of the committed records."""

import re
from pathlib import Path

import matplotlib
import pytest

from experiments.claims.evidence import ORIGINAL_FORM, THEORY_COUNTEREXAMPLES, THEORY_GROWTH, THEORY_REGRET
from experiments.commands.cli import main

RESULTS = Path(__file__).parents[2] / "results"
COMMANDS = ["table A1 --partial", "table A2 --partial", "table A3 --partial", "table configs/mnist_logistic.yaml",
            "table configs/mnist_cnn.yaml", "table configs/mnist_cnn.yaml --tuned",
            "table configs/cifar10_resnet20.yaml --partial", "table configs/mnist_logistic_distance.yaml",
            "table configs/mnist_cnn_distance.yaml",
            "table rounding", "claims", "figure 2", *(pytest.param(command, marks=pytest.mark.slow) for command in (
                "figure 3 --partial", "figure sensitivity", "figure distance",
                "figure configs/mnist_cnn.yaml --tuned"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_changes_nothing_when_nothing_has_changed(tmp_path, monkeypatch, command):
    drawn_by = re.search(r"Matplotlib v([\d.]+)", (RESULTS / "figures" / "figure2.svg").read_text(encoding="utf-8"))[1]
    if command.startswith("figure") and drawn_by != matplotlib.__version__:
        pytest.skip(f"the committed figures are drawn by matplotlib {drawn_by}")
    monkeypatch.chdir(RESULTS.parent)
    for folder in RESULTS.iterdir():
        if folder.is_dir() and folder.name not in ("figures", "tables"):
            (tmp_path / folder.name).symlink_to(folder)
    for file in (ORIGINAL_FORM, THEORY_COUNTEREXAMPLES, THEORY_GROWTH, THEORY_REGRET):   # which claims read
        read = tmp_path / file.folder / file.name
        read.parent.mkdir(exist_ok=True)
        read.symlink_to(RESULTS / file.folder / file.name)
    assert main([*command.split(), "--results", str(tmp_path)]) == 0
    made = [path for kind in ("tables", "figures") for path in (tmp_path / kind).glob("*")]
    assert made
    for path in made:
        assert path.read_bytes() == (RESULTS / path.relative_to(tmp_path)).read_bytes(), path.name
