"""One look for all figures: readable on a light page and on a dark one, and described for those who cannot see them.

    from hmoe_book import figures
    figures.use()
    fig, ax = plt.subplots()
    ...
    figures.show(fig, alt="What a reader who cannot see it must know.", caption="What it shows.")

A figure has no background, and whatever is drawn in the ink colour takes the colour of the page's text. The other
colours keep a contrast of at least 3:1 on white and on near-black, and stay apart under deuteranopia and protanopia
(the closest pair differs by 27 in CIELAB).
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython import get_ipython
from IPython.display import Audio, display
from matplotlib.figure import Figure

from hmoe.base.device import usable
from hmoe.base.errors import HmoeError

INK = "#1f2328"
"""Axes and text; becomes the page's own text colour."""

EMOTION_COLOURS = {
    "anger": "#bf281b",
    "sadness": "#1080b1",
    "happiness": "#e17e00",
    "neutral": "#7f7f7f",
    "fear": "#bb1dff",
    "surprise": "#4ba961",
    "disgust": "#7a7a00",
    "calm": "#00a3a3",
    "contempt": "#c4539c",
    "boredom": "#8c6a4f",
    "excitement": "#ff5a5a",
    "frustration": "#6f6fe8",
}
"""One colour for each emotion that a corpus may have, everywhere; first the paper's six in its order."""

COLOURS = ["#1080b1", "#e17e00", "#4ba961", "#bf281b", "#bb1dff", "#7f7f7f"]
"""For whatever is not an emotion, in the order of use."""

OF_THE_MACHINE = ("A worker stopped while some jobs were given",)
"""Warnings that say nothing of a page: a worker process that was idle too long."""


def use() -> None:
    """Set the style of every figure made from here on.

    A notebook calls this first, so here too its parameter `device` is tried, and errors of `hmoe` become one line.
    """
    for message in OF_THE_MACHINE:
        warnings.filterwarnings("ignore", message=message)
    if (notebook := get_ipython()) is not None:
        notebook.set_custom_exc((HmoeError,), _in_one_line)
        usable(notebook.user_ns.get("device"), "parameter 'device'")
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=COLOURS,
        rc={
            "figure.figsize": (8, 4),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#7f7f7f",
            "grid.alpha": 0.25,
            "image.cmap": "viridis",
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "patch.edgecolor": "none",
            # Text stays text: it can be searched and read aloud, and Chinese needs no font of matplotlib's.
            "svg.fonttype": "none",
            "svg.hashsalt": "hmoe",
        },
    )


def _in_one_line(shell: Any, kind: type, error: HmoeError, *_: object, **__: object) -> None:
    """What a cell shows of an error that says itself where, what and the remedy."""
    shell._showtraceback(kind, error, [f"hmoe: {error}"])


def svg(fig: Figure, alt: str, tight: bool = True) -> str:
    """The figure as an inline SVG element described by `alt`, in the page's text colour, as wide as the page allows.

    Not `tight`: in the size that it was made in, so that one can take the place of another.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text, so it does not matter which glyphs matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fig.savefig(buffer, format="svg", bbox_inches="tight" if tight else None, metadata={"Date": None})
    text = buffer.getvalue()
    # Several figures share a page, so the names inside each need a prefix of their own.
    prefix = "f" + hashlib.sha256((alt + text).encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text[text.index("<svg") :])
    # A hundredth of a point is enough; half of a drawing is digits beyond it. Only in tags: text says what it says.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(?<![\d.])([1-9]\d*\.\d\d)\d+", r"\1", tag[0]), text)
    # The style element would apply to the whole page; what it says goes into the element's own style.
    text = re.sub(r"<(metadata|style).*?</\1>\s*", "", text, flags=re.DOTALL).replace(INK, "currentColor")
    # On a phone it scrolls rather than shrink until its letters, of 11 points, are smaller than 8 pixels.
    least = 0.74 * float(re.search(r'width="([\d.]+)pt"', text)[1])
    style = f"min-width: {least:.0f}px; max-width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt"
    label = f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" style="{style}"'
    return text.replace("<svg", label, 1)


def show(fig: Figure, alt: str, caption: str = "", name: str = "", record: str = "") -> None:
    """Display a figure once, with its description and, beneath it, its caption and where it comes from; then close it.

    `alt` says in a sentence or two what a reader would see: the axes, and what is to be learnt. ValueError without it.
    `record` is the line of `report.provenance`, `exhibit.made` or the like.
    """
    if not alt.strip():
        raise ValueError("figures.show: alt is empty; describe the figure for those who cannot see it")
    drawing = svg(fig, alt)
    if narrowed(fig):  # hidden where the book's style sheet is not at hand
        drawing = f'<div class="hmoe-wide">{drawing}</div>'
        drawing += f'<div class="hmoe-narrow" style="display: none">{svg(fig, alt)}</div>'
    plt.close(fig)
    display(framed("drawing", drawing, caption, record, name) | {"text/plain": alt}, raw=True)


PHONE = 4.2  # inches of a figure whose letters can be read on a phone
NAME = r"^[^$]*[^\W\d]{3}"  # of a line, rather than a number on an axis


def narrowed(fig: Figure) -> bool:
    """Lay a figure out for a phone: panels beneath each other, names of lines above their lines, legends below.

    False where it stays as it is: it is narrow already, or no plain chart. Pictures keep their shape, diagrams and
    notes their places, axes that overlap each other.
    """
    axes, legends, (width, height) = fig.axes, list(fig.legends), fig.get_size_inches()
    plain = all(ax.axison and ax.get_subplotspec() and not ax.images and not ax.texts for ax in axes)
    if not axes or not plain or width < 1.5 * PHONE or fig.get_layout_engine() is None:
        return False
    cells = [ax.get_subplotspec().get_geometry() for ax in axes]
    if len(set(cells)) < len(cells) or any(first != last for *_, first, last in cells):
        return False
    rows, columns = cells[0][:2]
    across = min(columns, 1 if len(axes) < 4 else 2)
    down = -(-len(axes) // across)
    grid = fig.add_gridspec(down, across)
    for k, ax in enumerate(axes):
        if across < columns:
            ax.set_subplotspec(grid[k // across, k % across])
        if across < columns and k % across == 0:  # what its neighbour said for both
            ax.tick_params(labelleft=True)
            ax.set_ylabel(ax.get_ylabel() or axes[0].get_ylabel())
        ax.yaxis.label.set_size(9)
        if across > 1:
            ax.xaxis.label.set_size(9)
        legend = ax.get_legend()
        if legend and (len(axes) == 1 or tuple(legend.get_bbox_to_anchor().bounds) != tuple(ax.bbox.bounds)):
            legends.append(legend)
    named = [ax for ax in axes if any(re.search(NAME, each.get_text()) for each in ax.get_yticklabels())]
    for ax in named:
        above = -0.44 if ax.yaxis_inverted() else 0.44
        for y, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
            said = ax.text(
                0.01, y + above, label.get_text(), transform=ax.get_yaxis_transform(), fontsize=9, va="center"
            )
            said.set_in_layout(False)  # a long name takes no room from the lines
        ax.tick_params(axis="y", left=False, labelleft=False)
    pairs = (pair for each in legends for pair in zip(each.texts, each.legend_handles, strict=True))
    shown = {text.get_text(): handle for text, handle in pairs}
    for each in legends:
        each.remove()
    if shown:
        fig.legend(shown.values(), shown, loc="outside lower center", ncols=2 if max(map(len, shown)) < 24 else 1)
    lines = max((len(ax.get_yticks()) for ax in named), default=0)
    flat = 1 if named else min(1, PHONE / across / (width / columns))
    panel = max(height / rows * flat + 0.25 * lines, 2.4 if across == 1 else 1.7)
    fig.set_size_inches(PHONE, down * panel + 0.2 * len(shown))
    return True


MOVE = (
    "const box = this.closest('.hmoe-slider'); let at = 0;"
    "for (const each of box.querySelectorAll('input')) {"
    " at = at * (+each.max + 1) + +each.value;"
    " const said = each.dataset.values.split('|')[each.value];"
    " each.nextElementSibling.textContent = said; each.setAttribute('aria-valuetext', said); }"
    "box.querySelectorAll('.hmoe-frame').forEach((frame, k) => { frame.hidden = k !== at; });"
)
"""What a slider does: of the frames, which are drawn in the order of all its sliders' values, it shows one.

It stands in the element itself, so that it works in a page, in JupyterLab, and without a kernel.
"""


def slider(
    draw: Callable[..., tuple[Figure, str]],
    values: Mapping[str, Sequence[object]],
    caption: str = "",
    name: str = "",
    record: str = "",
    start: Sequence[int] = (),
) -> None:
    """Display a figure with a slider for each name in `values`, every frame of it drawn beforehand.

    `draw(*one_value_of_each)` returns the figure and its description, as `alt` of `show`; all of one size. `start` are
    the positions of the sliders at first, else the first of each. The rest is as in `show`.
    """
    sizes = [len(each) for each in values.values()]
    shown = int(np.ravel_multi_index(tuple(start) or (0,) * len(sizes), sizes))
    frames = []
    for number, combination in enumerate(product(*values.values())):
        fig, alt = draw(*combination)
        hidden = "" if number == shown else " hidden"
        frames.append(f'<div class="hmoe-frame"{hidden}>{svg(fig, alt, tight=False)}</div>')
        plt.close(fig)
    knobs = []
    for (what, each), at in zip(values.items(), np.unravel_index(shown, sizes), strict=True):
        said = [html.escape(str(value), quote=True) for value in each]
        knobs.append(
            f'<label>{html.escape(what)} <input type="range" min="0" max="{len(each) - 1}" value="{at}" '
            f'autocomplete="off" data-values="{"|".join(said)}" aria-valuetext="{said[at]}" oninput="{MOVE}">'
            f"<output>{said[at]}</output></label>"
        )
    drawing = f'<div class="hmoe-slider"><div class="hmoe-knobs">{"".join(knobs)}</div>{"".join(frames)}</div>'
    where = f"a figure with sliders for {', '.join(values)}"
    display(framed("drawing", drawing, caption, record, name) | {"text/plain": where}, raw=True)


def listen(sounds: Mapping[str, np.ndarray], rate: int) -> None:
    """Display players side by side, each under its name; `sounds` (S,) float in -1 to 1, kept as loud as they are."""
    players = []
    for what, samples in sounds.items():
        player = Audio(np.clip(samples, -1, 1), rate=rate, normalize=False)._repr_html_()
        label = html.escape(what, quote=True)
        player = re.sub(r"\s*\n\s*", " ", player).replace("<audio", f'<audio aria-label="{label}"', 1)
        players.append(f"<div><span>{label}</span>{player}</div>")
    page = f'<div class="hmoe-sounds">{"".join(players)}</div>'
    display({"text/html": page, "text/plain": f"sounds: {', '.join(sounds)}"}, raw=True)


def framed(
    kind: str, drawing: str, caption: str, record: str, name: str, folded: bool = False
) -> dict[str, str]:  # fmt: skip
    """What a notebook shows of a drawing (SVG) or a table (HTML), and beside it what the book takes, as `directive`."""
    # Can be reached by keyboard, because on a narrow page it scrolls.
    box = f'<div class="hmoe-scroll" tabindex="0">{drawing}</div>'
    below = "".join(f"<p>{html.escape(line)}</p>" for line in (caption, record) if line)
    page = f'<figure class="hmoe-figure">{box}<figcaption>{below}</figcaption></figure>'
    return {"text/html": page, "text/markdown": directive(kind, box, caption, record, name, folded)}


def directive(kind: str, drawing: str, caption: str, record: str, name: str, folded: bool = False) -> str:
    """MyST for `hmoe_book.sphinx_drawing`: a `drawing` is numbered as a figure, a `tabular` as a table; {numref}`name`
    on any page leads to it. Of a `folded` one the drawing is shown when it is asked for."""
    said = json.dumps({"caption": caption, "record": record} | ({"folded": True} if folded else {}), ensure_ascii=False)
    return f"::::{{{kind}}} {name}\n{said}\n{drawing}\n::::\n"
