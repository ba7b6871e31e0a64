"""make, on a machine that has no Python for MXNet: uv brings one."""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PYTHON = ".venv-uv/python/bin/python3.11"
TOOLS = ("sh", "make", "uv", "ln")   # of which python3 is none

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the list of downloads below is of Linux")


@pytest.fixture
def machine(tmp_path):
    """What `make` gets: a folder of its own, a PATH with few tools, and a folder in place of uv's server."""
    here = Path(sys.executable).parent
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool, path=f"{here}{os.pathsep}{os.environ['PATH']}")
        if found is None:
            pytest.skip(f"{tool} is not installed")
        (tmp_path / "bin" / tool).symlink_to(found)
    for file in ("Makefile", "setup.py", "pyproject.toml", "namsg_mx/kernels/cpu.cc", "namsg_mx/kernels/step.h"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / file, tmp_path / file)
    # A download that has, instead of a whole Python, a script that starts this one.
    (tmp_path / "python" / "bin").mkdir(parents=True)
    library = tmp_path / "python" / "lib" / "python3.11"   # uv writes there what it knows of compilers
    library.mkdir(parents=True)
    shutil.copy(Path(sysconfig.get_path("stdlib"), f"{sysconfig._get_sysconfigdata_name()}.py"), library)
    script = tmp_path / "python" / "bin" / "python3.11"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    (tmp_path / "mirror" / "2024").mkdir(parents=True)
    with tarfile.open(tmp_path / "mirror" / "2024" / "python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "python", "python")
    name = f"cpython-3.11.7-linux-{platform.machine()}-gnu"
    download = {"name": "cpython", "major": 3, "minor": 11, "patch": 7, "prerelease": "", "build": "2024",
                "os": "linux", "libc": "gnu", "arch": {"family": platform.machine(), "variant": None}, "variant": None,
                "sha256": None,
                "url": "https://github.com/astral-sh/python-build-standalone/releases/download/2024/python.tar.gz"}
    (tmp_path / "downloads.json").write_text(json.dumps({name: download}))
    return {"cwd": tmp_path, "capture_output": True, "text": True, "env": {
        "PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), "UV_PYTHON_INSTALL_MIRROR": f"file://{tmp_path}/mirror",
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(tmp_path / "downloads.json")}}


def test_uv_brings_a_python(machine):
    made = subprocess.run(["make", PYTHON], **machine)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [
        "MXNet 1.9.1 needs Python 3.8 to 3.12, and there is none here: uv downloads one into .venv-uv"]
    version = subprocess.run([Path(machine["cwd"], PYTHON), "-c", "print('starts')"], capture_output=True, text=True)
    assert version.stdout == "starts\n"
    planned = subprocess.run(["make", "--dry-run", "demo"], **machine).stdout
    assert planned.startswith(f"{PYTHON} -m venv .venv\n")   # nothing is downloaded again


def test_without_uv_and_python3_one_line_says_so(machine):
    Path(machine["cwd"], "bin", "uv").unlink()
    made = subprocess.run(["make", PYTHON], **machine)
    assert made.returncode == 2
    assert made.stderr.splitlines()[0] == "no python3 either, to install uv by"


def test_a_python_that_is_here_is_taken(machine):
    Path(machine["cwd"], "bin", "python3").symlink_to(sys.executable)
    planned = subprocess.run(["make", "--dry-run", "demo"], **machine).stdout
    assert planned.startswith("python3 -m venv .venv\n")
