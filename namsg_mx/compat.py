"""Makes MXNet 1.9.1 importable on NumPy 1.24 to 1.26, the only ones that Python 3.12 has.

MXNet reads ``numpy.bool``, an alias of ``bool`` that NumPy 1.24 removed, at import and later, so the alias is put back
and stays. A NumPy that has the name is left alone. This module must run before MXNet is imported.
"""

import sys

import numpy


def prepare_numpy():
    """Put ``numpy.bool`` back where it is missing; ImportError where it is too late or Python too new for MXNet."""
    if sys.version_info >= (3, 13):
        raise ImportError("namsg_mx needs Python 3.8 to 3.12: MXNet 1.9.1 does not run on newer ones")
    if "mxnet" in sys.modules or "bool" in vars(numpy):
        return
    # Python forgets a package whose import failed, but not the submodules that it had loaded until then.
    if "mxnet.base" in sys.modules:
        raise ImportError(f"MXNet has already failed to import on NumPy {numpy.__version__}: "
                          "in a new Python process, import namsg_mx before mxnet")
    numpy.bool = bool
