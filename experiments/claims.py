"""The paper's testable sentences, each with its rule of decision, and the verdicts of the records on them.

The rules were fixed before the runs that they judge, but for logistic regression at Table A1's values and for Sections
3 and 4, whose numbers were known by then. A difference is decided by the 95 % interval of its mean over common seeds
(`experiments.comparison`).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Sequence

import numpy as np
import pandas as pd

from experiments import theory_claims
from experiments.comparison import FAILS, HOLDS, NOT_RUN
from experiments.criteria import (
    BestOfGrid,
    Claim,
    Comparison,
    Computed,
    EpochsToTarget,
    GridCells,
    Judgement,
    Level,
)
from experiments.evidence import Evidence
from experiments.figures import FIVE
from experiments.tables import Table
from experiments.theory_claims import GAIN, REGRET

LOGISTIC, CNN, CIFAR, COST = "mnist_logistic", "mnist_cnn", "cifar10_resnet20", "cost"
PARTS = {GAIN: "Section 3: remote observation", REGRET: "Section 4: regret", LOGISTIC: "Logistic regression on MNIST",
         CNN: "CNN on MNIST", CIFAR: "ResNet-20 on CIFAR-10", COST: "Cost of a step"}
RIVALS = ("sgd", "adam", "nadam", "amsgrad")
CONSIDERABLY = 0.8   # 'considerably fewer iterations': at most so many of the other's
LAST = {LOGISTIC: (20, 20), CNN: (10, 10)}
# ResNet-20's step sizes drop in the 62nd epoch.
BEFORE_DROP, TEN_BEFORE_DROP, LAST_FIVE = (61, 61), (52, 61), (71, 75)
BASELINE = 0.9125   # He et al. 2016, as the paper quotes it


class Verdict(NamedTuple):
    """A claim and what the records say of it."""

    claim: Claim
    judgement: Judgement


def judge(evidence: Evidence) -> list[Verdict]:
    """The verdict on every claim, from the records alone."""
    return [Verdict(claim, claim.criterion.judge(evidence)) for claim in CLAIMS]


def describe(verdict: Verdict) -> str:
    """A verdict as lines to read."""
    claim, judgement = verdict
    return (f"{judgement.verdict.upper()}  {claim.where} ({claim.name}): {claim.sentence}\n"
            f"  of: {claim.criterion.quantity}\n  holds if: {claim.criterion.rule}\n"
            f"  found: {judgement.finding or 'nothing recorded yet'}")


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON can hold it; numbers that are not finite are None."""
    claim, judgement = verdict
    return {"name": claim.name, "part": claim.part, "where": claim.where, "sentence": claim.sentence,
            "quantity": claim.criterion.quantity, "rule": claim.criterion.rule, "verdict": judgement.verdict,
            "finding": judgement.finding, "n": judgement.n, "commands": list(claim.commands),
            "numbers": json.loads(judgement.numbers.replace([np.inf, -np.inf], np.nan).to_json(orient="records"))}


def as_table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts as a table: numbers with columns name, where, verdict, n and finding; cells to read."""
    numbers = pd.DataFrame([{"name": v.claim.name, "where": v.claim.where, "verdict": v.judgement.verdict,
                             "n": v.judgement.n, "finding": v.judgement.finding} for v in verdicts])
    cells = pd.DataFrame([{"where": v.claim.where, "claim": v.claim.sentence, "verdict": v.judgement.verdict,
                           "n": f"{v.judgement.n or ''}", "numbers": v.judgement.finding} for v in verdicts])
    return Table("Claims of the paper, and what the records say of them", numbers, cells)


def _run(experiment: str, methods: Sequence[str] = (), tuned: bool = False) -> str:
    return (f"python -m experiments run configs/{experiment}.yaml" + " --tuned" * tuned
            + (f" --method {' '.join(methods)}" if methods else ""))


def _grid(experiment: str) -> str:
    return f"python -m experiments grid configs/{experiment}.yaml"


def _lowest(experiment: str, sentence: str) -> list[Claim]:
    """That NAMSG has the lowest train loss of the five at the end: at the paper's values, and at our grid's."""
    comparison = (experiment, ("namsg",), RIVALS, "train_loss", LAST[experiment])
    return [Claim(f"{experiment}-lowest", experiment, "Section 5.1", sentence, Comparison(*comparison),
                  [_run(experiment)]),
            Claim(f"{experiment}-lowest-tuned", experiment, "Section 5.1", f"{sentence} [Our grid search's values.]",
                  Comparison(*comparison, tuned=True), [_grid(experiment), _run(experiment, tuned=True)])]


def _mnist(name: str, experiment: str, where: str, sentence: str, *criterion, **options) -> Claim:
    comparison = Comparison(experiment, *criterion, **options)
    methods = [*comparison.methods, *(comparison.others or ())]
    return Claim(f"{experiment}-{name}", experiment, where, sentence, comparison,
                 [_run(experiment, [] if set(methods) <= set(FIVE) else methods)])


def _on_both(name: str, where: str, sentence: str, methods: Sequence[str], others: Sequence[str], *criterion
             ) -> list[Claim]:
    """A claim on the train loss at the end, of logistic regression and of the CNN, of methods made on request only."""
    return [Claim(f"{experiment}-{name}", experiment, where, sentence,
                  Comparison(experiment, methods, others, "train_loss", LAST[experiment], *criterion),
                  [_run(experiment, [*others, *methods])]) for experiment in LAST]


def _faster(experiment: str) -> Claim:
    return Claim(f"{experiment}-faster", experiment, "Section 6", "NAMSG converges faster than other adaptive methods, "
                 "such as ADAM, NADAM, and AMSGRAD [read as: it needs fewer epochs to their last train loss].",
                 EpochsToTarget(experiment, "namsg", ("adam", "nadam", "amsgrad"), LAST[experiment][1], share=1),
                 [_run(experiment)])


def _from_grid(experiment: str, limit: float) -> Claim:
    return Claim(f"{experiment}-grid", experiment, "Table A1", "[Table A1's values] are chosen by grid search.",
                 BestOfGrid(experiment, (*FIVE, "nadam_mxnet"), limit), [_grid(experiment)])


def _on_cifar(name: str, where: str, sentence: str, *criterion, **options) -> Claim:
    comparison = Comparison(CIFAR, *criterion, **options)
    methods = [*comparison.methods, *(comparison.others or ())]
    return Claim(f"{CIFAR}-{name}", CIFAR, where, sentence, comparison, [_run(CIFAR, methods)])


def _cost(evidence: Evidence) -> Judgement:
    """Time of a whole step on ResNet-50's parameters on the most threads that were measured."""
    report = evidence.json("benchmarks", "optimizer_step.json")
    if report is None:
        return Judgement(NOT_RUN, "", 0, pd.DataFrame())
    measured = max((m for m in report["measurements"] if m["shapes"] == "ResNet-50"), key=lambda m: m["threads"])
    seconds = measured["median_seconds"]
    ours, adam = seconds["namsg, cpu kernel"], seconds["MXNet adam"]
    numbers = pd.DataFrame({"optimizer": list(seconds), "milliseconds": [1e3 * s for s in seconds.values()]})
    return Judgement(HOLDS if ours <= adam else FAILS, f"{1e3 * ours:.1f} ms a step, MXNet's adam {1e3 * adam:.1f} ms",
                     report["rounds"], numbers)


CLAIMS = [
    *theory_claims.CLAIMS,

    *_lowest(LOGISTIC, "NAMSG performs better than other methods with respect to train loss."),
    _mnist("overfits", LOGISTIC, "Section 5.1", "The test loss and test accuracy are roughly consistent with the train "
           "loss in the initial epochs, after which they increase for overfitting.",
           FIVE, None, "test_loss", (16, 20), "above", against_epochs=(4, 5)),
    _from_grid(LOGISTIC, 0.01),
    _faster(LOGISTIC),

    *_lowest(CNN, "NAMSG has the lowest train loss [of the CNN]."),
    _mnist("amsgrad-close", CNN, "Section 5.1", "The performance of AMSGRAD is close to NAMSG ...",
           ("amsgrad",), ("namsg",), "train_loss", LAST[CNN], "within", 0.1),
    _mnist("amsgrad-better", CNN, "Section 5.1", "... and better than other methods.",
           ("amsgrad",), ("sgd", "adam", "nadam"), "train_loss", LAST[CNN]),
    _mnist("initial", CNN, "Section 5.1", "ADAM and NADAM are faster than SGD in the initial epochs ...",
           ("adam", "nadam"), ("sgd",), "train_loss", (1, 2)),
    _mnist("final", CNN, "Section 5.1", "... but they require lower learning rates in the final epochs [read as: "
           "their train loss ends above SGD's].", ("adam", "nadam"), ("sgd",), "train_loss", LAST[CNN], "above"),
    _mnist("generalizes", CNN, "Section 5.1", "[NAMSG's lowest train loss] translates to good generalization "
           "performance before overfitting [read as: its best test accuracy is not 0.001 below any other's].",
           ("namsg",), RIVALS, "best_test_accuracy", (1, 10), "above", -0.001),
    _from_grid(CNN, 0.1),
    _faster(CNN),

    _on_cifar("fastest", "Section 5.2", "NAMSG converges faster than other methods.",
              ("namsg",), RIVALS, "train_loss", BEFORE_DROP),
    Claim(f"{CIFAR}-iterations", CIFAR, "Section 5.2", "It requires considerably fewer iterations to obtain the same "
          "level of train loss compared with ADAM [read as: a fifth fewer].",
          EpochsToTarget(CIFAR, "namsg", ("adam",), 61, CONSIDERABLY), [_run(CIFAR, ("adam", "namsg"))]),
    *(Claim(f"{CIFAR}-grid-{other}", CIFAR, "Section 5.2", sentence, GridCells("namsg", other, at_least),
            [f"{_grid(CIFAR)} --method namsg {other}"])
      for other, at_least, sentence in (
          ("amsgrad", 9, "In grid search NAMSG is faster than AMSGRAD for almost all the hyper-parameter settings ..."),
          ("adam", 6, "... faster than ADAM for most of the settings ..."),
          ("nadam_mxnet", 6, "... and than NADAM [MXNet's own]."),
          ("nadam", 6, "... and than NADAM [a right one]."))),
    _on_cifar("test-before-drop", "Section 5.2", "It also has the best performance in test, before the step size "
              "drops.", ("namsg",), RIVALS, "test_accuracy", TEN_BEFORE_DROP, "above"),
    _on_cifar("drop", "Section 5.2", "The test accuracy increases fast after the step size drops ...",
              FIVE, None, "test_accuracy", (63, 65), "above", against_epochs=TEN_BEFORE_DROP),
    _on_cifar("stagnates", "Section 5.2", "... and then stagnates due to overfitting.",
              FIVE, None, "test_accuracy", LAST_FIVE, "within", 0.005, against_epochs=(64, 66)),
    _on_cifar("overfitting", "Section 5.2", "AMSGRAD and NAMSG suffer the most severely from overfitting.",
              ("amsgrad", "namsg"), ("sgd", "adam", "nadam"), "overfitting", LAST_FIVE, "above"),
    _on_cifar("sgd-train", "Section 5.2", "SGD has the highest train loss ...",
              ("sgd",), ("adam", "nadam", "amsgrad", "namsg"), "train_loss", LAST_FIVE, "above"),
    _on_cifar("sgd-test", "Section 5.2", "... but performs the best in tests.",
              ("sgd",), ("adam", "nadam", "amsgrad", "namsg"), "test_accuracy", LAST_FIVE, "above"),
    _on_cifar("namsg1-faster", "Section 5.2", "NAMSG1 still converges faster than ADAM ...",
              ("namsg1",), ("adam",), "train_loss", BEFORE_DROP),
    _on_cifar("namsg1-test", "Section 5.2", "... and generalizes slightly better than SGD.",
              ("namsg1",), ("sgd",), "test_accuracy", LAST_FIVE, "above"),
    _on_cifar("swnts-faster", "Section 5.2", "SWNTS also converges faster than ADAM ...",
              ("swnts",), ("adam",), "train_loss", BEFORE_DROP),
    _on_cifar("swnts-test", "Section 5.2", "... and achieves better generalization than SGD.",
              ("swnts",), ("sgd",), "test_accuracy", LAST_FIVE, "above"),
    _on_cifar("swnts1-test", "Section 5.2", "[SWNTS1 is above SGD in tests, too.]",
              ("swnts1",), ("sgd",), "test_accuracy", LAST_FIVE, "above"),
    *(Claim(f"{CIFAR}-swnts1-{level}", CIFAR, where, f"SWNTS1 achieves the mean best generalization accuracy of "
            f"{level}.", Level(CIFAR, "swnts1", "best_test_accuracy", (1, 75), "within", level, 0.003),
            [_run(CIFAR, ("swnts1",))])
      for level, where in ((0.9158, "Section 5.2"), (0.9145, "Table A3"))),
    *(Claim(f"{CIFAR}-{method}-baseline", CIFAR, "Section 5.2", sentence,
            Level(CIFAR, method, "best_test_accuracy", (1, 75), "above", BASELINE), [_run(CIFAR, (method,))])
      for method, sentence in (
          ("swnts1", "[SWNTS1's] is higher than the baseline of 0.9125 [He et al., 2016]."),
          ("swnts", "The generalization gap can be fixed by these strategies [SWNTS against the same baseline]."),
          ("namsg1", "The generalization gap can be fixed by these strategies [NAMSG1 against the same baseline]."))),

    _on_cifar("bounded-fast", "Figure A1", "α_SGD = 0.1 converges fast [faster than 0.5] ...",
              ("namsb1", "amsb1"), ("namsb2", "amsb2"), "train_loss", BEFORE_DROP),
    _on_cifar("bounded-test", "Figure A1", "... and may generalize poorly, 0.5 the reverse.",
              ("namsb1", "amsb1"), ("namsb2", "amsb2"), "test_accuracy", LAST_FIVE),
    *(_on_cifar(f"namsb{i}-faster", "Figure A1", f"With equal settings NAMSB converges faster than AMSBound [α_SGD = "
                f"{alpha}] ...", (f"namsb{i}",), (f"amsb{i}",), "train_loss", BEFORE_DROP)
      for i, alpha in ((1, 0.1), (2, 0.5))),
    *(_on_cifar(f"namsb{i}-test", "Figure A1", f"... and generalizes slightly better [α_SGD = {alpha}].",
                (f"namsb{i}",), (f"amsb{i}",), "test_accuracy", LAST_FIVE, "above")
      for i, alpha in ((1, 0.1), (2, 0.5))),

    Claim("cost", COST, "Abstract", "The method is efficient in computation [read as: a step costs no more than "
          "MXNet's Adam].",
          Computed("median time of Trainer.step on ResNet-50's parameters, our CPU kernel and MXNet's adam",
                   "at most Adam's", _cost), ["make benchmark"]),

    # Not the paper's sentences, but what its reproduction rests on, and what came after it.
    *_on_both("nadam", "ours", "[MXNet's Nadam as shipped trains like a right one: train losses within 1 %.]",
              ("nadam_mxnet",), ("nadam",), "within", 0.01),
    _mnist("sgd-reading", LOGISTIC, "ours", "[SGD's α of Table A1 belongs to the averaged momentum: read as MXNet's "
           "learning rate it trains worse.]", ("sgd",), ("sgd_mxnet",), "train_loss", LAST[LOGISTIC]),
    *_on_both("2019", "later work", "[The authors' settings of September 2019 give NAMSG a lower train loss.]",
              ("namsg_2019",), ("namsg",)),
]
