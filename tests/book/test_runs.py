"""The page of all runs counts every recorded trial; what a results chapter folds and where Binder is offered."""

from __future__ import annotations

import nbformat
import pandas as pd
import pytest
import yaml

from hmoe.base.files import PROJECT
from hmoe.study.store import Store
from hmoe_book import build as book
from hmoe_book import runs

ROOT = PROJECT
RECORDS = [path for path in runs.records(ROOT / "results") if path.parent.name != "bench"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recorded_trial_is_counted_once(path) -> None:  # noqa: ANN001 (a Path of the list above)
    trials = Store(path.parent.name, ROOT / "results").read(path.stem)
    assert len(trials)
    lines = runs.grouped(trials)
    assert lines["trials"].sum() == len(trials)
    assert lines["tested"].sum() == trials["n_test"].sum()
    assert set(lines["commit"]) == set(trials["commit"])


def test_trials_of_another_commit_stand_on_a_line_of_their_own() -> None:
    trials = Store("casia", ROOT / "results").read("table2").head(2)
    assert len(trials) == 2
    changed = pd.concat([trials, trials.assign(commit="0123456789")])
    assert len(runs.grouped(changed)) == 2 * len(runs.grouped(trials))


def test_code_is_folded_in_chapters_of_results_and_where_it_draws() -> None:
    code = ["x = 1", "figures.show(fig, alt='A line.')", "exhibit.source(Router)"]
    cells = [*map(nbformat.v4.new_code_cell, code), nbformat.v4.new_markdown_cell("Words.")]
    text = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    for chapter, folded in {
        "10-hmoe-simba": [[], ["hide-input"], ["hide-input"]],
        "11-peers": [["hide-input"], ["hide-input"], ["hide-cell"]],
    }.items():
        *shown, words = nbformat.reads(book.page(chapter, text), as_version=4).cells
        assert [cell.metadata.tags for cell in shown] == folded
        assert "tags" not in words.metadata


def test_parameters_stand_once_with_what_was_given_and_what_it_means() -> None:
    plain = nbformat.v4.new_code_cell(
        'root = ""  # where it is\nseed = 0  # of all\nk = 2', metadata={"tags": ["parameters"]}
    )
    given = nbformat.v4.new_code_cell(
        '# Parameters\nroot = "/a"\nseed = 7\nother = 1', metadata={"tags": ["injected-parameters"]}
    )
    text = nbformat.writes(nbformat.v4.new_notebook(cells=[plain, given]))
    (cell,) = nbformat.reads(book.page("02-features", text), as_version=4).cells
    assert cell.source == 'root = "/a"  # where it is\nseed = 7  # of all\nk = 2'


def test_lines_of_code_fit_a_page() -> None:
    long = f"answer = function({', '.join(f'argument_{n}=value_{n}' for n in range(9))})"
    text = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(long)]))
    (cell,) = nbformat.reads(book.page("02-features", text), as_version=4).cells
    assert max(map(len, cell.source.splitlines())) <= 88 < len(long)


@pytest.mark.parametrize(
    ("cell", "number"),
    [("82.8", True), ("<p>-7.2 [-9.1, -5.3]</p>", True), ("92.2 (90.1)", True), ("32.8 (21.7, 42.0)", True),
     ("48.6 (21.7 to 80.0, 24 speakers)", True), ("1,543,241", True), ("5 (of 9)", False), ("0.4 %", True),
     ("1.91 s", True), ("0.96 to 4.93 s", True), ("7 samples", False),
     ("p = 0.2", False), ("3 of 5", False), ("", False), ("2026-11-26", False)],
)  # fmt: skip
def test_cells_that_hold_a_number_are_marked(cell: str, number: bool) -> None:
    shown = book.polished(f'<td class="a">{cell}</td>')
    assert ("data-number" in shown) == number
    assert book.polished(shown) == shown  # what Sphinx does not write again is polished again


def test_names_of_columns_of_numbers_stand_above_the_numbers() -> None:
    rows = "<tr><th></th><th>row</th><th>accuracy</th></tr>", "<tr><td>1</td><td>a</td><td>82.8 [80.3, 85.4]</td></tr>"
    shown = book.polished(f"<table><thead>{rows[0]}</thead>{rows[1]}</table>")
    assert '<th data-number="">accuracy' in shown and "<th>row" in shown
    assert book.polished(shown) == shown
    words = "".join(
        f"<tr><td>{n}</td><td>{said}</td><td>1.0</td></tr>" for n, said in enumerate(("anger", "–", "4", "fear"))
    )
    assert book.polished(f"<table><thead>{rows[0]}</thead>{words}</table>").count("data-number") == 2 + 2 * 4
    none = f"<table><thead>{rows[0]}</thead>{rows[1]}<tr><td>2</td><td>b</td><td>–</td></tr></table>"
    assert '<td data-number="">–' in book.polished(none) and book.polished(book.polished(none)) == book.polished(none)
    across = shown.replace("<th>row", '<th colspan="2">row').replace(' data-number=""', "")
    assert "<th>accuracy" in book.polished(across)


def test_an_interval_does_not_break_and_code_stays_as_it_is() -> None:
    html = "<p>reaches 82.8 [80.1, 85.5] percent</p><pre>x = 8 [1, 2]</pre>"
    shown = book.polished(html)
    assert "82.8\xa0[80.1,\xa085.5] percent" in shown and "<pre>x = 8 [1, 2]</pre>" in shown


def test_a_header_of_nothing_is_no_header() -> None:
    html = '<tr><th class="blank level0">&nbsp;</th><th>name</th><th class="head"><p></p></th></tr>'
    assert book.polished(html).count("<th") == 1


def test_binder_and_colab_open_the_commit_that_was_built_and_are_offered_only_where_it_can_be_fetched() -> None:
    at = "https://forge.example/book"
    config = yaml.safe_dump({"title": "A book", "repository": {"url": at}})
    given = book.launched(config, "0123456789")
    assert yaml.safe_load(given)["repository"] == {"url": at, "branch": "0123456789"}
    assert {"binderhub_url", "colab_url"} <= set(yaml.safe_load(given)["launch_buttons"])
    assert book.launched(config, "0123456789+") == config  # changed since the commit
    assert book.launched("title: A book\n", "0123456789") == "title: A book\n"
    chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Words")])
    text = nbformat.writes(chapter)
    assert book.elsewhere(text, config) == text
    how = nbformat.reads(book.elsewhere(text, given), as_version=4).cells[1].source
    assert f"git clone -q {at} " in how and "checkout -q 0123456789 " in how


def test_a_line_leads_to_each_record_that_it_names() -> None:
    line = "results/casia/table2.csv: 5 trials; results/bench/cost-rows.csv: 3 measurements."
    assert runs.linked(line) == (
        "{download}`results/casia/table2.csv </results/casia/table2.csv>`: 5 trials; "
        "{download}`results/bench/cost-rows.csv </results/bench/cost-rows.csv>`: 3 measurements."
    )
