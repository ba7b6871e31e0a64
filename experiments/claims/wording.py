"""The words of rules and findings: which runs count, how many diverged, what rounding alone moves."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

import pandas as pd

from experiments.analysis.intervals import relative
from experiments.analysis.measures import MEASURES
from experiments.analysis.rounding import MadeTwice, change, size
from experiments.vocabulary.methods import LABELS

# A test after each new seed, until the first interval that decides, would be wrong far more often than 5 %.
WHEN = "decided when all the configuration's seeds are run, or no run to come can change it"


def unless_diverged(decisive: Sequence[str], left_out: Sequence[str] = (), part: str = "") -> str:
    """What a rule says of runs that diverged, and when it decides; ``part``: what it says between the two.

    ``decisive``: the methods of which a run that diverged decides; ``left_out``: those of which they are left out.
    """
    out = f"; runs of {listed(left_out)} that diverged are left out" if left_out else ""
    if not decisive:
        return f"{out}{part}; {WHEN}"
    return f", and no run of {listed(decisive, 'or')} diverged{out}{part}; {WHEN}"


def finding_on_pair(row: Mapping[str, Any], diverged: Mapping[str, int], by_ratio: bool) -> str:
    """The finding on one pair of methods; '' if nothing of it is recorded."""
    if not row["n"]:
        return f"{row['method']}, {row['against']}{how_many_diverged(diverged)}" if row["diverged"] else ""
    form = "+.1%" if by_ratio else "+.4f"
    has_ratio = not math.isnan(row["difference"])   # else one of the losses is 0
    difference = f"{row['difference']:{form}}" if has_ratio else "no ratio"
    return (f"{row['method']} {row['value']:.4g}, {row['against']} {row['other']:.4g}: {difference}"
            f"{bracketed(row['low'], row['high'], form)}, n = {row['n']}{how_many_diverged(diverged)}")


def what_rounding_moves(twice: MadeTwice, measure: str, epochs: tuple[int, int],
                        against: tuple[int, int] | None = None) -> str:
    """How much rounding alone moves a measure, as in `change`; empty if no run of the experiment was made twice."""
    return moved({method: change(twice, method, measure, epochs, against) for method in twice.methods},
                 MEASURES[measure].by_ratio)


def moved(changes: Mapping[str, pd.Series], by_ratio: bool) -> str:
    """The same of ``changes``, by method one for each run that was made twice."""
    by_method = ", ".join(f"{LABELS[method]} by " + (f"{relative(size(of)):.1%}" if by_ratio else f"{size(of):.4f}")
                          + f" (n = {len(of)})" for method, of in changes.items())
    return f"; rounding alone moves {by_method}" if by_method else ""


def how_many_diverged(counts: Mapping[str, int]) -> str:
    """', 2 of ADAM's diverged', by method's name how many did."""
    whose = [f"{count} of {LABELS[method]}'s" for method, count in counts.items() if count]
    return f", {' and '.join(whose)} diverged" if whose else ""


def bracketed(low: float, high: float, form: str) -> str:
    """' (0.1 to 0.2)'; empty for an interval of one run, which has no ends."""
    return f" ({low:{form}} to {high:{form}})" if math.isfinite(high) else ""


def stretch(epochs: tuple[int, int]) -> str:
    first, last = epochs
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def listed(methods: Sequence[str], word: str = "and") -> str:
    *most, last = (LABELS[method] for method in methods)
    return f"{', '.join(most)} {word} {last}" if most else last
