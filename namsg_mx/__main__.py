"""``python -m namsg_mx``: the versions installed, which update kernels load, and why the others do not."""

import os
import platform
import sys

import mxnet as mx
import numpy as np

import namsg_mx
from namsg_mx import kernels


def main():
    print(f"namsg-mx {namsg_mx.__version__}, MXNet {mx.__version__}, NumPy {np.__version__}, "
          f"Python {platform.python_version()}, {platform.platform()}")
    print(f"threads: {_threads()}")
    gpus = mx.context.num_gpus()
    print(f"GPUs that MXNet sees: {gpus}")
    for name, kernel in kernels.KERNELS.items():
        context = mx.gpu(0) if name == "cuda" else mx.cpu(0)
        reason = kernel.unsupported(context, np.float32)
        print(f"kernel {name!r}: {'ready' if reason is None else reason}")
    return 0


def _threads():
    chosen = os.environ.get("OMP_NUM_THREADS")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()   # macOS
    if chosen is not None:
        return f"{chosen} (OMP_NUM_THREADS), on {processors} processors"
    return f"MXNet takes half of the {processors} processors, as OMP_NUM_THREADS is not set"


if __name__ == "__main__":
    sys.exit(main())
