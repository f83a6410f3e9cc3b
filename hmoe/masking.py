"""Utterances of different lengths in one batch: which frames are real, and their mean."""

from __future__ import annotations

import torch
from torch import Tensor


def frame_mask(lengths: Tensor, T: int) -> Tensor:
    """(B,) lengths in frames -> (B, T), true where a frame belongs to its utterance."""
    return torch.arange(T, device=lengths.device) < lengths[:, None]


def masked_mean(frames: Tensor, mask: Tensor | None) -> Tensor:
    """Eq. 2: (B, T, D) -> (B, D), the mean over an utterance's own frames; `mask` (B, T), or None if all are real."""
    if mask is None:
        return frames.mean(dim=1)
    return (frames * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
