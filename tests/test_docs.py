"""What the pages in docs/ show, done: the guide's snippets, and the example of the page on reproduction."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from experiments import config

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for its_language, text in found if its_language == language]


def run(command, **options):
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_guides_snippets_run():
    """In a process of their own, one after the other, as a reader's would."""
    snippets = blocks("guide.md", "python")
    assert len(snippets) >= 8
    run([sys.executable, "-W", "error::UserWarning:namsg_mx", "-c", "\n".join(snippets)])


def test_the_example_of_a_configuration_runs_by_the_commands_below_it(tmp_path):
    example, = blocks("reproduction.md", "yaml")
    (tmp_path / "mine.yaml").write_text(example)
    commands = [line for block in blocks("reproduction.md") for line in block.splitlines() if "mine.yaml" in line]
    assert len(commands) == 4
    places = {"mine.yaml": str(tmp_path / "mine.yaml"), "build/mine": str(tmp_path / "results")}
    for command in commands:
        run([sys.executable, *(places.get(word, word) for word in shlex.split(command)[1:])], cwd=DOCS.parent)
    assert sorted(path.name for path in (tmp_path / "results" / "figures").iterdir()) == ["mine.png", "mine.svg"]


def test_every_key_of_a_configuration_is_explained():
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    keys = [*config.EXPERIMENT_KEYS, *config.METHOD_KEYS, *config.OPTIMIZERS, *config.SCHEDULES, *config.DATA_SETS,
            *config.MODELS, *config.AUGMENTATIONS]
    assert [key for key in keys if not re.search(rf"\b{key}\b", page)] == []
