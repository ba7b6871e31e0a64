"""What a sweep of many short runs costs: making 300 locally and by Dask on SLURM, and reading the records of 10,000.

    python -m benchmarks.sweep [--runs 300] [--records 10000]

A run is three epochs of logistic regression on 300 rendered digits. Dask's workers are SLURM's jobs, on a cluster that
this starts on this machine: as root, with Debian's slurmctld, slurmd and munge, and `pip install dask-jobqueue`. It
takes what tests/ has for them, and so needs `pip install --editable '.[test]'`. More workers than cores share these.
All engines must make the same records. 10,000 records, of 100 methods with 100 seeds, are written without training.
Writes sweep.json and .md into the results folder.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.turns import CHECKOUT, machine, write_report

sys.path.insert(0, str(CHECKOUT / "tests"))

import slurm  # noqa: E402
from tiny_experiment import numbers, record  # noqa: E402

from experiments.vocabulary import config  # noqa: E402

EPOCHS, SEEDS_OF_A_METHOD = 3, 100
HEAD = """
title: Many short runs
data: {{name: rendered_digits, train: 300, test: 100, seed: 0}}
model: {{name: logistic_regression}}
batch_size: 64
weight_decay: 0.001
epochs: {epochs}
seeds: 0-{last}
methods:
"""
METHOD = """
  namsg{i}:
    optimizer: namsg
    parameters: {{learning_rate: {rate}, beta1: 0.9, beta2: 0.99, epsilon: 1.0e-8, eta: 0.9}}
    source: none
"""
ON_SLURM = """
import subprocess
from dask_jobqueue import SLURMCluster
cluster = SLURMCluster(queue="main", cores=1, processes=1, memory="2GB", walltime="04:00:00", nanny=False,
                       job_script_prologue=["cd {checkout}", "export PATH={bin}:$PATH"])
cluster.scale(jobs={workers})
cluster.wait_for_workers({workers})
print(cluster.scheduler_address, flush=True)
input()
"""


# In a small process: a child's peak begins at what the process that starts it has had.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def write_config(folder, methods, seeds):
    """The path of a configuration of so many methods and seeds, in the folder where `report` looks for them."""
    path = folder / "configs" / f"sweep{methods}x{seeds}.yaml"
    path.write_text(HEAD.format(epochs=EPOCHS, last=seeds - 1)
                    + "".join(METHOD.format(i=i, rate=0.001 * (1 + i)) for i in range(methods)))
    return path


def command(folder, *words):
    """Run a command of ours in this folder; its seconds and the most memory that it took, in MB."""
    start = time.perf_counter()
    ended = subprocess.run([sys.executable, "-S", "-c", MEASURE, sys.executable, "-m", "experiments",
                            *map(str, words)], cwd=folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, check=False,
                           text=True, stdout=subprocess.PIPE)
    if ended.returncode:
        sys.exit(f"{words[0]}: failed")
    return {"seconds": time.perf_counter() - start, "megabytes": int(ended.stdout) / 1024}


def sweep(folder, path, engine, workers):
    """Make all the runs of a configuration; seconds in all, and within the runs' own epochs."""
    results = folder / f"{engine}{workers}"
    if engine == "local":
        taken = command(folder, "run", path, "--results", results, "--jobs", workers)
    else:
        with tempfile.TemporaryDirectory() as scratch, slurm.cluster(Path(scratch)) as environment:
            program = ON_SLURM.format(checkout=CHECKOUT, bin=Path(sys.executable).parent, workers=workers)
            with subprocess.Popen([sys.executable, "-c", program], text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, env=environment) as cluster:
                scheduler = cluster.stdout.readline().strip()
                taken = command(folder, "run", path, "--results", results, "--scheduler", scheduler)
                cluster.communicate("\n")
    rows = [line.split(",") for seconds in results.glob("*/*/*/seconds.csv")
            for line in seconds.read_text().splitlines()[1:]]
    return {"engine": engine, "workers": workers, "seconds": taken["seconds"],
            "seconds_in_epochs": sum(float(training) + float(evaluation) for _, training, evaluation in rows),
            "results": results}


def measure_sweeps(folder, options):
    """A measurement for each engine; exits if two engines' records differ."""
    path = write_config(folder, 3, options.runs // 3)
    engines = [("local", 2), ("Dask on SLURM", 2), ("Dask on SLURM", 4)]
    if not slurm.is_here() or importlib.util.find_spec("dask_jobqueue") is None:
        print("no SLURM here, no dask-jobqueue, or not root: the local engine alone", file=sys.stderr)
        engines = engines[:1]
    found = [sweep(folder, path, *engine) for engine in engines]
    made = [numbers(one.pop("results")) for one in found]
    runs = 3 * (options.runs // 3)
    for one, its_numbers in zip(found, made):
        complete = sum(name.endswith("done.json") for name in its_numbers)
        if complete != runs or its_numbers != made[0]:
            sys.exit(f"{one['engine']}, {one['workers']} workers: {complete} of {runs} runs, or other records than the "
                     "first engine's")
        one["runs"] = runs
    return found


def measure_reading(folder, count):
    """What each command takes on so many complete runs."""
    methods = max(1, count // SEEDS_OF_A_METHOD)
    path, results = write_config(folder, methods, min(count, SEEDS_OF_A_METHOD)), folder / "generated"
    os.fsync, fsync = lambda file: None, os.fsync   # else most of the time is the disk's
    runs = config.load(path).runs()
    for i, run in enumerate(runs):
        record(results, run, [2.0, 1.0, 0.5 + i % SEEDS_OF_A_METHOD / 1000], EPOCHS)
    os.fsync = fsync
    commands = [("run", path), ("status", path), ("table", path), ("figure", path), ("report",)]
    return [{"command": words[0], "runs": len(runs), **command(folder, *words, "--results", results)}
            for words in commands]


def markdown(report):
    lines = [f"{report['machine']['processor']}, {report['machine']['cores']} cores. A run is {EPOCHS} epochs of "
             "logistic regression on 300 rendered digits; all engines made the same records.\n\n",
             "| engine | workers | runs | seconds | seconds a run | of a worker | of it in epochs | "
             "10,000, extrapolated |\n|---|---|---|---|---|---|---|---|\n"]
    for one in report["sweeps"]:
        seconds, in_epochs = (one[name] / one["runs"] for name in ("seconds", "seconds_in_epochs"))
        lines.append(f"| {one['engine']} | {one['workers']} | {one['runs']} | {one['seconds']:.0f} | {seconds:.3f} | "
                     f"{seconds * one['workers']:.3f} | {in_epochs:.3f} | {seconds * 10_000 / 60:.0f} min |\n")
    lines.append("\n| command | complete runs | seconds | MB |\n|---|---|---|---|\n")
    lines += [f"| `{one['command']}` | {one['runs']:,} | {one['seconds']:.1f} | {one['megabytes']:.0f} |\n"
              for one in report["reading"]]
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(CHECKOUT / "configs", folder / "configs")   # the claims ask for them
        report = {"machine": machine(), "sweeps": measure_sweeps(folder, options),
                  "reading": measure_reading(folder, options.records)}
    write_report(report, markdown(report), options.results / "sweep.json")


if __name__ == "__main__":
    main()
