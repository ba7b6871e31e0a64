"""Kinds of rules by which claims are decided on records. Each says its quantity and its rule in words, and judges."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Callable, NamedTuple, Sequence

import numpy as np
import pandas as pd

from experiments import paper
from experiments.comparison import FAILS, HOLDS, NOT_RUN, TOO_FEW, Interval, above, all_of, below, interval, within
from experiments.evidence import Evidence
from experiments.results import LABELS

MEASURES = {"train_loss": "running train loss", "test_loss": "test loss", "test_accuracy": "test accuracy",
            "best_test_accuracy": "best test accuracy", "overfitting": "test loss less train loss"}
RELATIVE = ("train_loss", "test_loss")   # compared by their ratio, as the figures' logarithmic axes do
RELATIONS = {"below": below, "above": above, "within": within}


class Judgement(NamedTuple):
    """A verdict, the finding in a sentence with its numbers, the runs (pairs, cells) behind it, and all the numbers."""

    verdict: str
    finding: str
    n: int
    numbers: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """A measure of some methods beside that of others, over common seeds.

    ``epochs`` are the first and the last of a stretch over which each run's mean is taken (of 'best_test_accuracy' its
    maximum). Without ``others`` each method is compared with itself, over ``against_epochs``. ``relation`` is 'below',
    'above' or 'within', of ``limit``: a difference, or a relative one for losses. Every pair must hold.
    """

    experiment: str
    methods: Sequence[str]
    others: Sequence[str] | None
    measure: str
    epochs: tuple[int, int]
    relation: str = "below"
    limit: float = 0.0
    against_epochs: tuple[int, int] | None = None
    tuned: bool = False

    @property
    def quantity(self) -> str:
        against = f"against that of {_listed(self.others)}" if self.others else f"against that of {self._against}"
        relative = ", relative difference" if self.measure in RELATIVE else ", difference"
        values = ", values of our grid search" if self.tuned else ""
        return (f"{MEASURES[self.measure]} of {_listed(self.methods)}, {_stretch(self.epochs)}, {against}; paired by "
                f"seed{relative}{values}")

    @property
    def _against(self) -> str:
        return _stretch(self.against_epochs or self.epochs)

    @property
    def rule(self) -> str:
        limit = f"{self.limit:+.0%}" if self.measure in RELATIVE else f"{self.limit:+g}"
        limit = limit.lstrip("+") if self.limit == 0 or self.relation == "within" else limit
        where = f"within ±{limit}" if self.relation == "within" else f"{self.relation} {limit}"
        return f"each 95 % t interval of the mean lies {where}"

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment, self.tuned)
        rows, verdicts = [], []
        pairs = itertools.product(self.methods, self.others) if self.others else zip(self.methods, self.methods)
        for method, other in pairs:
            pair = pd.concat([by_seed(curves, method, self.measure, self.epochs),
                              by_seed(curves, other, self.measure, self.against_epochs or self.epochs)],
                             axis=1, join="inner", keys=["value", "against"])
            found = self._difference(pair)
            verdicts.append(RELATIONS[self.relation](found, self._limit))
            ends = [math.expm1(x) if self.measure in RELATIVE else x for x in found[1:]]
            rows.append({"method": LABELS[method], "against": LABELS[other] if self.others else self._against,
                         "n": found.n, "value": pair["value"].mean(), "other": pair["against"].mean(),
                         **dict(zip(("difference", "low", "high"), ends)), "verdict": verdicts[-1]})
        numbers = pd.DataFrame(rows)
        return Judgement(all_of(verdicts), _sentences(rows, self.measure in RELATIVE), int(numbers["n"].min()), numbers)

    @property
    def _limit(self) -> float:
        return math.log1p(self.limit) if self.measure in RELATIVE else self.limit

    def _difference(self, pair: pd.DataFrame) -> Interval:
        if self.measure in RELATIVE:
            return interval(np.log(pair["value"] / pair["against"]))
        return interval(pair["value"] - pair["against"])


@dataclass(frozen=True)
class Level:
    """A method's measure beside a number, by the interval of its mean over the seeds."""

    experiment: str
    method: str
    measure: str
    epochs: tuple[int, int]
    relation: str
    level: float
    limit: float = 0.0

    @property
    def quantity(self) -> str:
        return f"{MEASURES[self.measure]} of {LABELS[self.method]}, {_stretch(self.epochs)}, less {self.level:g}"

    @property
    def rule(self) -> str:
        where = f"within ±{self.limit:g}" if self.relation == "within" else f"{self.relation} {self.limit:g}"
        return f"the 95 % t interval of the mean lies {where}"

    def judge(self, evidence: Evidence) -> Judgement:
        values = by_seed(evidence.curves(self.experiment), self.method, self.measure, self.epochs)
        found = interval(values - self.level)
        row = {"method": LABELS[self.method], "against": f"{self.level:g}", "n": found.n, "value": values.mean(),
               "other": self.level, "difference": found.mean, "low": found.low, "high": found.high}
        return Judgement(RELATIONS[self.relation](found, self.limit), _sentences([row], False), found.n,
                         pd.DataFrame([row]))


@dataclass(frozen=True)
class EpochsToTarget:
    """How soon a method has the train loss that others have at some epoch, as a share of that epoch.

    The target is the other method's running train loss at ``epoch`` in the run with the same seed. A run that does not
    reach it by then counts as needing one epoch more, the least that it can need.
    """

    experiment: str
    method: str
    others: Sequence[str]
    epoch: int
    share: float

    @property
    def quantity(self) -> str:
        return (f"first epoch in which {LABELS[self.method]}'s running train loss is at most that of "
                f"{_listed(self.others)} in epoch {self.epoch} (same seed), divided by {self.epoch}")

    @property
    def rule(self) -> str:
        return f"each 95 % t interval of the mean lies below {self.share:g}"

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment)
        rows, verdicts = [], []
        for other in self.others:
            targets = by_seed(curves, other, "train_loss", (self.epoch, self.epoch))
            runs = curves[(curves["method"] == self.method) & (curves["epoch"] <= self.epoch)]
            needed = [self._needed(run, targets[seed]) for seed, run in runs.groupby("seed") if seed in targets.index]
            found = interval(np.array(needed) / self.epoch)
            verdicts.append(below(found, self.share))
            rows.append({"method": LABELS[self.method], "target": f"{LABELS[other]}'s, epoch {self.epoch}",
                         "n": found.n, "train loss": targets.mean(),
                         "epochs": float(np.mean(needed)) if needed else math.nan,
                         "share": found.mean, "low": found.low, "high": found.high, "verdict": verdicts[-1]})
        finding = "; ".join(
            f"{row['epochs']:.1f} epochs for {row['target']} ({row['train loss']:.4f}): {row['share']:.2f} of them"
            f"{_range(row['low'], row['high'], '.2f')}, n = {row['n']}" for row in rows if row["n"])
        numbers = pd.DataFrame(rows)
        return Judgement(all_of(verdicts), finding, int(numbers["n"].min()), numbers)

    def _needed(self, run: pd.DataFrame, target: float) -> int:
        reached = run[run["train_loss"] <= target]["epoch"]
        return int(reached.min()) if len(reached) else self.epoch + 1


@dataclass(frozen=True)
class GridCells:
    """In how many cells of Table A2 a method has a lower train loss than another, ours and the paper's."""

    method: str
    other: str
    at_least: int

    @property
    def quantity(self) -> str:
        return (f"cells of Table A2 (α × β2) in which {LABELS[self.method]}'s mean running train loss at the 30th "
                f"epoch is lower than {LABELS[self.other]}'s")

    @property
    def rule(self) -> str:
        return f"at least {self.at_least} of the {len(paper.TABLE_A2['namsg'])} cells, whatever those yet to run bring"

    def judge(self, evidence: Evidence) -> Judgement:
        means = evidence.grid("cifar10_resnet20").set_index(["method", "learning_rate", "beta2"])
        others_printed = paper.TABLE_A2[paper.printed_name(self.other)]
        rows = []
        for (alpha, beta2), printed in paper.TABLE_A2[self.method].items():
            keys = [(name, alpha, beta2) for name in (self.method, self.other)]
            if all(key in means.index for key in keys):
                (ours, n), (others, others_n) = (means.loc[key, ["mean", "n"]] for key in keys)
                rows.append({"α": alpha, "β2": beta2, "n": int(min(n, others_n)), LABELS[self.method]: ours,
                             LABELS[self.other]: others, "lower": bool(ours < others),
                             "lower in the paper": printed < others_printed[alpha, beta2]})
        cells, lower = len(paper.TABLE_A2[self.method]), sum(row["lower"] for row in rows)
        if lower >= self.at_least:
            verdict = HOLDS
        elif lower + cells - len(rows) < self.at_least:
            verdict = FAILS
        else:
            verdict = TOO_FEW if rows else NOT_RUN
        published = sum(paper.TABLE_A2[self.method][at] < loss for at, loss in others_printed.items())
        finding = f"lower in {lower} of the {len(rows)} cells run here; in {published} of {cells} of the paper's table"
        return Judgement(verdict, finding, len(rows), pd.DataFrame(rows))


@dataclass(frozen=True)
class BestOfGrid:
    """How far the paper's hyper-parameters are from the best of our grid search, in train loss."""

    experiment: str
    methods: Sequence[str]
    limit: float

    @property
    def quantity(self) -> str:
        return (f"mean running train loss at the end of our grid search at Table A1's values, over the lowest in the "
                f"grid, of {_listed(self.methods)}")

    @property
    def rule(self) -> str:
        return f"at most {self.limit:.0%} above the lowest, for each method"

    def judge(self, evidence: Evidence) -> Judgement:
        grid = evidence.grid(self.experiment)
        rows = []
        for method in self.methods:
            of_method = grid[grid["method"] == method]
            chosen = evidence.experiment(self.experiment).methods[method]
            if len(of_method) < len(chosen.points()):
                return Judgement(NOT_RUN, "", 0, pd.DataFrame())
            best = of_method.loc[of_method["mean"].idxmin()]
            papers = of_method
            for name in chosen.grid:
                papers = papers[papers[name] == chosen.parameters[name]]
            loss = papers["mean"].iloc[0]
            rows.append({"method": LABELS[method], "n": int(papers["n"].iloc[0]), "at the paper's": loss,
                         "lowest": best["mean"], "at α": best["learning_rate"], "at β2": best["beta2"],
                         "excess": loss / best["mean"] - 1})
        numbers = pd.DataFrame(rows)
        finding = "; ".join(f"{row['method']} {row['excess']:+.1%}" for row in rows) + " above the lowest"
        return Judgement(HOLDS if (numbers["excess"] <= self.limit).all() else FAILS, finding,
                         int(numbers["n"].min()), numbers)


@dataclass(frozen=True)
class Computed:
    """A rule on what is computed rather than trained, in words, and the function that judges by it."""

    quantity: str
    rule: str
    judge: Callable[[Evidence], Judgement]


class Claim(NamedTuple):
    """A sentence, where it stands, how it is decided, and the commands that make its records.

    In ``sentence`` the paper's words stand as they are, and ours in brackets. ``part`` is what it is about: a key of
    `experiments.claims.PARTS`.
    """

    name: str
    part: str
    where: str
    sentence: str
    criterion: Comparison | Level | EpochsToTarget | GridCells | BestOfGrid | Computed
    commands: Sequence[str]


def by_seed(curves: pd.DataFrame, method: str, measure: str, epochs: tuple[int, int]) -> pd.Series:
    """Each run's mean of the measure over a stretch of epochs, its maximum of 'best_test_accuracy'; by seed."""
    rows = curves[(curves["method"] == method) & curves["epoch"].between(*epochs)]
    if measure == "best_test_accuracy":
        return rows.groupby("seed")["test_accuracy"].max()
    return rows.groupby("seed")[measure].mean()


def _sentences(rows: Sequence[dict], relative: bool) -> str:
    def one(row):
        change = f"{row['difference']:+.1%}" if relative else f"{row['difference']:+.4f}"
        ends = _range(row["low"], row["high"], "+.1%" if relative else "+.4f")
        return (f"{row['method']} {row['value']:.4f}, {row['against']} {row['other']:.4f}: {change}{ends}, "
                f"n = {row['n']}")
    return "; ".join(one(row) for row in rows if row["n"])


def _range(low: float, high: float, form: str) -> str:
    return f" ({low:{form}} to {high:{form}})" if math.isfinite(high) else ""


def _stretch(epochs: tuple[int, int]) -> str:
    first, last = epochs
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _listed(methods: Sequence[str]) -> str:
    *most, last = (LABELS[method] for method in methods)
    return f"{', '.join(most)} and {last}" if most else last
