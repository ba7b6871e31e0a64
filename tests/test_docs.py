"""The pages and the API reference: their links lead somewhere, their commands parse, what they show is done."""

import html.parser
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlparse

import kubernetes_validate
import mxnet as mx
import pytest
import yaml

from experiments.commands import cli, train
from experiments.training import models
from experiments.vocabulary import config
from experiments.vocabulary.folders import RESULTS
from experiments.vocabulary.records import RunRecord

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
COMMANDS = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))]   # the pages whose commands are ours
PAGES = [*COMMANDS, CHECKOUT / "results" / "README.md", CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "CHANGELOG.md"]


def blocks(page, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for its_language, text in found if its_language == language]


def run(command, **options):
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_guides_snippets_run():
    """In a process of their own, one after the other, as a reader's would: and namsg_mx warns of nothing."""
    snippets = blocks("guide.md", "python")
    assert len(snippets) >= 8
    # Not by -W, which takes a module's whole name. Without a C++ compiler here there is a warning.
    filters = ("import warnings; warnings.filterwarnings('error', module='namsg_mx'); "
               "warnings.filterwarnings('default', '.*has no library')")
    run([sys.executable, "-c", "\n".join([filters, *snippets])])


@pytest.mark.slow
def test_the_example_of_a_configuration_runs_by_the_commands_below_it(tmp_path):
    example, = blocks("reproduction.md", "yaml")
    (tmp_path / "mine.yaml").write_text(example)
    commands = [line for block in blocks("reproduction.md") for line in block.splitlines() if "mine.yaml" in line]
    assert len(commands) == 6
    places = {"mine.yaml": str(tmp_path / "mine.yaml"), "build/mine": str(tmp_path / "results"),
              "build/mine/rounding": str(tmp_path / "results" / "rounding")}
    for command in commands:
        run([sys.executable, *(places.get(word, word) for word in shlex.split(command)[1:])], cwd=CHECKOUT)
    assert sorted(path.name for path in (tmp_path / "results" / "figures").iterdir()) == ["mine.png", "mine.svg"]


def test_every_key_of_a_configuration_is_explained():
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    explained = {key for cell in first_cells for key in re.findall("`(.*?)`", cell)}
    assert {*config.EXPERIMENT_KEYS, *config.METHOD_KEYS} <= explained
    assert config.OPTIMIZERS.keys() <= explained
    texts = [f"{{name: {name}" for name in (*config.DATA_SETS, *config.MODELS, *config.AUGMENTATIONS)]
    texts += [f"{{schedule: {name}" for name in config.SCHEDULES]
    assert [text for text in texts if not re.search(rf"`{text}\b", page)] == []


def test_each_optimizers_arguments_are_named():
    """'these four' are those of adam, and 'as `amsbound`' stands for that one's."""
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    rows = page.partition("| optimizer | arguments |")[2].partition("\n\n")[0]
    named = {}
    for names, arguments in re.findall(r"^\| (`.*?) \| (.*) \|$", rows, re.MULTILINE):
        words = {*re.findall("`(.*?)`", arguments), *(["adam"] if "these four" in arguments else [])}
        words = words.difference(named).union(*(named[word] for word in words & named.keys()))
        named.update(dict.fromkeys(re.findall("`(.*?)`", names), words))
    assert named == {name: set(arguments) for name, arguments in config.OPTIMIZERS.items()}


def test_what_a_run_costs_is_the_benchmarks():
    report = json.loads((CHECKOUT / "results" / "benchmarks" / "sweep.json").read_text())
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    costs = re.findall(r"^\| .*? \| .*? \| (0\.\d{3}) \| (\d+) min \|$", page, re.MULTILINE)
    seconds = [one["seconds"] / one["runs"] for one in report["sweeps"]]
    assert costs == [(f"{each:.3f}", f"{each * 10_000 / 60:.0f}") for each in seconds]
    run, status, *others = (one["seconds"] for one in report["reading"])
    assert {f"{run:.0f}", f"{status:.0f}"} == {"2"}
    assert f"`report` {min(others):.0f} to {max(others):.0f} s (measured)" in page


def test_what_a_kvstore_costs_is_as_its_formulas_say():
    """The bytes of the benchmark's million weights; the networks' weights, and the time of a link that sends them."""
    page = (DOCS / "scaling.md").read_text(encoding="utf-8").partition("## What it costs\n")[2]
    measured = re.findall(r"^\| (\d) \| (\d) \| (none|2bit) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    deviations = []
    assert len(measured) == 7
    for workers, _, compression, bytes_sent, model in measured:
        assert model == f"{int(workers) * {'none': 8, '2bit': 1 / 4 + 4}[compression]:.3f}"
        deviations.append(abs(float(bytes_sent) / float(model) - 1))
    assert f"to within {math.ceil(1000 * max(deviations)) / 10} %" in page

    links = re.findall(r"^\| (\D[^|]+) \| ([\d,.]+)( million)? \| (.* m?s) \|$", page, re.MULTILINE)
    networks = {"logistic regression": "logistic_regression", "CNN, with its spare channels": "mnist_cnn",
                "ResNet-20": "cifar_resnet20_v1"}
    assert [name for name, *_ in links] == [*networks, "ResNet-50"]
    for name, number, million, cells in links:
        weights = float(number.replace(",", "")) * (1e6 if million else 1)
        if name in networks:
            parameters = models.build({"name": networks[name]}, 0, mx.cpu()).collect_params().values()
            assert weights == sum(p.data().size for p in parameters if p.grad_req != "null")
        assert cells.count(" | ") == 2
        for cell, (workers_a_server, bits_a_second) in zip(cells.split(" | "), ((1, 1e9), (1, 1e10), (4, 1e9))):
            number, unit = cell.split()
            seconds = max(4 * weights, 4 * weights * workers_a_server) * 8 / bits_a_second
            # To as many digits as the cell has: 820 has two.
            digits = len(number.partition(".")[2]) - (len(number) - len(number.rstrip("0"))) * ("." not in number)
            assert float(number) == round(seconds * {"ms": 1000, "s": 1}[unit], digits)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_relative_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)", document.read_text(encoding="utf-8"))
    targets = [(document.parent / path if path else document, place) for path, place in links if "://" not in path]
    assert not [target for target, _ in targets if not target.exists()]
    assert not [(target, place) for target, place in targets if place and place not in places(target)]


def places(document):
    """The places in a document that a link may lead to: its headings, as GitHub names them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_item_of_a_numbered_list_begins_a_line():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert any(re.findall(r"^10\. ", text, re.MULTILINE) for text in texts)
    assert [found for text in texts for found in re.findall(r"[.:;)] (?:[2-9]|1\d)\.\s.*", text)] == []


def test_lines_are_of_at_most_120_characters():
    """But for tables and programs, whose lines cannot be broken anywhere."""
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "    "))] == []


@pytest.fixture
def commands(monkeypatch):
    """The options of each command in README and docs/, and in the command line's own help."""
    monkeypatch.chdir(CHECKOUT)
    text = "\n".join(page.read_text(encoding="utf-8") for page in COMMANDS)
    found = re.findall(r"python -m experiments ([^#`'\n]+)", text.replace("\\\n", " "))
    found += [example for examples in cli.EXAMPLES.values() for example in examples]
    return [cli._parser().parse_args(shlex.split(command)) for command in found if "--help" not in command]


def test_commands_parse(commands):
    assert len(commands) > 40


def test_no_command_is_refused_for_what_is_recorded_already(commands):
    """As one that asks for a kvstore, or for other threads, without a results folder of its own."""
    workers, asked = SimpleNamespace(count=4, updates_on_servers=False), []
    for options in commands:
        if options.command is train.run and Path(options.config).exists() and Path(options.results) == RESULTS:
            experiment, runs = train._experiment_and_runs(options)
            made = train._run_options(options, experiment.epochs, workers if options.kvstore else None)
            for run in runs:
                RunRecord(made.results / run.folder).check(run.config_json(made))
            asked += runs
    assert len(asked) > 20


class Links(html.parser.HTMLParser):
    """A page's links and the places in it that links may lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links.add(attributes.get({"a": "href", "img": "src"}.get(tag), ""))
        self.places.add(attributes.get("id"))


def test_no_link_of_the_built_pages_is_broken(tmp_path):
    run([sys.executable, "-W", "error::UserWarning:pdoc.doc_types", str(DOCS / "build.py"), str(tmp_path)])
    pages = {path: Links(path) for path in tmp_path.rglob("*.html")}
    assert {"index.html", "guide.html", "namsg_mx.html"} <= {path.name for path in pages}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            url = urlparse(link)
            if url.scheme in ("http", "https", "data"):
                continue
            target = Path(unquote(url.path)) if url.scheme == "file" else path.parent / url.path if url.path else path
            if not target.exists() or (url.fragment and target.resolve() in pages and
                                       url.fragment not in pages[target.resolve()].places):
                broken.append((path.name, link))
    assert broken == []
    text = (tmp_path / "namsg_mx.html").read_text(encoding="utf-8")
    assert "AMSGRAD with gradients" in text


def test_the_manifest_is_one_of_kubernetes_and_its_command_one_of_ours():
    documents = list(yaml.safe_load_all((DOCS / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Service", "Job"]
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    service, job = documents
    pod = job["spec"]["template"]["spec"]
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    container, = pod["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    workers, servers = int(variables["DMLC_NUM_WORKER"]), int(variables["DMLC_NUM_SERVER"])
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 1 + workers + servers
    assert variables["DMLC_PS_ROOT_URI"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    script, = container["args"]
    roles = [subprocess.run(["bash", "-c", script.partition("exec ")[0] + "echo $DMLC_ROLE"], text=True, check=True,
                            stdout=subprocess.PIPE, env={**os.environ, "JOB_COMPLETION_INDEX": str(index)}
                            ).stdout.strip() for index in range(1 + workers + servers)]
    assert roles == ["scheduler"] + ["server"] * servers + ["worker"] * workers
    command = shlex.split(script.partition("exec ")[2])
    assert command[1:3] == ["-m", "experiments"]
    cli._parser().parse_args(command[3:])
