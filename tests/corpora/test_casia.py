"""The real corpus: its public folds are the protocols' own, and a copy of it, where there is one, is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from hmoe import corpora
from hmoe.base.files import DATA, PROJECT
from hmoe.corpora import Corpus
from hmoe.corpora.labels import COMMON
from hmoe.study import protocols
from hmoe.study.experiments import METRICS
from hmoe.study.store import Store

MANIFEST = pd.read_csv(DATA / "casia.csv", dtype=str)
EMOTIONS = tuple(name.removeprefix("acc_") for name in METRICS if name.startswith("acc_"))


@pytest.fixture(scope="module")
def listed() -> Corpus:
    """CASIA as its manifest lists it, without a sound of it."""
    parts = MANIFEST["id"].str.split("-", expand=True).set_axis(["speaker", "emotion", "sentence"], axis=1)
    return Corpus("casia", Path("nowhere"), MANIFEST.join(parts), EMOTIONS)


def test_the_manifest_is_the_corpus_of_the_literature(listed: Corpus) -> None:
    table = listed.table
    assert table["id"].tolist() == sorted(table["id"])
    assert table.groupby(["speaker", "emotion"]).size().tolist() == [50] * 24
    assert set(table["emotion"]) == set(EMOTIONS) <= set(COMMON)
    assert table["sha256"].is_unique


def test_the_public_folds_are_those_that_the_protocols_deal(listed: Corpus) -> None:
    public = pd.read_csv(DATA / "casia-folds.csv", dtype=str)
    pd.testing.assert_frame_equal(protocols.manifest(listed).astype(str), public, check_dtype=False)


def test_a_copy_of_the_corpus_is_whole_and_becomes_the_manifests_table(listed: Corpus) -> None:
    root = os.environ.get("HMOE_CASIA")
    if not root:
        pytest.skip("no copy of CASIA: set HMOE_CASIA to its directory")
    assert corpora.check("casia", root).ok
    table = corpora.load("casia", root).table
    assert table[["id", "sha256", "speaker", "emotion", "sentence"]].equals(
        listed.table[["id", "sha256", "speaker", "emotion", "sentence"]]
    )


def test_the_recorded_predictions_name_their_utterances() -> None:
    """The actual emotion of every letter is that of the utterance that the store says it stands for."""
    store = Store("casia", PROJECT / "results")
    known = store.utterances()
    for path in sorted(store.folder.glob("*.csv")):
        said = store.predictions(path.stem)
        said = said[(said["protocol"] + "." + said["seed"]).isin(known.columns)]
        for (protocol, seed, fold, legend), some in said.groupby(["protocol", "seed", "fold", "letters"]):
            letter = {emotion: letter for letter, emotion in (each.split("=") for each in legend.split())}
            tested = [name.partition("~")[0] for name in store.tested(protocol, seed, fold)]
            assert set(some["actual"]) == {"".join(letter[emotion] for emotion in known.loc[tested, "emotion"])}
