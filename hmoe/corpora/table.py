"""A folder becomes one tidy table: a row an utterance, sorted by id, every file checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd

from hmoe.base.errors import AudioError, CorpusError
from hmoe.corpora import audio
from hmoe.corpora.labels import COMMON

COLUMNS = ("id", "path", "corpus", "speaker", "emotion", "sentence", "seconds", "sha256")
EXAMPLES = 3  # files that an error names before it only counts


class Utterance(NamedTuple):
    """What a file's name says. `emotion` is a word of `labels.COMMON`; `id` is unique in its corpus."""

    id: str
    speaker: str
    emotion: str
    sentence: str


Grammar = Callable[[PurePath], Utterance]  # of a path relative to the corpus; CorpusError where the name does not fit


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus on disk: `table` has the columns of `COLUMNS`, one row an utterance, sorted by id.

    `seconds` and `sha256` (of the 16-bit samples, see `audio.digest`) are those of the audio at 16 kHz.
    `emotions` are the class names present, in the order of `labels.COMMON`.
    """

    name: str
    root: Path
    table: pd.DataFrame
    emotions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> np.ndarray:
        """Class of each utterance, an index into `emotions`: int64, shape (len,)."""
        return pd.Categorical(self.table["emotion"], categories=list(self.emotions)).codes.astype(np.int64)

    def waveform(self, i: int) -> np.ndarray:
        """Samples of row `i` of the table: float32, shape (n,), 16 kHz. AudioError if the file has become unusable."""
        return audio.read(self.table["path"].iloc[i])

    def subset(self, mask: np.ndarray | pd.Series) -> Corpus:
        """The utterances where the boolean `mask`, shape (len,), holds; `emotions` and so the labels' meaning stay."""
        return replace(self, table=self.table[np.asarray(mask, bool)].reset_index(drop=True))


def files(root: Path) -> list[Path]:
    """Every audio file (`audio.SUFFIXES`) under `root`, sorted. Whatever lies beside them is passed over, as are hidden
    files and folders and the `._*` and `__MACOSX` copies that archives from a Mac carry.

    Raises CorpusError if `root` cannot be listed, or a name is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise CorpusError(
            error.filename or root, f"cannot be listed ({error.strerror})", "give the corpus's directory"
        ) from None

    found = []
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if name != "__MACOSX" and not name.startswith(".")]
        for name in names:
            if name.lower().endswith(audio.SUFFIXES) and not name.startswith("."):
                found.append(Path(folder, name))
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError:  # a name that an archive tool left in another encoding, GBK perhaps
            shown = str(path).encode(errors="backslashreplace").decode()
            raise CorpusError(shown, "the name is not UTF-8", "rename it, e.g. with `convmv -f gbk -t utf8`") from None
    return sorted(found)


def scan(root: Path, grammar: Grammar) -> Iterator[tuple[Path, Utterance]]:
    """Every audio file under `root` with what its name says. CorpusError where a name does not fit the grammar."""
    for path in files(root):
        try:
            yield path, grammar(path.relative_to(root))
        except CorpusError as error:
            raise CorpusError(path, error.what, error.remedy) from None


def tabulate(name: str, root: Path, found: Iterable[tuple[Path, Utterance]]) -> Corpus:
    """Read every file once and make the corpus. CorpusError for no files, an id that comes twice, unusable audio."""
    rows = sorted(found, key=lambda row: (row[1].id, row[0]))
    if not rows:
        raise CorpusError(root, "no utterances found", f"give the directory of the .wav files of {name!r}")
    for (one, first), (two, second) in zip(rows, rows[1:], strict=False):
        if first.id == second.id:
            raise CorpusError(two, f"{second.id!r} is also {one}", "remove one of the two")

    measured = measure(path for path, _ in rows)
    bad = [m for m in measured if isinstance(m, AudioError)]
    if bad:
        more = f" and {len(bad) - EXAMPLES} more" if len(bad) > EXAMPLES else ""
        listing = ", ".join(f"{error.where} ({error.what})" for error in bad[:EXAMPLES])
        raise CorpusError(
            root, f"{len(bad)} of {len(rows)} files unusable: {listing}{more}", "replace or remove these files"
        )
    table = pd.DataFrame(
        [
            (u.id, str(path), name, u.speaker, u.emotion, u.sentence, *m)
            for (path, u), m in zip(rows, measured, strict=True)
        ],
        columns=list(COLUMNS),
    )
    present = set(table["emotion"])
    return Corpus(name, root, table, tuple(e for e in COMMON if e in present))


def measure(paths: Iterable[Path]) -> list[tuple[float, str] | AudioError]:
    """Seconds and sha256 of each file, or the error that reading it gives; in the order given."""

    def one(path: Path) -> tuple[float, str] | AudioError:
        try:
            samples = audio.read(path)
        except AudioError as error:
            return error
        return len(samples) / 16_000, audio.digest(samples)

    # Threads suffice: decoding, resampling and hashing all let go of the interpreter.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, paths))
