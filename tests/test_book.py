"""The rendered book, in a real browser: every page, on a desktop and on a phone, light and dark.

The book is built first where it is not up to date. Without Chromium on the machine the tests of this file that need
it are skipped, and say so.
"""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from functools import cache, partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request

from hmoe import book, claims, pages, report
from hmoe.experiments import experiment
from hmoe.store import Store

PAGES = [str(path.relative_to(book.PROJECT).with_suffix(".html")) for path in book.sources()]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
READERS = {
    f"{name}, {mode}": (size, mode)
    for name, size in (("desktop", DESKTOP), ("phone", PHONE))
    for mode in ("light", "dark")
}
# Sphinx-thebe declares the same constant twice on every page; nothing of it is used.
KNOWN_ERRORS = {"Identifier 'THEBE_JS_URL' has already been declared"}
# Rules of axe-core that the theme itself breaks, each with the elements that do; nothing else may.
BASELINE = {
    "aria-deprecated-role": r"#id\d+",  # docutils gives entries of a bibliography the role doc-biblioentry
    "aria-required-children": r"\.citation-list",  # and puts them into a list, which wants listitems
}
RESULTS = book.PROJECT / "results"
LIMIT = 2_000_000  # bytes that a page may weigh without its audio


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book, with the project's own records; what is up to date is not built again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HMOE_RESULTS", str(RESULTS))
        return book.build().parent


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Visit:
    """A page as it was loaded: the page itself, and whatever went wrong on the way."""

    def __init__(self, context: BrowserContext, site: str, path: str) -> None:
        self.site, self.problems = site, []
        self.page: Page = context.new_page()
        self.page.on("request", self.request)
        self.page.on("console", self.console)
        self.page.on("pageerror", self.error)
        response = self.page.goto(f"{site}/{path}", wait_until="load")
        if response is None or response.status != 200:
            self.problems.append(f"status {response and response.status}")
        self.page.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
        self.page.evaluate("window.MathJax ? MathJax.startup.promise.then(() => null) : null")
        self.page.wait_for_load_state("networkidle")

    def request(self, request: Request) -> None:
        if not request.url.startswith((self.site, "data:", "blob:")):
            self.problems.append(f"asks another host: {request.url}")

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and message.text not in KNOWN_ERRORS:
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def error(self, error: Error) -> None:
        if error.message not in KNOWN_ERRORS:
            self.problems.append(f"script: {error.message}")


@pytest.fixture(scope="session")
def readers(browser: Browser) -> dict[str, BrowserContext]:
    """At a desk and with a phone, by day and by night; each keeps what it has fetched, as readers' browsers do."""
    contexts = {
        reader: browser.new_context(viewport=size, color_scheme=mode) for reader, (size, mode) in READERS.items()
    }
    for context in contexts.values():
        context.set_default_timeout(120_000)  # a busy machine is no fault of the book
    return contexts


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: Path(path).stem)
def test_page(path: str, reader: str, readers: dict[str, BrowserContext], html: Path, site: str) -> None:
    """One visit, all properties of the page: loading it is what takes the time."""
    visit = Visit(readers[reader], site, path)
    page = visit.page
    assert not visit.problems
    assert sum(transferred(html / name) for name in {path, *page.evaluate(FETCHED)}) < LIMIT
    assert page.evaluate(UNSEEN_IMAGES) == []
    assert page.evaluate(RAW_FORMULAS) == []
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(DANGLING_ANCHORS) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate(WITHOUT_RECORD) == []
    assert page.evaluate(WARNINGS) == []
    assert violations(page) == {}
    page.close()


FETCHED = "() => performance.getEntriesByType('resource').map(entry => new URL(entry.name).pathname.slice(1))"


@cache
def transferred(file: Path) -> int:
    """Bytes of a file on its way to a reader, as servers compress it; sound within a page does not count."""
    content = re.sub(rb'src="data:audio/[^"]*"', b"", file.read_bytes())
    return min(len(content), len(gzip.compress(content)))


UNSEEN_IMAGES = """() => [
    ...[...document.querySelectorAll("main img")]
        .filter(img => !(img.alt && img.complete && img.naturalWidth > 0)).map(img => img.src.slice(0, 80)),
    ...[...document.querySelectorAll("main figure svg, main .output svg:not(button svg)")]
        .filter(svg => !svg.getAttribute("aria-label")).map(svg => svg.outerHTML.slice(0, 80)),
]"""

RAW_FORMULAS = r"""() => {
    const found = [...document.querySelectorAll(".math")].filter(math => !math.querySelector("mjx-container"))
        .map(math => math.textContent);
    const failed = [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map(e => e.outerHTML.slice(0, 120));
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (!node.parentElement.closest("pre, code, script, style, mjx-container, svg")
            && /\$[^$]*[\\_^{][^$]*\$|\\[(\[]|\\(frac|mathbf|sum)\b/.test(node.data)) found.push(node.data);
    }
    return [...found, ...failed];
}"""

WITHOUT_RECORD = """() => [...document.querySelectorAll("figure.hmoe-figure")]
    .filter(figure => !figure.querySelector(".hmoe-record")).map(figure => figure.innerText.slice(-200))"""

WARNINGS = """() => [...document.querySelectorAll(".output.stderr")].map(warning => warning.innerText.slice(0, 200))"""

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

DANGLING_ANCHORS = """() => [...document.querySelectorAll("main a[href^='#']")]
    .map(a => decodeURIComponent(a.getAttribute("href").slice(1)))
    .filter(name => name && !document.getElementById(name))"""


def violations(page: Page) -> dict[str, list[str]]:
    """WCAG A and AA, by rule: the elements that break it, those of the baseline apart."""
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    found = Axe().run(page, options=options).response["violations"]
    kept = {
        rule["id"]: [
            node["html"][:160]
            for node in rule["nodes"]
            if not re.fullmatch(BASELINE.get(rule["id"], ""), node["target"][0])
        ]
        for rule in found
    }
    return {rule: nodes for rule, nodes in kept.items() if nodes}


def test_next_visits_every_page_once_and_previous_leads_back(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/index.html")
    page.wait_for_url(f"{site}/{PAGES[0]}")
    for path in PAGES[1:]:
        page.click("a.right-next")
        assert page.url == f"{site}/{path}"
    assert page.locator("a.right-next").count() == 0
    for path in reversed(PAGES[:-1]):
        page.click("a.left-prev")
        assert page.url == f"{site}/{path}"
    page.context.close()


def test_every_link_within_the_book_leads_somewhere(html: Path) -> None:
    for path in PAGES:
        text = (html / path).read_text(encoding="utf-8")
        for link in re.findall(r'href="([^"#:]+\.(?:html|csv|ipynb))(#[^"]*)?"', text):
            target = (html / path).parent / link[0]
            assert target.exists(), f"{path} links to {link[0]}"
            if len(link[1]) > 1:
                assert f'id="{link[1][1:]}"' in target.read_text(encoding="utf-8"), f"{path} links to {''.join(link)}"


def test_the_front_page_shows_the_records(html: Path) -> None:
    page = (html / PAGES[0]).read_text(encoding="utf-8")
    recorded = report.rows(Store(pages.RECORDED, RESULTS), experiment("table2"))
    assert recorded
    for row in recorded:
        verdict = row.verdict.replace("'", "’")  # as Sphinx sets it
        cells = [f"<p>{c}</p>" for c in (row.name, row.paper.get("accuracy", "–"), row.accuracy, verdict)]
        (line,) = (line for line in re.findall(r"<tr.*?</tr>", page, flags=re.DOTALL) if cells[0] in line)
        assert all(cell in line for cell in cells)


def cells(page: str, name: str) -> list[list[str]]:
    """The cells of the table of that name, row by row, as a reader sees them."""
    (figure,) = re.findall(rf'<figure[^>]*id="{name}".*?</figure>', page, flags=re.DOTALL)
    return table_cells(figure)


def table_cells(html: str) -> list[list[str]]:
    lines = re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, flags=re.DOTALL) for line in lines]
    return [[unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in line] for line in found]


TABLES = [  # of recorded accuracies, a line a row: the chapter, the name of the table, the experiment
    ("11-peers", "tab-peers", "table2"),
    ("12-ablation", "tab-ablation", "table3"),
    ("13-sensitivity", "tab-d-state", "figure2"),
    ("13-sensitivity", "tab-d-selected", "figure3"),
    ("14-augmentation", "tab-augmentation", "figure4"),
    ("16-baselines", "tab-baselines", "baselines"),
    ("17-protocols", "tab-protocols", "protocols"),
    ("20-new-speakers", "tab-speakers", "speakers"),
]


@pytest.mark.parametrize(("chapter", "name", "of"), TABLES, ids=[f"{each[0]}, {each[1]}" for each in TABLES])
def test_a_chapter_shows_the_records(chapter: str, name: str, of: str, html: Path) -> None:
    shown = {line[0]: line for line in cells(chapter_text(html, chapter), name)}
    for row in experiment(of).rows:
        assert row.name in shown or of == "speakers"  # which lists what is recorded
    recorded = report.rows(Store(pages.RECORDED, RESULTS), experiment(of))
    assert recorded
    for row in recorded:
        assert str(row.accuracy) in shown[row.name]
        assert str(row.accuracy).startswith(f"{row.trials['accuracy'].mean():.1f}")


def test_chapters_that_turn_a_table_show_the_records(html: Path) -> None:
    """Rows named "model, condition" by condition and model; rows of known and of new speakers side by side."""
    store, known = Store(pages.RECORDED, RESULTS), "stratified 5-fold"
    head, *lines = cells(chapter_text(html, "18-robustness"), "tab-conditions")
    shown = {f"{model}, {line[0]}": cell for line in lines for model, cell in zip(head, line, strict=True)}
    for row in report.rows(store, experiment("robustness")):
        assert shown[row.name] == f"{row.trials['accuracy'].mean():.1f}"
    head, *lines = cells(chapter_text(html, "22-parrot"), "tab-parrot")
    shown = {(line[0], title): cell for line in lines for title, cell in zip(head, line, strict=True)}
    for row in report.rows(store, experiment("parrot")):
        name = row.name.removesuffix(", new speaker")
        assert shown[name, known if name == row.name else "new speaker"] == str(row.accuracy)


def test_the_chapter_of_encoders_shows_each_alone_under_both_protocols(html: Path) -> None:
    head, *lines = cells(chapter_text(html, "21-encoders"), "tab-encoders")
    shown = {(line[0], title): cell for line in lines for title, cell in zip(head, line, strict=True)}
    alone = [row for row in report.rows(Store(pages.RECORDED, RESULTS), experiment("parrot")) if "+" not in row.name]
    for row in alone:
        name = row.name.removesuffix(", new speaker")
        assert shown[name, "stratified 5-fold" if name == row.name else "new speaker"] == str(row.accuracy)
    assert len({row.name.removesuffix(", new speaker") for row in alone}) == len(lines) - 1  # a line names the index


def test_the_page_of_claims_shows_every_measurement(html: Path) -> None:
    page = (html / "book" / "claims.html").read_text(encoding="utf-8")
    records = claims.Records(Store(pages.RECORDED, RESULTS))
    for claim in claims.claims():
        (section,) = re.findall(rf'<span id="claim-{claim.id.lower()}"></span>.*?</section>', page, flags=re.DOTALL)
        shown = table_cells(section)[1:]
        measured = [[each.what, each.paper, each.ours, str(each.verdict)] for each in claims.evidence(claim, records)]
        assert shown == [[typeset(cell) for cell in line] for line in measured]


def typeset(text: str) -> str:
    """As Sphinx sets it: with curled apostrophes."""
    return text.replace("'", "’")


def chapter_text(html: Path, chapter: str) -> str:
    return (html / "notebooks" / f"{chapter}.html").read_text(encoding="utf-8")


def test_measured_costs_are_those_of_the_records(html: Path) -> None:
    for chapter, name, record, column, form in (
        ("07-mamba", "tab-scan", "scan", "processor_times", "{:.3f}"),
        ("19-cost", "tab-models", "cost-rows", "ms", "{:.2f}"),
        ("19-cost", "tab-real-time", "cost-real-time", "total", "{:.4f}"),
    ):
        shown = cells(chapter_text(html, chapter), name)
        recorded = pd.read_csv(RESULTS / "bench" / f"{record}.csv")
        shown = shown[-len(recorded) :]  # beneath the head
        for line, value in zip(shown, recorded[column], strict=True):
            assert (form.format(value) if value == value else "not run") in line


@pytest.mark.parametrize("word", ["routing", "utterance"])
def test_search_finds(word: str, browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/search.html?q={word}")
    page.wait_for_selector("#search-results ul.search li a")
    assert page.locator("#search-results ul.search li").count() > 0
    page.context.close()


def test_the_readers_choice_of_dark_is_kept(browser: Browser, site: str) -> None:
    page = browser.new_page(color_scheme="light", viewport=DESKTOP)
    page.goto(f"{site}/{PAGES[1]}")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(3):  # auto, light, dark
        if page.evaluate("document.documentElement.dataset.theme") != "dark":
            page.click("button.theme-switch-button")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.goto(f"{site}/{PAGES[2]}")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.context.close()
