"""Makes MXNet 1.9.1 importable on NumPy 1.24 to 1.26, the only ones that Python 3.12 has.

MXNet reads ``numpy.bool``, an alias of ``bool`` that NumPy 1.24 removed, at import and later, so the alias is put back
and stays. On older ones, where it is deprecated, it is set too, and MXNet's use of it gives no warning.
"""

import sys


def prepare_for_mxnet():
    """Call before MXNet is imported; raises ImportError, in one sentence, where MXNet cannot be."""
    if sys.version_info >= (3, 13):
        raise ImportError("namsg_mx needs Python 3.8 to 3.12, as MXNet 1.9.1 does not run on newer ones")
    import numpy  # not above: a Python that is too new may have none
    if int(numpy.__version__.partition(".")[0]) > 1:
        raise ImportError(f"namsg_mx needs NumPy below 2, as MXNet 1.9.1 does not run on {numpy.__version__}")
    if "mxnet" in sys.modules or "bool" in vars(numpy):
        return
    # Python forgets a package whose import failed, but not the submodules that it had loaded until then.
    if "mxnet.base" in sys.modules:
        raise ImportError(f"MXNet has already failed to import on NumPy {numpy.__version__}: "
                          "in a new Python process, import namsg_mx first, then mxnet")
    numpy.bool = bool
