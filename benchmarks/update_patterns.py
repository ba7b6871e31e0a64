"""What updates cost that are not one step of a `Trainer` on one device, beside MXNet's adam, in turn in one run.

    python -m benchmarks.update_patterns [--threads 1 2] [--rounds 15]

The dense parameters are ResNet-20's; the embedding's weight is 20,000 x 64, and its gradient has 500 rows. Where m is
denormal, the other rows have had no gradient for so long that m is below float32's normal numbers there, with which
processors compute slowly. Each round times every contender once; reported are medians and quartiles over the rounds, of
times and of ratios within a round. Writes update_patterns.json, after each measurement, and .md into the results
folder. On a machine that does anything else the numbers are noise.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.optimizer_step import OURS, shapes_of
from benchmarks.pattern_worker import PATTERNS
from benchmarks.turns import Worker, machine, save, summary, take_turns, write_report

SECONDS_PER_TURN = 0.1


def measure_all(options, path):
    """The report: each pattern on each number of threads. It is written after each measurement."""
    shapes = shapes_of("ResNet-20")
    report = {"machine": machine(), "rounds": options.rounds, "measurements": []}
    for pattern in options.patterns:
        for threads in options.threads:
            worker = Worker(sys.executable, "pattern_worker", "mxnet", [pattern, shapes],
                            {"OMP_NUM_THREADS": str(threads)})
            seconds = take_turns([worker], options.rounds, SECONDS_PER_TURN)
            report["measurements"].append({"pattern": pattern, "threads": threads,
                                           "contenders": summary(seconds, OURS)})
            save(report, path)
            print(f"{pattern}, {threads} threads: done", file=sys.stderr)
    return report


def markdown(report):
    """A row for each pattern, number of threads and contender."""
    lines = [f"Milliseconds per update of all the parameters, medians of {report['rounds']} rounds (quartiles); "
             f"{report['machine']['processor']}, {report['machine']['cores']} cores.\n\n",
             "| pattern | threads | contender | ms | our CPU kernel / this |\n|---|---|---|---|---|\n"]
    for measured in report["measurements"]:
        for name, timed in measured["contenders"].items():
            times = "{1:.2f} ({0:.2f} to {2:.2f})".format(*(1e3 * seconds for seconds in timed["seconds"]))
            share = "{1:.2f} ({0:.2f} to {2:.2f})".format(*timed["share"])
            lines.append(f"| {measured['pattern']} | {measured['threads']} | {name} | {times} | {share} |\n")
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=[*PATTERNS])
    parser.add_argument("--results", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    path = options.results / "update_patterns.json"
    report = measure_all(options, path)
    write_report(report, markdown(report), path)


if __name__ == "__main__":
    main()
