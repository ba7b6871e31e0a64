"""The speed of NAMSG's step on a GPU, as ratios inside one run: python -m benchmarks.gpu_step --help

By CUDA events: the kernel, launched by CuPy, against a copy on the device that moves as many bytes and, with
``--torch-python``, against PyTorch's fused AMSGrad, which moves as many too; all in turn, round by round. By the clock,
where MXNet has the GPU: the whole step through MXNet's engine, which waits for the GPU after each launch; and what it
is worth to update ResNet-20's arrays in one launch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import namsg_mx  # isort: skip  (before MXNet, see namsg_mx/compat.py)
import mxnet as mx
import numpy as np

from experiments.environment import describe
from namsg_mx import kernels
from namsg_mx.kernels import cuda, fused

HERE = Path(__file__).parent
SIZES = (270_000, 25_000_000, 350_000_000)   # parameters, about those of ResNet-20, ResNet-50 and BERT-large
BLOCK = 1 << 20   # elements
BYTES = 9 * 4   # of an element: weight, m, v and v_hat are read and written, the gradient is read
RESNET20 = [432, *[2304] * 6, 4608, *[9216] * 5, 18432, *[36864] * 5, 512, 2048, *[16] * 14, *[32] * 14, *[64] * 14,
            640, 10]   # elements of its arrays: convolutions, two projections, BatchNorm, the dense layer


class Kernel:
    """The kernel and its arrays as CuPy launches it: one parameter of this many elements."""

    def __init__(self, cupy, elements):
        scalars = kernels.Scalars(1.0, None, 0.9, 0.99, 0.0, "v_hat", False, None, False)
        rows = fused.step_coefficients(kernels.Coefficients([1e-3], [0.0], 0.7, 0.3), decoupled_wd=False)
        places, self.blocks = cuda.place_table([elements])
        source = cuda.cuda_source(is_half=False, division="v_hat", skip=False, count=1)
        self.launch = cupy.RawModule(code=source, options=cuda.OPTIONS).get_function("namsg_step")
        weight, grad = (normal(cupy, elements, seed) for seed in range(2))
        moments = [repeated(cupy, np.full(BLOCK, value, np.float32), elements) for value in (0, 0, 1e-8)]
        self.arguments = (cupy.asarray(places), cupy.asarray(cuda.number_table(fused.step_scalars(scalars), rows)),
                          cupy.zeros(1, cupy.int64), weight, grad, *moments)

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


class Torch:
    """The other process."""

    def __init__(self, python):
        self.process = subprocess.Popen([python, str(HERE / "torch_amsgrad.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, universal_newlines=True)
        self.version = self._answer()

    def milliseconds(self, elements, steps):
        print(elements, steps, file=self.process.stdin, flush=True)
        return float(self._answer())

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the Python of --torch-python ended; its error stands above")
        return line.strip()


def by_events(cupy, function, repeats):
    """The milliseconds of one call on the device."""
    for _ in range(3):
        function()
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(repeats):
        function()
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(start, end) / repeats


def measure_kernel(cupy, torch, elements, rounds):
    """Medians over the rounds, in which copy, kernel and PyTorch take turns."""
    repeats = max(10, min(1000, 2_500_000_000 // elements))
    times = {"copy_ms": [], "kernel_ms": [], "torch_ms": []}
    for _ in range(rounds):
        times["copy_ms"].append(by_events(cupy, Copy(cupy, elements).step, repeats))
        times["kernel_ms"].append(by_events(cupy, Kernel(cupy, elements).step, repeats))
        cupy.get_default_memory_pool().free_all_blocks()
        if torch is not None:
            times["torch_ms"].append(torch.milliseconds(elements, repeats))
    result = {"elements": elements, **{name: statistics.median(values) for name, values in times.items() if values}}
    result["kernel_gb_per_s"] = elements * BYTES / result["kernel_ms"] / 1e6
    result["share_of_copy_bandwidth"] = result["copy_ms"] / result["kernel_ms"]
    if torch is not None:
        result["kernel_over_torch"] = result["kernel_ms"] / result["torch_ms"]
    return result


def by_clock(function, repeats):
    """The milliseconds of one call, MXNet's engine being done with all of them."""
    for _ in range(3):
        function()
    mx.nd.waitall()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    mx.nd.waitall()
    return (time.perf_counter() - start) / repeats * 1e3


def engine_steps(sizes):
    """Two functions that make a step with MXNet on arrays of these sizes: all together, and one after another."""
    random = np.random.Generator(np.random.PCG64(0))
    weights, grads = ([mx.nd.array(random.standard_normal(n, dtype=np.float32), mx.gpu(0)) for n in sizes]
                      for _ in range(2))
    optimizer = namsg_mx.NAMSG(kernel="cuda")
    states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]

    def together():
        optimizer.update(list(range(len(sizes))), weights, grads, states)

    def one_by_one():
        for i, arrays in enumerate(zip(weights, grads, states)):
            optimizer.update(i, *arrays)

    return together, one_by_one


def measure_engine(elements):
    together, _ = engine_steps([elements])
    return by_clock(together, max(10, min(1000, 2_500_000_000 // elements)))


def measure_grouping(rounds):
    together, one_by_one = engine_steps(RESNET20)
    times = [(by_clock(together, 100), by_clock(one_by_one, 10)) for _ in range(rounds)]
    one_launch, many_launches = map(statistics.median, zip(*times))
    return {"arrays": len(RESNET20), "elements": sum(RESNET20), "together_ms": one_launch,
            "one_by_one_ms": many_launches, "one_by_one_over_together": many_launches / one_launch}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", metavar="PYTHON", help="a Python that has PyTorch, to compare with")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of parameters")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/gpu_step.json"))
    options = parser.parse_args()
    try:
        import cupy
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:   # of CuPy or CUDA, whichever is missing
        sys.exit(f"this needs a GPU and CuPy: {error}")
    torch = Torch(options.torch_python) if options.torch_python else None
    has_mxnet = mx.context.num_gpus() > 0
    report = {"environment": describe("gpu:0", "cuda"), "cupy": cupy.__version__, "torch": torch and torch.version,
              "rounds": options.rounds, "steps": [], "grouping": None}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for elements in options.sizes:
        report["steps"].append(measure_kernel(cupy, torch, elements, options.rounds))
        if has_mxnet:
            report["steps"][-1]["mxnet_step_ms"] = measure_engine(elements)
        print(json.dumps(report["steps"][-1]), flush=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")   # what is measured outlasts a lost machine
    if has_mxnet:
        report["grouping"] = measure_grouping(options.rounds)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
