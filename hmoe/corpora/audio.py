"""A file becomes checked samples: mono, one sampling rate, finite, neither silent nor cut off."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import stat
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import librosa
import numpy as np
import soundfile

from hmoe.base.errors import AudioError
from hmoe.base.files import atomic_write
from hmoe.corpora import containers
from hmoe.corpora.containers import Truncated

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")  # of files that are taken for audio where a folder is given
OTHERS = (
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".awb", ".caf", ".dsf", ".dts",
    ".m4a", ".m4b", ".m4r", ".mka", ".mkv", ".mov", ".mp2", ".mp4", ".mpc", ".nist", ".oga", ".opus", ".qcp", ".ra",
    ".rf64", ".rm", ".snd", ".spx", ".sph", ".tta", ".voc", ".w64", ".webm", ".wma", ".wv",
)  # of files that hold sound, and may or may not be read  # fmt: skip
KINDS = "WAV, FLAC, OGG, MP3, AIFF, AU, CAF or W64"
READ = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "SVX", "AU", "CAF", "NIST", "VOC", "FLAC", "OGG", "MP3"}
"""Containers, as libsndfile calls them, that say how long they are: a file that was cut off can be told."""
SHORTEST = 0.025  # s: one analysis window
LONGEST = 60.0  # s: an utterance, not a recording session; the longest of CASIA takes 4.9 s
SILENCE = 2e-4  # peak to peak: about six steps of 16 bits, 80 dB below full scale
OVERSHOOT = 2.0  # decoders of lossy formats and resampling pass 1 a little; integers taken for floats pass it a lot
CANCELLED = 1e-3  # power of the average of channels in theirs: two independent ones have a half
BLOCK = 1 << 16  # frames that are decoded at a time
UNKNOWN = 1 << 62  # frames: what libsndfile says where nobody knows
CONVERT = "convert it to WAV with 16 bits"


class ConversionWarning(UserWarning):
    """Audio that was not mono or not at the asked rate, and has been converted."""


class Recording(NamedTuple):
    """What a file holds: float32, shape (n,), in [-1, 1], at the rate asked for. The file's own is `rate`, in Hz."""

    samples: np.ndarray
    rate: int


class Stream(soundfile.SoundFile):
    """Read from the first sample to the last: libsndfile cannot seek in a file whose length nobody knows."""

    def seekable(self) -> bool:
        return False


class Endless(io.BytesIO):
    """A file that is said to be longer than it is, so that an estimate of its length is never too low."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.told = super().seek(offset, whence) + (100 * len(self.getbuffer()) if whence == os.SEEK_END else 0)
        return self.told

    def tell(self) -> int:
        return max(self.told, super().tell())

    told = 0


def read(source: str | os.PathLike[str] | bytes, sample_rate: int = 16_000, longest: float = LONGEST) -> np.ndarray:
    """Samples of an audio file: float32, shape (n,), in [-1, 1], at `sample_rate` Hz.

    `source` is a path, or the content of a file. Channels are averaged and other rates resampled (soxr, high quality);
    a ConversionWarning says so, once in a process for each kind of file. `longest` is in seconds.

    Raises AudioError for whatever is missing, empty, truncated, not audio, or refused by `check`.
    """
    return decode(source, sample_rate, longest).samples


def decode(source: str | os.PathLike[str] | bytes, sample_rate: int = 16_000, longest: float = LONGEST) -> Recording:
    """What `read` reads, with the rate of the file."""
    where = "standard input" if isinstance(source, bytes) else Path(source)
    try:
        with _opened(source, where) as file:
            mended = containers.check(file, where)
            samples, rate = _decoded(source if mended is None else mended, file, where, longest)
    except OSError as error:
        raise AudioError(where, f"cannot be read ({error.strerror})", "give a file that you may read") from None
    mono = samples.mean(axis=1)
    if samples.shape[1] > 1:
        announce(f"audio with {samples.shape[1]} channels is averaged to one")
        each, both = (np.square(one, dtype=np.float64).mean() for one in (samples, mono))
        if SILENCE**2 < each < np.inf and both < CANCELLED * each:
            raise AudioError(where, "the channels cancel each other", "keep one of them: their average is silent")
    check(mono, where, rate, longest)
    if rate != sample_rate:
        announce(f"audio at {rate} Hz is resampled to {sample_rate} Hz")
        try:
            mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate)
        except Exception as error:  # soxr's own, for a rate that nothing is recorded at
            raise AudioError(where, f"cannot be resampled from {rate} Hz ({error})", CONVERT) from None
    return Recording(np.clip(mono, -1, 1), rate)


def _opened(source: str | os.PathLike[str] | bytes, where: object) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        kind = os.stat(source).st_mode
    except FileNotFoundError:
        raise AudioError(where, "no such file", "check the path") from None
    except ValueError as error:  # a name that no file can have
        raise AudioError(where, f"not a path ({error})", "check the path") from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # to open a pipe is to wait until somebody writes to it
        raise AudioError(where, "a pipe or a device, not a file", "write to a file first, or `hmoe predict - < PIPE`")
    return open(source, "rb")


def _decoded(
    source: str | os.PathLike[str] | bytes, file: BinaryIO, where: object, longest: float
) -> tuple[np.ndarray, int]:
    """All frames of a file (n, channels), and their rate. Whatever a decoder raises is an AudioError."""
    estimated = containers.estimated(file)
    if estimated:
        file.seek(0)
        source = Endless(file.read())
    elif isinstance(source, bytes):
        source = io.BytesIO(source)
    announced, blocks = 0, []
    try:
        with Stream(source) as sound:
            if sound.format not in READ:
                raise AudioError(where, f"{sound.format_info} is not read: its length cannot be checked", CONVERT)
            if not soundfile.SoundFile.seekable(sound):
                raise AudioError(where, f"{sound.subtype_info} in {sound.format} is not read", CONVERT)
            rate, announced = sound.samplerate, sound.frames
            meant = not estimated and announced < UNKNOWN
            if meant:
                _refuse_length(where, announced, rate, longest)
            lossless = sound.format == "FLAC"
            while len(block := sound.read(BLOCK, dtype="int32" if lossless else "float32", always_2d=True)):
                blocks.append(block)
                _refuse_long(where, BLOCK * (len(blocks) - 1), rate, longest)
            samples = np.concatenate(blocks or [block])
    except AudioError:
        raise
    except Exception as error:  # libraries raise what they like for a file that nobody foresaw
        why = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
        if announced:
            raise Truncated(where, f"truncated or damaged ({why})", containers.AGAIN) from None
        raise AudioError(where, f"not audio, or damaged ({why})", f"expected {KINDS}: convert it") from None
    if meant and len(samples) < announced:
        raise Truncated(where, f"truncated: {len(samples)} of {announced} samples", containers.AGAIN)
    if lossless:
        containers.check_flac(file, samples, where)
        samples = (samples / 2**31).astype(np.float32)
    return samples, rate


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
    _refuse_long(where, n, rate, longest)


def _refuse_long(where: object, n: int, rate: int, longest: float) -> None:
    if n > longest * rate:
        raise AudioError(where, f"{n / rate:.1f} s is too long, the limit is {longest:g} s", "cut it into utterances")
