"""A file becomes checked samples: mono, one sampling rate, finite, neither silent nor cut off."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import librosa
import numpy as np
import soundfile

from hmoe.base.errors import AudioError
from hmoe.base.files import atomic_write

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")  # of files that are taken for audio where a folder is given
SHORTEST = 0.025  # s: one analysis window
LONGEST = 60.0  # s: an utterance, not a recording session; the longest of CASIA takes 4.9 s
SILENCE = 2e-4  # peak to peak: about six steps of 16 bits, 80 dB below full scale
OVERSHOOT = 2.0  # decoders of lossy formats and resampling pass 1 a little; integers taken for floats pass it a lot


class ConversionWarning(UserWarning):
    """Audio that was not mono or not at the asked rate, and has been converted."""


class Truncated(AudioError):
    """A file that ends before its header says so."""


def read(path: str | os.PathLike[str], sample_rate: int = 16_000, longest: float = LONGEST) -> np.ndarray:
    """Samples of an audio file: float32, shape (n,), in [-1, 1], at `sample_rate` Hz.

    Channels are averaged and other rates resampled (soxr, high quality); a ConversionWarning says so, once in a
    process for each kind of file. `longest` is in seconds.

    Raises AudioError for whatever is missing, empty, truncated, not audio, or refused by `check`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise AudioError(path, "empty file", "copy it again from its source")
            _refuse_cut_wav(path, file)
    except FileNotFoundError:
        raise AudioError(path, "no such file", "check the path") from None
    except OSError as error:
        raise AudioError(path, f"cannot be read ({error.strerror})", "give a file that you may read") from None
    try:
        with soundfile.SoundFile(path) as file:
            rate, announced = file.samplerate, file.frames
            _refuse_length(path, announced, rate, longest)
            samples = file.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError:
        raise AudioError(path, "not audio, or damaged", "expected WAV, FLAC, OGG or MP3: convert it") from None
    if len(samples) < announced:
        raise Truncated(path, f"truncated: {len(samples)} of {announced} samples", "copy it again from its source")
    if samples.shape[1] > 1:
        announce(f"audio with {samples.shape[1]} channels is averaged to one")
    samples = samples.mean(axis=1)
    check(samples, path, rate, longest)
    if rate != sample_rate:
        announce(f"audio at {rate} Hz is resampled to {sample_rate} Hz")
        samples = librosa.resample(samples, orig_sr=rate, target_sr=sample_rate)
    return np.clip(samples, -1, 1)


def check(samples: np.ndarray, where: object, sample_rate: int = 16_000, longest: float = LONGEST) -> None:
    """Raise AudioError unless `samples` (floats, shape (n,)) can be an utterance; `where` names them in the error.

    Refused: NaN and infinity, more than `longest` seconds or less than 25 ms, silence, integers, another shape.
    """
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        found = f"{samples.dtype} of shape {samples.shape}"
        raise AudioError(where, f"expected floats of shape (n,), got {found}", "average channels, scale to [-1, 1]")
    _refuse_length(where, len(samples), sample_rate, longest)
    finite = np.isfinite(samples)
    if not finite.all():
        raise AudioError(
            where, f"{(~finite).sum()} of {samples.size} samples are NaN or infinite", "export it again as 16-bit WAV"
        )
    if np.ptp(samples) < SILENCE:
        raise AudioError(where, "silent", "leave it out, or record it again")
    if (peak := np.abs(samples).max()) > OVERSHOOT:
        raise AudioError(where, f"samples reach {peak:.3g}", "scale to [-1, 1]")


def digest(samples: np.ndarray) -> str:
    """SHA-256 (hexadecimal) of the samples as 16-bit PCM: the same for one recording in whatever container."""
    return hashlib.sha256(_pcm16(samples).tobytes()).hexdigest()


def encode(samples: np.ndarray, sample_rate: int = 16_000) -> bytes:
    """Floats of shape (n,) in [-1, 1] as the content of a 16-bit WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, _pcm16(samples), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int = 16_000) -> None:
    """Write floats of shape (n,) in [-1, 1] as a 16-bit WAV file, whole or not at all (StoreError)."""
    atomic_write(path, encode(samples, sample_rate))


def _pcm16(samples: np.ndarray) -> np.ndarray:
    # Rounded here rather than by libsndfile, so that what is read back has the digest of what was written.
    return np.clip(np.round(np.asarray(samples, np.float64) * 32_768), -32_768, 32_767).astype("<i2")


@functools.cache
def announce(what: str) -> None:
    """Warn of a conversion, once in a process."""
    # Cached, so that a corpus of 1200 files says it once; Python's own filter forgets whenever a library changes it.
    warnings.warn(what, ConversionWarning, stacklevel=2)


def _refuse_length(where: object, n: int, rate: int, longest: float) -> None:
    if n < SHORTEST * rate:
        raise AudioError(
            where, f"{1000 * n / rate:.1f} ms is too short", f"one analysis window takes {1000 * SHORTEST:.0f} ms"
        )
    if n > longest * rate:
        raise AudioError(where, f"{n / rate:.1f} s is too long, the limit is {longest:g} s", "cut it into utterances")


def _refuse_cut_wav(path: Path, file: BinaryIO) -> None:
    """libsndfile returns what there is of a WAV file that was cut off and says nothing, so the header is read here."""
    size = path.stat().st_size
    if file.read(4) != b"RIFF":
        return
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, announced = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"data":
            held = size - file.tell()
            # Programs that write to a pipe cannot know the length and announce nothing or the most there can be.
            if held < announced < 0xFFFF_F000:
                raise Truncated(
                    path, f"truncated: {held} of {announced} bytes of samples", "copy it again from its source"
                )
            return
        file.seek(announced + announced % 2, os.SEEK_CUR)
    raise Truncated(path, "truncated: ends before its samples", "copy it again from its source")
