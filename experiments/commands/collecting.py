"""The records that a figure's or a table's options choose. Importing this loads pandas."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from experiments.analysis import results
from experiments.analysis.results import Grid, Results
from experiments.analysis.rounding import MadeTwice, made_twice
from experiments.commands.inputs import all_configs, named_configs
from experiments.vocabulary import config, paper
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.folders import CONFIGS, ROUNDING


def of_experiment(experiment: Experiment, options: argparse.Namespace, methods: Sequence[str] | None = None) -> Results:
    """The runs of these methods, of those that the options name, or of all that run by default."""
    return results.collect(experiment, Path(options.results), options.method or methods, options.seeds,
                           options.partial)


def of_grid(experiment: Experiment, options: argparse.Namespace, methods: Sequence[str] | None = None) -> Grid:
    """The same of a grid search."""
    return results.collect_grid(experiment, Path(options.results), options.method or methods, options.seeds,
                                options.partial)


def recorded(experiment: Experiment, options: argparse.Namespace, is_grid: bool = False) -> list[str]:
    """The methods that a table shows: those that are named, else those that are recorded."""
    return options.method or results.recorded_methods(experiment, Path(options.results), options.seeds,
                                                      options.partial, is_grid)


def of_grids(options: argparse.Namespace) -> list[Grid]:
    """The grid searches of --config, or the paper's that select hyper-parameters."""
    chosen = [config.load(path) for path in named_configs(options)]
    if not options.config:
        chosen = [experiment for experiment in chosen if experiment.name in paper.EXPERIMENTS and experiment.selects]
    if not chosen:
        raise UsageError(f"{CONFIGS}: none of the paper's experiments there has a grid search that selects values")
    return results.collect_grids(chosen, Path(options.results), lambda experiment: options.method, options.seeds,
                                 options.partial)


def of_table_a1(options: argparse.Namespace) -> list[Grid]:
    """The grid searches of --config, or the paper's, with the default methods, and MXNet's NADAM if it is recorded."""
    def methods(experiment):
        return [name for name in recorded(experiment, options, is_grid=True)
                if options.method or experiment.methods[name].by_default or paper.printed_name(name) != name]

    chosen = named_configs(options) if options.config else [
        path for name in paper.EXPERIMENTS for path in all_configs() if path.stem == name]
    if not chosen:
        raise UsageError(f"{CONFIGS}: none of the paper's experiments is there")
    return results.collect_grids([config.load(path) for path in chosen], Path(options.results), methods, options.seeds,
                                 options.partial)


def of_runs_made_twice(options: argparse.Namespace) -> list[tuple[Experiment, MadeTwice]]:
    """The experiments with runs that were made twice, and these runs."""
    folder = Path(options.results)
    experiments = [experiment for experiment in map(config.load, named_configs(options))
                   if (folder / ROUNDING / experiment.name).exists()]
    made = [(experiment, made_twice(results.read(experiment, folder, list(experiment.methods))[0], folder))
            for experiment in experiments]
    made = [(experiment, runs) for experiment, runs in made if runs.methods]
    if not made:
        raise RecordError(f"{folder / ROUNDING}: no run there that {folder} has, too")
    return made
