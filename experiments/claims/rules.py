"""The rules that decide claims on runs; each describes its quantity and when it holds in words, and judges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import pandas as pd

from experiments.analysis.epochs_to_loss import epochs_to_common_loss, log_share, share_of_epochs
from experiments.analysis.intervals import ConfidenceInterval, interval, log_ratio, relative
from experiments.analysis.measures import MEASURES, by_seed
from experiments.analysis.rounding import change_of_epochs
from experiments.claims.claim import Judgement
from experiments.claims.decisions import TOO_FEW, above, all_of, below, decide, some_of, within
from experiments.claims.evidence import Evidence
from experiments.claims.wording import (
    bracketed,
    finding_on_pair,
    how_many_diverged,
    listed,
    moved,
    stretch,
    unless_diverged,
    what_rounding_moves,
)
from experiments.vocabulary.methods import LABELS

RELATIONS = {"below": below, "above": above, "within": within}


@dataclass(frozen=True)
class Comparison:
    """Compares a measure of each of ``methods`` with each of ``others``, over common seeds; every pair must hold.

    A run's value is its mean over the first to the last of ``epochs`` (its maximum for 'best_test_accuracy').
    ``relation`` is 'below', 'above' or 'within', and ``limit`` a difference; for losses a relative difference, and the
    mean is geometric.

    A run that diverged has the worst value: an infinite loss, an accuracy of 0. So a pair fails if a run of the method
    that must be better diverged; with 'within', if a run of either did. Diverged runs of the other method are left out
    and counted, as they would only make the difference clearer.

    Without ``others`` the sentence describes the curves and names no method. Then each method is compared with itself
    over ``against_epochs``, and fails if one of its runs diverged. The claim holds in part if it holds for some methods
    and fails for others.
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
        against = listed(self.others) if self.others else self._against
        mean = "geometric mean of the ratio, less 1" if self._by_ratio else "mean difference"
        values = ", values of our grid search" if self.tuned else ""
        measure = MEASURES[self.measure].label
        return (f"{measure} of {listed(self.methods)}, {stretch(self.epochs)}, compared with {against}; paired by "
                f"seed, {mean}{values}")

    @property
    def holds_if(self) -> str:
        form = "+.1%" if self._by_ratio else "+g"
        where = f"{self.relation} {self.limit:{form}}" if self.limit else f"{self.relation} 0"
        if self.relation == "within":
            low = math.expm1(-self._limit_of_mean) if self._by_ratio else -self.limit
            where = f"between {low:{form}} and {self.limit:{form}}"
        part = "" if self.others else "; in part if the intervals of some methods lie there and of others beyond"
        out = [name for name in (*self.methods, *(self.others or ())) if name not in self._decisive]
        return f"each 95 % t interval of the mean lies {where}{unless_diverged(self._decisive, out, part)}"

    def commands(self, _: Evidence) -> list[str]:
        return _train_commands(self.experiment, [*self.methods, *(self.others or ())], self.tuned)

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment, self.tuned)
        seeds = len(evidence.experiment(self.experiment).seeds)
        rows, decisions, findings = [], [], []
        for method, other in self._pairs():
            pair = pd.concat([by_seed(_of(curves, method), self.measure, self.epochs),
                              by_seed(_of(curves, other), self.measure, self.against_epochs or self.epochs)],
                             axis=1, join="inner", keys=["value", "against"])
            found = self._difference(pair)
            diverged = {name: evidence.diverged(self.experiment, self.tuned, name) for name in (method, other)}
            decisive = [name for name in diverged if name in self._decisive]
            deciding = sum(diverged[name] for name in decisive)
            decisions.append(decide(
                RELATIONS[self.relation](found, self._limit_of_mean), pairs=found.n, seeds=seeds, diverged=deciding,
                runs=min(_seeds(curves, name) for name in decisive), left_out=sum(diverged.values()) - deciding))
            ends = [relative(x) if self._by_ratio else x for x in found[1:]]
            rows.append({"method": LABELS[method], "against": LABELS[other] if self.others else self._against,
                         "n": found.n, "value": pair["value"].mean(), "other": pair["against"].mean(),
                         **dict(zip(("difference", "low", "high"), ends)), "diverged": sum(diverged.values()),
                         **decisions[-1]._asdict()})
            findings.append(finding_on_pair(rows[-1], diverged, self._by_ratio))
        numbers = pd.DataFrame(rows)
        verdict, p, made = (all_of if self.others else some_of)(decisions)
        finding = "; ".join(filter(None, findings))
        if verdict == TOO_FEW:
            finding += what_rounding_moves(evidence.made_twice(self.experiment), self.measure, self.epochs,
                                           self.against_epochs)
        return Judgement(verdict, finding, int(numbers["n"].min()), numbers, p, made)

    def _pairs(self) -> list[tuple[str, str]]:
        if self.others is None:
            return [(method, method) for method in self.methods]
        return [(method, other) for method in self.methods for other in self.others]

    @property
    def _by_ratio(self) -> bool:
        return MEASURES[self.measure].by_ratio

    @property
    def _decisive(self) -> Sequence[str]:
        """The methods of which a run that diverged decides."""
        if self.others is None:
            return self.methods
        if self.relation == "within":
            return [*self.methods, *self.others]
        return self.methods if self.relation == MEASURES[self.measure].better else self.others

    @property
    def _against(self) -> str:
        return stretch(self.against_epochs or self.epochs)

    @property
    def _limit_of_mean(self) -> float:
        """``limit`` as the mean of the differences has it: of losses these are logarithms of ratios."""
        return math.log1p(self.limit) if self._by_ratio else self.limit

    def _difference(self, pair: pd.DataFrame) -> ConfidenceInterval:
        if self._by_ratio:
            return interval(log_ratio(pair["value"], pair["against"]))
        return interval(pair["value"] - pair["against"])


@dataclass(frozen=True)
class Level:
    """Compares a measure of a method with a number, by the interval of its mean over seeds; fields as `Comparison`.

    ``limit`` is a difference from ``level``, of losses, too. The claim fails if a run diverged, unless the method must
    be worse: then these runs are left out and counted.
    """

    experiment: str
    method: str
    measure: str
    epochs: tuple[int, int]
    relation: str
    level: float
    limit: float = 0.0

    @property
    def quantity(self) -> str:
        return f"{MEASURES[self.measure].label} of {LABELS[self.method]}, {stretch(self.epochs)}, less {self.level:g}"

    @property
    def holds_if(self) -> str:
        where = f"{self.relation} {self.limit:g}"
        if self.relation == "within":
            where = f"between {-self.limit:g} and {self.limit:g}"
        methods = [self.method]
        conditions = unless_diverged([], methods) if self._is_worse else unless_diverged(methods)
        return f"the 95 % t interval of the mean lies {where}{conditions}"

    def commands(self, _: Evidence) -> list[str]:
        return _train_commands(self.experiment, [self.method])

    def judge(self, evidence: Evidence) -> Judgement:
        values = by_seed(_of(evidence.curves(self.experiment), self.method), self.measure, self.epochs)
        found = interval(values - self.level)
        row = {"method": LABELS[self.method], "against": "level", "n": found.n, "value": values.mean(),
               "other": self.level, "difference": found.mean, "low": found.low, "high": found.high,
               "diverged": evidence.diverged(self.experiment, False, self.method)}
        seeds, left_out = len(evidence.experiment(self.experiment).seeds), row["diverged"] if self._is_worse else 0
        verdict, p, made = decide(RELATIONS[self.relation](found, self.limit), pairs=found.n, runs=found.n + left_out,
                                  seeds=seeds, diverged=row["diverged"] - left_out, left_out=left_out)
        finding = finding_on_pair(row, {self.method: row["diverged"]}, by_ratio=False)
        if verdict == TOO_FEW:
            finding += what_rounding_moves(evidence.made_twice(self.experiment), self.measure, self.epochs)
        return Judgement(verdict, finding, found.n, pd.DataFrame([row]), p, made)

    @property
    def _is_worse(self) -> bool:
        return self.relation not in ("within", MEASURES[self.measure].better)


@dataclass(frozen=True)
class EpochsToLoss:
    """Compares the epochs that a method and each of ``others`` need to the same train loss, by their ratio.

    For two runs with one seed, it is the lowest train loss that both reach by ``epoch``
    (`experiments.analysis.epochs_to_loss`). The claim fails if a run of the method diverged. Others' runs that diverged
    are left out and counted, as they reach no loss.
    """

    experiment: str
    method: str
    others: Sequence[str]
    epoch: int
    share: float = 1.0

    @property
    def quantity(self) -> str:
        return (f"epochs that {LABELS[self.method]} needs to the lowest running train loss that both reach by epoch "
                f"{self.epoch}, divided by the epochs of {listed(self.others)}; paired by seed, geometric mean")

    @property
    def holds_if(self) -> str:
        return (f"each 95 % t interval of the mean lies below {self.share:g}"
                f"{unless_diverged([self.method], self.others)}")

    def commands(self, _: Evidence) -> list[str]:
        return _train_commands(self.experiment, [self.method, *self.others])

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment)
        seeds = len(evidence.experiment(self.experiment).seeds)
        rows, decisions, findings = [], [], []
        for other in self.others:
            pairs = epochs_to_common_loss(curves, self.method, other, self.epoch)
            share = share_of_epochs(pairs)
            diverged = {name: evidence.diverged(self.experiment, False, name) for name in (self.method, other)}
            decisions.append(decide(
                below(log_share(pairs), math.log(self.share)), pairs=share.n, runs=_seeds(curves, self.method),
                seeds=seeds, diverged=diverged[self.method], left_out=diverged[other]))
            rows.append({"method": LABELS[self.method], "against": LABELS[other], "n": share.n,
                         "train loss": pairs["train_loss"].mean(), "epochs": pairs["epochs"].mean(),
                         "other epochs": pairs["other_epochs"].mean(), "share": share.mean, "low": share.low,
                         "high": share.high, "diverged": sum(diverged.values()), **decisions[-1]._asdict()})
            needed = (f"{rows[-1]['epochs']:.1f} epochs to {rows[-1]['train loss']:.4g}, {LABELS[other]} "
                      f"{rows[-1]['other epochs']:.1f}: {share.mean:.2f}{bracketed(share.low, share.high, '.2f')}, "
                      f"n = {share.n}")
            if share.n or rows[-1]["diverged"]:
                findings.append((needed if share.n else LABELS[other]) + how_many_diverged(diverged))
        finding, numbers = "; ".join(findings), pd.DataFrame(rows)
        verdict, p, made = all_of(decisions)
        if verdict == TOO_FEW:
            twice = evidence.made_twice(self.experiment)
            finding += moved({method: change_of_epochs(twice, method, self.epoch) for method in twice.methods}, True)
        return Judgement(verdict, finding, int(numbers["n"].min()), numbers, p, made)


def _of(curves: pd.DataFrame, method: str) -> pd.DataFrame:
    return curves[curves["method"] == method]


def _seeds(curves: pd.DataFrame, method: str) -> int:
    return _of(curves, method)["seed"].nunique()


def _train_commands(experiment: str, methods: Sequence[str], tuned: bool = False) -> list[str]:
    """The commands that make the runs of these methods."""
    train = f"python -m experiments run configs/{experiment}.yaml"
    if tuned:
        return [f"python -m experiments grid configs/{experiment}.yaml", f"{train} --tuned"]
    return [f"{train} --method {' '.join(dict.fromkeys(methods))}"]
