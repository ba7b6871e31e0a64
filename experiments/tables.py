"""A table of an experiment's results from records, as Markdown and CSV: one row per method."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.results import LABELS, Results

HYPERPARAMETERS = {"learning_rate": "α", "beta1": "β1", "beta2": "β2"}
MEASURES = {"train_loss": "train loss", "train_loss_full": "train loss, whole set", "test_loss": "test loss",
            "test_accuracy": "test accuracy", "best_test_accuracy": "best test accuracy"}


def summarize(results: Results) -> pd.DataFrame:
    """One row per method.

    Columns: method; its hyper-parameters; n, the runs that the numbers are of; seeds, the runs that the configuration
    asks for; diverged, the runs left out; epochs, the fewest that any run has; and ``*_mean`` and ``*_std`` (of a
    sample; empty for one run) over the runs of each measure at the run's last epoch, or of its best_test_accuracy.
    """
    return pd.DataFrame([_summary(results, method) for method in results.methods])


def _summary(results: Results, method: str) -> dict:
    epochs = results.epochs[results.epochs["method"] == method]
    runs = results.runs[results.runs["method"] == method]
    diverged = runs["status"] == "diverged"
    last = epochs.sort_values("epoch").groupby("seed").last()
    last["best_test_accuracy"] = epochs.groupby("seed")["test_accuracy"].max()
    parameters = results.experiment.methods[method].parameters
    row = {"method": method, **{name: parameters.get(name) for name in HYPERPARAMETERS}, "n": len(last),
           "seeds": len(results.experiment.seeds), "diverged": diverged.sum(),
           "epochs": runs["epochs"][~diverged].min()}
    for measure in MEASURES:
        row[f"{measure}_mean"], row[f"{measure}_std"] = last[measure].mean(), last[measure].std()
    return row


def write(results: Results, folder: Path) -> list[Path]:
    """Write the table of an experiment as ``<its name>.md`` and ``.csv`` into the folder and return their paths."""
    summary = summarize(results)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{results.experiment.name}.{kind}" for kind in ("md", "csv")]
    paths[0].write_text(markdown(results.experiment.title, summary), encoding="utf-8")
    summary.to_csv(paths[1], index=False)
    return paths


def markdown(title: str, summary: pd.DataFrame) -> str:
    """The summary as a table to read: mean ± standard deviation; n is marked where runs are missing or left out."""
    header = ["method", *HYPERPARAMETERS.values(), "n", "epochs", *MEASURES.values()]
    lines = [header, ["---"] * len(header), *(_cells(row) for _, row in summary.iterrows())]
    return f"{title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: pd.Series) -> list[str]:
    n = f"{row['n']}" if row["n"] == row["seeds"] else f"{row['n']} of {row['seeds']}"
    return [
        LABELS[row["method"]],
        *("" if pd.isna(row[name]) else f"{row[name]:g}" for name in HYPERPARAMETERS),
        n + (f", {row['diverged']} diverged" if row["diverged"] else ""),
        "" if pd.isna(row["epochs"]) else f"{row['epochs']:.0f}",
        *(_mean_and_deviation(row[f"{measure}_mean"], row[f"{measure}_std"]) for measure in MEASURES),
    ]


def _mean_and_deviation(mean: float, deviation: float) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.4f}" if pd.isna(deviation) else f"{mean:.4f} ± {deviation:.4f}"
