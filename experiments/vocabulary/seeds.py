"""Lists of seeds as text: '0-9' in a configuration or after --seeds."""

from __future__ import annotations

import itertools
import re
from typing import Sequence

from experiments.vocabulary.errors import quoted

SEEDS = 2**32   # NumPy takes seeds below this
MOST_SEEDS = 10_000   # in one list


def parse_seeds(text: str) -> list[int]:
    """'3' -> [3], '0,2,5-7' -> [0, 2, 5, 6, 7]: in increasing order, each seed once.

    ValueError for another form, for a seed of 2^32 or more, or for more than 10,000 seeds.
    """
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch("(0|[1-9][0-9]{0,18})(?:-(0|[1-9][0-9]{0,18}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ValueError(f"{quoted(text)} is not a seed (3), a range (0-9) or a list of them (0,2,5-7)")
        if last >= SEEDS:
            raise ValueError(f"{quoted(text)} has a seed of 2^32 or more, which NumPy does not take")
        seeds.update(range(first, min(last, first + MOST_SEEDS) + 1))
        if len(seeds) > MOST_SEEDS:
            raise ValueError(f"{quoted(text)} is more than {MOST_SEEDS} seeds")
    return sorted(seeds)


def seed_range(seeds: Sequence[int]) -> str:
    """[0, 2, 5, 6, 7] -> '0,2,5-7': the inverse of `parse_seeds`."""
    ranges = [[seed for _, seed in group]
              for _, group in itertools.groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{each[0]}-{each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges)
