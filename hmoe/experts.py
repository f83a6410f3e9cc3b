"""§3.4: the heterogeneous experts. Each maps (B, T, D_in) to (B, T, d_model) and never looks at padding.

"An LSTM, a CNN, and a Transformer encoder", "each using Mamba blocks with differentiated state-space parameters"
(Q4: `d_state_share` of D_state; `expert_mamba=False` leaves the Mamba blocks out).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.base.errors import ConfigError
from hmoe.config import Architecture
from hmoe.mamba import MambaBlock

EXPERTS: dict[str, type[Expert]] = {}
"""What `config.experts` may name."""


def check(config: Architecture) -> None:
    """Raises ConfigError if `config.experts` names an expert that nobody has defined."""
    if unknown := [name for name in config.experts if name not in EXPERTS]:
        remedy = f"known: {', '.join(EXPERTS)}; another is a subclass of `hmoe.experts.Expert`"
        raise ConfigError("config field 'experts'", f"got {unknown[0]!r}", remedy)


class Expert(nn.Module):
    """What the experts share: a projection of the features before, a Mamba block after.

    A subclass gives its name, the share of D_state that its Mamba block has, and `extract` between the two.
    Q4, "differentiated": the wider an expert sees by itself, the longer the memory that its Mamba block adds.
    """

    d_state_share: float

    def __init_subclass__(cls, name: str, d_state_share: float) -> None:
        """Makes the class known. Raises ConfigError if another class has its name."""
        cls.d_state_share = d_state_share
        known = EXPERTS.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):  # a cell may run again
            what = f"{known.__module__}.{known.__qualname__} has this name already"
            raise ConfigError(f"expert {name!r}", what, "give another one")
        EXPERTS[name] = cls

    def __init__(self, d_in: int, config: Architecture) -> None:
        super().__init__()
        self.project = nn.Linear(d_in, config.d_model)
        d_state = max(1, int(config.d_state * self.d_state_share))
        self.mamba = (
            MambaBlock(config.d_model, d_state, config.d_conv, config.expand) if config.expert_mamba else nn.Identity()
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """`tokens` (B, T, D_in); `mask` (B, T) true where real, None if all are. Returns H_k (B, T, d_model)."""
        return self.mamba(self.extract(self.project(tokens), mask))


class LSTMExpert(Expert, name="lstm", d_state_share=1.0):
    """ "Captures long-range temporal dependencies." One direction, hence causal: padding behind is never seen."""

    def __init__(self, d_in: int, config: Architecture) -> None:
        super().__init__(d_in, config)
        self.lstm = nn.LSTM(config.d_model, config.d_model, config.lstm_layers, batch_first=True)

    def extract(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        return self.lstm(hidden)[0]


class CNNExpert(Expert, name="cnn", d_state_share=0.25):
    """ "Extracts local patterns and short-duration emotional cues." Convolutions over time, zeros beyond the end."""

    def __init__(self, d_in: int, config: Architecture) -> None:
        super().__init__(d_in, config)
        D, k = config.d_model, config.kernel_size
        self.convolutions = nn.ModuleList(nn.Conv1d(D, D, k, padding=k // 2) for _ in range(config.cnn_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(config.cnn_layers))
        self.dropout = nn.Dropout(config.dropout)

    def extract(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            real = hidden if mask is None else hidden * mask[..., None]
            if hidden.shape[1] == 1:  # zeros on both sides leave the middle tap; the same sum, without im2col
                local = F.linear(real, convolution.weight[:, :, convolution.padding[0]], convolution.bias)
            else:
                local = convolution(real.transpose(1, 2)).transpose(1, 2)
            hidden = self.dropout(F.relu(norm(local)))
        return hidden


class TransformerExpert(Expert, name="transformer", d_state_share=0.5):
    """ "Uses self-attention to capture both local and global dependencies." Padding is no key to anyone."""

    def __init__(self, d_in: int, config: Architecture) -> None:
        super().__init__(d_in, config)
        D = config.d_model
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(D, config.heads, 2 * D, config.dropout, batch_first=True, norm_first=True)
            for _ in range(config.transformer_layers)
        )

    def extract(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        hidden = hidden + positions(hidden.shape[1], hidden.shape[2], hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=None if mask is None else ~mask)
        return hidden


def positions(T: int, D: int, device: torch.device | None = None) -> Tensor:
    """(T, D) sinusoids of Vaswani et al. 2017: sines in the even channels, cosines in the odd ones."""
    rates = torch.exp(torch.arange(0, D, 2, device=device) * (-math.log(10_000.0) / D))
    angles = torch.arange(T, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :D]
