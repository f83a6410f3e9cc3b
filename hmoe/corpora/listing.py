"""A corpus as a CSV manifest: columns `path` and `emotion`, and if there are any `speaker`, `sentence`, `id`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hmoe.base.errors import CorpusError
from hmoe.corpora.labels import emotion
from hmoe.corpora.table import Utterance

OPTIONAL = ("id", "speaker", "sentence")


def read_listing(file: Path) -> Iterator[tuple[Path, Utterance]]:
    """Every line's file and what the line says of it; paths are relative to the CSV file's directory.

    An id that is not given is the path, a speaker "unknown", a sentence the file's name. CorpusError, naming the
    line, for a missing column or value, or an unknown emotion.
    """
    try:
        lines = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # ValueError: pandas' parser, and bytes that are not UTF-8
        raise CorpusError(file, f"not a CSV file ({str(error).splitlines()[0]})", "save it as UTF-8 CSV") from None
    lines.columns = lines.columns.str.strip().str.casefold()
    if not {"path", "emotion"} <= set(lines.columns):
        found = ", ".join(lines.columns)
        raise CorpusError(
            file, f"has the columns {found}", "needs at least path and emotion, with a comma between them"
        )
    if not len(lines):
        raise CorpusError(file, "no utterances found", "write a line for each recording")
    for number, line in enumerate(lines.to_dict("records"), start=2):
        where = f"{file} line {number}"
        if not line["path"]:
            raise CorpusError(where, "has no path", "name an audio file or remove the line")
        path = Path(line["path"])
        if not (file.parent / path).is_file():
            raise CorpusError(
                where, f"no such file {path}", "give its path as seen from the folder of the CSV file, or in full"
            )
        usual = {"id": path.with_suffix("").as_posix().replace("/", "-"), "speaker": "unknown", "sentence": path.stem}
        given = {column: line.get(column) or usual[column] for column in OPTIONAL}
        yield file.parent / path, Utterance(emotion=emotion(line["emotion"], where), **given)
