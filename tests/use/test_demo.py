"""The page of `hmoe demo`: what it answers, that it can be used in a browser, and that it asks no other host."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

from hmoe.base.errors import AudioError, ConfigError
from hmoe.config import Config
from hmoe.corpora import Corpus, audio
from hmoe.use import demo
from hmoe.use.pretrained import Pretrained

RANGES = {"level": [-40.0, -1.0], "snr": [0.0, 100.0], "seconds": [0.0, 60.0], "rate": [16_000, 16_000]}


@pytest.fixture(scope="module")
def model(small_corpus: Corpus) -> Pretrained:
    torch.manual_seed(0)
    about = {"corpus": "synthetic", "speakers": ["m1"], "ranges": RANGES}
    config = Config(d_model=16, heads=2, einfft_blocks=2, d_state=4, d_selected=8)
    return Pretrained(config, list(small_corpus.emotions), about).eval()


def test_it_answers_as_predict_does(model: Pretrained, small_corpus: Corpus, tmp_path: Path) -> None:
    path = small_corpus.table["path"].iloc[0]
    probabilities, routing, picture, unlike = demo.judge(model, path)
    said = model.judge(path)
    assert (probabilities, routing, unlike) == (said.probabilities, said.routing, "")
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.std() > 10
    audio.write(tmp_path / "quiet.wav", 0.01 * audio.read(path))
    assert demo.judge(model, str(tmp_path / "quiet.wav"))[3].startswith("**Unlike the training corpus**: level -")


def test_what_cannot_be_judged_is_one_line(model: Pretrained, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no recording yet; record or upload one"):
        demo.judge(model, None)
    audio.write(tmp_path / "silent.wav", np.zeros(16_000))
    with pytest.raises(AudioError, match="silent"):
        demo.judge(model, str(tmp_path / "silent.wav"))


def test_without_gradio_it_says_what_to_install(model: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match="gradio"):
        demo.build(model)


def test_the_page_calls_what_answers(model: Pretrained, small_corpus: Corpus, tmp_path: Path) -> None:
    gradio = pytest.importorskip("gradio", reason="the extra demo is not installed")
    page = demo.build(model)
    (judge,) = (each.fn for each in page.fns.values() if each.api_name == "judge")
    path = small_corpus.table["path"].iloc[5]
    assert judge(path)[:2] == demo.judge(model, path)[:2]
    with pytest.raises(gradio.Error, match="no recording yet"):
        judge(None)


@pytest.fixture
def served(model: Pretrained) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    with socket.socket() as free:
        free.bind((demo.HERE, 0))
        port = free.getsockname()[1]
    page = demo.serve(model, port)
    yield f"http://{demo.HERE}:{port}"
    page.close()


def test_a_taken_port_is_one_line(model: Pretrained, served: str) -> None:
    with pytest.raises(ConfigError, match=r"--port: \d+ is taken; name another"):
        demo.serve(model, int(served.rsplit(":", 1)[1]))


def test_in_a_browser_an_upload_is_judged_and_no_other_host_is_asked(
    model: Pretrained, served: str, browser: Browser, small_corpus: Corpus
) -> None:
    asked: list[str] = []
    problems: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(120_000)  # a busy machine is no fault of the page
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(error.message))
    page.goto(served)
    page.set_input_files("input[type=file]", small_corpus.table["path"].iloc[0])
    page.wait_for_selector("text=0:00")  # the length of what was uploaded is shown beside
    page.click("button:has-text('Judge')")
    page.wait_for_selector(f"img[alt='{demo.ALT}']")
    shown = page.inner_text("body")
    page.close()
    assert not problems
    assert asked and all(url.startswith((served, "data:", "blob:")) for url in asked)
    assert model.note in " ".join(shown.split())
    for word in (*small_corpus.emotions, "cnn", "lstm", "transformer"):
        assert word in shown
