"""Sphinx directives for figures and tables of `hmoe_book.figures`: number, caption, name, line of provenance."""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from hmoe_book import runs

COLUMN = 620.0  # points: wider figures were drawn for more than the column of text
OPEN = 12  # rows of a table that are shown at once; of a longer one, none until asked for
LETTERS = 90  # of a row of a table with its gaps, which the column of text holds


class tabular(nodes.figure):
    """A table that a notebook drew; numbered with the tables."""


class Drawing(SphinxDirective):
    """The first line of the content is JSON, as `figures.framed` writes it, the rest HTML; the argument is the name."""

    optional_arguments = 1
    has_content = True
    kind: type[nodes.figure] = nodes.figure

    def run(self) -> list[nodes.Node]:
        said, drawing = json.loads(self.content[0]), "\n".join(self.content[1:])
        if (rows := drawing.count("<tr") - 1) > OPEN or said.get("folded"):
            drawing = f"<details><summary>Show the table: {rows} rows</summary>{drawing}</details>"
        classes = ["hmoe-figure", *(["full-width"] if wide(drawing) else [])]
        shown = self.kind("", nodes.raw("", drawing, format="html"), classes=classes)
        if said["caption"]:
            shown += nodes.caption(said["caption"], "", nodes.Text(said["caption"]))
        if said["record"]:
            page = Path(self.env.docname)
            made_by = f"Notebook {page.name}. " if page.parent.name == "notebooks" else ""
            line, _ = self.parse_inline(made_by + runs.linked(said["record"]), lineno=self.lineno)
            fold = "<details><summary>Where this comes from</summary>"
            parts = [nodes.raw("", fold, format="html"), nodes.paragraph("", "", *line)]
            shown += nodes.legend("", *parts, nodes.raw("", "</details>", format="html"), classes=["hmoe-record"])
        if self.arguments:
            self.options["name"] = self.arguments[0]
            self.add_name(shown)
        return [shown]


def wide(drawing: str) -> bool:
    """Whether a figure or table asks for more than the column of text: then it takes the margin too."""
    if size := re.search(r'<svg[^>]*? width="([\d.]+)pt"', drawing):
        return float(size[1]) > COLUMN
    rows = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in drawing.split("</tr>"))
    return (
        max((sum(4 + len(re.sub(r"<[^>]*>", "", cell).strip()) for cell in row) for row in rows), default=0) > LETTERS
    )


class Tabular(Drawing):
    kind = tabular


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls when `_config.yml` names this module."""
    app.add_directive("drawing", Drawing)
    app.add_directive("tabular", Tabular)
    app.add_enumerable_node(tabular, "table", html=(HTML5Translator.visit_figure, HTML5Translator.depart_figure))
    # MathJax in parts, those that _config.yml names, is half as heavy as the bundle that its package asks for.
    app.connect("config-inited", lambda _, config: setattr(config, "mathjax_path", "mathjax/startup.js"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
