"""Markdown of what the program knows."""

from __future__ import annotations

from collections.abc import Iterable


def table(header: Iterable[object], lines: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    header = list(header)
    rows = (header, ["---"] * len(header), *lines)
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |\n" for row in rows)
