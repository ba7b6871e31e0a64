"""Metadata of the distribution `namsg-mx`, and its CPU kernel, which is built where a C++ compiler is found."""

import re
from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "namsg_mx" / "__init__.py").read_text()).group(1)

THEORY = ["scipy>=1.5"]
EXPERIMENTS = [*THEORY, "gluoncv>=0.10.5", "matplotlib>=3.7", "numpy>=1.20", "pandas>=1.3", "pillow>=9.1", "PyYAML>=6",
               "filelock>=3.12", "pooch>=1.6", "tqdm>=4.60", "plotly>=5", "Jinja2>=3"]   # pandas writes LaTeX by Jinja2
CLUSTER = ["distributed>=2022.2"]
TENSORBOARD = ["tensorboardX>=2.5"]

# optional: without a compiler the installation goes on, and `python -m namsg_mx` says what is missing.
# Without contraction every operation is rounded by itself, so that all processors agree to the bit (step.h).
# The digest of its sources tells kernels/cpu.py that a library is of these, and not left over from others.
SOURCES = ["namsg_mx/kernels/cpu.cc", "namsg_mx/kernels/step.h"]
DIGEST = sha256(b"".join((HERE / source).read_bytes() for source in SOURCES)).hexdigest()
CPU_KERNEL = Extension(
    "namsg_mx.kernels._cpu", SOURCES[:1], depends=[*SOURCES[1:], "setup.py"], language="c++",
    define_macros=[("NAMSG_SOURCES", f'"{DIGEST}"')],
    extra_compile_args=["-std=c++14", "-O3", "-fopenmp", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
    extra_link_args=["-fopenmp"], optional=True)

setup(
    name="namsg-mx",
    version=VERSION,
    description="The NAMSG optimizer for Apache MXNet and Gluon, and the reproduction of its paper",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The namsg-mx developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["optimizer", "deep learning", "stochastic gradient descent", "NAMSG", "AMSGrad", "Adam", "MXNet", "Gluon",
              "reproducibility"],
    classifiers=[   # none for the license, which `license` says
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls={"Paper": "https://arxiv.org/abs/1905.01422"},
    python_requires=">=3.8,<3.13",
    # So an editable installation is a path, which editors and type checkers follow, and no import hook.
    package_dir={"": "."},
    packages=["namsg_mx", "namsg_mx.kernels", "namsg_mx.optimizers", "namsg_mx.theory"],
    package_data={"namsg_mx": ["py.typed"], "namsg_mx.kernels": ["step.h", "cpu.cc", "cuda.cu"]},
    ext_modules=[CPU_KERNEL],
    install_requires=[
        "mxnet==1.9.1",
        # MXNet reads numpy.bool, which NumPy 1.24 removed; where Python has no older NumPy, namsg_mx/compat.py helps.
        "numpy>=1.19,<1.24; python_version < '3.12'",
        "numpy>=1.26,<2; python_version >= '3.12'",
        # MXNet imports distutils, which Python 3.12 no longer has and setuptools brings.
        "setuptools; python_version >= '3.12'",
    ],
    extras_require={
        "theory": THEORY,
        "experiments": EXPERIMENTS,
        "cluster": CLUSTER,
        "tensorboard": TENSORBOARD,
        "test": [*EXPERIMENTS, *CLUSTER, *TENSORBOARD, "pytest>=7", "pytest-timeout>=2", "pytest-xdist>=3",
                 "hypothesis>=6", "kubernetes-validate>=1.29", "mypy>=2; python_version >= '3.10'", "pdoc>=14",
                 "playwright>=1.40", "ruff>=0.6", "uv>=0.8", "wheel"],
    },
)
