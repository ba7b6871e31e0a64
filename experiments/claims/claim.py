"""A claim of the paper, the rule that decides it, and its judgement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol, Sequence

import pandas as pd

from experiments.claims.decisions import NOT_RUN
from experiments.claims.evidence import Evidence


class Judgement(NamedTuple):
    """A verdict, the finding as a sentence with numbers, n, all the numbers, the p-value, and the comparisons made.

    ``n``: the number of runs behind each mean, the smallest over methods, pairs or cells; for computed quantities,
    their points or rounds. ``p``, ``made``: as in `experiments.claims.decisions.Decision`; None and 0 if no t interval
    decides.
    """

    verdict: str
    finding: str
    n: int
    numbers: pd.DataFrame
    p: float | None = None
    made: int = 0

    @property
    def found(self) -> str:
        """The finding, or that there is none yet."""
        return self.finding or "nothing recorded yet"


NOTHING = Judgement(NOT_RUN, "", 0, pd.DataFrame())   # where no interval will decide


class Rule(Protocol):
    """What is measured, when the claim holds, both in words; the commands that make what is judged, and the judge."""

    @property
    def quantity(self) -> str: ...

    @property
    def holds_if(self) -> str: ...

    def commands(self, evidence: Evidence, /) -> Sequence[str]: ...

    def judge(self, evidence: Evidence, /) -> Judgement: ...


@dataclass(frozen=True)
class Computed:
    """A rule on something computed rather than trained: its words, and the function that judges."""

    quantity: str
    holds_if: str
    judge: Callable[[Evidence], Judgement]
    made_by: Sequence[str] = ()   # commands

    def commands(self, _: Evidence) -> Sequence[str]:
        return self.made_by


class Claim(NamedTuple):
    """A sentence of the paper, where it stands there, and the rule that decides it.

    ``sentence`` quotes the paper, with our words in brackets and '...' for what is left out. ``part``: its subject, a
    key of `experiments.claims.parts.PARTS`.
    """

    name: str
    part: str
    where: str
    sentence: str
    rule: Rule
