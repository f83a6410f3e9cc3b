"""§3.2: the frames are librosa's, mean what they say, and are the same from both implementations."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmoe import features
from hmoe.config import Config, Features
from hmoe.inputs.features_torch import Extractor

PAPER = Features()
OWN_LEVEL = Features(level="utterance")
PEERS = Features(sample_rate=22_050, window=2048, n_fft=2048, hop=512, n_mfcc=39, deltas=False)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TOLERANCE = {"mfcc": 1e-2, "mel": 1e-2, "chroma": 1e-4}  # mel in dB


def audio(kind: str, length: int, seed: int) -> np.ndarray:
    """(length,) float32 of many sorts: loud, faint, tonal, silent in places, constant, zero."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(length) * 10 ** rng.uniform(-4, 0)
    time = np.arange(length) / 16_000
    samples = {
        "noise": noise,
        "tone": np.sin(2 * np.pi * rng.uniform(60, 7900) * time),
        "glide": np.sign(np.sin(2 * np.pi * (100 * time + 200 * time**2))) + 0.01 * noise,
        "gap": np.where(np.arange(length) % 4000 < 2000, noise, 0),
        "constant": np.full(length, rng.uniform(-1, 1)),
        "silence": np.zeros(length),
        "click": np.arange(length) == rng.integers(length),
    }[kind]
    return samples.astype(np.float32)


KINDS = st.sampled_from(["noise", "tone", "glide", "gap", "constant", "silence", "click"])
UTTERANCE = st.builds(audio, KINDS, st.integers(1, 24_000), st.integers(0, 2**32))


def batch(utterances: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(samples) for samples in utterances])
    return torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, utterances)), batch_first=True), lengths


@pytest.mark.parametrize("length", [1, 400, 1600, 30_400])
@pytest.mark.parametrize("config", [PAPER, PEERS], ids=["paper", "peers"])
def test_a_frame_every_hop_and_a_column_for_each_dimension(config: Features, length: int) -> None:
    frames = features.extract(audio("noise", length, 0), config)
    assert frames.shape == (1 + length // config.hop, sum(config.dims.values()))
    assert frames.dtype == np.float32 and np.isfinite(frames).all()


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_referred_to_the_utterances_own_maximum_a_gain_makes_no_difference(gain: float) -> None:
    own, samples = Features(level="utterance"), audio("tone", 16_000, 0) + audio("noise", 16_000, 0)
    loud, plain = features.extract(gain * samples, own), features.extract(samples, own)
    np.testing.assert_allclose(loud, plain, atol=1e-2)
    mel = features.columns(own, ["mel"])
    assert plain[:, mel].max() == pytest.approx(0, abs=1e-4)
    absolute = features.extract(samples)
    np.testing.assert_allclose(plain[:, mel], absolute[:, mel] - absolute[:, mel].max(), atol=1e-3)


def test_the_paper_has_120_and_128_and_12_columns() -> None:
    assert PAPER.dims == {"mfcc": 120, "mel": 128, "chroma": 12}
    assert features.extract(audio("noise", 16_000, 0)).shape == (101, 260)


@given(UTTERANCE)
@settings(max_examples=25, deadline=None)
def test_frames_are_what_librosa_makes_of_the_same_grid(samples: np.ndarray) -> None:
    exact = np.pad(samples.astype(np.float64), 256)  # librosa warns of utterances shorter than 512 samples
    grid = {"sr": 16_000, "n_fft": 512, "hop_length": 160, "win_length": 400, "center": False}
    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=exact, n_mels=128, **grid))
    mfcc = librosa.feature.mfcc(S=mel, n_mfcc=40)
    deltas = [librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)]
    chroma = librosa.feature.chroma_stft(y=exact, tuning=0, **grid)
    np.testing.assert_allclose(features.extract(samples), np.vstack([mfcc, *deltas, mel, chroma]).T, atol=1e-3)


def test_a_tone_lights_its_mel_band_and_its_pitch_class() -> None:
    time = np.arange(16_000) / 16_000
    frames = features.extract(np.sin(2 * np.pi * 880 * time).astype(np.float32))[10:-10]
    mel, chroma = (frames[:, features.columns(PAPER, [name])] for name in ("mel", "chroma"))
    centres = librosa.mel_frequencies(130, fmax=8000)[1:-1]
    assert abs(centres[mel.mean(axis=0).argmax()] - 880) < 20
    assert (chroma.argmax(axis=1) == 9).all()  # C is 0, A is 9
    assert np.allclose(chroma.max(axis=1), 1)


def test_ten_times_the_amplitude_is_20_db_in_mel_and_the_first_mfcc_alone() -> None:
    quiet = features.extract(audio("noise", 8000, 1))
    loud = features.extract(10 * audio("noise", 8000, 1))
    difference = loud - quiet
    expected = np.zeros(260)
    expected[features.columns(PAPER, ["mel"])] = 20
    expected[0] = 20 * np.sqrt(128)  # orthonormal DCT of a constant
    np.testing.assert_allclose(difference, np.tile(expected, (len(quiet), 1)), atol=1e-2)


@given(st.lists(UTTERANCE, min_size=1, max_size=4), st.sampled_from(DEVICES))
@settings(max_examples=40, deadline=None)
def test_both_implementations_are_equal_over_batches_of_many_lengths(utterances: list[np.ndarray], device: str) -> None:
    for config in (PAPER, PEERS, OWN_LEVEL):
        waves, lengths = batch(utterances)
        found, numbers = Extractor(config).to(device)(waves.to(device), lengths.to(device))
        for frames, number, samples in zip(found.cpu().numpy(), numbers.tolist(), utterances, strict=True):
            expected = features.extract(samples, config)
            assert number == len(expected)
            assert not frames[number:].any()
            for modality, tolerance in TOLERANCE.items():
                mine = features.columns(config, [modality])
                assert np.abs(frames[:number, mine] - expected[:, mine]).max() < tolerance, modality


def test_what_stands_behind_an_utterance_in_its_row_is_not_heard() -> None:
    waves, lengths = batch([audio("glide", 3000, 2), audio("noise", 9000, 3)])
    quiet, _ = Extractor()(waves, lengths)
    waves[0, 3000:] = 1.0
    loud, _ = Extractor()(waves, lengths)
    assert torch.equal(quiet, loud)


def test_the_floor_is_80_db_below_an_utterances_own_loudest_band() -> None:
    # The last sample is loudest in a frame that begins behind the utterance, and is not its own.
    click = (np.arange(319) == 318).astype(np.float32)
    frames, numbers = Extractor()(*batch([click, audio("noise", 9000, 3)]))
    np.testing.assert_allclose(frames[0, : numbers[0]], features.extract(click), atol=1e-4)


def test_pooling_is_the_mean_of_each_column_over_time() -> None:
    frames = np.random.default_rng(0).standard_normal((7, 260)).astype(np.float32)
    expected = sum(frame.astype(np.float64) for frame in frames) / 7
    np.testing.assert_allclose(features.pool(frames), expected, atol=1e-7)


@pytest.mark.parametrize("length", [1, 2, 190])
def test_statistics_begin_with_the_mean_and_end_with_the_90th_percentile(length: int) -> None:
    frames = np.random.default_rng(0).standard_normal((length, 260)).astype(np.float32)
    mean, deviation, *percentiles = features.statistics(frames).reshape(5, 260)
    np.testing.assert_array_equal(mean, features.pool(frames))
    np.testing.assert_allclose(deviation, frames.std(axis=0), atol=1e-6)
    np.testing.assert_allclose(percentiles, np.percentile(frames, [10, 50, 90], axis=0), atol=1e-6)


def test_statistics_leave_the_frames_as_they_were() -> None:
    frames = np.random.default_rng(0).standard_normal((9, 260)).astype(np.float32)
    before = frames.copy()
    features.statistics(frames)
    np.testing.assert_array_equal(frames, before)


def test_columns_take_the_d_matrix_apart() -> None:
    assert features.columns(PAPER, ["mel"]).tolist() == list(range(120, 248))
    assert features.columns(Config(), ["chroma", "mfcc"]).tolist() == [*range(120), *range(248, 260)]
    assert features.columns(PEERS, ["mfcc", "mel", "chroma"]).tolist() == list(range(39 + 128 + 12))


def test_thinning_averages_neighbours_and_what_is_left_over() -> None:
    frames = np.arange(14, dtype=np.float32).reshape(7, 2)
    thinned = features.thin(frames, 3)
    np.testing.assert_array_equal(thinned, [frames[:3].mean(axis=0), frames[3:6].mean(axis=0), frames[6]])
    assert thinned.dtype == np.float32
    np.testing.assert_array_equal(features.thin(frames, 1), frames)
    np.testing.assert_array_equal(features.thin(frames, 9), [frames.mean(axis=0)])
