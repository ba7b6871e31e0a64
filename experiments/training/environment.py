"""The environment of a run: commit, versions and machine. It is recorded, and decides nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("experiments", "namsg_mx", "configs", "setup.py")
VARIABLES = ("DNNL_", "MKLDNN_", "MXNET_", "ONEDNN_", "OPENBLAS_")   # environment variables that may change numbers
VECTORS = re.compile("sse|ssse|avx|fma|f16c|amx|asimd|sve")   # instruction sets, which change how sums are rounded
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
PACKAGES = ("namsg-mx", "mxnet", "numpy", "gluoncv", "matplotlib", "pillow")   # the last two draw the rendered digits


@lru_cache(maxsize=None)
def code(sources: Sequence[str] = SOURCES) -> dict[str, Any]:
    """The checkout's commit, and whether these sources differ from it, as of the first call in this process.

    Later changes and commits do not count: the process has loaded its modules before them.
    """
    # This repository's, whatever GIT_DIR says, and without refreshing its index, which is a write.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    git = ("git", "--no-optional-locks", "-C", str(ROOT))
    if _output(*git, "rev-parse", "--show-toplevel", environment=environment) != str(ROOT):
        return {"commit": None, "dirty": None}   # none, or another repository, in which this folder lies
    changes = _output(*git, "status", "--porcelain", "--", *sources, environment=environment)
    return {"commit": _output(*git, "rev-parse", "HEAD", environment=environment),
            "dirty": None if changes is None else bool(changes)}


def describe(device: str) -> dict[str, Any]:
    """Versions, machine and threads.

    'threads' is the number that MXNet found in OMP_NUM_THREADS as it was loaded; None: its own choice.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "system": platform.platform(),
        **(cpu() if device == "cpu" else {"processor": _gpu(int(device.partition(":")[2]))}),
        "cores": os.cpu_count(),
        "threads": int(threads.partition(",")[0]) if threads else None,   # '2,1': 2, and 1 inside each of them
        "variables": {name: value for name, value in sorted(os.environ.items())
                      if name.startswith(VARIABLES) and "/" not in value},   # folders change no number
    }


@lru_cache(maxsize=None)
def cpu() -> dict[str, Any]:
    """The processor: its name, what distinguishes processors of one name, and how oneDNN uses it.

    'model': vendor, family, model and stepping. 'vectors': instruction sets by Linux's names. 'caches': sizes by
    level. 'onednn': the version of MXNet's oneDNN, and the instruction set that it chose.
    """
    facts = _cpu_facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "processor": facts.get("model name", platform.processor()),
        "model": " ".join(facts.get(name, "?") for name in ("vendor_id", "cpu family", "model", "stepping")),
        "vectors": " ".join(sorted(flag for flag in flags if VECTORS.match(flag))),
        "caches": _caches(),
        "onednn": _onednn(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:   # MXNet's GPU wheels have other names, this package none without installing
        return getattr(sys.modules.get(name.replace("-", "_")), "__version__", None)


def _cpu_facts() -> dict[str, str]:
    """The entries of /proc/cpuinfo for the first processor; none on systems other than Linux."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _caches() -> dict[str, str]:
    """{'L1 Data': '48K', ...} of the first processor, without caches of which Linux does not know the size."""
    caches = {}
    for folder in sorted(CACHES.glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            caches[f"L{level} {kind}"] = size
    return caches


def _onednn() -> str | None:
    """oneDNN's version and instruction set, for instance 'v2.4.4, Intel AVX2'; None if neither is known.

    oneDNN prints them at its first operation if DNNL_VERBOSE is set, so a new process runs one operation. It does not
    import MXNet's Python package, which would take a second.
    """
    package = find_spec("mxnet")
    if package is None or package.origin is None:
        return None
    library = Path(package.origin).with_name("libmxnet.so")
    probe = [sys.executable, "-S", str(Path(__file__).with_name("onednn_probe.py")), str(library)]
    said = _output(*probe, environment={**os.environ, "DNNL_VERBOSE": "1"}) or ""
    version = re.search("^dnnl_verbose,info,oneDNN (\\S+)", said, re.MULTILINE)
    instructions = re.search("^dnnl_verbose,info,cpu,isa:(.*)", said, re.MULTILINE)
    return f"{version[1]}, {instructions[1]}" if version and instructions else None


def _gpu(index: int) -> str:
    return _output("nvidia-smi", f"--id={index}", "--query-gpu=name", "--format=csv,noheader") or "unknown GPU"


def _output(*command: str, environment: Mapping[str, str] | None = None) -> str | None:
    """What a command prints; None if it fails, for instance without git or outside a repository."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True,
                              check=True, env=environment).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
