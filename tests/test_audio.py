"""A file becomes checked samples, or one line that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hmoe.base.errors import AudioError, StoreError
from hmoe.corpora import audio

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def frequency(samples: np.ndarray) -> float:
    return np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)


@given(seed=st.integers(0, 2**32), n=st.integers(400, 5_000), level=st.floats(0.001, 0.99))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, level: float) -> None:
    samples = np.random.default_rng(seed).uniform(-level, level, n).astype(np.float32)
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    audio.write(path, samples)
    back = audio.read(path)
    assert back.dtype == np.float32 and back.shape == (n,)
    assert np.abs(back - samples).max() <= 0.501 / 32_768
    assert audio.digest(back) == audio.digest(samples)
    audio.write(path, back)
    assert np.array_equal(audio.read(path), back)


def test_digest_is_of_the_samples_and_not_of_the_container(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", tone(0.5))
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    wav, flac = audio.read(tmp_path / "a.wav"), audio.read(tmp_path / "a.flac")
    assert audio.digest(wav) == audio.digest(flac)
    wav[100] += 1 / 32_768
    assert audio.digest(wav) != audio.digest(flac)


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_and_channels_become_16_kHz_mono(tmp_path: Path, rate: int) -> None:
    left = tone(1.0, rate)
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0.5 * left], axis=1), rate)
    samples = audio.read(tmp_path / "a.wav")
    assert samples.shape == (RATE,) and samples.dtype == np.float32
    assert frequency(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples[1_000:-1_000]).max() == pytest.approx(0.375, abs=0.01)


def test_a_conversion_is_said_once_for_many_files(tmp_path: Path) -> None:
    rate = 12_347  # that no other test converts, as it is said once in a process
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.2, rate), rate)
    with pytest.warns(audio.ConversionWarning, match=f"{rate} Hz is resampled to 16000 Hz") as said:
        for i in range(5):
            audio.read(tmp_path / f"{i}.wav")
    assert len(said) == 1


def whole(path: Path) -> bytes:
    soundfile.write(path, tone(1.0), RATE, subtype="PCM_16")
    return path.read_bytes()


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        path.write_bytes(change(whole(path)))

    return build


def containing(samples: np.ndarray, subtype: str = "PCM_16") -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples, RATE, subtype=subtype)


def with_value(value: float) -> np.ndarray:
    samples = tone(1.0)
    samples[7] = value
    return samples


BAD = {
    "missing": (lambda path: None, "no such file"),
    "a directory": (lambda path: path.mkdir(), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "text": (lambda path: path.write_text("this is no audio"), "not audio, or damaged"),
    "bytes": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5_000)), "not audio, or damaged"),
    "cut in the samples": (damaged(lambda data: data[:20_000]), "truncated: 19956 of 32000 bytes"),
    "cut by one sample": (damaged(lambda data: data[:-2]), "truncated: 31998 of 32000 bytes"),
    "cut in the header": (damaged(lambda data: data[:30]), "truncated: ends before its samples"),
    "no samples": (containing(tone(0.0)), "0.0 ms is too short"),
    "24 ms": (containing(tone(0.024)), "24.0 ms is too short; one analysis window takes 25 ms"),
    "61 s": (containing(tone(61.0)), "61.0 s is too long, the limit is 60 s; cut it"),
    "silent": (containing(np.zeros(RATE)), "silent"),
    "constant": (containing(np.full(RATE, 0.3)), "silent"),
    "NaN": (containing(with_value(np.nan), "FLOAT"), "1 of 16000 samples are NaN or infinite"),
    "infinite": (containing(with_value(-np.inf), "FLOAT"), "1 of 16000 samples are NaN or infinite"),
    "integers taken for floats": (containing(32_767 * tone(1.0), "FLOAT"), "samples reach 1.64e.04; scale to"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_that_names_it_and_the_remedy(tmp_path: Path, case: str) -> None:
    build, expected = BAD[case]
    path = tmp_path / "bad.wav"
    build(path)
    with pytest.raises(AudioError, match=expected) as caught:
        audio.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "; " in message and "\n" not in message


def test_a_cut_flac_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(whole(path)[:-500])
    with pytest.raises(AudioError, match="damaged|truncated"):
        audio.read(path)


@pytest.mark.parametrize("announced", [0xFFFF_FFFF, 0x7FFF_F000])
def test_only_a_length_that_could_be_meant_is_held_against_a_file(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "piped.wav"
    data = whole(path)
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + announced.to_bytes(4, "little") + data[at + 4 :])
    if announced == 0xFFFF_FFFF:  # what a program writes that does not know the length
        assert len(audio.read(path)) == RATE
    else:
        with pytest.raises(audio.Truncated, match="32000 of 2147479552 bytes"):
            audio.read(path)


def test_chunks_before_the_samples_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "tagged.wav"
    data = whole(path)
    path.write_bytes(data[:36] + b"LIST" + (5).to_bytes(4, "little") + b"INFO!\0" + data[36:])
    assert len(audio.read(path)) == RATE


def test_the_limit_of_length_is_a_parameter(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    assert len(audio.read(tmp_path / "a.wav", longest=2.0)) == 2 * RATE
    with pytest.raises(AudioError, match="the limit is 1.5 s"):
        audio.read(tmp_path / "a.wav", longest=1.5)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.zeros(RATE), "silent"),
        (tone(0.01), "too short"),
        (tone(1.0).reshape(2, -1), r"got float32 of shape \(2, 8000\)"),
        ((1_000 * tone(1.0)).astype(np.int16), "got int16"),
        (with_value(np.nan), "NaN"),
        (10 * tone(1.0), "samples reach 5"),
    ],
)
def test_samples_in_memory_are_held_to_the_same(samples: np.ndarray, expected: str) -> None:
    audio.check(tone(0.025), "microphone")
    with pytest.raises(AudioError, match=f"^microphone: .*{expected}"):
        audio.check(samples, "microphone")


def test_writing_where_nothing_can_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        audio.write(tmp_path / "file" / "a.wav", tone(0.1))
