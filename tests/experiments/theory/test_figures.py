"""The figures of theory through the command line."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.commands.cli import main
from experiments.theory import figures

CHECKOUT = Path(__file__).parents[3]


def test_figure_1_is_drawn_without_any_record(tmp_path, capsys):
    assert main(["figure", "1", "--results", str(tmp_path)]) == 0
    files = [tmp_path / "figures" / f"figure1.{kind}" for kind in ("png", "svg")]
    assert [f"written: {file}" for file in files] == capsys.readouterr().out.splitlines()
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in files[1].read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_figure_of_theory_and_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "NOISE", np.array([0.1, 10.0]))
    monkeypatch.setattr(figures, "ROUNDS", 100)
    assert main(["figure", "theory", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[8] == "[9/9] growth of (11)" and lines[11] == "[3/3] regret and its bounds"
    assert (tmp_path / "figures" / "theory.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "figures" / "theory_growth.csv", newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 9 * 3 * 2
    point, = (row for row in rows if (row["tau"], row["eta"], row["noise"]) == (-0.0005, 3.0, 10.0))
    assert point["psi"] == pytest.approx(-0.00064, abs=1e-5)
    assert point["growth"] == pytest.approx(0.00371, abs=5 * point["standard_error"])
    zero, = (row for row in rows if (row["tau"], row["eta"], row["noise"]) == (-0.0005, 0.0, 10.0))
    assert point["difference"] == pytest.approx(point["growth"] - zero["growth"], rel=0.01)
    assert 0 < point["difference_error"] < point["standard_error"] / 10
    assert zero["difference"] == 0
    regret = pd.read_csv(tmp_path / "figures" / "theory_regret.csv")
    assert regret.groupby(["problem", "method"])["T"].agg(["min", "max"]).value_counts().to_dict() == {
        (10, 100): 4, (1, 1): 2}
    committed = pd.read_csv(CHECKOUT / "results" / "figures" / "theory_regret.csv")
    one_step = "one step from corner to corner"
    pd.testing.assert_frame_equal(*(table[table["problem"] == one_step].reset_index(drop=True)
                                    for table in (regret, committed)), rtol=1e-5)
    examples = pd.read_csv(tmp_path / "figures" / "theory_counterexamples.csv")
    assert examples.groupby("method")["t"].agg(list).map(tuple).unique().tolist() == [(50, 100, 150, 200, 250, 300)]
    committed = pd.read_csv(CHECKOUT / "results" / "figures" / "theory_counterexamples.csv")
    both = examples.merge(committed, on=["method", "t"], suffixes=("", "_committed"))
    assert len(both) == len(examples)
    np.testing.assert_allclose(both["deterministic"], both["deterministic_committed"], rtol=1e-5)
