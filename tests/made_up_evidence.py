"""Evidence that a test makes up: curves, grids and runs that diverged."""

from pathlib import Path

import pandas as pd

from experiments.analysis.results import Grid
from experiments.analysis.rounding import MadeTwice
from experiments.claims import sentences
from experiments.claims.evidence import Evidence
from experiments.claims.rules import Comparison

CHECKOUT = Path(__file__).parents[1]
LOGISTIC = "mnist_logistic"   # has 10 seeds
POINT = ["learning_rate", "beta1", "beta2"]
NOISE = [0.01, -0.01, 0.02, -0.02, 0.0] * 2


class MadeUp(Evidence):
    """Curves (``tuned``: those of our search's values), grids (rows of method, point, seed, status and loss),
    divergences and runs made ``twice`` that a test gives.
    """

    def __init__(self, curves=(), grid=(), diverged=(), tuned=(), twice=((), ())):
        super().__init__(CHECKOUT / "tests", CHECKOUT / "configs")   # a folder without records
        columns = ["method", "seed", "epoch", "train_loss", "test_loss", "test_accuracy", "overfitting"]
        runs = pd.DataFrame(list(grid), columns=["method", *POINT, "seed", "status", "train_loss"])
        self.curves = lambda experiment, of_tuned=False: pd.DataFrame(list(tuned if of_tuned else curves),
                                                                      columns=columns)
        self.grid = lambda experiment, seeds=None: Grid(
            self.experiment(experiment), [0, 1], POINT,
            runs[runs["seed"].isin(seeds or self.experiment(experiment).tuning.seeds)])
        self.diverged = lambda experiment, of_tuned, method: 0 if of_tuned else diverged.count(method)
        self.made_twice = lambda experiment: MadeTwice(*(pd.DataFrame(list(rows), columns=columns) for rows in twice))


def runs(method, losses, accuracies=None):
    """Rows of runs with these train losses (a list per seed) and test accuracies; test loss 1."""
    return [(method, seed, epoch, loss, 1.0, accuracies[seed][epoch - 1] if accuracies else 0.5, 1 - loss)
            for seed, run in enumerate(losses) for epoch, loss in enumerate(run, start=1)]


def named(names):
    """The claims with these names."""
    return [claim for claim in sentences.CLAIMS if claim.name in names]


def compared(relation="below", limit=0.0, measure="train_loss"):
    """A rule on NAMSG beside ADAM in the second epoch of logistic regression."""
    return Comparison(LOGISTIC, ("namsg",), ("adam",), measure, (2, 2), relation, limit)
