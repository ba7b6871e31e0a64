"""One self-contained HTML page of all that the records say: claims, figures, tables, benchmarks, environment."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import jinja2
import pandas as pd
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from experiments import charts, claims, results, tables, theory_claims
from experiments.comparison import VERDICTS
from experiments.config import Experiment
from experiments.evidence import Evidence
from experiments.records import read_json, write_atomically

EXPERIMENTS = {"mnist_logistic": "Figure 2, top row", "mnist_cnn": "Figure 2, bottom row",
               "cifar10_resnet20": "Figures 3 and A1"}
PAGE = Path(__file__).with_name("report_page")


class Figure(NamedTuple):
    """A figure of the page: charts (Plotly's JSON) with their legend, or a picture (a data URL), and its command.

    ``part`` is that of the claims beside it, if any.
    """

    id: str
    part: str
    title: str
    command: str
    charts: Sequence[str] = ()
    legend: Sequence[charts.Entry] = ()
    picture: str = ""


class Block(NamedTuple):
    """A table of the page: the texts of its cells, and its command."""

    title: str
    command: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write(folder: Path, configs: Path) -> Path:
    """Write report.html into the results folder and return its path. What has not been recorded is left out, or said.
    """
    evidence = Evidence(folder, configs)
    experiments = [evidence.experiment(name) for name in EXPERIMENTS]
    verdicts = claims.judge(evidence)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.get_template("page.html").render(
        verdicts=[(verdict, _cells(verdict.judgement.numbers)) for verdict in verdicts],
        counts=[(name, sum(v.judgement.verdict == name for v in verdicts)) for name in VERDICTS],
        parts=claims.PARTS, figures=_figures(experiments, folder, evidence),
        tables=_tables(experiments, folder), benchmarks=_benchmarks(folder), machines=_machines(folder),
        plotly=get_plotlyjs())
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path


def _figures(experiments: Sequence[Experiment], folder: Path, evidence: Evidence) -> list[Figure]:
    figures = []
    for name, part, title in (("figure1", theory_claims.GAIN, "Figure 1: max gain expectation Ψ"),
                              ("theory", theory_claims.REGRET, "Sections 3 and 4 beside the real optimizer")):
        picture = folder / "figures" / f"{name}.svg"
        if picture.exists():
            encoded = base64.b64encode(picture.read_bytes()).decode()
            figures.append(Figure(name, part, title, f"python -m experiments figure {name.replace('figure', '')}",
                                  picture=f"data:image/svg+xml;base64,{encoded}"))
    for experiment in experiments:
        found, _ = results.read(experiment, folder, list(experiment.methods))
        if not found.epochs.empty:
            title = f"{EXPERIMENTS[experiment.name]}: {experiment.title}"
            figures.append(Figure(experiment.name, experiment.name, title,
                                  f"python -m experiments run configs/{experiment.name}.yaml",
                                  [to_json(chart) for chart in charts.curves(found)], charts.legend(found)))
    for experiment in experiments:
        grid = evidence.grid(experiment.name)
        if not grid.empty:
            chart, legend = charts.sensitivity(grid, experiment.tuning.epochs)
            figures.append(Figure(f"{experiment.name}-sensitivity", "", f"Sensitivity to α: {experiment.title}",
                                  f"python -m experiments grid configs/{experiment.name}.yaml", [to_json(chart)],
                                  legend))
    return figures


def _tables(experiments: Sequence[Experiment], folder: Path) -> list[Block]:
    blocks, grids = [], []
    for experiment in experiments:
        command = f"python -m experiments table configs/{experiment.name}.yaml --partial"
        found, _ = results.read(experiment, folder, list(experiment.methods))
        grid, _ = results.read_grid(experiment, folder, list(experiment.methods))
        grids += [grid] if experiment.tuning.selects and not grid.runs.empty else []
        if found.epochs.empty:
            continue
        blocks.append(_block(tables.summary(found), command))
        if "adam" in set(found.epochs["method"]):
            blocks.append(_block(tables.epochs_to_target(found), command))
        if experiment.name == "cifar10_resnet20":
            blocks.append(_block(tables.table_a3(found), "python -m experiments table A3 --partial"))
            if not grid.runs.empty:
                blocks.append(_block(tables.table_a2(grid), "python -m experiments table A2 --partial"))
    if grids:
        blocks.insert(0, _block(tables.table_a1(grids), "python -m experiments table A1 --partial"))
    return blocks


def _block(table: tables.Table, command: str) -> Block:
    return Block(table.title, command, list(table.cells.columns), table.cells.to_numpy().tolist())


def _benchmarks(folder: Path) -> list[Block]:
    """The reports of ``benchmarks/``: milliseconds per step."""
    blocks = []
    for name, title, what, command in (
            ("optimizer_step", "Trainer.step", "shapes", "make benchmark"),
            ("training_step", "Training step", "network",
             "python benchmarks/training_step.py --torch .venv-torch/bin/python --data DIR")):
        report = read_json(folder / "benchmarks" / f"{name}.json", ("machine", "rounds", "measurements"))
        if report:
            rows = [[measured[what], f"{measured.get('threads', report.get('threads'))}", contender,
                     f"{1e3 * seconds:.2f}"] for measured in report["measurements"]
                    for contender, seconds in measured["median_seconds"].items()]
            machine = report["machine"]
            blocks.append(Block(f"{title}: medians of {report['rounds']} rounds; {machine['processor']}, "
                                f"{machine['cores']} cores", command, [what, "threads", "contender", "ms"], rows))
    return blocks


def _machines(folder: Path) -> list[dict[str, Any]]:
    """What the runs were made with: each distinct environment, and how many runs it made."""
    counts = Counter(json.dumps(made, sort_keys=True) for path in sorted(folder.glob("*/*/*/environment.json"))
                     for made in ({k: v for k, v in one.items() if k != "first_epoch"}
                                  for one in read_json(path, None)))
    return [{**json.loads(made), "runs": n} for made, n in counts.most_common()]


def _cells(numbers: pd.DataFrame) -> Block:
    """Numbers to four digits."""
    def text(value):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return Block("", "", list(numbers.columns), [[text(value) for value in row] for row in
                                                 numbers.astype(object).to_numpy().tolist()])
