"""Trains with NAMSG's form (6) and with Algorithm 1, which approximates it, both by the NumPy float64 reference.

    python -m experiments.theory.original_form --data DIR

Trains configs/mnist_logistic.yaml's logistic regression with its NAMSG and all its seeds (some minutes), and writes
results/tables/original_form.md, .csv and .tex. Initial weights and orders of the examples are equal to `experiments
run`'s, and so are Algorithm 1's losses, up to float32 rounding.
"""

from __future__ import annotations

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

import argparse
import math
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping

import mxnet as mx
import numpy as np
import pandas as pd

from experiments.analysis.intervals import interval
from experiments.claims.evidence import ORIGINAL_FORM
from experiments.claims.wording import bracketed
from experiments.display import tables
from experiments.theory.progress import follow
from experiments.training import data, models
from experiments.training.loop import epoch_order, optimizer_arguments
from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment, updates_per_epoch
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.folders import CONFIGS, RESULTS
from experiments.vocabulary.paper import LOGISTIC
from namsg_mx import reference

FORMS = ("algorithm", "original")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the data sets (default: NAMSG_DATA, or MXNet's own)")
    parser.add_argument("--results", default=RESULTS, help="folder whose tables/ is written to")
    options = parser.parse_args()
    try:
        experiment = config.load(CONFIGS / f"{LOGISTIC}.yaml")
        data_set = data.load(experiment.data, options.data)
        Path(options.results, ORIGINAL_FORM.folder).mkdir(parents=True, exist_ok=True)   # before minutes of training
    except (OSError, UsageError) as error:
        parser.exit(2, f"original_form: {error}\n")
    try:
        made = table(curves(experiment, data_set), experiment.title)
        paths = tables.write(made, Path(ORIGINAL_FORM.name).stem, Path(options.results, ORIGINAL_FORM.folder))
    except KeyboardInterrupt:
        parser.exit(130, "original_form: interrupted; nothing is written\n")
    except OSError as error:
        parser.exit(1, f"original_form: {error}\n")
    for path in paths:
        print(f"written: {path}")
    return 0


def curves(experiment: Experiment, data_set: data.DataSet) -> pd.DataFrame:
    """A row per seed and epoch: seed, epoch, and for each of FORMS its running train loss and its test loss.

    As in the records of runs, losses are taken at the points where gradients are observed; also for form (6).
    """
    rows = []
    for run in follow(experiment.runs(["namsg"]), "Algorithm 1 and the form (6)"):
        played = [play(run.settings, run.seed, experiment.epochs, data_set, form == "original") for form in FORMS]
        for epoch, losses in enumerate(zip(*played), start=1):
            rows.append({"seed": run.seed, "epoch": epoch,
                         **{f"{form}_{kind}": loss for form, of_form in zip(FORMS, losses)
                            for kind, loss in zip(("train", "test"), of_form)}})
    return pd.DataFrame(rows)


def play(settings: Mapping[str, Any], seed: int, epochs: int, data_set: data.DataSet, original: bool
         ) -> Iterator[tuple[float, float]]:
    """Running train loss and test loss of each epoch of a run with these settings."""
    train, test = ((part.images.reshape(len(part.images), -1).astype(np.float64), part.labels) for part in data_set)
    size = settings["batch_size"]
    updates = updates_per_epoch(len(train[1]), size)
    values = optimizer_arguments(settings["parameters"], updates)
    net = models.build(settings["model"], seed, mx.cpu())
    x_hat = np.concatenate([parameter.data().asnumpy().astype(np.float64).ravel()
                            for parameter in (net.weight, net.bias)])   # x_1 = x_hat_1, where gradients are taken
    x, state = x_hat, reference.initial_moments(x_hat, values["epsilon"])
    constants = values["learning_rate"], values["beta1"], values["beta2"]
    for epoch in range(1, epochs + 1):
        order, total = epoch_order(seed, epoch, len(train[1])), 0.0
        for k in range(updates):
            chosen = order[k * size:(k + 1) * size]
            loss, grad = softmax_regression(x_hat, train[0][chosen], train[1][chosen])
            total += loss * len(chosen)
            g, eta = reference.gradient(grad, x_hat, wd=values["wd"]), values["eta"]((epoch - 1) * updates + k)
            if original:
                x, x_hat, state = reference.namsg_original(x, g, state, *constants, eta)
            else:
                x_hat, state = reference.namsg(x_hat, g, state, *constants, eta)
        yield total / len(order), softmax_regression(x_hat, *test)[0]


def softmax_regression(x: np.ndarray, features: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean cross entropy over examples, and its gradient; ``x`` has the weights class by class, then the biases."""
    n, dimension = features.shape
    classes = len(x) // (dimension + 1)
    weights, biases = x[:classes * dimension].reshape(classes, dimension), x[classes * dimension:]
    logits = features @ weights.T + biases
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    error = np.exp(log_p)
    error[np.arange(n), labels] -= 1
    return -log_p[np.arange(n), labels].mean(), np.concatenate([(error.T @ features).ravel(), error.sum(axis=0)]) / n


def table(played: pd.DataFrame, title: str) -> tables.Table:
    """A row per epoch: mean losses of both forms, and the relative difference of Algorithm 1's from (6)'s.

    Numbers: epoch, n, and for 'train' and 'test' both means, the difference (geometric mean of the ratios of losses
    with one seed, less 1), and its 95 % t interval from low to high, which are NaN for one seed.
    """
    rows = []
    for epoch, of_epoch in played.groupby("epoch"):
        row = {"epoch": epoch, "n": len(of_epoch)}
        for kind in ("train", "test"):
            ours, theirs = (of_epoch[f"{form}_{kind}"] for form in FORMS)
            n, difference, *ends = interval(np.log(ours / theirs))
            low, high = np.expm1(ends) if n > 1 else (math.nan, math.nan)
            row.update({f"algorithm_{kind}": ours.mean(), f"original_{kind}": theirs.mean(),
                        f"{kind}_difference": np.expm1(difference), f"{kind}_low": low, f"{kind}_high": high})
        rows.append(row)
    numbers = pd.DataFrame(rows)
    cells = [{"epoch": f"{row['epoch']:g}", "n": f"{row['n']:g}",
              **{f"{kind} loss, {name}": f"{row[f'{form}_{kind}']:.6f}" if form else
                 f"{row[f'{kind}_difference']:+.3%}{bracketed(row[f'{kind}_low'], row[f'{kind}_high'], '+.3%')}"
                 for kind in ("train", "test")
                 for name, form in (("Algorithm 1", "algorithm"), ("(6)", "original"), ("difference", ""))}}
             for _, row in numbers.iterrows()]
    return tables.Table(f"{title}, NAMSG in float64: Algorithm 1 beside the form (6) that it approximates", numbers,
                        pd.DataFrame(cells))


if __name__ == "__main__":
    sys.exit(main())
