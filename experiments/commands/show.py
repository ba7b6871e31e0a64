"""The commands that read records: `list`, `status`, `figure`, `table`, `claims` and `report`. None of them trains.

They import where they use a module, as pandas takes longer to load than most commands run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Sequence

from experiments.analysis.survey import survey
from experiments.commands.inputs import all_configs, load_experiment, named_configs, print_paths
from experiments.commands.status import describe
from experiments.vocabulary import config, paper
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.folders import CONFIGS, FIGURES, TABLES
from experiments.vocabulary.seeds import seed_range

COMPUTED = ("1", "theory")   # figures that need no runs
DISTANCE = f"{paper.LOGISTIC}_distance"   # whose grid is over step size and observation distance


def show_list(options: argparse.Namespace) -> int:
    """Print each experiment, its methods and their sources."""
    for path in all_configs():
        experiment = config.load(path)
        print(f"{path}: {experiment.title}\n  {experiment.epochs} epochs, batch {experiment.batch_size}, "
              f"seeds {seed_range(experiment.seeds)}, weight decay {experiment.weight_decay:g}")
        for method in experiment.methods.values():
            parameters = ", ".join(f"{name} {_readable(value)}" for name, value in method.parameters.items())
            on_request = "" if method.by_default else "; on request only"
            print(f"  {method.name:24}{method.optimizer}: {parameters} ({method.source}{on_request})")
    return 0


def show_status(options: argparse.Namespace) -> int:
    """Print which runs are done, running, failed or missing."""
    if not options.config and (options.tuned or options.method):
        raise UsageError("--tuned, --method: name a CONFIG, as each has methods of its own")
    surveys = [survey(load_experiment(path, options), Path(options.results), options.method, options.seeds)
               for path in named_configs(options)]
    print(json.dumps(surveys, indent=2) if options.json else "\n".join(describe(s) for s in surveys))
    return 0


def figure(options: argparse.Namespace) -> int:
    """Draw a figure from records."""
    from experiments.commands import collecting
    from experiments.display import figures  # here: workers of a kvstore import this module and need no matplotlib

    folder = Path(options.output or Path(options.results, FIGURES))
    _check_options(options.figure, options, takes_config=("sensitivity",))
    if options.figure in COMPUTED:
        from experiments.theory.figures import draw_gain, draw_theory  # here, as it loads MXNet

        paths = (draw_gain if options.figure == "1" else draw_theory)(folder)
    elif options.figure in figures.PAPER:
        from experiments.claims.evidence import Evidence

        evidence = Evidence(Path(options.results), CONFIGS)
        rows = []
        for row in figures.PAPER[options.figure]:
            shown = collecting.of_experiment(config.load(CONFIGS / f"{row.experiment}.yaml"), options, row.methods)
            verdicts = "" if options.method or options.seeds else _verdicts(evidence, row.claims)
            rows.append(figures.Row(shown, row.shows, verdicts))
        paths = figures.draw(rows, f"figure{options.figure}", folder)
    elif options.figure == "sensitivity":
        from experiments.display import sensitivity

        paths = sensitivity.draw(collecting.of_grids(options), folder)
    elif options.figure == "distance":
        from experiments.display import heat_map

        grid = collecting.of_grid(config.load(CONFIGS / f"{DISTANCE}.yaml"), options)
        paths = heat_map.draw(grid, folder)
    elif _is_config(options.figure):
        shown = collecting.of_experiment(load_experiment(options.figure, options), options)
        paths = figures.draw([figures.Row(shown)], _name(shown.experiment, options), folder)
    else:
        raise UsageError(f"figure {options.figure}: neither a configuration (.yaml) nor one of "
                         f"1, {', '.join(figures.PAPER)}, sensitivity, distance, theory")
    print_paths(paths)
    return 0


def _verdicts(evidence, part: str | None) -> str:
    """How many of the paper's claims in a part have which verdict; '' without a part."""
    from experiments.claims import answer, judging, sentences

    judged = judging.judge(evidence, [claim for claim in sentences.CLAIMS if claim.part == part])
    if not judged:
        return ""
    counts = answer.count([judgement for _, judgement in judged])
    return f"The paper's {len(judged)} claims: " + ", ".join(f"{verdict} {count}" for verdict, count in counts)


def table(options: argparse.Namespace) -> int:
    """Write a table from records."""
    from experiments.commands import collecting
    from experiments.display import tables

    _check_options(options.table, options, takes_config=("A1", "rounding"))
    made: dict[str, tables.Table | None]
    if options.table == "A1":
        made = {"tableA1": tables.table_a1(collecting.of_table_a1(options))}
    elif options.table == "A2":
        experiment = config.load(CONFIGS / f"{paper.CIFAR}.yaml")
        methods = collecting.recorded(experiment, options, is_grid=True)
        made = {"tableA2": tables.table_a2(collecting.of_grid(experiment, options, methods))}
    elif options.table == "A3":
        experiment = config.load(CONFIGS / f"{paper.CIFAR}.yaml")
        methods = collecting.recorded(experiment, options)
        made = {"tableA3": tables.table_a3(collecting.of_experiment(experiment, options, methods))}
    elif options.table == "rounding":
        made = {"rounding": tables.of_rounding(collecting.of_runs_made_twice(options))}
    elif _is_config(options.table):
        experiment = load_experiment(options.table, options)
        results = collecting.of_experiment(experiment, options, collecting.recorded(experiment, options))
        name = _name(results.experiment, options)
        made = {f"{name}{ending}": content for ending, content in tables.of_experiment(results).items()}
    else:
        raise UsageError(f"table {options.table}: neither a configuration (.yaml) nor one of A1, A2, A3, rounding")
    folder = Path(options.output or Path(options.results, TABLES))
    for name, content in made.items():
        if content is None:
            tables.remove(name, folder)
            continue
        paths = tables.write(content, name, folder)
        print(paths[0].read_text(encoding="utf-8"))
        print_paths(paths)
    return 0


def show_claims(options: argparse.Namespace) -> int:
    """Print verdicts on the paper's claims; if no claim is named, on all of them, and write their table."""
    from experiments.claims import judging, sentences
    from experiments.claims.evidence import Evidence
    from experiments.display import tables

    known = {claim.name: claim for claim in sentences.CLAIMS}
    for name in options.claim:
        if name not in known:
            raise UsageError(f"claim {name!r}: there are {', '.join(known)}")
    folder = Path(options.results)
    chosen = [claim for name, claim in known.items() if not options.claim or name in options.claim]
    evidence = Evidence(folder, CONFIGS)
    verdicts = judging.judge(evidence, chosen)
    if options.json:
        print(json.dumps([judging.as_json(verdict, evidence) for verdict in verdicts], indent=2))
        return 0
    print("\n".join(judging.describe(verdict) for verdict in verdicts))
    if not options.claim:
        print_paths(tables.write(tables.claims(verdicts), "claims", folder / TABLES))
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the HTML page of all results."""
    from experiments.display import report

    print_paths([report.write(Path(options.results), CONFIGS)])
    return 0


def _check_options(what: str, options: argparse.Namespace, takes_config: Sequence[str]) -> None:
    """UsageError for an option that this figure or table would ignore; ``takes_config``: those that take --config."""
    if options.tuned and not _is_config(what):
        raise UsageError(f"--tuned: only with a configuration (.yaml), not with {what}")
    if options.config and what not in takes_config:
        raise UsageError(f"--config: only with {' and '.join(takes_config)}, not with {what}")
    if what in (*COMPUTED, "rounding") and (options.method or options.seeds or options.partial):
        raise UsageError(f"--method, --seeds, --partial: not with {what}, which has no choice of runs")


def _name(experiment: Experiment, options: argparse.Namespace) -> str:
    """The file name of an experiment's figure and table."""
    return experiment.name + ("_tuned" if options.tuned else "")


def _is_config(text: str) -> bool:
    return Path(text).suffix in (".yaml", ".yml")


def _readable(value) -> str:
    if not isinstance(value, dict):
        return f"{value:g}"
    arguments = ", ".join(f"{key} {number:g}" for key, number in value.items() if key != "schedule")
    return f"{value['schedule']}({arguments})"
