"""CPAC, the capsule network of CTL-MTNet: Wen et al., IJCAI 2022, arXiv 2207.10644.

Published 92.75 on CASIA, corrected by its authors to 88.33: the first was the best epoch on the test fold (Q7);
Table 2 prints 90.7. 321,799 parameters, of which 384 are the running statistics of batch normalisation: their code
never moves these from 0 and 1, so ours has none.

Room: their labels are smoothed again in each of ten folds, ours once; their second loss is given to the library in a
form of which some versions drop it, ours counts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.peers.network import Network, glorot

FRAMES = 172  # 88,000 samples at 22.05 kHz, hop 512
CAPSULE = 64  # numbers in a capsule
ROUTINGS = 3
MSE_WEIGHT = 0.392
SMOOTHING = 0.1  # of the labels


class CPAC(Network):
    """MFCC as an image -> convolutions -> capsules -> attention -> an emotion's capsules by agreement."""

    def __init__(self, config: Config, C: int) -> None:
        super().__init__(config)
        self.convolutions = nn.Sequential(
            *(layer for d_in, p in ((1, 0.5), (64, 0.25), (64, 0.25)) for layer in convolution(d_in, p))
        )
        self.primary = nn.Conv2d(64, 6 * CAPSULE, 3)
        self.attention_scale = nn.Parameter(torch.ones(1))
        self.vote = nn.Parameter(torch.empty(CAPSULE, C * CAPSULE))  # shared by all primary capsules
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(CAPSULE, C)
        nn.init.xavier_uniform_(self.vote)
        glorot(self)

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        image = F.pad(x, (0, 0, 0, FRAMES - x.shape[1]))[:, None]  # (B, 1, 172, 39); a negative pad cuts
        maps = self.primary(self.convolutions(image))  # (B, 384, 17, 1)
        capsules = squash(maps.permute(0, 2, 3, 1).reshape(len(x), -1, CAPSULE))  # (B, 102, 64)
        scores = self.attention_scale * capsules @ capsules.transpose(1, 2)
        capsules = capsules * (scores.softmax(-1) @ capsules)
        votes = (capsules @ self.vote).unflatten(-1, (-1, CAPSULE))  # (B, 102, C, 64)
        return self.classifier(self.dropout(route(votes).mean(dim=1)))

    @staticmethod
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        """Margin loss of the class probabilities against smoothed labels, plus 0.392 of their squared error."""
        C = logits.shape[-1]
        wanted = F.one_hot(targets, C).to(logits.dtype) * (1 - SMOOTHING) + SMOOTHING / C
        probabilities = logits.softmax(-1)
        return margin_loss(probabilities, wanted) + MSE_WEIGHT * F.mse_loss(probabilities, wanted)


class ScaledConvolution(nn.Conv2d):
    """A convolution and the scale and shift that are left of their batch normalisation, as one convolution."""

    def __init__(self, d_in: int) -> None:
        super().__init__(d_in, 64, 3)
        self.scale, self.shift = nn.Parameter(torch.ones(64)), nn.Parameter(torch.zeros(64))

    def forward(self, image: Tensor) -> Tensor:
        scale = self.scale / math.sqrt(1 + 1e-3)  # variance 1 and their epsilon
        weight = self.weight * scale[:, None, None, None]
        # Channels innermost: a quarter less time on a CPU.
        return F.conv2d(image, weight.contiguous(memory_format=torch.channels_last), self.bias * scale + self.shift)


def convolution(d_in: int, dropout: float) -> list[nn.Module]:
    return [ScaledConvolution(d_in), nn.ELU(), nn.AvgPool2d(2), nn.Dropout(dropout)]


def squash(capsules: Tensor) -> Tensor:
    """Sabour et al. 2017, eq. 1: the direction stays, the norm n becomes n² / (1 + n²)."""
    squared = capsules.square().sum(-1, keepdim=True)
    return capsules * squared / (1 + squared) / (squared + 1e-9).sqrt()


def route(votes: Tensor) -> Tensor:
    """Votes (B, primary, C, 64) -> capsules (B, C, 64), in three rounds of agreement.

    After Sabour et al. 2017, procedure 1; in their code a round's agreement, with capsules of norm 1, replaces that of
    the round before.
    """
    agreement = torch.zeros(votes.shape[:3], device=votes.device)
    for _ in range(ROUTINGS - 1):
        capsules = torch.einsum("bpc,bpcd->bcd", agreement.softmax(-1), votes)
        agreement = torch.einsum("bcd,bpcd->bpc", F.normalize(capsules, dim=-1), votes)
    return squash(torch.einsum("bpc,bpcd->bcd", agreement.softmax(-1), votes))


def margin_loss(probabilities: Tensor, wanted: Tensor) -> Tensor:
    """Sabour et al. 2017, eq. 4: the true class should pass 0.9, the others (at half weight) stay below 0.1."""
    present = wanted * F.relu(0.9 - probabilities).square()
    absent = (1 - wanted) * F.relu(probabilities - 0.1).square()
    return (present + 0.5 * absent).sum(-1).mean()
