"""Figures as files: equal figures give equal bytes, and a file is replaced whole or left."""

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from tiny_experiment import small_disk

from experiments.display import drawing


def save(name, folder):
    """Save a figure of two rows, each with a clipped line and an inset, and return the bytes of its files."""
    with rc_context(drawing.STYLE):
        figure = Figure(figsize=(5, 4), layout="constrained")
        for part in figure.subfigures(2, 1):
            part.suptitle("a row")
            axes = part.subplots()
            axes.plot([1, 2, 3], [0.6, 0.5, 0.4])
            axes.inset_axes((0.4, 0.1, 0.58, 0.5)).plot([2, 3], [0.5, 0.4])
        return [path.read_bytes() for path in drawing.save(figure, name, folder)]


def test_a_last_bit_of_the_layout_changes_no_byte(tmp_path, monkeypatch):
    """The layout's solver does not always give the same one."""
    before = save("before", tmp_path)
    lay_out = ConstrainedLayoutEngine.execute

    def nudge(engine, figure):
        lay_out(engine, figure)
        for part in figure.subfigs:
            part.bbox_relative.set_points(np.nextafter(part.bbox_relative.get_points(), 1))
        for axes in figure.axes:
            axes._set_position(np.nextafter(axes.get_position().bounds, 1))

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", nudge)
    assert save("after", tmp_path) == before


def test_a_figure_is_replaced_whole_or_left(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        before = {path: path.read_bytes() for path in drawing.save(Figure(figsize=(1, 1)), "name", disk)}
        large = Figure(figsize=(8, 6))
        large.figimage(np.random.RandomState(0).rand(600, 800))
        with pytest.raises(OSError, match="No space left on device") as raised:
            drawing.save(large, "name", disk)
        assert raised.value.filename == str(disk / "name.png")
        assert {path: path.read_bytes() for path in disk.iterdir()} == before
