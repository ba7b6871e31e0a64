"""What a run was made with: commit, versions, machine. Recorded, and never used to decide anything."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("experiments", "namsg_mx", "configs", "setup.py")
PACKAGES = ("namsg-mx", "mxnet", "numpy", "gluoncv", "matplotlib", "pillow")   # the latter two draw the rendered digits


@lru_cache(maxsize=None)
def code() -> dict[str, Any]:
    """The commit that the sources are of, and whether they differ from it, when this process first asks.

    What is changed or committed later is not what a process runs that has loaded its modules.
    """
    changes = _output("git", "-C", str(ROOT), "status", "--porcelain", "--", *SOURCES)
    return {"commit": _output("git", "-C", str(ROOT), "rev-parse", "HEAD"),
            "dirty": None if changes is None else bool(changes)}


def describe(device: str, kernel: str) -> dict[str, Any]:
    """The rest of the environment; ``kernel`` is the implementation that made the optimizer's steps.

    'threads' are those that MXNet was told of when this process loaded it; None: its own choice.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "system": platform.platform(),
        "processor": _cpu() if device == "cpu" else _gpu(int(device.partition(":")[2])),
        "cores": os.cpu_count(),
        "threads": int(threads) if threads else None,
        "kernel": kernel,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:   # MXNet's GPU wheels have other names, this package none without installing
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu(index: int) -> str | None:
    return _output("nvidia-smi", f"--id={index}", "--query-gpu=name", "--format=csv,noheader")


def _output(*command: str) -> str | None:
    """What a command prints; None where it cannot run, as without git or outside a repository."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
