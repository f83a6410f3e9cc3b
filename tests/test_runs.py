"""The page of all runs counts every recorded trial; what a results chapter folds and where Binder is offered."""

from __future__ import annotations

import nbformat
import pandas as pd
import pytest
import yaml

from hmoe import book, runs
from hmoe.paths import results_dir
from hmoe.store import Store

RECORDS = [path for path in runs.records(results_dir()) if path.parent.name != "bench"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recorded_trial_is_counted_once(path) -> None:  # noqa: ANN001 (a Path of the list above)
    trials = Store(path.parent.name).read(path.stem)
    lines = runs.grouped(trials)
    assert lines["trials"].sum() == len(trials)
    assert lines["tested"].sum() == trials["n_test"].sum()
    assert set(lines["commit"]) == set(trials["commit"])


def test_trials_of_another_commit_stand_on_a_line_of_their_own() -> None:
    trials = Store("casia").read("table2").head(2)
    changed = pd.concat([trials, trials.assign(commit="0123456789")])
    assert len(runs.grouped(changed)) == 2 * len(runs.grouped(trials))


def test_code_is_folded_in_chapters_of_results_alone() -> None:
    cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_markdown_cell("Words.")]
    text = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    assert book.folded("10-hmoe-simba.ipynb", text) == text
    code, words = nbformat.reads(book.folded("11-peers.ipynb", text), as_version=4).cells
    assert "hide-input" in code.metadata.tags
    assert "tags" not in words.metadata


def test_binder_opens_the_commit_that_was_built_and_is_offered_only_where_it_can_be_fetched() -> None:
    at = "https://forge.example/book"
    config = yaml.safe_dump({"title": "A book", "repository": {"url": at}})
    assert yaml.safe_load(book.launched(config, "0123456789"))["repository"] == {"url": at, "branch": "0123456789"}
    assert book.launched(config, "0123456789+") == config  # changed since the commit
    assert book.launched("title: A book\n", "0123456789") == "title: A book\n"
