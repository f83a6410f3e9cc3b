"""What the networks among the peers share: standardised input, and real frames kept apart from padding."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.masking import frame_mask
from hmoe.model import Standardise, kept_columns


class Network(nn.Module, ABC):
    """A peer says what it does with standardised frames in `read`; `d_in` is their width.

    `forward(x, lengths)`: `x` (B, T, D) as `hmoe.inputs.batches` gives it; `lengths` (B,) frames, None if all
    utterances fill T. Returns logits (B, C), which depend neither on padding nor on the rest of the batch (`eval`).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        kept, D = kept_columns(config)
        self.standardise = Standardise(D, kept)
        self.d_in = len(kept)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        B, T, _ = x.shape
        if lengths is None:
            lengths = torch.full((B,), T, device=x.device)
        mask = frame_mask(lengths, T)
        return self.read(self.standardise(x) * mask[..., None], lengths, mask)

    @abstractmethod
    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Standardised frames (B, T, d_in), zero where `mask` (B, T) is false -> logits (B, C)."""


class FrameNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics are those of the real frames. (B, T, ..., C), (B, T) -> (B, T, ..., C).

    Padding comes out as zero, so that convolutions behind see silence beyond an utterance's end.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self.in_place(x, mask)
        if mask.all():  # the same, without picking frames out and putting them back
            return super().forward(x.flatten(0, -2)).view_as(x)
        real = x[mask]
        result = torch.zeros_like(x)
        result[mask] = super().forward(real.flatten(0, -2)).view_as(real)
        return result

    def in_place(self, x: Tensor, mask: Tensor) -> Tensor:
        """The same without picking real frames out: how many there are, a GPU need not tell."""
        real = mask.view(*mask.shape, *[1] * (x.ndim - 2)).to(x.dtype)
        mean, variance = self.running_mean, self.running_var
        if self.training:
            axes = tuple(range(x.ndim - 1))
            n = real.sum() * x.shape[2:-1].numel()
            mean = (x * real).sum(axes) / n
            variance = ((x - mean) * real).square().sum(axes) / n
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        return ((x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias) * real


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) with each utterance's own frames in reverse order; padding stays behind them."""
    T = x.shape[1]
    t = torch.arange(T, device=x.device)
    mirrored = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return x.gather(1, mirrored[..., None].expand_as(x))


def glorot(module: nn.Module) -> None:
    """Where Keras starts: uniform weights after Glorot and Bengio 2010, biases of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def halved(lengths: Tensor) -> Tensor:
    """How many frames remain after pooling two by two, an odd one out on its own."""
    return (lengths + 1) // 2
