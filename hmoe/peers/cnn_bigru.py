"""CNN+Bi-GRU, after Zhong, Hu, Huang, Silamu, Interspeech 2020: a lightweight model on separable convolutions.

Table 2 gives no reference; this is the publication of that name (Q14). It has no figure for CASIA.

Room: their form (separable convolutions, Bi-GRU, attention, focal loss, MFCC) is kept; the sizes are ours, and the
convolutions run over time, with MFCC and their differences as channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.masking import frame_mask
from hmoe.peers.network import FrameNorm, Network, halved, reverse

CHANNELS = 128
GAMMA = 2.0  # Lin et al. 2017: the focal loss's usual exponent


class SeparableConvolution(nn.Module):
    """Each channel over time, then channels with each other; half as many frames come out."""

    def __init__(self, d_in: int, dropout: float) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(d_in, d_in, kernel_size=5, padding=2, groups=d_in)
        self.over_channels = nn.Linear(d_in, CHANNELS)
        self.norm = FrameNorm(CHANNELS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        local = self.over_channels(self.over_time(x.transpose(1, 2)).transpose(1, 2))
        # ReLU leaves nothing below the zeros of padding, so the pooling may see them.
        hidden = F.relu(self.norm(local, mask)).transpose(1, 2)
        return self.dropout(F.max_pool1d(hidden, 2, ceil_mode=True).transpose(1, 2))


class CNNBiGRU(Network):
    def __init__(self, config: Config, C: int) -> None:
        super().__init__(config)
        self.convolutions = nn.ModuleList(SeparableConvolution(d_in, config.dropout) for d_in in (self.d_in, CHANNELS))
        self.forwards, self.backwards = (nn.GRU(CHANNELS, CHANNELS, batch_first=True) for _ in range(2))
        self.attention = nn.Sequential(nn.Linear(2 * CHANNELS, CHANNELS), nn.Tanh(), nn.Linear(CHANNELS, 1))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * CHANNELS, C)

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = convolution(x, mask)
            lengths = halved(lengths)
            mask = frame_mask(lengths, x.shape[1])
        # Two GRUs, the second on reversed utterances: a bidirectional one would start in the padding.
        ahead, back = self.forwards(x)[0], reverse(self.backwards(reverse(x, lengths))[0], lengths)
        hidden = torch.cat([ahead, back], dim=-1)
        scores = self.attention(hidden).squeeze(-1).masked_fill(~mask, -torch.inf)
        summary = torch.einsum("bt,btd->bd", scores.softmax(-1), hidden)
        return self.classifier(self.dropout(summary))

    @staticmethod
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return focal_loss(logits, targets)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Lin et al. 2017: cross-entropy, weighted by (1 - p)² of the true class, so that hard utterances count more."""
    log_p = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    return -((1 - log_p.exp()) ** GAMMA * log_p).mean()
