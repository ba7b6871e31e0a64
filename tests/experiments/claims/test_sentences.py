"""The list of claims: what each says, needs and names."""

import dataclasses

import numpy as np
import pytest
from made_up_evidence import CHECKOUT, MadeUp, named

from experiments.claims import judging, sentences
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN
from experiments.claims.evidence import Evidence
from experiments.claims.grid_rules import BestOfGrid, GridCells, PublishedCells
from experiments.claims.parts import PARTS
from experiments.claims.rules import Comparison, EpochsToLoss, Level
from experiments.commands import cli, train
from experiments.vocabulary import config
from experiments.vocabulary.paper import TABLE_A2, TABLE_A3, printed_name

# Epochs that a method needs to a train loss, as a share of ADAM's; test loss before and after the step size drops.
PAPERS = {"sgd": (1.1, 0.40, 0.45), "adam": (1.0, 0.40, 0.46), "nadam": (0.95, 0.40, 0.46),
          "nadam_mxnet": (0.95, 0.40, 0.46), "amsgrad": (0.9, 0.40, 0.50), "namsg": (0.7, 0.38, 0.50),
          "namsg1": (0.75, 0.38, 0.45), "swnts": (0.9, 0.38, 0.45), "swnts1": (0.9, 0.38, 0.45),
          "namsb1": (0.7, 0.40, 0.45), "amsb1": (0.8, 0.40, 0.45), "namsb2": (0.8, 0.40, 0.45),
          "amsb2": (0.9, 0.40, 0.45)}


def test_on_cifar10_all_holds_where_the_records_are_as_the_paper_says():
    """Its order of the methods in every epoch, and the numbers that it prints, with little noise."""
    random, curves = np.random.default_rng(0), []
    for method, (share, *test_losses) in PAPERS.items():
        (last, _), (best, _) = TABLE_A3[printed_name(method)]
        for seed in range(5):
            for epoch in range(1, 76):
                dropped = epoch > 61
                train_loss = share / epoch * (0.3 if dropped else 1)
                accuracy = best if epoch == 68 else last if dropped else 0.86 + 0.01 * (method == "namsg")
                train_loss, test_loss, accuracy = np.array([train_loss, test_losses[dropped], accuracy]) * (
                    1 + 1e-5 * random.standard_normal(3))
                curves.append((method, seed, epoch, train_loss, test_loss, accuracy, test_loss - train_loss))
    grid = [(method, alpha, 0.9, beta2, seed, "done", loss * (1 + 1e-5 * random.standard_normal()))
            for method in ("adam", "nadam", "nadam_mxnet", "amsgrad", "namsg")
            for (alpha, beta2), loss in TABLE_A2[printed_name(method)].items() for seed in range(10)]
    sgd = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml").methods["sgd"].points()
    grid += [("sgd", *point.values(), np.nan, seed, "done",
              0.4 + abs(point["learning_rate"] - 0.2) + 1e-5 * random.standard_normal())
             for point in sgd for seed in range(10)]
    evidence = MadeUp(curves, grid)
    on_cifar = [claim for claim in sentences.CLAIMS if claim.name.startswith(("cifar10", "tableA"))]
    assert len(on_cifar) > 40
    assert {claim.name: claim.rule.judge(evidence).verdict for claim in on_cifar} == \
        {claim.name: HOLDS for claim in on_cifar}


def test_every_claim_says_what_it_needs_to():
    assert len({claim.name for claim in sentences.CLAIMS}) == len(sentences.CLAIMS)
    for claim in sentences.CLAIMS:
        assert claim.part in PARTS
        assert claim.where and claim.sentence and claim.rule.quantity and claim.rule.holds_if


def test_claims_name_epochs_that_their_experiments_have():
    for rule in (claim.rule for claim in sentences.CLAIMS):
        if isinstance(rule, (Comparison, EpochsToLoss, Level)):
            epochs = config.load(CHECKOUT / "configs" / f"{rule.experiment}.yaml").epochs
            stretches = [(1, rule.epoch)] if isinstance(rule, EpochsToLoss) else [
                rule.epochs, getattr(rule, "against_epochs", None) or (1, 1)]
            assert all(1 <= first <= last <= epochs for first, last in stretches)


@pytest.mark.parametrize("claim", sentences.CLAIMS, ids=lambda claim: claim.name)
def test_its_commands_make_the_runs_that_it_is_judged_by(claim, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    needed, made = methods_of(claim.rule), set()
    for command in claim.rule.commands(MadeUp()):
        words = command.split()
        if words[:3] == ["python", "-m", "experiments.theory.original_form"]:
            continue
        if words[0] == "make":
            assert f"{words[1]}:" in (CHECKOUT / "Makefile").read_text()
            continue
        options = cli._parser().parse_args(words[3:])
        if options.command in (train.run, train.grid):
            made |= {method.name for method in config.load(options.config).select(options.method)}
    assert needed <= made
    if isinstance(claim.rule, BestOfGrid):   # each method more is days of training
        assert needed == made


def methods_of(rule):
    if isinstance(rule, Comparison):
        return {*rule.methods, *(rule.others or ())}
    if isinstance(rule, EpochsToLoss):
        return {rule.method, *rule.others}
    if isinstance(rule, GridCells):
        return {rule.method, rule.other}
    if isinstance(rule, (Level, PublishedCells)):
        return {rule.method}
    return set(getattr(rule, "methods", ()))


def test_without_records_nothing_is_judged_but_equations_and_what_optimizers_keep(tmp_path):
    verdicts = judging.judge(Evidence(tmp_path, CHECKOUT / "configs"), sentences.CLAIMS)
    judged = [v.claim.name for v in verdicts if v.judgement.verdict != NOT_RUN]
    assert judged == ["a-diverges", "e-domain", "e-shrinks", "coefficients", "memory"]
    memory, = (v.judgement for v in verdicts if v.claim.name == "memory")
    assert (memory.verdict, memory.finding) == (FAILS, "SGD 1, ADAM 2, NADAM 2, AMSGRAD 3, NAMSG 3")


@pytest.mark.parametrize(("share", "verdict"), [(1.0, HOLDS), (1.01, FAILS)])
def test_the_cost_is_judged_by_resnet_50_with_the_most_threads(share, verdict):
    """By the median of the rounds: the quartiles do not decide."""
    def measured(shapes, threads, its_share):
        return {"shapes": shapes, "threads": threads, "contenders": {"MXNet adam": {
            "seconds": [0.9, 1.0, 1.1], "share": [its_share / 2, its_share, 2 * its_share]}}}

    evidence, other = MadeUp(), 1.5 if verdict == HOLDS else 0.5
    evidence.benchmark = {"optimizer_step": {"rounds": 7, "measurements": [
        measured("ResNet-50", 1, other), measured("ResNet-50", 4, share), measured("ResNet-50", 2, other),
        measured("one array", 8, other)]}}.get
    claim, = named(["cost"])
    found = claim.rule.judge(evidence)
    assert (found.verdict, found.n) == (verdict, 7)
    assert found.finding.startswith(f"{share:.2f} of the time of MXNet's adam (quartiles {share / 2:.2f} to")


def test_memory_is_not_judged_by_a_configuration_that_lacks_one_of_the_methods():
    evidence = MadeUp()
    methods = dict(evidence.experiment("mnist_logistic").methods)
    del methods["sgd"]
    evidence.experiment = lambda name: dataclasses.replace(config.load(CHECKOUT / "configs" / f"{name}.yaml"),
                                                           methods=methods)
    claim, = (claim for claim in sentences.CLAIMS if claim.name == "memory")
    assert claim.rule.judge(evidence).verdict == NOT_RUN
