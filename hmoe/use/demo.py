"""`hmoe demo`: a page on this machine where a recording is judged, with its features. gradio is an extra of its own."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hmoe.base.errors import AudioError, ConfigError
from hmoe.base.extras import need
from hmoe.config import Features
from hmoe.corpora import audio
from hmoe.features import columns
from hmoe.inputs.bank import CORPUS_RATE, heard
from hmoe.use.pretrained import Pretrained

HERE = "127.0.0.1"  # no other machine is served: what is said to the page stays here
TITLE = "HMoE-SiMBA"
ALT = "Time from left to right. Above, the log-mel spectrum of the recording; below, its MFCC, and its chroma."


def installed() -> ModuleType:
    """gradio, which tells nobody that it is used. ConfigError where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    return need("gradio", "hmoe demo")


def judge(model: Pretrained, path: str | None) -> tuple[dict[str, float], dict[str, float], np.ndarray, str]:
    """Probabilities, routing weights, picture of the features, and in what the recording is unlike the training corpus.

    AudioError for what cannot be judged, and for nothing.
    """
    if path is None:
        raise AudioError("the page", "no recording yet", "record or upload one")
    said = model.judge(path)
    unlike = f"**Unlike the training corpus**: {'; '.join(said.warnings)}." if said.warnings else ""
    return said.probabilities, said.routing, picture(audio.read(path, CORPUS_RATE), model.config), unlike


def picture(samples: np.ndarray, wanted: Features) -> np.ndarray:
    """(S,) samples at the rate of a corpus -> (height, width, 3) bytes: each modality of section 3.2 over time."""
    frames = heard(samples, wanted)
    panels = {"mel": "log-mel", "mfcc": "MFCC, the first left out", "chroma": "chroma"}
    # A figure of its own, because pyplot keeps state that requests at the same time would share.
    fig = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(fig)
    for ax, (name, title) in zip(fig.subplots(len(panels), sharex=True), panels.items(), strict=True):
        part = frames[:, columns(wanted, [name])]
        part = part[:, 1 : wanted.n_mfcc] if name == "mfcc" else part
        seconds = len(frames) * wanted.hop / wanted.sample_rate
        ax.imshow(part.T, origin="lower", aspect="auto", extent=(0, seconds, 0, part.shape[1]))
        ax.set_title(title)
    ax.set_xlabel("time, s")
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3]


def build(model: Pretrained) -> Any:
    """The page as a `gradio.Blocks`."""
    gr = installed()

    def answer(path: str | None) -> tuple:
        try:
            return judge(model, path)
        except AudioError as error:
            raise gr.Error(str(error)) from None

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n\n**{model.note}** A label says how a recording sounds to it, not what someone feels.")
        with gr.Row():
            with gr.Column():
                recording = gr.Audio(
                    sources=["upload", "microphone"], type="filepath", label="an utterance", buttons=["download"]
                )
                button = gr.Button("Judge", variant="primary")
                unlike = gr.Markdown()
            with gr.Column():
                label = gr.Label(label="emotion, with probabilities")
                routing = gr.Label(label="routing weights of the experts", show_heading=False)
        features = gr.Image(label="features", show_label=False, alt_text=ALT, interactive=False, buttons=["download"])
        button.click(answer, recording, [label, routing, features, unlike], api_name="judge")
    return page


def serve(model: Pretrained, port: int) -> Any:
    """Serve the page to this machine, from threads of its own; returns the `gradio.Blocks`, to wait for or to close.

    ConfigError where the port is taken.
    """
    page = build(model)
    gr = installed()
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # not from Google
    try:
        page.launch(
            server_name=HERE, server_port=port, share=False, quiet=True, theme=theme, prevent_thread_lock=True,
            footer_links=[],
        )  # fmt: skip
    except OSError:
        raise ConfigError("--port", f"{port} is taken", "name another, e.g. --port 7861") from None
    return page
