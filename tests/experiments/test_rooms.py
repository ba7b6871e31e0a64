"""The arrows between the rooms of experiments/: imports, those inside of functions too, run downward."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
# Below each room stand those that it may import.
BELOW = {
    "vocabulary": (),
    "training": ("vocabulary",),
    "running": ("training", "vocabulary"),
    "analysis": ("vocabulary",),
    "claims": ("analysis", "vocabulary"),
    "display": ("claims", "analysis", "vocabulary"),
    "theory": ("display", "claims", "analysis", "training", "vocabulary"),
    "commands": ("theory", "display", "claims", "analysis", "running", "training", "vocabulary"),
}


def imports(path):
    """The modules that a file imports, anywhere in it, by their full names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            assert not any("experiments" in ast.unparse(argument) for argument in node.args), f"{path}: hidden import"


def upward(experiments):
    """The imports that run upward or sideways, as 'room: module'."""
    return [f"{room}: {module}" for room, below in BELOW.items() for path in sorted((experiments / room).rglob("*.py"))
            for module in imports(path)
            if module.split(".")[0] == "experiments" and module.split(".")[1] not in (room, *below)]


def test_imports_between_rooms_run_downward():
    rooms = {path.name for path in (CHECKOUT / "experiments").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(BELOW)
    assert upward(CHECKOUT / "experiments") == []


@pytest.mark.parametrize("line", [
    "from experiments.display import figures",
    "import experiments.analysis.results",
    "def draw():\n    from experiments.claims.judging import judge",
    "if True:\n    from experiments import launch"])
def test_an_arrow_that_is_turned_round_is_found(tmp_path, line):
    for room in BELOW:
        (tmp_path / room).mkdir()
    (tmp_path / "training" / "loop.py").write_text(f"from experiments.vocabulary import records\n{line}\n")
    found, = upward(tmp_path)
    assert found.startswith("training: experiments.")


def test_what_stands_above_the_rooms_starts_commands():
    for path in (CHECKOUT / "experiments").glob("*.py"):
        of_project = {module.split(".")[1] for module in imports(path) if module.startswith("experiments.")}
        assert of_project <= {"commands", "vocabulary"}, path


def test_the_plug_in_knows_no_experiment_and_its_kernels_no_optimizer():
    for path in (CHECKOUT / "namsg_mx").rglob("*.py"):
        modules = list(imports(path))
        assert not any(module.split(".")[0] == "experiments" for module in modules), path
        if path.parent.name == "kernels":
            assert not any(module.startswith("namsg_mx.optimizers") for module in modules), path


def test_the_tests_mirror_the_rooms():
    assert {path.name for path in (CHECKOUT / "tests" / "experiments").iterdir() if path.is_dir()
            } - {"__pycache__"} == set(BELOW)
    assert len([path for path in (CHECKOUT / "experiments").iterdir()
                if path.name not in ("__init__.py", "__pycache__")]) <= 10


def test_the_picture_shows_the_rooms():
    picture = (CHECKOUT / "docs" / "architecture.svg").read_text()
    for room in BELOW:
        assert f">{room}</text>" in picture


def test_architecture_names_files_and_functions_that_are_there():
    text = (CHECKOUT / "docs" / "architecture.md").read_text()
    everything = text + "".join((CHECKOUT / page).read_text() for page in (
        "README.md", "CONTRIBUTING.md", "results/README.md", "docs/guide.md", "docs/reproduction.md", "docs/theory.md",
        "docs/scaling.md", "docs/validity.md"))
    paths = set(re.findall(r"`((?:namsg_mx|experiments|configs|tests)/[\w/.]*)`", everything))
    assert len(paths) > 20
    for path in paths:
        assert (CHECKOUT / path).exists(), path
    code = "".join(path.read_text() for folder in ("namsg_mx", "experiments", "tests")
                   for path in (CHECKOUT / folder).rglob("*") if path.suffix in (".py", ".cc", ".h"))
    for name in re.findall(r"`(\w+)`", text):
        assert re.search(rf"\b{name}\b", code), name
