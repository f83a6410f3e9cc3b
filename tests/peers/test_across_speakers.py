"""Voices that nobody heard before: each speaker's normalisation, settings judged by speakers, even classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.batches import Inputs
from hmoe.peers.unseen.across_speakers import AcrossSpeakers, evened
from hmoe.study import grid, profiles
from hmoe.study.experiments import SPEAKERS
from hmoe.study.trial import fit_split, inputs_of


@pytest.mark.parametrize("reading", ["pooled", "statistics+prosody", "frames"])
def test_on_their_own_scale_all_speakers_have_the_same_mean_and_deviation(tiny_corpus: Corpus, reading: str) -> None:
    config = Config(reading=reading, by_speaker=True, augment=())
    speakers = tiny_corpus.table["speaker"].to_numpy()
    bank = grid.open_bank(tiny_corpus, config, workers=1, progress=False)
    inputs = Inputs.of(bank, config, speakers=speakers)
    for name in np.unique(speakers):
        mean, deviation = inputs.moments(np.flatnonzero(speakers == name))
        assert mean.abs().max() < 1e-3
        moving = deviation > 0.5  # a dimension that never moves stays at 0
        assert moving.double().mean() > 0.8 and (deviation[moving] - 1).abs().max() < 1e-2


def test_the_own_scale_of_a_speaker_uses_no_one_else(tiny_corpus: Corpus) -> None:
    config = Config(by_speaker=True, augment=())
    bank = grid.open_bank(tiny_corpus, config, workers=1, progress=False)
    speakers = tiny_corpus.table["speaker"].to_numpy()
    ann = np.flatnonzero(speakers == "ann")
    with_bob, alone = (Inputs.of(bank, config, speakers=s).clean(ann)[0] for s in (speakers, np.full(30, "ann")))
    everyone = alone.mean(dim=0).abs().max()
    assert with_bob.mean(dim=0).abs().max() < 1e-4 < everyone


def test_without_speakers_there_is_no_own_scale(tiny_corpus: Corpus) -> None:
    config = Config(by_speaker=True, augment=())
    bank = grid.open_bank(tiny_corpus, config, workers=1, progress=False)
    with pytest.raises(ConfigError, match="by_speaker"):
        Inputs.of(bank, config)


def spoken(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column 0 tells classes apart in each of three voices, but each voice has it upside down; column 1 in all."""
    rng = np.random.default_rng(seed)
    y, speakers = rng.integers(0, 2, n), rng.integers(0, 3, n)
    signs = np.array([1, 1, -1])[speakers]
    X = np.stack([signs * (2 * y - 1) * 5.0, (2 * y - 1) * 1.0], axis=1) + rng.normal(0, 0.3, (n, 2))
    return X, y, speakers


def test_settings_are_judged_by_training_speakers_left_out() -> None:
    X, y, speakers = spoken()
    model = AcrossSpeakers(((slice(None), LogisticRegression(), {"C": [1e-3, 1.0]}),)).fit(X, y, speakers)
    assert model.fitted_[0].n_splits_ == 3
    for train, test in model.fitted_[0].cv.split(X, y, speakers):
        assert not set(speakers[train]) & set(speakers[test])


def test_members_read_their_own_columns_and_are_averaged() -> None:
    X, y, speakers = spoken()
    one = LogisticRegression(), {"C": [1.0]}
    members = (slice(0, 1), *one), (slice(1, 2), *one)
    both = AcrossSpeakers(members).fit(X, y, speakers)
    apart = [AcrossSpeakers((member,)).fit(X, y, speakers).fitted_[0] for member in members]
    p = np.sqrt(np.prod([each.predict_proba(X[:, [k]]) + 1e-3 for k, each in enumerate(apart)], axis=0))
    assert both.predict_proba(X) == pytest.approx(p / p.sum(axis=1, keepdims=True), abs=1e-9)


def test_evened_probabilities_sum_to_one_by_row_and_to_the_same_by_column() -> None:
    p = np.random.default_rng(1).dirichlet([5, 1, 1], 90)
    even = evened(p)
    assert even.sum(axis=1) == pytest.approx(np.ones(90))
    assert even.sum(axis=0) == pytest.approx(np.full(3, 30), abs=0.01)
    assert evened(even) == pytest.approx(even, abs=1e-4)  # what is even stays as it is


@pytest.mark.parametrize(
    "name", ["both, per-speaker normalisation, balanced", "HMoE-SiMBA on both, per-speaker normalisation"]
)
def test_rows_of_the_chapter_run(tiny_corpus: Corpus, name: str) -> None:
    """Inner folds leave out a speaker, so three speakers are the least that the linear rows need."""
    table = tiny_corpus.table.copy()
    table["speaker"] = np.array(["ann", "bob", "cat"])[table["sentence"].astype(int) % 3]
    three = tiny_corpus.subset(np.ones(len(table), bool))
    three.table["speaker"] = table["speaker"]
    small = (
        {"d_model": 16, "d_state": 4, "d_selected": 8, "epochs": 2, "validation_fraction": 0.25}
        if name.startswith("HMoE")
        else {}
    )
    trial = grid.trials([SPEAKERS], three, profiles.PROFILES["full"], seeds=[0], rows=[name], **small)[0]
    bank = grid.open_bank(three, trial.config, workers=1, progress=False)
    y_hat = fit_split(trial, three, bank).predict(inputs_of(trial, three, bank), trial.split.test)
    assert len(y_hat) == len(trial.split.test)
    assert set(y_hat) <= {0, 1, 2}
