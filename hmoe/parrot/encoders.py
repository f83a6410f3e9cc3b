"""Frozen speech encoders behind one interface: a waveform goes in; the frames of each layer and their rate come out.

    load("openai/whisper-base")(samples, 16_000, layer=4).pooled

Names: `openwakeword` and `resemblyzer`, whose weights come inside their PyPI packages; `mamba-0`, `attention-0`, ...
made by `hmoe pretrain`; a `.safetensors` file of the same kind, or of a published Audio Mamba; all else is Hugging
Face's, by name or local folder. `HMOE_ENCODERS` is a folder that is looked into first: there `openai/whisper-base`
is the folder `whisper-base`. `random:NAME` is NAME with random weights: what its architecture is worth untrained.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn

from hmoe import features
from hmoe.base.errors import AudioError, ConfigError, HmoeError, StoreError
from hmoe.base.extras import extra, missing
from hmoe.base.files import atomic_write, cache_dir, results_dir
from hmoe.config import Features
from hmoe.corpora import audio
from hmoe.parrot import audio_mamba
from hmoe.parrot.pretraining import load_encoder
from hmoe.parrot.ssamba import FRAMES, PER_STEP, SIZES, PatchEncoder, log_mel

RATE = 16_000  # Hz
RANDOM = "random:"  # before the name of an encoder
KINDS = "HuBERT, WavLM, wav2vec 2.0, UniSpeech-SAT, MMS or Whisper, at 16 kHz"

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

    @property
    def moments(self) -> np.ndarray:
        """(2, D): mean and standard deviation over time."""
        return np.stack([self.pooled, self.frames.std(axis=0)])


class Encoder(ABC):
    """`encoder(samples, sample_rate)` gives `Embedded`, of the last layer or of another.

    Layers count from 0, the input of the first block; layer `depth` - 1 is the output. An encoder that shows no inner
    layer has one, its output.

    AudioError for another rate than 16 kHz, unusable samples, more of them than the encoder hears at once, and
    whatever a library raises; ConfigError for a layer that it has not.
    """

    identity: str  # names these weights, for the cache
    heard: tuple[str, ...] = ()  # corpora of ours, by name, of which its training had speakers
    width: int  # D
    rate: float  # frames a second
    depth: int = 1  # layers that can be read
    longest: float = audio.LONGEST  # s

    def __call__(self, samples: np.ndarray, sample_rate: int, layer: int | Literal["last"] = "last") -> Embedded:
        return self.every_layer(samples, sample_rate)[self.layer(layer)]

    def every_layer(self, samples: np.ndarray, sample_rate: int) -> list[Embedded]:
        """All `depth` layers, by one pass."""
        if sample_rate != RATE:
            remedy = "resample it, as `audio.read` does"
            raise AudioError("encoder", f"audio at {sample_rate} Hz, expected {RATE} Hz", remedy)
        audio.check(samples, "encoder", sample_rate, self.longest)
        try:
            with torch.inference_mode():
                layers = [np.asarray(frames, np.float32) for frames in self.layers(samples.astype(np.float32))]
        except Exception as error:  # libraries raise what they like for a recording that nobody foresaw
            what = f"{self.identity} cannot hear it ({type(error).__name__}: {str(error)[:200]})"
            raise AudioError("encoder", what, "leave it out, or choose another encoder") from None
        if not all(np.isfinite(frames).all() for frames in layers):
            raise AudioError("encoder", f"{self.identity} gives values that are not finite", "leave it out")
        return [Embedded(frames, self.rate) for frames in layers]

    def layer(self, layer: int | Literal["last"]) -> int:
        """The number of a layer, if there is one."""
        return self.numbers(layer)[0]

    def numbers(self, layer: int | tuple[int, ...] | Literal["last", "all"]) -> list[int]:
        """Those that `config.layer` means."""
        if layer == "all":
            return list(range(self.depth))
        numbers = [self.depth - 1] if layer == "last" else list(layer) if isinstance(layer, tuple) else [layer]
        if unknown := [number for number in numbers if not 0 <= number < self.depth]:
            raise ConfigError("config field 'layer'", f"got {unknown[0]}", f"{self.identity} has 0 to {self.depth - 1}")
        return numbers

    @abstractmethod
    def layers(self, samples: np.ndarray) -> list[np.ndarray | Tensor]:
        """(S,) float32 -> `depth` times (T, D)."""


class OpenWakeWord(Encoder):
    """Google's `speech_embedding`, a CNN, in the package openwakeword (Apache-2.0): windows of 760 ms, every 80 ms."""

    identity, width, rate = "openwakeword-0.4.0", 96, 12.5
    WINDOW, HOP = 76, 8  # mel frames

    def __init__(self, random: bool = False) -> None:
        with extra("encoder 'openwakeword'"):
            import onnxruntime

        if random:
            what = "its weights are inside a compiled graph"
            raise ConfigError(f"encoder '{RANDOM}openwakeword'", what, "random weights: of any other encoder")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        folder = packaged("openwakeword") / "resources" / "models"
        self.mel, self.embed = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in ("melspectrogram", "embedding_model")
        )

    def layers(self, samples: np.ndarray) -> list[np.ndarray]:
        samples = np.pad(samples, (0, max(0, RATE - len(samples))))  # at least one window
        (mel,) = self.mel.run(None, {self.mel.get_inputs()[0].name: 32_767 * samples[None]})
        mel = mel.squeeze() / 10 + 2  # as openwakeword scales it
        windows = np.lib.stride_tricks.sliding_window_view(mel, self.WINDOW, axis=0)[:: self.HOP]
        x = np.ascontiguousarray(windows.transpose(0, 2, 1)[..., None])
        return [self.embed.run(None, {self.embed.get_inputs()[0].name: x})[0].reshape(len(x), -1)]


class Resemblyzer(Encoder):
    """The LSTM of Resemblyzer (Apache-2.0), trained to tell speakers: its last layer's states, every 10 ms.

    Its package is not imported, because one of the packages that it needs no longer is; only its weights are read.
    """

    identity, width, rate = "resemblyzer-0.1.4", 256, 100.0
    GRID = Features(n_fft=400)  # 25 ms every 10 ms

    def __init__(self, random: bool = False) -> None:
        self.lstm = nn.LSTM(40, 256, num_layers=3, batch_first=True)
        if random:
            self.identity = "random-resemblyzer"
            return
        folder = packaged("resemblyzer")
        state = torch.load(folder / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
        self.lstm.load_state_dict({k.removeprefix("lstm."): v for k, v in state.items() if k.startswith("lstm.")})

    def layers(self, samples: np.ndarray) -> list[Tensor]:
        level = 10 ** (-30 / 20) / np.sqrt(np.mean(samples**2))  # -30 dBFS, where it is quieter
        mel = features.mel_filters(RATE, 400, 40) @ features.power(samples * max(1.0, level), self.GRID)
        return [self.lstm(torch.from_numpy(mel.T.astype(np.float32))[None])[0][0]]


class Patches(Encoder):
    """An encoder of `hmoe pretrain`, or one trained elsewhere whose weights were given our names, sizes and header.

    Blocks that read in both directions, as SSAMBA's do, have other weights and are refused.
    """

    def __init__(self, path: Path, random: bool = False) -> None:
        self.model = load_encoder(path)
        self.heard = () if random else tuple(self.model.facts.get("corpus", "").split())
        if random:  # but on the scale of the audio that it would have been pre-trained on
            fresh = PatchEncoder(self.model.kind, self.model.size)
            fresh.mean, fresh.deviation = self.model.mean, self.model.deviation
            self.model = fresh.eval()
        self.identity = f"{'random-' * random}{path.stem}-{digest(self.model)}"
        self.width, self.rate = PER_STEP * SIZES[self.model.size][0], 100 / FRAMES

    def layers(self, samples: np.ndarray) -> list[Tensor]:
        mel = log_mel(samples)
        return [self.model(nn.functional.pad(mel, (0, 0, 0, max(0, FRAMES - len(mel))))[None])[0]]


class Published(Encoder):
    """A published checkpoint of Audio Mamba, by `hmoe convert-encoder`: tiny, small, base as the file has it."""

    rate = 100 / FRAMES

    def __init__(self, path: Path, random: bool = False) -> None:
        self.model = audio_mamba.load(path, load_file(path))
        if random:
            self.model = audio_mamba.AudioMamba(self.model.width, len(self.model.blocks)).eval()
        self.identity = f"{'random-' * random}{path.stem}-{digest(self.model)}"
        self.width = PER_STEP * self.model.width

    def layers(self, samples: np.ndarray) -> list[Tensor]:
        return [self.model(audio_mamba.log_mel(samples))]


class HuggingFace(Encoder):
    """HuBERT, WavLM, wav2vec 2.0, UniSpeech-SAT, MMS: models that hear samples.

    Raises ConfigError where the weights are not there or do not fit, for models that read spectra (AST, w2v-BERT), and
    for an extractor of another rate; what is missing is never made up.
    """

    def __init__(self, name: str, random: bool = False) -> None:
        self.prepare, self.model = pretrained_model(name, random)
        self.width, self.depth = self.model.config.hidden_size, self.model.config.num_hidden_layers + 1
        self.rate = RATE / float(np.prod(self.model.config.conv_stride))
        self.identity = f"{'random-' * random}{Path(name).name}-{digest(self.model)}"

    def layers(self, samples: np.ndarray) -> list[Tensor]:
        said = self.model(self.ready(samples)["input_values"], output_hidden_states=True)
        return [hidden[0] for hidden in (*said.hidden_states[:-1], said.last_hidden_state)]

    def ready(self, samples: np.ndarray, **how: Any) -> dict[str, Tensor]:
        return self.prepare(samples, sampling_rate=RATE, return_tensors="pt", **how)


class Whisper(HuggingFace):
    """The encoder of Whisper (Radford et al. 2022), from a whole checkpoint or from one of its encoder alone.

    It was trained on windows of 30 s, the rest of them silence. Here a window is as long as the utterance, and so are
    its positions, which are sinusoids: far cheaper, and no silence is attended to. `window` (s), if given, is the least
    that is heard; chapter 21 measures what it changes.
    """

    rate = 50.0

    def __init__(self, name: str, random: bool = False, window: float = 0.0) -> None:
        self.prepare, self.model = pretrained_model(name, random)
        config = self.model.config
        self.width, self.depth = config.d_model, config.encoder_layers + 1
        self.longest = config.max_source_positions / self.rate  # what is left of a longer one would not be heard
        self.places, self.window = self.model.embed_positions.weight, window
        self.identity = f"{'random-' * random}{Path(name).name}-{digest(self.model)}" + f"-{window:g}" * (window > 0)

    def layers(self, samples: np.ndarray) -> list[Tensor]:
        T = math.ceil(len(samples) * self.rate / RATE)
        whole = min(max(T, math.ceil(self.window * self.rate)), len(self.places))
        padded = np.pad(samples, (0, int(whole * RATE / self.rate) - len(samples)))
        # The library's encoder takes windows of one length, that of its table of positions.
        self.model.config.max_source_positions = whole
        self.model.embed_positions = nn.Embedding.from_pretrained(self.places[:whole])
        x = self.ready(padded, padding=False, truncation=False)["input_features"]
        said = self.model(x, output_hidden_states=True)
        return [hidden[0, :T] for hidden in (*said.hidden_states[:-1], said.last_hidden_state)]


def pretrained_model(name: str, random: bool) -> tuple[Any, nn.Module]:
    """Feature extractor and model of Hugging Face's, by name or folder; of Whisper the encoder. ConfigError."""
    config = configured(name)
    whisper = config.model_type == "whisper"
    if not whisper and not hasattr(config, "conv_stride"):
        what = f"{config.model_type!r} is a kind of model that is not read: it hears no samples"
        raise ConfigError(f"encoder {name!r}", what, f"give one of {KINDS}")
    with loading(name):
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        place = located(name)
        prepare = AutoFeatureExtractor.from_pretrained(place)
        if (rate := getattr(prepare, "sampling_rate", None)) != RATE:
            raise ConfigError(
                f"encoder {name!r}", f"its extractor is of {rate} Hz, expected {RATE} Hz", f"give one of {KINDS}"
            )
        if random:
            return prepare, (WhisperEncoder(config) if whisper else AutoModel.from_config(config)).eval()
        # A checkpoint may be of half precision, in which a CPU computes slowly, if at all.
        how = {"output_loading_info": True, "use_safetensors": True, "dtype": torch.float32}
        if whisper:  # a decoder is not read, whether it is there or not
            how["key_mapping"] = {r"^(model\.)?encoder\.": ""}
        model, told = (WhisperEncoder if whisper else AutoModel).from_pretrained(place, **how)
    # A masked frame's vector is for pre-training alone; any other number that is not in the file is needed.
    missing = sorted(key for key in told["missing_keys"] if not key.endswith("masked_spec_embed"))
    if missing or told["mismatched_keys"]:
        what = f"the checkpoint lacks or misfits {(missing or sorted(map(str, told['mismatched_keys'])))[0]}"
        raise ConfigError(f"encoder {name!r}", what, "give a checkpoint of this very model")
    return prepare, model.eval()


def located(name: str) -> str:
    """The folder of the encoder in `HMOE_ENCODERS`, if there is one; else the name, a path or the Hub's."""
    folder = os.environ.get("HMOE_ENCODERS")
    for candidate in (name, Path(name).name) if folder else ():
        if (Path(folder) / candidate).is_dir():
            return str(Path(folder) / candidate)
    return name


def configured(name: str) -> Any:
    """Hugging Face's configuration of a model; ConfigError."""
    with loading(name):
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(located(name))


@contextmanager
def loading(name: str) -> Iterator[None]:
    """transformers without its reports, bars and retries in the log; what is wrong becomes one ConfigError."""
    with extra(f"encoder {name!r}"):
        from huggingface_hub.utils import logging as hub
        from transformers.utils import logging as theirs
    levels, bars = (theirs.get_verbosity(), hub.get_verbosity()), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(theirs.CRITICAL)
    hub.set_verbosity(hub.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    except HmoeError:
        raise
    except Exception as error:  # each kind of model has errors of its own
        remedy = (
            "give a folder with config.json, preprocessor_config.json and model.safetensors, or a name where there is "
            "a network; HMOE_ENCODERS is the folder of such folders"
        )
        raise ConfigError(f"encoder {name!r}", f"cannot be loaded ({str(error)[:200]})", remedy) from None
    finally:
        theirs.set_verbosity(levels[0])
        hub.set_verbosity(levels[1])
        if bars:
            theirs.enable_progress_bar()


def digest(model: nn.Module) -> str:
    """12 hexadecimal digits that name the weights of a model."""
    found = hashlib.sha256()
    for tensor in model.state_dict().values():
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def settings(prepare: Any) -> str:
    """What follows the weights in an encoder's identity: 8 hexadecimal digits that name the settings of its feature
    extractor which are not its class's own; "" where there are none."""
    usual = type(prepare)().to_dict()
    own = {name: value for name, value in prepare.to_dict().items() if usual.get(name) != value}
    own.pop("processor_class", None)  # names what reads text too
    return f"-{hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]}" if own else ""


def packaged(package: str) -> Path:
    """The folder of an installed package, without importing it. ConfigError where it is not installed."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise missing(ModuleNotFoundError(name=package), f"encoder {package!r}")
    return Path(found.submodule_search_locations[0])


def own_path(name: str) -> Path:
    """Where `hmoe pretrain` keeps an encoder."""
    return cache_dir() / "encoders" / f"{name}.safetensors"


def register(name: str, history: list[float], facts: dict[str, str], results: Path | None = None) -> None:
    """Say in `encoders.csv` of the results which weights the name of an own encoder stands for on a machine, and in
    `pretraining.csv` by which losses they came about.

    The last bits of a training depend on the processor, so records name theirs, as the lines of these tables do.
    """
    weights = Patches(own_path(name)).identity.rpartition("-")[2]
    line = {"encoder": name, "weights": weights, "loss": f"{history[-1]:.4f}"}
    path = (results or results_dir()) / "encoders.csv"
    curves = path.with_name("pretraining.csv")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            table = pd.concat([registered(path), pd.DataFrame([{**line, **facts}])])
            table = table.drop_duplicates(["encoder", "machine"], keep="last").sort_values(["encoder", "machine"])
            atomic_write(path, table.to_csv(index=False))
            known = registered(curves)
            curve = pd.DataFrame({"epoch": range(1, len(history) + 1), "loss": [f"{loss:.4f}" for loss in history]})
            curve.insert(0, "encoder", name)
            curve.insert(1, "weights", weights)
            kept = known[known["weights"].isin(table["weights"]) & (known["weights"] != weights)]
            atomic_write(curves, pd.concat([kept, curve]).to_csv(index=False))
    except OSError as error:
        raise StoreError.unwritable(path, error, "choose another HMOE_RESULTS") from None


def registered(path: Path | None = None) -> pd.DataFrame:
    try:
        return pd.read_csv(path or results_dir() / "encoders.csv", dtype=str, keep_default_na=False)
    except FileNotFoundError:
        return pd.DataFrame({"encoder": [], "weights": []})


def _own(name: str, random: bool) -> Patches:
    encoder, known = Patches(own_path(name), random), registered()
    recorded = list(known.loc[known["encoder"] == name, "weights"])
    if recorded and not random and not encoder.identity.endswith(tuple(recorded)):
        others = ", ".join(recorded)
        log.warning("%s: other weights than those of the records (%s); write elsewhere, HMOE_RESULTS", name, others)
    return encoder


def load(name: str, window: float = 0.0) -> Encoder:
    """The encoder of that name, with its weights; ConfigError where they cannot be had.

    `window` (s) is for Whisper; the others hear what is there.
    """
    return _loaded(name, window)


@cache
def _loaded(name: str, window: float) -> Encoder:
    plain, random = name.removeprefix(RANDOM), name.startswith(RANDOM)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of random weights; others draw none that they keep
        if plain in (known := {"openwakeword": OpenWakeWord, "resemblyzer": Resemblyzer}):
            return known[plain](random)
        if plain.endswith(".safetensors"):
            return (Published if audio_mamba.published(Path(plain)) else Patches)(Path(plain), random)
        if plain.partition("-")[0] in ("mamba", "attention") and "/" not in plain:
            return _own(plain, random)
        whisper = configured(plain).model_type == "whisper"
        encoder = Whisper(plain, random, window) if whisper else HuggingFace(plain, random)
    encoder.identity += settings(encoder.prepare)
    return encoder
