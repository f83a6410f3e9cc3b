"""DCNN+LSTM, after the usual form of the name: Zhao, Mao, Chen, "1D & 2D CNN LSTM networks", 2019.

Table 2 gives no reference (Q14). The form: log-mel and its first and second differences as an image of three
channels -> four blocks of convolution, batch normalisation, ELU and max-pooling -> LSTM of 256 units -> softmax.

Room: half of the usual filters (32, 32, 64, 64) and most of the pooling over frequency, because our frames are
already 40 ms apart: an utterance must leave the LSTM some steps to read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.masking import frame_mask
from hmoe.peers.network import FrameNorm, Network, halved

FILTERS = (32, 32, 64, 64)
POOLS = ((1, 4), (2, 2), (2, 4), (2, 4))  # frames, mel bands
UNITS = 256


class Block(nn.Module):
    """(B, d_in, T, M), (B, T) -> (B, d_out, T', M')."""

    def __init__(self, d_in: int, d_out: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(d_in, d_out, 3, padding=1)
        self.norm = FrameNorm(d_out)
        self.pool = pool

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm(self.convolution(x).permute(0, 2, 3, 1), mask)
        real = normed.masked_fill(~mask[..., None, None], -torch.inf).permute(0, 3, 1, 2)
        # ELU rises everywhere, so it may follow the pooling, where there is less of it to do.
        return F.elu(F.max_pool2d(real, self.pool, ceil_mode=True))


class DCNNLSTM(Network):
    def __init__(self, config: Config, C: int) -> None:
        super().__init__(config)
        sizes = zip((3, *FILTERS), FILTERS, POOLS, strict=False)
        self.blocks = nn.ModuleList(Block(d_in, d_out, pool) for d_in, d_out, pool in sizes)
        bands = self.d_in
        for _, pool in POOLS:
            bands = -(-bands // pool)
        self.lstm = nn.LSTM(FILTERS[-1] * bands, UNITS, batch_first=True)
        self.classifier = nn.Linear(UNITS, C)

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        first = differences(x, lengths)
        image = torch.stack([x, first, differences(first, lengths)], dim=1)  # (B, 3, T, M)
        for block in self.blocks:
            image = block(image * mask[:, None, :, None], mask)
            if block.pool[0] == 2:
                lengths = halved(lengths)
                mask = frame_mask(lengths, image.shape[2])
        hidden, _ = self.lstm(image.transpose(1, 2).flatten(2))
        return self.classifier(hidden[torch.arange(len(x), device=x.device), lengths - 1])


def differences(x: Tensor, lengths: Tensor, reach: int = 2) -> Tensor:
    """(B, T, M) -> (B, T, M): the slope of the line through `reach` frames on both sides; the ends hold on."""
    last, t = lengths[:, None] - 1, torch.arange(x.shape[1], device=x.device)

    def frames(offset: int) -> Tensor:
        index = torch.minimum((t + offset).clamp(min=0), last)
        return x.gather(1, index[..., None].expand_as(x))

    steps = range(1, reach + 1)
    return sum(n * (frames(n) - frames(-n)) for n in steps) / (2 * sum(n * n for n in steps))
