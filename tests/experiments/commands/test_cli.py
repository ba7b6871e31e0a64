"""The command line: statuses, one-line errors, and what a new user does first."""

import contextlib
import fcntl
import json
import os
import pty
import shlex
import shutil
import struct
import subprocess
import termios
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from tiny_experiment import CONFIG, command, experiments, numbers, write_config

from experiments.claims import sentences
from experiments.commands import cli, train
from experiments.vocabulary import config, methods
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.records import RunRecord
from namsg_mx import kernels

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A configuration, and a results folder where all of it is made."""
    folder = tmp_path_factory.mktemp("made")
    path = write_config(folder)
    result = experiments("run", path, "--results", folder / "results")
    assert result.returncode == 0, result.stderr
    return path, folder / "results", result.stdout


def test_a_run_prints_plain_lines_where_it_is_piped(made):
    lines = made[2].splitlines()
    assert lines[0] == "A tiny experiment: 4 runs of 3 epochs, 0 already complete"
    assert len([line for line in lines if line.endswith("done") or "done;" in line]) == 4
    assert lines[-1].startswith("records: ")
    assert "\r" not in made[2]


@pytest.mark.parametrize(("device", "threads", "jobs"), [("cpu", 1, 5), ("cpu", 2, 2), ("cpu", 8, 1), ("gpu:0", 1, 1)])
def test_by_default_the_jobs_threads_fill_the_cores_that_the_process_may_use(monkeypatch, device, threads, jobs):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5, 7}, raising=False)
    assert train._default_jobs(RunOptions(Path(), 3, None, device, threads)) == jobs


@pytest.mark.slow
def test_a_run_draws_a_bar_on_a_terminal(tmp_path):
    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))   # rows and columns
    arguments = command("run", write_config(tmp_path), "--results", tmp_path, "--seeds", "0")
    with subprocess.Popen(**dict(arguments, stderr=its_end)) as process:
        os.close(its_end)
        shown = b""
        with contextlib.suppress(OSError):   # how a terminal tells that its other end is closed
            while part := os.read(terminal, 4096):
                shown += part
        output = process.stdout.read()
    os.close(terminal)
    assert process.returncode == 0, shown
    assert b"100%" in shown and b"6/6" in shown
    assert " left" not in output   # which the bar says


@pytest.mark.slow
def test_the_demo_trains(tmp_path):
    demo = CHECKOUT / "configs" / "demo.yaml"
    result = experiments("run", demo, "--results", tmp_path, "--method", "namsg", "--seeds", "0", "--epochs", "1")
    assert result.returncode == 0, result.stderr
    assert "namsg seed 0: done" in result.stdout


def test_a_complete_run_is_not_made_again(made):
    path, results, _ = made
    assert "4 already complete" in experiments("run", path, "--results", results).stdout


def test_a_runs_folder_holds_what_design_says(made):
    _, results, _ = made
    folder, = results.glob("tiny/namsg/*seed0")
    recorded = json.loads((folder / "config.json").read_text())
    assert recorded["settings"]["parameters"]["wd"] == 0.001
    assert (recorded["seed"], recorded["threads"], recorded["device"]) == (0, 1, "cpu")
    choices = recorded["choices"]
    assert choices["layers"] == ["Dense(784 -> 10, linear)"]
    assert choices["optimizer"]["epsilon"] == 1e-8 and choices["optimizer"]["switch_to_sgd"] is None
    assert choices["train_images"][1:] == choices["test_images"][1:] == [1, 28, 28]
    assert choices["pixels"] == [0, 1]
    beside, = results.glob("tiny/adam/*seed0")
    assert json.loads((beside / "config.json").read_text())["choices"]["initial_weights"] == choices["initial_weights"]
    environment, = json.loads((folder / "environment.json").read_text())
    assert environment["first_epoch"] == 1
    assert environment["kernel"] == kernels.choose("auto", mx.cpu(), np.float32)
    assert json.loads((beside / "environment.json").read_text())[0]["kernel"] == "mxnet"
    assert environment["versions"]["mxnet"] == "1.9.1"
    done = json.loads((folder / "done.json").read_text())
    assert done == {"epochs": 3, "status": "done", "sha256": done["sha256"]}
    assert len((folder / "seconds.csv").read_text().splitlines()) == 4


def test_status(made):
    path, results, _ = made
    status, = json.loads(experiments("status", path, "--results", results, "--json").stdout)
    assert status["methods"]["namsg"] == {"done": 2, "diverged": 0, "running": 0, "failed": 0, "unfinished": 0,
                                          "missing": 0}
    assert status["seconds_left"] == 0
    nothing, = json.loads(experiments("status", path, "--results", results / "none", "--json").stdout)
    assert nothing["methods"]["adam"]["missing"] == 2
    assert nothing["seconds_left"] is None


def test_status_of_chosen_runs(made):
    """The same options as of `run`."""
    path, results, _ = made
    status, = json.loads(experiments("status", path, "--method", "namsg", "--seeds", "1-3", "--results", results,
                                     "--json").stdout)
    assert [(method, counts["done"], counts["missing"]) for method, counts in status["methods"].items()] == [
        ("namsg", 1, 2)]
    assert status["grid"] is None
    for option in (("--tuned",), ("--method", "namsg")):
        refused = experiments("status", *option)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "--tuned, --method: name a CONFIG" in refused.stderr
    unknown = experiments("status", path, "--method", "lamb", "--results", results)
    assert (unknown.returncode, unknown.stderr.strip()) == (2, "experiments: method 'lamb': tiny has adam, namsg")


def test_a_table_and_a_figure_of_chosen_runs_can_be_written_elsewhere(made, tmp_path):
    path, results, _ = made
    before = sorted(results.rglob("*"))
    for name in ("table", "figure"):
        result = experiments(name, path, "--method", "adam", "--results", results, "--output", tmp_path / "mine")
        assert result.returncode == 0, result.stderr
    assert {f"tiny.{kind}" for kind in ("md", "csv", "tex", "png", "svg")} <= {
        file.name for file in (tmp_path / "mine").iterdir()}
    assert sorted(results.rglob("*")) == before


def logged(folder):
    """The values of a log by name and step, as TensorBoard shows them: an attempt hides those from its step on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = {}
    for path in sorted(folder.glob("events*")):
        content = path.read_bytes()
        while content:
            length, = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12:12 + length])   # between two checksums of 4 bytes
            content = content[16 + length:]
            if event.session_log.status == SessionLog.START:
                found = {(name, step): values for (name, step), values in found.items() if step < event.step}
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value.simple_value)
    return found


@pytest.mark.slow
def test_tensorboard_gets_a_copy_of_each_epoch(tmp_path):
    """Each value once, in float32: also of a run that has gone on, and of one that was made anew."""
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed (extra 'tensorboard')")
    path, results = write_config(tmp_path), tmp_path / "results"
    run, = config.load(path).runs(["namsg"], [0])
    for epochs in (2, 3, 1):
        if epochs == 1:
            shutil.rmtree(results)
        result = experiments("run", path, "--results", results, "--method", "namsg", "--seeds", "0", "--epochs", epochs,
                             "--tensorboard", tmp_path / "log")
        assert result.returncode == 0, result.stderr
        rows = RunRecord(results / run.folder).epochs.rows()
        assert len(rows) == epochs
        assert logged(tmp_path / "log" / run.folder) == {
            (name, row["epoch"]): [np.float32(value)] for row in rows for name, value in row.items()
            if name != "epoch" and value is not None}


def test_figure_and_table(made):
    path, results, _ = made
    for name in ("figure", "table"):
        result = experiments(name, path, "--results", results)
        assert result.returncode == 0, result.stderr
        written = [Path(line.partition(": ")[2]) for line in result.stdout.splitlines() if line.startswith("written: ")]
        assert len(written) >= 2
        assert all(file.stat().st_size > 0 for file in written)


@pytest.mark.slow
def test_methods_and_titles_of_any_name_are_shown(tmp_path):
    """Names that no table of ours has, and what LaTeX, Matplotlib's formulas and legends take for their own."""
    names = ("my.method", "_x", "ADAM", "a-")
    text = CONFIG.replace("A tiny experiment", "'5 $ & 10 % of_a #{}^~ \\frac $x'").replace("epochs: 3", "epochs: 1")
    for name in names[2:]:
        text += "  " + text[text.index("adam:"):text.index("  namsg:")].replace("adam:", f'"{name}":', 1)
    path = write_config(tmp_path, text.replace("  adam:", f"  {names[0]}:").replace("  namsg:", f"  {names[1]}:"))
    results = tmp_path / "results"
    assert experiments("run", path, "--results", results, "--seeds", "0").returncode == 0
    for what in ("figure", "table"):
        result = experiments(what, path, "--results", results, "--seeds", "0")
        assert result.returncode == 0, result.stderr
        assert "Warning" not in result.stderr
    drawn = (results / "figures" / "tiny.svg").read_text()
    caption = next(line for line in (results / "tables" / "tiny.tex").read_text().splitlines() if "caption" in line)
    assert caption == r"\caption{5 \$ \& 10 \% of\_a \#\{\}\textasciicircum \textasciitilde  \textbackslash " \
        r"frac \$x}"
    rows = (results / "tables" / "tiny.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["method", *names]
    colours = methods.colours(names)
    assert len({colours[name] for name in names}) == len(names)
    assert all(colours[name].lower() in drawn for name in names)


@pytest.mark.slow
def test_equal_records_give_equal_figures(made, tmp_path):
    path, results, _ = made
    for copy in ("a", "b"):
        shutil.copytree(results / "tiny", tmp_path / copy / "tiny")
        assert experiments("figure", path, "--results", tmp_path / copy).returncode == 0
    for kind in ("png", "svg"):
        assert (tmp_path / "a/figures" / f"tiny.{kind}").read_bytes() == \
            (tmp_path / "b/figures" / f"tiny.{kind}").read_bytes()


@pytest.mark.parametrize("name", ["figure", "table"])
def test_figures_and_tables_refuse_what_is_missing_unless_told_not_to(made, tmp_path, name):
    path, results, _ = made
    shutil.copytree(results / "tiny", tmp_path / "tiny")
    shutil.rmtree(next(tmp_path.glob("tiny/namsg/*seed1")))
    result = experiments(name, path, "--results", tmp_path)
    assert result.returncode == 1
    assert "1 runs" in result.stderr
    assert "namsg seed 1 with 0 of 3 epochs" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert experiments(name, path, "--results", tmp_path, "--partial").returncode == 0


@pytest.mark.parametrize(("arguments", "name", "values"), [
    (["run", "x", "--method", "a", "--method", "b", "c"], "method", ["a", "b", "c"]),
    (["grid", "x", "--at", "eta=1", "--at", "mu=2"], "at", [("eta", 1.0), ("mu", 2.0)]),
    (["figure", "sensitivity", "--config", "x", "--config", "y"], "config", ["x", "y"]),
    (["run", "x", "--seeds", "0-1", "--seeds", "3"], "seeds", [0, 1, 3])])
def test_an_option_that_is_given_twice_counts_twice(arguments, name, values):
    assert getattr(cli._parser().parse_args(arguments), name) == values


WRONG = [
    (("run", "no.yaml"), "no.yaml: No such file or directory"),
    (("run", "CONFIG", "--method", "sgd"), "method 'sgd': tiny has adam, namsg"),
    (("run", "CONFIG", "--seeds", "9-1"), "'9-1' is not a seed"),
    (("run", "CONFIG", "--seeds", "100"), "keeps seeds 100 for tuning"),
    (("run", "CONFIG", "--epochs", "0"), "'0' is not a positive whole number"),
    (("run", "CONFIG", "--threads", "two"), "'two' is not a positive whole number"),
    (("run", "CONFIG", "--jobs", "\N{ARABIC-INDIC DIGIT THREE}"), "is not a positive whole number"),
    (("run", "CONFIG", "--epochs", "9" * 5000), "is not a positive whole number"),
    (("run", "CONFIG", "--device", "tpu"), "'tpu' is neither cpu nor gpu:N"),
    (("run", "CONFIG", "--device", f"gpu:{'9' * 5000}"), "is neither cpu nor gpu:N"),
    (("run", "CONFIG", "--scheduler", ""), "argument --scheduler: is empty"),
    (("run", "CONFIG", "--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"), "--jobs: not with --scheduler"),
    (("status", "--results", ""), "argument --results: is empty"),
    (("run", "CONFIG", "--results", "README.md/sub"), "/README.md: is not a folder"),
    (("run", "CONFIG", "--results", "/dev/null"), "argument --results: /dev/null: is not a folder"),
    (("run", "CONFIG", "--results", "n" * 300), "File name too long"),
    (("run", "CONFIG", "--data", "n" * 300), "File name too long"),
    (("run", "CONFIG", "--tensorboard", "README.md"), "/README.md: is not a folder"),
    (("status", "--results", "README.md"), "/README.md: is not a folder"),
    (("run", "configs/mnist_logistic_distance.yaml", "--tuned"),
     "--tuned: configs/mnist_logistic_distance.yaml has no grid search that selects values"),
    (("grid", "configs/mnist_cnn_distance.yaml"), "mnist_cnn_distance: has no block 'tuning', and so no grid search"),
    (("run", "CONFIG", "--device", "gpu:7"), "sees 0 GPUs here"),
    (("run", "configs/mnist_logistic.yaml", "--data", "nowhere"), "train-images-idx3-ubyte.gz: not found"),
    (("run",), "the following arguments are required: CONFIG"),
    (("walk",), "invalid choice: 'walk'"),
    ((), "the following arguments are required: COMMAND"),
    (("figure", "99"), "figure 99: neither a configuration"),
    (("figure", "1", "--method", "sgd"), "--method, --seeds, --partial: not with 1, which has no choice of runs"),
    (("table", "rounding", "--seeds", "0"), "--method, --seeds, --partial: not with rounding, which has no choice"),
    (("figure", "3", "--config", "CONFIG"),
     "--config: only with sensitivity, not with 3"),
    (("table", "A2", "--config", "CONFIG"),
     "--config: only with A1 and rounding, not with A2"),
    (("figure", "A1", "--config", "CONFIG"), "--config: only with sensitivity, not with A1"),
    (("table", "A2", "--method", "swnts"), "method 'swnts': has no grid in cifar10_resnet20"),
    (("figure", "distance", "--method", "eta_0"), "method 'eta_0': has no grid in mnist_logistic_distance"),
    (("grid", "configs/mnist_cnn.yaml", "--method", "namsg_2019"), "method 'namsg_2019': has no grid in mnist_cnn"),
    (("grid", "CONFIG", "--at", "learning_rate=7"), "--at learning_rate=7.0: tiny has no such point"),
    (("table", "A3", "--tuned"), "--tuned: only with a configuration (.yaml), not with A3"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(a)[:50] for a, _ in WRONG])
def test_a_bad_option_configuration_or_data_file_is_one_line_and_status_2(tmp_path, arguments, message):
    path = write_config(tmp_path)
    arguments = [path if a == "CONFIG" else a for a in arguments]
    if "run" in arguments:
        arguments += ["--results", tmp_path / "results"]
    result = experiments(*arguments, cwd=CHECKOUT)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("experiments: ")


@pytest.mark.parametrize("name", ["list", "status", "figure sensitivity", "table A1"])
def test_outside_the_checkout_there_is_nothing_to_show(tmp_path, name):
    result = experiments(*name.split(), cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(CHECKOUT)))
    assert (result.returncode, result.stdout) == (2, "")
    assert "configs: no such folder here; commands are given in the checkout" in result.stderr


def test_a_run_has_the_threads_that_it_is_given(made, tmp_path):
    """Whatever the environment says; recorded by the process that trains."""
    path, _, _ = made
    arguments = ("run", path, "--method", "adam", "--seeds", "0", "--epochs", "1", "--threads", "2")
    assert experiments(*arguments, "--results", tmp_path).returncode == 0
    environment, = tmp_path.glob("tiny/*/*/environment.json")
    assert json.loads(environment.read_text())[0]["threads"] == 2


def test_another_thread_count_is_refused(made):
    path, results, _ = made
    result = experiments("run", path, "--results", results, "--threads", "2", "--epochs", "4")
    assert result.returncode == 2
    assert "use --threads 1" in result.stderr


def test_results_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tiny").write_text("a file where a folder should be")
    result = experiments("run", write_config(tmp_path), "--results", tmp_path / "results", "--seeds", "0")
    assert result.returncode != 0
    assert "Traceback" not in result.stdout + result.stderr
    assert str(tmp_path / "results") in result.stdout + result.stderr


def test_help_shows_examples():
    result = experiments("--help")
    assert result.returncode == 0
    assert "python -m experiments run configs/demo.yaml" in result.stdout


@pytest.mark.parametrize("name", [name for name in cli.EXAMPLES if name])
def test_each_commands_help_has_examples_of_its_own_that_can_be_given(name, capsys):
    assert cli.main([name, "--help"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  python -m experiments")]
    assert lines
    for line in lines:
        words = shlex.split(line)[3:]
        assert words[0] == name
        options = cli._parser().parse_args(words)
        for path in [word for word in words if word.endswith(".yaml")]:
            methods = config.load(CHECKOUT / path).methods
            assert set(getattr(options, "method", None) or []) <= set(methods)


def test_every_command_has_examples():
    commands = cli._parser()._subparsers._group_actions[0].choices
    assert {"", *commands} == set(cli.EXAMPLES)


@pytest.mark.parametrize("arguments", ["list", "--help", "run --help"])
def test_a_reader_that_has_seen_enough_gets_no_error(arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(**command(*arguments.split(), cwd=CHECKOUT, env=environment))
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_a_package_that_is_not_installed_is_one_line(tmp_path):
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError('no module', name=__name__)")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(CHECKOUT)]))
    result = experiments("run", write_config(tmp_path), "--results", tmp_path, "--scheduler", "tcp://127.0.0.1:1",
                         cwd=tmp_path, env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("experiments: needs distributed: pip install") and result.stderr.count("\n") == 1


def test_an_editors_files_are_no_configurations(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    write_config(tmp_path / "configs")
    (tmp_path / "configs" / ".#tiny.yaml").write_text("an editor's")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 0


def test_an_interrupt_promises_to_go_on_only_where_that_is_so(monkeypatch, capsys, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.theory.figures.draw_theory", interrupt)
    assert cli.main(["figure", "theory", "--results", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "experiments: interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nobodys(made, tmp_path, closed):
    path, results, _ = made
    arguments = command("run", path, "--results", tmp_path, "--seeds", "0", "--method", "adam")
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *arguments["args"]]
    result = subprocess.run(**dict(arguments, args=shell), check=False)
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path) == {name: content for name, content in numbers(results).items()
                                 if name.startswith("tiny/adam") and "seed0" in name}


def test_output_that_cannot_be_written_is_one_line(made):
    path, results, _ = made
    with open("/dev/full", "w") as full:
        result = experiments("status", path, "--results", results, stdout=full)
    assert result.returncode == 1
    assert result.stderr == "experiments: [Errno 28] No space left on device\n"
    process = subprocess.Popen(**command("status", path, "--results", results))   # less than a buffer
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 1)


@pytest.mark.slow
def test_characters_that_the_output_has_not_are_written_otherwise(made):
    path, results, _ = made
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONIOENCODING="ascii")
    result = experiments("table", path, "--results", results, env=environment)
    assert result.returncode == 0, result.stderr
    assert "| method | \\u03b1 |" in result.stdout and result.stdout.count("written: ") == 6
    claim = sentences.CLAIMS[0].name
    result = experiments("claims", claim, "--json", cwd=CHECKOUT, env=environment)
    plain = experiments("claims", claim, "--json", cwd=CHECKOUT)
    assert result.returncode == 0 and json.loads(result.stdout) == json.loads(plain.stdout)


def test_list_names_every_method_with_its_source():
    listed = experiments("list", cwd=CHECKOUT).stdout
    assert "configs/mnist_logistic.yaml: Logistic regression on MNIST" in listed
    assert "averagedsgd: learning_rate 1, beta1 0.9 (Table A1)" in listed


def test_a_pythons_too_new_gets_one_sentence():
    executable = shutil.which("python3.13")
    result = executable and experiments("list", args=[executable, "-m", "experiments", "list"],
                                        env=dict(os.environ, PYTHONPATH=str(CHECKOUT)))
    if not executable or "pyenv" in result.stderr:
        pytest.skip("no python3.13 here")
    assert (result.returncode, result.stderr) == \
        (2, "experiments: needs Python 3.8 to 3.12, as MXNet 1.9.1 runs on no other\n")
