"""What a step costs MXNet's kvstore on loopback: bytes and seconds by workers, servers and gradient compression.

    python -m benchmarks.kvstore [--arrays 16] [--size 62500] [--steps 30] [--rounds 3]

A step pushes gradients of all the arrays and pulls as many numbers; nothing is trained. (`gluon.Trainer` calls
`pushpull` for both, which moves as many bytes and cannot compress.) Each round starts every set-up once; bytes are
those of the loopback device, in a network namespace of its own where that is allowed, else together with whatever else
uses it. Prints a Markdown table: bytes beside the model of docs/scaling.md, and the median over the rounds of seconds
per step, in which processes on one machine compete for its cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SETUPS = [(1, 1, None), (2, 1, None), (2, 2, None), (4, 1, None), (4, 2, None), (2, 1, "2bit"), (4, 2, "2bit")]
FLOAT, FLOATS_PER_COMPRESSED = 4, 16
COMMAND = [sys.executable, "-m", "benchmarks.kvstore"]
NAMESPACE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=int, default=16)
    parser.add_argument("--size", type=int, default=62500, help="float32 numbers of each array")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if "DMLC_ROLE" in os.environ:
        measure(options)
        return
    has_namespace = subprocess.run([*NAMESPACE, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0
    if has_namespace and "KVSTORE_BENCHMARK" not in os.environ:
        sys.exit(subprocess.call([*NAMESPACE, *COMMAND, *sys.argv[1:]], env=dict(os.environ, KVSTORE_BENCHMARK="1")))
    results = {setup: [] for setup in SETUPS}
    for _ in range(options.rounds):
        for setup in SETUPS:
            results[setup].append(run(*setup))
    print(f"{options.arrays} arrays of {options.size} numbers, {os.cpu_count()} cores, "
          f"{'a loopback device of its own' if has_namespace else 'the loopback device of the machine'}\n")
    print("| workers | servers | compression | MB per step, measured | model | ms per step | spread |\n"
          "|---|---|---|---|---|---|---|")
    for (workers, servers, compression), rounds in results.items():
        size, seconds = (statistics.median(r[name] for r in rounds) for name in ("bytes", "seconds"))
        spread = [min(r["seconds"] for r in rounds) * 1e3, max(r["seconds"] for r in rounds) * 1e3]
        model = workers * bytes_of_worker(options.arrays * options.size, compression)
        print(f"| {workers} | {servers} | {compression or 'none'} | {size / 1e6:.3f} | {model / 1e6:.3f} | "
              f"{seconds * 1e3:.1f} | {spread[0]:.1f} to {spread[1]:.1f} |")


def bytes_of_worker(numbers, compression):
    """What one worker sends and receives in a step: gradients there, and as many numbers back, never compressed."""
    return numbers * FLOAT * (1 + (1 / FLOATS_PER_COMPRESSED if compression else 1))


def run(workers, servers, compression):
    """Start all the processes of a set-up; ``{"bytes": per step, "seconds": per step}`` from worker 0."""
    launched = subprocess.run([sys.executable, "-m", "experiments.launch", "-n", str(workers), "-s", str(servers),
                               *COMMAND, *sys.argv[1:]], check=True, stdout=subprocess.PIPE, text=True,
                              env=dict(os.environ, OMP_NUM_THREADS="1", COMPRESSION=compression or ""))
    return json.loads(launched.stdout)


def measure(options):
    """A worker's part; servers and the scheduler never come back from the import."""
    import namsg_mx  # noqa: F401  # isort: skip
    import mxnet as mx
    store = mx.kv.create("dist_sync")
    if os.environ["COMPRESSION"]:
        store.set_gradient_compression({"type": os.environ["COMPRESSION"], "threshold": 0.5})
    gradients = [mx.nd.ones((options.size,)) for _ in range(options.arrays)]
    received = [gradient.copy() for gradient in gradients]
    keys = list(range(options.arrays))
    store.init(keys, gradients)

    def step():
        for key in keys:
            store.push(key, gradients[key], priority=-key)
            store.pull(key, received[key], priority=-key)
        mx.nd.waitall()

    for _ in range(3):
        step()
    store._barrier()
    start, before = time.perf_counter(), loopback_bytes()
    for _ in range(options.steps):
        step()
    store._barrier()
    seconds, size = time.perf_counter() - start, loopback_bytes() - before
    if store.rank == 0:
        print(json.dumps({"bytes": size / options.steps, "seconds": seconds / options.steps}))


def loopback_bytes():
    """Bytes that the loopback device has received so far."""
    with open("/proc/net/dev") as file:
        line = next(line for line in file if line.strip().startswith("lo:"))
    return int(line.partition(":")[2].split()[0])


if __name__ == "__main__":
    main()
