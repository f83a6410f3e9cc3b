"""The published Audio Mamba (SSAM; Yadav and Tan, Interspeech 2024), whose weights a user may have.

    hmoe convert-encoder ssam_tiny.pth ssam_tiny.safetensors

Their names and shapes are kept, their blocks are ours: Mamba in one direction, `expand` 3, 24 states. They were trained
on 2 s of log-mel, so an utterance is read in pieces of 2 s that know nothing of one another.
"""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hmoe.base.errors import ConfigError
from hmoe.base.files import atomic_write
from hmoe.mamba import MambaBlock
from hmoe.parrot.ssamba import D_STATE, FRAMES, N_MELS, PER_STEP, patches

PIECE = 200  # frames: 2 s
EXPAND = 3
MARK = "patch_embed.proj.weight"  # by which a file of theirs is known
UNUSED = ("pred.", "mask_token")  # of pre-training alone


def log_mel(samples: np.ndarray) -> Tensor:
    """(S,) samples at 16 kHz -> (T, 80): 25 ms every 10 ms, HTK's mel scale from 50 Hz, mean 0 and deviation 1."""
    grid = {"n_fft": 400, "hop_length": 160, "pad_mode": "reflect"}
    scale = {"n_mels": N_MELS, "fmin": 50, "fmax": 8000, "htk": True, "norm": None}
    mel = librosa.feature.melspectrogram(y=samples, sr=16_000, power=2.0, **grid, **scale)
    found = torch.from_numpy(mel.T).float().add(torch.finfo().eps).log()
    return (found - found.mean()) / (found.std() + 1e-8)


class AudioMamba(nn.Module):
    """(T, 80) log-mel -> (T / 4 rounded up, 5 D): 25 embeddings a second."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.width = width
        steps = PIECE // FRAMES * PER_STEP
        self.embed = nn.Linear(FRAMES * N_MELS // PER_STEP, width)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(torch.zeros(1, 1 + steps, width))
        self.blocks = nn.ModuleList(MambaBlock(width, D_STATE, d_conv=4, expand=EXPAND) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for block in self.blocks:
            block.norm.eps = 1e-6

    def forward(self, mel: Tensor) -> Tensor:
        padded = nn.functional.pad(mel, (0, 0, 0, -len(mel) % PIECE))  # zero is the mean
        hidden = self.embed(patches(padded.reshape(-1, PIECE, N_MELS)))
        hidden = torch.cat([self.first.expand(len(hidden), -1, -1), hidden], dim=1) + self.place
        for block in self.blocks:
            hidden = block(hidden)
        steps = self.norm(hidden)[:, 1:].reshape(-1, PER_STEP * self.width)
        return steps[: -(-len(mel) // FRAMES)]


def load(path: Path, state: dict[str, Tensor]) -> AudioMamba:
    """The network of tensors with their names, `MARK` among them. Raises ConfigError where a shape is another."""
    if state[MARK].dim() < 2 or not state[MARK].numel():
        what = f"{MARK} has the shape {tuple(state[MARK].shape)}"
        raise ConfigError(path, what, "give a checkpoint of Audio Mamba (SSAM)")
    width, blocks = len(state[MARK]), {name.split(".")[1] for name in state if name.startswith("blocks.")}
    model = AudioMamba(width, len(blocks))
    ours = {_ours(name): tensor for name, tensor in state.items() if not name.startswith(UNUSED)}
    ours["embed.weight"] = state[MARK].flatten(1)
    expected = model.state_dict()
    wrong = sorted(set(expected) ^ set(ours)) or [k for k in expected if expected[k].shape != ours[k].shape]
    if wrong:
        what = f"not a one-directional Audio Mamba: {wrong[0]} is missing, unknown or of another shape"
        raise ConfigError(path, what, "see chapter 21 for the checkpoints that fit")
    model.load_state_dict(ours)
    return model.eval()


def published(path: Path) -> bool:
    """Whether a safetensors file has their names. False too for a file that cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return MARK in file.keys()  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def _ours(name: str) -> str:
    theirs = {"patch_embed.proj": "embed", "cls_token": "first", "pos_embed": "place", "encoder_norm": "norm"}
    for old, new in {**theirs, ".mixer.": ".mamba."}.items():
        name = name.replace(old, new)
    return name


def convert(source: Path, target: Path) -> None:
    """A published `.pth` becomes a safetensors file of the same names; nothing but tensors is read from it."""
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(source, "no such file", "give the checkpoint that you downloaded") from None
    except Exception as error:  # of a damaged file torch makes what it likes
        why = f"{type(error).__name__}: {str(error)[:120]}"
        raise ConfigError(source, f"not a checkpoint of tensors ({why})", "download it again") from None
    named = found.get("model", found) if isinstance(found, dict) else {}
    state = {k: v for k, v in named.items() if isinstance(v, Tensor)} if isinstance(named, dict) else {}
    if MARK not in state:
        raise ConfigError(source, f"no {MARK} among its tensors", "give a checkpoint of Audio Mamba (SSAM)")
    state = {str(k): v.float().contiguous() for k, v in state.items() if not str(k).startswith(UNUSED)}
    load(source, state)
    atomic_write(target, save(state))
