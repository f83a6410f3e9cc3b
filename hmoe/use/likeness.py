"""Is a recording like those that a model learnt from? Its level, noise, length and sampling rate, beside theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hmoe.corpora import audio
from hmoe.inputs.bank import CORPUS_RATE

FLOOR = 1e-5  # root mean square of a frame that counts as silence: 100 dB below full scale
SAID = {
    "level": ("level", "dB"), "snr": ("SNR about", "dB"), "seconds": ("length", "s"), "rate": ("sampling rate", "Hz"),
}  # fmt: skip
"""What is compared, and its unit."""


def measure(recording: str | Path | audio.Recording) -> dict[str, float]:
    """What is compared of one recording, decoded at the rate of a corpus. AudioError as `audio.read` has it.

    `level` is the root mean square in dB of full scale. `snr` is how far the loud frames (25 ms, their 95th
    percentile) stand above the quiet ones (5th percentile) in dB: an estimate that takes the pauses for the noise, and
    so is too low for speech without any. `seconds`, and `rate` of the file in Hz.
    """
    samples, rate = recording if isinstance(recording, audio.Recording) else audio.decode(recording, CORPUS_RATE)
    frames = sliding_window_view(np.pad(samples.astype(float), 200), 400)[::160]
    loudness = np.sqrt(np.square(frames).mean(axis=1))
    quiet, loud = np.percentile(20 * np.log10(np.maximum(loudness, FLOOR)), (5, 95))
    level = 20 * np.log10(max(np.sqrt(np.mean(samples.astype(float) ** 2)), FLOOR))
    found = {"level": level, "snr": loud - quiet, "seconds": len(samples) / CORPUS_RATE}
    return {name: round(float(value), 1) for name, value in found.items()} | {"rate": rate}


def ranges(paths: Iterable[str | Path]) -> dict[str, list[float]]:
    """The 1st and the 99th percentile of each measure over a corpus: 98 of 100 recordings lie between."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(measure, paths))
    ends = {name: np.percentile([each[name] for each in found], (1, 99), method="nearest") for name in SAID}
    return {name: pair.tolist() for name, pair in ends.items()}


def unlike(found: Mapping[str, float], known: Mapping[str, Sequence[float]]) -> list[str]:
    """What lies outside the ranges of the training corpus, each in some words; nothing where they are not known.

    A model reads what is left of a recording at the rate of a corpus, so no rate counts for more than that.
    """
    if "rate" in known:
        known = {**known, "rate": [min(rate, CORPUS_RATE) for rate in known["rate"]]}
        found = {**found, "rate": min(found["rate"], CORPUS_RATE)}
    return [
        f"{words} {found[name]:g} {unit} ({_span(*known[name])} in training)"
        for name, (words, unit) in SAID.items()
        if name in known and not known[name][0] <= found[name] <= known[name][1]
    ]


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
