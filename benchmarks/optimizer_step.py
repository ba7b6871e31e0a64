"""What an optimizer's step costs: ours, MXNet's and PyTorch's, in turn in one run.

    python benchmarks/optimizer_step.py [--torch PYTHON] [--threads 1 2] [--rounds 15]

Each round times every contender once; reported are medians over the rounds, and their ratios. PyTorch, which gluoncv
does not bear beside it, runs in a process of ``--torch``'s interpreter, and the frameworks take turns. Writes
optimizer_step.json, .md, .png and .svg into the results folder. On a machine that does anything else the numbers are
noise.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SHAPE_SETS = ("ResNet-20", "ResNet-50", "one array of 25 M", "2000 arrays of 1000")
OURS = "namsg, cpu kernel"
SECONDS_PER_TURN = 0.2
SECONDS_BETWEEN_TURNS = 0.3   # idle OpenMP threads spin for a while, on the core that the other process needs


def shapes_of(name):
    """Shapes of all the trainable parameters."""
    if name == "one array of 25 M":
        return [(25_000_000,)]
    if name == "2000 arrays of 1000":
        return [(1000,)] * 2000
    import namsg_mx  # noqa: F401  # isort: skip
    import mxnet as mx
    if name == "ResNet-20":
        from gluoncv.model_zoo import cifar_resnet20_v1
        net, size = cifar_resnet20_v1(), 28
    else:
        net, size = mx.gluon.model_zoo.vision.resnet50_v1(), 64
    net.initialize()
    net(mx.nd.zeros((1, 3, size, size)))
    return [p.shape for p in net.collect_params().values() if p.grad_req != "null"]


class Worker:
    """A `step_worker.py` that waits for its turn."""

    def __init__(self, python, framework, threads, shapes):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self._process = subprocess.Popen([python, str(Path(__file__).with_name("step_worker.py")), framework],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.contenders = self._ask(shapes)

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


def measure(shapes, threads, rounds, torch):
    """Seconds per step of each contender in each round."""
    workers = [Worker(sys.executable, "mxnet", threads, shapes)]
    if torch:
        workers.append(Worker(torch, "torch", threads, shapes))
    turns = [(worker, contender) for worker in workers for contender in worker.contenders]
    steps = {}
    for worker, contender in turns:   # warms up, too
        worker.time(contender, 2)
        steps[contender] = max(1, int(SECONDS_PER_TURN / worker.time(contender, 2)))
    seconds = {contender: [] for _, contender in turns}
    for _ in range(rounds):
        for worker, contender in turns:
            seconds[contender].append(worker.time(contender, steps[contender]))
    for worker in workers:
        worker.end()
    return seconds


def machine():
    """The machine's name and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"processor": processor, "cores": os.cpu_count(), "python": sys.version.split()[0]}


def torch_version(python):
    return python and subprocess.run([python, "-c", "import torch; print(torch.__version__)"], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout.strip()


def markdown(report):
    """One table per thread count: milliseconds, and in brackets the ratio of our kernel's time to this one's."""
    lines = [f"Milliseconds per step, medians of {report['rounds']} rounds (our CPU kernel's time as a share of it); "
             f"{report['machine']['processor']}, {report['machine']['cores']} cores.\n"]
    for threads in sorted({m["threads"] for m in report["measurements"]}):
        columns = [m for m in report["measurements"] if m["threads"] == threads]
        names = list(dict.fromkeys(name for m in columns for name in m["median_seconds"]))
        lines += [f"\n{threads} thread{'s' if threads > 1 else ''}:\n", "",
                  f"| | {' | '.join(m['shapes'] for m in columns)} |\n", f"|---|{'---|' * len(columns)}\n"]
        for name in names:
            times = [(m["median_seconds"][name], m["median_seconds"][OURS]) for m in columns]
            cells = [f"{1e3 * seconds:.2f} ({ours / seconds:.2f})" for seconds, ours in times]
            lines.append(f"| {name} | {' | '.join(cells)} |\n")
    return "".join(lines)


def draw(report, paths):
    """Bars: each contender's time as a multiple of our CPU kernel's."""
    from matplotlib.figure import Figure
    columns = [m for m in report["measurements"] if m["threads"] == max(n["threads"] for n in report["measurements"])]
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    names = list(columns[0]["median_seconds"])
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        ratios = [m["median_seconds"][name] / m["median_seconds"][OURS] for m in columns]
        axes.bar([j + i * width for j in range(len(columns))], ratios, width, label=name)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(yscale="log", ylabel="time per step / our CPU kernel's", title=f"{columns[0]['threads']} threads")
    axes.set_xticks([j + 0.4 - width / 2 for j in range(len(columns))], [m["shapes"] for m in columns])
    axes.legend(fontsize=8)
    for path in paths:
        figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shapes", nargs="+", choices=SHAPE_SETS, default=SHAPE_SETS)
    parser.add_argument("--results", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    report = {"machine": machine(), "torch": torch_version(options.torch), "rounds": options.rounds,
              "measurements": []}
    for name in options.shapes:
        shapes = shapes_of(name)
        for threads in options.threads:
            seconds = measure(shapes, threads, options.rounds, options.torch)
            report["measurements"].append({
                "shapes": name, "threads": threads, "arrays": len(shapes),
                "median_seconds": {c: statistics.median(values) for c, values in seconds.items()},
                "quartiles": {c: statistics.quantiles(values, n=4)[::2] for c, values in seconds.items()}})
            print(f"{name}, {threads} threads: done", file=sys.stderr)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "optimizer_step.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.results / "optimizer_step.md").write_text(markdown(report))
    draw(report, [options.results / f"optimizer_step.{kind}" for kind in ("png", "svg")])
    print(markdown(report))


if __name__ == "__main__":
    main()
