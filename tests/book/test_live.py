"""What a page trains itself: a curve or predictions of one fold, and no statistic."""

from __future__ import annotations

import re

import pytest
import tiny

from hmoe.corpora import Corpus
from hmoe.study.profiles import Profile
from hmoe_book import figures, live

SOME = Profile("some", seeds=(0,), folds=2, changes={"epochs": 2})
ROWS = ["full", "w/o SiMBA"]


def test_predictions_are_of_one_utterance_an_emotion_and_mark_what_is_wrong(tiny_corpus: Corpus) -> None:
    table = live.predictions(tiny.FIRST, ROWS, tiny_corpus, SOME, 0, "cpu").data
    assert list(table.index) == list(tiny_corpus.emotions) and list(table.columns) == ROWS
    for spoken, line in table.iterrows():
        for said in line:
            emotion, _, cross = said.partition(" ")
            assert emotion in tiny_corpus.emotions and bool(cross) == (emotion != spoken)


@pytest.mark.parametrize("selection", ["nested", "test"])
def test_a_curve_is_drawn_for_each_row_over_all_epochs_without_an_interval(
    selection: str, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(figures, "display", lambda bundle, raw: shown.append(bundle))
    live.learning(tiny.FIRST, ROWS, tiny_corpus, SOME, 0, "cpu", selection)
    (bundle,) = shown
    assert all(row in bundle["text/plain"] for row in ROWS)
    assert not re.search(r"\d \[", bundle["text/html"])
