"""Frozen speech encoders behind one interface: a waveform goes in; frames, their rate and a pooled vector come out.

    load("openwakeword")(samples, 16_000).pooled

Names: `openwakeword` and `resemblyzer`, whose weights come inside their PyPI packages; `mamba-0`, `attention-0`, ...
made by `hmoe pretrain`; a `.safetensors` file of the same kind, or of a published Audio Mamba; all else is Hugging
Face's, by name or local folder.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn

from hmoe import features
from hmoe.base.errors import AudioError, ConfigError, StoreError
from hmoe.base.files import atomic_write, cache_dir, results_dir
from hmoe.config import Features
from hmoe.corpora import audio
from hmoe.parrot import audio_mamba
from hmoe.parrot.pretraining import load_encoder
from hmoe.parrot.ssamba import FRAMES, PER_STEP, SIZES, log_mel

RATE = 16_000  # Hz

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """What an encoder says of one utterance."""

    frames: np.ndarray  # (T, D) float32
    rate: float  # frames a second

    @property
    def pooled(self) -> np.ndarray:
        """(D,): the mean over time, which is what PARROT reads."""
        return self.frames.mean(axis=0)


class Encoder(ABC):
    """`encoder(samples, sample_rate)` gives `Embedded`.

    AudioError for another rate than 16 kHz, unusable samples, or more of them than the encoder hears at once.
    """

    identity: str  # names these weights, for the cache
    width: int  # D
    rate: float  # frames a second
    longest: float = audio.LONGEST  # s

    def __call__(self, samples: np.ndarray, sample_rate: int) -> Embedded:
        if sample_rate != RATE:
            remedy = "resample it, as `audio.read` does"
            raise AudioError("encoder", f"audio at {sample_rate} Hz, expected {RATE} Hz", remedy)
        audio.check(samples, "encoder", sample_rate, self.longest)
        with torch.inference_mode():
            return Embedded(np.asarray(self.frames(samples.astype(np.float32)), np.float32), self.rate)

    @abstractmethod
    def frames(self, samples: np.ndarray) -> np.ndarray | Tensor:
        """(S,) float32 -> (T, D)."""


class OpenWakeWord(Encoder):
    """Google's `speech_embedding`, a CNN, in the package openwakeword (Apache-2.0): windows of 760 ms, every 80 ms."""

    identity, width, rate = "openwakeword-0.4.0", 96, 12.5
    WINDOW, HOP = 76, 8  # mel frames

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        folder = packaged("openwakeword", "pip install openwakeword==0.4.0") / "resources" / "models"
        self.mel, self.embed = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in ("melspectrogram", "embedding_model")
        )

    def frames(self, samples: np.ndarray) -> np.ndarray:
        samples = np.pad(samples, (0, max(0, RATE - len(samples))))  # at least one window
        (mel,) = self.mel.run(None, {self.mel.get_inputs()[0].name: 32_767 * samples[None]})
        mel = mel.squeeze() / 10 + 2  # as openwakeword scales it
        windows = np.lib.stride_tricks.sliding_window_view(mel, self.WINDOW, axis=0)[:: self.HOP]
        x = np.ascontiguousarray(windows.transpose(0, 2, 1)[..., None])
        return self.embed.run(None, {self.embed.get_inputs()[0].name: x})[0].reshape(len(x), -1)


class Resemblyzer(Encoder):
    """The LSTM of Resemblyzer (Apache-2.0), trained to tell speakers: its last layer's states, every 10 ms.

    Its package is not imported, because one of the packages that it needs no longer is; only its weights are read.
    """

    identity, width, rate = "resemblyzer-0.1.4", 256, 100.0
    GRID = Features(n_fft=400)  # 25 ms every 10 ms

    def __init__(self) -> None:
        folder = packaged("resemblyzer", "pip install --no-deps Resemblyzer==0.1.4")
        state = torch.load(folder / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
        self.lstm = nn.LSTM(40, 256, num_layers=3, batch_first=True)
        self.lstm.load_state_dict({k.removeprefix("lstm."): v for k, v in state.items() if k.startswith("lstm.")})

    def frames(self, samples: np.ndarray) -> Tensor:
        level = 10 ** (-30 / 20) / np.sqrt(np.mean(samples**2))  # -30 dBFS, where it is quieter
        mel = features.mel_filters(RATE, 400, 40) @ features.power(samples * max(1.0, level), self.GRID)
        return self.lstm(torch.from_numpy(mel.T.astype(np.float32))[None])[0][0]


class Patches(Encoder):
    """An encoder of `hmoe pretrain`, or one trained elsewhere whose weights were given our names, sizes and header.

    Blocks that read in both directions, as SSAMBA's do, have other weights and are refused.
    """

    def __init__(self, path: Path) -> None:
        self.model = load_encoder(path)
        self.identity = f"{path.stem}-{digest(self.model)}"
        self.width, self.rate = PER_STEP * SIZES[self.model.size][0], 100 / FRAMES

    def frames(self, samples: np.ndarray) -> Tensor:
        mel = log_mel(samples)
        return self.model(nn.functional.pad(mel, (0, 0, 0, max(0, FRAMES - len(mel))))[None])[0]


class Published(Encoder):
    """A published checkpoint of Audio Mamba, by `hmoe convert-encoder`: tiny, small, base as the file has it."""

    rate = 100 / FRAMES

    def __init__(self, path: Path) -> None:
        self.model = audio_mamba.load(path, load_file(path))
        self.identity = f"{path.stem}-{digest(self.model)}"
        self.width = PER_STEP * self.model.width

    def frames(self, samples: np.ndarray) -> Tensor:
        return self.model(audio_mamba.log_mel(samples))


class HuggingFace(Encoder):
    """HuBERT, WavLM, wav2vec 2.0, UniSpeech-SAT, MMS, or the encoder of Whisper: the last layer.

    Raises ConfigError where the weights are not there or do not fit; what is missing is never made up.
    """

    def __init__(self, name: str) -> None:
        try:
            from transformers import AutoFeatureExtractor, AutoModel
        except ImportError:
            raise ConfigError(
                f"encoder {name!r}", "needs transformers", "pip install 'transformers>=4.45,<6'"
            ) from None
        try:
            self.prepare = AutoFeatureExtractor.from_pretrained(name)
            model, told = AutoModel.from_pretrained(name, output_loading_info=True, use_safetensors=True)
        except (OSError, ValueError, RuntimeError) as error:
            remedy = (
                "give a folder with model.safetensors, or a name where there is a network; or openwakeword, resemblyzer"
            )
            raise ConfigError(f"encoder {name!r}", f"cannot be loaded ({str(error)[:200]})", remedy) from None
        # A masked frame's vector is for pre-training alone; any other number that is not in the file is needed.
        missing = sorted(key for key in told["missing_keys"] if not key.endswith("masked_spec_embed"))
        if missing or told["mismatched_keys"]:
            what = f"the checkpoint lacks or misfits {(missing or sorted(told['mismatched_keys']))[0]}"
            raise ConfigError(f"encoder {name!r}", what, "give a checkpoint of this very model")
        self.whisper = model.config.model_type == "whisper"
        # A checkpoint may be of half precision, in which a CPU computes slowly, if at all.
        self.model = (model.get_encoder() if self.whisper else model).float().eval()
        self.width = model.config.hidden_size
        self.rate = 50.0 if self.whisper else RATE / float(np.prod(model.config.conv_stride))
        self.identity = f"{Path(name).name}-{digest(self.model)}"
        if self.whisper:
            self.longest = float(self.prepare.chunk_length)  # what is left of a longer one would not be heard

    def frames(self, samples: np.ndarray) -> Tensor:
        x = self.prepare(samples, sampling_rate=RATE, return_tensors="pt")
        hidden = self.model(x["input_features" if self.whisper else "input_values"]).last_hidden_state[0]
        # Whisper's input is always `longest`, the rest of it silence.
        return hidden[: -(-len(samples) * int(self.rate) // RATE)] if self.whisper else hidden


def digest(model: nn.Module) -> str:
    """12 hexadecimal digits that name the weights of a model."""
    found = hashlib.sha256()
    for tensor in model.state_dict().values():
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def packaged(package: str, remedy: str) -> Path:
    """The folder of an installed package, without importing it."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"encoder {package!r}", "its package is not installed", remedy)
    return Path(found.submodule_search_locations[0])


def own_path(name: str) -> Path:
    """Where `hmoe pretrain` keeps an encoder."""
    return cache_dir() / "encoders" / f"{name}.safetensors"


def register(name: str, loss: float, facts: dict[str, str]) -> None:
    """Say in `results/encoders.csv` which weights the name of an own encoder stands for on a machine.

    The last bits of a training depend on the processor, so records name theirs, as the lines of this table do.
    """
    line = {"encoder": name, "weights": Patches(own_path(name)).identity.rpartition("-")[2], "loss": f"{loss:.4f}"}
    path = results_dir() / "encoders.csv"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            table = pd.concat([registered(), pd.DataFrame([{**line, **facts}])])
            table = table.drop_duplicates(["encoder", "machine"], keep="last").sort_values(["encoder", "machine"])
            atomic_write(path, table.to_csv(index=False))
    except OSError as error:
        raise StoreError.unwritable(path, error, "choose another HMOE_RESULTS") from None


def registered() -> pd.DataFrame:
    try:
        return pd.read_csv(results_dir() / "encoders.csv", dtype=str, keep_default_na=False)
    except FileNotFoundError:
        return pd.DataFrame({"encoder": [], "weights": []})


def _own(name: str) -> Patches:
    encoder, known = Patches(own_path(name)), registered()
    recorded = list(known.loc[known["encoder"] == name, "weights"])
    if recorded and not encoder.identity.endswith(tuple(recorded)):
        others = ", ".join(recorded)
        log.warning("%s: other weights than those of the records (%s); write elsewhere, HMOE_RESULTS", name, others)
    return encoder


@cache
def load(name: str) -> Encoder:
    """The encoder of that name, with its weights; ConfigError where they cannot be had."""
    if name in (known := {"openwakeword": OpenWakeWord, "resemblyzer": Resemblyzer}):
        return known[name]()
    if name.endswith(".safetensors"):
        return (Published if audio_mamba.published(Path(name)) else Patches)(Path(name))
    if name.partition("-")[0] in ("mamba", "attention") and "/" not in name:
        return _own(name)
    return HuggingFace(name)
