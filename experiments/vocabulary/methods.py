"""The methods' labels, colours and dashes in figures and tables, and the groups that the paper shows together."""

from __future__ import annotations

import colorsys
from itertools import cycle
from typing import Iterable, Mapping

FIVE = ("sgd", "adam", "nadam", "amsgrad", "namsg")
STRATEGY_METHODS = ("sgd", "adam", "namsg", "namsg1", "swnts", "swnts1")
BOUNDED_METHODS = ("namsb1", "namsb2", "amsb1", "amsb2")
METHOD_OF = {"adam": "adam", "dozatnadam": "nadam", "amsgrad": "amsgrad", "namsg": "namsg"}   # by optimizer's name
HYPERPARAMETERS = {"learning_rate": "α", "beta1": "β1", "beta2": "β2"}


class _Labels(dict):
    """Any other method is labelled by its own name, in quotes if a method here has that label.

    Also if it begins with an underscore, as older versions of matplotlib leave such labels out of legends.
    """

    def __missing__(self, method: str) -> str:
        return f"'{method}'" if method in self.values() or method.startswith("_") else method


LABELS = _Labels({
    "sgd": "SGD", "sgd_mxnet": "SGD (α as MXNet's)", "adam": "ADAM", "nadam": "NADAM", "nadam_mxnet": "NADAM (MXNet)",
    "amsgrad": "AMSGRAD", "namsg": "NAMSG", "namsg_2019": "NAMSG (Sept 2019)",
    "namsg_decreasing_alpha": "NAMSG (α/√t)", "namsg_theorem1": "NAMSG (Theorem 1)", "namsg1": "NAMSG1",
    "swnts": "SWNTS", "swnts1": "SWNTS1", "namsb1": "NAMSB1", "namsb2": "NAMSB2", "amsb1": "AMSB1", "amsb2": "AMSB2",
    "adam_lower": "ADAM (α/10 at the end)", "nadam_lower": "NADAM (α/10 at the end)",
    "nadam_mxnet_lower": "NADAM (MXNet, α/10 at the end)", "sgd_lower": "SGD (α/10 at the end)",
    "amsgrad_lower": "AMSGRAD (α/10 at the end)", "namsg_lower": "NAMSG (α/10 at the end)",
    **{f"eta_{eta}": f"η = {eta}" for eta in ("0", "0.5", "0.9", "2", "3", "5", "9")},
    **{f"eta_0.9_to_{end}": f"η = 0.9 → {end}" for end in (2, 3, 5)}})
# Mostly Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {"sgd": "#000000", "sgd_mxnet": "#999999", "adam": "#E69F00", "nadam": "#56B4E9", "nadam_mxnet": "#CC79A7",
           "amsgrad": "#009E73", "namsg": "#D55E00", "namsg_2019": "#7F3C8D", "namsg_decreasing_alpha": "#882255",
           "namsg_theorem1": "#117733", "namsg1": "#882255", "swnts": "#0072B2", "swnts1": "#0072B2",
           "namsb1": "#D55E00", "namsb2": "#882255", "amsb1": "#009E73", "amsb2": "#0072B2"}
DASHES = {"sgd_mxnet": "--", "nadam_mxnet": "--", "namsg1": "--", "swnts1": "--", "namsb2": "--", "amsb2": "--",
          "namsg_2019": ":", "namsg_decreasing_alpha": "-.", "namsg_theorem1": ":"}   # for print in grey
# For charts on a white or a black page.
ON_ANY_GROUND = {**COLOURS, "sgd": "#808080", "sgd_mxnet": "#B8A038", "namsg1": "#C44E9B", "namsb2": "#C44E9B",
                 "swnts": "#3D8FD1", "amsb2": "#3D8FD1", "swnts1": "#3FA34D", "namsg_2019": "#A070D0",
                 "namsg_decreasing_alpha": "#C44E9B", "namsg_theorem1": "#3FA34D"}


def dashes(betas: Iterable[float]) -> dict[float, str]:
    """The dashes of each beta2, where a line is of a method and a beta2; NaN, of a method without one, has none."""
    values = sorted({beta2 for beta2 in betas if beta2 == beta2})
    return dict(zip(values, cycle(("-", "--", ":", "-."))))


def colours(methods: Iterable[str], known: Mapping[str, str] = COLOURS) -> dict[str, str]:
    """The ``known`` colours, and a new one for each other method, by its place among them.

    New hues step by the golden ratio, so each of five is far from the others; the next five are darker.
    """
    others = [method for method in dict.fromkeys(methods) if method not in known]
    rgb = (colorsys.hls_to_rgb((0.75 + i * 0.6180339887) % 1, (0.5, 0.3)[i // 5 % 2], 0.65) for i in range(len(others)))
    return {**known, **{method: "#" + "".join(f"{round(255 * part):02X}" for part in parts)
                        for method, parts in zip(others, rgb)}}
