"""`hmoe predict`: which recordings are meant, what the model says of each, and how it is printed.

What cannot be judged is refused in a line of its own, and stops no other recording.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from hmoe.base.errors import AudioError, CorpusError
from hmoe.corpora.table import files
from hmoe.use.pretrained import Judgement, Pretrained

STREAM = "-"


@dataclass(frozen=True)
class Answers:
    """Of all recordings: what was judged and what was refused, each in the order given."""

    model: Pretrained
    judged: list[Judgement]
    refused: list[AudioError]

    def table(self) -> pd.DataFrame:
        """A line each: path, emotion, a probability for each emotion, the router's weight `g_` of each expert."""
        lines = [
            {"path": one.path, "emotion": one.emotion, **one.probabilities}
            | {f"g_{name}": weight for name, weight in one.routing.items()}
            | {"warnings": "; ".join(one.warnings)}
            for one in self.judged
        ]
        return pd.DataFrame(lines)

    def json(self) -> str:
        """An object: `note`, `predictions` and `refused`."""
        refused = [{"path": error.where, "why": error.what, "remedy": error.remedy} for error in self.refused]
        said: dict[str, Any] = {"note": self.model.note, "predictions": [_rounded(vars(one)) for one in self.judged]}
        return json.dumps(said | {"refused": refused}, indent=1, ensure_ascii=False)


def _rounded(said: dict[str, Any]) -> dict[str, Any]:
    return said | {
        name: {key: round(number, 4) for key, number in said[name].items()} for name in ("probabilities", "routing")
    }


def answers(model: Pretrained, given: Sequence[str], standard_input: BinaryIO) -> Answers:
    """Judge all that is meant by `given`: files, folders, and `-` for what standard input holds."""
    judged: list[Judgement] = []
    refused: list[AudioError] = []
    with tempfile.TemporaryDirectory() as scratch:
        for found in meant(given, standard_input, Path(scratch)):
            try:
                if isinstance(found, AudioError):
                    raise found
                shown, path = found
                judged.append(replace(model.judge(path), path=shown))
            except AudioError as error:
                where = error.where if isinstance(found, AudioError) else found[0]
                refused.append(AudioError(where, error.what, error.remedy))
    return Answers(model, judged, refused)


def meant(given: Sequence[str], standard_input: BinaryIO, scratch: Path) -> Iterator[tuple[str, Path] | AudioError]:
    """Each recording with the name to show, or why there is none. A stream is kept as a file in `scratch`."""
    for name in given:
        if name == STREAM:
            content = standard_input.read()
            if content.startswith(b"RIFF"):
                (scratch / "stream.wav").write_bytes(content)
                yield "standard input", scratch / "stream.wav"
            elif lines := [os.fsdecode(line) for line in content.splitlines() if line.strip()]:
                yield from meant(lines, io.BytesIO(), scratch)
            else:
                yield AudioError("standard input", "empty", "give paths, one a line, or the bytes of one WAV recording")
        elif Path(name).is_dir():
            yield from _inside(Path(name))
        else:
            yield _printable(name), Path(name)


def _inside(folder: Path) -> Iterator[tuple[str, Path] | AudioError]:
    try:
        found = files(folder)
    except CorpusError as error:
        yield AudioError(error.where, error.what, "give a folder that you may read")
        return
    if not found:
        yield AudioError(folder, "no recordings in it", "give a folder that holds .wav, .flac, .ogg or .mp3 files")
    for path in found:
        yield _printable(str(path)), path


def _printable(name: str) -> str:
    # A name on disk may be no text at all; a terminal takes text.
    return name.encode(errors="backslashreplace").decode()
