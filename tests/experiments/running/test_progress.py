"""How far a sweep is: epochs that are made again, or that nobody makes, leave no time that is negative or too long."""

from types import SimpleNamespace

import pytest

from experiments.running.progress import Progress, duration

A, B = (SimpleNamespace(folder=name, name=f"{name} seed 0") for name in "ab")


@pytest.mark.parametrize("recorded", [0, 1, 2, 5])
def test_no_time_is_left_when_all_epochs_are_made(capsys, recorded):
    """Whatever was recorded: rows past the checkpoint are made again, and there may be more of them than are asked for.
    """
    with Progress({"a": recorded, "b": 0}, 3) as progress:
        for epoch in (1, 2, 3):
            progress.epoch(B, epoch)
        progress.ended(B, "done", "")
        for epoch in range(max(1, min(recorded, 3)), 4):
            progress.epoch(A, epoch)
        progress.ended(A, "done", "")
    first, last = capsys.readouterr().out.splitlines()
    assert (" left" in first) == (recorded < 3) and "-" not in first
    assert last == "[2/2] a seed 0: done"


def test_what_nobody_makes_takes_no_time(capsys):
    with Progress({"a": 0, "b": 1}, 3) as progress:
        progress.epoch(A, 1)
        progress.ended(A, "diverged", "")
        progress.ended(B, "busy", "another process is making it")
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith(" left")
    assert last == "[2/2] b seed 0: busy: another process is making it"


def test_what_a_cluster_tells_late_takes_no_time_off(capsys):
    """Runs that have ended have no epochs left, so late messages must not count."""
    with Progress({"a": 0, "b": 0}, 9) as progress:
        for epoch in range(1, 9):
            progress.epoch(B, epoch)
        progress.ended(A, "diverged", "")
        for epoch in range(1, 9):
            progress.epoch(A, epoch)
        progress.epoch(B, 9)
        progress.ended(B, "done", "")
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith(" left") and "-" not in first
    assert last == "[2/2] b seed 0: done"


@pytest.mark.parametrize(("seconds", "lines"), [(-1, ["[0/1] a seed 0: epoch 2 of 3", "[0/1] a seed 0: epoch 3 of 3"]),
                                                (1e9, [])], ids=["long ago", "just now"])
def test_where_the_last_line_is_long_ago_an_epoch_is_told(capsys, monkeypatch, seconds, lines):
    monkeypatch.setattr("experiments.running.progress.SECONDS_BETWEEN_LINES", seconds)
    with Progress({"a": 1}, 3) as progress:
        for epoch in (2, 3):
            progress.epoch(A, epoch)
    assert [line.partition(";")[0] for line in capsys.readouterr().out.splitlines()] == lines


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (6000, "1.7 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
