"""Judges the paper's sentences by the records, each by itself and all together."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Sequence

from experiments.analysis.results import with_results
from experiments.claims.claim import Claim, Judgement
from experiments.claims.decisions import ERROR, NOT_RUN, TOO_FEW
from experiments.claims.evidence import Evidence
from experiments.claims.parts import PARTS


class Verdict(NamedTuple):
    """A claim, and its judgement by the records."""

    claim: Claim
    judgement: Judgement


def judge(evidence: Evidence, claims: Sequence[Claim]) -> list[Verdict]:
    """The verdicts on these claims."""
    return [Verdict(claim, claim.rule.judge(evidence)) for claim in claims]


def describe(verdict: Verdict) -> str:
    """A verdict as lines to read."""
    claim, judgement = verdict
    p = f" (one-sided p-value {judgement.p:.2g})" if is_decided(judgement) else ""
    return (f"{judgement.verdict.upper()}{p}  {PARTS[claim.part]}, {claim.where} ({claim.name}): {claim.sentence}\n"
            f"  of: {claim.rule.quantity}\n  holds if: {claim.rule.holds_if}\n"
            f"  found: {judgement.found}")


def as_json(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    """A verdict on this evidence, as a dict for JSON; numbers that are not finite become None."""
    claim, judgement = verdict
    return {"name": claim.name, "part": claim.part, "where": claim.where, "sentence": claim.sentence,
            "quantity": claim.rule.quantity, "rule": claim.rule.holds_if, "verdict": judgement.verdict,
            "p": judgement.p, "finding": judgement.finding, "n": judgement.n,
            "commands": [with_results(command, evidence.folder) for command in claim.rule.commands(evidence)],
            "made": judgement.made,
            "numbers": [{name: None if isinstance(value, float) and not math.isfinite(value) else value
                         for name, value in row.items()} for row in judgement.numbers.to_dict("records")]}


def by_bonferroni(judgements: Sequence[Judgement]) -> list[str]:
    """For each judgement, the verdict that stands if any of those by intervals may be wrong once in forty times.

    It stands if its p-value times the number of claims is at most 1/40 (Bonferroni), however the claims depend on each
    other. Holm's procedure multiplies by less after the first verdict, and would err more often: any claim may be
    decided wrongly, those that hold and those that do not, so the first verdict leaves no fewer to err in.

    Empty for claims that no interval decides. Claims that are not decided yet count, too: later runs may add verdicts,
    but not take one away.
    """
    claims = sum(judgement.p is not None for judgement in judgements)
    return ["" if judgement.p is None else judgement.verdict if not is_decided(judgement)
            or claims * judgement.p <= ERROR else TOO_FEW for judgement in judgements]


def together(judgements: Sequence[Judgement]) -> str:
    """How far all the verdicts that intervals decide can be believed together, in words.

    Comparisons that decide nothing count, too: those that happen to decide are no fair sample.
    """
    decided, made = sum(map(is_decided, judgements)), sum(judgement.made for judgement in judgements)
    return (f"{decided} verdicts are by intervals. {made} comparisons have all their runs, and each errs once in forty "
            f"times at most: at most {ERROR * made:.1f} wrong verdicts are to be expected.")


def is_decided(judgement: Judgement) -> bool:
    """Whether an interval decides the claim."""
    return judgement.p is not None and judgement.verdict not in (TOO_FEW, NOT_RUN)
