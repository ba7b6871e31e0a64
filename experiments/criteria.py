"""Kinds of rules by which claims are decided on records. Each says its quantity and its rule in words, and judges."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
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
TABLE_A2_EXPERIMENT = "cifar10_resnet20"


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
    'above' or 'within', of ``limit``: a difference, or a relative one for losses. Every pair must hold. Runs that
    diverged are left out and counted, and the claim does not hold where any of ``methods`` did.
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
        against = f"that of {_listed(self.others)}" if self.others else f"that of {self._against}"
        relative = "relative difference" if self.measure in RELATIVE else "difference"
        values = ", values of our grid search" if self.tuned else ""
        return (f"{MEASURES[self.measure]} of {_listed(self.methods)}, {_stretch(self.epochs)}, against {against}; "
                f"paired by seed, {relative}{values}")

    @property
    def rule(self) -> str:
        form = "+.1%" if self.measure in RELATIVE else "+g"
        where = f"{self.relation} {self.limit:{form}}" if self.limit else f"{self.relation} 0"
        if self.relation == "within":
            low = math.expm1(-self._limit) if self.measure in RELATIVE else -self.limit
            where = f"between {low:{form}} and {self.limit:{form}}"
        return f"each 95 % t interval of the mean lies {where}"

    @property
    def commands(self) -> list[str]:
        return _runs(self.experiment, [*self.methods, *(self.others or ())], self.tuned)

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment, self.tuned)
        rows, verdicts = [], []
        for method, other in self._pairs():
            pair = pd.concat([by_seed(curves, method, self.measure, self.epochs),
                              by_seed(curves, other, self.measure, self.against_epochs or self.epochs)],
                             axis=1, join="inner", keys=["value", "against"])
            found = self._difference(pair)
            diverged = [evidence.diverged(self.experiment, self.tuned, name) for name in (method, other)]
            verdict = RELATIONS[self.relation](found, self._limit)
            verdicts.append(FAILS if diverged[0] and verdict == HOLDS else verdict)
            ends = [math.expm1(x) if self.measure in RELATIVE else x for x in found[1:]]
            rows.append({"method": LABELS[method], "against": LABELS[other] if self.others else self._against,
                         "n": found.n, "value": pair["value"].mean(), "other": pair["against"].mean(),
                         **dict(zip(("difference", "low", "high"), ends)), "diverged": sum(diverged),
                         "verdict": verdicts[-1]})
        numbers = pd.DataFrame(rows)
        return Judgement(all_of(verdicts), _sentences(rows, self.measure in RELATIVE), int(numbers["n"].min()), numbers)

    def _pairs(self) -> list[tuple[str, str]]:
        if self.others is None:
            return [(method, method) for method in self.methods]
        return [(method, other) for method in self.methods for other in self.others]

    @property
    def _against(self) -> str:
        return _stretch(self.against_epochs or self.epochs)

    @property
    def _limit(self) -> float:
        return math.log1p(self.limit) if self.measure in RELATIVE else self.limit

    def _difference(self, pair: pd.DataFrame) -> Interval:
        if self.measure in RELATIVE:
            return interval(np.log(pair["value"] / pair["against"]))
        return interval(pair["value"] - pair["against"])


@dataclass(frozen=True)
class Level:
    """A method's best test accuracy of each run beside a number, by the interval of its mean over the seeds."""

    experiment: str
    method: str
    relation: str
    level: float
    limit: float = 0.0

    @property
    def quantity(self) -> str:
        return f"{MEASURES['best_test_accuracy']} of {LABELS[self.method]}, less {self.level:g}"

    @property
    def rule(self) -> str:
        where = f"between {-self.limit:g} and {self.limit:g}" if self.relation == "within" else f"{self.relation} 0"
        return f"the 95 % t interval of the mean lies {where}"

    @property
    def commands(self) -> list[str]:
        return _runs(self.experiment, [self.method])

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment)
        last = evidence.experiment(self.experiment).epochs
        values = by_seed(curves, self.method, "best_test_accuracy", (1, last))
        found = interval(values - self.level)
        row = {"method": LABELS[self.method], "against": f"{self.level:g}", "n": found.n, "value": values.mean(),
               "other": self.level, "difference": found.mean, "low": found.low, "high": found.high,
               "diverged": evidence.diverged(self.experiment, False, self.method)}
        verdict = RELATIONS[self.relation](found, self.limit)
        return Judgement(FAILS if row["diverged"] and verdict == HOLDS else verdict, _sentences([row], False), found.n,
                         pd.DataFrame([row]))


@dataclass(frozen=True)
class EpochsToTarget:
    """How soon a method has the train loss that others have at some epoch, as a share of that epoch.

    The target is the other method's running train loss at ``epoch`` in the run with the same seed. Where it lies
    between two epochs, their losses are joined by a line. A run that does not reach it counts as needing one epoch
    more, the least that it can need, and the claim cannot hold then; nor where a run of the method diverged.
    """

    experiment: str
    method: str
    others: Sequence[str]
    epoch: int
    share: float = 1.0

    @property
    def quantity(self) -> str:
        return (f"epochs after which {LABELS[self.method]}'s running train loss is at most that of "
                f"{_listed(self.others)} in epoch {self.epoch} (same seed), divided by {self.epoch}")

    @property
    def rule(self) -> str:
        return f"each 95 % t interval of the mean lies below {self.share:g}, and every run reaches the train loss"

    @property
    def commands(self) -> list[str]:
        return _runs(self.experiment, [self.method, *self.others])

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment)
        rows, verdicts = [], []
        for other in self.others:
            targets = by_seed(curves, other, "train_loss", (self.epoch, self.epoch))
            runs = curves[(curves["method"] == self.method) & (curves["epoch"] <= self.epoch)]
            needed = np.array([epochs_to(run.sort_values("epoch")["train_loss"].to_numpy(), targets[seed])
                               for seed, run in runs.groupby("seed") if seed in targets.index])
            missed = int(np.isinf(needed).sum())
            needed = np.where(np.isinf(needed), self.epoch + 1, needed)
            found = interval(needed / self.epoch)
            diverged = evidence.diverged(self.experiment, False, self.method)
            verdict = below(found, self.share)
            if verdict == HOLDS and (missed or diverged):
                verdict = FAILS if diverged else TOO_FEW
            verdicts.append(verdict)
            rows.append({"method": LABELS[self.method], "target": f"{LABELS[other]}'s of epoch {self.epoch}",
                         "n": found.n, "reached": found.n - missed, "train loss": targets.mean(),
                         "epochs": needed.mean() if len(needed) else math.nan,
                         "share": found.mean, "low": found.low, "high": found.high, "diverged": diverged,
                         "verdict": verdict})
        finding = "; ".join(
            f"{row['epochs']:.1f} epochs for {row['target']} ({row['train loss']:.4g}): {row['share']:.2f}"
            f"{_range(row['low'], row['high'], '.2f')}, n = {row['n']}"
            + (f", {row['n'] - row['reached']} never" if row["reached"] < row["n"] else "")
            + (f", {row['diverged']} diverged" if row["diverged"] else "")
            for row in rows if row["n"])
        numbers = pd.DataFrame(rows)
        return Judgement(all_of(verdicts), finding, int(numbers["n"].min()), numbers)


@dataclass(frozen=True)
class GridCells:
    """In how many cells of Table A2 a method has a lower train loss than another, ours and the paper's.

    A cell is decided by the mean difference over the seeds that both have, as the paper's are by the means of 2 runs.
    """

    method: str
    other: str
    at_least: int

    @property
    def quantity(self) -> str:
        return (f"cells of Table A2 (α × β2) in which {LABELS[self.method]}'s mean running train loss at the 30th "
                f"epoch is lower than {LABELS[self.other]}'s")

    @property
    def rule(self) -> str:
        return f"at least {self.at_least} of the {len(paper.TABLE_A2[self.method])} cells, whatever the rest bring"

    @property
    def commands(self) -> list[str]:
        return [f"python -m experiments grid configs/{TABLE_A2_EXPERIMENT}.yaml --method {self.method} {self.other}"]

    def judge(self, evidence: Evidence) -> Judgement:
        runs = evidence.grid(TABLE_A2_EXPERIMENT).runs
        losses = runs[runs["status"] == "done"].set_index(["method", "learning_rate", "beta2", "seed"])["train_loss"]
        printed, others_printed = (paper.TABLE_A2[paper.printed_name(name)] for name in (self.method, self.other))
        rows = []
        for alpha, beta2 in printed:
            pair = pd.concat([_cell(losses, name, alpha, beta2) for name in (self.method, self.other)], axis=1,
                             join="inner", keys=["ours", "others"])
            if len(pair):
                ours, others = pair["ours"].mean(), pair["others"].mean()
                rows.append({"α": alpha, "β2": beta2, "n": len(pair), LABELS[self.method]: ours,
                             LABELS[self.other]: others, "lower": ours < others,
                             "lower in the paper": printed[alpha, beta2] < others_printed[alpha, beta2]})
        lower = sum(row["lower"] for row in rows)
        if lower >= self.at_least:
            verdict = HOLDS
        elif lower + len(printed) - len(rows) < self.at_least:
            verdict = FAILS
        else:
            verdict = TOO_FEW if rows else NOT_RUN
        published = sum(loss < others_printed[at] for at, loss in printed.items())
        finding = (f"lower in {lower} of the {len(rows)} cells run here; in {published} of {len(printed)} of the "
                   "paper's table")
        return Judgement(verdict, finding, len(rows), pd.DataFrame(rows))


@dataclass(frozen=True)
class BestOfGrid:
    """How far points of the grid are from the best, in mean train loss at the end of our grid search.

    ``points`` has the point of each method; None: the configuration's, which are the paper's. Judged where all the
    points of a method have all their seeds.
    """

    experiment: str
    methods: Sequence[str]
    limit: float
    point: tuple[tuple[str, float], ...] | None = None

    @property
    def quantity(self) -> str:
        where = "Table A1's values" if self.point is None else ", ".join(f"{n} {v:g}" for n, v in self.point)
        return (f"mean running train loss at the end of our grid search at {where}, over the lowest of the grid, of "
                f"{_listed(self.methods)}")

    @property
    def rule(self) -> str:
        return f"at most {self.limit:.0%} above the lowest, for each method"

    @property
    def commands(self) -> list[str]:
        return [f"python -m experiments grid configs/{self.experiment}.yaml"]

    def judge(self, evidence: Evidence) -> Judgement:
        experiment, runs = evidence.experiment(self.experiment), evidence.grid(self.experiment).runs
        rows = []
        for name in self.methods:
            method = experiment.methods[name]
            of_method = runs[runs["method"] == name]
            if len(of_method) < len(method.points()) * len(experiment.tuning.seeds):
                return Judgement(NOT_RUN, "", 0, pd.DataFrame())
            losses = of_method["train_loss"].where(of_method["status"] == "done", math.inf)
            means = losses.groupby([of_method[key] for key in method.grid]).mean()
            point = dict(self.point or {key: method.parameters[key] for key in method.grid})
            loss = means[tuple(point[key] for key in method.grid)]
            rows.append({"method": LABELS[name], "n": len(experiment.tuning.seeds), "there": loss,
                         "lowest": means.min(), **dict(zip(method.grid, means.idxmin())),
                         "rank": int((means < loss).sum()) + 1, "points": len(means), "excess": loss / means.min() - 1})
        numbers = pd.DataFrame(rows)
        finding = "; ".join(f"{row['method']} {row['excess']:+.1%} (rank {row['rank']} of {row['points']})"
                            for row in rows)
        return Judgement(HOLDS if (numbers["excess"] <= self.limit).all() else FAILS, finding,
                         int(numbers["n"].min()), numbers)


@dataclass(frozen=True)
class Computed:
    """A rule on what is computed rather than trained, in words, and the function that judges by it."""

    quantity: str
    rule: str
    judge: Callable[[Evidence], Judgement]
    commands: Sequence[str] = field(default=())


class Claim(NamedTuple):
    """A sentence, where it stands, and how it is decided.

    In ``sentence`` the paper's words stand as they are, with ours in brackets and '...' for what is left out. ``part``
    is what it is about: a key of `experiments.claims.PARTS`.
    """

    name: str
    part: str
    where: str
    sentence: str
    criterion: Comparison | Level | EpochsToTarget | GridCells | BestOfGrid | Computed


def by_seed(curves: pd.DataFrame, method: str, measure: str, epochs: tuple[int, int]) -> pd.Series:
    """Each run's mean of the measure over a stretch of epochs, its maximum of 'best_test_accuracy'; by seed."""
    rows = curves[(curves["method"] == method) & curves["epoch"].between(*epochs)]
    if measure == "best_test_accuracy":
        return rows.groupby("seed")["test_accuracy"].max()
    return rows.groupby("seed")[measure].mean()


def epochs_to(losses: np.ndarray, target: float) -> float:
    """After how many epochs, from 1, a run's loss is at most the target, on lines between its epochs; inf if never."""
    reached = np.flatnonzero(losses <= target)
    if not len(reached):
        return math.inf
    i = int(reached[0])
    return 1.0 if i == 0 else float(i + (losses[i - 1] - target) / (losses[i - 1] - losses[i]))


def _cell(losses: pd.Series, method: str, alpha: float, beta2: float) -> pd.Series:
    """A cell's train losses by seed."""
    chosen = [losses.index.get_level_values(i) == value for i, value in enumerate((method, alpha, beta2))]
    return losses[np.logical_and.reduce(chosen)].droplevel([0, 1, 2])


def _runs(experiment: str, methods: Sequence[str], tuned: bool = False) -> list[str]:
    train = f"python -m experiments run configs/{experiment}.yaml"
    if tuned:
        return [f"python -m experiments grid configs/{experiment}.yaml", f"{train} --tuned"]
    return [f"{train} --method {' '.join(dict.fromkeys(methods))}"]


def _sentences(rows: Sequence[dict], relative: bool) -> str:
    def one(row):
        change = f"{row['difference']:+.1%}" if relative else f"{row['difference']:+.4f}"
        ends = _range(row["low"], row["high"], "+.1%" if relative else "+.4f")
        return (f"{row['method']} {row['value']:.4g}, {row['against']} {row['other']:.4g}: {change}{ends}, "
                f"n = {row['n']}" + (f", {row['diverged']} diverged" if row["diverged"] else ""))
    return "; ".join(one(row) for row in rows if row["n"] or row["diverged"])


def _range(low: float, high: float, form: str) -> str:
    return f" ({low:{form}} to {high:{form}})" if math.isfinite(high) else ""


def _stretch(epochs: tuple[int, int]) -> str:
    first, last = epochs
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _listed(methods: Sequence[str]) -> str:
    *most, last = (LABELS[method] for method in methods)
    return f"{', '.join(most)} and {last}" if most else last
