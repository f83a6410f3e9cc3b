"""Embeddings of a corpus, computed once and kept on disk as features are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from tqdm import tqdm

from hmoe.base.errors import AudioError
from hmoe.base.files import cache_dir
from hmoe.base.source import made_by
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs import bank as banks
from hmoe.parrot import encoders

HMOE = "hmoe-simba"  # no frozen encoder: its branch is trained with the rest, on the pooled features


@dataclass(frozen=True)
class Embeddings:
    """Stands where a `Bank` stands: `table` (n, D) has the pooled embeddings of every utterance, encoders side by side.

    There are no augmented copies.
    """

    ids: list[str]
    table: np.ndarray
    copies: int = 0

    def pooled(self, index: np.ndarray, copy: np.ndarray) -> np.ndarray:
        return self.table[index]

    def digest(self, config: Config) -> str:
        """12 hexadecimal digits that name the embeddings, bit by bit."""
        return hashlib.sha256(self.table.tobytes()).hexdigest()[:12]


def widths(config: Config) -> list[int]:
    """How many columns of the table belong to each encoder."""
    return [sum(config.dims.values()) if name == HMOE else encoders.load(name).width for name in config.encoders]


def build(corpus: Corpus, config: Config, workers: int | None = None, progress: bool = True) -> Embeddings:
    """The embeddings of a corpus by `config.encoders`, after computing what is missing.

    `workers` processes share that, by default as many as there are cores.
    """
    parts = [_embedded(corpus, name, config, workers, progress) for name in config.encoders]
    return Embeddings(list(corpus.table["id"]), np.concatenate(parts, axis=1))


def _embedded(corpus: Corpus, name: str, config: Config, workers: int | None, progress: bool) -> np.ndarray:
    if name == HMOE:
        everything = np.arange(len(corpus))
        bank = banks.build(corpus, config, copies=0, workers=workers, progress=progress)
        return bank.pooled(everything, np.zeros(len(corpus), int))
    encoder = encoders.load(name)
    name_of = f"{encoder.identity}-{made_by(type(encoder), _pooled)}"
    path: Path = cache_dir() / "embeddings" / f"{corpus.name}-{banks.content(corpus)}" / f"{name_of}.npy"
    if not banks.intact(path):
        each = [joblib.delayed(_pooled)(corpus, name, i) for i in range(len(corpus))]
        found = joblib.Parallel(n_jobs=workers or joblib.cpu_count(), return_as="generator")(each)
        bar = tqdm(found, total=len(corpus), desc=name, unit="utterance", disable=not progress)
        banks.save(path, np.stack(list(bar)))
    return np.load(path)


def _pooled(corpus: Corpus, name: str, i: int) -> np.ndarray:
    samples = corpus.waveform(i)
    try:
        return encoders.load(name)(samples, encoders.RATE).pooled
    except AudioError as error:
        raise AudioError(f"{corpus.table['path'].iloc[i]}, encoder {name!r}", error.what, error.remedy) from None
