"""The ladder: every protocol that a corpus permits, each leak worth something, and what is shown of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import call

from hmoe.base.errors import ConfigError
from hmoe.corpora import Corpus
from hmoe.study import grid, ladder


def test_a_corpus_permits_what_its_speakers_and_sentences_allow(tiny_corpus: Corpus) -> None:
    steps, refused = ladder.permitted(tiny_corpus, [0])
    assert steps == list(ladder.STEPS) and not refused
    alone = replace(tiny_corpus, table=tiny_corpus.table.assign(speaker="unknown", sentence=tiny_corpus.table["id"]))
    steps, refused = ladder.permitted(alone, [0])
    assert steps == [ladder.BEFORE, ladder.AFTER, ladder.BEST, ladder.STRATIFIED]
    assert set(refused) == {ladder.SENTENCES.title, ladder.SPEAKER.title, ladder.BOTH.title}


def test_a_step_that_one_of_the_seeds_does_not_permit_is_none(tiny_corpus: Corpus) -> None:
    words = np.array(sorted("abcdefghij"))
    np.random.default_rng(0).shuffle(words)  # as sentences are dealt with seed 0: bob says one of each fold
    said = {"ann": np.resize(words, 15), "bob": np.resize(words[:5], 15)}
    table = tiny_corpus.table.assign(sentence="")
    for speaker, sentences in said.items():
        table.loc[table["speaker"] == speaker, "sentence"] = sentences
    uneven = replace(tiny_corpus, table=table)
    assert ladder.BOTH in ladder.permitted(uneven, [0])[0]
    steps, refused = ladder.permitted(uneven, [0, 2])
    assert ladder.BOTH not in steps and ladder.BOTH.title in refused


def test_a_figure_of_an_unknown_kind_is_refused_before_any_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(grid, "run", lambda *_: pytest.fail("has trained"))
    assert call(capsys, "protocols", "--results", tmp_path, "--figure", tmp_path / "ladder.jpg")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_steps_differ_in_what_they_give_away_alone() -> None:
    network = ladder.experiment(ladder.row("lstm"), ladder.STEPS, epochs=9)
    configs = {row.name.partition(": ")[2]: row.config() for row in network.rows}
    assert configs[ladder.BEST.title].replace(selection="last") == configs[ladder.STRATIFIED.title]
    assert configs[ladder.SPEAKER.title] == configs[ladder.SENTENCES.title] == configs[ladder.STRATIFIED.title]
    assert configs[ladder.BEFORE.title] == configs[ladder.AFTER.title]
    assert configs[ladder.BEFORE.title].epochs == 3  # of utterances in three copies: as many steps
    assert ladder.BEST.title not in [
        row.name.partition(": ")[2] for row in ladder.experiment(ladder.SVM, ladder.STEPS).rows
    ]


def test_a_row_is_found_whatever_its_case_and_guessed_at() -> None:
    assert ladder.row("tim-net").name == "TIM-Net"
    assert ladder.row("svm") == ladder.SVM
    with pytest.raises(ConfigError, match="TIM-Net"):
        ladder.row("tim net")


def test_the_command_trains_draws_and_says_what_each_leak_is_worth(
    capsys: pytest.CaptureFixture[str], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    tiny_corpus.table[["path", "speaker", "emotion", "sentence"]].to_csv(tmp_path / "my.csv", index=False)
    given = ("protocols", "-c", "csv", "-r", tmp_path / "my.csv", "--results", tmp_path / "results", "-j", 1)
    code, out, _ = call(capsys, *given, "--figure", tmp_path / "ladder.png")
    assert code == 0
    assert all(step.title in out for step in ladder.STEPS if step is not ladder.BEST)
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads(call(capsys, *given, "--format", "json")[1])
    accuracy = {step["test"]: step["accuracy"] for step in said["steps"]}
    by_pair = {(leak["with"], leak["without"]): leak["points"] for leak in said["leaks"]}
    assert len(by_pair) == 4
    for (generous, strict), points in by_pair.items():
        assert points == pytest.approx(accuracy[generous] - accuracy[strict], abs=0.5)
    # Tones whose pitch says who speaks: copies of an utterance give it away, another speaker's tones do not.
    assert by_pair[ladder.BEFORE.title, ladder.AFTER.title] >= 0
    assert by_pair[ladder.STRATIFIED.title, ladder.SPEAKER.title] > 20
