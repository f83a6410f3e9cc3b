"""The embedded corpus: made alike every time, whole or not at all, and no gift to a classifier."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import parselmouth
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hmoe.base.errors import CorpusError
from hmoe.config import Config
from hmoe.corpora import Corpus, check, load, synthetic
from hmoe.corpora.synthetic import EMOTIONS, VOICES, Cues, cues, make, render, sentences, synthetic_root
from hmoe.features import extract, statistics

MAKE = "import sys, pathlib; from hmoe.corpora.synthetic import *; make(pathlib.Path(sys.argv[1]), sentences()[:2])"


def content(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_processes_make_the_same_bits_even_at_once_in_one_place(small_corpus: Corpus, tmp_path: Path) -> None:
    makers = [subprocess.Popen([sys.executable, "-c", MAKE, tmp_path / "one"]) for _ in range(2)]
    assert [maker.wait() for maker in makers] == [0, 0]
    made = content(tmp_path / "one")
    assert len(made) == 48 + 1
    assert made == content(small_corpus.root)
    assert {path.name for path in tmp_path.iterdir()} == {"one", ".one.lock"}


def test_a_maker_that_is_killed_leaves_nothing_that_looks_whole(small_corpus: Corpus, tmp_path: Path) -> None:
    root, part = tmp_path / "one", tmp_path / ".one.part"
    maker = subprocess.Popen([sys.executable, "-c", MAKE, root])
    while maker.poll() is None and not list(part.rglob("*.wav")):
        time.sleep(0.01)
    maker.kill()
    assert maker.wait() < 0 and part.is_dir() and not root.exists()
    make(root, sentences()[:2])
    assert content(root) == content(small_corpus.root) and not part.exists()


def test_the_grid_is_complete_and_says_what_it_is(small_corpus: Corpus) -> None:
    assert small_corpus.emotions == EMOTIONS == ("anger", "sadness", "happiness", "neutral", "fear", "surprise")
    counts = small_corpus.table.groupby(["speaker", "emotion", "sentence"]).size()
    assert len(counts) == 4 * 6 * 2 and (counts == 1).all()
    assert small_corpus.table["seconds"].between(0.8, 5).all()
    assert small_corpus.table["sha256"].is_unique


def test_sentences_are_fifty_different_ones() -> None:
    texts = sentences()
    assert len(set(texts)) == len(texts) == 50
    assert all(5 <= len(text) <= 14 and all("一" <= c <= "鿿" for c in text) for text in texts)


def test_a_directory_with_anything_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CorpusError, match=re.escape(str(tmp_path))):
        load("synthetic", tmp_path)
    assert content(tmp_path).keys() == {"thesis.txt"}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="file/corpus: cannot be written .*; free some space or give"):
        make(tmp_path / "file" / "corpus")


def test_a_changed_copy_is_noticed(small_corpus: Corpus, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_corpus.root, root)
    assert check("synthetic", root).ok
    (root / "m1" / "fear" / "01.wav").unlink()
    assert check("synthetic", root).missing == ["m1-fear-01"]
    with pytest.raises(CorpusError, match="is not as it was made; remove it"):
        load("synthetic", root)


def test_the_default_place_follows_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path))
    assert synthetic_root().parent == tmp_path and synthetic_root() == synthetic_root()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[synthetic.Speech]:
    """A second and a half with a pitch that falls from 160 to 120 Hz, rich in harmonics."""
    time = np.arange(24_000) / 16_000
    phase = 2 * np.pi * np.cumsum(160 - 27 * time) / 16_000
    yield synthetic.analyse(0.2 * np.sum([np.cos(k * phase) / k for k in range(1, 20)], axis=0))


def pitch(samples: np.ndarray) -> np.ndarray:
    track = parselmouth.Sound(samples, 16_000).to_pitch_ac(pitch_floor=60, pitch_ceiling=500)
    track = track.selected_array["frequency"]
    return track[track > 0]


def test_a_cue_does_what_it_says(speech: synthetic.Speech) -> None:
    plain = render(speech, Cues(), 0)
    high = render(speech, Cues(pitch=7), 0)
    assert 12 * np.log2(np.median(pitch(high)) / np.median(pitch(plain))) == pytest.approx(7, abs=0.3)

    wide = render(speech, Cues(span=1), 0)
    assert np.ptp(np.log2(pitch(wide))) == pytest.approx(2 * np.ptp(np.log2(pitch(plain))), rel=0.15)

    slow = render(speech, Cues(tempo=0.5), 0)
    assert len(slow) / len(plain) == pytest.approx(2**0.5, rel=0.03)

    loud = render(speech, Cues(energy=6), 0)
    assert 20 * np.log10(loud.std() / plain.std()) == pytest.approx(6, abs=0.1)

    def centroid(samples: np.ndarray) -> float:
        return float(librosa.feature.spectral_centroid(y=samples, sr=16_000).mean())

    assert centroid(render(speech, Cues(tilt=-3), 0)) < centroid(plain) < centroid(render(speech, Cues(tilt=3), 0))

    def noisiness(samples: np.ndarray) -> float:
        return float(librosa.feature.spectral_flatness(y=samples).mean())

    assert noisiness(render(speech, Cues(breath=12), 0)) > 2 * noisiness(plain)


def test_no_cue_drives_the_samples_out_of_range(speech: synthetic.Speech) -> None:
    for extreme in (Cues(*[6.0] * 10), Cues(*[-6.0] * 10)):
        samples = render(speech, extreme, 0)
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 1


def test_even_who_reads_the_cues_themselves_confuses_emotions() -> None:
    names = [(v, e, f"{i:02d}") for v in VOICES for e in EMOTIONS for i in range(1, 51)]
    seen, labels = np.array([cues(*name) for name in names]), [name[1] for name in names]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracy = cross_val_score(LinearDiscriminantAnalysis(), seen, labels, cv=folds).mean()
    assert 0.6 < accuracy < 0.97


def test_a_classifier_of_the_sound_is_far_above_chance_and_far_from_perfect(tmp_path: Path) -> None:
    make(tmp_path / "synthetic", sentences()[:10])
    corpus = load("synthetic", tmp_path / "synthetic")
    heard = [statistics(extract(corpus.waveform(i), Config())) for i in range(len(corpus))]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracy = cross_val_score(make_pipeline(StandardScaler(), SVC()), heard, corpus.labels, cv=folds).mean()
    assert 0.4 < accuracy < 0.9  # chance is 1/6
