"""The page of all results in a real browser: it loads from a file, and its filters and legends work."""

import html
import io
import math
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tiny_experiment import experiments, record

from experiments.analysis.survey import STATES, survey
from experiments.claims.answer import SENTENCES
from experiments.claims.decisions import VERDICTS
from experiments.display import report
from experiments.vocabulary.config import load
from experiments.vocabulary.errors import RecordError

CHECKOUT = Path(__file__).parents[3]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is found: install it, or name it in CHROMIUM")
PATIENCE = 600_000   # ms; by Playwright's own, 30 s, a busy machine fails a test
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1280, "height": 900}
PICTURE = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 50"><rect width="90" height="50" fill="#fff"/>'
           '<text x="30" y="30">Ψ</text></svg>')
# Whether anything but what scrolls by itself is wider than the window.
OVERFLOW = """() => [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.parentElement.closest('.scroll'))
    .map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of made-up records of logistic regression: NAMSG is ahead of ADAM; one run is short."""
    results = tmp_path_factory.mktemp("results")
    experiment = load(CHECKOUT / "configs" / "mnist_logistic.yaml")
    for run in experiment.runs(["sgd", "adam", "nadam", "amsgrad", "namsg"], range(3)):
        level = {"namsg": 0.23, "sgd": 0.25}.get(run.method, 0.24) + run.seed / 1000
        epochs = 12 if (run.method, run.seed) == ("sgd", 2) else 20
        record(results, run, [level + 1 / epoch for epoch in range(1, epochs + 1)], 20)
    for run in experiment.grid_runs(["adam"]):
        record(results, run, [1 + run.point["learning_rate"]] * 10, 10)
    (results / "figures").mkdir()
    for picture in ("figure1", "distance"):
        (results / "figures" / f"{picture}.svg").write_text(PICTURE, encoding="utf-8")
    result = experiments("report", "--results", results, cwd=CHECKOUT)
    assert result.returncode == 0, result.stderr
    return results / "report.html"


def test_it_holds_what_is_recorded(page):
    text = html.unescape(page.read_text(encoding="utf-8").partition("<script>")[0])
    for wanted in ("commit 0123456789, a processor", "NAMSG (n = 3 of 10)", "SGD (n = 2 of 10, 1 short)",
                   "python -m experiments table configs/mnist_logistic.yaml --method sgd adam nadam amsgrad namsg",
                   "Sensitivity to α: Logistic regression on MNIST (20 of 96 runs of the default methods)",
                   "python -m experiments figure distance", "Nothing recorded yet"):
        assert wanted in text
    assert f"python -m experiments status configs/mnist_logistic.yaml --results {page.parent}" in text
    assert ("figure sensitivity --config configs/mnist_logistic.yaml --method adam --partial --results "
            f"{page.parent}") in text
    assert not re.search(r"<td>(nan|inf|-inf|None)</td>", text)
    assert "Table A1" not in re.findall(r"<h3>(.*?)</h3>", text)   # as the grid search is not complete


def test_it_counts_runs_as_status_does(page):
    found = survey(load(CHECKOUT / "configs" / "mnist_logistic.yaml"), page.parent)
    text = page.read_text(encoding="utf-8").partition("<script>")[0]
    assert found["methods"]["sgd"] == {**dict.fromkeys(STATES, 0), "done": 2, "unfinished": 1, "missing": 7}
    for label, states in {"SGD": found["methods"]["sgd"], "grid search": found["grid"]["runs"]}.items():
        cells = "".join(f"<td>{states[state] or ''}</td>" for state in STATES)
        assert f"<tr><td>{label}</td>{cells}</tr>" in text


def test_it_opens_with_plain_sentences_from_the_records(page):
    """Train losses end at 0.23 + 1 / 20, and so on, plus a thousandth for each of the seeds 0 to 2."""
    text = html.unescape(page.read_text(encoding="utf-8").partition('id="figures"')[0])
    assert [sentence for sentence in SENTENCES if f"<span>{sentence}</span>" in text] == list(SENTENCES)
    assert f"In {len(SENTENCES)} sentences" in text
    assert ("Logistic regression on MNIST: train loss NAMSG 0.2805, SGD 0.3005 (n = 2); NAMSG 0.2810, ADAM 0.2910 "
            "(n = 3); NAMSG 0.2810, NADAM 0.2910 (n = 3); NAMSG 0.2810, AMSGRAD 0.2910 (n = 3)") in text
    assert "CNN on MNIST: nothing recorded yet" in text


def test_what_is_decided_stands_with_its_p_value_and_bonferronis_verdict(tmp_path):
    """Methods that the figure does not have are named so where they are complete; ADAM has no train loss to reach."""
    experiment = load(CHECKOUT / "configs" / "mnist_logistic.yaml")
    for run in experiment.runs(["sgd", "sgd_mxnet"], experiment.seeds):
        level = 1 + run.seed / 100 + (0.5 + run.seed / 1000) * (run.method == "sgd_mxnet")
        record(tmp_path, run, [level / epoch for epoch in range(1, 21)], 20)
    for run in experiment.runs(["adam", "nadam_mxnet"], [0]):
        record(tmp_path, run, [1, 0.5], 20)
    text = report.write(tmp_path, CHECKOUT / "configs").read_text(encoding="utf-8").partition("<script>")[0]
    assert "<h3>Figure 2, and methods beside it: Logistic regression on MNIST</h3>" in text
    assert "figure configs/mnist_logistic.yaml --method sgd sgd_mxnet adam --partial" in text
    assert "epochs to a train loss" not in text
    claim, = re.findall('<details class="claim" id="mnist_logistic-sgd-reading".*?</summary>', text, re.DOTALL)
    assert re.search(r"p = \d\S*e-\d+, by Bonferroni: holds", claim)
    assert text.count("by Bonferroni: ") == 1
    told, = re.findall(r"1 verdicts are by intervals\. (\d+) comparisons have all their runs", text)
    assert int(told) == 5   # SGD beside itself, too: test loss and accuracy, at first and in the end


def test_a_grid_without_a_cell_of_table_a2_has_none(tmp_path):
    experiment = load(CHECKOUT / "configs" / "cifar10_resnet20.yaml")
    for run in experiment.grid_runs(["sgd"])[:4]:
        record(tmp_path, run, [1.0] * 30, 30)
    text = report.write(tmp_path, CHECKOUT / "configs").read_text(encoding="utf-8").partition("<script>")[0]
    assert "Sensitivity to α" in text and "<h3>Table A2" not in text


def test_numbers_that_there_are_not_are_empty_cells():
    numbers = pd.DataFrame({"p": [None, None], "low": [-math.inf, math.nan], "n": [9, 10]})
    assert report._cells(numbers).rows == [["", "", "9"], ["", "", "10"]]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, page):
    """Opens the page in a window of its own; what it asked for and complained of stands in ``.requests``, ``.errors``.
    """
    opened = []

    def visit(viewport=DESK, fragment="", **options):
        tab = browser.new_page(viewport=viewport, **options)
        tab.set_default_timeout(PATIENCE)
        tab.requests, tab.errors = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("console", lambda message: message.type in ("error", "warning") and tab.errors.append(message.text))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.goto(page.as_uri() + fragment)
        tab.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")
        opened.append(tab)
        return tab

    yield visit
    for tab in opened:
        tab.close()


@needs_chromium
def test_it_loads_from_a_file_without_requests_or_errors(visit, page):
    tab = visit()
    assert [url for url in tab.requests if not url.startswith("data:")] == [page.as_uri()]
    assert tab.errors == []
    drawn = "charts => charts.map(c => c.querySelectorAll('.scatterlayer path').length > 0)"
    assert tab.eval_on_selector_all("#figures .chart", drawn) == [True] * 4
    assert tab.eval_on_selector_all("#claims .chart", drawn) == [False]   # of the sensitivity, which is folded
    tab.click("#part-mnist_logistic > summary")
    tab.wait_for_selector("#claims .chart .main-svg")
    assert tab.eval_on_selector_all("#claims .chart", drawn) == [True]


@needs_chromium
def test_a_chip_shows_only_what_it_names(visit):
    tab = visit()
    total = tab.locator(".claim").count()
    counts = {verdict: tab.locator(f".claim[data-verdict='{verdict}']").count() for verdict in VERDICTS}
    assert sum(counts.values()) == total
    assert counts["holds"] > 0
    assert tab.locator(".claim:visible").count() == 0   # all parts are folded
    for chip in (".filter[data-verdict='holds']", ".totals a[data-verdict='not run yet']"):
        tab.click(chip)
        verdict = tab.get_attribute(chip, "data-verdict")
        shown = [claim.get_attribute("data-verdict") for claim in tab.locator(".claim:visible").all()]
        assert shown == [verdict] * counts[verdict]
        assert tab.inner_text("#shown") == f"{counts[verdict]} of {total}"
        pressed = tab.locator(".filter[aria-pressed='true']")
        assert [button.get_attribute("data-verdict") for button in pressed.all()] == [verdict]
    tab.click(".filter[data-verdict='']")
    assert tab.locator(".part:visible").count() == tab.locator(".part").count()
    assert tab.inner_text("#shown") == f"{total} of {total}"


@needs_chromium
@pytest.mark.slow
def test_a_chart_has_the_width_of_its_place(visit):
    """Also where that was hidden, or folded when the window changed."""
    tab = visit()
    part, summary = "#part-mnist_logistic", "#part-mnist_logistic > summary"
    fits = f"""() => [...document.querySelectorAll('{part} .chart .main-svg')].some(
        svg => svg.clientWidth > 0 && svg.clientWidth === svg.closest('.chart').clientWidth)"""
    tab.click(".filter[data-verdict='does not hold']")
    tab.locator(part).wait_for(state="hidden")
    tab.click(".filter[data-verdict='']")
    tab.click(summary)
    tab.wait_for_function(fits)
    tab.click(summary)
    tab.set_viewport_size(PHONE)
    tab.click(summary)
    tab.wait_for_function(fits)


@needs_chromium
def test_parts_are_folded_with_their_counts_of_verdicts(visit):
    tab = visit()
    for part in tab.locator(".part").all():
        claims = [claim.get_attribute("data-verdict") for claim in part.locator(".claim").all()]
        counts = [f"{claims.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in claims]
        assert part.locator("> summary .verdict").all_inner_texts() == counts


@needs_chromium
@pytest.mark.slow
def test_navigation_stays_in_sight(visit):
    tab = visit(PHONE)
    tab.click("nav a[href='#benchmarks']")
    tab.wait_for_function("scrollY > innerHeight")
    nav, heading = (tab.locator(name).bounding_box() for name in ("nav", "#benchmarks h2"))
    assert nav["y"] == 0
    assert nav["height"] <= heading["y"] < PHONE["height"]


@needs_chromium
def test_a_figure_is_enlarged_and_comes_back(visit):
    tab = visit(PHONE, fragment="#figure-figure1")
    for inside in ("#figure-figure1 img", "#figure-mnist_logistic .chart .main-svg"):
        drawn = tab.locator(inside).first
        before = drawn.bounding_box()["width"]
        assert before < PHONE["width"]
        tab.click(f"{inside.split()[0]} .enlarge")
        width = "selector => document.querySelector(selector)?.getBoundingClientRect().width"
        tab.wait_for_function(f"([selector, width]) => ({width})(selector) > 1.3 * width",
                              arg=[f"dialog {inside}", before])
        tab.click("#close")
        tab.wait_for_function(f"([selector, width]) => Math.abs(({width})(selector) - width) < 2",
                              arg=[f"main {inside}", before])


@needs_chromium
def test_a_table_says_that_it_scrolls_where_it_does(visit):
    tab = visit(PHONE, fragment="#mnist_logistic-lowest")
    hint = tab.locator("#mnist_logistic-lowest .hint")
    hint.wait_for(state="visible")
    tab.set_viewport_size(DESK)
    hint.wait_for(state="hidden")


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("scheme, ground", [("light", (255, 255, 255)), ("dark", (21, 23, 26))])
def test_pictures_stand_on_the_pages_ground(visit, scheme, ground):
    """A picture is black on white in its file."""
    tab = visit(fragment="#figure-figure1", color_scheme=scheme)
    shot = Image.open(io.BytesIO(tab.locator("#figure-figure1 img").screenshot())).convert("RGB")
    assert max(shot.getcolors(1 << 20))[1] == ground


@needs_chromium
def test_a_claim_opens_to_its_evidence(visit):
    tab = visit()
    tab.click("#part-mnist_logistic > summary")
    claim = tab.locator("#mnist_logistic-lowest")
    assert not claim.locator("dl").is_visible()
    claim.locator("summary").click()
    assert "paired by seed" in claim.inner_text()
    assert claim.locator("tbody tr").count() == 5
    linked = visit(fragment="#mnist_logistic-faster")
    assert linked.locator("#mnist_logistic-faster dl").is_visible()


@needs_chromium
@pytest.mark.slow
def test_the_legend_hides_a_method_in_all_of_its_charts(visit):
    tab = visit()
    shown = "id => [...document.querySelectorAll(`#${id} .chart`)].map(" \
            "c => c.data.filter(t => t.meta === 'adam' && t.visible !== false).length)"
    assert tab.evaluate(shown, "figure-mnist_logistic") == [3] * 4   # a line and the two edges of its band
    tab.click("#figure-mnist_logistic .method[data-method='adam']")
    assert tab.evaluate(shown, "figure-mnist_logistic") == [0] * 4
    tab.click("#figure-mnist_logistic .method[data-method='adam']")
    assert tab.evaluate(shown, "figure-mnist_logistic") == [3] * 4


@needs_chromium
def test_hovering_tells_the_values(visit):
    tab = visit()
    chart = tab.locator("#figure-mnist_logistic .chart").first
    chart.scroll_into_view_if_needed()
    chart.locator(".nsewdrag").hover()
    tab.wait_for_selector(".hoverlayer .legendtext, .hoverlayer .legend text")
    assert "± 0.001, n = 3" in chart.locator(".hoverlayer").text_content()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_on_a_phone(visit, scheme):
    tab = visit(PHONE, color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.wait_for_selector("#claims .chart .main-svg")
    assert tab.evaluate(OVERFLOW) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text, ground = (tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert tab.locator(".chart .xtitle").first.evaluate("e => getComputedStyle(e).fill") == text


@needs_chromium
@pytest.mark.slow
def test_print_is_light_and_shows_what_is_closed(visit):
    """What the browser prints, seen when it has asked the page to get ready."""
    tab = visit(color_scheme="dark")
    tab.evaluate("""addEventListener('beforeprint', () => window.printed = {
        text: getComputedStyle(document.querySelector('.chart .xtitle')).fill,
        ground: getComputedStyle(document.documentElement).getPropertyValue('--ground'),
        open: document.querySelector('#mnist_logistic-lowest').open})""")
    assert tab.pdf()[:4] == b"%PDF"
    assert tab.evaluate("window.printed") == {"text": "rgb(28, 28, 30)", "ground": "#ffffff", "open": True}
    assert not tab.locator("#mnist_logistic-lowest dl").is_visible()
    assert tab.locator(".chart .xtitle").first.evaluate("e => getComputedStyle(e).fill") == "rgb(230, 231, 234)"


@needs_chromium
def test_a_link_to_a_claim_ends_the_filter_that_hides_it(visit):
    tab = visit()
    tab.click(".filter[data-verdict='holds']")
    tab.click(".sentences a[href='#mnist_logistic-lowest']")
    assert tab.locator("#mnist_logistic-lowest dl").is_visible()
    total = tab.locator(".claim").count()
    assert tab.inner_text("#shown") == f"{total} of {total}"


@pytest.mark.parametrize("content", ['[{"first_epoch": 1}]', '[{"first_epoch": 1, "commit": null, "dirty": null, '
                                     '"versions": 1, "system": "", "processor": "", "cores": 1, "threads": 1, '
                                     '"kernel": "cpu"}]'])
def test_an_environment_without_what_the_page_tells_is_named(page, tmp_path, content):
    results = shutil.copytree(page.parent, tmp_path / "results")
    broken = next(results.glob("mnist_logistic/namsg/*seed0/environment.json"))
    broken.write_text(content)
    with pytest.raises(RecordError, match=re.escape(f"{broken}: damaged")):
        report.write(results, CHECKOUT / "configs")


def test_a_record_that_has_lost_its_environment_is_named(page, tmp_path):
    assert "Nothing says what" not in page.read_text(encoding="utf-8")
    results = shutil.copytree(page.parent, tmp_path / "results")
    missing, empty = sorted(results.glob("mnist_logistic/namsg/*/environment.json"))[:2]
    missing.unlink()
    empty.write_text("[]")
    text = html.unescape(report.write(results, CHECKOUT / "configs").read_text(encoding="utf-8"))
    told, = re.findall(r"Nothing says what these were made with.*?</p>", text, re.DOTALL)
    assert re.findall(r"\S+-seed\d", told) == [str(missing.parent), str(empty.parent)]


def test_a_damaged_record_is_an_error_that_names_it(page, tmp_path):
    results = shutil.copytree(page.parent, tmp_path / "results")
    broken = next(results.glob("mnist_logistic/namsg/*seed0/epochs.csv"))
    broken.write_text(broken.read_text()[:-40] + "\n")
    with pytest.raises(RecordError, match=re.escape(str(broken))):
        report.write(results, CHECKOUT / "configs")


def test_a_folder_whose_name_is_no_utf_8_has_a_page(tmp_path):
    results = tmp_path / "\udcffresults"
    results.mkdir()
    assert rb"\udcffresults" in report.write(results, CHECKOUT / "configs").read_bytes()
