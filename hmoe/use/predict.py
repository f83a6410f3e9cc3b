"""`hmoe predict`: which recordings are meant, what the model says of each, and how it is printed.

What cannot be judged is refused in a line of its own, and stops no other recording.
"""

from __future__ import annotations

import codecs
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from hmoe.base.errors import AudioError, ConfigError, CorpusError, StoreError
from hmoe.corpora import containers
from hmoe.corpora.table import walk
from hmoe.use.pretrained import Judgement, Pretrained

STREAM = "-"
LIMIT = 1 << 28  # bytes of standard input: an hour in stereo at 48 kHz has more


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
    """Judge all that is meant by `given`: files, folders, and `-` for what standard input holds.

    ConfigError or StoreError where the model cannot judge at all, as without its encoder.
    """
    judged: list[Judgement] = []
    refused: list[AudioError] = []
    for found in meant(given, standard_input):
        if isinstance(found, AudioError):
            refused.append(found)
            continue
        shown, recording = found
        try:
            judged.append(replace(model.judge(recording), path=shown))
        except AudioError as error:
            refused.append(AudioError(shown, error.what, error.remedy))
        except (ConfigError, StoreError):  # of the model, whichever recording is the first
            raise
        except Exception as error:  # of a library, for a recording that nobody foresaw: the others are judged
            what = f"cannot be judged ({type(error).__name__}: {error})"
            refused.append(AudioError(shown, what, "convert it to WAV with 16 bits, or leave it out"))
    return Answers(model, judged, refused)


def meant(given: Sequence[str], standard_input: BinaryIO) -> Iterator[tuple[str, Path | bytes] | AudioError]:
    """Each recording with the name to show, or why there is none; of standard input its content."""
    for name in given:
        if name == STREAM:
            yield from _streamed(standard_input.read(LIMIT + 1))
        elif not name:
            yield AudioError("''", "an empty name", "is a shell variable empty? The folder you stand in is `.`")
        elif os.path.isdir(name):
            yield from _inside(Path(name))
        else:
            yield _printable(name), Path(name)


def _streamed(content: bytes) -> Iterator[tuple[str, Path | bytes] | AudioError]:
    lines, audible = _lines(content), content.startswith(containers.KNOWN) or containers.foreign(content[:64])
    if len(content) > LIMIT:
        yield AudioError("standard input", f"more than {LIMIT >> 20} MB", "give paths, one a line, or one recording")
    elif lines is None or (audible and not any(map(os.path.exists, lines))):
        yield "standard input", content
    elif lines:
        yield from meant(lines, io.BytesIO())
    else:
        yield AudioError("standard input", "empty", "give paths, one a line, or the bytes of one WAV recording")


def _lines(content: bytes) -> list[str] | None:
    """The paths in a list: one a line, or each with a NUL behind it (`find -print0`); None for what is no list."""
    separated = b"\0" in content
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (separated and not any(content[1::2])):
        encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-16-le"
        with suppress(UnicodeDecodeError):
            return [line for line in content.decode(encoding).splitlines() if line.strip()]
    content = content.removeprefix(codecs.BOM_UTF8)
    parts = content.split(b"\0") if separated else content.splitlines()
    lines = [os.fsdecode(part) for part in parts if part.strip()]
    binary = any(ord(letter) < 32 and letter not in "\t\n\r" for line in lines for letter in line)
    return None if binary else lines


def _inside(folder: Path) -> Iterator[tuple[str, Path | bytes] | AudioError]:
    try:
        found = walk(folder)
    except CorpusError as error:
        yield AudioError(error.where, error.what, "give a folder that you may read")
        return
    # What looks like a recording and is of a kind that is not read is refused by its name, as every other file is.
    recordings = sorted([*found.audio, *found.unread])
    if not recordings:
        yield AudioError(folder, "no recordings in it", "give a folder that holds .wav, .flac, .ogg or .mp3 files")
    for path in recordings:
        yield _printable(str(path)), path


def _printable(name: str) -> str:
    # A name on disk may be no text at all, or hold a line break; a terminal takes text, and a table lines.
    name = name.encode(errors="backslashreplace").decode()
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
