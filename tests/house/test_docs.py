"""The pages say what works: every command on them parses, and those marked with `<!-- run -->` run, in order.

Marks stand on the line above a fenced block: `<!-- run -->` before commands, `<!-- file: NAME -->` before what a reader
would save under that name, `<!-- starts: NAME -->` before the first lines of a file that a command has made.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from hmoe import __main__ as cli
from hmoe.base.errors import ConfigError
from hmoe.base.files import PACKAGE, PROJECT
from hmoe.corpora import Corpus, audio, load
from hmoe.corpora.synthetic import make, sentences

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "book").glob("*.md*"))]
FENCE = re.compile(r"(?:^<!-- (run|file: \S+|starts: \S+) -->\n)?^```(\w+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "sh", "shell", "console"}


class Block(NamedTuple):
    mark: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell text, without comments and assignments before it."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\|\|?|;", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [[w for i, w in enumerate(each) if i or "=" not in w] for each in words if each]


def mentioned() -> list[tuple[str, list[str], bool]]:
    """(page, command, whole) of every `hmoe` or `make`: in blocks, and (a part of one, perhaps) within the text."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inline = [(span, False) for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]
        for source, whole in [(b.text, True) for b in blocks(page) if b.language in SHELLS] + inline:
            if whole or re.match(r"(make|hmoe) ", source):
                found += [(page.name, command, whole) for command in commands(source)]
    for doc in re.findall(r"Example: `(.*)`", "".join(p.read_text() for p in (PACKAGE / "commands").glob("*.py"))):
        found.append(("hmoe --help", shlex.split(doc), True))
    return found


def ids(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("page", "command", "whole"), [one for one in mentioned() if Path(one[1][0]).name == "hmoe"], ids=ids
)
def test_every_hmoe_command_parses(page: str, command: list[str], whole: bool) -> None:
    node, name, arguments = typer.main.get_command(cli.app), "hmoe", command[1:]
    try:
        while hasattr(node, "commands") and arguments and not arguments[0].startswith("-"):
            context = node.make_context(name, arguments, resilient_parsing=True)
            name, node, arguments = node.resolve_command(context, arguments)
        if arguments != ["--help"]:
            node.make_context(name, list(arguments))
    except ConfigError as error:
        assert str(error).startswith("--device: got 'cuda'")  # it parses; a machine without a GPU says no
    except Exception as error:  # click's, which newer versions of typer have inside
        if whole or type(error).__name__ != "MissingParameter":
            pytest.fail(f"{page}: `{shlex.join(command)}`: {error}")


@pytest.mark.parametrize(("page", "command", "whole"), [one for one in mentioned() if one[1][0] == "make"], ids=ids)
def test_every_make_target_and_variable_exists(page: str, command: list[str], whole: bool) -> None:
    makefile, setup = (PROJECT / "Makefile").read_text(), (PROJECT / "tools" / "setup.sh").read_text()
    for word in command[1:]:
        name, equals, _ = word.partition("=")
        known = rf"^{name} \?=|\$\{{{name}:-" if equals else rf"^{re.escape(name)}:"
        assert re.search(known, makefile + setup, re.MULTILINE), f"{page}: make knows no {name}"


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """4 voices x 6 emotions x 4 sentences of the synthetic corpus: enough to hold a tenth of four folds out."""
    root = tmp_path_factory.mktemp("voices") / "synthetic"
    make(root, sentences()[:4])
    return load("synthetic", root)


SAID = {"anger": "angry", "happiness": "happy"}


def as_folders(voices: Corpus, folder: Path) -> None:
    """`recordings/`, as the first hour asks for: a folder for each emotion."""
    for line in voices.table.itertuples():
        target = folder / "recordings" / SAID.get(line.emotion, line.emotion) / f"{line.speaker}-{line.sentence}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(line.path, target)


def as_clips(voices: Corpus, folder: Path) -> None:
    """`clips/`, as the page on other corpora has them, with a label among them that nobody maps."""
    said = {"anger": "irritated", "happiness": "cheerful", "neutral": "even", "fear": "puzzled"}
    (folder / "clips").mkdir()
    names = dict(zip(sorted(set(voices.table["speaker"])), ("ann", "bob", "cleo", "dan"), strict=True))
    for i, line in enumerate(voices.table.itertuples()):
        if line.emotion in said:
            name = f"{names[line.speaker]}_{line.sentence}_{said[line.emotion]}.wav"
            audio.write(folder / "clips" / name, voices.waveform(i))


@pytest.mark.parametrize(
    ("page", "prepare"), [("first-hour", as_folders), ("your-corpus", as_clips), ("add-an-expert", lambda *_: None)]
)
def test_a_page_runs_as_it_is_printed(
    page: str, prepare: Any, voices: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").symlink_to(PROJECT / "notebooks")
    prepare(voices, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "HMOE_SYNTHETIC": str(voices.root),
        "HMOE_CACHE": str(tmp_path / "cache"),
        "HMOE_RESULTS": str(tmp_path / "results"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }.items():
        monkeypatch.setenv(name, value)
    ran = 0
    for mark, _, text in blocks(PROJECT / "book" / f"{page}.md"):
        kind, _, name = mark.partition(": ")
        if kind == "file":
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "starts":
            assert (tmp_path / name).read_text(encoding="utf-8").startswith(text)
        elif kind == "run":
            for command in commands(text):
                assert run(command, monkeypatch) == 0, shlex.join(command)
                ran += 1
    assert ran >= 2


def run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command. `hmoe` runs in this process, for importing torch anew takes longer than the rest."""
    if command[0] != "hmoe":
        return subprocess.run(command).returncode
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0
