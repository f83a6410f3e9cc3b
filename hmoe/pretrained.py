"""A trained model as one file, and what it says of recordings.

The file is safetensors: the weights (standardisation included), and in its header the configuration, the emotions,
the corpus and what is known of its accuracy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hmoe import audio, features
from hmoe.bank import CORPUS_RATE, heard
from hmoe.config import Config
from hmoe.errors import AudioError, ConfigError
from hmoe.model import HMoESiMBA
from hmoe.paths import atomic_write


@dataclass(frozen=True)
class Judgement:
    """What the model says of one recording. `routing` is g(x) of eq. 6, by expert."""

    path: str
    emotion: str
    probabilities: dict[str, float]
    routing: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Pretrained:
    """A trained HMoE-SiMBA with what is needed to use it."""

    model: HMoESiMBA
    config: Config
    emotions: tuple[str, ...]
    facts: dict[str, str]  # corpus, utterances, commit, date

    def save(self, path: str | Path) -> None:
        header = {
            "config": json.dumps(self.config.changes()),
            "emotions": json.dumps(self.emotions),
            "facts": json.dumps(self.facts),
        }
        atomic_write(path, save({k: v.contiguous() for k, v in self.model.state_dict().items()}, metadata=header))

    @classmethod
    def load(cls, path: str | Path) -> Pretrained:
        """Raises `ConfigError` if the file is missing, damaged, or not a model of this project."""
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            config = Config(**json.loads(header["config"]))
            emotions = tuple(json.loads(header["emotions"]))
            model = HMoESiMBA(config, len(emotions)).eval()
            model.load_state_dict(tensors)
            return cls(model, config, emotions, json.loads(header["facts"]))
        except FileNotFoundError:
            raise ConfigError(path, "no such model", "make one with `hmoe train`") from None
        except (OSError, SafetensorError, ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
            why = str(error).partition("\n")[0]
            raise ConfigError(path, f"not a model of this project ({why})", "make one with `hmoe train`") from None

    def judge(self, path: str | Path) -> Judgement:
        """The emotion of one recording. Raises `AudioError` for what cannot be judged."""
        samples = audio.read(path, CORPUS_RATE)  # and no more of it than a corpus has
        x = self._input(heard(samples, self.config), path)
        with torch.no_grad():
            parts = self.model.parts(x)
        p = parts["logits"].softmax(-1)[0].tolist()
        return Judgement(
            str(path),
            self.emotions[int(np.argmax(p))],
            dict(zip(self.emotions, p, strict=True)),
            dict(zip(self.config.experts, parts["g"][0].tolist(), strict=True)),
            len(samples) / CORPUS_RATE,
        )

    def _input(self, frames: np.ndarray, path: str | Path) -> torch.Tensor:
        """(T, D) -> (1, T', D') in the model's reading."""
        if not np.isfinite(frames).all():
            raise AudioError(path, "features that are not finite", "check the recording")
        if self.config.reading == "frames":
            frames = features.thin(frames, self.config.frame_stride)
        elif self.config.reading == "statistics":
            frames = features.statistics(frames)[None]
        else:
            frames = features.pool(frames)[None]
        return torch.from_numpy(frames)[None]
