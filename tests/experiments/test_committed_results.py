"""The committed tables and figures are what their commands make of the committed records."""

import re
from pathlib import Path

import matplotlib
import pytest

from experiments.claims.evidence import ORIGINAL_FORM
from experiments.commands.cli import main

RESULTS = Path(__file__).parents[2] / "results"
COMMANDS = ["table A1 --partial", "table A2 --partial", "table A3 --partial", "table configs/mnist_logistic.yaml",
            "table configs/mnist_cnn.yaml", "table configs/mnist_cnn.yaml --tuned",
            "table configs/cifar10_resnet20.yaml --partial", "table configs/mnist_logistic_distance.yaml",
            "table rounding", "figure 2", *(pytest.param(command, marks=pytest.mark.slow) for command in (
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
    read = Path(ORIGINAL_FORM.folder, ORIGINAL_FORM.name)   # by the claims that a figure counts
    (tmp_path / read).parent.mkdir()
    (tmp_path / read).symlink_to(RESULTS / read)
    assert main([*command.split(), "--results", str(tmp_path)]) == 0
    made = [path for kind in ("tables", "figures") for path in (tmp_path / kind).glob("*")]
    assert made
    for path in made:
        assert path.read_bytes() == (RESULTS / path.relative_to(tmp_path)).read_bytes(), path.name
