"""The page "Deviations and ambiguities": Q1, Q2 and so on, as `hmoe/data/deviations.yml` lists them."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import yaml

from hmoe.base.files import DATA
from hmoe.study import claims, report
from hmoe.study.experiments import experiment
from hmoe.study.store import Store


@cache
def entries() -> list[dict[str, Any]]:
    """The rows of the page "Deviations and ambiguities", Q1 first."""
    return yaml.safe_load((DATA / "deviations.yml").read_text(encoding="utf-8"))


def preview(name: str) -> str:
    """What a question is, in a few lines, for where it is cited; `name` is "q1" and so on."""
    (entry,) = (each for each in entries() if each["id"].lower() == name)
    return f"{entry['id']}. {plain(entry['problem'])} By default: {plain(entry['default'])}"


def plain(text: str) -> str:
    """MyST as a line of text: roles, links and marks gone."""
    text = re.sub(r"\{\w+(?::\w+)?\}`([^`<]*?)(?: <[^>]*>)?`", r"\1", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"[`*$]", "", text).split()).rstrip(".") + "."


def page(records: claims.Records) -> str:
    """A section for each of `entries`, with what is recorded of its effect."""
    return "\n".join(_section(entry, records) for entry in entries())


def _section(entry: dict[str, Any], records: claims.Records) -> str:
    """Measured: of each experiment the accuracy of the first row, and how many points each other row has over it."""
    shown: dict[str, list[report.RowReport]] = {}
    for name, row, *corpus in entry.get("effect", []):  # of another corpus than the page's, if it is named
        there = claims.Records(Store(*corpus)) if corpus else records
        if recorded := there.row(name, row):
            shown.setdefault(name, []).append(recorded)
    measured = []
    for name, (first, *others) in shown.items():
        said = [f"{first.name} {first.accuracy}"]
        said += [f"{row.name} {report.worth(row, first).signed()} points" for row in others]
        rows = "; ".join(each.removeprefix(f"{entry['id']}: ") for each in said)
        measured.append(f"*{experiment(name).title.rstrip('?')}*: {rows}")
    switches = [f"`{field}` = {_values(values)}" for field, values in entry.get("switches", {}).items()]
    listed = "\n\n- " + ".\n- ".join(measured) if len(measured) > 1 else "".join(measured)
    parts = {
        "The problem": entry["problem"],
        "By default": entry["default"],
        "Alternatives": entry["alternatives"],
        "Switches": "; ".join(switches),
        "Measured": listed if measured else "not recorded yet" if "effect" in entry else "",
    }
    quotes = "\n>\n".join(f"> “{text}” ({where})" for where, text in entry["quotes"])
    body = "\n\n".join(f"**{name}.** {text.rstrip('.')}." for name, text in parts.items() if text)
    title = f"{entry['id']} · {entry['asks']} ({entry['where']})"
    return f"({entry['id'].lower()})=\n## {title}\n\n{quotes}\n\n{body}\n"


def _values(values: list[Any]) -> str:
    return ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in values)
