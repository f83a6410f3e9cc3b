"""A folder becomes one tidy table: a row an utterance, sorted by id, every file checked."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd

from hmoe.base.errors import AudioError, CorpusError
from hmoe.corpora import audio, containers
from hmoe.corpora.identities import alike, clean, twins
from hmoe.corpora.labels import COMMON

COLUMNS = ("id", "path", "corpus", "speaker", "emotion", "sentence", "seconds", "sha256")
EXAMPLES = 3  # files that an error names before it only counts
SAME = "bit-identical to another"
UNREAD = "of a kind that is not read: convert to WAV"
UNNAMED = ("folder", "csv")  # corpora whose ids are names of files: a copy under another name is a copy
MISNAMED = "not named as this corpus's files are"


class CorpusWarning(UserWarning):
    """Something of a corpus that was passed over, or taken for something else."""


class Misfit(CorpusError):
    """A file that does not fit the tree of its corpus: it is passed over, said, and listed by `check`."""


class PassedOver(CorpusError):
    """A file of the corpus that is no utterance of it, in the words of `what`: song, where speech is wanted."""


class Utterance(NamedTuple):
    """What a file's name says. `emotion` is a word of `labels.COMMON`; `id` is unique in its corpus."""

    id: str
    speaker: str
    emotion: str
    sentence: str


Grammar = Callable[[PurePath], Utterance]
"""Of a path relative to the corpus. Misfit where the name does not fit, PassedOver for what is no utterance of it,
CorpusError for a name that fits and says what cannot be."""

Placed = tuple[Path, Utterance]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus on disk: `table` has the columns of `COLUMNS`, one row an utterance, sorted by id.

    `seconds` and `sha256` (of the 16-bit samples, see `audio.digest`) are those of the audio at 16 kHz.
    `emotions` are the class names present, in the order of `labels.COMMON`. `passed_over` has the files that are not
    in the table, by the reason why.
    """

    name: str
    root: Path
    table: pd.DataFrame
    emotions: tuple[str, ...]
    passed_over: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def makers(self) -> tuple[object, ...]:
        """What makes its waveforms from those that `sha256` names, for `hmoe.base.source.made_by`: nothing."""
        return ()

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


class Walk(NamedTuple):
    """What lies in a folder: files that are taken for recordings, files that hold sound and are not read, both sorted;
    links that lead out of the folder."""

    audio: list[Path]
    unread: list[Path]
    links: list[Path]


def files(root: Path) -> list[Path]:
    """Every audio file under `root`, sorted: those named so (`audio.SUFFIXES`), and others that can be read.

    Whatever lies beside them is passed over, as are hidden files and folders and the `._*` and `__MACOSX` copies that
    archives from a Mac carry. Each file comes once, whatever links lead to it.

    Raises CorpusError if `root` cannot be listed, or a name is not UTF-8.
    """
    return walk(root).audio


def walk(root: Path) -> Walk:
    """As `files`, with what looks like audio and is not read."""

    def refuse(error: OSError) -> None:
        raise CorpusError(
            error.filename or root, f"cannot be listed ({error.strerror})", "give the corpus's directory"
        ) from None

    taken, unread, links, out = [], [], [], []
    base, seen = os.path.realpath(root), set()

    def descend(top: str | Path) -> None:
        for folder, folders, names in os.walk(top, onerror=refuse):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if name != "__MACOSX" and not name.startswith("."))
            links.extend(path for name in folders if os.path.islink(path := os.path.join(folder, name)))
            for name in sorted(names):
                if name.startswith(".") or not name.lower().endswith((*audio.SUFFIXES, *audio.OTHERS)):
                    continue
                path = Path(folder, name)
                if path.is_symlink():
                    links.append(str(path))
                else:
                    seen.add(os.path.join(real, name))
                    take(path)

    def take(path: Path) -> None:
        (taken if path.name.lower().endswith(audio.SUFFIXES) or _readable(path) else unread).append(path)

    descend(root)
    for link in links:  # which grows while links are found behind links
        real = os.path.realpath(link)
        upward = (base + os.sep).startswith(real.rstrip(os.sep) + os.sep)  # all that it leads to is here, or not meant
        if real in seen or upward:
            continue
        if os.path.exists(real) and not real.startswith(base + os.sep):
            out.append(Path(link))
        if os.path.isdir(real):
            descend(link)
        else:
            seen.add(real)
            take(Path(link))
    for path in (*taken, *unread):
        try:
            str(path).encode()
        except UnicodeEncodeError:  # a name that an archive tool left in another encoding, GBK perhaps
            shown = str(path).encode(errors="backslashreplace").decode()
            raise CorpusError(shown, "the name is not UTF-8", "rename it, e.g. with `convmv -f gbk -t utf8`") from None
    return Walk(sorted(taken), sorted(unread), sorted(out))


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return containers.readable(file.read(16))
    except OSError:
        return False


def scan(root: Path, grammar: Grammar, passed_over: dict[str, list[str]] | None = None) -> Iterator[Placed]:
    """Every audio file under `root` with what its name says; what is no utterance goes to `passed_over`, by the reason.

    CorpusError where a name says something that cannot be, or no name fits the grammar.
    """
    found, passed = walk(root), {} if passed_over is None else passed_over
    first, fits = None, False
    for path in found.unread:
        passed.setdefault(UNREAD, []).append(shown(path, root))
    for path in found.audio:
        try:
            utterance = grammar(path.relative_to(root))
        except Misfit as error:
            first = first or CorpusError(path, error.what, error.remedy)
            passed.setdefault(MISNAMED, []).append(shown(path, root))
        except PassedOver as error:
            first = first or CorpusError(path, error.what, error.remedy)
            passed.setdefault(error.what, []).append(shown(path, root))
        except CorpusError as error:
            raise CorpusError(path, error.what, error.remedy) from None
        else:
            fits = True
            yield path, utterance
    if first and not fits:
        raise first
    if found.links:
        where = [f"{shown(path, root)} -> {os.path.realpath(path)}" for path in found.links]
        warnings.warn(f"{root}: {len(where)} links lead out of it: {some(where)}", CorpusWarning, stacklevel=2)


def tabulate(name: str, root: Path, found: Iterable[Placed], passed_over: dict[str, list[str]] | None = None) -> Corpus:
    """Read every file once and make the corpus. Of bit-identical files one is taken. A warning says what is not.

    What a corpus has published twice under names of its own is there twice (RAVDESS has one such pair), and no split of
    `protocols` trains on one and tests the other.

    CorpusError for no files, different recordings of one id, one recording with two emotions, and unusable audio.
    """
    rows = sorted(_identified(found, root), key=lambda row: (row[1].id, row[0]))
    passed = {} if passed_over is None else passed_over
    if not rows:
        remedy = f"give the directory of the .wav files of {name!r}"
        if passed:
            remedy += f"; passed over: {counted(passed)}"
        raise CorpusError(root, "no utterances found", remedy)
    measured = measure(path for path, _ in rows)
    bad = [m for m in measured if isinstance(m, AudioError)]
    if bad:
        more = f" and {len(bad) - EXAMPLES} more" if len(bad) > EXAMPLES else ""
        listing = ", ".join(f"{error.where} ({error.what})" for error in bad[:EXAMPLES])
        raise CorpusError(
            root, f"{len(bad)} of {len(rows)} files unusable: {listing}{more}", "replace or remove these files"
        )
    by_id: dict[str, tuple[Placed, str]] = {}
    by_sound: dict[str, Placed] = {}
    lines = []
    for (path, u), (seconds, sha) in zip(rows, measured, strict=True):
        if u.id in by_id:
            (other, first), its = by_id[u.id]
            if its != sha or (first.emotion, first.speaker) != (u.emotion, u.speaker):
                raise CorpusError(path, f"{u.id!r} is also {other}", "remove one of the two")
        elif sha in by_sound and by_sound[sha][1].emotion != u.emotion:
            other, first = by_sound[sha]
            what = f"{u.emotion}, and the same recording as {other}, which is {first.emotion}"
            raise CorpusError(path, what, "remove one of the two")
        if u.id in by_id or (sha in by_sound and name in UNNAMED):
            other = by_id[u.id][0][0] if u.id in by_id else by_sound[sha][0]
            same = "" if path == other else f" = {shown(other, root)}"
            passed.setdefault(SAME, []).append(shown(path, root) + same)
            continue
        by_id[u.id], by_sound[sha] = ((path, u), sha), (path, u)
        lines.append((u.id, str(path), name, u.speaker, u.emotion, u.sentence, seconds, sha))
    if passed:
        warnings.warn(f"{name} at {root}: passed over {counted(passed)}", CorpusWarning, stacklevel=2)
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    present = set(table["emotion"])
    return Corpus(name, root, table, tuple(e for e in COMMON if e in present), passed)


def _identified(found: Iterable[Placed], root: Path) -> Iterator[Placed]:
    """With one spelling for each speaker and sentence; a warning says who is taken for one. None has a line break."""
    rows = list(found)
    speakers = alike(u.speaker for _, u in rows)
    sentences = alike(u.sentence for _, u in rows)
    spellings = defaultdict(list)
    for written, name in speakers.items():
        spellings[name].append(written)
    if merged := [" = ".join(map(repr, sorted(group))) for group in spellings.values() if len(group) > 1]:
        warnings.warn(f"{root}: taken for one speaker: {some(merged)}", CorpusWarning, stacklevel=3)
    if near := [" and ".join(map(repr, group)) for group in twins(spellings)]:
        what = "taken for different speakers, though their names are nearly the same"
        warnings.warn(f"{root}: {what}: {some(near)}", CorpusWarning, stacklevel=3)
    for path, u in rows:
        stem = clean(path.stem)
        yield (
            path,
            Utterance(clean(u.id) or stem, speakers[u.speaker] or "unknown", u.emotion, sentences[u.sentence] or stem),
        )


def shown(path: Path, root: Path) -> str:
    """A path as seen from the folder of the corpus, if it lies there."""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def counted(passed: Mapping[str, Sequence[str]]) -> str:
    """How many files were passed over, by the reason why, with the first of each."""
    total = sum(map(len, passed.values()))
    kinds = (f"{len(items)} {reason} ({some(items)})" for reason, items in passed.items())
    return f"{total} file{'s' * (total > 1)}: {'; '.join(kinds)}"


def some(items: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - EXAMPLES} more" if len(items) > EXAMPLES else ""
    return ", ".join(items[:EXAMPLES]) + more


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
