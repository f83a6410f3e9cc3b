"""Fig. 1: features -> experts weighted by the router (eq. 5) -> SiMBA (eq. 7–9) -> classifier (eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.experts import EXPERTS, check
from hmoe.features import columns
from hmoe.masking import frame_mask, masked_mean
from hmoe.readings import READINGS
from hmoe.router import Router
from hmoe.simba import SiMBA


class Standardise(nn.Module):
    """Zero mean and unit variance per dimension, with statistics of training utterances (Q10); keeps `columns`.

    The statistics travel with the weights. (B, T, D) -> (B, T, len(columns)).
    """

    mean: Tensor
    deviation: Tensor
    columns: Tensor

    def __init__(self, D: int, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("deviation", torch.ones(D))
        self.register_buffer("columns", columns, persistent=False)

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """`mean`, `deviation` (D,); a dimension that never moves is centred and not scaled."""
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation)[..., self.columns]


def kept_columns(config: Config, beside: int = 0) -> tuple[Tensor, int]:
    """Which of the D input columns belong to `config.modalities` (Q15), and D, in the reading's layout.

    `beside` columns of an encoder follow, all kept; without a modality they stand alone.
    """
    reading, width = READINGS[config.reading], sum(config.dims.values())
    ours = reading.width(width) if config.modalities else 0
    if reading.prosody:
        return torch.arange(ours), ours
    kept = torch.from_numpy(columns(config, config.modalities))
    return torch.cat(
        [kept + first for first in range(0, ours, width)] + [torch.arange(ours, ours + beside)]
    ), ours + beside


class HMoESiMBA(nn.Module):
    """The paper's model in any reading of Q1. ConfigError if the configuration names an unknown expert.

    `forward(x, lengths)`: `x` (B, T, 260) frames, T = 1 for pooled vectors; `lengths` (B,) frames, None if all
    utterances fill T. Returns logits (B, C); `parts` returns every intermediate tensor by the paper's name.
    """

    def __init__(self, config: Config, C: int, beside: int = 0) -> None:
        super().__init__()
        check(config)
        self.config = config
        kept, D = kept_columns(config, beside)
        self.standardise = Standardise(D, kept)
        widths = [config.dims[name] for name in config.dims if name in config.modalities]
        self.modalities = len(widths)
        owner = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths, dtype=torch.long))
        self.register_buffer("owner", owner, persistent=False)  # the modality of each column
        d_pooled = len(kept)
        self.token = READINGS[config.reading].token
        d_token = 1 if self.token == "column" else d_pooled
        self.experts = nn.ModuleDict({name: EXPERTS[name](d_token, config) for name in config.experts})
        self.router = Router(d_pooled, len(self.experts), config)
        self.simba = SiMBA(config) if config.simba else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_selected if config.simba else config.d_model, C)

    def tokens(self, x: Tensor) -> Tensor:
        """Q1: what a time step is. `frames` and `pooled` take x as it is; the other two take the vector apart."""
        if self.token == "column":
            return x.transpose(1, 2)  # (B, D, 1): 260 tokens of one channel
        if self.token == "modality":  # (B, M, D): a token a modality, zero where the others stand
            return x * (self.owner == torch.arange(self.modalities, device=x.device)[:, None])
        return x

    def parts(self, x: Tensor, lengths: Tensor | None = None, routing: Tensor | None = None) -> dict[str, Tensor]:
        """`routing` (B, K), if given, takes the place of g(x)."""
        mask = None if lengths is None else frame_mask(lengths, x.shape[1])
        x = self.standardise(x)
        pooled = masked_mean(x, mask)  # F_in, eq. 2–3
        tokens = self.tokens(x)
        H = torch.stack([expert(tokens, mask) for expert in self.experts.values()], dim=1)  # (B, K, T, D)
        g = self.router(pooled) if routing is None else routing  # eq. 6
        # Eq. 5: \mathbf{H}_{HMoE}(\mathbf{x}) = \sum_{k=1}^{K} g_k(\mathbf{x}) \mathbf{H}_k(\mathbf{x})
        H_hmoe = torch.einsum("bk,bktd->btd", g, H)
        H_simba = self.simba(H_hmoe, lengths) if self.simba else H_hmoe
        summary = masked_mean(H_simba, mask)
        named = {"F_in": pooled, "H": H, "g": g, "H_HMoE": H_hmoe, "H_SiMBA": H_simba, "summary": summary}
        # Eq. 1: \hat{y} = \mathrm{argmax}_{y} p(y | \mathbf{F}(\mathbf{x}); \mathbf{\Theta}), p their softmax
        return named | {"logits": self.classifier(self.dropout(summary))}

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.parts(x, lengths)["logits"]


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
