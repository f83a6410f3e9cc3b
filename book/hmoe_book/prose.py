"""Sentences stand in `book/*.md.jinja`, their numbers in the records: here the two meet."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hmoe.base.files import PROJECT
from hmoe.study.report import Verdict, Word

MARKS = {Word.HOLDS: "✓", Word.FAILS: "✗", Word.CANNOT_TELL: "?", Word.NOT_TESTABLE: "–", None: "–"}


def marked(verdict: Verdict | Word | None) -> str:
    """A verdict as a mark and its one word."""
    word = verdict.word if isinstance(verdict, Verdict) else verdict
    return f"{MARKS[word]} {word or 'no verdict'}"


def minus(value: float) -> str:
    """A difference as it is written: "+1.2", "−0.3"."""
    return f"{value:+.1f}".replace("-", "−")


@cache
def _pages() -> Environment:
    made = Environment(
        loader=FileSystemLoader(PROJECT / "book"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {
        "mark": marked,
        "points": lambda difference: difference.signed(),
        "signed": minus,
    }
    return made


def page(name: str, **values: Any) -> str:
    """The template `book/<name>.md.jinja` with these values. Undefined values are errors."""
    return _pages().get_template(f"{name}.md.jinja").render(values)
