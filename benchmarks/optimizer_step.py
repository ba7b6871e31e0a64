"""What an optimizer's step costs: ours, MXNet's and PyTorch's, in turn in one run.

    python -m benchmarks.optimizer_step [--torch PYTHON] [--threads 1 2] [--rounds 15]

Each round times every contender once; reported are medians over the rounds, of times and of ratios within a round; the
JSON has all the times. PyTorch, beside which gluoncv does not load, runs in a process of ``--torch``'s interpreter,
and the frameworks take turns. Writes optimizer_step.json, .md, .png and .svg into the results folder. On a machine that
does anything else the numbers are noise.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.turns import Worker, machine, save, summary, take_turns, torch_version, write_report

SHAPE_SETS = ("ResNet-20", "ResNet-50", "one array of 25 M", "2000 arrays of 1000")
OURS = "namsg, cpu kernel"
SECONDS_PER_TURN = 0.2


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


def measure(shapes, threads, rounds, torch):
    """Seconds per step of each contender in each round."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    workers = [Worker(sys.executable, "step_worker", "mxnet", shapes, environment)]
    if torch:
        workers.append(Worker(torch, "step_worker", "torch", shapes, environment))
    return take_turns(workers, rounds, SECONDS_PER_TURN)


def markdown(report):
    """One table per thread count: milliseconds, and in brackets the ratio of our kernel's time to this one's."""
    lines = [f"Milliseconds per step (our CPU kernel's time as a share of it, with quartiles), medians of "
             f"{report['rounds']} rounds; {report['machine']['processor']}, {report['machine']['cores']} cores. "
             "The streaming bound is a step's memory traffic alone, without its arithmetic.\n"]
    for threads in sorted({m["threads"] for m in report["measurements"]}):
        columns = [m for m in report["measurements"] if m["threads"] == threads]
        names = list(dict.fromkeys(name for m in columns for name in m["contenders"]))
        lines += [f"\n{threads} thread{'s' if threads > 1 else ''}:\n\n",
                  f"| | {' | '.join(m['shapes'] for m in columns)} |\n", f"|---|{'---|' * len(columns)}\n"]
        for name in names:
            cells = (f"{1e3 * c['seconds'][1]:.2f} " + "({1:.2f}, {0:.2f} to {2:.2f})".format(*c["share"])
                     for c in (m["contenders"][name] for m in columns))
            lines.append(f"| {name} | {' | '.join(cells)} |\n")
    return "".join(lines)


def draw(report, paths):
    """Bars: our CPU kernel's time as a share of each contender's, with quartiles, on the most threads."""
    from matplotlib.figure import Figure
    columns = [m for m in report["measurements"] if m["threads"] == max(n["threads"] for n in report["measurements"])]
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    names = [name for name in columns[0]["contenders"] if name != OURS]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        low, share, high = zip(*(m["contenders"][name]["share"] for m in columns))
        errors = [[b - a for a, b in zip(low, share)], [b - a for a, b in zip(share, high)]]
        axes.bar([j + i * width for j in range(len(columns))], share, width, yerr=errors, error_kw={"linewidth": 0.8},
                 label=name)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(yscale="log", ylabel="our CPU kernel's time / this one's", title=f"Below 1 ours is faster; "
             f"{columns[0]['threads']} threads, medians and quartiles of {report['rounds']} rounds")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks([j + 0.4 - width / 2 for j in range(len(columns))], [m["shapes"] for m in columns])
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    for path in paths:
        figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shapes", nargs="+", choices=SHAPE_SETS, default=SHAPE_SETS)
    parser.add_argument("--results", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--draw", action="store_true", help="measure nothing: make .md, .png and .svg of the .json")
    options = parser.parse_args()
    path = options.results / "optimizer_step.json"
    if not options.draw:
        measure_all(options, path)
    report = json.loads(path.read_text())
    write_report(report, markdown(report), path)
    draw(report, [path.with_suffix(".png"), path.with_suffix(".svg")])


def measure_all(options, path):
    """Save the report: each set of shapes on each number of threads."""
    report = {"machine": machine(), "torch": torch_version(options.torch), "rounds": options.rounds,
              "measurements": []}
    for name in options.shapes:
        shapes = shapes_of(name)
        for threads in options.threads:
            seconds = measure(shapes, threads, options.rounds, options.torch)
            report["measurements"].append({
                "shapes": name, "threads": threads, "arrays": len(shapes), "contenders": summary(seconds, OURS)})
            save(report, path)
            print(f"{name}, {threads} threads: done", file=sys.stderr)


if __name__ == "__main__":
    main()
