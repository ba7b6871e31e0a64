"""What a run says that it was made with."""

import subprocess

import pytest

from experiments import environment


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


def test_changes_that_are_not_committed_are_told(repository):
    commit(repository, "first")
    (repository / "setup.py").write_text("changed")
    assert environment.code()["dirty"] is True
