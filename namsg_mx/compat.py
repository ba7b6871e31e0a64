"""Refuses versions that this package does not run on, and makes MXNet 1.9.1 importable on NumPy 1.24 to 1.26.

MXNet uses ``numpy.bool``, an alias of ``bool`` that NumPy 1.24 removed, at import and later. So the alias is put back,
for good. In older NumPy it is only deprecated; setting it there spares the user the warnings. (Python 3.12 has no NumPy
older than 1.26.)
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

MXNET = "1.9.1"


def prepare_for_mxnet() -> None:
    """To be called before MXNet is imported. ImportError, in one sentence, if MXNet cannot be imported."""
    if sys.version_info >= (3, 13):
        raise ImportError("namsg_mx needs Python 3.8 to 3.12, as MXNet 1.9.1 does not run on newer ones")
    import numpy  # not above: a Python that is too new may lack it
    if int(numpy.__version__.partition(".")[0]) > 1:
        raise ImportError(f"namsg_mx needs NumPy below 2, as MXNet 1.9.1 does not run on {numpy.__version__}")
    version = _mxnet_version()
    if version not in (MXNET, None):
        raise ImportError(f"namsg_mx needs MXNet {MXNET}, and this is {version}: pip install mxnet=={MXNET}")
    if "mxnet" in sys.modules or "bool" in vars(numpy):
        return
    # If a package fails to import, Python forgets it, but not the submodules that it had already loaded.
    if "mxnet.base" in sys.modules:
        raise ImportError(f"MXNet has already failed to import on NumPy {numpy.__version__}: "
                          "in a new Python process, import namsg_mx first, then mxnet")
    numpy.bool = bool   # type: ignore[attr-defined]


def _mxnet_version():
    """The version of the MXNet that is imported or would be, or None. Found without an import, which may fail."""
    if hasattr(sys.modules.get("mxnet"), "__version__"):
        return sys.modules["mxnet"].__version__
    spec = find_spec("mxnet")
    for folder in (spec and spec.submodule_search_locations) or ():
        libinfo = Path(folder, "libinfo.py")
        text = libinfo.read_text(encoding="utf-8") if libinfo.exists() else ""
        found = re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)
        if found:
            return found.group(1)
    return None
