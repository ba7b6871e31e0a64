"""MXNet's launcher, ``mxnet/tools/launch.py``, as it is but for two defects.

    python -m experiments.launch -n 2 -s 2 --launcher local python -m experiments run CONFIG --kvstore dist_sync

It calls ``Thread.isAlive``, which Python 3.9 removed; and it exits with 0 when a process that it started has failed.
"""

from __future__ import annotations

import runpy
import sys
import threading
from importlib.util import find_spec
from pathlib import Path


def main() -> int:
    threading.Thread.isAlive = threading.Thread.is_alive
    failures: list = []
    threading.excepthook = failures.append   # each process has a thread, which raises where the process has failed
    launcher = Path(find_spec("mxnet").origin).parent / "tools" / "launch.py"   # found without loading MXNet
    sys.argv[0] = str(launcher)
    runpy.run_path(str(launcher), run_name="__main__")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
