"""The kinds of rules that decide claims on records; each describes its quantity and its rule in words, and judges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd

from experiments.analysis.epochs_to_loss import epochs_to_common_loss, log_share, share_of_epochs
from experiments.analysis.intervals import ConfidenceInterval, interval, log_ratio, relative
from experiments.analysis.measures import MEASURES, by_seed
from experiments.analysis.rounding import MadeTwice, change, change_of_epochs, size
from experiments.analysis.selection import averages
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN, TOO_FEW, Decision, above, all_of, below, some_of, within
from experiments.claims.evidence import Evidence
from experiments.vocabulary import paper
from experiments.vocabulary.config import initial
from experiments.vocabulary.methods import LABELS

RELATIONS = {"below": below, "above": above, "within": within}
# A test after each new seed, until the first interval that decides, would be wrong far more often than 5 %.
WHEN = "decided when all the configuration's seeds are run, or no run to come can change it"


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
        against = _listed(self.others) if self.others else self._against
        mean = "geometric mean of the ratio, less 1" if MEASURES[self.measure].by_ratio else "mean difference"
        values = ", values of our grid search" if self.tuned else ""
        measure = MEASURES[self.measure].label
        return (f"{measure} of {_listed(self.methods)}, {_stretch(self.epochs)}, compared with {against}; paired by "
                f"seed, {mean}{values}")

    @property
    def rule(self) -> str:
        form = "+.1%" if MEASURES[self.measure].by_ratio else "+g"
        where = f"{self.relation} {self.limit:{form}}" if self.limit else f"{self.relation} 0"
        if self.relation == "within":
            low = math.expm1(-self._limit) if MEASURES[self.measure].by_ratio else -self.limit
            where = f"between {low:{form}} and {self.limit:{form}}"
        part = "" if self.others else "; in part if the intervals of some methods lie there and of others beyond"
        out = [name for name in (*self.methods, *(self.others or ())) if name not in self._decisive]
        return f"each 95 % t interval of the mean lies {where}{_unless_diverged(self._decisive, out, part)}"

    @property
    def commands(self) -> list[str]:
        return _training(self.experiment, [*self.methods, *(self.others or ())], self.tuned)

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment, self.tuned)
        seeds = len(evidence.experiment(self.experiment).seeds)
        rows, decisions, diverged_of = [], [], []
        for method, other in self._pairs():
            pair = pd.concat([by_seed(_of(curves, method), self.measure, self.epochs),
                              by_seed(_of(curves, other), self.measure, self.against_epochs or self.epochs)],
                             axis=1, join="inner", keys=["value", "against"])
            found = self._difference(pair)
            diverged = {name: evidence.diverged(self.experiment, self.tuned, name) for name in (method, other)}
            decisive = [name for name in diverged if name in self._decisive]
            deciding = sum(diverged[name] for name in decisive)
            diverged_of.append(diverged)
            decisions.append(_decide(RELATIONS[self.relation](found, self._limit), found.n,
                                     min(_seeds(curves, name) for name in decisive), seeds, deciding,
                                     sum(diverged.values()) - deciding))
            ends = [relative(x) if MEASURES[self.measure].by_ratio else x for x in found[1:]]
            rows.append({"method": LABELS[method], "against": LABELS[other] if self.others else self._against,
                         "n": found.n, "value": pair["value"].mean(), "other": pair["against"].mean(),
                         **dict(zip(("difference", "low", "high"), ends)), "diverged": sum(diverged.values()),
                         **decisions[-1]._asdict()})
        numbers = pd.DataFrame(rows)
        verdict, p, made = (all_of if self.others else some_of)(decisions)
        finding = _sentences(rows, diverged_of, MEASURES[self.measure].by_ratio)
        if verdict == TOO_FEW:
            finding += _rounding(evidence.made_twice(self.experiment), self.measure, self.epochs, self.against_epochs)
        return Judgement(verdict, finding, int(numbers["n"].min()), numbers, p, made)

    def _pairs(self) -> list[tuple[str, str]]:
        if self.others is None:
            return [(method, method) for method in self.methods]
        return [(method, other) for method in self.methods for other in self.others]

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
        return _stretch(self.against_epochs or self.epochs)

    @property
    def _limit(self) -> float:
        return math.log1p(self.limit) if MEASURES[self.measure].by_ratio else self.limit

    def _difference(self, pair: pd.DataFrame) -> ConfidenceInterval:
        if MEASURES[self.measure].by_ratio:
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
        return f"{MEASURES[self.measure].label} of {LABELS[self.method]}, {_stretch(self.epochs)}, less {self.level:g}"

    @property
    def rule(self) -> str:
        where = f"between {-self.limit:g} and {self.limit:g}" if self.relation == "within" else f"{self.relation} 0"
        methods = [self.method]
        conditions = _unless_diverged([], methods) if self._is_worse else _unless_diverged(methods)
        return f"the 95 % t interval of the mean lies {where}{conditions}"

    @property
    def commands(self) -> list[str]:
        return _training(self.experiment, [self.method])

    def judge(self, evidence: Evidence) -> Judgement:
        values = by_seed(_of(evidence.curves(self.experiment), self.method), self.measure, self.epochs)
        found = interval(values - self.level)
        row = {"method": LABELS[self.method], "against": "level", "n": found.n, "value": values.mean(),
               "other": self.level, "difference": found.mean, "low": found.low, "high": found.high,
               "diverged": evidence.diverged(self.experiment, False, self.method)}
        seeds, left_out = len(evidence.experiment(self.experiment).seeds), row["diverged"] if self._is_worse else 0
        verdict, p, made = _decide(RELATIONS[self.relation](found, self.limit), found.n, found.n + left_out, seeds,
                                   row["diverged"] - left_out, left_out)
        finding = _sentences([row], [{self.method: row["diverged"]}], False)
        if verdict == TOO_FEW:
            finding += _rounding(evidence.made_twice(self.experiment), self.measure, self.epochs)
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
                f"{self.epoch}, divided by the epochs of {_listed(self.others)}; paired by seed, geometric mean")

    @property
    def rule(self) -> str:
        return (f"each 95 % t interval of the mean lies below {self.share:g}"
                f"{_unless_diverged([self.method], self.others)}")

    @property
    def commands(self) -> list[str]:
        return _training(self.experiment, [self.method, *self.others])

    def judge(self, evidence: Evidence) -> Judgement:
        curves = evidence.curves(self.experiment)
        seeds = len(evidence.experiment(self.experiment).seeds)
        rows, decisions, diverged_of = [], [], []
        for other in self.others:
            pairs = epochs_to_common_loss(curves, self.method, other, self.epoch)
            share = share_of_epochs(pairs)
            diverged = {name: evidence.diverged(self.experiment, False, name) for name in (self.method, other)}
            diverged_of.append(diverged)
            decisions.append(_decide(below(log_share(pairs), math.log(self.share)), share.n,
                                     _seeds(curves, self.method), seeds, *diverged.values()))
            rows.append({"method": LABELS[self.method], "against": LABELS[other], "n": share.n,
                         "train loss": pairs["train_loss"].mean(), "epochs": pairs["epochs"].mean(),
                         "other epochs": pairs["other_epochs"].mean(), "share": share.mean, "low": share.low,
                         "high": share.high, "diverged": sum(diverged.values()), **decisions[-1]._asdict()})
        finding = "; ".join(
            f"{row['epochs']:.1f} epochs to {row['train loss']:.4g}, {row['against']} {row['other epochs']:.1f}: "
            f"{row['share']:.2f}{_range(row['low'], row['high'], '.2f')}, n = {row['n']}{_diverged(diverged)}"
            if row["n"] else f"{row['against']}{_diverged(diverged)}"
            for row, diverged in zip(rows, diverged_of) if row["n"] or row["diverged"])
        numbers = pd.DataFrame(rows)
        verdict, p, made = all_of(decisions)
        if verdict == TOO_FEW:
            twice = evidence.made_twice(self.experiment)
            finding += _moved({method: change_of_epochs(twice, method, self.epoch) for method in twice.methods}, True)
        return Judgement(verdict, finding, int(numbers["n"].min()), numbers, p, made)


@dataclass(frozen=True)
class GridCells:
    """Counts the cells of Table A2 in which a method has a lower train loss than another, in our runs.

    A cell compares means over the grid's seeds, as the paper's cells compare means of 2 runs; it counts once both
    methods have all seeds. A run that diverged has infinite loss. The finding also gives the paper's own count.
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
        return (f"at least {self.at_least} of the {len(paper.TABLE_A2[self.method])} cells, whatever the cells still "
                "to run bring; a cell counts when all its seeds are run")

    @property
    def commands(self) -> list[str]:
        return [f"python -m experiments grid configs/{paper.CIFAR}.yaml --method {self.method} {self.other}"]

    def judge(self, evidence: Evidence) -> Judgement:
        runs = evidence.grid(paper.CIFAR).runs
        losses = runs.set_index(["method", "learning_rate", "beta2", "seed"])["train_loss"]
        printed, others_printed = (paper.TABLE_A2[paper.printed_name(name)] for name in (self.method, self.other))
        rows = []
        for alpha, beta2 in printed:
            pair = pd.concat([_at(losses, (name, alpha, beta2)) for name in (self.method, self.other)], axis=1,
                             join="inner", keys=["ours", "others"])
            if len(pair):
                ours, others = pair["ours"].mean(), pair["others"].mean()
                rows.append({"α": alpha, "β2": beta2, "n": len(pair), LABELS[self.method]: ours,
                             LABELS[self.other]: others, "lower": bool(ours < others),
                             "lower in the paper": printed[alpha, beta2] < others_printed[alpha, beta2]})
        seeds = evidence.experiment(paper.CIFAR).search.seeds
        decided = [row["lower"] for row in rows if row["n"] == len(seeds)]
        if sum(decided) >= self.at_least:
            verdict = HOLDS
        elif sum(decided) + len(printed) - len(decided) < self.at_least:
            verdict = FAILS
        else:
            verdict = TOO_FEW if rows else NOT_RUN
        published = sum(loss < others_printed[at] for at, loss in printed.items())
        finding = (f"lower in {sum(row['lower'] for row in rows)} of the {len(rows)} cells run here, {len(decided)} of "
                   f"them with {len(seeds)} seeds; in {published} of {len(printed)} of the paper's table")
        if verdict == TOO_FEW:
            finding += _rounding_of_cells(evidence)
        return Judgement(verdict, finding, min((row["n"] for row in rows), default=0), pd.DataFrame(rows))


@dataclass(frozen=True)
class PublishedCells:
    """Compares a method's cells of Table A2 with the paper's, by the interval of the mean ratio over the cells.

    A cell is the mean over the grid's seeds, as the paper's cells are means of 2 runs. The claim is decided once all
    cells have all their seeds, and fails if a run diverged.
    """

    method: str
    limit: float

    @property
    def quantity(self) -> str:
        return (f"{LABELS[self.method]}'s mean running train loss at the 30th epoch over the paper's, in the cells of "
                "Table A2 (α × β2); geometric mean of the ratio, less 1")

    @property
    def rule(self) -> str:
        low = math.expm1(-math.log1p(self.limit))
        return (f"the 95 % t interval of the mean over the cells lies between {low:+.1%} and {self.limit:+.1%}, and no "
                "run diverged; decided when all cells have all their seeds, or a run diverged")

    @property
    def commands(self) -> list[str]:
        return [f"python -m experiments grid configs/{paper.CIFAR}.yaml --method {self.method}"]

    def judge(self, evidence: Evidence) -> Judgement:
        of_method = evidence.grid(paper.CIFAR).only([self.method])
        losses = of_method.runs.set_index(["learning_rate", "beta2", "seed"])["train_loss"]
        printed, seeds = paper.TABLE_A2[paper.printed_name(self.method)], of_method.experiment.search.seeds
        rows = [{"α": alpha, "β2": beta2, "n": len(cell), "ours": cell.mean(), "paper": loss,
                 "difference": cell.mean() / loss - 1}
                for (alpha, beta2), loss in printed.items() if len(cell := _at(losses, (alpha, beta2)))]
        numbers = pd.DataFrame(rows, columns=["α", "β2", "n", "ours", "paper", "difference"])
        differences = log_ratio(numbers["ours"].astype(float), numbers["paper"].astype(float))
        found = interval(differences[differences < math.inf])
        complete = numbers["n"] == len(seeds)
        diverged = int((differences == math.inf).sum())
        verdict, p, made = _decide(within(found, math.log1p(self.limit)), int(complete.sum()), int(complete.sum()),
                                   len(printed), diverged)
        mean, low, high = map(relative, found[1:])
        finding = (f"{LABELS[self.method]} " + (f"{mean:+.1%}" if found.n else "")
                   + (_range(low, high, "+.1%") if verdict in (HOLDS, FAILS) else "")
                   + f", higher in {(differences > 0).sum()} of {len(rows)} cells run here, {complete.sum()} of them "
                     f"with {len(seeds)} seeds" + (f", {diverged} where a run diverged" if diverged else "")
                   ) if rows else ""
        if verdict == TOO_FEW:
            finding += _rounding_of_cells(evidence)
        return Judgement(verdict, finding, int(numbers["n"].min()) if rows else 0, numbers, p, made)


@dataclass(frozen=True)
class BestOfGrid:
    """Compares one point of each method's grid with the best other point, by train loss at the end of our grid search.

    ``point``: its hyper-parameters; None: the configuration's, which are the paper's. The search's seeds determine the
    best other point. New seeds, ``judges[0]`` to ``judges[1]``, then compare the two points, as the seeds that made a
    point the best flatter it. Not judged before all points of each method have all the search's seeds. The claim fails
    if a run at the point diverged; those at the other point are left out.
    """

    experiment: str
    methods: Sequence[str]
    limit: float
    point: tuple[tuple[str, float], ...] | None = None
    judges: tuple[int, int] = (102, 109)

    @property
    def quantity(self) -> str:
        where = "Table A1's values" if self.point is None else ", ".join(f"{n} {v:g}" for n, v in self.point)
        return (f"running train loss at the end of our grid search at {where}, over that at the lowest of the other "
                f"points by the search's seeds, of {_listed(self.methods)}; paired by seed, geometric mean")

    @property
    def rule(self) -> str:
        return (f"the 95 % t interval of the mean over the seeds {self.judges[0]} to {self.judges[1]}, which are not "
                f"the search's, lies below {self.limit:+.0%}, for each method, and no run with the first values "
                "diverged (with the others, those that did are left out); decided when all of these are run (by --at, "
                "at these two points alone), or no run to come can change it")

    @property
    def commands(self) -> list[str]:
        first, last = self.judges
        search = f"python -m experiments grid configs/{self.experiment}.yaml --method {' '.join(self.methods)}"
        return [search, f"{search} --seeds {first}-{last}"]

    def judge(self, evidence: Evidence) -> Judgement:
        experiment = evidence.experiment(self.experiment)
        seeds, last = range(self.judges[0], self.judges[1] + 1), experiment.search.epochs
        search, judges = evidence.grid(self.experiment), evidence.grid(self.experiment, seeds)
        rows, decisions, diverged_of = [], [], []
        for name in self.methods:
            method, of_method = experiment.methods[name], search.only([name])
            if len(of_method.runs) < len(method.points()) * len(experiment.search.seeds):
                return Judgement(NOT_RUN, "", 0, pd.DataFrame(), 1.0)
            means = averages(of_method).set_index([*method.grid])["mean"]
            point = dict(self.point or method.parameters)
            here = tuple(initial(point[key]) for key in method.grid)
            rival = means.drop(here).idxmin()
            losses = judges.only([name]).runs.set_index([*method.grid, "seed"])["train_loss"]
            there, beside = _at(losses, here), _at(losses, rival)
            found = interval(log_ratio(there[np.isfinite(there)], beside[np.isfinite(beside)]).dropna())
            diverged = [int(np.isinf(there).sum() + np.isinf(means[here])), int(np.isinf(beside).sum())]
            decision = _decide(below(found, math.log1p(self.limit)), found.n, int(np.isfinite(there).sum()), len(seeds),
                               *diverged)
            decisions.append(decision._replace(verdict=TOO_FEW) if decision.verdict == NOT_RUN else decision)
            rows.append({"method": LABELS[name], "n": found.n or len(experiment.search.seeds), "there": means[here],
                         "lowest": means.min(), **dict(zip(method.grid, means.idxmin())),
                         "rank": int((means < means[here]).sum()) + 1, "points": len(means),
                         "excess": means[here] / means.min() - 1, "beside": ", ".join(f"{x:g}" for x in rival),
                         "judges": found.n, **dict(zip(("difference", "low", "high"), map(relative, found[1:]))),
                         "diverged": sum(diverged), **decisions[-1]._asdict()})
            diverged_of.append("".join(f", {count} diverged {where}" for count, where in
                                       zip(diverged, ("there", f"at {rows[-1]['beside']}")) if count))
        numbers = pd.DataFrame(rows)
        finding = "; ".join(
            f"{row['method']} {row['excess']:+.1%} (rank {row['rank']} of {row['points']})"
            + (f", with other seeds {row['difference']:+.1%} of {row['beside']}"
               f"{_range(row['low'], row['high'], '+.1%')}, n = {row['judges']}" if row["judges"] else "") + diverged
            for row, diverged in zip(rows, diverged_of))
        verdict, p, made = all_of(decisions)
        if verdict == TOO_FEW:
            finding += _rounding(evidence.made_twice(self.experiment), "train_loss", (last, last))
        return Judgement(verdict, finding, int(numbers["n"].min()), numbers, p, made)


@dataclass(frozen=True)
class Computed:
    """A rule on something computed rather than trained: its words, and the function that judges."""

    quantity: str
    rule: str
    judge: Callable[[Evidence], Judgement]
    commands: Sequence[str] = ()


class Claim(NamedTuple):
    """A sentence of the paper, where it stands there, and the rule that decides it.

    ``sentence`` quotes the paper, with our words in brackets and '...' for what is left out. ``part``: its subject, a
    key of `experiments.claims.parts.PARTS`.
    """

    name: str
    part: str
    where: str
    sentence: str
    criterion: Comparison | Level | EpochsToLoss | GridCells | PublishedCells | BestOfGrid | Computed


def _of(curves: pd.DataFrame, method: str) -> pd.DataFrame:
    return curves[curves["method"] == method]


def _at(losses: pd.Series, point: tuple) -> pd.Series:
    """The losses at a point of the grid, by seed."""
    chosen = [losses.index.get_level_values(i) == value for i, value in enumerate(point)]
    return losses[np.logical_and.reduce(chosen)].droplevel(list(range(len(point)))).astype(float)


def _seeds(curves: pd.DataFrame, method: str) -> int:
    return _of(curves, method)["seed"].nunique()


def _decide(found: Decision, pairs: int, runs: int, seeds: int, diverged: int, left_out: int = 0) -> Decision:
    """The decision, given that runs may have diverged or be missing; ``found`` is the decision by the interval.

    ``pairs``: how many the interval is of. ``seeds``: how many runs each method will have. ``runs`` and ``diverged``:
    how many are complete, and how many diverged, of the method whose divergence fails the claim. ``left_out``: how many
    of the other one diverged.
    """
    if diverged:
        return Decision(FAILS, None)
    if left_out and not pairs:
        return Decision(TOO_FEW, 1.0)
    if runs == seeds and pairs + left_out == seeds:
        return found
    return Decision(NOT_RUN if found.verdict == NOT_RUN else TOO_FEW, 1.0)


def _unless_diverged(decisive: Sequence[str], left_out: Sequence[str] = (), part: str = "") -> str:
    """What a rule says of runs that diverged, and when it decides; ``part``: what it says between the two.

    ``decisive``: the methods of which a run that diverged decides; ``left_out``: those of which they are left out.
    """
    out = f"; runs of {_listed(left_out)} that diverged are left out" if left_out else ""
    if not decisive:
        return f"{out}{part}; {WHEN}"
    return f", and no run of {_listed(decisive, 'or')} diverged{out}{part}; {WHEN}"


def _training(experiment: str, methods: Sequence[str], tuned: bool = False) -> list[str]:
    train = f"python -m experiments run configs/{experiment}.yaml"
    if tuned:
        return [f"python -m experiments grid configs/{experiment}.yaml", f"{train} --tuned"]
    return [f"{train} --method {' '.join(dict.fromkeys(methods))}"]


def _sentences(rows: Sequence[dict], diverged_of: Sequence[Mapping[str, int]], by_ratio: bool) -> str:
    def one(row, diverged):
        if not row["n"]:
            return f"{row['method']}, {row['against']}{_diverged(diverged)}"
        change = f"{row['difference']:+.1%}" if by_ratio else f"{row['difference']:+.4f}"
        if math.isnan(row["difference"]):
            change = "no ratio"   # of losses of which one is 0
        ends = _range(row["low"], row["high"], "+.1%" if by_ratio else "+.4f")
        return (f"{row['method']} {row['value']:.4g}, {row['against']} {row['other']:.4g}: {change}{ends}, "
                f"n = {row['n']}{_diverged(diverged)}")
    return "; ".join(one(row, diverged) for row, diverged in zip(rows, diverged_of) if row["n"] or row["diverged"])


def _rounding(twice: MadeTwice, measure: str, epochs: tuple[int, int], against: tuple[int, int] | None = None) -> str:
    """How much rounding alone moves a measure, as in `change`; empty if no run of the experiment was made twice."""
    return _moved({method: change(twice, method, measure, epochs, against) for method in twice.methods},
                  MEASURES[measure].by_ratio)


def _rounding_of_cells(evidence: Evidence) -> str:
    """How much rounding alone moves a cell of Table A2."""
    last = evidence.experiment(paper.CIFAR).search.epochs
    return _rounding(evidence.made_twice(paper.CIFAR), "train_loss", (last, last))


def _moved(changes: Mapping[str, pd.Series], by_ratio: bool) -> str:
    by_method = ", ".join(f"{LABELS[method]} by " + (f"{relative(size(of)):.1%}" if by_ratio else f"{size(of):.4f}")
                          + f" (n = {len(of)})" for method, of in changes.items())
    return f"; rounding alone moves {by_method}" if by_method else ""


def _diverged(counts: Mapping[str, int]) -> str:
    """', 2 of ADAM's diverged', by method's name how many did."""
    whose = [f"{count} of {LABELS[method]}'s" for method, count in counts.items() if count]
    return f", {' and '.join(whose)} diverged" if whose else ""


def _range(low: float, high: float, form: str) -> str:
    return f" ({low:{form}} to {high:{form}})" if math.isfinite(high) else ""


def _stretch(epochs: tuple[int, int]) -> str:
    first, last = epochs
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _listed(methods: Sequence[str], word: str = "and") -> str:
    *most, last = (LABELS[method] for method in methods)
    return f"{', '.join(most)} {word} {last}" if most else last
