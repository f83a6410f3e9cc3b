"""Nobody stands on both sides of a split, over random corpora; what cannot be dealt is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmoe.base.errors import ProtocolError
from hmoe.corpora import Corpus
from hmoe.study.protocols import PROTOCOLS, Split, check, learnable, manifest, validation

EMOTIONS = ("anger", "sadness", "neutral")


def corpus(speakers: list[int], emotions: list[int], sentences: list[int]) -> Corpus:
    table = pd.DataFrame(
        {
            "speaker": [f"s{s}" for s in speakers],
            "emotion": [EMOTIONS[e] for e in emotions],
            "sentence": [f"t{t}" for t in sentences],
        }
    )
    table["id"] = [f"u{i:03}" for i in range(len(table))]
    table["sha256"] = [f"sha{i}" for i in range(len(table))]
    return Corpus("random", Path("nowhere"), table, EMOTIONS)


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Unbalanced, uneven, with holes: 30 to 60 utterances of 2 to 4 speakers, 3 emotions, 5 to 8 sentences."""
    n, speakers, sentences = draw(st.integers(30, 60)), draw(st.integers(2, 4)), draw(st.integers(5, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return corpus(*(list(rng.integers(0, most, n)) for most in (speakers, 3, sentences)))


def dealt(protocol: str, corpus: Corpus, seed: int) -> list[Split]:
    try:
        return PROTOCOLS[protocol].splits(corpus, seed)
    except ProtocolError as error:
        assert "utterance" in str(error) or "different sentences" in str(error)  # a random corpus may be too small
        return []


@settings(max_examples=40, deadline=None)
@given(
    corpora(),
    st.integers(0, 1000),
    st.sampled_from(sorted(name for name, each in PROTOCOLS.items() if not each.private)),
)
def test_a_protocol_deals_each_utterance_to_one_test_and_lets_nothing_leak(
    corpus: Corpus, seed: int, name: str
) -> None:
    splits, table = dealt(name, corpus, seed), corpus.table
    for split in splits:
        train, test = table.iloc[split.train], table.iloc[split.test]
        for column in ("id", "sha256", *PROTOCOLS[name].disjoint):
            assert not set(train[column]) & set(test[column])
        if name not in (
            "speaker-sentence",
            "inner",
        ):  # whose training leaves out the speaker's and the sentence's other utterances
            assert len(train) + len(test) == len(table)
        assert set(test["emotion"]) <= set(train["emotion"])
    if splits and name != "inner":
        assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(table)))


@settings(max_examples=20, deadline=None)
@given(corpora(), st.integers(0, 1000))
def test_stratified_folds_hold_each_class_in_equal_parts(corpus: Corpus, seed: int) -> None:
    for split in dealt("stratified-5", corpus, seed):
        for emotion, n in corpus.table["emotion"].value_counts().items():
            assert abs((corpus.table["emotion"].iloc[split.test] == emotion).sum() - n / 5) < 1


def balanced() -> Corpus:
    cells = [(s, e, t) for s in range(4) for e in range(3) for t in range(10)]
    return corpus(*map(list, zip(*cells, strict=True)))


@pytest.mark.parametrize(("name", "folds"), [("stratified-5", 5), ("sentence-5", 5), ("pair-5", 5), ("speaker", 4)])
def test_the_number_of_folds(name: str, folds: int) -> None:
    assert len(PROTOCOLS[name].splits(balanced(), 0)) == folds


def test_in_folds_of_pairs_a_speaker_says_no_words_on_both_sides_but_others_may() -> None:
    whole = balanced()
    table = whole.table
    pair = table["speaker"] + "/" + table["sentence"].astype(str)
    shared = set()
    for split in PROTOCOLS["pair-5"].splits(whole, 0):
        assert not set(pair.iloc[split.train]) & set(pair.iloc[split.test])
        shared |= set(table["sentence"].iloc[split.train]) & set(table["sentence"].iloc[split.test])
    assert shared


def test_their_product_holds_out_speaker_and_sentence() -> None:
    splits = PROTOCOLS["speaker-sentence"].splits(balanced(), 0)
    assert len(splits) == 20
    assert [split.fold for split in splits[:5]] == [f"s0-{k}" for k in range(5)]
    assert {(len(split.train), len(split.test)) for split in splits} == {(3 * 3 * 8, 3 * 2)}


def test_settings_are_chosen_without_the_utterances_that_fold_0_tests() -> None:
    whole = balanced()
    (inner,) = PROTOCOLS["inner"].splits(whole, 3)
    outer = PROTOCOLS["stratified-5"].splits(whole, 3)[0]
    assert sorted([*inner.train, *inner.test]) == outer.train.tolist()
    assert len(inner.test) == len(outer.train) / 4


def folds_of(name: str, seed: int) -> list[list[int]]:
    return [split.test.tolist() for split in PROTOCOLS[name].splits(balanced(), seed)]


@pytest.mark.parametrize("name", ["stratified-5", "sentence-5"])
def test_a_seed_is_a_partition_of_its_own_and_always_the_same(name: str) -> None:
    assert folds_of(name, 0) == folds_of(name, 0)
    assert len({str(folds_of(name, seed)) for seed in range(5)}) == 5


def test_leaving_a_speaker_out_has_one_partition() -> None:
    assert folds_of("speaker", 0) == folds_of("speaker", 1)


def test_a_class_with_fewer_utterances_than_folds_is_refused_by_name() -> None:
    few = balanced()
    keep = (few.table["emotion"] != "anger") | (few.table.groupby("emotion").cumcount() < 4)
    with pytest.raises(ProtocolError, match="class 'anger' has 4 utterances; needs at least 5"):
        PROTOCOLS["stratified-5"].splits(few.subset(keep), 0)


def test_too_few_sentences_or_speakers_are_refused() -> None:
    whole = balanced()
    with pytest.raises(ProtocolError, match="4 different sentences; needs at least 5"):
        PROTOCOLS["sentence-5"].splits(whole.subset(whole.table["sentence"].isin(["t0", "t1", "t2", "t3"])), 0)
    with pytest.raises(ProtocolError, match="all utterances are of the speaker 's0'; say who speaks"):
        PROTOCOLS["speaker"].splits(whole.subset(whole.table["speaker"] == "s0"), 0)


def test_a_class_that_only_one_speaker_has_cannot_be_learned_from_the_others() -> None:
    whole = balanced()
    keep = (whole.table["emotion"] != "anger") | (whole.table["speaker"] == "s1")
    with pytest.raises(ProtocolError, match=r"fold 's1': no training utterance of \['anger'\]"):
        PROTOCOLS["speaker"].splits(whole.subset(keep), 0)


def test_a_recording_that_a_corpus_has_twice_is_tested_twice_and_never_trained_on_meanwhile() -> None:
    whole = balanced()
    whole.table.loc[77] = {**whole.table.loc[3], "id": "u077"}
    apart = 0
    for seed in range(4):
        splits = PROTOCOLS["stratified-5"].splits(whole, seed)
        assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(whole)))
        for split in splits:
            if {3, 77} & set(split.test):
                assert not {3, 77} & set(split.train)
            apart += len({3, 77} & set(split.test)) == 1
    assert apart


def test_one_recording_under_two_labels_is_refused_naming_both() -> None:
    whole = balanced()
    whole.table.loc[[3, 77], "sha256"] = "same"
    whole.table.loc[77, "sentence"] = "another"
    with pytest.raises(ProtocolError, match="u003.*u077.*remove") as caught:
        for seed in range(20):  # until they are dealt apart
            PROTOCOLS["stratified-5"].splits(whole, seed)
    assert "\n" not in str(caught.value)


def test_a_split_needs_an_utterance_on_either_side() -> None:
    table, nothing = balanced().table, np.array([], int)
    good = PROTOCOLS["stratified-5"].splits(balanced(), 0)[0]
    check(Split("x", good.train, good.test[:1]), table, PROTOCOLS["stratified-5"])
    for empty in (Split("x", nothing, good.test), Split("x", good.train, nothing)):
        with pytest.raises(ProtocolError):
            check(empty, table, PROTOCOLS["stratified-5"])


@pytest.mark.parametrize("column", ["speaker", "sentence"])
def test_the_check_catches_a_leak_by_any_column_that_the_protocol_keeps_apart(column: str) -> None:
    whole = balanced()
    good = PROTOCOLS["speaker-sentence"].splits(whole, 0)[0]
    check(good, whole.table, PROTOCOLS["speaker-sentence"])
    left_out = np.setdiff1d(np.arange(len(whole)), np.concatenate([good.train, good.test]))
    test_values = set(whole.table[column].iloc[good.test])
    leak = next(i for i in left_out if whole.table[column].iloc[i] in test_values)
    with pytest.raises(ProtocolError, match=f"the same {column}, on both sides"):
        check(Split("x", np.append(good.train, leak), good.test), whole.table, PROTOCOLS["speaker-sentence"])


def test_an_utterance_on_both_sides_is_caught_whatever_the_protocol() -> None:
    table = balanced().table
    with pytest.raises(ProtocolError, match="u005"):
        check(Split("x", np.array([0, 5, 44, 90]), np.array([5, 6])), table, PROTOCOLS["stratified-5"])


@settings(max_examples=40, deadline=None)
@given(corpora(), st.sampled_from([0.1, 0.25, 0.5]), st.integers(0, 1000))
def test_validation_is_a_stratified_part_of_the_training_rows(corpus: Corpus, fraction: float, seed: int) -> None:
    for split in dealt("stratified-5", corpus, seed)[:2]:
        try:
            fit, held_out = validation(split.train, corpus.labels, fraction, seed)
        except ProtocolError as error:
            assert "--set selection=last" in str(error)
            continue
        assert sorted([*fit, *held_out]) == list(split.train)
        assert not set(held_out) & set(split.test)
        assert len(held_out) == np.ceil(fraction * len(split.train))
        for label in range(3):
            share = (corpus.labels[split.train] == label).mean() * len(held_out)
            assert abs((corpus.labels[held_out] == label).sum() - share) <= 1


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_validation_set_without_room_for_every_class_on_either_side_is_refused(fraction: float) -> None:
    whole = balanced()
    with pytest.raises(ProtocolError, match="--set selection=last"):
        validation(np.arange(120), whole.labels, fraction, 0)


def test_the_manifest_says_for_each_seed_where_an_utterance_is_tested() -> None:
    whole = balanced()
    table = manifest(whole, seeds=(0, 1))
    assert list(table.columns) == [
        "id", "stratified-5.0", "stratified-5.1", "sentence-5.0", "sentence-5.1", "speaker.0",
        "speaker-sentence.0", "speaker-sentence.1",
    ]  # fmt: skip
    for split in PROTOCOLS["stratified-5"].splits(whole, 1):
        assert (table["stratified-5.1"].iloc[split.test] == split.fold).all()
    assert (table["speaker.0"] == whole.table["speaker"]).all()
    assert not table.isna().any().any()


def test_what_no_model_can_learn_from_is_refused_before_training() -> None:
    whole = balanced()
    one = whole.subset(whole.table["emotion"] == whole.table["emotion"].iloc[0])
    with pytest.raises(ProtocolError, match="all training utterances are of "):
        PROTOCOLS["stratified-5"].splits(one, 0)
    with pytest.raises(ProtocolError, match="no class has more than 2"):
        learnable(whole.table.groupby("emotion").head(2), "here")
