"""Tables that a chapter shows: a caption, a line of provenance, and a directive that Sphinx can read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import reading
from playwright.sync_api import Browser

from hmoe.base.files import PROJECT
from hmoe.study import costs
from hmoe.study.experiments import TABLE_2
from hmoe_book import exhibit, figures

RESULTS = PROJECT / "results"


def test_a_table_brings_its_caption_and_record_wherever_it_is_shown() -> None:
    frame = pd.DataFrame({"accuracy": [81.25, float("nan")]}, index=["one", "two"])
    table = exhibit.Table(frame, "A < caption.", "results/c/x.csv: 3 trials", "tab-x").format("{:.1f}", na_rep="–")
    shown = table._repr_mimebundle_()
    assert "81.2" in shown["text/html"] and "A &lt; caption." in shown["text/html"]
    assert "results/c/x.csv: 3 trials" in shown["text/html"]
    first, said, *html, last = shown["text/markdown"].strip().split("\n")
    assert (first, last) == ("::::{tabular} tab-x", "::::")
    assert json.loads(said) == {"caption": "A < caption.", "record": "results/c/x.csv: 3 trials"}
    assert any("81.2" in line for line in html)
    hidden = table.hide(["accuracy"], axis="columns")._repr_mimebundle_()
    assert "81.2" not in hidden["text/html"] and "tab-x" in hidden["text/markdown"]


def test_a_table_has_one_row_of_headers_and_none_is_empty() -> None:
    frame = pd.DataFrame({"a": [1], "acc_b": [2]}, index=pd.Index(["x"], name="row"))
    html = exhibit.Table(frame)._repr_mimebundle_()["text/html"]
    head = html[html.index("<thead>") : html.index("</thead>")]
    assert head.count("<tr>") == 1
    assert [" ".join(each.split()) for each in re.findall(r"<th[^>]*>(.*?)</th>", head)] == ["row", "a", "b"]


@pytest.mark.parametrize("columns", [pd.Index(["a"], name="window"), pd.MultiIndex.from_tuples([("over", "a")])])
def test_the_first_column_is_headed_by_the_name_of_the_rows(columns: pd.Index) -> None:
    html = exhibit.Table(pd.DataFrame([[1]], pd.Index(["x"], name="layer"), columns))._repr_mimebundle_()["text/html"]
    head = html[: html.index("</thead>")].rpartition("<tr>")[2]
    assert re.findall(r"<th[^>]*>(\w+)\s*</th>", head) == ["layer", "a"]


def test_as_a_list_each_cell_has_its_column_though_a_cell_above_reaches_down(browser: Browser) -> None:
    index = pd.MultiIndex.from_product([["one", "two"], [1, 3]], names=["interval", "seeds"])
    table = exhibit.Table(pd.DataFrame({"mean": 4 * [1], "half-width": 4 * [2]}, index))
    script = (PROJECT / "book" / "assets" / "hmoe.js").read_text(encoding="utf-8")
    page = browser.new_page(viewport=reading.PHONE)
    shown = table._repr_mimebundle_()["text/html"].replace(
        "hmoe-scroll", 'hmoe-scroll" style="width: 9rem; overflow: auto'
    )
    page.set_content(f"<main>{shown}</main><script>{script}</script>")
    rows = page.evaluate("[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.dataset.column))")
    page.close()
    assert rows == [[*first, "seeds", "mean", "half-width"] for first in ([None], [], [None], [])]


def test_a_figure_without_a_caption_is_read_back_whole() -> None:
    said, drawing = figures.directive("drawing", "<svg/>", "", "", "").split("\n")[1:3]
    assert (json.loads(said), drawing) == ({"caption": "", "record": ""}, "<svg/>")


def test_only_a_table_with_a_reference_row_names_it() -> None:
    assert TABLE_2.reference in exhibit.accuracies([], TABLE_2).said[0]
    assert TABLE_2.reference not in exhibit.accuracies([], replace(TABLE_2, reference="")).said[0]


def test_rows_that_are_not_recorded_say_so() -> None:
    assert exhibit.recorded([], TABLE_2) == "Nothing recorded yet."


@pytest.mark.parametrize("name", ["scan", "cost-length"])
def test_a_measurement_says_how_many_on_what_at_which_commit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMOE_RESULTS", str(RESULTS))
    table, line = costs.measured(name)
    recorded = pd.read_csv(RESULTS / "bench" / f"{name}.csv")
    assert len(table) == len(recorded)
    assert line.startswith(f"results/bench/{name}.csv: {len(recorded)} measurements")
    assert all(commit in line for commit in recorded["commit"].unique())


def test_without_a_measurement_the_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path))
    table, line = costs.measured("scan")
    assert not len(table) and line.startswith("Nothing recorded yet")


def test_a_commit_of_digits_alone_is_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path))
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "scan.csv").write_text("commit,date,machine\n0362404806,2026-11-27T23:53Z,a CPU\n")
    assert "commit 0362404806," in costs.measured("scan")[1]


def test_idle_parameters_are_listed_with_their_sum() -> None:
    counts = pd.DataFrame({"numbers": [4000, 10], "idle": [1000, 0]}, index=["A", "b"])
    html = exhibit.idle(counts, "", "")._repr_mimebundle_()["text/html"]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in html.split("</tr>")[1:3]]
    assert rows == [["A", "4,000", "1,000", "25%"], ["in all", "4,010", "1,000", "25%"]]


def test_docstrings_and_comments_of_shown_code_fit_a_page() -> None:
    words = " ".join(f"word{n}" for n in range(15))
    code = f'def f():\n    """{words}.\n\n    {words}\n    """\n    # {words}\n    return "{words}"'
    *shown, last = exhibit.filled(code).split("\n")
    assert max(map(len, shown)) <= exhibit.COLUMNS < len(last)  # a value is left as it is
    assert len(shown) == 9 and all(line.startswith("    ") for line in shown[1:] if line)
    assert [line.split()[0] for line in shown[-2:]] == ["#", "#"]
    assert exhibit.filled("x = 1") == "x = 1"


def test_a_docstring_that_is_wrapped_flows_to_the_end_of_its_paragraph_and_no_further() -> None:
    long = " ".join(["word"] * 20)
    code = f'def f():\n    """Short.\n\n    {long}\n    on and\n    on.\n    - item\n\n    last\n    """'
    assert exhibit.filled(code).split("\n")[4:] == [
        "    word word word on and on.",
        "    - item",
        "",
        "    last",
        '    """',
    ]


def test_a_truth_is_shown_as_yes_or_no() -> None:
    frame = pd.DataFrame({"agrees": [True, False], "n": [1, 0], "mixed": [True, 3]}, index=["a", "b"])
    shown = exhibit.aligned(frame)
    assert list(shown["agrees"]) == ["yes", "no"] and list(shown["n"]) == [1, 0] and list(shown["mixed"]) == [True, 3]
