"""§3.3: time stretching, pitch shifting and noise, each drawn from (utterance, copy); and one of chapter 20."""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import numpy as np
import parselmouth
from parselmouth.praat import call

from hmoe.base.seeds import stable_seed
from hmoe.config import Augmenting

DEFAULT = Augmenting()
N_FFT = 2048  # samples: librosa's default; the hop is a quarter


@dataclass(frozen=True)
class Draw:
    """What happens to one copy of an utterance; `None` leaves that augmentation out."""

    stretch: float | None = None  # factor of the duration
    semitones: int | None = None
    snr: float | None = None  # dB
    tract: float | None = None  # factor of the formants
    seed: int = 0  # of the noise


def draw(utterance_id: str, copy: int, augmenting: Augmenting = DEFAULT) -> Draw:
    """The augmentations of copy 1, 2, ... of an utterance (Q8), the same wherever and whenever it is asked.

    Each augmentation has a generator of its own, so switching one off leaves the others' draws as they were.
    Copy 0 is the clean utterance.
    """

    def generator(name: str) -> np.random.Generator | None:
        rng = np.random.default_rng(stable_seed("augment", utterance_id, copy, name))
        happens = rng.random() < augmenting.augment_probability
        return rng if happens and copy > 0 and name in augmenting.augment else None

    stretch, pitch, noise, tract = (generator(name) for name in ("stretch", "pitch", "noise", "tract"))
    return Draw(
        stretch=None if stretch is None else float(stretch.uniform(*augmenting.stretch_range)),
        semitones=None if pitch is None else int(pitch.choice(augmenting.pitch_semitones)),
        snr=None if noise is None else float(noise.uniform(*augmenting.snr_range)),
        tract=None if tract is None else float(tract.uniform(*augmenting.tract_range)),
        seed=stable_seed("noise", utterance_id, copy),
    )


def apply(samples: np.ndarray, draw: Draw, sample_rate: int) -> np.ndarray:
    """(S,) samples -> (S',) samples: stretched, then shifted, then noisy, in the order of §3.3.

    Noise comes last, so that neither of the others colours it.
    """
    if draw.stretch is not None:
        samples = time_stretch(samples, draw.stretch)
    if draw.semitones:
        samples = pitch_shift(samples, draw.semitones, sample_rate)
    if draw.tract is not None:
        samples = change_tract(samples, draw.tract, sample_rate)
    if draw.snr is not None:
        samples = add_noise(samples, draw.snr, np.random.default_rng(draw.seed))
    return samples


def time_stretch(samples: np.ndarray, alpha: float) -> np.ndarray:
    """(S,) samples -> (round(alpha S),) samples of the same pitch, by phase vocoder.

    alpha scales the duration (Q9), where librosa's `rate` scales the speed: its inverse.
    """
    # Padded by hand for the sake of utterances shorter than a window, of which librosa warns.
    spectrum = librosa.stft(np.pad(samples, N_FFT // 2), n_fft=N_FFT, center=False)
    return librosa.istft(phase_vocoder(spectrum, alpha), n_fft=N_FFT, length=round(alpha * len(samples)))


def phase_vocoder(spectrum: np.ndarray, alpha: float) -> np.ndarray:
    """(F, T) -> (F, ceil(alpha T)): read in steps of 1 / alpha frames; amplitudes interpolated, phases advanced.

    From one frame to the next a bin's phase turns by an angle; each output frame turns by the angle of the place
    where it reads. librosa adds these angles up; here they are complex numbers of unit size that are multiplied, which
    is faster and does without the rounding of large angles in single precision. The phase advance that librosa takes
    off an angle and adds again cancels, as the hop out is the hop in.
    """
    place = np.arange(0, spectrum.shape[1], 1 / alpha)
    left = place.astype(int)
    share = (place - left).astype(spectrum.real.dtype)[:, None]
    frames = np.pad(spectrum.T, ((0, 2), (0, 0)))  # time first, as librosa's spectra lie in memory
    amplitude = np.abs(frames)
    heard = amplitude > np.finfo(amplitude.dtype).tiny
    phase = np.where(heard, frames, 1) * (1 / np.where(heard, amplitude, 1))
    advanced = np.concatenate([phase[:1], (phase[1:] * phase[:-1].conj())[left[:-1]]])
    for now, before in zip(advanced[1:], advanced[:-1], strict=True):
        now *= before
    return (((1 - share) * amplitude[left] + share * amplitude[left + 1]) * advanced).T


def pitch_shift(samples: np.ndarray, semitones: int, sample_rate: int) -> np.ndarray:
    """(S,) samples -> (S,) samples, higher by `semitones` (lower if negative), of the same duration.

    Stretched to a longer duration of the same pitch, then played faster: as `librosa.effects.pitch_shift`.
    """
    factor = 2 ** (semitones / 12)
    faster = librosa.resample(time_stretch(samples, factor), orig_sr=sample_rate * factor, target_sr=sample_rate)
    return librosa.util.fix_length(faster, size=len(samples))


def change_tract(samples: np.ndarray, factor: float, sample_rate: int) -> np.ndarray:
    """(S,) samples -> (S,) samples with formants moved by `factor`, as of a shorter vocal tract if above 1.

    Pitch and duration stay. By Praat, which needs 0.1 s; shorter samples are left as they are. Not in the paper.
    """
    if len(samples) < sample_rate // 10:
        return samples
    sound = parselmouth.Sound(samples.astype(float), sample_rate)
    moved = call(sound, "Change gender", 75, 600, factor, 0, 1, 1).values[0]
    return librosa.util.fix_length(moved, size=len(samples)).astype(np.float32)


def add_noise(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """eq. 4: x + beta n with n ~ N(0, 1), and beta such that the powers of x and beta n are `snr_db` apart.

    The power of the noise is that of the drawn n rather than its expectation, so that the SNR is the one asked for
    however short the utterance.
    """
    return mixed(samples, rng.standard_normal(len(samples)).astype(np.float32), snr_db).astype(np.float32)


def mixed(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`samples` and `noise`, both (S,), with powers `snr_db` apart."""
    beta = np.sqrt(np.mean(samples**2, dtype=float) / np.mean(noise**2, dtype=float) / 10 ** (snr_db / 10))
    # Eq. 4: \mathbf{x}_{noise} = \mathbf{x} + \beta \mathbf{n}
    return samples + beta * noise
