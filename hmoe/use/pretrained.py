"""A trained model as a folder, and what it says of recordings.

The folder is what the Hugging Face Hub takes: `model.safetensors` (the weights, standardisation included),
`config.json` (the configuration, the emotions, and what is known of the corpus and of the accuracy), `README.md`
(the model card), and `filters.safetensors` (what it hears with: librosa's filters, which then need no librosa).
"""

# No `from __future__ import annotations`: the mixin reads the types of __init__ as they stand.
import contextlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hmoe import features
from hmoe.base import stamp
from hmoe.base.errors import AudioError, ConfigError, StoreError
from hmoe.base.files import atomic_write
from hmoe.config import Config, Features
from hmoe.corpora import Corpus, audio
from hmoe.inputs.bank import CORPUS_RATE, at_rate
from hmoe.inputs.features_torch import Extractor
from hmoe.model import HMoESiMBA, count_parameters
from hmoe.parrot import cached, encoders
from hmoe.readings import READINGS
from hmoe.use import card, likeness, novelty

if TYPE_CHECKING:
    from hmoe.study.store import Store

REMEDY = "make one with `hmoe train`"
NEEDED = ("config.json", "model.safetensors")
FILTERS = "filters.safetensors"
FILES = (*NEEDED, FILTERS, "README.md")
DAMAGED = (
    OSError, SafetensorError, ConfigError, KeyError, TypeError, ValueError, AttributeError, RuntimeError,
)  # what a file makes of the libraries that read it  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """What the model says of one recording.

    `routing` is g(x) of eq. 6, by expert; `warnings` says in what the recording is unlike the training corpus.
    """

    path: str
    emotion: str
    probabilities: dict[str, float]
    routing: dict[str, float]
    seconds: float
    warnings: list[str]


class Pretrained(
    HMoESiMBA,
    PyTorchModelHubMixin,
    coders={Config: (lambda config: config.model_dump(mode="json"), lambda fields: Config(**fields))},
):
    """A trained HMoE-SiMBA with what is needed to use it; `about` is what `facts` collects."""

    def __init__(self, configuration: Config, emotions: list[str], about: dict[str, Any]) -> None:
        super().__init__(configuration, len(emotions), about.get("encoder", {}).get("width", 0))
        self.emotions, self.about = tuple(emotions), about

    @cached_property
    def ears(self) -> dict[str, Extractor]:
        """What turns a recording into the model's features, and into what `novelty` looks at."""
        return {name: Extractor(wanted) for name, wanted in self._heard().items()}

    def _heard(self) -> dict[str, Features]:
        return {"model": self.config.only(Features), "novelty": novelty.HEARD}

    @property
    def note(self) -> str:
        """What anyone who reads an answer of this model must know, in one line."""
        return card.note(self.about, self.emotions)

    def generate_model_card(self) -> ModelCard:
        return ModelCard(card.readme(self.config, self.emotions, self.about, count_parameters(self)))

    def _save_pretrained(self, save_directory: Path) -> None:
        # The mixin's own makes a file that no other user may read.
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        atomic_write(save_directory / "model.safetensors", save(weights, metadata={"format": "pt"}))
        own = {f"{name}.{kind}": each for name, ear in self.ears.items() for kind, each in ear.filters().items()}
        atomic_write(save_directory / FILTERS, save(own, metadata={"format": "pt"}))

    def save(self, folder: str | Path) -> None:
        """Write the folder, whole or not at all; a model that is there is replaced.

        Raises ConfigError where something else is there, StoreError where the system refuses: the older model is then
        where it was.
        """
        folder = vacant(folder)
        part, old = (folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.{kind}") for kind in ("tmp", "old"))
        try:
            self.save_pretrained(part)
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
        except OSError as error:
            raise StoreError.unwritable(folder, error, "free some space or choose another folder") from None
        finally:
            with contextlib.suppress(OSError):
                if not folder.exists():
                    old.rename(folder)
            for leftover in (part, old) if folder.exists() else (part,):  # the older model is never lost
                shutil.rmtree(leftover, ignore_errors=True)

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """From a folder, or `OWNER/NAME` from the Hugging Face Hub. ConfigError for whatever is no such model."""
        if not str(name):
            raise ConfigError(
                "the model", "its name is empty", f"is a shell variable empty? Name its folder, or {REMEDY}"
            )
        folder = Path(name)
        if not folder.exists():
            folder = _downloaded(str(name))
        try:
            for file in NEEDED:
                (folder / file).stat()
            with contextlib.redirect_stdout(io.StringIO()):  # the mixin prints that it is loading
                model = cls.from_pretrained(folder, strict=True)
            if (folder / FILTERS).exists():  # without them librosa makes its own, in a second or two
                kept = load_file(folder / FILTERS)
                model.ears = {
                    name: Extractor(wanted, {key.removeprefix(f"{name}."): each for key, each in kept.items()})
                    for name, wanted in model._heard().items()
                }
            return model
        except DAMAGED as error:
            why = " ".join(str(error).split())[:200]
            raise ConfigError(name, f"not a model of this project ({why})", REMEDY) from None

    def judge(self, recording: str | Path | bytes) -> Judgement:
        """The emotion of one recording: a path, or the content of a file. `AudioError` for what cannot be judged."""
        path = "standard input" if isinstance(recording, bytes) else str(recording)
        found = audio.decode(recording, CORPUS_RATE)  # and no more of it than a corpus has
        samples = found.samples
        x = self._input(samples, path)
        with torch.no_grad():
            parts = self.parts(x)
        p = parts["logits"].softmax(-1)[0].tolist()
        return Judgement(
            path,
            self.emotions[int(np.argmax(p))],
            dict(zip(self.emotions, p, strict=True)),
            dict(zip(self.config.experts, parts["g"][0].tolist(), strict=True)),
            len(samples) / CORPUS_RATE,
            likeness.unlike(likeness.measure(found), self.about.get("ranges", {}))
            + novelty.unlike(samples, self.about.get("novelty", {}), self.ears["novelty"]),
        )

    def _input(self, samples: np.ndarray, path: str) -> torch.Tensor:
        """(S,) samples -> (1, T', D') in the model's reading."""
        if self.config.encoders and not self.config.modalities:
            return torch.from_numpy(self._encoded(samples))[None]
        wave = torch.from_numpy(at_rate(samples, self.config))
        frames = self.ears["model"](wave[None], torch.tensor([len(wave)]))[0][0].numpy()
        if not np.isfinite(frames).all():
            raise AudioError(path, "features that are not finite", "check the recording")
        block, *_ = READINGS[self.config.reading].blocks
        if block == "frames":
            frames = features.thin(frames, self.config.frame_stride)
            if self.config.encoders:
                frames = cached.side_by_side(frames, self._encoded(samples))
        elif block == "statistics":
            frames = features.statistics(frames)[None]
        else:
            frames = features.pool(frames)[None]
        return torch.from_numpy(frames)[None]

    def _encoded(self, samples: np.ndarray) -> np.ndarray:
        """(T', D) of the encoder. ConfigError where it is not the one of training."""
        (name,), wanted = self.config.encoders, self.about["encoder"]["identity"]
        if (found := encoders.load(name, self.config.encoder_window).identity) != wanted:
            raise ConfigError(f"encoder {name!r}", f"is {found}, trained on {wanted}", "give the same weights")
        return cached.of_recording(samples, name, self.config)


def facts(corpus: Corpus, config: Config, records: "Iterable[Store]") -> dict[str, Any]:
    """What a model trained on `corpus` says of itself: the corpus, the ranges of its audio, the recorded accuracies.

    `train` adds `held_out`: what it recognised of the utterances that chose its epoch.
    """
    return {
        "corpus": corpus.name,
        "utterances": len(corpus),
        "minutes": round(float(corpus.table["seconds"].sum()) / 60, 1),
        "speakers": sorted(set(corpus.table["speaker"])),
        "ranges": likeness.ranges(corpus.table["path"]),
        "novelty": novelty.of(corpus),
        "measured": card.measured(records, config),
        **({"encoder": _encoder(config)} if config.encoders else {}),
        "commit": stamp.commit(),
        "date": stamp.now(),
    }


def _encoder(config: Config) -> dict[str, Any]:
    (name,) = config.encoders
    encoder, width = encoders.load(name, config.encoder_window), cached.beside(config)
    return {"name": name, "identity": encoder.identity, "layer": encoder.layer(config.layer), "width": width}


def vacant(folder: str | Path) -> Path:
    """The folder, if a model may be written there: nothing is there, or an older model. ConfigError otherwise."""
    folder = Path(folder) if Path(folder).name else Path(folder).resolve()  # "." has no name
    if folder.is_dir():
        unknown = sorted(set(os.listdir(folder)) - set(FILES))
        if unknown:
            raise ConfigError(folder, f"holds {unknown[0]!r}, which is no part of a model", "name another folder")
    elif folder.exists():
        raise ConfigError(folder, "is a file", "name the folder to write, e.g. my-model")
    return folder


def probe(folder: Path) -> None:
    """Raises StoreError where `Pretrained.save` to this folder would fail: to be asked before hours of training."""
    aside = folder.with_name(f".{folder.name}.tmp")
    atomic_write(aside, "")
    aside.unlink()
    if folder.exists():  # a folder that a volume is mounted on can be written to, and cannot be replaced
        try:
            folder.rename(aside)
            aside.rename(folder)
        except OSError as error:
            raise StoreError.unwritable(folder, error, "name a folder inside of it, or another one") from None


def _downloaded(name: str) -> Path:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ConfigError(name, "no such model", REMEDY)
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # a name that the Hub does not know, no network, a proxy: each library has its own
        why = f"no such folder, and not to be had from the Hugging Face Hub ({type(error).__name__})"
        raise ConfigError(name, why, REMEDY) from None
