"""TIM-Net: Ye et al., ICASSP 2023, "Temporal Modeling Matters". Not in Table 2; the strongest public peer.

Published 94.67 on CASIA, corrected by its authors to 91.08: the first was the best epoch on the test fold (Q7).

Their code decides what is not in the article: raw MFCC of utterances that silence pads to one length, averaged over
silence too. Room: the weights of the causal convolutions start a little wider.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.masking import masked_mean
from hmoe.peers.network import FrameNorm, Network, glorot, reverse

FILTERS = 39
DILATIONS = tuple(2**level for level in range(8))  # 1 ... 128 frames


class CausalConvolution(nn.Linear):
    """Kernel 2: a frame and the one `dilation` frames before it, zeros before the start. (B, T, D) -> (B, T, D)."""

    def __init__(self, dilation: int) -> None:
        super().__init__(2 * FILTERS, FILTERS)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        before = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        return super().forward(torch.cat([before, x], dim=-1))


class TemporalAwareBlock(nn.Module):
    """Two causal convolutions and a sigmoid say how much of the block's input passes."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(CausalConvolution(dilation) for _ in range(2))
        self.norms = nn.ModuleList(FrameNorm(FILTERS, eps=1e-3, momentum=0.01) for _ in range(2))
        self.dropout = nn.Dropout1d(0.1)  # a channel of an utterance as a whole

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        gate = x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            gate = F.relu(norm(convolution(gate), mask))
            gate = self.dropout(gate.transpose(1, 2)).transpose(1, 2)
        return x * gate.sigmoid()


class TIMNet(Network):
    """Both directions of time, eight dilations each, and a learned weight for each dilation."""

    def __init__(self, config: Config, C: int) -> None:
        super().__init__(config)
        self.project = nn.ModuleList(nn.Linear(self.d_in, FILTERS) for _ in range(2))
        self.blocks = nn.ModuleList(nn.ModuleList(map(TemporalAwareBlock, DILATIONS)) for _ in range(2))
        self.level_weights = nn.Parameter(torch.empty(len(DILATIONS)).uniform_(-0.05, 0.05))
        self.classifier = nn.Linear(FILTERS, C)
        glorot(self)

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        levels = torch.zeros((), device=x.device)
        for sequence, project, blocks in zip((x, reverse(x, lengths)), self.project, self.blocks, strict=True):
            hidden, means = project(sequence) * mask[..., None], []
            for block in blocks:
                hidden = block(hidden, mask)
                means.append(masked_mean(hidden, mask))
            levels = levels + torch.stack(means, dim=-1)  # (B, D, 8); the mean does not mind the direction
        return self.classifier(levels @ self.level_weights)
