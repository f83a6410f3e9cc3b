"""§3.2 once more, for batches on a CPU or a GPU: equal to `hmoe.features`, whose filters it uses.

A saved model brings its filters along: to import librosa and scipy takes longer than to judge a recording.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmoe.base.errors import ConfigError
from hmoe.config import Features
from hmoe.features import AMIN, DEFAULT, DELTA_WIDTH, TOP_DB, chroma_filters, mel_filters
from hmoe.masking import frame_mask


class Extractor(nn.Module):
    """(B, S) samples, padded on the right, and lengths (B,) -> (B, T, D) float32 frames and their numbers (B,).

    Frames of padding are zero, and no frame depends on what stands beside or behind its utterance. Calculates in
    double precision, because single precision would be off by 0.01 dB where a band is 80 dB below the loudest.
    """

    def __init__(self, features: Features = DEFAULT, known: Mapping[str, Tensor] | None = None) -> None:
        """`known`: the `filters` of these features, if they are at hand. ConfigError where they are of others."""
        super().__init__()
        self.features = features
        known = made(features) if known is None else known
        for name, shape in _shapes(features).items():
            if name not in known or known[name].shape != shape:
                found = tuple(known[name].shape) if name in known else "missing"
                raise ConfigError(f"filters {name!r}", f"are {found}, not {shape}", "make them anew")
            if not known[name].isfinite().all():
                raise ConfigError(f"filters {name!r}", "are not finite", "make them anew")
            self.register_buffer(name, known[name].double(), persistent=False)
        window = torch.hann_window(features.window, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)

    def filters(self) -> dict[str, Tensor]:
        """What spectra are multiplied by: all that another extractor of the same features needs to hear the same."""
        return {name: getattr(self, name) for name in _shapes(self.features)}

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = 1 + lengths // self.features.hop
        power = self.power(torch.where(frame_mask(lengths, waves.shape[1]), waves, 0))
        real = frame_mask(frames, power.shape[2])[:, None]  # (B, 1, T)

        log_mel = 10 * torch.log10(torch.clamp(self.mel @ power, min=AMIN))
        loudest = log_mel.where(real, -torch.inf).amax(dim=(1, 2), keepdim=True)
        log_mel = torch.maximum(log_mel, loudest - TOP_DB)
        if self.features.level == "utterance":
            log_mel = log_mel - loudest
        mfcc = self.cosines @ log_mel
        deltas = self._deltas(mfcc, frames) if self.features.deltas else []
        chroma = self.chroma @ power
        size = chroma.amax(dim=1, keepdim=True)
        chroma = chroma / torch.where(size < torch.finfo(size.dtype).tiny, 1, size)

        together = torch.cat([mfcc, *deltas, log_mel, chroma], dim=1)
        return torch.where(real, together, 0).mT.float(), frames

    def power(self, waves: Tensor) -> Tensor:
        """(B, S) -> (B, n_fft // 2 + 1, T), the power of each bin in each frame."""
        grid = {"n_fft": self.features.n_fft, "hop_length": self.features.hop, "win_length": self.features.window}
        spectrum = torch.stft(
            waves.double(), window=self.window, center=True, pad_mode="constant", return_complex=True, **grid
        )
        return spectrum.real**2 + spectrum.imag**2

    def _deltas(self, mfcc: Tensor, frames: Tensor) -> list[Tensor]:
        """(B, n_mfcc, T) -> two of the same shape: first and second differences, an utterance's edge frames held on."""
        last = frames[:, None] - 1
        held = torch.minimum(torch.arange(mfcc.shape[2], device=mfcc.device), last)[:, None].expand_as(mfcc)
        around = F.pad(mfcc.gather(2, held), (DELTA_WIDTH // 2, DELTA_WIDTH // 2), mode="replicate")
        slopes = F.conv1d(around.flatten(0, 1)[:, None], self.slopes)
        return list(slopes.unflatten(0, mfcc.shape[:2]).unbind(2))


def made(features: Features) -> dict[str, Tensor]:
    """The filters of an `Extractor`, as librosa and scipy make them."""
    from scipy.fft import dct
    from scipy.signal import savgol_coeffs

    rate, n_fft = features.sample_rate, features.n_fft
    arrays = {
        "mel": mel_filters(rate, n_fft, features.n_mels),
        "chroma": chroma_filters(rate, n_fft, features.n_chroma),
        "cosines": dct(np.eye(features.n_mels), norm="ortho", axis=0)[: features.n_mfcc],
        "slopes": np.stack([savgol_coeffs(DELTA_WIDTH, order, deriv=order, use="dot") for order in (1, 2)])[:, None],
    }
    return {name: torch.tensor(array) for name, array in arrays.items()}


def _shapes(features: Features) -> dict[str, tuple[int, ...]]:
    bins = features.n_fft // 2 + 1
    return {
        "mel": (features.n_mels, bins),
        "chroma": (features.n_chroma, bins),
        "cosines": (features.n_mfcc, features.n_mels),
        "slopes": (2, 1, DELTA_WIDTH),
    }
