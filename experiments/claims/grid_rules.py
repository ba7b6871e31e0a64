"""The rules that decide claims on grid searches: counts of cells, published cells, the best point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd

from experiments.analysis.intervals import interval, log_ratio, relative
from experiments.analysis.selection import averages
from experiments.claims.claim import NOTHING, Judgement
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN, TOO_FEW, all_of, below, decide, within
from experiments.claims.evidence import Evidence
from experiments.claims.wording import bracketed, listed, what_rounding_moves
from experiments.vocabulary import paper
from experiments.vocabulary.config import initial
from experiments.vocabulary.methods import LABELS


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
    def holds_if(self) -> str:
        cells = len(paper.TABLE_A2[paper.printed_name(self.method)])
        return (f"at least {self.at_least} of the {cells} cells, whatever the cells still to run bring; a cell counts "
                "when all its seeds are run")

    def commands(self, _: Evidence) -> list[str]:
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
            finding += _what_rounding_moves_in_a_cell(evidence)
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
    def holds_if(self) -> str:
        low = math.expm1(-math.log1p(self.limit))
        return (f"the 95 % t interval of the mean over the cells lies between {low:+.1%} and {self.limit:+.1%}, and no "
                "run diverged; decided when all cells have all their seeds, or a run diverged")

    def commands(self, _: Evidence) -> list[str]:
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
        complete = int((numbers["n"] == len(seeds)).sum())
        diverged = int((differences == math.inf).sum())
        verdict, p, made = decide(within(found, math.log1p(self.limit)), pairs=complete, runs=complete,
                                  seeds=len(printed), diverged=diverged)
        mean, low, high = map(relative, found[1:])
        finding = (f"{LABELS[self.method]} " + (f"{mean:+.1%}" if found.n else "")
                   + (bracketed(low, high, "+.1%") if verdict in (HOLDS, FAILS) else "")
                   + f", higher in {(differences > 0).sum()} of {len(rows)} cells run here, {complete} of them "
                     f"with {len(seeds)} seeds" + (f", {diverged} where a run diverged" if diverged else "")
                   ) if rows else ""
        if verdict == TOO_FEW:
            finding += _what_rounding_moves_in_a_cell(evidence)
        return Judgement(verdict, finding, int(numbers["n"].min()) if rows else 0, numbers, p, made)


class Search(NamedTuple):
    """A method's mean losses by point of its grid, the point that is judged, and the lowest of the others."""

    means: pd.Series
    point: tuple[float, ...]
    rival: tuple[float, ...]


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
                f"points by the search's seeds, of {listed(self.methods)}; paired by seed, geometric mean")

    @property
    def holds_if(self) -> str:
        return (f"the 95 % t interval of the mean over the seeds {self.judges[0]} to {self.judges[1]}, which are not "
                f"the search's, lies below {self.limit:+.0%}, for each method, and no run with the first values "
                "diverged (with the others, those that did are left out); decided when the search of each method is "
                "complete, and all of these are run (by --at, at these two points alone), or no run to come can change "
                "it")

    def commands(self, evidence: Evidence) -> list[str]:
        """The search's command; and of each method whose search is complete, those that judge its two points."""
        grid, (first, last) = f"python -m experiments grid configs/{self.experiment}.yaml --method", self.judges
        searches = {method: self._search(evidence, method) for method in self.methods}
        return [f"{grid} {' '.join(self.methods)}",
                *(f"{grid} {method} --seeds {first}-{last} --at {_coordinates(search.means.index.names, point)}"
                  for method, search in searches.items() if search for point in (search.point, search.rival))]

    def judge(self, evidence: Evidence) -> Judgement:
        experiment = evidence.experiment(self.experiment)
        seeds, last = range(self.judges[0], self.judges[1] + 1), experiment.search.epochs
        judges = evidence.grid(self.experiment, seeds)
        rows, decisions, findings = [], [], []
        for name in self.methods:
            search = self._search(evidence, name)
            if search is None:
                return NOTHING._replace(p=1.0)
            means, here, rival = search
            with np.errstate(divide="ignore", invalid="ignore"):   # a loss may be 0
                excess = means[here] / means.min() - 1
            losses = judges.only([name]).runs.set_index([*means.index.names, "seed"])["train_loss"]
            there, beside = _at(losses, here), _at(losses, rival)
            found = interval(log_ratio(there[np.isfinite(there)], beside[np.isfinite(beside)]).dropna())
            diverged = [int(np.isinf(there).sum() + np.isinf(means[here])), int(np.isinf(beside).sum())]
            decision = decide(below(found, math.log1p(self.limit)), pairs=found.n, runs=int(np.isfinite(there).sum()),
                              seeds=len(seeds), diverged=diverged[0], left_out=diverged[1])
            decisions.append(decision._replace(verdict=TOO_FEW) if decision.verdict == NOT_RUN else decision)
            rows.append({"method": LABELS[name], "n": found.n or len(experiment.search.seeds), "there": means[here],
                         "lowest": means.min(), **dict(zip(means.index.names, means.idxmin())),
                         "rank": int((means < means[here]).sum()) + 1, "points": len(means),
                         "excess": excess, "beside": ", ".join(f"{x:g}" for x in rival),
                         "judges": found.n, **dict(zip(("difference", "low", "high"), map(relative, found[1:]))),
                         "diverged": sum(diverged), **decisions[-1]._asdict()})
            findings.append(self._finding(rows[-1], diverged))
        finding, numbers = "; ".join(findings), pd.DataFrame(rows)
        verdict, p, made = all_of(decisions)
        if verdict == TOO_FEW:
            finding += what_rounding_moves(evidence.made_twice(self.experiment), "train_loss", (last, last))
        return Judgement(verdict, finding, int(numbers["n"].min()), numbers, p, made)

    def _search(self, evidence: Evidence, name: str) -> Search | None:
        """What the search has found for a method; None before all points have all the search's seeds.

        Also None if the configuration's grid lacks this method, this point or any other one.
        """
        experiment, found = evidence.experiment(self.experiment), evidence.grid(self.experiment).only([name])
        method = experiment.methods.get(name)
        if method is None or not method.grid or len(found.runs) < len(method.points()) * len(experiment.search.seeds):
            return None
        points, values = averages(found), dict(self.point or method.parameters)
        means = pd.Series(points["mean"].to_numpy(), pd.MultiIndex.from_frame(points[[*method.grid]]))
        point = tuple(initial(values.get(key)) for key in method.grid)
        if point not in means.index or len(means) < 2:
            return None
        return Search(means, point, means.drop(point).idxmin())

    @staticmethod
    def _finding(row: Mapping[str, Any], diverged: Sequence[int]) -> str:
        compared = (f", with other seeds {row['difference']:+.1%} of {row['beside']}"
                    f"{bracketed(row['low'], row['high'], '+.1%')}, n = {row['judges']}") if row["judges"] else ""
        lost = "".join(f", {count} diverged {where}" for count, where in
                       zip(diverged, ("there", f"at {row['beside']}")) if count)
        excess = "no ratio" if math.isnan(row["excess"]) else f"{row['excess']:+.1%}"
        return f"{row['method']} {excess} (rank {row['rank']} of {row['points']}){compared}{lost}"


def _at(losses: pd.Series, point: tuple) -> pd.Series:
    """The losses at a point of the grid, by seed."""
    chosen = [losses.index.get_level_values(i) == value for i, value in enumerate(point)]
    return losses[np.logical_and.reduce(chosen)].droplevel(list(range(len(point)))).astype(float)


def _coordinates(names: Sequence[str], point: Sequence[float]) -> str:
    """A point as the option --at takes it."""
    return " ".join(f"{name}={float(value)!r}" for name, value in zip(names, point))


def _what_rounding_moves_in_a_cell(evidence: Evidence) -> str:
    """How much rounding alone moves a cell of Table A2."""
    last = evidence.experiment(paper.CIFAR).search.epochs
    return what_rounding_moves(evidence.made_twice(paper.CIFAR), "train_loss", (last, last))
