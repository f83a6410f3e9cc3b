"""§3.3: the features of every utterance and of its augmented copies, computed once, kept on disk.

"Applied stochastically during training epochs" would cost 100 passes over the waveforms for each trial. The bank
holds C augmented copies of every utterance, the same for all trials; an epoch draws one of them for each (Q8).

A copy of the whole corpus is one file, beside it a JSON file with its checksum, written last. Both are written to a
temporary name first, so any number of processes may build one bank: what two of them write is the same, bit by bit.

    <cache>/bank/<corpus>-<ids and sha256s>/<features>/clean.statistics-<code>.npy         (n, 5 D) float32
                                                      /clean.prosody-<code>.npy            (n, P) float32
                                                      /<augmenting>-<code>/001.statistics-<code>.npy
                                                      /<augmenting>-<code>/001.frames-4-<code>.npy (sum of T, D) float16

`<code>` names the functions that make an entry (`hmoe.base.source`): when they change, and only then, it is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import joblib
import librosa
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from hmoe import features
from hmoe.base.errors import StoreError
from hmoe.base.files import atomic_write, cache_dir
from hmoe.base.source import made_by
from hmoe.config import Augmenting, Config, Features
from hmoe.corpora import Corpus
from hmoe.inputs.features_torch import Extractor
from hmoe.readings import READINGS

CORPUS_RATE = 16_000  # Hz, of `Corpus.waveform`
BATCH = 32  # utterances at a time on a device
REMEDY = "free some space, or set HMOE_CACHE to a directory that can be written"

log = logging.getLogger(__name__)


@dataclass
class Bank:
    """Features on disk, mapped into memory when asked for. Travels to other processes as its paths.

    `ids` are those of the corpus table, in its order; `index` below counts in it. `copy` 0 is the clean utterance.
    """

    ids: list[str]
    copies: int
    width: int  # D
    folder: Path
    augmenting: str  # key
    by_torch: bool = False
    _maps: dict[Path, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def pooled(self, index: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """eq. 3 of utterances (B,) in copies (B,) -> (B, D) float32."""
        return self.statistics(index, copy)[:, : self.width]

    def statistics(self, index: np.ndarray, copy: np.ndarray | None = None) -> np.ndarray:
        """`features.statistics` of utterances (B,) in copies (B,), clean if none are given -> (B, 5 D) float32."""
        copy = np.zeros(len(index), int) if copy is None else copy
        return np.stack([self._map(self.path("statistics", c))[i] for i, c in zip(index, copy, strict=True)])

    def prosody(self, index: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """`prosody.prosody` of utterances (B,) in copies (B,) -> (B, P) float32."""
        return np.stack([self._map(self.path("prosody", c))[i] for i, c in zip(index, copy, strict=True)])

    def frames(self, index: np.ndarray, copy: np.ndarray, stride: int = 1) -> list[np.ndarray]:
        """Utterances (B,) in copies (B,) -> B arrays (T_i, D) float32, every `stride` frames averaged into one."""
        means, found = self.pooled(index, copy), []
        for i, c, mean in zip(index, copy, means, strict=True):
            path = self.path(f"frames-{stride}", c)
            ends = self._ends(path)
            found.append(self._map(path)[ends[i] : ends[i + 1]] + mean)
        return found

    def lengths(self, index: np.ndarray, copy: np.ndarray, stride: int = 1) -> np.ndarray:
        """T_i of `frames`, (B,), without reading them."""
        ends = [self._ends(self.path(f"frames-{stride}", c)) for c in copy]
        return np.array([one[i + 1] - one[i] for i, one in zip(index, ends, strict=True)])

    def path(self, kind: str, copy: int) -> Path:
        """Where `kind` ("statistics", "frames-4") of a copy is kept."""
        copy_folder = self.folder / f"{self.augmenting}-{made_by(*makers('copies'))}" if copy else self.folder
        code = made_by(*makers(kind.partition("-")[0]), *([Extractor] if self.by_torch else []))
        return copy_folder / f"{f'{copy:03d}' if copy else 'clean'}.{kind}-{code}.npy"

    def digest(self, config: Config) -> str:
        """12 hexadecimal digits that name all that a model of this configuration may read of the bank, bit by bit."""
        frames = [f"frames-{config.frame_stride}"] if READINGS[config.reading].sequence else []
        kinds = ["statistics", *frames, *(["prosody"] if READINGS[config.reading].prosody else [])]
        copies = range((config.copies if config.augment else 0) + 1)
        sides = [sidecar(self.path(kind, copy)).read_bytes() for kind in kinds for copy in copies]
        return hashlib.sha256(b"\n".join(sides)).hexdigest()[:12]

    def _map(self, path: Path) -> np.ndarray:
        if path not in self._maps:
            # A plain view of the mapped file: indexing a memmap costs several times as much.
            self._maps[path] = np.load(path, mmap_mode="r").view(np.ndarray)
        return self._maps[path]

    def _ends(self, path: Path) -> np.ndarray:
        side = sidecar(path)
        if side not in self._maps:
            self._maps[side] = np.cumsum([0, *json.loads(side.read_text())["lengths"]])
        return self._maps[side]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}


def build(
    corpus: Corpus,
    config: Config,
    copies: int | None = None,
    frames: bool = False,
    prosody: bool = False,
    workers: int | None = None,
    progress: bool = True,
    device: str | None = None,
) -> Bank:
    """The bank of a corpus, after computing what of it is missing or damaged.

    `copies` defaults to `config.copies`; `frames` adds the frames at `config.frame_stride` to the statistics,
    `prosody` what Praat measures; `workers` processes, by default as many as there are cores, share the work by copy,
    and each copy is kept as soon as it is finished. `device` None takes the reference, `hmoe.features`; "cpu" or "cuda"
    take `hmoe.inputs.features_torch` there, and keep what it gives apart, as the last bits differ. Raises AudioError
    for an utterance that cannot be read, StoreError where the cache cannot be written.

    A copy of an utterance of 1.9 s takes 8 ms of one core, nearly all of it in the Fourier transforms; its prosody
    takes 30 ms more.
    """
    bank = locate(corpus, config, copies, device)
    kinds = ["statistics"] + [f"frames-{config.frame_stride}"] * frames + ["prosody"] * prosody
    missing = [c for c in range(bank.copies + 1) if not all(intact(bank.path(kind, c)) for kind in kinds)]
    tasks = [joblib.delayed(_build_copy)(bank, corpus, config, c, kinds, device) for c in missing]
    finished = joblib.Parallel(
        n_jobs=min(workers or joblib.cpu_count(), max(1, len(tasks))), return_as="generator_unordered"
    )
    for _ in tqdm(finished(tasks), total=len(tasks), desc="features", unit="copy", disable=not (progress and tasks)):
        pass
    return bank


def locate(corpus: Corpus, config: Config, copies: int | None = None, device: str | None = None) -> Bank:
    """The bank that `build` would make, whatever of it is on disk."""
    wanted, by = config.only(Features), f"-torch-{torch.device(device).type}" if device else ""
    return Bank(
        ids=list(corpus.table["id"]),
        copies=config.copies if copies is None else copies,
        width=sum(wanted.dims.values()),
        folder=cache_dir() / "bank" / f"{corpus.name}-{content(corpus)}" / f"{wanted.key()}{by}",
        augmenting=config.only(Augmenting).key(),
        by_torch=device is not None,
    )


def content(corpus: Corpus) -> str:
    """12 hexadecimal digits that name the utterances of a corpus, by id, sound and what is done to it."""
    text = "\n".join(f"{i} {sha}" for i, sha in zip(corpus.table["id"], corpus.table["sha256"], strict=True))
    return hashlib.sha256(f"{made_by(*corpus.makers)}\n{text}".encode()).hexdigest()[:12]


def _build_copy(bank: Bank, corpus: Corpus, config: Config, copy: int, kinds: list[str], device: str | None) -> None:
    """Compute and keep one copy of every utterance."""
    thinned_kind = f"frames-{config.frame_stride}"
    statistics, thinned, spoken = [], [], []
    (measured,) = makers("prosody")
    # One thread, because the order in which a matrix product adds up may depend on their number.
    with threadpool_limits(1):
        for samples, found in _heard(_copies(corpus, config, copy), config, device):
            statistics.append(features.statistics(found))
            if thinned_kind in kinds:
                thinned.append(around(found, statistics[-1][: bank.width], config.frame_stride))
            if "prosody" in kinds:
                spoken.append(measured(samples))
    save(bank.path("statistics", copy), np.stack(statistics))
    if thinned:
        save(bank.path(thinned_kind, copy), np.concatenate(thinned), lengths=[len(one) for one in thinned])
    if spoken:
        save(bank.path("prosody", copy), np.stack(spoken))


def _copies(corpus: Corpus, config: Config, copy: int) -> Iterator[np.ndarray]:
    """Each utterance, augmented at the rate of the corpus, so that every model hears the same copies."""
    draw, apply = makers("copies")
    for i, name in enumerate(corpus.table["id"]):
        yield apply(corpus.waveform(i), draw(name, copy, config), CORPUS_RATE)


def _heard(copies: Iterator[np.ndarray], config: Config, device: str | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each copy (S,) and its frames (T, D); in batches on a device, as a GPU would idle at one utterance after another.

    Augmentation stays on the CPU, so that every device hears the same copies: its draws are numpy's, its phase vocoder
    a loop over frames, its resampling soxr's, and it runs in as many processes as there are cores.
    """
    if device is None:
        yield from ((samples, heard(samples, config)) for samples in copies)
        return
    extractor = Extractor(config.only(Features)).to(device)
    while batch := list(islice(copies, BATCH)):
        waves = [torch.from_numpy(at_rate(samples, config)) for samples in batch]
        lengths = torch.tensor([len(wave) for wave in waves])
        found, numbers = extractor(pad_sequence(waves, batch_first=True).to(device), lengths.to(device))
        parts = zip(found.cpu().numpy(), numbers.tolist(), strict=True)
        yield from zip(batch, (frames[:T] for frames, T in parts), strict=True)


def around(frames: np.ndarray, mean: np.ndarray, stride: int) -> np.ndarray:
    """(T, D) -> (T', D) float16, thinned.

    Half precision is enough around the mean, which is kept in full (the first MFCC is about -500).
    """
    return (features.thin(frames, stride) - mean).astype(np.float16)


def heard(samples: np.ndarray, wanted: Features) -> np.ndarray:
    """(S,) samples at the rate of the corpus -> (T, D), as `wanted` hears them."""
    return features.extract(at_rate(samples, wanted), wanted)


def at_rate(samples: np.ndarray, wanted: Features) -> np.ndarray:
    """(S,) samples at the rate of the corpus -> at that of `wanted`, and as many as `wanted.pad_to` says."""
    if wanted.sample_rate != CORPUS_RATE:
        samples = librosa.resample(samples, orig_sr=CORPUS_RATE, target_sr=wanted.sample_rate)
    if wanted.pad_to is None:
        return samples
    beyond = max(0, len(samples) - wanted.pad_to) // 2
    return librosa.util.pad_center(samples[beyond : beyond + wanted.pad_to], size=wanted.pad_to)


def makers(kind: str) -> tuple[Callable, ...]:
    """The functions whose code is named in the path of an entry: of "statistics", "frames", "prosody", or "copies"."""
    if kind == "prosody":  # imported here: Praat takes 70 MB, and who predicts needs neither
        from hmoe.inputs.prosody import prosody

        return (prosody,)
    if kind == "copies":
        from hmoe.augment import apply, draw

        return draw, apply
    return (heard, features.statistics, *([around] if kind == "frames" else []))


def sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def save(path: Path, array: np.ndarray, **about: Iterable[int]) -> None:
    """Write an array, then its checksum and what else there is to say `about` it. Raises StoreError."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    content = buffer.getvalue()
    try:
        atomic_write(path, content)
        atomic_write(sidecar(path), json.dumps({"bytes": len(content), "crc32": zlib.crc32(content), **about}))
    except StoreError as error:
        raise StoreError(error.where, error.what, REMEDY) from error


def intact(path: Path) -> bool:
    """Whether `path` was written whole and is unchanged; a line in the log if it was whole once, and is not now."""
    side = sidecar(path)
    if not side.exists():  # it is written last: perhaps by another process, in a moment
        return False
    try:
        said, content = json.loads(side.read_text()), np.memmap(path, dtype=np.uint8, mode="r")
        if len(content) == said["bytes"] and zlib.crc32(content) == said["crc32"]:
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    log.warning("%s: half-written or damaged; computed again", path)
    return False
