"""§3.2: a waveform becomes MFCC, log-mel and chroma on one grid of frames. librosa is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import librosa
import numpy as np

from hmoe.config import Features

DEFAULT = Features()
DELTA_WIDTH = 9  # frames: librosa's default, 90 ms
AMIN = 1e-10  # of the power of a mel band: what is below counts as this
TOP_DB = 80.0  # librosa's default: how far below an utterance's loudest mel band its quietest may lie
PERCENTILES = (10, 50, 90)


def power(samples: np.ndarray, features: Features = DEFAULT) -> np.ndarray:
    """(S,) samples -> (n_fft // 2 + 1, T) power spectrum, T = 1 + S // hop; Hann, centred, zeros outside (Q10)."""
    # In double precision and padded by hand: so that the reference is free of rounding, and because librosa warns of
    # utterances shorter than a window.
    padded = np.pad(np.asarray(samples, dtype=np.float64), features.n_fft // 2)
    grid = {"n_fft": features.n_fft, "hop_length": features.hop, "win_length": features.window}
    return np.abs(librosa.stft(padded, center=False, window="hann", **grid)) ** 2


def extract(samples: np.ndarray, features: Features = DEFAULT) -> np.ndarray:
    """(S,) samples at `features.sample_rate` -> (T, D) float32: MFCC with deltas, log-mel in dB, chroma (§3.2).

    D = 40 * 3 + 128 + 12 = 260 by default; `columns` says which column is what. Decibels are of full scale, or with
    `level="utterance"` of the loudest mel band of the utterance, so that how loud it was recorded makes no difference.
    """
    spectrum, rate = power(samples, features), features.sample_rate
    mel = mel_filters(rate, features.n_fft, features.n_mels) @ spectrum
    reference = 1.0 if features.level == "absolute" else np.max
    log_mel = librosa.power_to_db(mel, ref=reference, amin=AMIN, top_db=TOP_DB)
    mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=features.n_mfcc, dct_type=2, norm="ortho")
    # `nearest` holds the edge frames on: librosa's default refuses fewer frames than the delta is wide.
    orders = (1, 2) if features.deltas else ()
    deltas = [librosa.feature.delta(mfcc, width=DELTA_WIDTH, order=order, mode="nearest") for order in orders]
    chroma = librosa.util.normalize(chroma_filters(rate, features.n_fft, features.n_chroma) @ spectrum, norm=np.inf)
    return np.concatenate([mfcc, *deltas, log_mel, chroma]).T.astype(np.float32)


# Both sets of filters are kept, because making them takes longer than applying them.
@cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """(n_mels, n_fft // 2 + 1) triangles on the mel scale, of unit area: what `librosa.feature.melspectrogram` uses."""
    return librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)


@cache
def chroma_filters(sample_rate: int, n_fft: int, n_chroma: int) -> np.ndarray:
    """(n_chroma, n_fft // 2 + 1) pitch classes, as `librosa.feature.chroma_stft` uses them.

    Speech has no concert pitch, so the tuning is fixed rather than estimated (Q10).
    """
    return librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, n_chroma=n_chroma, tuning=0.0)


def pool(frames: np.ndarray) -> np.ndarray:
    """(T, D) -> (D,): the mean over time (eq. 2) of each modality, side by side (eq. 3)."""
    # Eq. 2: \mathbf{v}_m(\mathbf{x}) = \frac{1}{T} \sum_{t=1}^{T} \mathbf{f}_m(t)
    # Eq. 3: \mathbf{F}_{in}(\mathbf{x}) = \mathrm{Concat}(\mathbf{v}_{mfcc}, \mathbf{v}_{mel}, \mathbf{v}_{chroma})
    return frames.mean(axis=0, dtype=np.float64).astype(np.float32)


def statistics(frames: np.ndarray) -> np.ndarray:
    """(T, D) -> (5 D,): means, standard deviations, 10th, 50th and 90th percentiles over time, in this order."""
    ordered = np.sort(frames, axis=0)  # not needed, but three times as fast
    percentiles = np.percentile(ordered, PERCENTILES, axis=0, overwrite_input=True)
    return np.concatenate([pool(frames), frames.std(axis=0, dtype=np.float64), *percentiles]).astype(np.float32)


def columns(features: Features, modalities: Sequence[str]) -> np.ndarray:
    """The indices of the columns that belong to `modalities`, in the order of eq. 3 whatever theirs (Q15)."""
    owner = np.repeat(list(features.dims), list(features.dims.values()))
    return np.flatnonzero(np.isin(owner, modalities))


def thin(frames: np.ndarray, stride: int) -> np.ndarray:
    """(T, D) -> (ceil(T / stride), D): each `stride` consecutive frames averaged into one (Q17)."""
    if stride == 1:
        return frames
    starts = np.arange(0, len(frames), stride)
    counts = np.diff(starts, append=len(frames))
    return np.add.reduceat(frames, starts, axis=0) / counts[:, None].astype(frames.dtype)
