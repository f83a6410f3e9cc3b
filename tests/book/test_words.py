"""What a reader meets is said in the words of `words.yml`: pages, chapters, and the help of every command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import typer
import yaml

from hmoe.__main__ import app
from hmoe.base.files import DATA, PROJECT

WORDS = yaml.safe_load((Path(__file__).parent / "words.yml").read_text(encoding="utf-8"))
PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted((PROJECT / "book").glob("*.md*")),
    *sorted(DATA.glob("*.md")),
    DATA / "deviations.yml",
    DATA / "claims.yml",
]


def found(text: str, code: bool = False) -> list[str]:
    """The phrases of a text that are to be said otherwise."""
    text = " ".join(text.split())  # a phrase may stand across two lines
    patterns = [pattern for word in WORDS for pattern in word["not"] if not (code and word.get("names"))]
    return [hit[0] for pattern in patterns for hit in re.finditer(pattern, text, flags=re.IGNORECASE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_it_plainly(page: Path) -> None:
    assert found(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("chapter", sorted((PROJECT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_chapter_says_it_plainly(chapter: Path) -> None:
    cells = nbformat.read(chapter, as_version=4).cells
    assert [hit for cell in cells for hit in found(cell.source, cell.cell_type == "code")] == []


def helps(command: Any, name: str = "hmoe") -> Iterator[tuple[str, str]]:
    """The help of a command and of all beneath it."""
    parts = [command.help, *(getattr(each, "help", None) for each in command.params)]
    yield name, " ".join(filter(None, parts))
    for below, each in getattr(command, "commands", {}).items():
        yield from helps(each, f"{name} {below}")


def test_every_command_says_it_plainly() -> None:
    said = dict(helps(typer.main.get_command(app)))
    assert len(said) > 20 and any(said.values())
    assert {name: hits for name, text in said.items() if (hits := found(text))} == {}


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word["say"])
def test_each_word_would_be_found(word: dict) -> None:
    assert set(word) <= {"say", "not", "names"}
    for pattern in word["not"]:
        re.compile(pattern)
    assert found(word["say"]) == []


def test_a_phrase_is_found_across_lines_and_in_code_unless_rows_are_named_so() -> None:
    assert found("Then a\n  stranger speaks, on its own\nscale.") == ["stranger", "own scale"]
    assert found('speaker = "wangzhe"  # by luck', code=True) == ["luck"]
