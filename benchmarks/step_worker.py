"""Times optimizer steps in a process of its own, with one framework: `optimizer_step.py` is the other end."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.turns import serve, timed


def gradient_and_weight(shape, seed):
    random = np.random.Generator(np.random.PCG64(seed))
    return 0.01 * random.standard_normal(shape, np.float32), random.standard_normal(shape, np.float32)


def mxnet_contenders(shapes):
    """Whole steps of `gluon.Trainer`: contenders as `benchmarks.turns.serve` takes them."""
    import namsg_mx  # noqa: F401  # isort: skip
    import mxnet as mx
    from mxnet import gluon

    def contender(optimizer, **options):
        parameters = []
        for i, shape in enumerate(shapes):
            gradient, weight = gradient_and_weight(shape, i)
            parameter = gluon.Parameter(f"p{i}", shape=shape)
            parameter.initialize(mx.init.Zero())
            parameter.data()[:] = weight
            parameter.grad()[:] = gradient
            parameters.append(parameter)
        trainer = gluon.Trainer(parameters, optimizer, dict(options, learning_rate=0.001))

        def prepare():
            for parameter in parameters:   # what a backward pass does: without it the Trainer refuses to step
                parameter.data()._fresh_grad = True
        return timed(lambda _: trainer.step(1), mx.nd.waitall, prepare)

    # In the order of their turns: what is compared most stands together.
    return {"MXNet nadam": contender("nadam"), "MXNet sgd, momentum 0.9": contender("sgd", momentum=0.9),
            "MXNet adam": contender("adam"), "namsg, cpu kernel": contender("namsg", kernel="cpu"),
            "streaming bound": streaming_bound(shapes), "namsg, ndarray kernel": contender("namsg", kernel="ndarray")}


def streaming_bound(shapes):
    """`streaming.c` on the same shapes, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "streaming.so")
        subprocess.run(["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC",
                        str(Path(__file__).with_name("streaming.c")), "-o", str(library)], check=True)
        stream = ctypes.CDLL(str(library)).stream
    sizes = np.array([np.prod(shape) for shape in shapes], np.int64)
    # Five arrays that begin at the same place of a page can get in each other's way.
    arrays = [packed([gradient_and_weight(shape, i)[1] for i, shape in enumerate(shapes)], 832 * group)
              for group in range(5)]
    pointers = [(ctypes.c_void_p * len(shapes))(*(a.ctypes.data for a in group)) for group in arrays]

    steps = timed(lambda: stream(ctypes.c_int64(len(sizes)), sizes.ctypes.data_as(ctypes.c_void_p), *pointers))
    steps.arrays = arrays   # their memory must outlive this call
    return steps


def packed(arrays, offset):
    """Flat copies in one buffer: each starts on a cache line, the first ``offset`` bytes after the start of a page."""
    page, line = 4096, 64
    lengths = [-(-array.nbytes // line) * line for array in arrays]
    memory = np.empty(sum(lengths) + offset + page, np.uint8)
    starts = np.cumsum([-memory.ctypes.data % page + offset, *lengths])
    copies = [memory[start:start + array.nbytes].view(array.dtype) for start, array in zip(starts, arrays)]
    for copy, array in zip(copies, arrays):
        copy[:] = array.ravel()
    return copies


def torch_contenders(shapes):
    """PyTorch's AMSGrad; its steps on a CPU return when they are made."""
    import torch

    def contender(**implementation):
        parameters = []
        for i, shape in enumerate(shapes):
            gradient, weight = map(torch.from_numpy, gradient_and_weight(shape, i))
            parameters.append(torch.nn.Parameter(weight))
            parameters[-1].grad = gradient
        return timed(torch.optim.Adam(parameters, lr=0.001, amsgrad=True, **implementation).step)

    return {"PyTorch Adam, amsgrad, fused": contender(fused=True),
            "PyTorch Adam, amsgrad, foreach": contender(foreach=True)}


if __name__ == "__main__":
    serve({"mxnet": mxnet_contenders, "torch": torch_contenders})
