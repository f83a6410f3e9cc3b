"""What Praat measures of tones whose pitch, loudness and formants are known."""

from __future__ import annotations

import numpy as np
import pytest
from voices import SECONDS, named, vowel

from hmoe.inputs.prosody import functionals, prosody


@pytest.mark.parametrize("hertz", [120.0, 240.0])
def test_pitch_is_in_semitones_above_100_hz(hertz: float) -> None:
    found = named(vowel(hertz, hertz))
    assert found["pitch, mean"] == pytest.approx(12 * np.log2(hertz / 100), abs=0.1)
    assert found["pitch, range"] < 0.5
    assert found["voiced share"] > 0.9
    assert found["seconds"] == pytest.approx(SECONDS)


def test_a_rising_voice_has_a_positive_slope_and_a_higher_last_third() -> None:
    rising, falling = named(vowel(120, 180)), named(vowel(180, 120))
    assert rising["pitch, slope"] > 1 > -1 > falling["pitch, slope"]
    assert rising["pitch, last third"] - rising["pitch, first third"] == pytest.approx(12 * np.log2(170 / 130), abs=0.5)


def test_ten_times_the_amplitude_is_twenty_decibels_and_changes_nothing_else() -> None:
    quiet, loud = named(vowel(150, 160)), named(10 * vowel(150, 160))
    assert loud["intensity, mean"] - quiet["intensity, mean"] == pytest.approx(20, abs=0.01)
    assert loud["energy, 500 to 1000 Hz"] - quiet["energy, 500 to 1000 Hz"] == pytest.approx(20, abs=0.01)
    assert loud["pitch, mean"] == pytest.approx(quiet["pitch, mean"], abs=1e-3)
    assert loud["formant 1, middle"] == pytest.approx(quiet["formant 1, middle"], abs=1e-3)


def test_the_first_formant_is_where_the_resonance_is() -> None:
    low, high = named(vowel(120, 120, (450, 1500, 2600))), named(vowel(120, 120, (750, 1500, 2600)))
    assert np.exp(high["formant 1, percentile 50"] - low["formant 1, percentile 50"]) == pytest.approx(
        750 / 450, rel=0.1
    )


@pytest.mark.parametrize("samples", [np.zeros(8000), np.full(50, 0.1), np.random.default_rng(0).normal(0, 0.1, 8000)])
def test_silence_noise_and_very_short_sounds_give_numbers(samples: np.ndarray) -> None:
    assert np.isfinite(prosody(samples.astype(np.float32))).all()


def test_functionals_of_a_line_and_of_too_little() -> None:
    found = functionals(np.linspace(0, 10, 101))
    assert found[:2] == pytest.approx([5, np.linspace(0, 10, 101).std()])
    assert found[-3:] == pytest.approx([0, 5, 5], abs=1e-9)  # curvature, slope over half the length, middle
    assert (functionals(np.arange(3.0)) == 0).all()
