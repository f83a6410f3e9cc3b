"""A corpus as a CSV manifest: columns `path` and `emotion`, and if there are any `speaker`, `sentence`, `id`."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from hmoe.base.errors import CorpusError
from hmoe.corpora.identities import clean
from hmoe.corpora.labels import emotion
from hmoe.corpora.table import Utterance

OPTIONAL = ("id", "speaker", "sentence")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_listing(file: Path) -> Iterator[tuple[Path, Utterance]]:
    """Every line's file and what the line says of it; paths are relative to the CSV file's directory.

    An id that is not given is the path, of which where the corpus lies is no part; a speaker "unknown", a sentence the
    file's name. CorpusError, naming the line, for a missing column or value, a cell too many, or an unknown emotion.
    """
    lines = _lines(file)
    _, header = next(lines, (1, []))
    columns = [name.strip().casefold() for name in header]
    if not {"path", "emotion"} <= set(columns):
        found = ", ".join(columns) or "nothing"
        raise CorpusError(
            file, f"has the columns {found}", "needs at least path and emotion, with a comma between them"
        )
    for name in ("path", "emotion", *OPTIONAL):
        if columns.count(name) > 1:
            raise CorpusError(file, f"has the column {name} {columns.count(name)} times", "keep one of them")
    listed: list[tuple[str, Path, dict[str, str]]] = []
    for number, cells in lines:
        where = f"{file} line {number}"
        if len(cells) > len(columns):
            what = f"{len(cells)} cells for {len(columns)} columns"
            raise CorpusError(where, what, "remove a comma, or write quotes around a cell that holds one")
        line = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
        if not line["path"]:
            raise CorpusError(where, "has no path", "name an audio file or remove the line")
        path = Path(line["path"])
        if not (file.parent / path).is_file():
            raise CorpusError(
                where, f"no such file {path}", "give its path as seen from the folder of the CSV file, or in full"
            )
        listed.append((where, path, line))
    if not listed:
        raise CorpusError(file, "no utterances found", "write a line for each recording")
    inside = _seen_from(file, [path for _, path, _ in listed])
    for (where, path, line), name in zip(listed, inside, strict=True):
        usual = {"id": name.with_suffix("").as_posix().replace("/", "-"), "speaker": "unknown", "sentence": path.stem}
        given = {column: clean(line.get(column, "")) or usual[column] for column in OPTIONAL}
        yield file.parent / path, Utterance(emotion=emotion(line.get("emotion", ""), where), **given)


def _seen_from(file: Path, paths: list[Path]) -> list[Path]:
    """Paths in full as seen from the CSV file's folder, or from the folder that they share: the same on any machine.

    Ids decide folds and augmented copies, so a corpus that is moved must keep them.
    """
    here, full = file.parent.absolute(), [path for path in paths if path.is_absolute()]
    if not all(path.is_relative_to(here) for path in full):
        here = Path(os.path.commonpath([path.parent for path in full]))
    return [path.relative_to(here) if path.is_absolute() else path for path in paths]


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that has any, with the number of the line where it begins, from 1."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise _refused(file, str(error)) from None
    reader, begin = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise _refused(f"{file} line {begin}", str(error)) from None


def _refused(where: object, why: str) -> CorpusError:
    return CorpusError(where, f"not a CSV file ({why})", "save it as UTF-8 CSV")
