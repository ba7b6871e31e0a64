"""What NAMSG's step costs on a GPU: ours, a copy and PyTorch's, in turn in one run.

    python -m benchmarks.gpu_step [--torch PYTHON] [--sizes N ...] [--rounds 15]

By CUDA events: the kernel, launched by CuPy on one array; a copy on the device that moves as many bytes; and PyTorch's
fused AMSGrad, which moves as many, too. By the clock: the whole update by MXNet's engine, which waits for the GPU after
each launch, also of ResNet-20's arrays in one launch and in a launch each. Reported are medians over the rounds, of
times and of ratios within a round. Writes gpu_step.json, after each size, .md, .png and .svg into the results folder.
"""

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import namsg_mx  # isort: skip  (before MXNet, see namsg_mx/compat.py)
import mxnet as mx
import numpy as np

from benchmarks.turns import (
    FUSED_AMSGRAD,
    SECONDS_BETWEEN_TURNS,
    Worker,
    machine,
    save,
    summary,
    take_turns,
    timed,
    torch_version,
    write_report,
)
from experiments.vocabulary.benchmarks import describe as describe_verdict
from namsg_mx import kernels
from namsg_mx.kernels import cuda, fused

SIZES = (270_000, 25_000_000, 350_000_000)   # parameters, about those of ResNet-20, ResNet-50 and BERT-large
LARGE = 25_000_000   # parameters; from here on the memory bandwidth limits a step
BYTES = 9 * 4   # of an element: weight, m, v and v_hat are read and written, the gradient is read
BLOCK = 1 << 20   # elements
SECONDS_PER_TURN = 0.2
RESNET20 = [432, *[2304] * 6, 4608, *[9216] * 5, 18432, *[36864] * 5, 512, 2048, *[16] * 14, *[32] * 14, *[64] * 14,
            640, 10]   # elements of its arrays: convolutions, two projections, BatchNorm, the dense layer
OURS, COPY, ENGINE = "namsg, cuda kernel", "copy of as many bytes", "namsg, whole update by MXNet's engine"
# Of our time as a share of theirs: 85 % of a copy's bandwidth, PyTorch's time.
LIMITS = {COPY: 1 / 0.85, FUSED_AMSGRAD: 1.0}
TOGETHER, ONE_BY_ONE = "namsg, all arrays in one launch", "namsg, a launch for each array"


class Kernel:
    """The kernel and its arrays as CuPy launches it: one parameter of this many elements."""

    def __init__(self, cupy, elements):
        scalars = kernels.Scalars(rescale_grad=1.0, clip_gradient=None, beta1=0.9, beta2=0.99, epsilon=0.0,
                                  division="v_hat", decoupled_wd=False, bounds=None, skip_nonfinite=False)
        rows = fused.step_coefficients(kernels.Coefficients([1e-3], [0.0], 0.7, 0.3), decoupled_wd=False)
        places, self.blocks = cuda.place_table([elements])
        source = cuda.cuda_source(is_half=False, division="v_hat", skip=False, count=1)
        self.launch = cupy.RawModule(code=source, options=cuda.OPTIONS).get_function("namsg_step")
        weight, grad = (normal(cupy, elements, seed) for seed in range(2))
        moments = [repeated(cupy, np.full(BLOCK, value, np.float32), elements) for value in (0, 0, 1e-8)]
        numbers = cuda.number_table(fused.step_scalars(scalars, np.float32), rows)
        self.arguments = (cupy.asarray(places), cupy.asarray(numbers), cupy.asarray(np.zeros(1, np.int64)), weight,
                          grad, *moments)

    def step(self):
        self.launch((self.blocks,), (cuda.THREADS,), self.arguments)


class Copy:
    """A copy on the device that reads and writes, together, as many bytes as a step of this many elements."""

    def __init__(self, cupy, elements):
        words = elements * BYTES // 2 // 4
        self.source, self.target = (normal(cupy, words, seed) for seed in range(2))   # a GPU may pack zeros
        self.stream = cupy.cuda.get_current_stream()

    def step(self):
        self.target.data.copy_from_device_async(self.source.data, self.source.nbytes, self.stream)


def normal(cupy, elements, seed):
    """Normally distributed numbers, which repeat after `BLOCK`."""
    return repeated(cupy, np.random.RandomState(seed).standard_normal(BLOCK).astype(np.float32), elements)


def repeated(cupy, block, elements):
    """An array on the device of so many elements, by copies alone: that needs neither cuRAND nor a kernel of CuPy's."""
    array, block = cupy.empty(elements, block.dtype), cupy.asarray(block)
    for start in range(0, elements, block.size):
        part = array[start:start + block.size]
        part[...] = block[:part.size]
    return array


class Here:
    """What `take_turns` takes for a worker, in this process: functions of the number of steps, seconds per step."""

    def __init__(self, contenders):
        self.contenders = contenders

    def time(self, contender, steps):
        time.sleep(SECONDS_BETWEEN_TURNS)   # as of a Worker: after a pause a GPU may be slower, or cooler
        return self.contenders[contender](steps)

    def end(self):
        pass


def by_events(cupy, step, steps):
    """The seconds of one step on the device."""
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(start, end) / steps / 1e3


def engine_steps(sizes):
    """Two functions that make a step with MXNet on arrays of these sizes: all together, and one after another."""
    random = np.random.RandomState(0)
    weights, grads = ([mx.nd.array(np.resize(random.standard_normal(min(n, BLOCK)), n), mx.gpu(0)) for n in sizes]
                      for _ in range(2))
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]

    def together():
        optimizer.update(list(range(len(sizes))), weights, grads, states)

    def one_by_one():
        for i, arrays in enumerate(zip(weights, grads, states)):
            optimizer.update(i, *arrays)

    return together, one_by_one


def measure_step(cupy, torch, elements, rounds):
    """Each contender's seconds per step in each round, on one array of this many elements."""
    kernel, copy = Kernel(cupy, elements), Copy(cupy, elements)
    contenders = {COPY: lambda steps: by_events(cupy, copy.step, steps),
                  OURS: lambda steps: by_events(cupy, kernel.step, steps)}
    if mx.context.num_gpus():
        whole, _ = engine_steps([elements])
        contenders[ENGINE] = timed(whole, mx.nd.waitall)
    workers = [Here(contenders)]
    if torch:
        workers.append(Worker(torch, "torch_amsgrad", "torch", elements, {}))
    return take_turns(workers, rounds, SECONDS_PER_TURN)


def measure_grouping(rounds):
    """Seconds per step of ResNet-20's arrays in each round."""
    together, one_by_one = engine_steps(RESNET20)
    contenders = {TOGETHER: timed(together, mx.nd.waitall), ONE_BY_ONE: timed(one_by_one, mx.nd.waitall)}
    return take_turns([Here(contenders)], rounds, SECONDS_PER_TURN)


def verdicts(report):
    """Whether the kernel's medians keep the `LIMITS`, for arrays so large that memory decides."""
    found = []
    for measured in report["measurements"]:
        contenders = measured["contenders"]
        for name, most in LIMITS.items():
            if measured["elements"] >= LARGE and name in contenders:
                share = contenders[name]["share"][1]
                found.append({"shapes": measured["shapes"], "what": f"our time / {name}", "share": share,
                              "at most": most, "holds": share <= most})
    return found


def markdown(report):
    """A table for each measurement: microseconds, gigabytes per second, and our time as a share of this one's."""
    lines = [f"Medians (quartiles) of {report['rounds']} rounds; {report['machine']['processor']}.\n\n"]
    lines += [f"- {describe_verdict(each)}\n" for each in report["verdicts"]]
    for measured in report["measurements"]:
        if measured["elements"] < LARGE and COPY in measured["contenders"]:
            lines.append(f"\nOn {measured['shapes']} the host's launches decide: compare PyTorch's step with the whole "
                         "update.\n")
        lines += [f"\n{measured['shapes']}:\n\n", "| | microseconds per step | GB/s | our time as a share of it |\n",
                  "|---|---|---|---|\n"]
        for name, contender in measured["contenders"].items():
            rate = measured["elements"] * BYTES / contender["seconds"][1] / 1e9
            lines.append(f"| {name} | {1e6 * contender['seconds'][1]:.1f} | {rate:.0f} | "
                         + "{1:.3f} ({0:.3f} to {2:.3f}) |\n".format(*contender["share"]))
    return "".join(lines)


def draw(report, paths):
    """Bars by size, from `LARGE` on: the bandwidth that each contender makes of the bytes that a step must move."""
    from matplotlib.figure import Figure  # here, as the machine that measures may not have it
    sizes = [m for m in report["measurements"] if OURS in m["contenders"] and m["elements"] >= LARGE]
    if not sizes:
        return
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for m in sizes for name in m["contenders"]))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        rates = [m["elements"] * BYTES / m["contenders"][name]["seconds"][1] / 1e12 for m in sizes]
        bars = axes.bar([j + i * width for j in range(len(sizes))], rates, width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set(ylabel="TB/s (36 bytes an element)", title=f"One step on {report['machine']['processor']}")
    axes.set_xticks([j + 0.4 - width / 2 for j in range(len(sizes))], [m["shapes"] for m in sizes])
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    for path in paths:
        figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch, to compare with")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of parameters")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--draw", action="store_true", help="measure nothing: make .md, .png and .svg of the .json")
    options = parser.parse_args()
    path = options.results / "gpu_step.json"
    if not options.draw:
        measure(options, path)
    report = json.loads(path.read_text())
    report["verdicts"] = verdicts(report)
    write_report(report, markdown(report), path)
    if find_spec("matplotlib"):
        draw(report, [path.with_suffix(".png"), path.with_suffix(".svg")])
    else:
        print("no Matplotlib here: --draw makes the figure where it is", file=sys.stderr)


def measure(options, path):
    """Save the report of all the measurements, after each."""
    try:
        import cupy
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:   # of CuPy or CUDA, whichever is missing
        sys.exit(f"this needs a GPU and CuPy: {error}")
    nvrtc = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    report = {"machine": machine("gpu:0"), "cupy": cupy.__version__, "nvrtc": nvrtc,
              "driver": cupy.cuda.runtime.driverGetVersion(), "torch": torch_version(options.torch),
              "rounds": options.rounds, "measurements": []}

    def add(shapes, elements, seconds, ours):
        report["measurements"].append({"shapes": shapes, "elements": elements, "contenders": summary(seconds, ours)})
        save(report, path)
        print(f"{shapes}: done", file=sys.stderr, flush=True)

    for elements in options.sizes:
        add(f"one array of {elements / 1e6:g} M", elements,
            measure_step(cupy, options.torch, elements, options.rounds), OURS)
        cupy.get_default_memory_pool().free_all_blocks()
    if mx.context.num_gpus():
        add(f"ResNet-20's {len(RESNET20)} arrays", sum(RESNET20), measure_grouping(options.rounds), TOGETHER)


if __name__ == "__main__":
    main()
