"""What a run says that it was made with."""

import os
import platform
import re
import subprocess

import pytest

from experiments.training import environment


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    environment.code.cache_clear()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "setup.py").write_text("")
    yield tmp_path
    environment.code.cache_clear()


def commit(repository, message):
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)


def test_the_code_of_a_process_is_that_of_its_start(repository):
    commit(repository, "first")
    first = environment.code()
    assert len(first["commit"]) == 40 and first["dirty"] is False
    (repository / "setup.py").write_text("changed")
    commit(repository, "second")
    assert environment.code() == first


def test_the_commit_is_that_of_the_code_also_for_a_program_that_git_has_started(repository, tmp_path, monkeypatch):
    commit(repository, "first")
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    commit(other, "of another repository")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    told = environment.code()
    monkeypatch.delenv("GIT_DIR")
    assert told["commit"] == subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], check=True, text=True,
                                            stdout=subprocess.PIPE).stdout.strip()


def test_a_repository_in_which_the_code_only_lies_has_another_commit(repository, tmp_path, monkeypatch):
    commit(repository, "of something else")
    inside = repository / "vendor"
    inside.mkdir()
    monkeypatch.setattr(environment, "ROOT", inside)
    assert environment.code() == {"commit": None, "dirty": None}


def test_the_repository_is_not_written_to(repository):
    commit(repository, "first")
    index = repository / ".git" / "index"
    os.utime(repository / "setup.py", (1, 1))   # git would note that its content is the same
    before = index.read_bytes()
    assert environment.code()["dirty"] is False
    assert index.read_bytes() == before


def test_changes_that_are_not_committed_are_told(repository):
    commit(repository, "first")
    (repository / "setup.py").write_text("changed")
    assert environment.code()["dirty"] is True


def test_the_processor_is_told_apart_from_others_of_its_name():
    cpu = environment.cpu()
    assert len(cpu["model"].split()) == 4
    assert ("L1 Data" in cpu["caches"]) == (environment.CACHES / "index0" / "size").exists()
    assert "sse2" in cpu["vectors"].split() or platform.machine() != "x86_64"


def test_a_gpu_that_nothing_names_is_unknown(tmp_path, monkeypatch):
    """A benchmark's report with no processor would be damaged."""
    monkeypatch.setenv("PATH", str(tmp_path))   # no nvidia-smi
    assert environment.describe("gpu:0")["processor"] == "unknown GPU"


def test_a_cache_without_a_known_size_is_left_out(tmp_path, monkeypatch):
    """Linux has no file for the size then, as on many ARM processors."""
    for index, (kind, size) in enumerate([("Data", "48K"), ("Instruction", None)]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in {"level": "1", "type": kind, "size": size}.items():
            if text is not None:
                (folder / name).write_text(text + "\n")
    monkeypatch.setattr(environment, "CACHES", tmp_path)
    assert environment._caches() == {"L1 Data": "48K"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction sets are those of x86-64")
def test_the_instruction_set_that_onednn_takes_is_its_own_word(monkeypatch):
    environment.cpu.cache_clear()
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "SSE41")
    told = environment.cpu()["onednn"]
    environment.cpu.cache_clear()
    assert re.fullmatch(r"v2\.\d+\.\d+, Intel SSE4\.1", told)


def test_variables_that_may_change_numbers_are_told_and_folders_are_not(monkeypatch):
    monkeypatch.setenv("MXNET_SAFE_ACCUMULATION", "1")
    monkeypatch.setenv("MXNET_HOME", "/somewhere")
    told = environment.describe("cpu")["variables"]
    assert told["MXNET_SAFE_ACCUMULATION"] == "1" and "MXNET_HOME" not in told


@pytest.mark.parametrize(("variable", "threads"), [("", None), ("3", 3), ("2,1", 2)])
def test_threads_are_those_of_the_outermost_level(monkeypatch, variable, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert environment.describe("cpu")["threads"] == threads
