"""A page of the rendered book as a reader meets it: what it weighs, shows, asks for, and whom it shuts out."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request

from hmoe_book import build as book

PAGES = [str(path.relative_to(book.PROJECT).with_suffix(".html")) for path in book.sources()]
DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
COLOURS = ["color-contrast", "link-in-text-block"]  # the rules of axe-core that depend on the mode
RESULTS = book.PROJECT / "results"
# Sphinx-thebe declares the same constant twice on every page; nothing of it is used.
KNOWN_ERRORS = {"Identifier 'THEBE_JS_URL' has already been declared"}
# Rules of axe-core that the theme itself breaks, each with the elements that do; nothing else may.
BASELINE = {
    "aria-deprecated-role": r"#id\d+",  # docutils gives entries of a bibliography the role doc-biblioentry
    "aria-required-children": r"\.citation-list",  # and puts them into a list, which wants listitems
}
TALLEST, TALLEST_RESULTS = 20_000, 9_000  # pixels of a page; of a chapter of results at a desk
OF_RESULTS = re.compile(r"notebooks/(08|1[1-9]|2[0124])-")
"""Chapters that answer a claim: their first screen holds the figure and the result in a sentence."""
WORDS = yaml.safe_load((Path(__file__).parent / "book" / "words.yml").read_text(encoding="utf-8"))
LIMIT = 2_000_000  # bytes that a page may weigh without its audio


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
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function("!window.MathJax || MathJax.startup?.promise.then(() => true)")

    def request(self, request: Request) -> None:
        if not request.url.startswith((self.site, "data:", "blob:")):
            self.problems.append(f"asks another host: {request.url}")

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and message.text not in KNOWN_ERRORS:
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def error(self, error: Error) -> None:
        if error.message not in KNOWN_ERRORS:
            self.problems.append(f"script: {error.message}")


class Pages:
    """Pages on a desk and on a phone, by day and by night: a class of tests for some of the `paths` inherits these."""

    paths: list[str]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("path", self.paths, ids=lambda path: Path(path).stem)

    @pytest.fixture(scope="class")
    def context(self, browser: Browser) -> BrowserContext:
        """It keeps what it has fetched, as a reader's browser does."""
        context = browser.new_context(viewport=DESKTOP, color_scheme="light")
        context.set_default_timeout(120_000)  # a busy machine is no fault of the book
        return context

    def test_page(self, path: str, context: BrowserContext, html: Path, site: str) -> None:
        """One visit, all properties of the page: loading it is what takes the time."""
        visit = Visit(context, site, path)
        page = visit.page
        assert not visit.problems
        assert sum(transferred(html / name) for name in {path, *page.evaluate(FETCHED)}) < LIMIT
        assert page.evaluate(UNSEEN_IMAGES) == []
        assert page.evaluate(RAW_FORMULAS) == []
        assert page.evaluate(DANGLING_ANCHORS) == []
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.evaluate(WITHOUT_RECORD) == []
        assert page.evaluate(WARNINGS) == []
        assert page.evaluate(EMPTY_HEADERS) == []
        assert unwanted(page.evaluate(PROSE)) == []
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            switch(page, "light")
            if OF_RESULTS.match(path):
                begins(page, size["height"], whole=size == DESKTOP)
            check(page)
            assert violations(page, colours=size == DESKTOP) == {}  # on a phone they are the same: see test_book
        page.set_viewport_size(DESKTOP)
        switch(page, "dark")
        assert violations(page, COLOURS) == {}
        page.close()


def check(page: Page) -> None:
    """What depends on the size of the screen."""
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(HIDDEN_WAY) == []
    page.evaluate("document.querySelectorAll('main details').forEach(details => details.open = true)")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate(CUT) == []
    page.evaluate("document.querySelectorAll('main details').forEach(details => details.open = false)")
    assert page.evaluate("document.documentElement.scrollHeight") < TALLEST
    assert page.evaluate(STUCK) == []


def begins(page: Page, height: int, whole: bool) -> None:
    """The first screen of a chapter of results: the `whole` figure and the result's sentence, or the figure's top."""
    first = page.evaluate(FIRST)
    assert first["top"] < height
    if whole:
        assert first["bottom"] <= height and first["said"] <= height
        assert page.evaluate("document.documentElement.scrollHeight") < TALLEST_RESULTS


def unwanted(text: str) -> list[str]:
    """The phrases of a page that `words.yml` says otherwise."""
    text = " ".join(text.split())
    return [hit[0] for word in WORDS for each in word["not"] for hit in re.finditer(each, text, flags=re.IGNORECASE)]


def switch(page: Page, mode: str) -> None:
    """To the colours of the day or of the night, as the theme does it for the reader's system."""
    page.add_style_tag(content="*, ::before, ::after { transition: none !important }")  # no colour on its way
    page.emulate_media(color_scheme=mode)
    page.evaluate("mode => { document.documentElement.dataset.theme = mode }", mode)
    page.evaluate("() => new Promise(requestAnimationFrame)")


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

EMPTY_HEADERS = """() => [...document.querySelectorAll("main th")].filter(header => !header.textContent.trim())
    .map(header => header.closest("table").innerText.slice(0, 100))"""

# Code and tables that scroll sideways; a figure may, where it would else be too small to read.
CUT = """() => [...document.querySelectorAll("main pre, main table")]
    .map(e => e.tagName === "PRE" ? e : e.closest(".hmoe-scroll, .pst-scrollable-table-container, .output") ?? e)
    .filter(box => box.clientWidth > 0 && box.scrollWidth > box.clientWidth + 1)
    .map(box => box.scrollWidth + " > " + box.clientWidth + ": " + box.innerText.slice(0, 100))"""

# Sliders that move nothing: at any time one frame of a figure is seen, and another place shows another.
STUCK = """() => [...document.querySelectorAll(".hmoe-slider")].flatMap(box => {
    const seen = () => [...box.querySelectorAll(".hmoe-frame")].filter(frame => frame.checkVisibility());
    return [...box.querySelectorAll("input")].filter(knob => {
        const [before, said] = [seen(), knob.nextElementSibling.textContent];
        knob.value = knob.value === knob.max ? 0 : knob.max;
        knob.dispatchEvent(new Event("input"));
        const after = seen();
        return before.length !== 1 || after.length !== 1 || before[0].innerHTML === after[0].innerHTML
            || knob.nextElementSibling.textContent === said;
    }).map(knob => knob.parentElement.textContent);
})"""

# Where the first figure begins and ends, and where the first sentence in bold that a cell says ends.
FIRST = """() => {
    const figure = [...document.querySelectorAll("main figure.hmoe-figure svg[aria-label]")]
        .find(svg => svg.checkVisibility()).getBoundingClientRect();
    const said = document.querySelector("main .cell_output :is(p, li):has(> strong, > p > strong)")
        ?? document.querySelector("main .cell_output p");  // that nothing is recorded yet
    return {top: figure.top + scrollY, bottom: figure.bottom + scrollY,
        said: said.getBoundingClientRect().bottom + scrollY};
}"""

# What a page says, folded or not, and what its figures say to those who cannot see them; not code, nor file names.
PROSE = """() => {
    const main = document.querySelector("main").cloneNode(true);
    main.querySelectorAll("pre, code, script, style").forEach(element => element.remove());
    const labels = [...main.querySelectorAll("[aria-label]")].map(element => element.getAttribute("aria-label"));
    return [main.textContent, ...labels].join(" ");
}"""

# Where they lead is read from the pages, see test_book.
HIDDEN_WAY = """() => [...document.querySelectorAll("a.right-next, a.left-prev")]
    .filter(a => !a.checkVisibility() || !a.getBoundingClientRect().width).map(a => a.href)"""

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

DANGLING_ANCHORS = """() => [...document.querySelectorAll("main a[href^='#']")]
    .map(a => decodeURIComponent(a.getAttribute("href").slice(1)))
    .filter(name => name && !document.getElementById(name))"""


WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
# A page has thousands of tokens of code in some twenty colours: axe-core looks at one of each, the others it takes for
# hidden.
REPEATED = """() => {
    const seen = new Set();
    for (const token of document.querySelectorAll(".highlight span")) {
        if (token.childElementCount || !token.checkVisibility()) continue;
        const kinds = [];
        for (let box = token; box; box = box.parentElement) kinds.push(box.className);
        token.ariaHidden = seen.has(kinds.join("/"));
        seen.add(kinds.join("/"));
    }
}"""


def violations(page: Page, rules: Sequence[str] = WCAG, colours: bool = True) -> dict[str, list[str]]:
    """WCAG A and AA, or some of its rules: by rule the elements that break it, those of the baseline apart."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(Axe().axe_script)
    page.evaluate(REPEATED)
    options = {"runOnly": list(rules), "rules": {} if colours else {rule: {"enabled": False} for rule in COLOURS}}
    ask = "options => axe.run({resultTypes: ['violations'], ...options})"
    found = page.evaluate(ask, options)["violations"]
    kept = {
        rule["id"]: [
            node["html"][:160]
            for node in rule["nodes"]
            if not re.fullmatch(BASELINE.get(rule["id"], ""), node["target"][0])
        ]
        for rule in found
    }
    return {rule: nodes for rule, nodes in kept.items() if nodes}
