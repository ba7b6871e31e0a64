"""The paper in some plain sentences: what the claims of each say by the records, in short."""

from __future__ import annotations

from collections import Counter
from typing import Iterable, NamedTuple, Sequence

from experiments.analysis.measures import MEASURES
from experiments.claims.claim import Judgement
from experiments.claims.decisions import VERDICTS
from experiments.claims.judging import Verdict
from experiments.claims.parts import PARTS
from experiments.claims.rules import Comparison, EpochsToLoss, Level
from experiments.vocabulary.methods import FIVE, LABELS, STRATEGY_METHODS

# What the paper says, and the names of the claims by which it is judged.
SENTENCES = {
    "NAMSG has the lowest train loss on MNIST": ("mnist_logistic-lowest", "mnist_cnn-lowest"),
    "NAMSG converges faster than ADAM, NADAM and AMSGRAD on MNIST": ("mnist_logistic-faster", "mnist_cnn-faster"),
    "NAMSG's best test accuracy on the CNN is not 0.001 below any other's": ("mnist_cnn-generalizes",),
    "AMSGRAD is close to NAMSG on the CNN": ("mnist_cnn-amsgrad-close",),
    "ADAM and NADAM lead SGD in the CNN's first epochs": ("mnist_cnn-initial",),
    "NAMSG needs considerably fewer iterations than ADAM on CIFAR-10": ("cifar10-iterations",),
    "NAMSG is the best in test on CIFAR-10 before the step size drops": (
        "cifar10-test-before-drop", "cifar10-test-loss-before-drop"),
    "NAMSG1 and SWNTS converge faster than ADAM on CIFAR-10": ("cifar10-namsg1-faster", "cifar10-swnts-faster"),
    "NAMSG1, SWNTS and SWNTS1 have a higher test accuracy than NAMSG on CIFAR-10": ("cifar10-promotes",),
    "The best test accuracies of ResNet-20 are those of Table A3": tuple(
        f"tableA3-{method}-best" for method in dict.fromkeys([*FIVE, *STRATEGY_METHODS])),
    "The observation distance needs no grid search (abstract)": ("mnist_logistic-guideline", "mnist_cnn-guideline"),
    "Ψ is an upper bound of the iterates' growth (Section 3)": ("bound-of-growth",),
    "A large η accelerates convergence at low curvature (Figure 1 e)": ("e-low",),
    "NAMSG is efficient in computation; in memory": ("cost", "memory"),
}


class Answer(NamedTuple):
    """A sentence, how many of its claims have each verdict, and by claim its name and what was found, in short."""

    sentence: str
    counts: Sequence[tuple[str, int]]
    found: Sequence[tuple[str, str]]


def answers(verdicts: Sequence[Verdict]) -> list[Answer]:
    """What the verdicts, which are of all claims, say of each sentence."""
    by_name = {verdict.claim.name: verdict for verdict in verdicts}
    made = []
    for sentence, names in SENTENCES.items():
        chosen = [by_name[name] for name in names]
        several = len({claim.part for claim, _ in chosen}) > 1
        found = [(verdict.claim.name, f"{PARTS[verdict.claim.part]}: {in_short(verdict)}" if several else
                  in_short(verdict)) for verdict in chosen]
        made.append(Answer(sentence, count([judgement for _, judgement in chosen]), found))
    return made


def count(judgements: Sequence[Judgement]) -> list[tuple[str, int]]:
    """How many claims have each verdict, of those that there are."""
    counts = Counter(judgement.verdict for judgement in judgements)
    return [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]]


def in_short(verdict: Verdict) -> str:
    """The means alone, or the shares of epochs, of a claim that compares methods; of others quantity and finding.

    Where pairs are not of the same runs, each has its own means and n.
    """
    judgement, rule = verdict.judgement, verdict.claim.rule
    if not judgement.finding:
        return judgement.found
    if not isinstance(rule, (Comparison, EpochsToLoss, Level)):
        return f"{rule.quantity}: {judgement.finding}"
    rows = judgement.numbers[judgement.numbers["n"] > 0]
    if rows.empty:
        return judgement.finding   # which says how many runs diverged
    if isinstance(rule, Level):
        return (f"{LABELS[rule.method]} {rows['value'].iloc[0]:.4f}, against {rule.level:.4f}; "
                f"n = {rows['n'].iloc[0]}")
    if isinstance(rule, EpochsToLoss):
        shares = [f"{100 * share:.0f} % of {other}'s" for share, other in zip(rows["share"], rows["against"])]
        if rows["n"].nunique() == 1:
            text = f"{', '.join(shares)}; n = {rows['n'].iloc[0]}"
        else:
            text = ", ".join(f"{share} (n = {n})" for share, n in zip(shares, rows["n"]))
        return f"epochs that {LABELS[rule.method]} needs: {text}"
    ones, others = ([*zip(rows[label], rows[mean])] for label, mean in (("method", "value"), ("against", "other")))
    means = dict(ones + others)
    if rows["n"].nunique() == 1 and all(means[label] == mean for label, mean in ones + others):
        text = f"{_means(means.items())}; n = {rows['n'].iloc[0]}"
    else:
        text = "; ".join(f"{_means(pair)} (n = {n})" for *pair, n in zip(ones, others, rows["n"]))
    return f"{MEASURES[rule.measure].label} {text}"


def _means(means: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{label} {mean:#.4g}" for label, mean in means)
