"""Q1 as data: from a bank of features to the tensor that a model reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.inputs.bank import Bank
from hmoe.masking import frame_mask
from hmoe.readings import READINGS

Indices = TypeVar("Indices", np.ndarray, Tensor)


@dataclass(frozen=True)
class Held:
    """Every utterance in every copy, on the device: `tokens` (sum of T, D), all behind one another.

    `first`, `lengths` (copies + 1, n): where each begins, and how many of them are its own.
    """

    tokens: Tensor
    first: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Inputs:
    """Batches of one reading.

    `frames`: (B, T, D) padded, with lengths. `statistics`: (B, 1, 5 D); `prosody`: (B, 1, P); both side by side:
    (B, 1, 5 D + P). `embeddings`: (B, 1, D), of encoders (`hmoe.parrot.cached`), behind the other two where it names
    them; `frames` of encoders stand behind ours. All others read the pooled vector of
    eq. 3 as (B, 1, D); `modalities` and `features` take it apart inside the model.
    """

    bank: Bank
    reading: str
    stride: int
    device: str
    own: tuple[Tensor, Tensor] | None = None  # mean and deviation (n, 1, D) of the speaker of each row
    held: Held | None = None

    @classmethod
    def of(cls, bank: Bank, config: Config, device: str = "cpu", speakers: np.ndarray | None = None) -> Inputs:
        """`speakers` (n,) says whose each row is, which `config.by_speaker` needs.

        Then every dimension has mean 0 and deviation 1 over the clean utterances of each speaker, those of a test
        speaker included: no label is used, but several utterances of the same person must be at hand.
        """
        plain = cls(bank, config.reading, config.frame_stride, device)
        if not config.by_speaker:
            return plain
        if speakers is None:
            raise ConfigError("config field 'by_speaker'", "got True without speakers", "give Inputs.of the speakers")
        moments = {name: plain.moments(np.flatnonzero(speakers == name)) for name in np.unique(speakers)}
        mean, deviation = (torch.stack([moments[name][k] for name in speakers])[:, None] for k in (0, 1))
        return replace(plain, own=(mean, torch.where(deviation > 1e-6, deviation, 1.0)))

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """`rows` (B,) of the corpus table, `copies` (B,) with 0 the clean utterance -> x (B, T, D), lengths (B,)."""
        if self.held is not None:
            T = int(self.lengths(rows, copies).max())
            return self.gather(*(torch.from_numpy(each).to(self.device) for each in (rows, copies)), T)
        rows, copies = self.places(rows, copies)
        return self._by_speaker(*self._read(rows, copies), rows)

    def places(self, rows: Indices, copies: Indices) -> tuple[Indices, Indices]:
        """Where `rows` in `copies` stand in the bank."""
        return rows, copies

    def _by_speaker(self, x: Tensor, lengths: Tensor | None, rows: Indices) -> tuple[Tensor, Tensor | None]:
        if self.own is not None:
            mean, deviation = self.own
            x = (x - mean[rows]) / deviation[rows]
        return x, lengths

    def hold(self) -> Self:
        """The same inputs, after the bank was put on the device whole: one copy before a training, none during it.

        Float32: CASIA's 1200 utterances in 33 copies are 1 GB at 12.5 frames a second, 41 MB averaged over time.
        """
        n, sequence = len(self.bank.ids), READINGS[self.reading].sequence
        every = [(np.arange(n), np.full(n, copy)) for copy in range(self.bank.copies + 1)]
        T = [self.bank.lengths(*one, self.stride) if sequence else np.ones(n, int) for one in every]
        ends = np.cumsum(T).reshape(len(T), n)
        tokens = None
        for one, end in zip(every, ends[:, -1], strict=True):
            if sequence:
                read = torch.from_numpy(np.concatenate(self.bank.frames(*one, self.stride)))
            else:
                read = self._read(*one)[0][:, 0]
            if tokens is None:
                tokens = torch.empty(int(ends[-1, -1]), read.shape[1], device=self.device)
            tokens[end - len(read) : end] = read
        places = (torch.from_numpy(each).to(self.device) for each in (ends - np.stack(T), np.stack(T)))
        return replace(self, held=Held(tokens, *places))

    def gather(self, rows: Tensor, copies: Tensor, T: int) -> tuple[Tensor, Tensor | None]:
        """`batch` by indices on the device, of what is held there; `T` tokens, as many as the longest has.

        Nothing here waits for the device, and every shape is known beforehand.
        """
        rows, copies = self.places(rows, copies)
        first, lengths = self.held.first[copies, rows], self.held.lengths[copies, rows]
        t = torch.arange(T, device=rows.device)
        real = t < lengths[:, None]
        x = self.held.tokens[first[:, None] + torch.where(real, t, 0)]
        x = torch.where(real[..., None], x, 0)
        return self._by_speaker(x, lengths if READINGS[self.reading].sequence else None, rows)

    def _read(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        reading = READINGS[self.reading]
        if reading.sequence:
            sequences = [torch.from_numpy(frames) for frames in self.bank.frames(rows, copies, self.stride)]
            lengths = torch.tensor([len(frames) for frames in sequences])
            return pad_sequence(sequences, batch_first=True).to(self.device), lengths.to(self.device)
        parts = [getattr(self.bank, block)(rows, copies) for block in reading.blocks]
        return torch.from_numpy(np.concatenate(parts, axis=1)).to(self.device)[:, None], None

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        """(B,) tokens of each, to put utterances of like length together; all equal but in `frames`."""
        rows, copies = self.places(rows, copies)
        if READINGS[self.reading].sequence:
            return self.bank.lengths(rows, copies, self.stride)
        return np.ones(len(rows), int)

    def clean(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return self.batch(rows, np.zeros(len(rows), int))

    def moments(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) over the clean frames of `rows`: what standardisation may know."""
        total, squares, count = 0.0, 0.0, 0
        for chunk in np.array_split(rows, max(1, len(rows) // 256)):
            x, lengths = self.clean(chunk)
            real = x.double().flatten(0, 1) if lengths is None else x[frame_mask(lengths, x.shape[1])].double()
            total, squares, count = total + real.sum(0), squares + (real**2).sum(0), count + len(real)
        mean = total / count
        return mean.float(), (squares / count - mean**2).clamp(min=0).sqrt().float()
