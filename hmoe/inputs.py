"""Q1 as data: from a bank of features to the tensor that a model reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hmoe.bank import Bank
from hmoe.config import Config

N_STATISTICS = 5  # mean, standard deviation, 10th, 50th and 90th percentile


@dataclass(frozen=True)
class Inputs:
    """Batches of one reading.

    `frames`: (B, T, D) padded, with lengths. `statistics`: (B, 1, 5 D). All others read the pooled vector of
    eq. 3 as (B, 1, D); `modalities` and `features` take it apart inside the model.
    """

    bank: Bank
    reading: str
    stride: int
    device: str

    @classmethod
    def of(cls, bank: Bank, config: Config, device: str = "cpu") -> Inputs:
        return cls(bank, config.reading, config.frame_stride, device)

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """`rows` (B,) of the corpus table, `copies` (B,) with 0 the clean utterance -> x (B, T, D), lengths (B,)."""
        if self.reading == "frames":
            sequences = [torch.from_numpy(frames) for frames in self.bank.frames(rows, copies, self.stride)]
            lengths = torch.tensor([len(frames) for frames in sequences])
            return pad_sequence(sequences, batch_first=True).to(self.device), lengths.to(self.device)
        take = self.bank.statistics if self.reading == "statistics" else self.bank.pooled
        return torch.from_numpy(take(rows, copies)).to(self.device)[:, None], None

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        """(B,) tokens of each, to put utterances of like length together; all equal but in `frames`."""
        if self.reading == "frames":
            return self.bank.lengths(rows, copies, self.stride)
        return np.ones(len(rows), int)

    def clean(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return self.batch(rows, np.zeros(len(rows), int))

    def moments(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) over the clean frames of `rows`: what standardisation may know."""
        total, squares, count = 0.0, 0.0, 0
        for chunk in np.array_split(rows, max(1, len(rows) // 256)):
            x, lengths = self.clean(chunk)
            real = x.double().flatten(0, 1) if lengths is None else _real(x, lengths).double()
            total, squares, count = total + real.sum(0), squares + (real**2).sum(0), count + len(real)
        mean = total / count
        return mean.float(), (squares / count - mean**2).clamp(min=0).sqrt().float()


def _real(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) -> (sum of lengths, D): the frames that are not padding."""
    return x[torch.arange(x.shape[1], device=x.device) < lengths[:, None]]
