"""What a recording is measured by, and when it is unlike those that a model learnt from."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from hmoe.corpora import Corpus, audio
from hmoe.use import likeness

RATE = 16_000


def speech(seconds: float = 2.0) -> np.ndarray:
    """Bursts of a tone with pauses between, root mean square 0.1 where it sounds."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.sqrt(2) * 0.1 * np.sin(2 * np.pi * 200 * t) * (np.sin(2 * np.pi * 1.5 * t) > 0)


def noisy(snr: float) -> np.ndarray:
    clean = speech()
    return clean + np.random.default_rng(0).standard_normal(len(clean)) * 0.1 * 10 ** (-snr / 20)


@pytest.mark.parametrize("snr", [10, 20, 30, 40])
def test_the_snr_of_speech_with_pauses_is_found_to_2_dB(tmp_path: Path, snr: float) -> None:
    audio.write(tmp_path / "a.wav", noisy(snr))
    assert likeness.measure(tmp_path / "a.wav")["snr"] == pytest.approx(snr, abs=2)


def test_frames_are_those_of_librosa(tmp_path: Path) -> None:
    chirp = noisy(30) * np.linspace(0.01, 1, len(noisy(30))) ** 3  # no two frames are equally loud
    audio.write(tmp_path / "a.wav", chirp)
    frames = librosa.feature.rms(y=audio.read(tmp_path / "a.wav"), frame_length=400, hop_length=160)[0]
    quiet, loud = np.percentile(20 * np.log10(np.maximum(frames, likeness.FLOOR)), (5, 95))
    assert likeness.measure(tmp_path / "a.wav")["snr"] == pytest.approx(loud - quiet, abs=0.06)


def test_a_gain_moves_the_level_and_nothing_else(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noisy(30))
    audio.write(tmp_path / "b.wav", 0.5 * noisy(30))
    loud, soft = (likeness.measure(tmp_path / f"{name}.wav") for name in "ab")
    assert loud["level"] - soft["level"] == pytest.approx(6.0, abs=0.1)
    assert soft == loud | {"level": soft["level"], "snr": pytest.approx(loud["snr"], abs=0.2)}


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
def test_the_rate_is_the_files_own(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", speech(1.2)[::2], RATE // 2)
    found = likeness.measure(tmp_path / "a.flac")
    assert (found["rate"], found["seconds"]) == (8_000, 1.2)


def test_a_corpus_is_like_itself(tiny_corpus: Corpus) -> None:
    known = likeness.ranges(tiny_corpus.table["path"])
    assert set(known) == set(likeness.SAID)
    inside = [not likeness.unlike(likeness.measure(path), known) for path in tiny_corpus.table["path"]]
    assert np.mean(inside) >= 0.9


def test_what_is_outside_is_named_with_what_was_expected() -> None:
    known = {"level": [-30.0, -10.0], "snr": [20.0, 50.0], "seconds": [1.0, 4.0], "rate": [16_000, 16_000]}
    usual = {"level": -30.0, "snr": 50.0, "seconds": 2.0, "rate": 16_000}
    assert likeness.unlike(usual, known) == []
    assert likeness.unlike(usual | {"level": -30.1, "rate": 8_000}, known) == [
        "level -30.1 dB (-30 to -10 in training)",
        "sampling rate 8000 Hz (16000 in training)",
    ]
    assert likeness.unlike(usual | {"snr": 3.0, "seconds": 9.0}, known) == [
        "SNR about 3 dB (20 to 50 in training)",
        "length 9 s (1 to 4 in training)",
    ]
    assert likeness.unlike(usual | {"snr": 3.0}, {}) == []  # a model that knows nothing of its corpus
