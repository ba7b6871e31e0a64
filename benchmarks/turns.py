"""What the benchmarks share: contenders in processes of their own, timed in turn, and the machine's name."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from experiments.vocabulary.files import write_atomically

CHECKOUT = Path(__file__).resolve().parents[1]
FUSED_AMSGRAD = "PyTorch Adam, amsgrad, fused"   # on a GPU
SECONDS_BETWEEN_TURNS = 0.3   # idle OpenMP threads spin for a while, on the core that the other process needs


class Worker:
    """The other end of `serve`: a module of the benchmarks that has been asked its first question, and waits for turns.
    """

    def __init__(self, python, module, framework, question, environment):
        self._process = subprocess.Popen([python, "-m", f"benchmarks.{module}", framework], cwd=CHECKOUT,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=dict(os.environ, **environment))
        self.contenders = self._ask(question)

    def time(self, contender, steps):
        """Seconds per step."""
        time.sleep(SECONDS_BETWEEN_TURNS)
        return self._ask([contender, steps])

    def end(self):
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, question):
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a worker ended with status {self._process.wait()}")
        return json.loads(answer)


def serve(frameworks):
    """Time contenders as they are asked for on stdin, and answer on stdout, in lines of JSON; returns at stdin's end.

    ``frameworks``: by name, a function of the first question that returns the contenders, by name functions from a
    number of steps to seconds per step. The first answer is the contenders' names; each further question is a pair of a
    contender and a number of steps.
    """
    contenders = frameworks[sys.argv[1]](json.loads(sys.stdin.readline()))
    print(json.dumps(list(contenders)), flush=True)
    for line in sys.stdin:
        name, steps = json.loads(line)
        print(json.dumps(contenders[name](steps)), flush=True)


def timed(step, wait=lambda: None, prepare=None):
    """A contender: a function from a number of steps to seconds per step.

    Without ``prepare`` the steps follow each other, and are waited for together. With it each is timed and waited for
    by itself, and takes what ``prepare`` has returned, whose time does not count.
    """
    def together(count, *prepared):
        wait()
        start = time.perf_counter()
        for _ in range(count):
            step(*prepared)
        wait()
        return (time.perf_counter() - start) / count

    if prepare is None:
        return together
    return lambda count: sum(together(1, prepare()) for _ in range(count)) / count


def take_turns(workers, rounds, seconds_per_turn):
    """Seconds per step of each contender in each round, after a warm-up; ends the workers.

    Every other round goes backwards, so that none is always timed after the same one.
    """
    if rounds < 2:
        raise SystemExit("quartiles need at least two rounds")
    turns = [(worker, contender) for worker in workers for contender in worker.contenders]
    steps = {}
    for worker, contender in turns:
        worker.time(contender, 2)
        steps[contender] = max(1, int(seconds_per_turn / worker.time(contender, 2)))
    seconds = {contender: [] for _, contender in turns}
    for i in range(rounds):
        for worker, contender in turns if i % 2 == 0 else reversed(turns):
            seconds[contender].append(worker.time(contender, steps[contender]))
    for worker in workers:
        worker.end()
    return seconds


def summary(seconds, ours):
    """By contender: its seconds in each round, their quartiles, and those of our time as a share of its.

    The share is taken round by round: what slows the machine for longer than that slows both.
    """
    return {contender: {"rounds": rounds, "seconds": statistics.quantiles(rounds, n=4),
                        "share": statistics.quantiles([a / b for a, b in zip(seconds[ours], rounds)], n=4)}
            for contender, rounds in seconds.items()}


def machine(device="cpu"):
    """What is measured, and on what: commit, versions and processor, as in a run's environment.json.

    Kernels and threads are not there, as they are the contenders' and workers' own.
    """
    from experiments.training import environment  # here: PyTorch's worker needs none of it

    found = {**environment.code((*environment.SOURCES, "benchmarks")), **environment.describe(device)}
    return {name: value for name, value in found.items() if name != "threads"}


def write_report(report, markdown, path):
    """Write the report as JSON to ``path``, and its Markdown beside it; print the latter."""
    save(report, path)
    write_atomically(path.with_suffix(".md"), markdown.encode())
    print(markdown)


def save(report, path):
    """Write the report as JSON, also after each measurement: what is measured outlasts a machine that is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())


def torch_version(python):
    """The version of PyTorch that this interpreter has; None without an interpreter."""
    return python and subprocess.run([python, "-c", "import torch; print(torch.__version__)"], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout.strip()
