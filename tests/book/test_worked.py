"""The worked commands of the page "Use it": the page shows each, and each says what the page says that it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hmoe.base.files import PROJECT
from hmoe_book import worked

PAGE = (PROJECT / "book" / "use.md").read_text(encoding="utf-8")
NOTE = "Trained on synthetic voices: its labels mean nothing about emotion."


@pytest.fixture(scope="module")
def said(html: Path) -> dict[str, str]:
    """What each command printed when the book was built, by its name."""
    folder = html.parent / "src" / "book" / "generated"
    return {path.stem.removeprefix("use-"): path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def test_the_page_shows_each_command_once_and_in_order() -> None:
    assert re.findall(r"\{include\} generated/use-(\w+)\.md", PAGE) == list(worked.COMMANDS)


def test_each_block_is_the_command_and_its_answer(said: dict[str, str]) -> None:
    for name, command in worked.COMMANDS.items():
        first, second, *rest = said[name].splitlines()
        assert (first, second, rest[-1]) == ("```console", f"$ {command}", "```")
        assert len(rest) > 1


def test_the_answers_are_those_that_the_page_speaks_of(said: dict[str, str]) -> None:
    assert re.search(r"^epoch \d+: my-model$", said["train"], re.MULTILINE)
    for name in ("train", "files", "json", "unlike", "refused", "paths", "stream"):
        assert NOTE in said[name]
        assert "Traceback" not in said[name]
    for name in ("greeting.wav", "question.flac"):
        assert re.search(rf"^ *{name} +\w+( +[01]\.\d\d){{9}}$", said["files"], re.MULTILINE)
    assert "warning" not in said["files"]
    assert re.search(r"quiet.wav is unlike the training corpus: level -\d\d", said["unlike"])
    assert "sampling rate 8000 Hz (16000 in training)" in said["unlike"]
    assert "usual.wav is unlike" not in said["unlike"]
    assert "hmoe: empty.wav: empty file" in said["refused"]
    assert "hmoe: no-such.wav: no such file" in said["refused"]
    for name in ("refused", "paths"):
        assert re.search(r"^ *new/usual.wav ", said[name], re.MULTILINE)
    assert re.search(r"^ *standard input +\w+( +[01]\.\d\d){9}$", said["stream"], re.MULTILINE)
    assert "hmoe: your-model: no such model; make one with `hmoe train`" in said["hub"]


def test_the_audit_page_shows_each_audit_and_its_answer(said: dict[str, str]) -> None:
    page = (PROJECT / "book" / "audit-a-table.md").read_text(encoding="utf-8")
    assert re.findall(r"\{include\} generated/(audit-\w+\.md)", page) == [f"audit-{name}.md" for name in worked.AUDITS]
    # "Two rows pass": those of the challenge's own test set; and one more with as many images of both classes.
    assert re.findall(r"^(\w+) et al.*×", said["audit-table"], re.MULTILINE) == ["Oliveira", "Lopez"]
    assert re.search(r"^Reboucas Filho et al.*×", said["audit-table"], re.MULTILINE)
    assert "×" not in said["audit-balanced"] and "Lopez" in said["audit-balanced"]


def test_a_stream_is_judged_as_the_file(said: dict[str, str]) -> None:
    (file,) = re.findall(r"^ *greeting.wav +(.*)", said["files"], re.MULTILINE)
    assert file in said["stream"]
