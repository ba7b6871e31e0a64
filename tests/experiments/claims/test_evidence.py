"""What rules read: records, and files that are damaged."""

import json

import pytest
from made_up_evidence import CHECKOUT, LOGISTIC, NOISE, named
from tiny_experiment import record, write_selection

from experiments.claims import judging, sentences
from experiments.claims.decisions import FAILS, NOT_RUN
from experiments.claims.evidence import Evidence
from experiments.claims.rules import Comparison
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError


@pytest.mark.parametrize("tuned", [False, True])
def test_runs_that_diverged_are_counted_from_their_records(tmp_path, tuned):
    experiment = config.load(CHECKOUT / "configs" / f"{LOGISTIC}.yaml")
    if tuned:
        chosen = {method: experiment.methods[method].points()[0] for method in ("adam", "namsg")}
        write_selection(tmp_path, experiment, chosen)
        experiment = experiment.tuned(chosen)
    for run in experiment.runs(["adam", "namsg"]):
        loss = 0.5 if run.method == "adam" else 0.4 + NOISE[run.seed]
        if (run.method, run.seed) == ("namsg", 3):
            record(tmp_path, run, [1], 20, "diverged")
        else:
            record(tmp_path, run, [1, *[loss] * 19], 20)
    evidence = Evidence(tmp_path, CHECKOUT / "configs")
    found = Comparison(LOGISTIC, ("namsg",), ("adam",), "train_loss", (2, 2), tuned=tuned).judge(evidence)
    assert (found.verdict, found.n) == (FAILS, 9)
    assert found.finding.endswith("n = 9, 1 of NAMSG's diverged")
    assert evidence.diverged(LOGISTIC, False, "namsg") == (not tuned)
    assert evidence.diverged(LOGISTIC, tuned, "adam") == 0


FILES = {"figures/theory_growth.csv": [c.name for c in sentences.CLAIMS if c.part == "gain"],
         "figures/theory_regret.csv": ["regret-bound"], "figures/theory_counterexamples.csv": ["nonconvergence"],
         "tables/original_form.csv": ["algorithm"], "benchmarks/optimizer_step.json": ["cost"]}


def changed(content):
    """The file's content, damaged in several ways."""
    lines = content.splitlines(keepends=True)
    for i in {1, 2, 3, len(lines) // 5, len(lines) // 3, len(lines) // 2, len(lines) - 3, len(lines) - 1}:
        cut = sum(map(len, lines[:i]))
        for at in (cut, cut - 1, cut + 1, cut + len(lines[i]) // 2, cut + len(lines[i]) - 2):
            yield content[:at]
        yield b"".join(lines[:i] + lines[i + 1:])
        yield b"".join(lines[:i + 1] + lines[i:])
        for old, new in ((b"0.", b"nan"), (b"0.", b"NaN"), (b"0.", b"x"), (b"0.", b""), (b"0.", b"-Infinity"),
                         (b",", b",inf,"), (b"-", b"-1e309"), (b'"', b'"_')):
            yield b"".join([*lines[:i], lines[i].replace(old, new, 1), *lines[i + 1:]])
    yield from (content[:-1], b"", b"\n", lines[0], b"{}\n", b"[]\n", b"null\n")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_or_changed_is_named_or_changes_no_verdict(tmp_path, name):
    content, path = (CHECKOUT / "results" / name).read_bytes(), tmp_path / name
    path.parent.mkdir()

    def verdicts():
        judged = judging.judge(Evidence(tmp_path, CHECKOUT / "configs"), named(FILES[name]))
        return [(verdict.judgement.verdict, verdict.judgement.n) for verdict in judged]

    path.write_bytes(content)
    whole, refused = verdicts(), 0
    assert all(verdict != NOT_RUN for verdict, _ in whole)
    for damaged in changed(content):
        path.write_bytes(damaged)
        try:
            assert verdicts() == whole, damaged
        except RecordError as error:
            assert str(error) == f"{path}: damaged: not what was written"
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".csv")])
def test_rows_in_another_order_are_named_or_change_no_finding(tmp_path, name):
    """A finding of the last epoch must not be another's."""
    head, *rows = (CHECKOUT / "results" / name).read_text().splitlines(keepends=True)
    path = tmp_path / name
    path.parent.mkdir()

    def findings():
        return [verdict.judgement.finding for verdict in
                judging.judge(Evidence(tmp_path, CHECKOUT / "configs"), named(FILES[name]))]

    path.write_text(head + "".join(rows))
    whole = findings()
    path.write_text(head + "".join(reversed(rows)))
    try:
        assert findings() == whole
    except RecordError as error:
        assert str(error) == f"{path}: damaged: not what was written"


@pytest.mark.parametrize("change", [
    lambda report: report.update(rounds=None), lambda report: report["machine"].pop("processor"),
    lambda report: report["machine"].update(cores="2"), lambda report: report.update(machine=[]),
    lambda report: report.update(measurements={}), lambda report: report.update(verdicts=[{"shapes": "x"}]),
    lambda report: report["measurements"].append(1), lambda report: report["measurements"][0].pop("shapes"),
    lambda report: report["measurements"][0].pop("threads"),
    lambda report: report["measurements"][0].update(contenders=[]),
    lambda report: report["measurements"][0]["contenders"].pop("MXNet adam"),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"].pop("share"),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"].update(seconds=[1, 2]),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"]["share"].__setitem__(1, float("nan")),
    lambda report: report["measurements"][0]["contenders"]["MXNet adam"]["share"].__setitem__(1, "1")])
def test_a_benchmark_has_all_that_is_read_of_it(tmp_path, change):
    path = tmp_path / "benchmarks" / "optimizer_step.json"
    path.parent.mkdir()
    report = json.loads((CHECKOUT / "results" / "benchmarks" / path.name).read_text())
    path.write_text(json.dumps(report))
    assert Evidence(tmp_path, CHECKOUT / "configs").benchmark("optimizer_step") == report
    change(report)
    path.write_text(json.dumps(report))
    with pytest.raises(RecordError, match="optimizer_step.json: damaged"):
        Evidence(tmp_path, CHECKOUT / "configs").benchmark("optimizer_step")


@pytest.mark.parametrize("name", ["optimizer_step", "update_patterns", "training_step", "gpu_step"])
def test_the_committed_benchmarks_are_whole(name):
    assert Evidence(CHECKOUT / "results", CHECKOUT / "configs").benchmark(name)["measurements"]
