"""The CPU kernel's library: loaded in processes, threads and forks, or refused with the reason."""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, array

import namsg_mx
from namsg_mx import kernels

pytestmark = CPU_KERNEL
PACKAGE = Path(namsg_mx.__file__).parent


def test_without_its_library_the_package_works_and_says_why(tmp_path):
    """As installed where there is no compiler: 'auto' goes on with the ndarray kernel, 'cpu' raises with the cause."""
    shutil.copytree(PACKAGE, tmp_path / "namsg_mx", ignore=shutil.ignore_patterns("*.so"))
    script = textwrap.dedent("""
        import namsg_mx, mxnet as mx
        w = mx.nd.ones((3,))
        auto = namsg_mx.NAMSG()
        auto.update(0, w, mx.nd.ones((3,)), auto.create_state(0, w))
        assert auto.last_update().kernel == 'ndarray'
        try:
            named = namsg_mx.NAMSG(kernel='cpu')
            named.update(0, w, mx.nd.ones((3,)), named.create_state(0, w))
        except RuntimeError as error:
            print(error)
    """)
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE,
                            env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert "has no library: the installation found no C++ compiler" in result.stdout


@pytest.mark.parametrize("changed", ["step.h", "cpu.cc"])
def test_a_library_that_an_earlier_version_left_is_refused(tmp_path, changed):
    """As after ``git pull`` in an editable installation: the step, or what the library takes, may be another one."""
    shutil.copytree(PACKAGE, tmp_path / "namsg_mx")
    with open(tmp_path / "namsg_mx" / "kernels" / changed, "a") as file:
        file.write("/* of the next version */\n")
    result = subprocess.run([sys.executable, "-m", "namsg_mx"], cwd=tmp_path, check=True, text=True,
                            stdout=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    line, = (line for line in result.stdout.splitlines() if line.startswith("kernel 'cpu'"))
    assert line.startswith(f"kernel 'cpu': did not load: {tmp_path}")
    assert line.endswith(" was built of other sources than these: install namsg_mx again")


def test_a_library_that_does_not_name_its_sources_is_refused(monkeypatch, another_mxnet):
    """Those before it could. Any other library without the function stands for one."""
    load = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path: load(None))
    assert "was built of other sources than these" in kernels.cpu.unsupported(mx.cpu(), np.float32)


@pytest.mark.slow
def test_spawned_workers_load_the_kernel_for_themselves(tmp_path):
    (tmp_path / "spawn.py").write_text(textwrap.dedent("""
        import multiprocessing
        import namsg_mx
        import mxnet as mx
        def step(optimizer):
            weight = mx.nd.ones((3,))
            optimizer.update(0, weight, mx.nd.ones((3,)), optimizer.create_state(0, weight))
            return optimizer.last_update().kernel, (weight.asnumpy() < 1).all()
        if __name__ == '__main__':
            with multiprocessing.get_context('spawn').Pool(1) as pool:
                print(*pool.apply(step, (namsg_mx.NAMSG(kernel='cpu'),)))
    """))
    result = subprocess.run([sys.executable, str(tmp_path / "spawn.py")], check=True, text=True,
                            stdout=subprocess.PIPE, timeout=600)
    assert result.stdout.strip() == "cpu True"


@pytest.mark.slow
def test_a_process_ends_in_peace_while_its_threads_train():
    """As Dask's workers do, in daemon threads. Nothing that a step needs may go at exit before the last step."""
    script = textwrap.dedent("""
        import atexit, threading
        import namsg_mx
        import mxnet as mx
        trained = threading.Event()
        class Model:
            def __init__(self):
                self.optimizer = namsg_mx.NAMSG(kernel='cpu')
                self.weights, self.gradients = ([mx.nd.ones(100) for _ in range(50)] for _ in range(2))
                self.states = [self.optimizer.create_state(i, w) for i, w in enumerate(self.weights)]
            def train(self, steps):
                for _ in range(steps):
                    self.optimizer.update(list(range(50)), self.weights, self.gradients, self.states)
        def at_exit():
            model.train(100)
            print((model.weights[49].asnumpy() < 1).all(), flush=True)
        def train_on():
            model = Model()
            model.train(10)
            trained.set()
            model.train(10**9)
        atexit.register(at_exit)   # before any binding, and so called after what bindings have registered
        model = Model()
        model.train(1)
        threading.Thread(target=train_on, daemon=True).start()
        trained.wait()
    """)
    result = subprocess.run([sys.executable, "-c", script], check=True, text=True, stdout=subprocess.PIPE, timeout=600)
    assert result.stdout.strip() == "True"


@pytest.fixture
def another_mxnet(monkeypatch):
    """What is found out once of MXNet is found out again, now and after the test."""
    def forget():
        kernels.memory.unknown_mxnet.cache_clear()
        kernels.cpu._load.cache_clear()
        kernels._warn_of_slow_kernel.cache_clear()

    forget()
    yield
    monkeypatch.undo()
    forget()
    kernels.cpu._load()


def kernel_that_runs(dtype=np.float32):
    optimizer, weight = namsg_mx.NAMSG(), array([1.0], dtype)
    optimizer.update(0, weight, array([1.0], dtype), optimizer.create_state(0, weight))
    assert weight.asscalar() < 1
    return optimizer.last_update().kernel


def test_an_mxnet_whose_layouts_cannot_be_undone_is_refused(monkeypatch, another_mxnet):
    """One with oneDNN that does not export the function that does it: convolutions' weights would be read wrongly."""
    monkeypatch.setitem(kernels.cpu.FUNCTIONS, "reorder", "a_name_that_it_does_not_export")
    assert "this MXNet has oneDNN" in kernels.cpu.unsupported(mx.cpu(), np.float32)
    with pytest.warns(RuntimeWarning, match="kernel 'cpu' did not load: this MXNet has oneDNN.*; updates take MXNet's"):
        assert kernel_that_runs() == "ndarray"


def test_an_mxnet_whose_arrays_lie_otherwise_is_refused(monkeypatch, another_mxnet):
    """Their addresses would be read from another place."""
    monkeypatch.setattr(kernels.memory, "NDARRAY", struct.Struct("N8xi4x4qN8xi"))
    assert kernels.cpu.unsupported(mx.cpu(), np.float32) == (
        "did not load: this MXNet lays out its arrays otherwise than version 1.9.1 from PyPI")
    with pytest.warns(RuntimeWarning, match="kernel 'cpu' did not load: this MXNet lays out its arrays otherwise"):
        assert kernel_that_runs() == "ndarray"
    both = array([1.0, 2.0])
    assert not kernels.memory.is_same_array(both[:1], both[:1])


def test_the_slow_kernel_is_warned_of_once(monkeypatch, another_mxnet):
    monkeypatch.setitem(kernels.cpu.FUNCTIONS, "reorder", "a_name_that_it_does_not_export")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        assert [kernel_that_runs(), kernel_that_runs()] == ["ndarray", "ndarray"]
    message, = (str(each.message) for each in warned if each.category is RuntimeWarning)
    assert message.startswith("kernel 'cpu' did not load: ")


def test_no_warning_says_that_float64_takes_the_slow_kernel(another_mxnet):
    """There is no other for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert kernel_that_runs(np.float64) == "ndarray"


@pytest.mark.parametrize("before", ["updater(0, gradient, weight)", "mx.nd.Convolution(image, filters, no_bias=True, "
                                    "kernel=(3, 3), num_filter=8).wait_to_read()"], ids=["update", "convolution"])
def test_a_forked_process_trains_with_the_naive_engine(before):
    """It has none of its parent's OpenMP threads, whatever began them, and must not wait for them."""
    program = f"""
import os
import namsg_mx
import mxnet as mx
weight, gradient = mx.nd.ones(200000), mx.nd.ones(200000)
image, filters = mx.nd.ones((8, 3, 32, 32)), mx.nd.ones((8, 3, 3, 3))
updater = mx.optimizer.get_updater(mx.optimizer.create("namsg"))
{before}
child = os.fork()
updater(0, gradient, weight)
total = weight.sum().asscalar()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    environment = {**os.environ, "MXNET_ENGINE_TYPE": "NaiveEngine", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=600)
