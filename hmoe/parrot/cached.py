"""Embeddings of a corpus: every layer of an encoder by one pass, computed once and kept on disk as features are.

<cache>/embeddings/<corpus>-<ids and sha256s>/<encoder>-<weights>/layer-04.npy           (n, 2, D) float32
                                                                 /layer-04.frames-8.npy  (sum of T, D) float16
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
from tqdm import tqdm

from hmoe import features
from hmoe.base.errors import AudioError, ConfigError, CorpusError
from hmoe.base.files import cache_dir
from hmoe.base.source import made_by
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.corpora.table import some
from hmoe.inputs import bank as banks
from hmoe.inputs.bank import Bank
from hmoe.parrot import encoders
from hmoe.parrot.encoders import Embedded, Encoder
from hmoe.readings import READINGS
from hmoe.train import one_thread

log = logging.getLogger(__name__)

HMOE = "hmoe-simba"  # no frozen encoder: its branch is trained with the rest, on the pooled features
KEPT = np.float16  # of frames, on disk
MOMENTS = {"mean": 1, "mean+deviation": 2}  # what `config.pooling` keeps of a layer


@dataclass(frozen=True)
class Embeddings:
    """Stands where a `Bank` stands. There are no augmented copies.

    `table` (n, D) has what is pooled of every utterance: encoders side by side, of each its layers, of a layer its
    moments. `thinned` has its frames, where they were asked for. `bank` has our own features, for readings of both.
    """

    ids: list[str]
    table: np.ndarray
    bank: Bank | None = None
    thinned: list[np.ndarray] = field(default_factory=list)
    copies: int = 0

    def embeddings(self, index: np.ndarray, copy: np.ndarray) -> np.ndarray:
        return self.table[index]

    def statistics(self, index: np.ndarray, copy: np.ndarray) -> np.ndarray:
        return self.bank.statistics(index, copy)

    def prosody(self, index: np.ndarray, copy: np.ndarray) -> np.ndarray:
        return self.bank.prosody(index, copy)

    def frames(self, index: np.ndarray, copy: np.ndarray, stride: int = 1) -> list[np.ndarray]:
        """Utterances (B,) -> B arrays (T_i, D) float32: our features, where wanted, and the encoder's beside them."""
        found = [self.thinned[i].astype(np.float32) for i in index]
        if self.bank is None:
            return found
        return [side_by_side(*both) for both in zip(self.bank.frames(index, copy, stride), found, strict=True)]

    def lengths(self, index: np.ndarray, copy: np.ndarray, stride: int = 1) -> np.ndarray:
        found = np.array([len(self.thinned[i]) for i in index])
        return found if self.bank is None else np.minimum(found, self.bank.lengths(index, copy, stride))

    def digest(self, config: Config) -> str:
        """12 hexadecimal digits that name the embeddings, and our features where they are read, bit by bit."""
        parts = [self.table.tobytes(), *(one.tobytes() for one in self.thinned)]
        parts += [self.bank.digest(config).encode()] if self.bank else []
        return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def side_by_side(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(T, D) and (T', D') -> the shorter of both, D + D': the hops are rounded apart, by one frame at most."""
    return np.hstack([ours[: len(theirs)], theirs[: len(ours)]])


def widths(config: Config) -> list[int]:
    """How many columns of the table belong to each encoder."""
    return [sum(config.dims.values()) if name == HMOE else _width(name, config) for name in config.encoders]


def beside(config: Config) -> int:
    """Columns of encoders in a frame, behind those of our features."""
    return sum(widths(config)) if READINGS[config.reading].sequence else 0


def depths(config: Config) -> list[int]:
    """How many layers of each encoder stand side by side in its columns."""
    return [1 if name == HMOE else len(_encoder(name, config).numbers(config.layer)) for name in config.encoders]


def _encoder(name: str, config: Config) -> Encoder:
    return encoders.load(name, config.encoder_window)


def _width(name: str, config: Config) -> int:
    encoder = _encoder(name, config)
    return len(encoder.numbers(config.layer)) * MOMENTS[config.pooling] * encoder.width


def build(corpus: Corpus, config: Config, workers: int | None = None, progress: bool = True) -> Embeddings:
    """The embeddings of a corpus by `config.encoders`, after computing what is missing.

    `workers` processes share that, by default as many as there are cores.
    """
    for name in config.encoders:
        if name != HMOE and corpus.name in (heard := _encoder(name, config).heard):
            log.warning("%s was pre-trained on %s: whom it heard is no unseen speaker", name, " and ".join(heard))
    ids, ours = list(corpus.table["id"]), None
    reading = READINGS[config.reading]
    if reading.sequence:
        if config.modalities:
            ours = banks.build(corpus, config, copies=0, frames=True, workers=workers, progress=progress)
        thinned = [_frames(corpus, name, config, workers, progress) for name in config.encoders]
        together = [np.hstack(parts) for parts in zip(*thinned, strict=True)]
        return Embeddings(ids, np.zeros((len(ids), 0), np.float32), ours, together)
    if "statistics" in reading.blocks:
        ours = banks.build(corpus, config, copies=0, prosody=reading.prosody, workers=workers, progress=progress)
    parts = [_pooled(corpus, name, config, workers, progress) for name in config.encoders]
    return Embeddings(ids, np.concatenate(parts, axis=1), ours)


def _pooled(corpus: Corpus, name: str, config: Config, workers: int | None, progress: bool) -> np.ndarray:
    """(n, D) of one encoder."""
    if name == HMOE:
        everything = np.arange(len(corpus))
        bank = banks.build(corpus, config, copies=0, workers=workers, progress=progress)
        return bank.pooled(everything, np.zeros(len(corpus), int))
    encoder = _encoder(name, config)
    kept = [_folder(corpus, encoder) / f"layer-{layer:02d}.npy" for layer in range(encoder.depth)]
    wanted = [kept[number] for number in encoder.numbers(config.layer)]
    if not all(map(banks.intact, wanted)):
        layers = zip(*_passed(corpus, name, config, "every", 0, workers, progress), strict=True)
        for path, layer in zip(kept, layers, strict=True):
            banks.save(path, np.stack(layer))
    moments = MOMENTS[config.pooling]
    return np.concatenate([np.load(path)[:, :moments].reshape(len(corpus), -1) for path in wanted], axis=1)


def _frames(corpus: Corpus, name: str, config: Config, workers: int | None, progress: bool) -> list[np.ndarray]:
    """n arrays (T, D) of one layer, as many frames a second as `config.frame_stride` leaves of ours."""
    layer, stride = _thinned(name, config)
    path = _folder(corpus, _encoder(name, config)) / f"layer-{layer:02d}.frames-{stride}.npy"
    if not banks.intact(path):
        found = list(_passed(corpus, name, config, layer, stride, workers, progress))
        banks.save(path, np.concatenate(found).astype(KEPT), lengths=[len(one) for one in found])
    ends = np.cumsum(json.loads(banks.sidecar(path).read_text())["lengths"])
    return np.split(np.load(path, mmap_mode="r").view(np.ndarray), ends[:-1])


def of_recording(samples: np.ndarray, name: str, config: Config) -> np.ndarray:
    """(T, D) float32 of one recording at 16 kHz, bit by bit what `build` keeps of an utterance. AudioError."""
    layer, stride = _thinned(name, config)
    with one_thread():
        frames = _encoder(name, config)(samples, encoders.RATE, layer).frames
    return features.thin(frames, stride).astype(KEPT).astype(np.float32)


def _thinned(name: str, config: Config) -> tuple[int, int]:
    """Which layer of an encoder is read, and how many of its frames make one of `config.frame_stride` of ours."""
    if name == HMOE or config.layer == "all" or isinstance(config.layer, tuple):
        remedy = "--set layer=4, and an encoder"
        raise ConfigError("reading 'frames'", f"got {name!r}, layer {config.layer!r}", remedy)
    encoder = _encoder(name, config)
    stride = encoder.rate * config.frame_stride * config.hop / config.sample_rate
    if stride < 1 or stride % 1:
        what = f"{config.frame_stride} frames of ours are {stride:g} of {name!r}"
        raise ConfigError("config field 'frame_stride'", what, "choose one that makes a whole number")
    return encoder.layer(config.layer), int(stride)


def _folder(corpus: Corpus, encoder: Encoder) -> Path:
    name_of = f"{encoder.identity}-{made_by(type(encoder), Embedded, features.thin)}"
    return cache_dir() / "embeddings" / f"{corpus.name}-{banks.content(corpus)}" / name_of


def _passed(
    corpus: Corpus, name: str, config: Config, layer: int | str, stride: int, workers: int | None, progress: bool
) -> list[np.ndarray]:
    """One pass of the encoder over the corpus: `_heard` of each. CorpusError names those that it cannot hear."""
    each = [joblib.delayed(_heard)(corpus, name, config, i, layer, stride) for i in range(len(corpus))]
    found = joblib.Parallel(n_jobs=workers or joblib.cpu_count(), return_as="generator")(each)
    found = list(tqdm(found, total=len(corpus), desc=name, unit="utterance", disable=not progress))
    if bad := [f"{one.where} ({one.what})" for one in found if isinstance(one, AudioError)]:
        what = f"encoder {name!r} cannot hear {len(bad)} of {len(found)} recordings: {some(bad)}"
        raise CorpusError(corpus.root, what, "replace or remove them, or choose another encoder")
    return found


def _heard(corpus: Corpus, name: str, config: Config, i: int, layer: int | str, stride: int) -> np.ndarray | AudioError:
    """Moments of every layer (L, 2, D), or the frames of one (T, D), `stride` averaged into one; or why not."""
    try:
        with one_thread():  # whose sums keep their order
            layers: list[Embedded] = _encoder(name, config).every_layer(corpus.waveform(i), encoders.RATE)
    except AudioError as error:
        return AudioError(corpus.table["path"].iloc[i], error.what, error.remedy)
    if layer == "every":
        return np.stack([one.moments for one in layers])
    return features.thin(layers[layer].frames, stride)
