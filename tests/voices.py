"""Voices made of a pulse train and resonances, of which everything is known."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from hmoe.inputs.prosody import NAMES, RATE, prosody

SECONDS = 0.8


def vowel(start: float, end: float, formants: tuple[float, ...] = (700, 1200, 2600), gain: float = 0.1) -> np.ndarray:
    """A glottal pulse train from `start` to `end` Hz through resonances."""
    pitch = np.linspace(start, end, int(SECONDS * RATE))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    sound = lfilter([1], [1, -0.95], pulses)
    for formant in formants:
        r = np.exp(-np.pi * 80 / RATE)
        sound = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * formant / RATE), r * r], sound)
    return (gain * sound / np.abs(sound).max()).astype(np.float32)


def named(samples: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, prosody(samples).tolist(), strict=True))
