"""Sentences stand in `book/*.md.jinja`, their numbers in the records: here the two meet."""

from __future__ import annotations

import re
from collections.abc import Iterable
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


def listed(names: Iterable[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"; "none" of none. Names that have commas are set apart by semicolons."""
    *some, end = list(names) or ["none"]
    apart = "; " if any("," in name for name in (*some, end)) else ", "
    return f"{apart.join(some)} {last} {end}" if some else end


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
        "listed": listed,
    }
    return made


class Said:
    """Markdown that a notebook shows as its own text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def say(text: str, **values: Any) -> Said:
    """A sentence of a chapter with its numbers: a template as `page` reads them, here given itself."""
    # The end of a line of text is a space, whatever the line ends with; that of a line which is one tag is nothing.
    kept = re.sub(r"(?m)^(?!\s*\{%[^%]*%\}$)(.*%\})$", r"\1 ", text)
    return Said(_pages().from_string(kept).render(values))


def page(name: str, **values: Any) -> str:
    """The template `book/<name>.md.jinja` with these values. Undefined values are errors."""
    return _pages().get_template(f"{name}.md.jinja").render(values)
