"""A corpus as one file, for a machine that has no folder of it: a zip of FLAC beside the table.

    corpus.csv          the table as `csv` corpora have it, `path` naming a member of the archive
    audio/0000.flac     the first recording; kept as it is where FLAC would not read back bit for bit (MP3, floats)

It holds the audio, so it may go only where the corpus may.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import secrets
import shutil
import struct
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from hmoe.base.errors import CorpusError, StoreError
from hmoe.base.files import atomic_write, cache_dir
from hmoe.corpora import audio
from hmoe.corpora.listing import read_listing
from hmoe.corpora.table import Corpus, CorpusWarning, some, tabulate

TABLE = "corpus.csv"
NEEDED = ["id", "path", "corpus", "sha256"]  # columns of it
BEGINS = b"PK\x03\x04", b"PK\x05\x06"  # the second, where there is nothing in it
# What damage makes of a zip file, and of the table in it.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError, ValueError, RuntimeError,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a file begins as an archive does; it may still be cut off, or of something else."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in BEGINS


def pack(corpus: Corpus, target: Path) -> int:
    """Write a corpus as one file, whole or not at all; returns its bytes, the same each time it is packed.

    A CorpusWarning says how many recordings are kept as they are, because FLAC would not hold their very samples.
    """
    buffer, members, kept = io.BytesIO(), [], []
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, path in enumerate(tqdm(corpus.table["path"].map(Path), desc="packing", unit="utterance", disable=None)):
            compact = _compact(path)
            if compact is None:
                kept.append(str(path))
            members.append(f"audio/{i:04d}{path.suffix if compact is None else '.flac'}")
            content = path.read_bytes() if compact is None else compact
            archive.writestr(zipfile.ZipInfo(members[-1]), content)  # dated 1980, whenever it is made
        listing = corpus.table.assign(path=members).to_csv(index=False, lineterminator="\n")
        archive.writestr(zipfile.ZipInfo(TABLE), listing, zipfile.ZIP_DEFLATED)
    atomic_write(target, buffer.getvalue())
    if kept:
        what = (
            f"{len(kept)} of {len(members)} recordings are kept as they are, as FLAC would not hold their very samples"
        )
        warnings.warn(f"{target}: {what}: {some(kept)}", CorpusWarning, stacklevel=2)
    return len(buffer.getvalue())


def _compact(path: Path) -> bytes | None:
    """A recording as FLAC, if that reads as `path` does bit for bit."""
    buffer = io.BytesIO()
    try:
        samples, rate = soundfile.read(path, dtype="int32", always_2d=True)
        soundfile.write(buffer, samples, rate, format="FLAC", subtype=soundfile.info(path).subtype)
    except (soundfile.SoundFileError, ValueError):  # a kind of samples that FLAC does not have
        return None
    flac = buffer.getvalue()
    return flac if np.array_equal(audio.read(flac), audio.read(path)) else None


def load(name: str, file: Path) -> Corpus:
    """The corpus in an archive: the table and the samples that were packed. CorpusError for anything else."""
    folder = unpack(name, file)
    try:
        return _as_packed(name, file, folder / TABLE)
    except CorpusError:  # perhaps of the cache alone, where packing again would find the same folder
        shutil.rmtree(folder, ignore_errors=True)
        return _as_packed(name, file, unpack(name, file) / TABLE)


def _as_packed(name: str, file: Path, listing: Path) -> Corpus:
    try:
        corpus = tabulate(name, file, read_listing(listing))
    except CorpusError as error:
        raise CorpusError(file, f"other samples than were packed ({error.what})", "pack the corpus again") from None
    packed = pd.read_csv(listing, dtype=str, keep_default_na=False).set_index("id")["sha256"]
    if list(packed.get(corpus.table["id"], [])) != list(corpus.table["sha256"]):
        raise CorpusError(file, "other samples than were packed", "pack the corpus again")
    return corpus


def unpack(name: str, file: Path) -> Path:
    """The folder of the cache that holds what an archive does, made where it is not there yet.

    Raises CorpusError for what is not a whole archive of the corpus `name`, StoreError where nothing can be written.
    """
    try:
        content = file.read_bytes()
        archive = zipfile.ZipFile(io.BytesIO(content))
        table = pd.read_csv(archive.open(TABLE), dtype=str, keep_default_na=False)[NEEDED]
        held, members = sorted(set(table["corpus"])), list(table["path"])
    except (OSError, *DAMAGED) as error:
        raise _refused(file, error) from None
    if held != [name]:
        raise CorpusError(file, f"holds the corpus {', '.join(held)}", f"name that one; {name!r} was asked for")
    folder = cache_dir() / "corpora" / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        archive.extractall(part, [TABLE, *members])
        part.rename(folder)
    except DAMAGED as error:
        raise _refused(file, error) from None
    except OSError as error:
        if not folder.is_dir():  # else another process has been faster
            remedy = "free some space, or set HMOE_CACHE to a directory that can be written"
            raise StoreError.unwritable(folder, error, remedy) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _refused(file: Path, why: Exception) -> CorpusError:
    with suppress(OSError, *DAMAGED), zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        if names & {"xl/workbook.xml", "content.xml"}:
            return CorpusError(file, "a spreadsheet, which is not read", "save it as CSV UTF-8 and give that")
        if TABLE not in names:
            remedy = "unpack it and give its folder, or pack that: `hmoe corpus pack`"
            return CorpusError(file, f"not an archive of a corpus: a zip file without {TABLE}", remedy)
    return CorpusError(
        file, f"not an archive of a corpus, or damaged ({why})", "copy it again, or make one: `hmoe corpus pack`"
    )
