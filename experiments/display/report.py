"""One self-contained HTML page of all that the records say.

It opens with the answer: totals, plain sentences, Figures 2 and 3. Claims, tables, runs, benchmarks and environments
follow, folded.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, Container, Mapping, NamedTuple, Sequence

import jinja2
import pandas as pd
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from experiments.analysis import results, selection
from experiments.analysis.survey import STATES, counted, survey
from experiments.claims import answer, judging
from experiments.claims.claim import Claim, Judgement
from experiments.claims.evidence import MEASURED, Evidence
from experiments.claims.parts import BESIDE, GAIN, PARTS, REGRET
from experiments.claims.sentences import CLAIMS
from experiments.display import charts, tables
from experiments.display.figures import PAPER
from experiments.vocabulary import benchmarks, config
from experiments.vocabulary.files import write_atomically
from experiments.vocabulary.folders import FIGURES, config_files
from experiments.vocabulary.methods import FIVE, LABELS
from experiments.vocabulary.paper import CIFAR, EXPERIMENTS, LOGISTIC
from experiments.vocabulary.records import damaged_environment, read_environments

OPENING = ("2", "3")   # the figures of the paper that the page opens with
PAGE = Path(__file__).with_name("report_page")
# The reports of ``benchmarks/`` by name: what each is of, and the command that makes it.
BENCHMARKS = {
    "optimizer_step": ("Trainer.step", "make benchmark"),
    "update_patterns": ("Updates in other ways", "make benchmark"),
    "training_step": ("Training step", "python -m benchmarks.training_step --torch .venv-torch/bin/python --data DIR"),
    "gpu_step": ("One step on a GPU", "python -m benchmarks.gpu_step --torch PYTHON"),
}
# What the page tells of an environment.
MACHINE = {"commit", "dirty", "versions", "system", "processor", "cores", "threads", "kernel"}


class Figure(NamedTuple):
    """A figure of the page: charts (Plotly's JSON) with their legend, or a picture (a data URL), and its commands.

    ``part`` is that of the claims beside it; ``opens``: it stands with the answer, not in the part.
    """

    id: str
    part: str
    title: str
    commands: Sequence[str]
    charts: Sequence[str] = ()
    legend: Sequence[charts.Entry] = ()
    picture: str = ""
    opens: bool = False


class Part(NamedTuple):
    """A part of the claims: its figures, how many claims have each verdict, and each with what stands beside it."""

    name: str
    title: str
    figures: Sequence[Figure]
    counts: Sequence[tuple[str, int]]
    claims: Sequence[Told]


class Told(NamedTuple):
    """A claim as the page shows it, with the commands that make its runs.

    ``p`` and ``bonferroni``, the verdict by it, are '' where no interval decides.
    """

    claim: Claim
    judgement: Judgement
    numbers: Cells
    p: str
    bonferroni: str
    commands: Sequence[str]


class Cells(NamedTuple):
    """The texts of a table's header and of its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Block(NamedTuple):
    """A table of the page with its title, its command, and what is said of it."""

    title: str
    command: str
    cells: Cells
    notes: Sequence[str] = ()


def write(folder: Path, configs: Path) -> Path:
    """Write report.html into the results folder and return its path. What has not been recorded is left out, or said.
    """
    evidence = Evidence(folder, configs)
    verdicts = judging.judge(evidence, CLAIMS)
    judgements, told = [judgement for _, judgement in verdicts], _told(verdicts, evidence)
    papers = [judgement for claim, judgement in verdicts if claim.part != BESIDE]
    surveys = {path.stem: survey(config.load(path), folder) for path in config_files(configs)}
    figures = [*_pictures(folder), *_curves(evidence), *_sensitivities(evidence, surveys)]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["of_this_folder"] = lambda command: results.with_results(command, folder)
    page = environment.get_template("page.html").render(
        papers=len(papers), papers_counts=answer.count(papers), total=len(verdicts), counts=answer.count(judgements),
        answers=answer.answers(verdicts),
        together=judging.together(judgements), stand=sum(one.bonferroni == one.judgement.verdict for one in told),
        parts=_parts(told, figures), figures=figures, tables=_tables(evidence), runs=_runs(surveys),
        others=_without_configuration(folder, surveys),
        benchmarks=_benchmarks(evidence), machines=_machines(folder),
        without_machine=_without_machine(folder), plotly=get_plotlyjs())
    path = folder / "report.html"
    write_atomically(path, page.encode(errors="backslashreplace"))   # a folder's name may be no UTF-8
    return path


def _told(verdicts: Sequence[judging.Verdict], evidence: Evidence) -> list[Told]:
    told = []
    for (claim, judgement), stands in zip(verdicts, judging.by_bonferroni([judgement for _, judgement in verdicts])):
        beside = (f"{judgement.p:.2g}", stands) if judging.is_decided(judgement) else ("", "")
        told.append(Told(claim, judgement, _cells(judgement.numbers), *beside, claim.rule.commands(evidence)))
    return told


def _parts(told: Sequence[Told], figures: Sequence[Figure]) -> list[Part]:
    parts = []
    for name, title in PARTS.items():
        claims = [one for one in told if one.claim.part == name]
        beside = [figure for figure in figures if figure.part == name and not figure.opens]
        parts.append(Part(name, title, beside, answer.count([one.judgement for one in claims]), claims))
    return parts


def _pictures(folder: Path) -> list[Figure]:
    figures = []
    for name, part, title in (("figure1", GAIN, "Figure 1: max gain expectation Ψ"),
                              ("theory", REGRET, "Sections 3 and 4 beside the real optimizer"),
                              ("distance", LOGISTIC, "Grid search over step size and observation distance")):
        picture = folder / FIGURES / f"{name}.svg"
        if picture.exists():
            encoded = base64.b64encode(picture.read_bytes()).decode()
            figures.append(Figure(name, part, title, [f"python -m experiments figure {name.replace('figure', '')}"],
                                  picture=f"data:image/svg+xml;base64,{encoded}"))
    return figures


def _curves(evidence: Evidence) -> list[Figure]:
    """The rows of the paper's figures that claims are on, and the methods that were run beside them to the end."""
    figures = []
    rows = [(number, row, row.claims) for number, rows in PAPER.items() for row in rows if row.claims]
    drawn = {method for _, row, _ in rows for method in row.methods}
    for number, (name, methods, shows, _), part in rows:
        found = evidence.runs(name, False)
        beside = [] if shows else [method for method in found.complete["method"].unique() if method not in drawn]
        shown = found.only([*methods, *beside])
        if not shown.runs.empty:
            title = f"Figure {number}{', and methods beside it' if beside else ''}: {PARTS[part]}"
            draw = _command("figure", shown) if beside else f"python -m experiments figure {number}"
            legend = charts.legend(shown)
            figures.append(Figure(part, part, title, [_command("run", shown), f"{draw} --partial"],
                                  [to_json(chart) for chart in charts.curves(shown, legend)], legend,
                                  opens=number in OPENING))
    return figures


def _sensitivities(evidence: Evidence, surveys: Mapping[str, dict[str, Any]]) -> list[Figure]:
    figures = []
    for name in EXPERIMENTS:
        grid = evidence.grid(name)
        if not grid.runs.empty:
            chart, legend = charts.sensitivity(selection.averages(grid), grid.experiment.search.epochs)
            path = f"configs/{name}.yaml"
            methods = " ".join(grid.runs["method"].unique())
            runs = surveys[name]["grid"]["runs"]
            made, wanted = runs["done"] + runs["diverged"], sum(runs.values())
            part = f" ({made} of {wanted} runs of the default methods)" if made < wanted else ""
            figures.append(Figure(f"{name}-sensitivity", name, f"Sensitivity to α: {grid.experiment.title}{part}",
                                  [f"python -m experiments grid {path} --method {methods}",
                                   f"python -m experiments figure sensitivity --config {path} --method {methods} "
                                   "--partial"],
                                  [to_json(chart)], legend))
    return figures


def _tables(evidence: Evidence) -> list[Block]:
    blocks = []
    complete = [grid for grid in map(evidence.grid, EXPERIMENTS)
                if grid.experiment.selects and len(grid.only(FIVE).runs) == len(grid.experiment.grid_runs(FIVE))]
    if complete:
        paths = " ".join(f"configs/{grid.experiment.name}.yaml" for grid in complete)
        blocks.append(_block(tables.table_a1([grid.only(FIVE) for grid in complete]),
                             f"python -m experiments table A1 --config {paths} --method {' '.join(FIVE)}"))
    for name, tuned in itertools.product(EXPERIMENTS, (False, True)):
        found = evidence.runs(name, tuned)
        if found.epochs.empty:
            continue
        command = _command("table", found) + " --partial" + " --tuned" * tuned
        blocks += [_block(table, command) for table in tables.of_experiment(found).values() if table]
    found, grid = evidence.runs(CIFAR, False), evidence.grid(CIFAR)
    if not found.epochs.empty:
        blocks.append(_block(tables.table_a3(found), f"python -m experiments table A3 --method "
                                                     f"{' '.join(found.methods)} --partial"))
    if not grid.runs.empty and not tables.in_table_a2(grid).empty:
        blocks.append(_block(tables.table_a2(grid), f"python -m experiments table A2 --method "
                                                    f"{' '.join(grid.runs['method'].unique())} --partial"))
    twice = [(evidence.experiment(name), evidence.made_twice(name)) for name in EXPERIMENTS]
    if any(runs.methods for _, runs in twice):
        blocks.append(_block(tables.of_rounding(twice), "python -m experiments table rounding"))
    return blocks


def _command(verb: str, found: results.Results) -> str:
    return (f"python -m experiments {verb} configs/{found.experiment.name}.yaml --method "
            f"{' '.join(found.methods)}")


def _block(table: tables.Table, command: str) -> Block:
    return Block(table.title, command, Cells(list(table.cells.columns), table.cells.to_numpy().tolist()))


def _benchmarks(evidence: Evidence) -> list[Block]:
    """The reports of ``benchmarks/``: milliseconds per step, and our time as a share of it, each with quartiles."""
    blocks = []
    for name, (title, command) in BENCHMARKS.items():
        report = evidence.benchmark(name)
        if report is None:
            continue
        what = next(iter(MEASURED[name]))
        quartiles = "{1:.3g} ({0:.3g} to {2:.3g})"
        rows = [[measured[what], f"{measured.get('threads', report.get('threads', ''))}", contender,
                 quartiles.format(*(1e3 * seconds for seconds in timed["seconds"])), quartiles.format(*timed["share"])]
                for measured in report["measurements"] for contender, timed in measured["contenders"].items()]
        machine = report["machine"]
        blocks.append(Block(f"{title}: medians and quartiles of {report['rounds']} rounds; {machine['processor']}, "
                            f"{machine['cores']} cores", command,
                            Cells([what, "threads", "contender", "ms", "ours / this"], rows),
                            [benchmarks.describe(verdict) for verdict in report.get("verdicts", [])]))
    return blocks


def _runs(surveys: Mapping[str, dict[str, Any]]) -> list[Block]:
    """How many runs have each state, as `status` counts them; its grid search has a row of its own."""
    blocks = []
    for name, found in surveys.items():
        rows = {**{LABELS[method]: states for method, states in found["methods"].items()},
                **({"grid search": found["grid"]["runs"]} if found["grid"] else {})}
        total = {state: sum(states[state] for states in rows.values()) for state in STATES}
        texts = [[label, *(f"{states[state] or ''}" for state in STATES)] for label, states in rows.items()]
        blocks.append(Block(f"{name}: {counted(total)}", f"python -m experiments status configs/{name}.yaml",
                            Cells(["runs", *STATES], texts)))
    return blocks


def _without_configuration(folder: Path, known: Container[str]) -> list[str]:
    """The experiments that have records here and are not known."""
    return sorted({path.parents[2].name for path in folder.glob("*/*/*/config.json")
                   if path.parents[2].name not in known})


def _machines(folder: Path) -> list[dict[str, Any]]:
    """What the runs were made with: each distinct environment, and how many runs it made, or went on with."""
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("*/*/*/environment.json")):
        for one in read_environments(path):
            made = {name: value for name, value in one.items() if name != "first_epoch"}
            if not made.keys() >= MACHINE or not isinstance(made["versions"], dict):
                raise damaged_environment(path)
            counts[json.dumps(made, sort_keys=True)] += 1
    return [{**json.loads(made), "runs": n} for made, n in counts.most_common()]


def _without_machine(folder: Path) -> list[str]:
    """The records that do not say what they were made with."""
    return sorted(str(path.parent) for path in folder.glob("*/*/*/epochs.csv")
                  if not read_environments(path.with_name("environment.json")))


def _cells(numbers: pd.DataFrame) -> Cells:
    """Numbers to four digits; empty where there is none, or an interval has no end."""
    def text(value):
        if isinstance(value, float):
            return f"{value:.4g}" if math.isfinite(value) else ""
        return "" if value is None else str(value)
    return Cells(list(numbers.columns), [[text(value) for value in row] for row in
                                         numbers.astype(object).to_numpy().tolist()])
