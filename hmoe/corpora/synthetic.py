"""`synthetic`: 4 voices x 6 emotions x 50 sentences, made here, so that the book runs for who has no corpus.

eSpeak NG speaks each sentence once per voice. Praat's PSOLA and two filters then give it the prosody and the voice
quality of an emotion, in the directions that were measured for Mandarin and in general:

- pitch and tempo rise with arousal (anger, joy), and final lengthening tells anger and sorrow from joy: Lin and Fon,
  Speech Prosody 2012, Taiwan Mandarin;
- anger and fear are realised mainly by phonation, joy by the prosody of F0, sadness by both: Yuan, Shen and Chen,
  ICSLP 2002;
- height, range and declination of F0 by emotion: Gu and Lee, 6th ISCA Workshop on Speech Synthesis, 2007;
- an emotion bends the end of the sentence's tune, beyond its tones: Li, Fang and Dang, ICPhS 2011;
- energy and spectral tilt, breathiness of sadness and tremor of fear: Banse and Scherer, Journal of Personality and
  Social Psychology 70 (1996); Murray and Arnott, Journal of the Acoustical Society of America 93 (1993).

The sizes of these effects are ours, and so are the spreads about them. They are chosen so that the emotions overlap:
each voice exaggerates or mutes each emotion its own way, each utterance varies, and some carry the cue of another
emotion. **An accuracy on this corpus says that a pipeline works, and nothing about emotion.**
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import parselmouth
import soundfile
from filelock import FileLock
from parselmouth.praat import call, run
from scipy import fft
from scipy.ndimage import uniform_filter1d
from scipy.signal import resample_poly
from tqdm import tqdm

from hmoe.base.errors import CorpusError
from hmoe.base.files import DATA, cache_dir
from hmoe.base.seeds import stable_seed
from hmoe.corpora import audio, checking
from hmoe.corpora.grammars import MARKER, VOICES, synthetic
from hmoe.corpora.grammars import SYNTHETIC_EMOTIONS as EMOTIONS
from hmoe.corpora.table import scan, tabulate

RATE = 16_000  # Hz
PITCH_RANGE = (60, 500)  # Hz, as far as Praat looks and as far as we go
LEVEL = 0.06  # root mean square of a neutral utterance


class Cues(NamedTuple):
    """How an utterance differs from the neutral voice."""

    pitch: float = 0.0  # semitones, of the whole
    span: float = 0.0  # log2 of the factor on pitch excursions about their median
    slope: float = 0.0  # semitones from the first to the last moment
    rise: float = 0.0  # semitones at the very end, over the last quarter
    tempo: float = 0.0  # log2 of the factor on durations
    final: float = 0.0  # log2 of the further factor on the last quarter's duration
    energy: float = 0.0  # dB
    tilt: float = 0.0  # dB per octave about 500 Hz
    breath: float = 0.0  # dB: aspiration noise above its usual -40 dB of the voice
    tremor: float = 0.0  # semitones of a slow wobble of the pitch


# In the order of the fields of Cues.
TYPICAL = {
    "anger": Cues(3.0, 0.45, -3.0, -1.5, -0.20, 0.15, 6.0, 2.5, 0.0, 0.0),
    "sadness": Cues(-1.5, -0.50, -1.0, -1.0, 0.25, 0.20, -5.0, -2.5, 10.0, 0.1),
    "happiness": Cues(3.5, 0.50, 0.5, 2.0, -0.10, -0.10, 3.0, 1.5, 3.0, 0.0),
    "neutral": Cues(),
    "fear": Cues(4.0, -0.30, 1.0, 0.5, -0.25, 0.0, -2.0, -0.8, 12.0, 0.5),
    "surprise": Cues(5.0, 0.60, 1.5, 4.0, 0.0, 0.0, 2.0, 0.0, 7.0, 0.0),
}
SPREAD = Cues(1.0, 0.15, 0.8, 0.8, 0.08, 0.08, 1.2, 0.45, 1.8, 0.1)  # standard deviation of an utterance
STYLE = 0.7  # standard deviation, in spreads, of how a voice renders an emotion
STRENGTH = (0.7, 1.3)  # of the emotion in an utterance: from a hint to more than typical
CONFLICT = 0.08  # probability that an utterance takes a cue from another emotion, for each cue


def synthetic_root() -> Path:
    """Where the corpus is made on first use: in the cache, under a name that changes with its recipe."""
    recipe = [Path(__file__).read_bytes(), _script().read_bytes(), (DATA / "sentences.txt").read_bytes()]
    return cache_dir() / f"synthetic-{hashlib.sha256(b''.join(recipe)).hexdigest()[:8]}"


def sentences() -> list[str]:
    """50 everyday sentences in Mandarin, of no emotion in themselves."""
    return (DATA / "sentences.txt").read_text("utf-8").split()


def make(root: Path, texts: list[str] | None = None) -> None:
    """Make the corpus in `root` unless it is there; `texts` are `sentences()` if not given. Takes less than a minute.

    The same samples come out on every run on one machine, and `root` holds the whole corpus or nothing of it: it is
    made beside and then renamed. Raises CorpusError if `root` holds anything else, or cannot be written.
    """
    if (root / MARKER).is_file():
        return
    part = root.with_name(f".{root.name}.part")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if (root / MARKER).is_file():  # by another process, while this one waited
                return
            if root.exists() and any(root.iterdir()):
                raise CorpusError(root, "holds something else than the synthetic corpus", "give a new directory")
            try:
                shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
                _make(part, sentences() if texts is None else texts)
                part.replace(root)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise CorpusError.unwritable(root, error, "free some space or give a writable directory") from error


def cues(voice: str, emotion: str, sentence: str) -> Cues:
    """The cues of one utterance: the emotion's typical ones, as this voice renders them, with this utterance's chances.

    Drawn from what the utterance is, so that no other utterance's making changes them.
    """
    style = np.random.default_rng(stable_seed("style", voice, emotion)).normal(0, STYLE, len(SPREAD))
    rng = np.random.default_rng(stable_seed("utterance", voice, emotion, sentence))
    typical = np.array(TYPICAL[emotion])
    other = np.array(TYPICAL[EMOTIONS[rng.integers(len(EMOTIONS))]])
    chosen = np.where(rng.random(len(SPREAD)) < CONFLICT, other, typical) * rng.uniform(*STRENGTH)
    return Cues(*(chosen + (style + rng.normal(size=len(SPREAD))) * np.array(SPREAD)).tolist())


class Speech(NamedTuple):
    """Neutral speech, analysed once for all its emotions."""

    manipulation: parselmouth.Data  # samples at 16 kHz, glottal pulses, pitch and duration
    pitch: parselmouth.Data  # the pitch tier as spoken
    middle: float  # Hz, of the pitch
    end: float  # s


def analyse(spoken: np.ndarray) -> Speech:
    """Floats of shape (n,) at 16 kHz, made ready for `render`."""
    sound = parselmouth.Sound(spoken, RATE)
    manipulation = call(sound, "To Manipulation", 0.01, *PITCH_RANGE)
    pitch = call(manipulation, "Extract pitch tier")
    return Speech(manipulation, pitch, call(pitch, "Get mean (points)", 0, 0), sound.duration)


def render(speech: Speech, cue: Cues, seed: int) -> np.ndarray:
    """The speech with these cues: floats of shape (n,) in [-1, 1] at 16 kHz.

    `seed` decides the phase of the tremor and the noise of the breath.
    """
    rng = np.random.default_rng(seed)
    return _voice_quality(_prosody(speech, cue, rng), cue, rng)


def _prosody(speech: Speech, cue: Cues, rng: np.random.Generator) -> np.ndarray:
    middle, end = speech.middle, speech.end
    # Praat's formula language: `self` is the pitch at time `x`; excursions are scaled on a logarithmic scale.
    shift = (
        f"{cue.pitch:.6f} + {cue.slope:.6f} * (x / {end:.6f} - 0.5)"
        f" + {cue.rise:.6f} * max(0, 4 * x / {end:.6f} - 3)"
        f" + {max(0, cue.tremor):.6f} * sin(2 * pi * ({rng.uniform(5, 8):.6f} * x + {rng.uniform():.6f}))"
    )
    tone = f"{middle:.6f} * (self / {middle:.6f}) ^ {2**cue.span:.6f} * 2 ^ (({shift}) / 12)"
    pitch = speech.pitch.copy()
    call(pitch, "Formula", f"min({PITCH_RANGE[1]}, max({PITCH_RANGE[0]}, {tone}))")
    call([pitch, speech.manipulation], "Replace pitch tier")
    duration = call("Create DurationTier", "tempo", 0, end)
    for time, factor in ((0.7 * end, 0.0), (0.8 * end, cue.final)):
        call(duration, "Add point", time, float(np.clip(2 ** (cue.tempo + factor), 0.5, 2.0)))
    call([duration, speech.manipulation], "Replace duration tier")
    # Praat fills voiceless stretches with pulses at random, from one generator for the whole process.
    run(f"random_initializeWithSeedUnsafelyButPredictably ({rng.integers(2**31)})")
    return call(speech.manipulation, "Get resynthesis (overlap-add)").values[0]


def _voice_quality(voice: np.ndarray, cue: Cues, rng: np.random.Generator) -> np.ndarray:
    n = fft.next_fast_len(len(voice), real=True)
    frequency = fft.rfftfreq(n, 1 / RATE)
    octaves = np.log2(np.clip(frequency, 100, 6_000) / 500)
    voice = fft.irfft(fft.rfft(voice, n) * 10 ** (cue.tilt * octaves / 20), n)[: len(voice)]
    # Aspiration is high-pass noise that follows the voice's envelope.
    noise = fft.irfft(fft.rfft(rng.normal(size=len(voice)), n) * (frequency > 1_500), n)[: len(voice)]
    envelope = np.sqrt(uniform_filter1d(voice**2, RATE // 50, mode="constant").clip(0))
    voice = voice + noise * envelope * 10 ** ((np.clip(cue.breath, -5, 20) - 40) / 20)
    scaled = voice * LEVEL * 10 ** (np.clip(cue.energy, -12, 12) / 20) / np.sqrt(np.mean(voice**2))
    return scaled / max(1.0, np.abs(scaled).max() / 0.99)


def _make(root: Path, texts: list[str]) -> None:
    numbers = [f"{i:02d}" for i in range(1, len(texts) + 1)]
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{v}-{n} cmn+{v} {text}" for v in VOICES for n, text in zip(numbers, texts, strict=True)]
        _speak(lines, Path(folder))
        spoken_by = tqdm(list(itertools.product(VOICES, numbers)), desc="making the synthetic corpus", disable=None)
        for voice, number in spoken_by:
            spoken, rate = soundfile.read(Path(folder, f"{voice}-{number}.wav"))
            speech = analyse(resample_poly(spoken, RATE, rate))
            for emotion in EMOTIONS:
                samples = render(speech, cues(voice, emotion, number), stable_seed("render", voice, emotion, number))
                target = root / voice / emotion / f"{number}.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(audio.encode(samples, RATE))
    corpus = tabulate("synthetic", root, scan(root, synthetic))
    (root / MARKER).write_text(checking.manifest(corpus))


def _speak(lines: list[str], folder: Path) -> None:
    # -P: the script's own directory has modules named as those of other packages.
    command = [sys.executable, "-P", str(_script()), str(folder)]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, check=False)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise CorpusError(
            "corpus 'synthetic'", f"eSpeak NG does not run here ({' '.join(why)})", "pip install espeakng-loader"
        )


def _script() -> Path:
    return Path(__file__).with_name("espeak.py")
