"""Each example runs as its first lines say, learns what it trains on, and writes what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_experiment import REAL_DATA

EXAMPLES = Path(__file__).parents[1] / "examples"
# Files that each leaves in --output, and the least test accuracy. Guessing has 0.1, of two classes 0.5.
PROMISED = {
    "image_classifier": (0.8, ["best.params", "image_classifier.png"]),
    "mixed_precision": (0.8, []),
    "text_classifier": (0.95, []),
    "module_fit": (0.7, ["module_fit-0005.params", "module_fit-symbol.json"]),
    "swnts1": (0.8, ["swnts1.png"]),
}
CPU = Path("/proc/cpuinfo")


def run(name, *options):
    """The accuracy that an example prints last."""
    made = subprocess.run([sys.executable, EXAMPLES / f"{name}.py", *map(str, options)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return float(re.search(r"^test accuracy[^:]*: (\S+)\Z", made.stdout.rstrip(), re.MULTILINE)[1])


def test_all_examples_are_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*PROMISED, "digits"}


@pytest.mark.parametrize("path", [*EXAMPLES.glob("*.py"), *(EXAMPLES.parent / "benchmarks").glob("*.py")],
                         ids=lambda path: path.stem)
def test_namsg_mx_is_imported_before_mxnet(path):
    """On Python 3.12 MXNet does not load otherwise."""
    packages = re.findall(r"^ *(?:import|from) (mxnet|namsg_mx)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert packages[:1] in ([], ["namsg_mx"])


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.slow
def test_an_example_learns(name, tmp_path):
    if name == "mixed_precision" and CPU.exists() and "avx512bw" not in CPU.read_text():
        pytest.skip("MXNet's bfloat16 needs AVX-512")
    least, files = PROMISED[name]
    options = ["--output", tmp_path] if files else []
    assert run(name, *options) > least
    for file in files:
        assert (tmp_path / file).stat().st_size > 0


@pytest.mark.slow
def test_texts_from_a_file(tmp_path):
    """Three classes, lines as short as a word or shorter; and a file of three lines."""
    lines = [f"{label}\t{word} {i}" for i in range(100) for label, word in enumerate(("un", "deux", "trois"))]
    (tmp_path / "texts.tsv").write_text("\n".join([*lines, "0\tun", "0\t"]), encoding="utf-8")
    assert run("text_classifier", "--data", tmp_path / "texts.tsv") > 0.95
    (tmp_path / "few.tsv").write_text("\n".join(lines[:3]), encoding="utf-8")
    assert run("text_classifier", "--data", tmp_path / "few.tsv") in (0, 1)   # it is tested by one of them


@pytest.mark.slow
@REAL_DATA
def test_an_example_on_mnist():
    assert run("module_fit", "--data", os.environ["NAMSG_DATA"], "--epochs", 1) > 0.9
