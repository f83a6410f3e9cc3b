"""Pages made from data: the deviations fit the configuration, and shown numbers are the recorded ones."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from records import write

from hmoe.base.files import PROJECT
from hmoe.config import Config
from hmoe.study import claims, report
from hmoe.study.experiments import experiment
from hmoe.study.store import Store
from hmoe_book import build, pages, questions

ENTRIES = questions.entries()
DEFAULT = json.loads(Config().model_dump_json())


def test_the_questions_are_numbered_without_a_gap() -> None:
    assert [entry["id"] for entry in ENTRIES] == [f"Q{i}" for i in range(1, len(ENTRIES) + 1)]
    assert len(ENTRIES) >= 19


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_a_switch_is_a_field_whose_default_comes_first(entry: dict) -> None:
    for field, values in entry.get("switches", {}).items():
        assert values[0] == DEFAULT[field]
        for value in values:
            Config(**{field: value})  # refuses what is not allowed
    for name, row, *_ in entry.get("effect", []):
        assert experiment(name).row(row)


def test_what_another_corpus_decided_is_shown_from_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path))
    rows = [f"80 ms, {width} channels, dropout 0.3, paper's schedule" for width in (128, 64)]
    for row, accuracy in zip(rows, (73.3, 65.6), strict=True):
        write(Store("ravdess"), "selection_ravdess", row, [accuracy])
    text = questions.page(claims.Records(Store("casia")))
    assert f"{rows[0]} 73.3" in text and f"{rows[1]} −7.7" in text


def test_every_question_that_the_configuration_names_is_on_the_page() -> None:
    source = (PROJECT / "hmoe" / "config.py").read_text()
    text = questions.page(claims.Records(Store("nothing-recorded")))
    for entry in ENTRIES:
        assert f"## {entry['id']} · " in text
    for i in range(1, 40):
        if f"Q{i}:" in source:
            assert f"## Q{i} · " in text


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_a_question_is_previewed_as_plain_text_where_it_is_cited(entry: dict) -> None:
    shown = questions.preview(entry["id"].lower())
    assert shown.startswith(f"{entry['id']}. ") and questions.plain(entry["default"]) in shown
    assert not re.search(r"[{}`*\n]|\]\(", shown)
    link = f'<a class="reference internal" href="../book/deviations.html#{entry["id"].lower()}">Q</a>'
    assert f'data-preview="{html.escape(shown)}"' in build.polished(link)


def test_without_records_the_front_page_has_no_number(tmp_path: Path) -> None:
    assert not re.search(r"\d|\|", pages.headline(Store("casia", tmp_path)))


def test_the_front_page_shows_the_recorded_numbers() -> None:
    store = Store("casia", PROJECT / "results")
    text, rows = pages.headline(store), report.rows(store, experiment("table2"))
    assert rows
    for row in rows:
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {row.name} |"))
        assert str(row.accuracy) in line
        assert not row.paper or str(row.judge("accuracy").word or "no verdict") in line


def test_filling_replaces_what_stands_between_the_marks_and_nothing_else() -> None:
    text = "before\n<!-- results:start -->\nold\n<!-- results:end -->\nafter\n"
    filled = pages.fill(text, "new\n")
    assert filled == "before\n<!-- results:start -->\nnew\n<!-- results:end -->\nafter\n"
    assert pages.fill(filled, "new\n") == filled
    assert pages.fill("no marks", "new\n") == "no marks"


def test_the_cost_of_the_paper_is_the_one_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = (PROJECT / "results" / "bench" / "paper.csv").read_text()
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path))
    assert not re.search(r"\d", pages.paper_cost())
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "paper.csv").write_text(recorded)
    whole = pd.read_csv(tmp_path / "bench" / "paper.csv").iloc[-1]
    said = pages.paper_cost()
    assert f" {whole['total_s'] / 3600:.1f} hours" in said and f" {whole['trials']:.0f} " in said
    dearest = pd.read_csv(tmp_path / "bench" / "paper.csv").iloc[:-1].nlargest(5, "total_s")
    minutes = [f" {line.row.rpartition(': ')[2]} {line.total_s / 60:.0f}" for line in dearest.itertuples()]
    assert [said.index(each) for each in minutes] == sorted(said.index(each) for each in minutes)
