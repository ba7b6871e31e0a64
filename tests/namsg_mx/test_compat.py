"""Importing MXNet on each Python and NumPy: the step that namsg_mx/compat.py makes, and when it makes none."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

CHECKOUT = Path(__file__).parents[2]
OLD_NUMPY = tuple(map(int, np.__version__.split(".")[:2])) < (1, 24)


def python(script, executable=sys.executable, **environment):
    return subprocess.run([executable, "-W", "ignore", "-c", script], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, env=dict(os.environ, **environment))


def test_mxnet_is_imported_on_this_numpy():
    result = python("import namsg_mx, mxnet as mx; print(mx.nd.ones(2)[0].asscalar())")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1.0"


def test_numpy_has_its_bool_back():
    """As a plain attribute: by the deprecated one of NumPy 1.20 to 1.23 each use in MXNet would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vars(np)["bool"] is np.bool is bool


def test_mxnet_is_imported_on_a_numpy_without_bool():
    """Which an older NumPy becomes here."""
    result = python("import numpy; [names.pop('bool', None) for names in (vars(numpy), vars(numpy).get("
                    "'__deprecated_attrs__', {}))]; assert not hasattr(numpy, 'bool'); import namsg_mx, mxnet; "
                    "assert numpy.bool is bool")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not OLD_NUMPY, reason="this NumPy has no numpy.bool to leave alone")
def test_a_numpy_that_needs_nothing_is_left_alone():
    result = python("import numpy; numpy.bool = before = object(); from namsg_mx.compat import prepare_for_mxnet; "
                    "prepare_for_mxnet(); assert numpy.bool is before")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(OLD_NUMPY, reason="MXNet imports on this NumPy without help")
def test_after_mxnet_has_failed_the_error_says_what_to_import_first():
    result = python("""
try:
    import mxnet
except AttributeError:
    pass
else:
    raise SystemExit("mxnet imported without help")
import namsg_mx
""")
    assert result.returncode == 1
    assert "import namsg_mx first" in result.stderr.splitlines()[-1]


def test_numpy_2_gets_one_sentence():
    """Said of a NumPy that claims to be one: there can be no real one beside MXNet."""
    result = python("import numpy; numpy.__version__ = '2.0.2'; import namsg_mx")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == \
        "ImportError: namsg_mx needs NumPy below 2, as MXNet 1.9.1 does not run on 2.0.2"


@pytest.mark.parametrize("version", ["1.8.0", "1.9.0", "2.0.0b1"])
def test_another_mxnet_gets_one_sentence(tmp_path, version):
    """Imported already, or not, as it might fail. Said of MXNets that claim to be others."""
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet" / "__init__.py").write_text("raise AttributeError('of another NumPy')")
    (tmp_path / "mxnet" / "libinfo.py").write_text(f'# coding: utf-8\n__version__ = "{version}"\n')
    imported = f"import sys, types; sys.modules['mxnet'] = types.SimpleNamespace(__version__='{version}'); "
    for result in (python("import namsg_mx", PYTHONPATH=str(tmp_path)), python(imported + "import namsg_mx")):
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == \
            f"ImportError: namsg_mx needs MXNet 1.9.1, and this is {version}: pip install mxnet==1.9.1"


def test_without_mxnet_python_says_so(tmp_path):
    result = python("import sys; sys.modules['mxnet'] = None; import namsg_mx")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")


def test_python_3_13_gets_one_sentence():
    executable = shutil.which("python3.13")
    if executable is None or python("", executable).returncode:
        pytest.skip("no python3.13 here")
    result = python("import namsg_mx", executable, PYTHONPATH=str(CHECKOUT))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == \
        "ImportError: namsg_mx needs Python 3.8 to 3.12, as MXNet 1.9.1 does not run on newer ones"
