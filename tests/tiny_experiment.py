"""A configuration whose runs take a second, and the command line in a process of its own."""

import contextlib
import json
import math
import os
import struct
import subprocess
import sys
import zipfile

import pandas as pd
import pytest

from experiments.analysis import selection
from experiments.analysis.results import Grid
from experiments.vocabulary.config import RunOptions, load
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS
from experiments.vocabulary.files import write_json
from experiments.vocabulary.methods import HYPERPARAMETERS
from experiments.vocabulary.records import RunRecord

REAL_DATA = pytest.mark.skipif("NAMSG_DATA" not in os.environ,
                               reason="NAMSG_DATA is not set: no folder with the real data")
CONFIG = """
title: A tiny experiment
data: {name: rendered_digits, train: 300, test: 100, seed: 0}
model: {name: logistic_regression}
batch_size: 64
weight_decay: 0.001
epochs: 3
seeds: 0-1
tuning: {epochs: 2, seeds: 100-100}
methods:
  adam:
    optimizer: adam
    parameters: {learning_rate: 0.005, beta1: 0.9, beta2: 0.99, epsilon: 1.0e-8}
    source: a test
    grid: {learning_rate: [0.001, 0.005], beta1: [0.9], beta2: [0.99]}
  namsg:
    optimizer: namsg
    parameters:
      learning_rate: 0.005
      beta1: 0.9
      beta2: 0.99
      epsilon: 1.0e-8
      eta: {schedule: ObservationDistance, start: 0.9, end: 3.0, epochs: 1}
    source: a test
    grid: {learning_rate: [0.001, 0.005], beta1: [0.9], beta2: [0.99]}
"""


def write_config(folder, text=CONFIG, name="tiny"):
    """The path of the configuration, written into the folder."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def record(results, run, losses, epochs, status="done", distributed=None, learning_rates=None, seconds=2.0):
    """The records of a run with these train losses, as training leaves it: complete after so many epochs.

    ``learning_rates`` are the epochs' step sizes; None: the same in all. ``seconds``: what each epoch took.
    """
    learning_rates = learning_rates or [0.5] * len(losses)
    folder = RunRecord(results / run.folder)
    with folder.lock():
        folder.begin(run.config_json(RunOptions(results, epochs, None, "cpu", 1, None, distributed)))
        folder.add_environment(1, {"commit": "0123456789ab", "dirty": False, "versions": {"python": "3"},
                                   "system": "a system", "processor": "a processor", "cores": 2, "threads": 1,
                                   "kernel": "cpu"})
        for epoch, (loss, learning_rate) in enumerate(zip(losses, learning_rates), start=1):
            row = {**dict.fromkeys(EPOCH_COLUMNS, 0.5), "epoch": epoch, "updates": 235 * epoch, "train_loss": loss,
                   "test_loss": 1.5, "learning_rate": learning_rate}
            folder.add_epoch(row, {"epoch": epoch, "training": seconds / 2, "evaluation": seconds / 2}, {})
        if len(losses) == epochs or status == "diverged":
            folder.finish(len(losses), status)


def step_size_grid(folder, losses):
    """A grid of ADAM's step size alone, with two seeds; an infinite train loss is of a run that diverged.

    ``losses`` has both seeds' by step size. The configuration's own step size is 0.005.
    """
    text = CONFIG.replace("[0.001, 0.005], beta1: [0.9], beta2: [0.99]", str(list(losses)))
    runs = [{"method": "adam", "learning_rate": alpha, "beta1": math.nan, "beta2": math.nan, "seed": seed,
             "status": "done" if math.isfinite(loss) else "diverged", "train_loss": loss}
            for alpha, pair in losses.items() for seed, loss in zip((100, 101), pair)]
    return Grid(load(write_config(folder, text)), [100, 101], list(HYPERPARAMETERS), pd.DataFrame(runs))


def write_selection(results, experiment, chosen):
    """The selection.json of a grid search that has chosen these points, by method."""
    methods = {method: {"chosen": point} for method, point in chosen.items()}
    path = results / experiment.name / "selection.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"sha256": selection._digest(experiment, methods), "methods": methods})


def make_older(folder):
    """Take from a run's records what those made before they had digests lack."""
    with zipfile.ZipFile(folder / "checkpoint.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["position.json"] = json.dumps({"epoch": json.loads(members["position.json"])["epoch"]})
    with zipfile.ZipFile(folder / "checkpoint.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    done = folder / "done.json"
    if done.exists():
        content = json.loads(done.read_text())
        done.write_text(json.dumps({name: content[name] for name in ("epochs", "status")}, indent=2) + "\n")


def hide_members(checkpoint):
    """Give the first member a comment of such a length that it swallows the other members' entries."""
    content = checkpoint.read_bytes()
    first = content.index(b"PK\1\2")
    second, end = content.index(b"PK\1\2", first + 1), content.index(b"PK\5\6")
    checkpoint.write_bytes(content[:first + 32] + struct.pack("<H", end - second) + content[first + 34:])


@contextlib.contextmanager
def small_disk(folder, size):
    """A disk of this size ('400k') at the folder; skips where there is no right to mount one."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False,
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def command(*arguments, **options):
    """What to start for ``python -m experiments`` with these arguments."""
    return dict({"args": [sys.executable, "-m", "experiments", *map(str, arguments)], "stdout": subprocess.PIPE,
                 "stderr": subprocess.PIPE, "text": True, "env": dict(os.environ, OMP_NUM_THREADS="1")}, **options)


def experiments(*arguments, **options):
    """Run ``python -m experiments`` to its end; the CompletedProcess with its output as text."""
    return subprocess.run(**command(*arguments, **options), check=False)


def numbers(results):
    """The bytes of every file that a repeated run must equal: all but times, environment, checkpoints and locks."""
    return {str(path.relative_to(results)): path.read_bytes() for path in sorted(results.rglob("*"))
            if path.name in ("config.json", "epochs.csv", "done.json")}
