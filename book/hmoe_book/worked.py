"""The worked commands of pages: run when the book is built, so that what a page shows is what they say.

Those of "Use it" run on a model that is trained on the spot, in the `fast` profile on the synthetic corpus, and judge
utterances of an unseen sentence.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import soundfile

from hmoe import corpora
from hmoe.base.files import PROJECT, atomic_write
from hmoe.base.source import Needs
from hmoe.corpora import audio

COMMANDS = {
    "train": "hmoe train my-model --profile fast",
    "files": "hmoe predict greeting.wav question.flac",
    "json": "hmoe predict greeting.wav --format json",
    "unlike": "hmoe predict --format csv new",
    "refused": "hmoe predict new empty.wav no-such.wav",
    "paths": "ls new/*.wav | hmoe predict -",
    "stream": "cat greeting.wav | hmoe predict -",
    "hub": "hmoe predict --model your-model greeting.wav",
}
"""By the name of the part of the page that shows them, in order: the first makes what the others use."""

AUDITS = {
    "table": "hmoe audit melanoma.csv --per-class sensitivity=75,specificity=304",
    "balanced": "grep -e method -e Lopez melanoma.csv | hmoe audit - --per-class 75 --truncated",
}
"""Those of the page "Audit a table", likewise."""


def audits() -> dict[str, str]:
    """What each of `AUDITS` says on a terminal, as parts of the page by their file name."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(PROJECT / "book" / "assets" / "melanoma.csv", "melanoma.csv")
        return {f"audit-{name}.md": f"```console\n$ {command}\n{run(command)}```\n" for name, command in AUDITS.items()}


def blocks() -> dict[str, str]:
    """What each command says on a terminal, as parts of the page by their file name; run when their code is new."""
    kept = PROJECT / "_build" / "worked" / f"{Needs.of('import hmoe.__main__, hmoe_book.worked').digest()}.json"
    if not kept.exists():
        first, *others = COMMANDS.values()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), ThreadPoolExecutor(2) as pool:
            prepare()
            said = dict(zip(COMMANDS, [run(first), *pool.map(run, others)], strict=True))
        atomic_write(kept, json.dumps(said))
    said = json.loads(kept.read_text(encoding="utf-8"))
    return {f"use-{name}.md": f"```console\n$ {command}\n{said[name]}```\n" for name, command in COMMANDS.items()}


def prepare() -> None:
    """Recordings in the working directory: three like the corpus, two unlike it, and a file that is none."""
    table = corpora.load("synthetic").table
    said = table[table["sentence"] == table["sentence"].sort_values().unique()[-2]]  # in training, `fast` has the first
    spoken = said.set_index(["speaker", "emotion"])["path"]
    shutil.copy(spoken["f2", "happiness"], "greeting.wav")
    soundfile.write("question.flac", audio.read(spoken["m1", "surprise"]), 16_000)
    Path("new").mkdir()
    shutil.copy(spoken["m3", "anger"], "new/usual.wav")
    audio.write("new/quiet.wav", 0.01 * audio.read(spoken["f4", "fear"]))
    narrow = librosa.resample(audio.read(spoken["f4", "neutral"]), orig_sr=16_000, target_sr=8_000)
    audio.write("new/telephone.wav", narrow, 8_000)
    Path("empty.wav").touch()


def run(command: str) -> str:
    """What a command prints, complaints first, as it does; the first half of a pipe is a program of the shell's."""
    *first, last = command.split(" | ")
    program = [sys.executable, "-m", *shlex.split(last)]
    done = subprocess.run(program, input=b"".join(map(_shell, first)), capture_output=True)
    complaints = [line for line in done.stderr.decode().splitlines() if line.startswith("hmoe: ")]  # and no bars
    return "".join(f"{line}\n" for line in [*complaints, *done.stdout.decode().splitlines()])


def _shell(command: str) -> bytes:
    """`cat FILE`, `ls PATTERN`, or `grep -e WORD ... FILE`, on any system."""
    program, *words, argument = command.split()
    found = sorted(Path().glob(argument))
    if program == "grep":
        lines = found[0].read_text(encoding="utf-8").splitlines()
        return "\n".join(line for line in lines if any(word in line for word in words[1::2])).encode()
    return found[0].read_bytes() if program == "cat" else "\n".join(map(str, found)).encode()
