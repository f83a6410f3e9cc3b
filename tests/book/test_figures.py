"""Figures that read well on a light page and on a dark one, and are described."""

from __future__ import annotations

import base64
import re
from itertools import combinations
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import reading
from playwright.sync_api import Browser

from hmoe.base.files import PROJECT
from hmoe.corpora.labels import COMMON
from hmoe_book import figures

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colour", [*figures.EMOTION_COLOURS.values(), *figures.COLOURS])
def test_every_colour_stands_out_from_a_white_and_from_a_dark_page(colour: str) -> None:
    luminance = TO_XYZ[1] @ linear(colour)
    dark = TO_XYZ[1] @ linear("#14181e")  # the background of the book's dark theme
    assert 1.05 / (luminance + 0.05) >= 2.9
    assert (luminance + 0.05) / (dark + 0.05) >= 2.9


@pytest.mark.parametrize("vision", VISION)
def test_no_two_emotions_look_alike(vision: str) -> None:
    seen = [lab(VISION[vision] @ linear(figures.EMOTION_COLOURS[each])) for each in COMMON[:6]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 25


def test_every_emotion_that_a_corpus_may_have_has_a_colour_of_its_own() -> None:
    seen = [lab(linear(figures.EMOTION_COLOURS[each])) for each in COMMON]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


def drawn() -> str:
    figures.use()
    fig, ax = plt.subplots()
    ax.plot([0, 1], label="说")
    ax.set_xlabel("time (s)")
    ax.legend()
    text = figures.svg(fig, alt='a line that rises from 0 to 1, "straight"')
    plt.close(fig)
    return text


def test_an_svg_is_described_takes_the_ink_of_the_page_and_has_no_background() -> None:
    text = drawn()
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == 'a line that rises from 0 to 1, "straight"'
    assert "currentColor" in text
    assert figures.INK not in text
    assert "#ffffff" not in text
    assert "time (s)" in "".join(root.itertext())  # text stays text
    assert "<style" not in text  # it would reach the whole page


def test_a_figure_shrinks_to_a_phone_as_long_as_its_letters_can_be_read() -> None:
    least = {}
    for inches in (5, 9):
        fig, _ = plt.subplots(figsize=(inches, 3))
        least[inches] = int(
            re.search(r"min-width: (\d+)px", figures.svg(fig, "An empty pair of axes.", tight=False))[1]
        )
        plt.close(fig)
        assert 11 * least[inches] / (72 * inches) > 8  # pixels
    assert least[5] < 390 - 32 < least[9]


def test_only_coordinates_are_rounded() -> None:
    figures.use()
    fig, ax = plt.subplots()
    ax.plot(np.linspace(0, 1, 50), np.linspace(0, 1, 50) ** 2)
    ax.set_title("3.14159")
    text = figures.svg(fig, alt="2.71828")
    plt.close(fig)
    assert "3.14159" in text
    assert "2.71828" in text
    assert not re.search(r"[1-9]\d*\.\d{3,}", text.replace("3.14159", "").replace("2.71828", ""))


def test_names_inside_two_figures_of_a_page_do_not_collide() -> None:
    figures.use()
    names = []
    for top in (1, 2):
        fig, ax = plt.subplots()
        ax.plot([0, top])
        text = figures.svg(fig, alt="a line")
        plt.close(fig)
        own = set(re.findall(r'\bid="([^"]+)"', text))
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= own
        names.append(own)
    assert not names[0] & names[1]


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_showing_closes_the_figure_and_needs_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    fig, _ = plt.subplots()
    with pytest.raises(ValueError, match="alt is empty"):
        figures.show(fig, alt=" ")
    figures.show(fig, alt="empty axes", caption="nothing")
    assert fig.number not in plt.get_fignums()
    assert "empty axes" in capsys.readouterr().out


def test_for_a_phone_panels_stand_beneath_each_other_and_names_above_their_lines() -> None:
    figures.use()
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), sharey=True)
    for ax in axes:
        ax.plot([3, 5], [0, 1], "o", label="ours")
    axes[0].set_yticks([0, 1], ["w/o this", "a much longer name"])
    axes[0].set(ylabel="part", ylim=(1.5, -0.5))
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    assert figures.narrowed(fig) and fig.get_size_inches()[0] == figures.PHONE
    fig.canvas.draw()
    upper, lower = (ax.get_position() for ax in axes)
    assert upper.y0 > lower.y1 and upper.x0 == pytest.approx(lower.x0)
    for ax in axes:
        assert [text.get_text() for text in ax.texts] == ["w/o this", "a much longer name"]
        assert [text.get_position()[1] < line for line, text in enumerate(ax.texts)] == [True, True]  # downwards
        assert ax.get_ylabel() == "part" and ax.get_legend() is None
    assert [text.get_text() for text in fig.legends[0].texts] == ["ours"]
    plt.close(fig)


@pytest.mark.parametrize("kind", ["narrow", "picture", "two on one place", "with notes", "diagram"])
def test_what_is_no_plain_chart_has_one_form(kind: str) -> None:
    figures.use()
    fig, ax = plt.subplots(figsize=(4 if kind == "narrow" else 9, 3))
    match kind:
        case "picture":
            ax.imshow(np.eye(3))
        case "two on one place":
            ax.twinx()
        case "with notes":
            ax.text(0.5, 0.5, "here")
        case "diagram":
            ax.axis("off")
    size = tuple(fig.get_size_inches())
    assert not figures.narrowed(fig) and tuple(fig.get_size_inches()) == size
    plt.close(fig)


def test_of_the_two_forms_of_a_chart_one_is_seen(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(figures, "display", lambda bundle, raw: shown.append(bundle["text/html"]))
    figures.use()
    figures.show(plt.subplots(figsize=(9, 3))[0], alt="an empty chart")
    names = re.findall(r'\bid="([^"]+)"', shown[0])
    assert len(names) == len(set(names))
    page = browser.new_page(viewport=reading.PHONE)
    seen = "[...document.querySelectorAll('svg')].map(svg => svg.checkVisibility())"
    style = (PROJECT / "book" / "assets" / "hmoe.css").read_text(encoding="utf-8")
    page.set_content(shown[0])
    assert page.evaluate(seen) == [True, False]  # JupyterLab, without the style of the book
    page.set_content(f"<style>{style}</style>{shown[0]}")
    assert page.evaluate(seen) == [False, True]
    page.set_viewport_size(reading.DESKTOP)
    assert page.evaluate(seen) == [True, False]
    page.close()


def test_a_slider_draws_every_combination_and_shows_one_of_them(browser: Browser) -> None:
    def draw(slope: int, height: float) -> tuple[plt.Figure, str]:
        fig, ax = plt.subplots(figsize=(2, 1 + height / 100))
        ax.plot([0, slope], [0, height])
        return fig, f"slope {slope}, height {height}"

    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "display", lambda bundle, raw: shown.append(bundle["text/html"]))
        figures.slider(draw, {"slope": (1, 2, 3), "height": (0.5, 1.5)}, start=(2, 0))
    frames = re.findall(r'<div class="hmoe-frame"( hidden)?><svg role="img" aria-label="([^"]*)"', shown[0])
    assert [alt for _, alt in frames] == [f"slope {s}, height {h}" for s in (1, 2, 3) for h in (0.5, 1.5)]
    assert [alt for hidden, alt in frames if not hidden] == ["slope 3, height 0.5"]
    assert re.findall(r'max="(\d)" value="(\d)"', shown[0]) == [("2", "2"), ("1", "0")]
    page = browser.new_page()
    page.set_content(shown[0])
    assert page.evaluate(reading.STUCK) == []
    page.set_content(re.sub(r'oninput="[^"]*"', "", shown[0], count=1))
    assert len(page.evaluate(reading.STUCK)) == 1  # the slider that was cut off; the other still moves
    page.close()
    names = re.findall(r'\bid="([^"]+)"', shown[0])
    assert len(names) == len(set(names))
    assert not plt.get_fignums()


def test_a_sound_has_a_name_and_stays_as_loud_as_it_is() -> None:
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "display", lambda bundle, raw: shown.append(bundle["text/html"]))
        figures.listen({"a < b": 0.25 * np.ones(100, np.float32)}, 16_000)
    (wav,) = re.findall(r'src="data:audio/wav;base64,([^"]*)"', shown[0])
    samples = np.frombuffer(base64.b64decode(wav)[44:], np.int16)  # behind the header
    assert 0.249 < samples.max() / 32767 < 0.251
    assert 'aria-label="a &lt; b"' in shown[0]
