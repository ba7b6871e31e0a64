"""What commands share: loading the experiment that an option names, and printing the paths of written files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from experiments.vocabulary import config
from experiments.vocabulary.config import Experiment
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.folders import CONFIGS, config_files


def load_experiment(path: str | Path, options: argparse.Namespace) -> Experiment:
    """The experiment of a YAML file; with --tuned, at the hyper-parameters that its own grid search selected."""
    experiment = config.load(path)
    if not options.tuned:
        return experiment
    if not experiment.selects:
        raise UsageError(f"--tuned: {path} has no grid search that selects values")
    from experiments.analysis import results, selection

    folder = Path(options.results)
    chosen = selection.chosen(experiment, folder)
    if not chosen:
        raise RecordError(f"{path}: no values are selected in {folder}; "
                          f"{results.command_line(experiment, folder, 'grid')} selects them")
    return experiment.tuned(chosen)


def all_configs() -> list[Path]:
    if not CONFIGS.is_dir():
        raise UsageError(f"{CONFIGS}: no such folder here; commands are given in the checkout")
    return config_files(CONFIGS)


def named_configs(options: argparse.Namespace) -> list[Path]:
    """The configurations that the command names, each once; all in configs/ if it names none."""
    return list(dict.fromkeys(map(Path, options.config or ()))) or all_configs()


def print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"written: {path}")
