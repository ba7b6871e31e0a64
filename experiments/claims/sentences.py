"""The paper's testable sentences, each with the rule that decides it.

Each claim is decided by itself, usually by the 95 % interval of a mean difference over common seeds. The table of all
claims also has the verdicts by Bonferroni's correction, and how many wrong ones to expect
(`experiments.claims.judging`). 'Faster' means fewer epochs to a train loss (`experiments.analysis.epochs_to_loss`).
`docs/validity.md` says which numbers were known when the rules were fixed.
"""

from __future__ import annotations

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

import math

import mxnet as mx
import pandas as pd

from experiments.analysis.intervals import ConfidenceInterval
from experiments.claims import theory
from experiments.claims.claim import NOTHING, Claim, Computed, Judgement
from experiments.claims.decisions import TOO_FEW, Decision, verdict_of, within
from experiments.claims.evidence import MXNET_ADAM, ORIGINAL_FORM, RESNET50, STEP_BENCHMARK, Evidence
from experiments.claims.grid_rules import BestOfGrid, GridCells, PublishedCells
from experiments.claims.parts import BESIDE, BOUNDED, COST, PUBLISHED, STRATEGIES
from experiments.claims.rules import Comparison, EpochsToLoss, Level
from experiments.claims.wording import WHEN, bracketed
from experiments.vocabulary import paper
from experiments.vocabulary.files import damaged
from experiments.vocabulary.methods import FIVE, LABELS
from experiments.vocabulary.paper import CIFAR, CNN, LOGISTIC

RIVALS = ("sgd", "adam", "nadam", "amsgrad")
BOTH_NADAMS = ("nadam", "nadam_mxnet")   # the second is very likely the paper's; on MNIST both have all runs
MNIST_RIVALS = ("sgd", "adam", *BOTH_NADAMS, "amsgrad")
CONSIDERABLY = 0.8   # 'considerably fewer iterations': at most this share of the other's
DEFAULTS = (("learning_rate", 0.002), ("beta1", 0.9), ("beta2", 0.99))
LAST = {LOGISTIC: (20, 20), CNN: (10, 10)}
NETWORKS = {LOGISTIC: "Logistic regression", CNN: "CNN", CIFAR: "ResNet-20"}
ALL = (1, 75)   # epochs of ResNet-20
# ResNet-20's step sizes drop in the 62nd epoch.
BEFORE_DROP, TEN_BEFORE_DROP, AFTER_DROP, LAST_FIVE = 61, (52, 61), (63, 65), (71, 75)
JUDGES = {CIFAR: (2, 9)}   # seeds beyond Table A2's; on MNIST those of BestOfGrid
BASELINE = 0.9125   # He et al. 2016, as the paper quotes it
NEAR = 0.003        # difference from a published accuracy that counts as equal
SAME = 0.05         # relative difference from published train losses that counts as equal
LIKE = 0.01         # relative difference between train losses that details alone may make


def _cost(evidence: Evidence) -> Judgement:
    """Judge by the measurement with the most threads."""
    report = evidence.benchmark(STEP_BENCHMARK) or {"measurements": []}
    measured = [m for m in report["measurements"] if m["shapes"] == RESNET50]
    if not measured:
        return NOTHING
    contenders = max(measured, key=lambda m: m["threads"])["contenders"]
    numbers = pd.DataFrame([{"optimizer": name, "milliseconds": 1e3 * c["seconds"][1], "namsg's share": c["share"][1]}
                            for name, c in contenders.items()])
    low, share, high = contenders[MXNET_ADAM]["share"]
    return Judgement(verdict_of(share <= 1),
                     f"{share:.2f} of the time of MXNet's adam (quartiles {low:.2f} to {high:.2f})", report["rounds"],
                     numbers)


def _memory(evidence: Evidence) -> Judgement:
    """Judge by the states that the optimizers create."""
    methods = evidence.experiment(LOGISTIC).methods
    if not methods.keys() >= {*FIVE}:
        return NOTHING
    arrays = {name: len(mx.optimizer.create(methods[name].optimizer).create_state(0, mx.nd.zeros(1))) for name in FIVE}
    numbers = pd.DataFrame([{"optimizer": LABELS[name], "arrays": count} for name, count in arrays.items()])
    finding = ", ".join(f"{LABELS[name]} {count}" for name, count in arrays.items())
    return Judgement(verdict_of(arrays["namsg"] <= arrays["adam"]), finding, len(numbers), numbers)


def _original_form(evidence: Evidence) -> Judgement:
    numbers = evidence.table(ORIGINAL_FORM)
    if numbers.empty:
        return NOTHING._replace(p=1.0)
    experiment = evidence.experiment(LOGISTIC)
    if list(numbers["epoch"]) != list(range(1, experiment.epochs + 1)):
        raise damaged(evidence.folder / ORIGINAL_FORM.folder / ORIGINAL_FORM.name)
    last = numbers.iloc[-1]
    n, low, high = int(last["n"]), last["train_low"], last["train_high"]
    ends = (math.log1p(low), math.log1p(high)) if n > 1 else (-math.inf, math.inf)
    found = ConfidenceInterval(n, math.log1p(last["train_difference"]), *ends)
    is_complete = n == len(experiment.seeds)
    verdict, p, made = within(found, math.log1p(LIKE)) if is_complete else Decision(TOO_FEW, 1.0)
    finding = (f"Algorithm 1 {last['algorithm_train']:.4g}, (6) {last['original_train']:.4g}: "
               f"{last['train_difference']:+.3%}{bracketed(low, high, '+.3%')}, n = {n}; at most "
               f"{numbers['train_difference'].abs().max():.2%} in any epoch, and "
               f"{numbers['test_difference'].abs().max():.2%} of test loss")
    return Judgement(verdict, finding, n, numbers, p, made)


def _on_mnist(name: str, where: str, sentence: str, rule) -> list[Claim]:
    """A claim on logistic regression and one on the CNN; ``rule`` makes the rule of an experiment."""
    return [Claim(f"{experiment}-{name}", experiment, where, sentence, rule(experiment)) for experiment in LAST]


def _lowest(experiment: str) -> Comparison:
    return Comparison(experiment, ("namsg",), MNIST_RIVALS, "train_loss", LAST[experiment])


def _best_of_grid(experiment: str, methods=FIVE, limit=0.02, point=None) -> BestOfGrid:
    return BestOfGrid(experiment, methods, limit, point, JUDGES.get(experiment, BestOfGrid.judges))


DISTANCES = ("eta_0", "eta_0.5", "eta_0.9", "eta_2", "eta_3", "eta_5", "eta_9", "eta_0.9_to_2", "eta_0.9_to_5")
GUIDELINE = "The analysis provides a guideline to select the observation distance η without grid search."

LOWER = tuple(f"{method}_lower" for method in MNIST_RIVALS)   # each method's step size drops near the end

FASTER_IN_GRID = ("... in grid search, we observe that NAMSG is faster than AMSGRAD for almost all the hyper-parameter "
                  "settings, and faster than ADAM, NADAM for most of the settings.")
INITIAL = "The test loss and test accuracy are roughly consistent with the train loss in the initial epochs, ..."
DROP = "The test loss and accuracy increase fast after the step size drops, and then stagnate due to overfitting."

CLAIMS = [
    *theory.CLAIMS,

    Claim("algorithm", LOGISTIC, "Section 2",
          "In order to make the method more efficient, we simplify the update by approximation. [Algorithm 1 trains "
          "like the form (6) that it approximates: train losses within a factor of 1.01.]",
          Computed("running train loss of NAMSG by Algorithm 1 over that by (6), epoch 20, both in float64; paired by "
                   "seed, geometric mean",
                   f"the 95 % t interval of the mean lies between {1 / (1 + LIKE) - 1:+.1%} and {LIKE:+.1%}; {WHEN}",
                   _original_form, ["python -m experiments.theory.original_form --data DIR"])),

    # Section 5.1
    Claim("mnist_logistic-lowest", LOGISTIC, "Section 5.1",
          "We observe that NAMSG performs better than other methods with respect to train loss.", _lowest(LOGISTIC)),
    Claim("mnist_logistic-initial", LOGISTIC, "Section 5.1",
          f"{INITIAL} [Test loss falls, too.]",
          Comparison(LOGISTIC, FIVE, None, "test_loss", (4, 5), against_epochs=(1, 1))),
    Claim("mnist_logistic-initial-accuracy", LOGISTIC, "Section 5.1", f"{INITIAL} [Test accuracy rises, too.]",
          Comparison(LOGISTIC, FIVE, None, "test_accuracy", (4, 5), "above", against_epochs=(1, 1))),
    Claim("mnist_logistic-overfits", LOGISTIC, "Section 5.1",
          "... after which they increase for overfitting. [Test loss rises.]",
          Comparison(LOGISTIC, FIVE, None, "test_loss", (16, 20), "above", against_epochs=(4, 5))),
    Claim("mnist_logistic-rises-accuracy", LOGISTIC, "Section 5.1",
          "... after which they increase for overfitting. [Test accuracy rises.]",
          Comparison(LOGISTIC, FIVE, None, "test_accuracy", (16, 20), "above", against_epochs=(4, 5))),
    Claim("mnist_cnn-lowest", CNN, "Section 5.1",
          "We can see that NAMSG has the lowest train loss, ...", _lowest(CNN)),
    Claim("mnist_cnn-generalizes", CNN, "Section 5.1",
          "[NAMSG's lowest train loss] ... translates to good generalization performance before overfitting. [Its best "
          "test accuracy is not 0.001 below any other's.]",
          Comparison(CNN, ("namsg",), MNIST_RIVALS, "best_test_accuracy", (1, 10), "above", -0.001)),
    Claim("mnist_cnn-amsgrad-close", CNN, "Section 5.1",
          "The performance of AMSGRAD is close to NAMSG, ... [Their train losses differ by a factor of 1.1 at most.]",
          Comparison(CNN, ("amsgrad",), ("namsg",), "train_loss", LAST[CNN], "within", 0.1)),
    Claim("mnist_cnn-amsgrad-better", CNN, "Section 5.1",
          "[The performance of AMSGRAD is] ... better than other methods.",
          Comparison(CNN, ("amsgrad",), ("sgd", "adam", *BOTH_NADAMS), "train_loss", LAST[CNN])),
    Claim("mnist_cnn-initial", CNN, "Section 5.1",
          "ADAM and NADAM are faster than SGD in the initial epochs, ... [Train loss of the first two.]",
          Comparison(CNN, ("adam", *BOTH_NADAMS), ("sgd",), "train_loss", (1, 2))),
    Claim("mnist_cnn-final", CNN, "Section 5.1",
          "... but they require lower learning rates in the final epochs. [Their train loss ends above SGD's.]",
          Comparison(CNN, ("adam", *BOTH_NADAMS), ("sgd",), "train_loss", LAST[CNN], "above")),
    *(Claim(f"mnist_cnn-lower-{method}", CNN, "Section 5.1",
            "... but they require lower learning rates in the final epochs. [With a tenth of it in the last three "
            f"epochs, {LABELS[method]}'s train loss ends lower.]",
            Comparison(CNN, (f"{method}_lower",), (method,), "train_loss", LAST[CNN]))
      for method in ("adam", *BOTH_NADAMS)),
    *_on_mnist("lowest-tuned", "Section 5.1", "[NAMSG has the lowest train loss with our grid search's values.]",
               lambda experiment: Comparison(experiment, ("namsg",), RIVALS, "train_loss", LAST[experiment],
                                             tuned=True)),
    *_on_mnist("grid", "Section 5.1", "α and β2 are chosen by grid search, and the best result are reported. [Table "
               "A1's values are the best of our search, too, but for 2 %.]", _best_of_grid),
    Claim(f"{CIFAR}-grid", CIFAR, "Section 5.2",
          "[The hyper-parameters of Table A1 are the best of Table A2's grid here, too, but for 2 %.]",
          _best_of_grid(CIFAR)),
    *(Claim(f"{experiment}-defaults", experiment, "Footnote 4",
            "Good default constant hyper-parameters settings for the tested machine learning problems are [α = 0.002, "
            "β1 = 0.9, β2 = 0.99: within 10 % of the lowest train loss].",
            _best_of_grid(experiment, ("namsg",), 0.1, DEFAULTS))
      for experiment in (LOGISTIC, CNN, CIFAR)),
    *_on_mnist("faster", "Section 6", "Numerical experiments demonstrate that NAMSG converges faster than other "
               "adaptive methods, such as ADAM, NADAM, and AMSGRAD, ...",
               lambda experiment: EpochsToLoss(experiment, "namsg", ("adam", *BOTH_NADAMS, "amsgrad"),
                                                 LAST[experiment][1])),

    *_on_mnist("guideline", "Section 3", f"{GUIDELINE} [From 0.9 to 3.0: within 1 % of the best of nine others.]",
               lambda experiment: Comparison(f"{experiment}_distance", ("eta_0.9_to_3",), DISTANCES, "train_loss",
                                             LAST[experiment], limit=0.01)),
    *_on_mnist("distance", "Section 3", f"{GUIDELINE} [Every η from 0.9 to 3.0 has a lower train loss than η = 0.]",
               lambda experiment: Comparison(f"{experiment}_distance", (
                   "eta_0.9", "eta_2", "eta_3", "eta_0.9_to_2", "eta_0.9_to_3"), ("eta_0",), "train_loss",
                                             LAST[experiment])),

    Claim("mnist_logistic-constant", LOGISTIC, "Section 4",
          "... we typically use constant α_t and β_1t in practice, which improve the convergence speed in experiments. "
          "[NAMSG converges faster than with α/√t, and than with Theorem 1's α/√t, β1/t and η = β1/t, each at the best "
          "of a grid.]",
          EpochsToLoss(LOGISTIC, "namsg", ("namsg_decreasing_alpha", "namsg_theorem1"), LAST[LOGISTIC][1])),

    # Section 5.2, first row of Figure 3, and Table A2
    Claim("cifar10-faster", CIFAR, "Section 5.2", "NAMSG converges faster than other methods.",
          EpochsToLoss(CIFAR, "namsg", RIVALS, BEFORE_DROP)),
    Claim("cifar10-iterations", CIFAR, "Section 5.2",
          "It requires considerably fewer iterations to obtain the same level of train loss compared with ADAM. [A "
          "fifth fewer.]",
          EpochsToLoss(CIFAR, "namsg", ("adam",), BEFORE_DROP, CONSIDERABLY)),
    *(Claim(f"cifar10-grid-{other}", CIFAR, "Section 5.2", f"{FASTER_IN_GRID} [{judged}.]",
            GridCells("namsg", other, at_least))
      for other, at_least, judged in (
          ("amsgrad", 9, "AMSGRAD"), ("adam", 6, "ADAM"), ("nadam_mxnet", 6, "NADAM as MXNet ships it"),
          ("nadam", 6, "NADAM whose schedule advances once per step"))),
    Claim("cifar10-test-before-drop", CIFAR, "Section 5.2",
          "It also has the best performance in test, before the step size drops. [Accuracy.]",
          Comparison(CIFAR, ("namsg",), RIVALS, "test_accuracy", TEN_BEFORE_DROP, "above")),
    Claim("cifar10-test-loss-before-drop", CIFAR, "Section 5.2",
          "It also has the best performance in test, before the step size drops. [Loss.]",
          Comparison(CIFAR, ("namsg",), RIVALS, "test_loss", TEN_BEFORE_DROP)),
    Claim("cifar10-drop-accuracy", CIFAR, "Section 5.2", f"{DROP} [Accuracy increases.]",
          Comparison(CIFAR, FIVE, None, "test_accuracy", AFTER_DROP, "above", against_epochs=TEN_BEFORE_DROP)),
    Claim("cifar10-drop-loss", CIFAR, "Section 5.2", f"{DROP} [Loss increases.]",
          Comparison(CIFAR, FIVE, None, "test_loss", AFTER_DROP, "above", against_epochs=TEN_BEFORE_DROP)),
    Claim("cifar10-stagnates", CIFAR, "Section 5.2", f"{DROP} [Accuracy changes by 0.005 at most.]",
          Comparison(CIFAR, FIVE, None, "test_accuracy", LAST_FIVE, "within", 0.005, against_epochs=AFTER_DROP)),
    Claim("cifar10-stagnates-loss", CIFAR, "Section 5.2", f"{DROP} [Loss changes by 5 % at most.]",
          Comparison(CIFAR, FIVE, None, "test_loss", LAST_FIVE, "within", 0.05, against_epochs=AFTER_DROP)),
    Claim("cifar10-overfitting", CIFAR, "Section 5.2",
          "AMSGRAD and NAMSG suffers the most severely from overfitting, ...",
          Comparison(CIFAR, ("amsgrad", "namsg"), ("sgd", "adam", "nadam"), "overfitting", LAST_FIVE, "above")),
    Claim("cifar10-sgd-train", CIFAR, "Section 5.2", "SGD has the highest train loss, ...",
          Comparison(CIFAR, ("sgd",), ("adam", "nadam", "amsgrad", "namsg"), "train_loss", LAST_FIVE, "above")),
    Claim("cifar10-sgd-test", CIFAR, "Section 5.2", "[SGD] ... performs the best in tests.",
          Comparison(CIFAR, ("sgd",), ("adam", "nadam", "amsgrad", "namsg"), "test_accuracy", LAST_FIVE, "above")),

    # Section 5.2, second row of Figure 3
    Claim("cifar10-promotes", STRATEGIES, "Section 5.2",
          "Figure 3 also shows the performance of the strategies for NAMSG to promote generalization, ... [Above NAMSG "
          "in tests.]",
          Comparison(CIFAR, ("namsg1", "swnts", "swnts1"), ("namsg",), "test_accuracy", LAST_FIVE, "above")),
    Claim("cifar10-namsg1-faster", STRATEGIES, "Section 5.2",
          "[NAMSG1] ... still converges faster than ADAM, ...",
          EpochsToLoss(CIFAR, "namsg1", ("adam",), BEFORE_DROP)),
    Claim("cifar10-namsg1-test", STRATEGIES, "Section 5.2", "[NAMSG1] ... generalizes slightly better than SGD.",
          Comparison(CIFAR, ("namsg1",), ("sgd",), "test_accuracy", LAST_FIVE, "above")),
    Claim("cifar10-swnts-faster", STRATEGIES, "Section 5.2", "SWNTS also converges faster than ADAM, ...",
          EpochsToLoss(CIFAR, "swnts", ("adam",), BEFORE_DROP)),
    Claim("cifar10-swnts-test", STRATEGIES, "Section 5.2",
          "[SWNTS] ... achieves better generalization than SGD.",
          Comparison(CIFAR, ("swnts",), ("sgd",), "test_accuracy", LAST_FIVE, "above")),
    Claim("cifar10-swnts1-test", STRATEGIES, "Section 5.2",
          "The results show that even if the generalization gap exists in some models, they can be fixed by these "
          "strategies. [SWNTS1 is above SGD in tests.]",
          Comparison(CIFAR, ("swnts1",), ("sgd",), "test_accuracy", LAST_FIVE, "above")),
    Claim("cifar10-swnts1-0.9158", STRATEGIES, "Section 5.2",
          "[SWNTS1] ... achieves the mean best generalization accuracy of 0.9158, ...",
          Level(CIFAR, "swnts1", "best_test_accuracy", ALL, "within", 0.9158, NEAR)),
    Claim("cifar10-swnts1-baseline", STRATEGIES, "Section 5.2",
          "[SWNTS1's] ... is higher than the baseline of 0.9125 [He et al., 2016] ...",
          Level(CIFAR, "swnts1", "best_test_accuracy", ALL, "above", BASELINE)),

    # The supplement's Figure A1; we have its text only as a paraphrase
    *(Claim(f"cifar10-{bound}-fast", BOUNDED, "Figure A1", f"[α_SGD = 0.1 converges faster than 0.5, {label}.]",
            EpochsToLoss(CIFAR, f"{bound}1", (f"{bound}2",), BEFORE_DROP))
      for bound, label in (("namsb", "NAMSB"), ("amsb", "AMSBound"))),
    *(Claim(f"cifar10-{bound}-test", BOUNDED, "Figure A1", f"[α_SGD = 0.1 may generalize poorly, 0.5 the reverse, "
            f"{label}.]", Comparison(CIFAR, (f"{bound}1",), (f"{bound}2",), "test_accuracy", LAST_FIVE))
      for bound, label in (("namsb", "NAMSB"), ("amsb", "AMSBound"))),
    *(Claim(f"cifar10-namsb{i}-faster", BOUNDED, "Figure A1", f"[With equal settings NAMSB converges faster than "
            f"AMSBound, α_SGD = {alpha}.]", EpochsToLoss(CIFAR, f"namsb{i}", (f"amsb{i}",), BEFORE_DROP))
      for i, alpha in ((1, 0.1), (2, 0.5))),
    *(Claim(f"cifar10-namsb{i}-test", BOUNDED, "Figure A1", f"[With equal settings NAMSB generalizes slightly better "
            f"than AMSBound, α_SGD = {alpha}.]",
            Comparison(CIFAR, (f"namsb{i}",), (f"amsb{i}",), "test_accuracy", LAST_FIVE, "above"))
      for i, alpha in ((1, 0.1), (2, 0.5))),

    *(Claim(f"tableA2-{method}", PUBLISHED, "Table A2",
            f"[{LABELS[method]}'s train losses in the cells of Table A2 are the paper's, within 5 % on average.]",
            PublishedCells(method, SAME))
      for method in ("adam", "nadam_mxnet", "nadam", "amsgrad", "namsg")),
    *(Claim(f"tableA3-{method}-{column}", PUBLISHED, "Table A3",
            f"[{LABELS[method]}'s mean test accuracy, {of}: {mean:.4f}.]",
            Level(CIFAR, method, measure, epochs, "within", mean, NEAR))
      for method, (last, best) in paper.TABLE_A3.items()
      for column, of, measure, epochs, (mean, _) in (
          ("best", "best epoch", "best_test_accuracy", ALL, best),
          ("last", "last 5 epochs", "test_accuracy", LAST_FIVE, last))),

    Claim("cost", COST, "Abstract",
          "The method is efficient in computation ... [A step of our CPU kernel takes no longer than MXNet's Adam.]",
          Computed("time of Trainer.step on ResNet-50's parameters, our CPU kernel's as a share of MXNet's adam's, "
                   "median of the rounds", "at most 1", _cost, ["make benchmark"])),
    Claim("memory", COST, "Abstract",
          "The method is efficient in ... memory ... [It keeps no more arrays in a weight's shape than ADAM.]",
          Computed("arrays that the optimizers create for each weight, beside it", "NAMSG's at most ADAM's", _memory)),

    # Not in the paper
    *(Claim(f"{experiment}-nadam", BESIDE, "ours",
            f"[{NETWORKS[experiment]}: MXNet's Nadam as shipped trains like one whose schedule advances once per step: "
            "train losses within a factor of 1.01.]",
            Comparison(experiment, ("nadam_mxnet",), ("nadam",), "train_loss", epochs, "within", LIKE))
      for experiment, epochs in {**LAST, CIFAR: TEN_BEFORE_DROP}.items()),
    Claim("mnist_logistic-sgd-reading", BESIDE, "ours",
          f"[{NETWORKS[LOGISTIC]}: SGD's α of Table A1 belongs to the averaged momentum: read as MXNet's learning rate "
          "it trains worse.]",
          Comparison(LOGISTIC, ("sgd",), ("sgd_mxnet",), "train_loss", LAST[LOGISTIC])),
    Claim("mnist_cnn-lowest-lower", BESIDE, "ours",
          f"[{NETWORKS[CNN]}: with a tenth of all step sizes in the last three epochs NAMSG has the lowest train loss, "
          "too.]", Comparison(CNN, ("namsg_lower",), LOWER, "train_loss", LAST[CNN])),
    Claim("mnist_cnn-generalizes-lower", BESIDE, "ours",
          f"[{NETWORKS[CNN]}: with a tenth of all step sizes in the last three epochs NAMSG's best test accuracy is "
          "not 0.001 below any other's.]",
          Comparison(CNN, ("namsg_lower",), LOWER, "best_test_accuracy", (1, 10), "above", -0.001)),
    *(Claim(f"{experiment}-2019", BESIDE, "later work",
            f"[{NETWORKS[experiment]}: the authors' settings of September 2019 give NAMSG a lower train loss.]",
            Comparison(experiment, ("namsg_2019",), ("namsg",), "train_loss", epochs))
      for experiment, epochs in LAST.items()),
]
