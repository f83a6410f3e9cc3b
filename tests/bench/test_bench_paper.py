"""The cost of the whole paper: every computation counted once, and the two ways of counting agree on what there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from hmoe.bench import paper as bench_paper
from hmoe.corpora import Corpus
from hmoe.study import profiles
from hmoe.study.experiments import EXPERIMENTS, Experiment, Row

SVM = Experiment("classical", "", (Row("SVM", {"model": "svm", "augment": ()}),))
ROWS = {"first: full": 3, "first: w/o SiMBA": 3, "classical: SVM": 0}  # and their epochs


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_paper, "EXPERIMENTS", {e.name: e for e in (tiny.FIRST, tiny.TWIN, SVM)})


@pytest.mark.parametrize("full", [False, True], ids=["extrapolated", "measured"])
def test_each_computation_is_counted_once_and_nothing_is_recorded(
    tiny_corpus: Corpus, tmp_path: Path, own_folders: Path, few_rows: None, full: bool
) -> None:
    def kept() -> list[Path]:
        return sorted((own_folders / "results").rglob("*.csv"))

    before = kept()
    table = bench_paper.bench_paper(tiny_corpus, workers=1 if full else 2, full=full, target=tmp_path / "paper.csv")
    assert kept() == before
    rows = table[table["row"].isin(ROWS)].set_index("row")
    assert rows["epochs"].to_dict() == ROWS  # the twin is the full model once more
    assert (rows["trials"] == 5).all()
    assert (rows["trial_s"] > 0).all()
    np.testing.assert_allclose(rows["total_s"], 5 * rows["trial_s"])
    assert set(table["how"]) == {"measured" if full else "extrapolated"}
    *parts, whole = table["total_s"]
    assert full or whole == pytest.approx(sum(parts) / 2)
    assert list(pd.read_csv(tmp_path / "paper.csv")["row"]) == list(table["row"])


def test_the_whole_paper_is_every_table_and_figure_in_five_folds(tiny_corpus: Corpus) -> None:
    rows = bench_paper.computations(tiny_corpus, "cpu")
    counted = {trial.config.key() for trials in rows.values() for trial in trials}
    full = profiles.PROFILES["full"]
    assert counted == {full.config(row).key() for e in EXPERIMENTS.values() for row in e.rows}
    assert {len(trials) for trials in rows.values()} == {5}
    assert len(rows) == len(counted)
