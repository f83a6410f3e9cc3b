"""Encoders of log-mel patches: Mamba blocks, as in SSAMBA and Audio-Mamba, or their attention twin of equal size.

A patch is 4 frames of 16 mel bands, so 80 bands make 5 patches every 40 ms; a frame's embedding is the 5 states side
by side: 960, 1920 or 3840 numbers in the published widths of Audio-Mamba tiny, small and base.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from hmoe import features
from hmoe.config import Features
from hmoe.experts import positions
from hmoe.mamba import MambaBlock

SIZES = {"micro": (96, 4), "tiny": (192, 12), "small": (384, 12), "base": (768, 12)}
"""Width and depth. `micro` is ours: what a CPU pre-trains in minutes."""

FRAMES, BANDS, N_MELS = 4, 16, 80
PER_STEP = N_MELS // BANDS  # patches a time step
D_STATE, HEADS = 24, 4
GRID = Features(n_mels=N_MELS)


def log_mel(samples: np.ndarray) -> Tensor:
    """(S,) samples at 16 kHz -> (T, 80): the natural logarithm of the power in each mel band, 10 ms a frame."""
    mel = features.mel_filters(GRID.sample_rate, GRID.n_fft, N_MELS) @ features.power(samples, GRID)
    return torch.from_numpy(np.log(mel + features.AMIN).T.astype(np.float32))


def patches(mel: Tensor) -> Tensor:
    """(B, T, 80) -> (B, 5 * (T // 4), 64): a time step's five bands, then the next step's; T >= 4."""
    B, steps = len(mel), mel.shape[1] // FRAMES
    grid = mel[:, : steps * FRAMES].reshape(B, steps, FRAMES, PER_STEP, BANDS)
    return grid.transpose(2, 3).reshape(B, steps * PER_STEP, FRAMES * BANDS)


def attention_block(width: int) -> nn.Module:
    """A Transformer encoder layer with as many parameters as a Mamba block of the same width, within half a percent."""
    layer = partial(nn.TransformerEncoderLayer, width, HEADS, dropout=0.0, batch_first=True, norm_first=True)
    least, block = (sum(p.numel() for p in one.parameters()) for one in (layer(dim_feedforward=1), mamba_block(width)))
    return layer(dim_feedforward=1 + round((block - least) / (2 * width + 1)))


def mamba_block(width: int) -> nn.Module:
    return MambaBlock(width, D_STATE, d_conv=4, expand=2)


BLOCKS = {"mamba": mamba_block, "attention": attention_block}


class PatchEncoder(nn.Module):
    """(B, T, 80) log-mel -> (B, T // 4, 5 * width): 25 embeddings a second.

    `mean` and `deviation` are those of the log-mel that it was pre-trained on. `masked` (B, P), where given, hides
    patches behind a learned token.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, kind: str, size: str) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        self.facts: dict[str, str] = {}  # of its pre-training, where it has had one
        width, depth = SIZES[size]
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.embed = nn.Linear(FRAMES * BANDS, width)
        self.band = nn.Parameter(torch.zeros(PER_STEP, width))
        self.mask = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(BLOCKS[kind](width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def standardised(self, mel: Tensor) -> Tensor:
        return patches((mel - self.mean) / self.deviation)

    def states(self, mel: Tensor, masked: Tensor | None = None) -> Tensor:
        """(B, T, 80) -> (B, P, width), a state for each patch."""
        hidden = self.embed(self.standardised(mel))
        if masked is not None:
            hidden = torch.where(masked[..., None], self.mask, hidden)
        steps = hidden.shape[1] // PER_STEP
        place = positions(steps, hidden.shape[2], hidden.device).repeat_interleave(PER_STEP, 0)
        hidden = hidden + place + self.band.repeat(steps, 1)
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)

    def forward(self, mel: Tensor) -> Tensor:
        return self.states(mel).unflatten(1, (-1, PER_STEP)).flatten(2)
