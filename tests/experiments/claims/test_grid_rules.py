"""The rules on grid searches, on made-up records whose verdicts are known."""

import dataclasses
import math

import numpy as np
import pytest
from made_up_evidence import CHECKOUT, LOGISTIC, POINT, MadeUp, runs
from tiny_experiment import record

from experiments.analysis.intervals import interval
from experiments.claims.decisions import FAILS, HOLDS, NOT_RUN, TOO_FEW
from experiments.claims.evidence import Evidence
from experiments.claims.grid_rules import BestOfGrid, GridCells, PublishedCells
from experiments.commands import cli
from experiments.vocabulary import config
from experiments.vocabulary.paper import TABLE_A2


def test_a_rule_on_grids_says_in_words_what_it_judges():
    assert GridCells("namsg", "adam", 6).quantity.startswith("cells of Table A2 (α × β2) in which NAMSG's mean")
    for method in ("namsg", "nadam_mxnet"):   # the paper's table calls both NADAMs "nadam"
        assert GridCells(method, "adam", 6).holds_if.startswith("at least 6 of the 10 cells, ")
    assert PublishedCells("namsg", 0.05).quantity.startswith("NAMSG's mean running train loss at the 30th epoch over")
    assert "lies between -4.8% and +5.0%" in PublishedCells("namsg", 0.05).holds_if
    assert BestOfGrid(LOGISTIC, ("adam",), 0.02).holds_if.startswith(
        "the 95 % t interval of the mean over the seeds 102 to 109, which are not the search's, lies below +2%")


@pytest.mark.parametrize("rule", [GridCells("namsg", "adam", 6), PublishedCells("namsg", 0.05)])
def test_of_cells_it_is_what_moves_their_last_epoch(rule):
    twice = [runs("namsg", [[1] * 29 + [loss, 1]]) for loss in (0.5, 0.6)]
    few = rule.judge(MadeUp(grid=grid_cells(3, 4), twice=twice))
    assert few.verdict == TOO_FEW
    assert few.finding.endswith("; rounding alone moves NAMSG by 20.0% (n = 1)")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", [1e200, 0.0])
def test_a_published_cell_may_be_as_far_off_as_floats_go(loss):
    cells = [("adam", alpha, 0.9, beta2, seed, "done", loss if i == 0 else printed)
             for i, ((alpha, beta2), printed) in enumerate(TABLE_A2["adam"].items()) for seed in (0, 1)]
    found = PublishedCells("adam", 0.05).judge(MadeUp(grid=cells))
    assert found.verdict == TOO_FEW and "diverged" not in found.finding


def grid_cells(lower, run=10, seeds=(0, 1)):
    """Table A2's cells for NAMSG and ADAM, of which NAMSG has the lower loss in so many."""
    cells = list(TABLE_A2["namsg"])[:run]
    return [(method, alpha, 0.9, beta2, seed, "done", 0.5 if method == "adam" else 0.4 if i < lower else 0.6)
            for i, (alpha, beta2) in enumerate(cells) for method in ("adam", "namsg") for seed in seeds]


@pytest.mark.parametrize(("lower", "run", "verdict"), [
    (6, 10, HOLDS), (5, 10, FAILS), (6, 6, HOLDS), (5, 6, TOO_FEW), (0, 5, FAILS), (0, 4, TOO_FEW), (0, 0, NOT_RUN)])
def test_cells_of_a_grid_decide_as_soon_as_the_rest_cannot_change_it(lower, run, verdict):
    found = GridCells("namsg", "adam", 6).judge(MadeUp(grid=grid_cells(lower, run)))
    assert (found.verdict, found.n) == (verdict, 2 if run else 0)
    if run == 10:
        assert (found.numbers["lower"].sum(), found.numbers["lower in the paper"].sum()) == (lower, 9)
    assert found.finding == (f"lower in {lower} of the {run} cells run here, {run} of them with 2 seeds; in 9 of 10 of "
                             "the paper's table")


def test_a_cell_counts_once_both_have_all_its_seeds():
    """The second could turn it."""
    one_seed, both = grid_cells(10, seeds=(0,)), grid_cells(10)
    only_namsg = [row for row in both if row[0] == "namsg" and row[4] == 1]
    found = GridCells("namsg", "adam", 6).judge(MadeUp(grid=one_seed + only_namsg))
    assert (found.verdict, found.n, set(found.numbers["n"])) == (TOO_FEW, 1, {1})
    assert found.finding.startswith("lower in 10 of the 10 cells run here, 0 of them with 2 seeds; ")
    assert GridCells("namsg", "adam", 6).judge(MadeUp(grid=both)).verdict == HOLDS


def test_a_cell_where_both_have_one_loss_is_not_lower():
    equal = [(*row[:6], 0.5) for row in grid_cells(10)]
    assert GridCells("namsg", "adam", 6).judge(MadeUp(grid=equal)).verdict == FAILS


def test_a_cell_where_a_run_diverged_is_not_lower():
    diverged = [(*row[:5], "diverged", np.inf) if (row[0], row[4]) == ("namsg", 1) else row
                for row in grid_cells(10, seeds=(0, 1))]
    found = GridCells("namsg", "adam", 6).judge(MadeUp(grid=diverged))
    assert (found.verdict, found.finding[:22]) == (FAILS, "lower in 0 of the 10 c")
    others = [(*row[:5], "diverged", np.inf) if row[0] == "adam" else row for row in grid_cells(0)]
    assert GridCells("namsg", "adam", 6).judge(MadeUp(grid=others)).verdict == HOLDS


PAPERS_ADAM = (0.005, 0.9, 0.99)   # Table A1, logistic regression
SEARCH, OTHERS = (100, 101), range(102, 110)


def adams_grid(losses, seeds=SEARCH, noise=0.0):
    """ADAM's points: the loss of some, of the others one above all these; the paper's is noisy, in turn up and down."""
    points = config.load(CHECKOUT / "configs" / "mnist_logistic.yaml").methods["adam"].points()
    return [("adam", *point, seed, "done", losses.get(point, 0.7) + (point == PAPERS_ADAM) * noise * (-1) ** seed)
            for point in (tuple(p[name] for name in POINT) for p in points) for seed in seeds]


@pytest.mark.parametrize(("loss", "noise", "verdict"), [
    (0.50, 0.001, HOLDS), (0.505, 0.001, HOLDS), (0.55, 0.001, FAILS), (0.51, 0.01, TOO_FEW)])
def test_the_papers_point_beside_the_best_of_the_grid(loss, noise, verdict):
    """The seeds that compare two points are not the ones that chose the best."""
    rival = (0.001, 0.9, 0.99)
    grid = adams_grid({PAPERS_ADAM: 0.52, rival: 0.5}) + adams_grid({PAPERS_ADAM: loss, rival: 0.5}, OTHERS, noise)
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02)
    found = rule.judge(MadeUp(grid=grid))
    row, = found.numbers.to_dict("records")
    assert found.verdict == verdict
    assert (row["there"], row["lowest"], row["excess"], row["rank"]) == pytest.approx((0.52, 0.5, 0.04, 2))
    expected = interval(np.log((loss + noise * np.array([1, -1] * 4)) / 0.5))
    assert (found.n, row["judges"], row["difference"], row["low"], row["high"]) == pytest.approx(
        (8, 8, *np.expm1(expected[1:])))
    assert found.finding.startswith("ADAM +4.0% (rank 2 of 10), with other seeds ")
    assert " of 0.001, 0.9, 0.99 (" in found.finding
    to_come = rule.judge(MadeUp(grid=[row for row in grid if row[4] < 109]))
    assert (found.made, to_come.verdict, to_come.made) == (1, TOO_FEW, 0)


@pytest.mark.filterwarnings("error")
def test_a_loss_at_a_point_may_be_as_large_as_floats_are():
    point = (0.001, 0.9, 0.99)
    grid = adams_grid({PAPERS_ADAM: 0.5, point: 0.55}, (*SEARCH, *OTHERS))
    grid = [(*row[:6], 1e200) if row[1:5] == (*PAPERS_ADAM, 103) else row for row in grid]
    assert BestOfGrid(LOGISTIC, ("adam",), 0.02).judge(MadeUp(grid=grid)).verdict == TOO_FEW


def test_the_seeds_that_chose_the_best_of_a_grid_do_not_judge_it():
    """However far it is from the others."""
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02)
    for loss in (0.1, 0.9):
        found = rule.judge(MadeUp(grid=adams_grid({PAPERS_ADAM: loss})))
        assert (found.verdict, found.n, found.p) == (TOO_FEW, 2, 1)
    assert found.finding == "ADAM +28.6% (rank 10 of 10)"
    assert rule.judge(MadeUp(grid=adams_grid({})[1:])).verdict == NOT_RUN   # a seed is missing
    # Its rival is the lowest of the others where it is the lowest itself.
    lowest = adams_grid({PAPERS_ADAM: 0.4, (0.01, 0.9, 0.999): 0.41}, (*SEARCH, *OTHERS), 0.001)
    found = rule.judge(MadeUp(grid=lowest))
    assert (found.verdict, found.numbers["beside"].item()) == (HOLDS, "0.01, 0.9, 0.999")
    # Of two methods each has its own row.
    both = lowest + [("amsgrad", *row[1:]) for row in adams_grid({PAPERS_ADAM: 0.4}, (*SEARCH, *OTHERS), 0.001)]
    rows = BestOfGrid(LOGISTIC, ("adam", "amsgrad"), 0.02).judge(MadeUp(grid=both)).numbers
    assert rows["verdict"].tolist() == [HOLDS, FAILS]
    defaults = (("learning_rate", 0.01), ("beta1", 0.9), ("beta2", 0.999))
    assert BestOfGrid(LOGISTIC, ("adam",), 0.1, defaults).judge(MadeUp(grid=lowest)).verdict == HOLDS


def test_a_point_of_the_grid_is_judged_by_what_is_recorded(tmp_path):
    """All points with the search's seeds, and two of them with the others."""
    experiment, rival = config.load(CHECKOUT / "configs" / "mnist_logistic.yaml"), (0.001, 0.9, 0.99)
    losses = {PAPERS_ADAM: 0.5, rival: 0.55}
    for run in experiment.grid_runs(["adam"], [*SEARCH, 102, 103]):
        loss = losses.get(tuple(run.point[name] for name in POINT), 0.7)
        if run.seed in SEARCH or loss < 0.7:
            record(tmp_path, run, [loss + run.seed % 2 / 1000] * 10, 10)
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02, judges=(102, 103))
    found = rule.judge(Evidence(tmp_path, CHECKOUT / "configs"))
    assert (found.verdict, found.n, found.numbers["beside"].item()) == (HOLDS, 2, "0.001, 0.9, 0.99")
    assert found.numbers["difference"].item() == pytest.approx(-0.0909, abs=1e-3)


def test_the_commands_of_a_grids_best_point_make_the_runs_that_judge_it_and_no_others():
    """384 runs of ResNet-20 would be the whole grid's, where 80 judge."""
    rule, rival = BestOfGrid(LOGISTIC, ("adam", "sgd"), 0.02), (0.001, 0.9, 0.99)
    searched = adams_grid({PAPERS_ADAM: 0.52, rival: 0.5})
    search, *judge = rule.commands(MadeUp(grid=searched))   # of SGD's search there is nothing
    assert search == "python -m experiments grid configs/mnist_logistic.yaml --method adam sgd"
    made = []
    for command in judge:
        options = cli._parser().parse_args(command.split()[3:])
        made += [(tuple(run.point[name] for name in POINT), run.seed)
                 for run in config.load(CHECKOUT / options.config).grid_runs(options.method, options.seeds)
                 if all(run.point[name] == value for name, value in options.at)]
    assert made == [(point, seed) for point in (PAPERS_ADAM, rival) for seed in OTHERS]
    assert rule.commands(MadeUp(grid=searched[1:])) == [search]   # a run of ADAM's is missing


def with_adams(grid):
    """Evidence of a configuration in which ADAM has this grid (None: no ADAM), and of a complete search of it."""
    experiment = config.load(CHECKOUT / "configs" / "mnist_logistic.yaml")
    methods = {name: method for name, method in experiment.methods.items() if name != "adam"}
    if grid is not None:
        methods["adam"] = dataclasses.replace(experiment.methods["adam"], grid=grid)
    points = methods["adam"].points() if grid else []
    evidence = MadeUp(grid=[("adam", *(point.get(name, math.nan) for name in POINT), seed, "done",
                             0.5 + point["learning_rate"]) for point in points for seed in SEARCH])
    evidence.experiment = lambda name: dataclasses.replace(experiment, methods=methods)
    return evidence


@pytest.mark.parametrize("grid", [None, {}, {"learning_rate": [0.7, 0.8]}, {"learning_rate": [0.005]}])
def test_another_grid_than_the_papers_is_not_judged(grid):
    evidence, rule = with_adams(grid), BestOfGrid(LOGISTIC, ("adam",), 0.02)
    assert (rule.judge(evidence).verdict, len(rule.commands(evidence))) == (NOT_RUN, 1)


def test_a_grid_of_step_sizes_alone_is_judged():
    evidence, rule = with_adams({"learning_rate": [0.001, 0.005]}), BestOfGrid(LOGISTIC, ("adam",), 0.02)
    found = rule.judge(evidence)
    assert (found.verdict, found.finding) == (TOO_FEW, "ADAM +0.8% (rank 2 of 2)")
    assert [command.partition(" --at ")[2] for command in rule.commands(evidence)] == [
        "", "learning_rate=0.005", "learning_rate=0.001"]


@pytest.mark.filterwarnings("error")
def test_the_lowest_loss_of_a_grid_may_be_0():
    rule = BestOfGrid(LOGISTIC, ("adam",), 0.02)
    found = rule.judge(MadeUp(grid=adams_grid({PAPERS_ADAM: 0.0})))
    assert (found.verdict, found.finding) == (TOO_FEW, "ADAM no ratio (rank 1 of 10)")


def test_a_point_of_the_grid_that_diverges_is_not_the_best():
    def diverges(grid, at, of):
        return [(*row[:5], "diverged", np.inf) if row[1:4] == at and row[4] in of else row for row in grid]

    rule, rival = BestOfGrid(LOGISTIC, ("adam",), 0.02), (0.001, 0.9, 0.99)
    grid = adams_grid({PAPERS_ADAM: 0.5, rival: 0.51}, (*SEARCH, *OTHERS), 0.001)
    assert rule.judge(MadeUp(grid=grid)).verdict == HOLDS
    assert rule.judge(MadeUp(grid=diverges(grid, PAPERS_ADAM, [100]))).verdict == FAILS
    found = rule.judge(MadeUp(grid=diverges(grid, PAPERS_ADAM, [105])))
    assert (found.verdict, found.p) == (FAILS, None) and found.finding.endswith("n = 7, 1 diverged there")
    found = rule.judge(MadeUp(grid=[row for row in diverges(grid, rival, [105]) if row[1:5] != (*PAPERS_ADAM, 105)]))
    assert (found.verdict, found.made) == (TOO_FEW, 0)   # a run is to come at the point
    found = rule.judge(MadeUp(grid=diverges(grid, rival, [105])))
    assert found.verdict == HOLDS and found.finding.endswith("n = 7, 1 diverged at 0.001, 0.9, 0.99")
    found = rule.judge(MadeUp(grid=diverges(grid, rival, [100])))
    assert (found.verdict, found.numbers["lowest"].item()) == (HOLDS, 0.5)


@pytest.mark.parametrize(("factor", "spread", "verdict"), [
    (1.0, 0.01, HOLDS), (1.04, 0.01, HOLDS), (1.1, 0.01, FAILS), (0.9, 0.01, FAILS), (1.04, 0.05, TOO_FEW)])
def test_published_cells(factor, spread, verdict):
    """Each cell is so many times the paper's, in turn more and less."""
    ratios = factor * (1 + spread * np.array([1, -1] * 5))
    grid = [("adam", alpha, 0.9, beta2, seed, "done", ratio * loss + (0.001 if seed else -0.001))
            for ratio, ((alpha, beta2), loss) in zip(ratios, TABLE_A2["adam"].items()) for seed in (0, 1)]
    found = PublishedCells("adam", 0.05).judge(MadeUp(grid=grid))
    assert (found.verdict, found.n, found.made) == (verdict, 2, 2)
    assert list(found.numbers["difference"]) == pytest.approx(list(ratios - 1))
    mean = np.expm1(np.log(ratios).mean())
    assert found.finding.startswith(f"ADAM {mean:+.1%}")
    assert found.finding.endswith(f"higher in {(ratios > 1).sum()} of 10 cells run here, 10 of them with 2 seeds")
    short = PublishedCells("adam", 0.05).judge(MadeUp(grid=grid[1:]))
    assert (short.verdict, short.n, short.made) == (TOO_FEW, 1, 0)
    assert " to " not in short.finding
    diverged = [(*grid[0][:5], "diverged", np.inf), *grid[1:]]
    found = PublishedCells("adam", 0.05).judge(MadeUp(grid=diverged))
    assert (found.verdict, found.p) == (FAILS, None)
    assert found.finding.endswith(", 1 where a run diverged")
    only = PublishedCells("adam", 0.05).judge(MadeUp(grid=diverged[:2]))
    assert (only.verdict, "nan" in only.finding) == (FAILS, False)
    assert PublishedCells("adam", 0.05).judge(MadeUp()).verdict == NOT_RUN
