"""``python -m namsg_mx`` says in a line each what loads here, and why the rest does not."""

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import mxnet as mx
import pytest

from namsg_mx import kernels


def diagnosis(**environment):
    """The lines; a variable that is None is not set."""
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    result = subprocess.run([sys.executable, "-m", "namsg_mx"], check=True, text=True, stdout=subprocess.PIPE,
                            env=environment)
    return result.stdout.splitlines()


def test_each_kernel_has_a_line():
    lines = diagnosis(OMP_NUM_THREADS="3")
    assert "MXNet 1.9.1" in lines[0]
    assert lines[1].startswith("threads: 3 (OMP_NUM_THREADS)")
    told = dict(line.split(": ", 1) for line in lines if line.startswith("kernel "))
    assert list(told) == ["kernel 'cuda'", "kernel 'cpu'", "kernel 'ndarray'"]
    assert told["kernel 'ndarray'"] == "ready"
    is_built = any(Path(kernels.__file__).with_name(f"_cpu{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
    assert (told["kernel 'cpu'"] == "ready") == is_built


def test_threads_that_nobody_chose_are_mxnets():
    assert diagnosis(OMP_NUM_THREADS=None)[1] == (
        f"threads: MXNet takes half of the {len(os.sched_getaffinity(0))} processors, as OMP_NUM_THREADS is not set")


@pytest.mark.skipif(mx.context.num_gpus() > 0, reason="there is a GPU here")
def test_without_a_gpu_the_cuda_kernel_says_why():
    line, = (line for line in diagnosis() if line.startswith("kernel 'cuda'"))
    assert line.startswith("kernel 'cuda': did not load: ")
