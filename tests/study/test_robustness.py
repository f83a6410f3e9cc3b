"""What is done to test utterances is what its name says, and one training serves all conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from hmoe.base.errors import CorpusError
from hmoe.corpora import Corpus
from hmoe.inputs import bank
from hmoe.study import grid, profiles, robustness
from hmoe.study.experiments import CONDITIONS, ROBUSTNESS, Experiment, Row
from hmoe.study.protocols import DISTURBED
from hmoe.study.robustness import Disturbed
from hmoe.study.store import Store

RATE = 16_000
RNG = np.random.default_rng(0)
VOICE = (0.1 * np.sin(2 * np.pi * 200 * np.arange(2 * RATE) / RATE) * np.hanning(2 * RATE)).astype(np.float32)
OTHERS = [RNG.normal(0, 0.1, 7000 + 100 * k) for k in range(6)]


def heard(condition: str, samples: np.ndarray = VOICE) -> np.ndarray:
    return robustness.CONDITIONS[condition](samples, np.random.default_rng(1), OTHERS)


def level(samples: np.ndarray, low: float, high: float) -> float:
    energy, hertz = np.abs(np.fft.rfft(samples)) ** 2, np.fft.rfftfreq(len(samples), 1 / RATE)
    return 10 * np.log10(energy[(low <= hertz) & (hertz < high)].mean())


def test_the_experiment_names_the_conditions_that_there_are() -> None:
    assert tuple(robustness.CONDITIONS) == CONDITIONS
    assert {row.protocol for row in ROBUSTNESS.rows} == {DISTURBED.name}


@pytest.mark.parametrize("noise", ["white", "pink", "babble"])
@pytest.mark.parametrize("snr", [20, 0])
def test_noise_has_the_ratio_asked_for(noise: str, snr: int) -> None:
    added = heard(f"{noise} {snr} dB") - VOICE
    assert 10 * np.log10(np.mean(VOICE**2) / np.mean(added**2)) == pytest.approx(snr, abs=1e-3)


def test_pink_noise_falls_by_three_decibels_an_octave_and_white_does_not() -> None:
    long = np.resize(VOICE, 16 * RATE)
    pink, white = (heard(f"{name} 0 dB", long) - long for name in ("pink", "white"))
    assert level(pink, 200, 400) - level(pink, 1600, 3200) == pytest.approx(9, abs=0.5)
    assert level(white, 200, 400) - level(white, 1600, 3200) == pytest.approx(0, abs=0.5)
    # Of one generator both are the same noise, so they differ by a constant below 20 Hz, where pink is flat.
    lowest, low, above = (level(pink, *band) - level(white, *band) for band in ((4, 8), (12, 20), (38, 42)))
    assert lowest == pytest.approx(low, abs=0.01) and low - above == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("rt60", [0.3, 0.6, 1.0])
def test_a_room_dies_away_as_long_as_it_says(rt60: float) -> None:
    energy = np.cumsum(robustness.impulse_response(rt60)[::-1] ** 2)[::-1]  # Schroeder's integral
    decay = 10 * np.log10(energy / energy[0])
    at = [np.argmax(decay < limit) / RATE for limit in (-5, -25)]
    assert 3 * (at[1] - at[0]) == pytest.approx(rt60, rel=0.35)  # image sources in a box decay a little slower


def test_a_telephone_lets_300_to_3400_hz_through() -> None:
    noise = RNG.normal(0, 0.1, RATE)
    window = np.hanning(RATE)  # the filter's start and end apart
    passed, noise = heard("telephone band", noise) * window, noise * window
    assert level(passed, 500, 3000) - level(noise, 500, 3000) == pytest.approx(0, abs=0.5)
    assert level(passed, 0, 100) - level(noise, 0, 100) < -40
    assert level(passed, 6000, 8000) - level(noise, 6000, 8000) < -40


@pytest.mark.parametrize("condition", ["MP3", "Opus"])
def test_coding_keeps_length_and_most_of_the_sound(condition: str) -> None:
    coded = heard(condition)
    assert len(coded) == len(VOICE)
    assert np.corrcoef(coded, VOICE)[0, 1] > 0.95
    assert not np.allclose(coded, VOICE, atol=1e-4)


@pytest.mark.parametrize("gain", [-6, 6])
def test_a_gain_changes_the_level_and_nothing_else(gain: int) -> None:
    changed = heard(f"gain {gain:+d} dB")
    assert 10 * np.log10(np.mean(changed**2) / np.mean(VOICE**2)) == pytest.approx(gain, abs=1e-3)
    assert np.corrcoef(changed, VOICE)[0, 1] == pytest.approx(1)


def test_clipping_keeps_the_peak_and_cuts_what_exceeds_it() -> None:
    clipped = heard("clipped by 12 dB")
    peak = np.abs(VOICE).max()
    assert np.abs(clipped).max() == pytest.approx(peak)
    quiet = np.abs(VOICE) < peak / 4.1
    assert clipped[quiet] == pytest.approx(VOICE[quiet] * 10 ** (12 / 20), rel=1e-5)


def test_pitch_and_duration_move_as_named() -> None:
    assert np.abs(np.fft.rfft(heard("pitch +4"))).argmax() / 2 == pytest.approx(200 * 2 ** (4 / 12), rel=0.02)
    assert len(heard("duration x 0.75")) == round(0.75 * len(VOICE))


def test_babble_is_of_other_speakers_and_the_same_whenever_asked(tiny_corpus: Corpus) -> None:
    disturbed = Disturbed.of(tiny_corpus, "babble 0 dB")
    first, again = disturbed.waveform(3), disturbed.waveform(3)
    assert (first == again).all()
    noise = first - tiny_corpus.waveform(3)
    own = [i for i in range(len(tiny_corpus)) if tiny_corpus.table["speaker"][i] == tiny_corpus.table["speaker"][3]]
    for i in own:  # no recording of the speaker is in it
        voice = np.resize(tiny_corpus.waveform(i), len(noise))
        match = np.fft.irfft(np.fft.rfft(noise) * np.fft.rfft(voice).conj())
        assert np.abs(match).max() < 0.8 * np.linalg.norm(noise) * np.linalg.norm(voice)


def test_features_of_babble_are_kept_for_these_speakers_and_others_whoever_speaks(tiny_corpus: Corpus) -> None:
    speakers = np.roll(tiny_corpus.table["speaker"], 1)
    corrected = replace(tiny_corpus, table=tiny_corpus.table.assign(speaker=speakers))
    keys = {
        name: [bank.content(Disturbed.of(corpus, name)) for corpus in (tiny_corpus, corrected)]
        for name in ("babble 0 dB", "white 0 dB")
    }
    assert keys["babble 0 dB"][0] != keys["babble 0 dB"][1]
    assert keys["white 0 dB"][0] == keys["white 0 dB"][1]


def test_babble_of_nobody_else_is_one_line(tiny_corpus: Corpus) -> None:
    alone = tiny_corpus.subset(tiny_corpus.table["speaker"] == "ann")
    with pytest.raises(CorpusError, match="one speaker; babble is mixed from other people"):
        Disturbed.of(alone, "babble 10 dB").waveform(0)


def test_one_training_gives_a_record_for_each_condition_and_the_clean_one_is_table_2s(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    names = ("clean", "white 0 dB", "telephone band")
    rows = tuple(Row(f"small, {name}", tiny.SMALL, protocol=DISTURBED.name, condition=name) for name in names)
    heard = Experiment("robustness", "", rows, protocols=(DISTURBED.name,))
    plain = Experiment("first", "", (Row("full", tiny.SMALL),))
    full, store = profiles.PROFILES["full"], Store("tiny", tmp_path)
    wanted = grid.trials([heard], tiny_corpus, full, seeds=[0])
    assert grid.run(wanted, tiny_corpus, store, workers=1, progress=False) == 5  # trainings
    found = store.read("robustness")
    assert len(found) == 15
    assert grid.run(wanted, tiny_corpus, store, workers=1, progress=False) == 0
    grid.run(grid.trials([plain], tiny_corpus, full, seeds=[0]), tiny_corpus, store, workers=1, progress=False)
    clean = found[found["row"] == "small, clean"].set_index("fold")["accuracy"].sort_index()
    assert clean.equals(store.read("first").set_index("fold")["accuracy"].sort_index())


def test_a_killed_run_computes_the_missing_conditions_alone(tiny_corpus: Corpus, tmp_path: Path) -> None:
    rows = tuple(
        Row(f"small, {name}", tiny.SMALL, protocol=DISTURBED.name, condition=name) for name in ("clean", "white 0 dB")
    )
    wanted = grid.trials(
        [Experiment("robustness", "", rows, protocols=(DISTURBED.name,))],
        tiny_corpus,
        profiles.PROFILES["full"],
        seeds=[0],
    )
    whole, cut = Store("tiny", tmp_path / "whole"), Store("tiny", tmp_path / "cut")
    grid.run(wanted, tiny_corpus, whole, workers=1, progress=False)
    grid.run([trial for trial in wanted if trial.row.endswith("clean")], tiny_corpus, cut, workers=1, progress=False)
    grid.run(wanted, tiny_corpus, cut, workers=1, progress=False)
    assert tiny.same(tiny.records(tmp_path / "whole"), tiny.records(tmp_path / "cut"))
