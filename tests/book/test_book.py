"""The rendered book as a whole: its links, its search, and that what it shows is what was recorded."""

from __future__ import annotations

import os
import re
from html import escape, unescape
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser
from reading import COLOURS, DESKTOP, PAGES, PHONE, RESULTS, switch, violations

from hmoe.study import claims, report
from hmoe.study.experiments import experiment
from hmoe.study.store import Store
from hmoe_book import exhibit, pages, prose


def leads(html: Path, page: str, link: str) -> list[str]:
    """Where links of that form lead to from a page."""
    found = re.findall(link, (html / page).read_text(encoding="utf-8"))
    return [os.path.relpath(html / Path(page).parent / target, html) for target in found]


def test_next_visits_every_page_once_and_previous_leads_back(html: Path) -> None:
    following, before = (rf'class="{name}"\s+href="([^"]+)"' for name in ("right-next", "left-prev"))
    assert leads(html, "index.html", r'http-equiv="Refresh" content="0; url=([^"]+)"') == PAGES[:1]
    assert [leads(html, page, following) for page in PAGES] == [*([page] for page in PAGES[1:]), []]
    assert [leads(html, page, before) for page in PAGES] == [[], *([page] for page in PAGES[:-1])]


def test_every_link_within_the_book_leads_somewhere(html: Path) -> None:
    for path in PAGES:
        text = (html / path).read_text(encoding="utf-8")
        for link in re.findall(r'href="([^"#:]+\.(?:html|csv|ipynb))(#[^"]*)?"', text):
            target = (html / path).parent / link[0]
            assert target.exists(), f"{path} links to {link[0]}"
            if len(link[1]) > 1:
                assert f'id="{link[1][1:]}"' in target.read_text(encoding="utf-8"), f"{path} links to {''.join(link)}"


def test_the_front_page_shows_the_records(html: Path) -> None:
    page = (html / PAGES[0]).read_text(encoding="utf-8").replace("\xa0", " ")
    for row in report.rows(Store(pages.RECORDED, RESULTS), experiment("table2")):
        verdict = prose.marked(row.judge("accuracy")) if row.paper else "–"
        said = (row.name, row.paper.get("accuracy", "–"), row.accuracy, verdict)
        cells = [f"<p>{escape(str(c), quote=False)}</p>" for c in said]
        (line,) = (line for line in re.findall(r"<tr.*?</tr>", page, flags=re.DOTALL) if cells[0] in line)
        assert all(cell in line for cell in cells)


def cells(page: str, name: str) -> list[list[str]]:
    """The cells of the table of that name, row by row, as a reader sees them."""
    (figure,) = re.findall(rf'<figure[^>]*id="{name}".*?</figure>', page, flags=re.DOTALL)
    return table_cells(figure)


def table_cells(html: str) -> list[list[str]]:
    lines = re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, flags=re.DOTALL) for line in lines]

    def read(cell: str) -> str:
        """Without its tags; an interval that does not break and a number that is padded are as any other."""
        return unescape(re.sub(r"<[^>]*>", "", cell)).replace("\xa0", " ").replace("\u2007", "").strip()

    return [[read(cell) for cell in line] for line in found]


LISTED = ("speakers", "protocols")  # whose tables list what is recorded
TABLES = [  # of recorded accuracies, a line a row: the chapter, the name of the table, the experiment
    ("11-peers", "tab-peers", "table2"),
    ("12-ablation", "tab-ablation", "table3"),
    ("12-ablation", "tab-ablation-frames", "table3_frames"),
    ("12-ablation", "tab-controls", "controls_frames"),
    ("13-sensitivity", "tab-d-state-frames", "figure2_frames"),
    ("13-sensitivity", "tab-d-selected-frames", "figure3_frames"),
    ("13-sensitivity", "tab-ambiguities-frames", "ambiguities_frames"),
    ("14-augmentation", "tab-augmentation-frames", "figure4_frames"),
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
        assert exhibit.displayed(row.name) in shown or of in LISTED
    for row in report.rows(Store(pages.RECORDED, RESULTS), experiment(of)):
        (_, *line), mean = shown[exhibit.displayed(row.name)], f"{row.trials['accuracy'].mean():.1f}"
        by_speaker = [f"{each:.1f}" for each in row.accuracy.parts.values()]
        assert str(row.accuracy) in line or (by_speaker and line[: len(by_speaker) + 1] == [*by_speaker, mean])
        assert str(row.accuracy).startswith(mean)


def test_chapters_that_turn_a_table_show_the_records(html: Path) -> None:
    """Rows named "model, condition" by condition and model; rows of seen and of unseen speakers side by side."""
    store, known = Store(pages.RECORDED, RESULTS), "stratified 5-fold"
    head, *lines = cells(chapter_text(html, "18-robustness"), "tab-conditions")
    shown = {f"{model}, {line[0]}": cell for line in lines for model, cell in zip(head, line, strict=True)}
    for row in report.rows(store, experiment("robustness")):
        assert shown[row.name] == str(row.accuracy)
    head, *lines = cells(chapter_text(html, "22-parrot"), "tab-parrot")
    shown = {(line[0], title): cell for line in lines for title, cell in zip(head, line, strict=True)}
    for row in report.rows(store, experiment("parrot")):
        name = row.name.removesuffix(", unseen speaker")
        assert shown[name, known if name == row.name else "unseen speaker"] == str(row.accuracy)


def test_the_chapter_of_encoders_shows_each_alone_under_both_protocols(html: Path) -> None:
    head, *lines = cells(chapter_text(html, "21-encoders"), "tab-encoders")
    shown = {(line[0], title): cell for line in lines for title, cell in zip(head, line, strict=True)}
    alone = [row for row in report.rows(Store(pages.RECORDED, RESULTS), experiment("parrot")) if "+" not in row.name]
    for row in alone:
        name = row.name.removesuffix(", unseen speaker")
        assert shown[name, "stratified 5-fold" if name == row.name else "unseen speaker"] == str(row.accuracy)
    names = {row.name for row in experiment("parrot").rows if "+" not in row.name and row.protocol != "speaker"}
    assert {line[0] for line in lines} == names  # those too that are not recorded yet


def test_the_page_of_claims_shows_every_measurement(html: Path) -> None:
    page = (html / "book" / "claims.html").read_text(encoding="utf-8")
    records = claims.Records(Store(pages.RECORDED, RESULTS))
    for claim in claims.claims():
        (section,) = re.findall(rf'<details[^>]*id="claim-{claim.id.lower()}".*?</details>', page, flags=re.DOTALL)
        verdict, lines = claims.judged(claim, records)
        shown = table_cells(section)[1:]
        measured = [[each.what, each.paper, each.ours, each.detectable] for each in lines]
        assert shown == [[typeset(cell) for cell in line] for line in measured]
        assert f"<strong>{claim.id} {verdict.word}</strong>" in section and prose.marked(verdict) in section


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


@pytest.mark.parametrize("path", [PAGES[0], "notebooks/07-mamba.html"])
def test_on_a_phone_colours_are_told_apart_as_on_a_desk(path: str, browser: Browser, site: str) -> None:
    """On pages of either kind; on a desk every page is tested."""
    page = browser.new_page(viewport=PHONE)
    page.goto(f"{site}/{path}")
    for mode in ("light", "dark"):
        switch(page, mode)
        assert violations(page, COLOURS) == {}
    page.context.close()
