"""Tables from records, with the paper's numbers beside ours, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import pandas as pd

from experiments.analysis import rounding, selection
from experiments.analysis.epochs_to_loss import epochs_to_common_loss, share_of_epochs
from experiments.analysis.intervals import deviation, interval, relative
from experiments.analysis.measures import MEASURES, by_seed
from experiments.analysis.results import Grid, Results, describe_n
from experiments.analysis.rounding import MadeTwice
from experiments.analysis.step_size import first_epoch_after_drop
from experiments.claims.judging import Verdict, by_bonferroni, is_decided, together
from experiments.claims.parts import PARTS
from experiments.vocabulary import files, paper
from experiments.vocabulary.config import Experiment, initial
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.methods import HYPERPARAMETERS, LABELS

SHOWN = {name: measure.label for name, measure in MEASURES.items() if name != "overfitting"}
LATEX = str.maketrans({**{letter: f"\\{letter}" for letter in "&%$#_{}"}, "\\": r"\textbackslash ",
                       "~": r"\textasciitilde ", "^": r"\textasciicircum "})   # for captions: pandas escapes the rest
REFERENCE = "adam"   # whose epochs to a train loss the others' are shares of
NOTHING_SELECTED: Mapping[str, Any] = {"chosen": {}, "train_loss": math.nan, "n": 0, "edges": []}
LAST_EPOCHS = 5   # Table A3 averages test accuracy over the last epochs


class Table(NamedTuple):
    """A table in two forms: ``numbers`` to compute with, and ``cells``, texts to read."""

    title: str
    numbers: pd.DataFrame
    cells: pd.DataFrame


def write(table: Table, name: str, folder: Path) -> list[Path]:
    """Write ``name``.md, .csv and .tex into the folder and return their paths."""
    files.make_folder(folder)
    paths = _paths(name, folder)
    # 12 digits: exp and log differ in their last digits between processors.
    for path, text in zip(paths, (
            _markdown(table), table.numbers.to_csv(index=False, float_format="%.12g"),
            table.cells.to_latex(index=False, escape=True, caption=table.title.translate(LATEX)))):
        files.write_atomically(path, text.encode())
    return paths


def remove(name: str, folder: Path) -> None:
    """Remove the files that an earlier `write` left by this name: they would show other runs than the tables beside."""
    for path in _paths(name, folder):
        files.remove(path)


def _paths(name: str, folder: Path) -> list[Path]:
    return [folder / f"{name}.{kind}" for kind in ("md", "csv", "tex")]


def _markdown(table: Table) -> str:
    lines = [list(table.cells.columns), ["---"] * len(table.cells.columns), *table.cells.values.tolist()]
    return f"{table.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


# One experiment's results

def of_experiment(results: Results) -> dict[str, Table | None]:
    """By ending of the file's name: the `summary`, and `epochs_to_loss`; None unless ADAM and another are complete."""
    complete = set(results.complete["method"])
    return {"": summary(results), "_epochs_to_loss": epochs_to_loss(results) if complete > {REFERENCE} else None}


def summary(results: Results) -> Table:
    """One row per method: its measures at the last epoch that `Results.epochs` has for it.

    Numbers: method; its hyper-parameters; n, the number of runs that count; seeds, how many the configuration and the
    command ask for; diverged, the number left out; epochs, the last epoch; and for each measure ``*_mean`` and
    ``*_std`` over the runs (the sample's deviation, empty for one run), at that epoch, or over all epochs for
    best_test_accuracy.
    """
    numbers = pd.DataFrame([_summary(results, method) for method in results.methods])
    cells = [{
        "method": LABELS[row["method"]],
        **{symbol: _number(row[name]) for name, symbol in HYPERPARAMETERS.items()},
        "n": describe_n(row["n"], row["seeds"], row["diverged"]), "epochs": _number(row["epochs"]),
        **{title: _mean_and_deviation(row[f"{measure}_mean"], row[f"{measure}_std"])
           for measure, title in SHOWN.items()},
    } for _, row in numbers.iterrows()]
    return Table(results.experiment.title, numbers, pd.DataFrame(cells))


def _summary(results: Results, method: str) -> dict:
    epochs = results.epochs[results.epochs["method"] == method]
    last = epochs["epoch"].max()
    row = {"method": method, **_parameters(results, method), "n": epochs["seed"].nunique(),
           "seeds": len(results.seeds), "diverged": results.count_runs(method)["diverged"], "epochs": last}
    for measure in SHOWN:
        values = by_seed(epochs, measure, (1 if measure == "best_test_accuracy" else last, last))
        row[f"{measure}_mean"], row[f"{measure}_std"] = values.mean(), deviation(values)
    return row


def _parameters(results: Results, method: str) -> dict[str, float | None]:
    """A method's hyper-parameters in the configuration; of a schedule, its first value."""
    values = results.experiment.methods[method].parameters
    return {name: initial(values.get(name)) for name in HYPERPARAMETERS}


def epochs_to_loss(results: Results) -> Table:
    """The epochs that each method needs to a train loss, as a share of the epochs that `REFERENCE` needs.

    Only complete runs count. For two runs with one seed, the train loss is the lowest that both reach by a given epoch
    (`experiments.analysis.epochs_to_loss.epochs_to_common_loss`). These epochs are a quarter, half and all of the
    reference's epochs before its step size first drops (of all epochs if it never drops). Numbers: method, by_epoch, n
    (pairs), train_loss, epochs and reference_epochs (means over the pairs), and share, low and high: the geometric mean
    of epochs / reference_epochs with its 95 % t interval.
    """
    curves = results.complete
    of_reference = curves[curves["method"] == REFERENCE]
    drop = first_epoch_after_drop(of_reference)
    last = drop - 1 if drop else int(of_reference["epoch"].max())
    rows = []
    for method in results.methods:
        for by_epoch in sorted({max(1, last // 4), max(1, last // 2), last}):
            pairs = epochs_to_common_loss(curves, method, REFERENCE, by_epoch)
            share = share_of_epochs(pairs)
            rows.append({"method": method, "by_epoch": by_epoch, "n": share.n, "train_loss": pairs["train_loss"].mean(),
                         "epochs": pairs["epochs"].mean(), "reference_epochs": pairs["other_epochs"].mean(),
                         "share": share.mean, "low": share.low, "high": share.high})
    numbers = pd.DataFrame(rows)
    lost = results.count_runs(REFERENCE)["diverged"]   # and so their pairs
    reason = f", {lost} of {LABELS[REFERENCE]}'s diverged" if lost else ""
    cells = [{"method": LABELS[method], "n": describe_n(of_method["n"].iloc[0], len(results.seeds),
                                                        results.count_runs(method)["diverged"]) + reason,
              **{f"by epoch {row['by_epoch']}": _share(row) for _, row in of_method.iterrows()}}
             for method, of_method in numbers[numbers["method"] != REFERENCE].groupby("method", sort=False)]
    return Table(f"{results.experiment.title}: epochs to a train loss, as a share of {LABELS[REFERENCE]}'s", numbers,
                 pd.DataFrame(cells))


def _share(row: pd.Series) -> str:
    if not row["n"]:
        return ""
    ends = f" ({row['low']:.2f} to {row['high']:.2f})" if row["n"] > 1 else ""
    return f"{row['share']:.2f}{ends}: {row['epochs']:.1f} of {row['reference_epochs']:.1f}"


# What rounding alone moves

def of_rounding(made: Sequence[tuple[Experiment, MadeTwice]]) -> Table:
    """One row per experiment and method with runs that were made twice.

    Numbers: experiment, method and n. Of the train loss, the factor between the two runs, to either side, less 1: in
    the first and the last epoch (``train_loss_first``, ``train_loss_last``) by the root mean square of its logarithm
    over the runs, and the largest of any epoch; and the geometric mean of the second run's over the first one's in the
    last epoch, less 1, with its 95 % t interval (``train_loss_mean``, ``low``, ``high``). Of the test loss the largest
    factor, less 1. Of the difference of test accuracies the root mean square in the last epoch, and the largest.
    """
    numbers = pd.DataFrame([_rounding(experiment, runs, method) for experiment, runs in made
                            for method in runs.methods])
    cells = [{
        "experiment": row["experiment"], "method": LABELS[row["method"]], "n": f"{row['n']}",
        "train loss, first epoch": _number(row["train_loss_first"], ".2g"),
        "last epoch": _number(row["train_loss_last"], ".2g"),
        "last epoch, mean": _number(row["train_loss_mean"], "+.2g") + (
            f" ({row['low']:+.2g} to {row['high']:+.2g})" if row["n"] > 1 else ""),
        "any epoch, largest": _number(row["train_loss_largest"], ".2g"),
        "test loss, any epoch, largest": _number(row["test_loss_largest"], ".2g"),
        "test accuracy, last epoch": _number(row["test_accuracy_last"], ".4f"),
        "test accuracy, any epoch, largest": _number(row["test_accuracy_largest"], ".4f"),
    } for _, row in numbers.iterrows()]
    return Table("What rounding alone moves: runs made twice, with equal settings and seeds, by code or machines that "
                 "round differently. Losses: the factor between the two runs, to either side, less 1, by the root mean "
                 "square of its logarithm over the runs; largest: of any run; mean: the second run's loss over the "
                 "first one's, geometric, less 1. Accuracies: differences, root mean square or largest", numbers,
                 pd.DataFrame(cells))


def _rounding(experiment: Experiment, runs: MadeTwice, method: str) -> dict:
    last = experiment.epochs
    by_epoch = {measure: [rounding.change(runs, method, measure, (epoch, epoch)) for epoch in range(1, last + 1)]
                for measure in ("train_loss", "test_loss", "test_accuracy")}
    largest = {measure: max(changes.abs().max() for changes in of) for measure, of in by_epoch.items()}
    mean = interval(by_epoch["train_loss"][-1])
    return {"experiment": experiment.name, "method": method, "n": mean.n,
            "train_loss_first": relative(rounding.size(by_epoch["train_loss"][0])),
            "train_loss_last": relative(rounding.size(by_epoch["train_loss"][-1])),
            **dict(zip(("train_loss_mean", "low", "high"), map(relative, mean[1:]))),
            "train_loss_largest": relative(largest["train_loss"]),
            "test_loss_largest": relative(largest["test_loss"]),
            "test_accuracy_last": rounding.size(by_epoch["test_accuracy"][-1]),
            "test_accuracy_largest": largest["test_accuracy"]}


# The supplement's tables

def table_a1(grids: Sequence[Grid]) -> Table:
    """Table A1: the hyper-parameters that the paper's grid search chose, and the ones that our grid search chose.

    Ours are left empty where a grid search selects nothing, or runs are missing: means over other seeds do not compare.
    """
    rows = []
    for grid in grids:
        found = selection.select(grid)
        for method, points in selection.averages(grid).groupby("method", sort=False):
            configured = grid.experiment.methods[method]
            every_point = len(configured.points())
            is_complete = len(grid.only([method]).runs) == every_point * len(grid.seeds)
            selected = NOTHING_SELECTED   # also where a run diverged at each point
            if grid.experiment.selects and is_complete:
                selected = found.get(method, NOTHING_SELECTED)
            loss_at_papers, n_at_papers = _at_papers(grid, method, points)
            rows.append({
                "experiment": grid.experiment.name, "method": method,
                **{f"{name}_paper": initial(configured.parameters.get(name)) for name in grid.coordinates},
                **{f"{name}_ours": selected["chosen"].get(name) for name in grid.coordinates},
                "train_loss_ours": selected["train_loss"], "train_loss_at_papers": loss_at_papers,
                "n": selected["n"], "n_at_papers": n_at_papers, "points": len(points),
                "points_of_grid": every_point, "edges": " ".join(selected["edges"])})
    numbers = pd.DataFrame(rows)
    names = list(dict.fromkeys(name for grid in grids for name in grid.coordinates))
    cells = [{
        "experiment": row["experiment"], "method": LABELS[row["method"]],
        "paper (α, β1, β2)": _point(row, "paper", names), "ours (α, β1, β2)": _point(row, "ours", names),
        "train loss at ours": _mean_and_deviation(row["train_loss_ours"], math.nan),
        "at the paper's": "diverged" if row["train_loss_at_papers"] == math.inf else _mean_and_deviation(
            row["train_loss_at_papers"], math.nan),
        "n": ", ".join(f"{n}" for n in dict.fromkeys((row["n"], row["n_at_papers"])) if n) or "0",
        "points": describe_n(row["points"], row["points_of_grid"], 0),
        "on the grid's edge": ", ".join(HYPERPARAMETERS.get(name, name) for name in row["edges"].split()),
    } for _, row in numbers.iterrows()]
    return Table("Table A1: hyper-parameters chosen by grid search", numbers, pd.DataFrame(cells))


def _at_papers(grid: Grid, method: str, points: pd.DataFrame) -> tuple[float, int]:
    """Of a method's points, the mean train loss of the configuration's, and of how many runs; NaN without any."""
    configured = grid.experiment.methods[method]
    for name in configured.grid:
        points = points[points[name] == initial(configured.parameters.get(name))]
    return (points["mean"].item(), int(points["n"].item())) if len(points) else (math.nan, 0)


def _point(row: pd.Series, whose: str, names: Sequence[str]) -> str:
    """A point's α, β1 and β2; then the other hyper-parameters among ``names``, each with its name."""
    values = {name: _number(row[f"{name}_{whose}"]) for name in names}
    return ", ".join(value if name in HYPERPARAMETERS else f"{name} {value}" for name, value in values.items() if value)


def table_a2(grid: Grid) -> Table:
    """Table A2: train loss at the last epoch of the grid search, the paper's (mean of 2 runs) and ours.

    UsageError if the paper's table has none of the methods.
    """
    points = in_table_a2(grid)
    if points.empty:
        raise UsageError(f"Table A2 has no {', '.join(LABELS[method] for method in grid.runs['method'].unique())}")
    cells = []
    for (alpha, beta2), group in points.sort_values(["beta2", "learning_rate"]).groupby(
            ["learning_rate", "beta2"], sort=False):
        row = {"α": f"{alpha:g}", "β2": f"{beta2:g}"}
        for _, point in group.iterrows():
            row[f"{LABELS[point['method']]}, paper"] = f"{point['paper']:.4f}"
            row[f"{LABELS[point['method']]}, ours"] = "diverged" if point["diverged"] else \
                f"{_mean_and_deviation(point['mean'], point['std'])} (n = {point['n']})"
        cells.append(row)
    columns = ["α", "β2", *(f"{LABELS[method]}, {whose}" for method in points["method"].unique()
                            for whose in ("paper", "ours"))]
    loss = MEASURES["train_loss"].label
    return Table(f"Table A2: {loss} at epoch {grid.experiment.search.epochs}, {grid.experiment.title}",
                 points[["method", "learning_rate", "beta2", "paper", "n", "mean", "std"]],
                 pd.DataFrame(cells, columns=columns).fillna(""))


def in_table_a2(grid: Grid) -> pd.DataFrame:
    """The rows of `selection.averages` that the paper's table has, with the loss that it has: ``paper``."""
    points = selection.averages(grid)
    printed = [paper.TABLE_A2.get(paper.printed_name(method), {}) for method in points["method"]]
    points["paper"] = [column.get(point) for column, point in
                       zip(printed, zip(points["learning_rate"], points["beta2"]))]
    return points[points["paper"].notna()]


def table_a3(results: Results) -> Table:
    """Table A3: test accuracy, mean over the last epochs and best of each run, the paper's (5 runs) and ours.

    Only complete runs count, as other runs lack the last epochs.
    """
    rows, complete = [], results.complete
    for method in results.methods:
        epochs = complete[complete["method"] == method]
        end = epochs["epoch"].max()
        last = by_seed(epochs, "test_accuracy", (end - LAST_EPOCHS + 1, end))
        best = by_seed(epochs, "best_test_accuracy", (1, end))
        (paper_last, paper_last_std), (paper_best, paper_best_std) = paper.TABLE_A3.get(
            paper.printed_name(method), ((math.nan,) * 2,) * 2)
        rows.append({"method": method, "n": len(last), "seeds": len(results.seeds),
                     "diverged": results.count_runs(method)["diverged"],
                     "last_paper_mean": paper_last, "last_paper_std": paper_last_std,
                     "last_mean": last.mean(), "last_std": last.std(),
                     "best_paper_mean": paper_best, "best_paper_std": paper_best_std,
                     "best_mean": best.mean(), "best_std": best.std()})
    numbers = pd.DataFrame(rows)
    cells = [{"method": LABELS[row["method"]], "n": describe_n(row["n"], row["seeds"], row["diverged"]), **{
        f"{title}, {whose}": _mean_and_deviation(row[f"{key}_mean"], row[f"{key}_std"])
        for title, name in ((f"mean of last {LAST_EPOCHS} epochs", "last"), ("best of each run", "best"))
        for whose, key in (("paper", f"{name}_paper"), ("ours", name))}} for _, row in numbers.iterrows()]
    return Table(f"Table A3: test accuracy, {results.experiment.title}", numbers, pd.DataFrame(cells))


# Claims

def claims(verdicts: Sequence[Verdict]) -> Table:
    """The table of verdicts.

    Numbers: name, where, sentence, quantity, rule (when it holds), verdict, p, bonferroni (the verdict by it), n and
    finding.
    """
    judgements = [judgement for _, judgement in verdicts]
    beside = by_bonferroni(judgements)
    p_values = ["" if judgement.p is None else f"{judgement.p:.2g}" for judgement in judgements]
    numbers = pd.DataFrame([{"name": claim.name, "where": claim.where, "sentence": claim.sentence,
                             "quantity": claim.rule.quantity, "rule": claim.rule.holds_if,
                             "verdict": judgement.verdict, "p": p, "bonferroni": stands, "n": judgement.n,
                             "finding": judgement.finding}
                            for (claim, judgement), p, stands in zip(verdicts, p_values, beside)])
    cells = pd.DataFrame([{"part": PARTS[claim.part], "where": claim.where, "claim": claim.sentence,
                           "verdict": judgement.verdict, "p": p if is_decided(judgement) else "",
                           "by Bonferroni": stands, "n": f"{judgement.n or ''}", "numbers": judgement.finding}
                          for (claim, judgement), p, stands in zip(verdicts, p_values, beside)])
    return Table("Claims of the paper, and what the records say of them. "
                 f"{together(judgements)} 'p' is one-sided. 'by Bonferroni': the verdict at a family-wise error rate "
                 "of 2.5 % over all claims that intervals can decide", numbers, cells)


def _number(value: float | None, form: str = "g") -> str:
    return "" if pd.isna(value) else f"{value:{form}}"


def _mean_and_deviation(mean: float, deviation: float) -> str:
    """'0.9068 ± 0.0024': four decimals as in the paper, or more to show the deviation's first digit.

    Means from 1e6 on, and those below 0.001 without a deviation, have four digits.
    """
    if pd.isna(mean):
        return ""
    is_small = 1e-8 < deviation < 1e-4   # smaller ones are roundings of equal values
    digits = math.ceil(-math.log10(deviation)) if is_small else 4
    if abs(mean) >= 1e6 or (0 < abs(mean) < 1e-3 and not deviation > 1e-8):   # too long, or 0.0000
        return f"{mean:.4g}" if pd.isna(deviation) else f"{mean:.4g} ± {deviation:.2g}"
    return f"{mean:.{digits}f}" if pd.isna(deviation) else f"{mean:.{digits}f} ± {deviation:.{digits}f}"
