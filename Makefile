# Most targets make what they need, .venv first; where there is no Python from 3.8 to 3.12, a Python as well, by uv.
#   make demo                       five methods on rendered digits: a figure and a table; no data to download
#   make test                       the tests but for the slow ones; NAMSG_DATA=DIR adds those on the real data
#   make test-slow                  those that take long: kills, full disks, clusters, benchmarks, examples
#   make test-slurm                 those of docs/scaling.md's programs for SLURM; as root, with Debian's slurmctld, slurmd, munge
#   make test-container             the Dockerfile's image: the demo, and the pods of docs/kubernetes.yaml; by podman or docker
#   make data                       MNIST and CIFAR-10, from the first place that has them: into NAMSG_DATA, or MXNet's folder
#   make reproduce-mnist-logistic   the paper's first experiment: records, figure and table in build/reproduce/
#   make docs                       the pages of docs/ and an API reference as HTML, in build/docs
#   make test-gpu                   the CUDA kernel's tests, on a GPU: with MXNet's CUDA build and CuPy in an environment of
#                                   their own (about 3 GB), or with the Python in GPU_PYTHON, which has them
#   make lint                       ruff and mypy, on Python 3.10 or newer
#   make sanitize                   the plug-in's tests with the CPU kernel under AddressSanitizer and UBSan
#   make benchmark                  the optimizer's step beside MXNet's and PyTorch's: BENCHMARKS=build/benchmarks
#   make test-pythons               the plug-in's tests on other Pythons: PYTHONS="python3.8 python3.12"

PYTHONS ?= python3.8 python3.12
BENCHMARKS ?= build/benchmarks
# $(call first_python,LIST,N,M): the first of LIST, then python3, from 3.M (without M, 3.8) to below 3.N.
first_python = $(shell for p in $(1) python3; do \
	$$p -c 'import sys; sys.exit(not (3, $(or $(3),8)) <= sys.version_info < (3, $(2)))' 2>/dev/null && echo $$p && break; done)
UV_PYTHON = .venv-uv/python/bin/python3.11
PYTHON ?= $(or $(call first_python,python3.11 python3.10 python3.9 python3.12 python3.8,13),$(UV_PYTHON))
INSTALLED = .venv/installed
RUN = .venv/bin/python -m experiments
SLURM_TESTS = tests/experiments/running/test_slurm.py
CONTAINER_TESTS = tests/experiments/running/test_container.py

GPU_BASE = $(or $(call first_python,python3.11 python3.10 python3.9 python3.8,12),$(UV_PYTHON))
TORCH_BASE = $(or $(call first_python,python3.11 python3.10 python3.12,13,10),$(UV_PYTHON))
GPU_PYTHON ?= .venv-gpu/bin/python
GPU_INSTALLED = $(if $(filter .venv-gpu/%,$(GPU_PYTHON)),.venv-gpu/installed)

.PHONY: data demo docs test test-slow test-slurm test-container test-gpu lint sanitize benchmark reproduce-mnist-logistic test-pythons

# uv: the one that is here, or PyPI's. All of it stays in .venv-uv.
$(UV_PYTHON): export UV_PYTHON_INSTALL_DIR = $(CURDIR)/.venv-uv/pythons
$(UV_PYTHON):
	@echo "MXNet 1.9.1 needs Python 3.8 to 3.12, and there is none here: uv downloads one into .venv-uv"
	@{ command -v uv || command -v python3; } >/dev/null || { echo "no python3 either, to install uv by" >&2; exit 2; }
	@command -v uv >/dev/null || { python3 -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet uv; }
	@PATH="$$PATH:.venv-uv/bin" uv python install --quiet --no-bin 3.11
	@cd .venv-uv && ln -sfn pythons/cpython-3.11.* python

$(INSTALLED): setup.py pyproject.toml namsg_mx/kernels/cpu.cc namsg_mx/kernels/step.h | $(filter $(UV_PYTHON),$(PYTHON))
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: $(INSTALLED)
	$(RUN) run configs/demo.yaml --results build/demo
	$(RUN) figure configs/demo.yaml --results build/demo
	$(RUN) table configs/demo.yaml --results build/demo
	@echo "NAMSG is behind AMSGRAD here, whose best step size is five times as large: configs/demo.yaml has the grid search"

test: $(INSTALLED)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --dist load -m slow \
		$(addprefix --ignore=,$(SLURM_TESTS) $(CONTAINER_TESTS))

test-slurm: $(INSTALLED)
	.venv/bin/python -m pip install --quiet dask-jobqueue
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest $(SLURM_TESTS)

test-container: $(INSTALLED)
	@command -v podman || command -v docker || { echo "podman or docker is missing" >&2; exit 2; }
	$$(command -v podman || command -v docker) build --tag namsg-mx .
	.venv/bin/python -m pytest $(CONTAINER_TESTS)

data: $(INSTALLED)
	$(RUN) data

docs: $(INSTALLED)
	.venv/bin/python docs/build.py

.venv-gpu/installed: tests/requirements-gpu.txt | $(filter $(UV_PYTHON),$(GPU_BASE))
	$(GPU_BASE) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --requirement $<
	touch $@

# Fails unless all three rings of tests/namsg_mx/test_cuda.py run. The loader does not search where pip puts nvidia-*.
test-gpu: $(GPU_INSTALLED)
	LD_LIBRARY_PATH="$$(echo .venv-gpu/lib/python3*/site-packages/nvidia/*/lib | tr ' ' :)$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" \
	NAMSG_GPU_REQUIRED=1 PYTHONPATH=".$${PYTHONPATH:+:$$PYTHONPATH}" $(GPU_PYTHON) -m pytest tests/namsg_mx/test_cuda.py

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/mypy

# PYTHONSAFEPATH (Python 3.11): else the processes that tests start find the checkout's own library first. The CUDA tests
# use no CPU kernel, and nvcc crashes under the sanitizers.
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g
sanitize: $(INSTALLED)
	rm -rf build/sanitize
	CFLAGS="$(SANITIZE)" CXXFLAGS="$(SANITIZE)" .venv/bin/python setup.py --quiet build --build-base build/sanitize/temp --build-lib build/sanitize/lib
	ls build/sanitize/lib/namsg_mx/kernels/_cpu*   # setup.py goes on without it
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
		PYTHONPATH=$(CURDIR)/build/sanitize/lib PYTHONSAFEPATH=1 .venv/bin/pytest tests/namsg_mx --ignore tests/namsg_mx/test_cuda.py

# PyTorch has an environment of its own, as gluoncv does not load beside PyTorch 2.
.venv-torch/installed: benchmarks/requirements-torch.txt | $(filter $(UV_PYTHON),$(TORCH_BASE))
	$(TORCH_BASE) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --requirement $<
	touch $@

benchmark: $(INSTALLED) .venv-torch/installed
	.venv/bin/python -m benchmarks.optimizer_step --torch .venv-torch/bin/python --results $(BENCHMARKS)
	.venv/bin/python -m benchmarks.update_patterns --rounds 30 --results $(BENCHMARKS)

reproduce-mnist-logistic: $(INSTALLED)
	$(RUN) run configs/mnist_logistic.yaml --results build/reproduce
	$(RUN) figure configs/mnist_logistic.yaml --results build/reproduce
	$(RUN) table configs/mnist_logistic.yaml --results build/reproduce

test-pythons:
	set -e; for python in $(PYTHONS); do \
		venv=.venv-$$(basename $$python); \
		$$python -m venv $$venv; \
		$$venv/bin/python -m pip install --quiet --editable '.[theory]' pytest pytest-timeout hypothesis setuptools wheel; \
		$$venv/bin/pytest tests/namsg_mx; \
	done
