"""A Sphinx directive for the figures of `hmoe.figures`: inline SVG with a number, a caption and a name to refer to."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Drawing(SphinxDirective):
    """The first line of the content is the caption, the rest the SVG; the argument, where there is one, the name."""

    optional_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        caption, drawing = self.content[0], "\n".join(self.content[1:])
        figure = nodes.figure("", nodes.raw("", drawing, format="html"), classes=["hmoe-figure"])
        if caption:
            figure += nodes.caption(caption, "", nodes.Text(caption))
        if self.arguments:
            self.options["name"] = self.arguments[0]
            self.add_name(figure)
        return [figure]


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls when `_config.yml` names this module."""
    app.add_directive("drawing", Drawing)
    # MathJax in parts, those that _config.yml names, is half as heavy as the bundle that its package asks for.
    app.connect("config-inited", lambda _, config: setattr(config, "mathjax_path", "mathjax/startup.js"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
