"""The wheel, built from an sdist, works outside the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

for tool in ("setuptools", "wheel"):
    pytest.importorskip(tool, reason=f"building needs {tool}, which is not installed here")
CHECKOUT = Path(__file__).parents[2]


def build(kind, source, target, **environment):
    """Build without network: the build requirements are installed already."""
    script = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True,
                   stdout=subprocess.DEVNULL, env=dict(os.environ, **environment))
    built, = target.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaging")
    for name in ("sdist", "source"):
        (folder / name).mkdir()
    with tarfile.open(build("sdist", CHECKOUT, folder / "sdist")) as archive:
        archive.extractall(folder / "source")
    source, = (folder / "source").iterdir()
    return source


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_sdist_holds_no_tests(source):
    """They need more than it has: experiments, results and docs."""
    assert not (source / "tests").exists()
    assert (source / "namsg_mx" / "kernels" / "step.h").exists()


def test_without_a_compiler_the_wheel_is_built_without_the_library(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source", ignore=shutil.ignore_patterns("build"))
    (tmp_path / "wheel").mkdir()
    with zipfile.ZipFile(build("wheel", copy, tmp_path / "wheel", CC="/bin/false", CXX="/bin/false")) as archive:
        names = archive.namelist()
    assert "namsg_mx/kernels/cpu.cc" in names
    assert not [name for name in names if name.endswith(".so")]


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    """The kernel's library is built where there is a compiler; its sources are there in any case."""
    files = {str(path.relative_to(CHECKOUT)) for kind in ("*.py", "*.h", "*.cc", "*.cu", "py.typed")
             for path in (CHECKOUT / "namsg_mx").rglob(kind)}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    libraries = {name for name in found if name.endswith(".so")}
    assert found - libraries == files
    assert len(libraries) == bool(shutil.which("g++") or shutil.which("c++"))


@pytest.mark.slow
def test_the_wheel_trains_outside_the_checkout(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target",
                    str(tmp_path / "site"), str(wheel)], check=True)
    script = """
import namsg_mx
from mxnet import autograd, gluon, nd
net = gluon.nn.Dense(1)
net.initialize()
trainer = gluon.Trainer(net.collect_params(), 'namsg')
with autograd.record():
    loss = net(nd.ones((2, 3))).sum()
loss.backward()
trainer.step(2)
print(trainer.optimizer.last_update().kernel, namsg_mx.__file__)
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE,
                            env=dict(os.environ, PYTHONPATH=str(tmp_path / "site")))
    kernel, file = result.stdout.split(maxsplit=1)
    assert kernel == ("cpu" if shutil.which("g++") or shutil.which("c++") else "ndarray")
    assert file.startswith(str(tmp_path / "site"))
