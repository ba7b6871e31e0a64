"""What a training step of the paper's networks costs: ours, the stock networks in MXNet, and PyTorch, in turn.

    python -m benchmarks.training_step [--torch PYTHON] [--threads 2] [--rounds 15] [--networks CNN] [--data DIR]

A step is forward, backward and update of one batch of 256 that is there already. Reported are medians over the rounds,
of times and of ratios within a round, as in optimizer_step.py. With ``--data``, real CIFAR-10, also what a real epoch
of ResNet-20 adds to its bare steps: augmentation, records and checkpoint; the test pass apart. Writes
training_step.json, after each network, and .md.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path

from benchmarks.turns import Worker, machine, save, summary, take_turns, torch_version, write_report

NETWORKS = ("ResNet-20", "CNN")
OURS = "ours, namsg"
SECONDS_PER_TURN = 1.5


def measure(network, threads, rounds, torch):
    """Seconds per step of each contender in each round."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    workers = [Worker(sys.executable, "training_worker", "mxnet", [network, whose], environment)
               for whose in ("ours", "stock")]
    if torch:
        workers.append(Worker(torch, "training_worker", "torch", [network], environment))
    return take_turns(workers, rounds, SECONDS_PER_TURN)


def measure_epochs(data, threads, epochs):
    """Seconds of real epochs of ResNet-20 (training with records and checkpoint; test pass) between bare steps."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    bare = Worker(sys.executable, "training_worker", "mxnet", ["ResNet-20", "ours"], environment)
    real = Worker(sys.executable, "training_worker", "epochs", data, environment)
    contender, = bare.contenders
    bare.time(contender, 10)
    real.time("training", 1)
    measured = []
    for _ in range(epochs):
        before = bare.time(contender, 60)
        training = real.time("training", 1)
        after = bare.time(contender, 60)
        measured.append({"bare_step": (before + after) / 2, "training_step": training,
                         "test_pass": real.time("test pass", 1)})
    bare.end()
    real.end()
    return measured


def markdown(report):
    lines = [f"Milliseconds per training step, batch 256, {report['threads']} threads, medians of {report['rounds']} "
             f"rounds (quartiles); {report['machine']['processor']}, {report['machine']['cores']} cores.\n\n",
             "| network | contender | ms | ours / this |\n|---|---|---|---|\n"]
    for measured in report["measurements"]:
        for name, contender in measured["contenders"].items():
            low, median, high = (1e3 * seconds for seconds in contender["seconds"])
            share = "{1:.2f} ({0:.2f} to {2:.2f})".format(*contender["share"])
            lines.append(f"| {measured['network']} | {name} | {median:.1f} ({low:.1f} to {high:.1f}) | {share} |\n")
    if "epochs" in report:
        added, tested = (_percent(e[what] / e["bare_step"] - less for e in report["epochs"])
                         for what, less in (("training_step", 1), ("test_pass", 0)))
        lines.append(f"\nAugmentation, records and checkpoint add {added} to the bare steps of an epoch of ResNet-20 "
                     f"on real CIFAR-10, and the test pass {tested}: medians of {len(report['epochs'])} epochs (least "
                     "to most).\n")
    return "".join(lines)


def _percent(shares):
    shares = [100 * share for share in shares]
    return f"{statistics.median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--data", metavar="DIR", type=os.path.abspath, help="folder of the real data sets")
    parser.add_argument("--epochs", type=int, default=3, help="real epochs to measure with --data")
    parser.add_argument("--results", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    path = options.results / "training_step.json"
    report = {"machine": machine(), "torch": torch_version(options.torch), "rounds": options.rounds,
              "threads": options.threads, "measurements": []}
    for network in options.networks:
        seconds = measure(network, options.threads, options.rounds, options.torch)
        report["measurements"].append({"network": network, "contenders": summary(seconds, OURS)})
        save(report, path)
    if options.data:
        report["epochs"] = measure_epochs(options.data, options.threads, options.epochs)
    write_report(report, markdown(report), path)


if __name__ == "__main__":
    main()
