"""The page of all results in a real browser: it loads from a file, and its filters and legends work."""

import html
import os
import re
import shutil
from pathlib import Path

import pytest
from tiny_experiment import experiments, record

from experiments.claims.decisions import VERDICTS
from experiments.display import report
from experiments.vocabulary.config import load
from experiments.vocabulary.errors import RecordError

CHECKOUT = Path(__file__).parents[3]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is found: install it, or name it in CHROMIUM")
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1280, "height": 900}
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
    for run, point in experiment.grid(["adam"]):
        record(results, run, [1 + point["learning_rate"]] * 10, 10)
    result = experiments("report", "--results", results, cwd=CHECKOUT)
    assert result.returncode == 0, result.stderr
    return results / "report.html"


def test_it_holds_what_is_recorded(page):
    text = html.unescape(page.read_text(encoding="utf-8").partition("<script>")[0])
    for wanted in ("commit 0123456789, a processor", "NAMSG (n = 3 of 10)", "SGD (n = 2 of 10, 1 short)",
                   "python -m experiments table configs/mnist_logistic.yaml --method sgd adam nadam amsgrad namsg",
                   "Sensitivity to α: Logistic regression on MNIST", "Nothing recorded yet"):
        assert wanted in text
    assert not re.search(r"<td>(nan|inf|-inf|None)</td>", text)
    assert "Table A1" not in re.findall(r"<h3>(.*?)</h3>", text)   # as the grid search is not complete


def test_curves_beside_the_papers_and_short_ones(tmp_path):
    """Methods that the figure does not have are named so where they are complete; ADAM has no train loss to reach."""
    experiment = load(CHECKOUT / "configs" / "mnist_logistic.yaml")
    for method, epochs in {"sgd": 20, "sgd_mxnet": 20, "adam": 2, "nadam_mxnet": 2}.items():
        run, = experiment.runs([method], [0])
        record(tmp_path, run, [1 / epoch for epoch in range(1, epochs + 1)], 20)
    text = report.write(tmp_path, CHECKOUT / "configs").read_text(encoding="utf-8").partition("<script>")[0]
    assert "<h3>Figure 2, and methods beside it: Logistic regression on MNIST</h3>" in text
    assert "figure configs/mnist_logistic.yaml --method sgd sgd_mxnet adam --partial" in text
    assert "epochs to a train loss" not in text


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, page):
    """Opens the page in a window of its own; what it asked for and complained of stands in ``.requests``, ``.errors``.
    """
    opened = []

    def visit(viewport=DESK, fragment="", **options):
        tab = browser.new_page(viewport=viewport, **options)
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
    drawn = tab.eval_on_selector_all(
        ".chart", "charts => charts.map(c => c.querySelectorAll('.scatterlayer path').length)")
    assert len(drawn) == 4   # three of the curves, one of the sensitivity
    assert all(drawn)


@needs_chromium
def test_filters_by_verdict_and_part(visit):
    tab = visit()
    total = tab.locator(".claim").count()
    counts = {verdict: tab.locator(f".claim[data-verdict='{verdict}']").count() for verdict in VERDICTS}
    assert sum(counts.values()) == total
    assert counts["holds"] > 0
    tab.click(".filter[data-verdict='not run yet']")
    assert tab.locator(".claim:visible").count() == total - counts["not run yet"]
    assert tab.inner_text("#shown") == f"{total - counts['not run yet']} of {total}"
    tab.select_option("#part", "mnist_logistic")
    assert {c.get_attribute("data-part") for c in tab.locator(".claim:visible").all()} == {"mnist_logistic"}
    tab.click(".filter[data-verdict='not run yet']")
    assert tab.locator(".claim:visible").count() == tab.locator(".claim[data-part='mnist_logistic']").count()


@needs_chromium
def test_a_claim_opens_to_its_evidence(visit):
    tab = visit()
    claim = tab.locator("#mnist_logistic-lowest")
    assert not claim.locator("dl").is_visible()
    claim.locator("summary").click()
    assert "paired by seed" in claim.inner_text()
    assert claim.locator("tbody tr").count() == 5
    linked = visit(fragment="#mnist_logistic-faster")
    assert linked.locator("#mnist_logistic-faster dl").is_visible()


@needs_chromium
def test_the_legend_hides_a_method_in_all_of_its_charts(visit):
    tab = visit()
    shown = "id => [...document.querySelectorAll(`#${id} .chart`)].map(" \
            "c => c.data.filter(t => t.meta === 'adam' && t.visible !== false).length)"
    assert tab.evaluate(shown, "figure-mnist_logistic") == [3, 3, 3]   # a line and the two edges of its band
    tab.click("#figure-mnist_logistic .method[data-method='adam']")
    assert tab.evaluate(shown, "figure-mnist_logistic") == [0, 0, 0]
    assert tab.evaluate(shown, "figure-mnist_logistic-sensitivity") != [0]
    tab.click("#figure-mnist_logistic .method[data-method='adam']")
    assert tab.evaluate(shown, "figure-mnist_logistic") == [3, 3, 3]


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
    assert tab.evaluate(OVERFLOW) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text, ground = (tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert tab.locator(".chart .xtitle").first.evaluate("e => getComputedStyle(e).fill") == text


@needs_chromium
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
def test_a_link_to_a_claim_ends_the_filters_that_hide_it(visit):
    tab = visit()
    tab.select_option("#part", "cost")
    tab.click("#figure-mnist_logistic .said a[href='#mnist_logistic-lowest']")
    assert tab.locator("#mnist_logistic-lowest dl").is_visible()
    total = tab.locator(".claim").count()
    assert tab.inner_text("#shown") == f"{total} of {total}"


def test_a_damaged_record_is_an_error_that_names_it(page, tmp_path):
    results = shutil.copytree(page.parent, tmp_path / "results")
    broken = next(results.glob("mnist_logistic/namsg/*seed0/epochs.csv"))
    broken.write_text(broken.read_text()[:-40] + "\n")
    with pytest.raises(RecordError, match=re.escape(str(broken))):
        report.write(results, CHECKOUT / "configs")
