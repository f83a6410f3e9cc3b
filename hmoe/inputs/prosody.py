"""How something is said: pitch, loudness, voice quality and formants of an utterance, by Praat.

None of it is in the paper, whose features are spectra. Chapter 20 asks what it adds where the speaker is new, since
emotion is carried by how these contours move (Banse and Scherer 1996; Eyben et al. 2016), more than by their level.
"""

from __future__ import annotations

import numpy as np
import parselmouth

RATE = 16_000  # Hz
STEP = 0.01  # s, of every contour
PITCH = (75.0, 600.0)  # Hz
FORMANTS, HIGHEST = 3, 5500.0  # how many are read; Hz, what Praat advises for high voices
LEAST = 0.1  # s: shorter utterances are padded with silence, because Praat refuses them
BANDS = (0, 500, 1000, 2000, 4000, 8000)  # Hz

PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
FUNCTIONALS = (
    "mean", "deviation", *(f"percentile {p}" for p in PERCENTILES), "range", "quartile range",
    "mean step", "deviation of steps", "curvature", "slope", "middle",
)  # fmt: skip
CONTOURS = ("pitch", "intensity", "harmonicity", *(f"formant {k}" for k in range(1, FORMANTS + 1)))
NAMES = (
    *(f"{contour}, {functional}" for contour in CONTOURS for functional in FUNCTIONALS),
    "seconds", "voiced share", "voice onsets per second",
    *(f"pitch, {third} third" for third in ("first", "middle", "last")),
    *(f"energy, {low} to {high} Hz" for low, high in zip(BANDS, BANDS[1:], strict=False)),
)  # fmt: skip


def prosody(samples: np.ndarray) -> np.ndarray:
    """(S,) samples at 16 kHz -> (len(NAMES),) float32; zeros where nothing is voiced.

    Pitch in semitones above 100 Hz and formants as logarithms of Hz, over voiced frames; intensity and
    harmonics-to-noise ratio in dB; band energies in dB.
    """
    sound = parselmouth.Sound(np.pad(samples, (0, max(0, int(LEAST * RATE) - len(samples)))).astype(float), RATE)
    pitch = sound.to_pitch_ac(STEP, PITCH[0], 15, False, 0.03, 0.45, 0.01, 0.35, 0.14, PITCH[1])
    hertz = pitch.selected_array["frequency"]
    voiced, times = hertz > 0, pitch.xs()[hertz > 0]
    semitones = 12 * np.log2(hertz[voiced] / 100)
    harmonicity = sound.to_harmonicity_cc(STEP, PITCH[0]).values[0]
    formants = sound.to_formant_burg(STEP, 5, HIGHEST, 0.025, 50)
    tracks = [np.array([formants.get_value_at_time(k, t) for t in times]) for k in range(1, FORMANTS + 1)]
    seconds = len(samples) / RATE
    return np.concatenate(
        [
            functionals(semitones),
            functionals(sound.to_intensity(PITCH[0], STEP).values[0]),
            functionals(harmonicity[harmonicity > -150]),  # Praat's -200 dB says that a frame is not voiced
            *(functionals(np.log(track[track > 0])) for track in tracks),  # NaN where there is none
            [seconds, voiced.mean(), (np.diff(voiced.astype(int)) > 0).sum() / seconds],
            [third.mean() if len(third) else 0.0 for third in np.array_split(semitones, 3)],
            _bands(samples),
        ]
    ).astype(np.float32)


def functionals(contour: np.ndarray) -> np.ndarray:
    """(n,) one contour -> `FUNCTIONALS` of it; zeros if it has fewer than four points."""
    if len(contour) < 4:
        return np.zeros(len(FUNCTIONALS))
    points, steps = np.percentile(contour, PERCENTILES), np.diff(contour)
    parabola = np.polyfit(np.linspace(-1, 1, len(contour)), contour, 2)
    spread = [points[-1] - points[0], points[4] - points[2], np.abs(steps).mean(), steps.std()]
    return np.concatenate([[contour.mean(), contour.std()], points, spread, parabola])


def _bands(samples: np.ndarray) -> np.ndarray:
    """Energy in dB in each of `BANDS`, over the whole utterance."""
    energy, hertz = np.abs(np.fft.rfft(samples)) ** 2, np.fft.rfftfreq(len(samples), 1 / RATE)
    sums = [energy[(low <= hertz) & (hertz < high)].sum() for low, high in zip(BANDS, BANDS[1:], strict=False)]
    return 10 * np.log10(np.array(sums) / len(samples) + 1e-12)
