"""Benchmarks end in reports that the claims and the page read. Their times are not judged here."""

import html
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slurm
from mxnet import gluon

from benchmarks.pattern_worker import PATTERNS
from experiments.claims import judging
from experiments.claims.decisions import FAILS, HOLDS
from experiments.claims.evidence import Evidence
from experiments.claims.sentences import CLAIMS
from experiments.display import report

CHECKOUT = Path(__file__).parents[1]


def run(*arguments, **environment):
    """A benchmark in a process of its own."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=CHECKOUT, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, **environment))


@pytest.mark.parametrize("name, options, ours, contenders", [
    ("optimizer_step", ["--shapes", "ResNet-20", "--threads", "1"], "namsg, cpu kernel", 6),
    ("update_patterns", ["--patterns", "two contexts", "--threads", "1"], "namsg, cpu kernel", 3),
    ("training_step", ["--networks", "CNN", "--threads", "1"], "ours, namsg", 2)])
@pytest.mark.slow
def test_every_contender_has_a_share_of_our_time_in_each_round(tmp_path, name, options, ours, contenders):
    benchmark = run("-m", f"benchmarks.{name}", *options, "--rounds", "2", "--results", tmp_path / "benchmarks")
    assert benchmark.returncode == 0, benchmark.stderr
    path = tmp_path / "benchmarks" / f"{name}.json"
    found = json.loads(path.read_text())
    measured, = found["measurements"]
    times = {contender: timed["rounds"] for contender, timed in measured["contenders"].items()}
    assert len(times) == contenders
    for contender, timed in measured["contenders"].items():
        assert timed["seconds"][1] == pytest.approx(sum(times[contender]) / 2)
        assert timed["share"][1] == pytest.approx(sum(a / b for a, b in zip(times[ours], times[contender])) / 2)
    page = report.write(tmp_path, CHECKOUT / "configs").read_text(encoding="utf-8")
    for contender in times:
        assert contender in benchmark.stdout
        assert f"<td>{html.escape(contender)}</td>" in page
    if name == "optimizer_step":
        path.write_text(json.dumps(found).replace("ResNet-20", "ResNet-50"))   # of which the claim is; it takes longer
        verdict, = judging.judge(Evidence(tmp_path, CHECKOUT / "configs"),
                                 [claim for claim in CLAIMS if claim.name == "cost"])
        share = measured["contenders"]["MXNet adam"]["share"][1]
        assert (verdict.judgement.verdict, verdict.judgement.n) == (HOLDS if share <= 1 else FAILS, 2)


@pytest.mark.slow
def test_the_sweeps_engines_make_every_run_once(tmp_path):
    """It exits if one does not, or if two make other records; on SLURM where that is."""
    benchmark = run("-m", "benchmarks.sweep", "--runs", "6", "--records", "20", "--results", tmp_path)
    assert benchmark.returncode == 0, benchmark.stderr
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert [one["runs"] for one in found["sweeps"]] == [6] * (3 if can_dask_on_slurm() else 1)
    assert [one["command"] for one in found["reading"]] == ["run", "status", "table", "figure", "report"]


def can_dask_on_slurm():
    return slurm.is_here() and importlib.util.find_spec("dask_jobqueue") is not None


@pytest.mark.parametrize("name", ["optimizer_step", "update_patterns", "embedding/update_patterns", "training_step",
                                  "sweep"])
def test_the_committed_text_of_a_benchmark_is_of_its_numbers(name):
    committed = CHECKOUT / "results" / "benchmarks" / f"{name}.json"
    text = importlib.import_module(f"benchmarks.{committed.stem}").markdown(json.loads(committed.read_text()))
    assert committed.with_suffix(".md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("pattern", ["two contexts", "two contexts, update on the kvstore"])
def test_each_step_on_two_contexts_has_the_same_gradients(monkeypatch, pattern):
    """A step leaves the contexts' sum in them: without new ones they would double each time, until all are infinite."""
    trainers = []
    monkeypatch.setattr(gluon, "Trainer", lambda *arguments, new=gluon.Trainer, **options:
                        trainers.append(new(*arguments, **options)) or trainers[-1])
    prepare, step = PATTERNS[pattern]([(5,)], "namsg", {})
    gradients = []
    for _ in range(3):
        prepare()
        gradients.append([gradient.asnumpy() for gradient in trainers[0]._params[0].list_grad()])
        step(None)
    assert np.ptp(gradients, axis=(0, 1)).max() == 0


def test_the_gpu_benchmark_says_what_it_needs():
    benchmark = run("-m", "benchmarks.gpu_step", CUDA_VISIBLE_DEVICES="")
    assert benchmark.returncode == 1
    assert benchmark.stderr.startswith("this needs a GPU and CuPy: ")
