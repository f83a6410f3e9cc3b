"""What the world does to speech on its way to a microphone, and what is then left of a model (chapter 18).

Every condition is a function of clean test samples. A model is trained once for each fold, as everywhere else, and
then hears the fold's test utterances in each condition: many records of one training.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, sosfiltfilt

from hmoe import augment
from hmoe.augment import mixed
from hmoe.base.errors import CorpusError
from hmoe.base.extras import extra
from hmoe.base.seeds import stable_seed
from hmoe.base.stamp import commit
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.bank import CORPUS_RATE, Bank, build
from hmoe.inputs.batches import Inputs
from hmoe.readings import READINGS
from hmoe.study import routing
from hmoe.study.experiments import HEARD, WEIGHTS
from hmoe.study.store import Store
from hmoe.study.trial import Outcome, Trial, fit_split, outcome
from hmoe.train import one_thread

SNRS = (20, 15, 10, 5, 0)  # dB
ROOM = (6.0, 5.0, 3.0)  # m: an office
TALKERS = 6  # of babble

Condition = Callable[[np.ndarray, np.random.Generator, list[np.ndarray]], np.ndarray]
"""Clean samples (S,), a generator, utterances of other people's -> samples (S',) at the same rate."""


def white(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], snr: float) -> np.ndarray:
    return mixed(samples, rng.standard_normal(len(samples)), snr)


def pink(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], snr: float) -> np.ndarray:
    """Noise whose power falls by 3 dB an octave, above 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    hertz = np.fft.rfftfreq(len(samples), 1 / CORPUS_RATE)
    return mixed(samples, np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20)), len(samples)), snr)


def babble(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], snr: float) -> np.ndarray:
    """`TALKERS` of the `others` at once, of equal power, each repeated to the length needed."""
    total = np.zeros(len(samples))
    for k in rng.choice(len(others), TALKERS, replace=len(others) < TALKERS):
        start = rng.integers(len(others[k]))
        voice = np.resize(np.roll(others[k], -start), len(samples))
        total += voice / np.sqrt(np.mean(voice**2) + 1e-12)
    return mixed(samples, total, snr)


@cache
def impulse_response(rt60: float) -> np.ndarray:
    """From a talker to a microphone 2.4 m away in `ROOM`, from the first arrival on (image sources)."""
    with extra("a room of chapter 18"):
        import pyroomacoustics

    absorption, order = pyroomacoustics.inverse_sabine(rt60, ROOM)
    room = pyroomacoustics.ShoeBox(
        ROOM, fs=CORPUS_RATE, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    room.add_source([2.0, 3.0, 1.6])
    room.add_microphone([4.2, 2.0, 1.2])
    room.compute_rir()
    response = room.rir[0][0]
    return response[np.abs(response).argmax() :]


def reverberant(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], rt60: float) -> np.ndarray:
    return fftconvolve(samples, impulse_response(rt60))[: len(samples)]


def telephone(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """300 to 3400 Hz."""
    return sosfiltfilt(butter(4, (300, 3400), "bandpass", fs=CORPUS_RATE, output="sos"), samples)


def coded(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], format: str) -> np.ndarray:
    """Through an encoder at its lowest rates (near 19 kbit/s of MP3, 11 of Opus) and back, by libsndfile."""
    subtype, buffer = {"MP3": "MPEG_LAYER_III", "OGG": "OPUS"}[format], io.BytesIO()
    soundfile.write(buffer, samples, CORPUS_RATE, format=format, subtype=subtype, compression_level=0.99)
    buffer.seek(0)
    return soundfile.read(buffer)[0]


def louder(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], gain: float) -> np.ndarray:
    """Nothing but the level is changed, by `gain` dB: the control for conditions that change it too."""
    return samples * 10 ** (gain / 20)


def clipped(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], gain: float) -> np.ndarray:
    """Recorded `gain` dB too loud: what then exceeds the former peak is cut off."""
    peak = np.abs(samples).max()
    return np.clip(louder(samples, rng, others, gain), -peak, peak)


def shifted(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], semitones: int) -> np.ndarray:
    return augment.pitch_shift(samples, semitones, CORPUS_RATE)


def stretched(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray], alpha: float) -> np.ndarray:
    return augment.time_stretch(samples, alpha)


def unchanged(samples: np.ndarray, rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    return samples


CONDITIONS: dict[str, Condition] = {
    "clean": unchanged,
    **{
        f"{name} {snr} dB": partial(noise, snr=snr)
        for name, noise in (("white", white), ("pink", pink), ("babble", babble))
        for snr in SNRS
    },
    **{f"gain {gain:+d} dB": partial(louder, gain=gain) for gain in (-6, 6)},
    **{f"reverberation {rt60} s": partial(reverberant, rt60=rt60) for rt60 in (0.3, 0.6, 1.0)},
    "telephone band": telephone,
    "MP3": partial(coded, format="MP3"),
    "Opus": partial(coded, format="OGG"),
    **{f"clipped by {gain} dB": partial(clipped, gain=gain) for gain in (6, 12)},
    **{f"pitch {semitones:+d}": partial(shifted, semitones=semitones) for semitones in (-4, -2, 2, 4)},
    **{f"duration x {alpha}": partial(stretched, alpha=alpha) for alpha in (0.75, 1.33)},
}


@dataclass(frozen=True, eq=False)
class Disturbed(Corpus):
    """A corpus in one of the conditions: the same table, other samples, the same whenever they are asked for."""

    condition: str = "clean"

    @classmethod
    def of(cls, corpus: Corpus, condition: str) -> Disturbed:
        name = f"{corpus.name}-{condition.replace(' ', '-')}"
        return cls(name, corpus.root, corpus.table, corpus.emotions, condition=condition)

    @property
    def change(self) -> Condition:
        return CONDITIONS[self.condition]

    @property
    def makers(self) -> tuple[object, ...]:
        talkers = tuple(self.table["speaker"]) if getattr(self.change, "func", None) is babble else ()
        return Disturbed.waveform, self.condition, self.change, talkers

    def waveform(self, i: int) -> np.ndarray:
        utterance, clean = self.table.iloc[i], super().waveform
        rng = np.random.default_rng(stable_seed("disturbed", utterance["id"], self.condition))
        others: list[np.ndarray] = []
        if getattr(self.change, "func", None) is babble:
            strangers = np.flatnonzero(self.table["speaker"] != utterance["speaker"])
            if len(strangers) == 0:
                raise CorpusError(self.name, "one speaker", "babble is mixed from other people: add some")
            others = [clean(k) for k in rng.choice(strangers, TALKERS, replace=len(strangers) < TALKERS)]
        return np.asarray(self.change(clean(i), rng, others), np.float32)


def prepare(trials: list[Trial], corpus: Corpus, workers: int | None = None, progress: bool = True) -> None:
    """Compute what is missing of the features of the conditions that the trials name."""
    configs = {trial.config.key(): trial.config for trial in trials}.values()
    for condition in dict.fromkeys(trial.condition for trial in trials):
        for config in sorted(
            configs, key=lambda config: not READINGS[config.reading].sequence
        ):  # theirs come with the others'
            _bank(corpus, condition, config, workers, progress, trials[0].features_on)


def outcomes(trials: list[Trial], corpus: Corpus, bank: Bank, store: Store) -> list[Outcome]:
    """Trials of one model, seed and fold that differ by their condition: one training, an outcome for each.

    Some differ by the weights of the experts too, which are kept in `store`.
    """
    first, found = trials[0], []
    test, speakers = first.split.test, corpus.table["speaker"].to_numpy()

    def heard(condition: str) -> Inputs:
        disturbed = _bank(corpus, condition, first.config, 1, False, first.features_on)
        return Inputs.of(disturbed, first.config, first.device, speakers)

    with one_thread():
        start, code = time.perf_counter(), commit()
        classifier = fit_split(first, corpus, bank)
        versions = {}
        if any(trial.weights for trial in trials):
            versions = routing.forced(classifier.model, heard("clean"), first.split.train)
            weights = {name: routing.routing(classifier.model, heard(name), test) for name in HEARD}
            routing.keep(store, first, corpus.table["id"].iloc[test], weights)
        for trial in trials:
            version = replace(classifier, model=versions[trial.weights]) if trial.weights else classifier
            y_hat = version.predict(heard(trial.condition), test)
            said = outcome(trial, corpus, bank, classifier, y_hat, start, code)
            # The curve of the one training stands beside clean speech, whichever trials of it are run when.
            found.append(
                said if trial.condition == "clean" and trial.weights in ("", WEIGHTS[0]) else replace(said, curve={})
            )
    return found


def _bank(
    corpus: Corpus, condition: str, config: Config, workers: int | None, progress: bool, device: str | None
) -> Bank:
    heard, reading = Disturbed.of(corpus, condition), READINGS[config.reading]
    wanted = {"frames": reading.sequence, "prosody": reading.prosody}
    return build(heard, config, copies=0, workers=workers, progress=progress, device=device, **wanted)
