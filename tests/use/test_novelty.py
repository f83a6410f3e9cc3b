"""Music and noise are told from speech as in training, and a new voice alone is no reason to warn."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from hmoe.inputs.features_torch import Extractor
from hmoe.use import novelty

RATE = 16_000
EAR = Extractor(novelty.HEARD)


def speech(seed: int, pitch: float) -> np.ndarray:
    """A voice with moving formants, syllables and pauses, another each time."""
    rng, n = np.random.default_rng(seed), 24_000
    t = np.arange(n) / RATE
    hertz = pitch * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 3) * t + rng.uniform(0, 6)))
    voice = sum(np.sin(k * 2 * np.pi * np.cumsum(hertz) / RATE) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(3, 5) * t + rng.uniform(0, 6)) + rng.uniform(-0.2, 0.3), 0, 1)
    hiss = rng.normal(size=n) * np.clip(-np.sin(2 * np.pi * 4 * t), 0, 1) * 0.05
    spectrum, f = np.fft.rfft(voice * syllables + hiss), np.fft.rfftfreq(n, 1 / RATE)
    formants = sum(np.exp(-(((f - peak) / 300) ** 2)) for peak in rng.uniform([300, 900, 2200], [800, 1800, 3000]))
    return 0.2 * np.fft.irfft(spectrum * (formants + 0.02), n) + 1e-4 * rng.normal(size=n)


@pytest.fixture(scope="module")
def known() -> dict:
    speakers = [f"s{i % 4}" for i in range(80)]
    described = [novelty.describe(speech(i, 110 + 30 * (i % 4)), EAR) for i in range(80)]
    return json.loads(json.dumps(novelty.calibrate(np.array(described), speakers)))  # as config.json keeps it


def test_speech_of_a_new_voice_is_not_flagged(known: dict) -> None:
    flagged = [bool(novelty.unlike(speech(1_000 + i, 155), known, EAR)) for i in range(40)]
    assert np.mean(flagged) <= 0.1


def test_noise_and_music_are_flagged_for_what_they_are(known: dict) -> None:
    rng, t = np.random.default_rng(0), np.arange(32_000) / RATE
    (noise,) = novelty.unlike(0.1 * rng.normal(size=32_000), known, EAR)
    chord = sum(np.sin(2 * np.pi * 220 * ratio * k * t) / k for ratio in (1, 1.25, 1.5) for k in range(1, 6))
    (music,) = novelty.unlike(0.05 * chord, known, EAR)
    assert "noise" in noise and "music" in music


def test_the_level_makes_no_difference() -> None:
    one = speech(0, 140)
    assert np.allclose(novelty.describe(one, EAR), novelty.describe(0.01 * one, EAR), atol=1e-3)


def test_of_too_few_utterances_nothing_is_said() -> None:
    assert novelty.calibrate(np.zeros((5, 41)), ["a"] * 5) == {}
    assert novelty.unlike(speech(0, 140), {}, EAR) == []


@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_corpus_of_nearly_one_speaker_has_a_limit_that_its_utterances_keep(others: int) -> None:
    described = np.random.default_rng(0).normal(size=(300 + others, 41))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = novelty.calibrate(described, ["a"] * 300 + ["b"] * others)
    assert found["limit"] > 0
    assert np.mean(novelty._distances(found, described) > found["limit"]) < 0.05
