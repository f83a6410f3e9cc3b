"""A file becomes checked samples, or one line that says why not."""

from __future__ import annotations

import os
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


# What GStreamer, sox, arecord and ffmpeg write to a pipe, as they cannot know the length.
@pytest.mark.parametrize("announced", [0, 0x7FFF_0000, 0x7FFF_F000, 0x7FFF_FF00, 0xFFFF_FFFF])
def test_only_a_length_that_could_be_meant_is_held_against_a_file(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "piped.wav"
    data = whole(path)
    original, at = audio.read(path), data.index(b"data") + 4
    path.write_bytes(data[:at] + announced.to_bytes(4, "little") + data[at + 4 :])
    assert np.array_equal(audio.read(path), original)
    path.write_bytes(data[:at] + (40_000).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(audio.Truncated):
        audio.read(path)


def test_a_flac_file_from_a_pipe_has_no_length_and_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "piped.flac"
    soundfile.write(path, tone(1.0), RATE)
    original, data = audio.read(path), bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert np.array_equal(audio.read(path), original)


@pytest.mark.parametrize("speech_first", [True, False])
def test_an_mp3_without_the_frame_that_tells_its_length_is_read_whole(tmp_path: Path, speech_first: bool) -> None:
    """Of a variable bit rate the length is guessed from the first frame: too short, or too long."""
    path = tmp_path / "piped.mp3"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    samples = np.concatenate([noise, np.zeros(3 * RATE)] if speech_first else [np.zeros(3 * RATE), noise])
    soundfile.write(path, samples, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    data = path.read_bytes()
    kbit = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[data[2] >> 4]
    path.write_bytes(data[72 * kbit * 1000 // RATE + (data[2] >> 1 & 1) :])
    found = audio.read(path)
    assert len(found) == pytest.approx(len(samples), abs=2_000)  # encoders add silence before and after
    loud = np.abs(found) > 0.05
    assert loud.mean() == pytest.approx(0.2, abs=0.05)


KINDS = [
    (container, subtype)
    for container in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(container)
    if container not in ("RAW", "SD2")  # no file of its own; its header is in a second file
]
SMALL = {"GSM610", "G721_32", "VOX_ADPCM", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "ALAW"}  # want 8 kHz


@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_a_file_of_whatever_kind_is_read_whole_or_refused_and_half_of_it_is_refused(
    tmp_path: Path, container: str, subtype: str
) -> None:
    path, rate = tmp_path / "a", 8_000 if subtype in SMALL else RATE
    try:
        soundfile.write(path, tone(1.0, rate), rate, format=container, subtype=subtype)
        assert path.stat().st_size > 2_000
    except (soundfile.SoundFileError, AssertionError):
        pytest.skip("libsndfile does not write it")
    try:
        # Some codecs fill up their last block; VOC knows rates of 10^6 / n alone.
        assert len(audio.read(path, rate)) == pytest.approx(rate, abs=1_100)
    except AudioError as error:
        assert "is not read" in error.what
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert isinstance(caught.value, audio.Truncated) or container not in audio.READ


def test_a_shorter_length_than_there_is_is_no_length(tmp_path: Path) -> None:
    """Else what follows would be left out without a word."""
    path = tmp_path / "a.wav"
    data = whole(path)
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + (20_000).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(AudioError, match="damaged: its header tells of 20000 of 32000 bytes"):
        audio.read(path)


def test_a_flac_file_with_another_checksum_than_its_samples_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(1.0), RATE)
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(AudioError, match="checksum"):
        audio.read(path)


def test_channels_that_cancel_each_other_are_not_called_silent(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(1.0), -tone(1.0)], axis=1), RATE)
    with pytest.raises(AudioError, match="the channels cancel each other; keep one of them"):
        audio.read(path)
    soundfile.write(path, np.stack([tone(1.0), 0 * tone(1.0)], axis=1), RATE)
    assert np.abs(audio.read(path)).max() == pytest.approx(0.25, abs=0.01)
    soundfile.write(path, np.zeros((RATE, 2)), RATE)
    with pytest.raises(AudioError, match="silent"):
        audio.read(path)


def test_a_pipe_is_said_to_be_one_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="a pipe or a device, not a file; "):
        audio.read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x20ftypM4A \0\0", "M4A"),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "WMA"),
        (b"#!AMR\n" + bytes(50), "AMR"),
        (b"\xff\xf1\x50\x80" + bytes(50), "AAC"),
        (b"PK\x03\x04" + bytes(50), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    ],
)
def test_what_is_often_taken_for_a_recording_is_called_what_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=f"^.*a.wav: {kind}.*, which is not read; "):
        audio.read(tmp_path / "a.wav")


def test_the_content_of_a_file_is_read_as_the_file(tmp_path: Path) -> None:
    data = whole(tmp_path / "a.wav")
    assert np.array_equal(audio.read(data), audio.read(tmp_path / "a.wav"))
    with pytest.raises(audio.Truncated, match="standard input: truncated"):
        audio.read(data[:20_000])


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
