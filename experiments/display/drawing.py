"""What figures share: their style, axes labelled with plain numbers, and how they are written to files.

Equal figures give equal files with equal versions of matplotlib.
"""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from experiments.vocabulary.files import make_folder, write_atomically

POSITION = 6   # decimals of a position, as a share of the figure's size: a thousandth of a pixel
STYLE = {"font.size": 10, "svg.hashsalt": "namsg-mx", "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
         "axes.spines.right": False}


def save(figure: Figure, name: str, folder: Path) -> list[Path]:
    """Write ``name``.png and ``name``.svg into the folder and return their paths."""
    _fix_layout(figure)
    make_folder(folder)
    paths = []
    for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, **options)
        paths.append(folder / f"{name}.{kind}")
        write_atomically(paths[-1], content.getvalue())
    return paths


def _fix_layout(figure: Figure) -> None:
    """Lay the figure out for good, without the last bits of the positions.

    The solver of the constrained layout does not always give the same last bit, and SVG's names of clip paths hash all
    bits.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(POSITION))
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position().get_points().round(POSITION)))


def label_plainly(axes) -> None:
    """Label an axis 0.3 instead of 3 x 10^-1, with ticks also on an axis shorter than a decade."""
    low, high = axes.get_ylim()
    steps = (1, 2, 3, 5) if high < 30 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps) if high > 3 * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
