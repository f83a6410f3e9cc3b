"""PARROT: two branches, their Hadamard product, each carried to the other by optimal transport, one classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.model import HMoESiMBA, Standardise
from hmoe.parrot.cached import HMOE, depths, widths

WIDTH = 120  # of a branch
EPSILON, ITERATIONS = 0.05, 50  # of Sinkhorn
ANCHORS = 128  # training utterances that a single utterance is transported among
PARTS = {"concatenation": 2, "hadamard": 1, "transport": 4, "parrot": 5}
"""How many vectors of `WIDTH` each fusion gives to the classifier."""


def cost(p: Tensor, q: Tensor) -> Tensor:
    """(B, W), (M, W) -> (B, M): Euclidean distances, divided by the greatest."""
    distance = torch.cdist(p, q)
    return distance / distance.max().clamp(min=1e-9)


def sinkhorn(p: Tensor, q: Tensor, epsilon: float = EPSILON, iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
    """The plan (B, M) between rows of uniform mass, and log_v (M,), its potential on the side of `q`; differentiable.

    Log-domain Sinkhorn of POT: plan = exp(-cost / epsilon + log_u + log_v).
    """
    import ot  # here: a GPU's machine that does without PARROT does without these 33 MB

    uniform = [p.new_full((len(rows),), 1 / len(rows)) for rows in (p, q)]
    plan, log = ot.bregman.sinkhorn_log(
        *uniform, cost(p, q), epsilon, numItermax=iterations, stopThr=0, warn=False, log=True
    )
    return plan, log["log_v"]


def across(p: Tensor, q: Tensor) -> Tensor:
    """The rows of `p` carried to those of `q`, (B, W): for each row of `q` the mean of `p`, weighted by the plan.

    The plan is taken as given, without a gradient, and scaled by B so that weights add up to one.
    """
    with torch.no_grad():
        plan, _ = sinkhorn(p, q)
    return len(q) * plan.T @ p


def across_one_by_one(p: Tensor, q: Tensor, anchors_p: Tensor, anchors_q: Tensor) -> Tensor:
    """The same, where each row of `q` meets fixed anchors (M, W) instead of its batch: the plan's own extension.

    A column of a plan is softmax(log_u - cost / epsilon), which is defined at any point of q's space; log_u is that of
    the anchors' plan. So a row's result depends on no other row.
    """
    with torch.no_grad():
        # With the sides swapped, the potential of p's anchors is the second.
        _, log_u = sinkhorn(anchors_q, anchors_p)
        greatest = torch.cdist(anchors_p, anchors_q).max().clamp(min=1e-9)
        weights = torch.softmax(log_u - torch.cdist(q, anchors_p) / greatest / EPSILON, dim=1)
    return weights @ anchors_p


class WeightedSum(nn.Module):
    """L layers of an encoder (B, L D) -> (B, D), by weights that are learned with the rest (SUPERB, Yang et al. 2021).

    The mean over time of a sum is the sum of means, so pooled layers are weighted as their frames would be.
    """

    def __init__(self, L: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(L))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("l,bld->bd", self.logits.softmax(0), x.unflatten(1, (len(self.logits), -1)))


class Branch(nn.Module):
    """A pooled embedding (B, D), or L layers of one, read as a sequence of one channel -> (B, 120)."""

    def __init__(self, D: int, filters: int, L: int = 1) -> None:
        super().__init__()
        D //= L
        self.layers = nn.Sequential(
            *([WeightedSum(L)] if L > 1 else []), nn.Unflatten(1, (1, D)),
            nn.Conv1d(1, filters, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(filters, 2 * filters, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2),
            nn.Flatten(), nn.Linear(2 * filters * (D // 4), WIDTH),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class HMoEBranch(nn.Module):
    """HMoE-SiMBA as a branch, trained with the rest: pooled features (B, D) -> its summary -> (B, 120)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.body = HMoESiMBA(config.replace(reading="pooled", encoders=(), encoder_window=0.0), 1)
        self.body.classifier = nn.Identity()
        self.project = nn.Linear(config.d_selected if config.simba else config.d_model, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.body.parts(x[:, None])["summary"])


class PARROT(nn.Module):
    """`config.encoders` names one encoder, which then stands alone, or two; `config.fusion` what becomes of them.

    `forward(x, lengths)`: `x` (B, 1, D_p + D_q), pooled embeddings side by side -> logits (B, C). In training,
    transport is among the rows of the batch. In evaluation it is so with `config.plan` "batch", in larger ones, so a
    prediction depends on who else is in the batch; with "anchors" it is among training utterances seen last.
    """

    anchors: Tensor
    seen: Tensor
    batch_matters = True

    def __init__(self, config: Config, C: int) -> None:
        super().__init__()
        if len(config.encoders) not in (1, 2) or config.reading != "embeddings":
            what = f"got {config.encoders!r} with reading {config.reading!r}"
            raise ConfigError("config field 'encoders'", what, "PARROT reads the embeddings of one or two encoders")
        self.config, self.widths = config, widths(config)
        self.standardise = Standardise(sum(self.widths), torch.arange(sum(self.widths)))
        self.branches = nn.ModuleList(
            HMoEBranch(config) if name == HMOE else Branch(D, config.filters, L)
            for name, D, L in zip(config.encoders, self.widths, depths(config), strict=True)
        )
        parts = PARTS[config.fusion] if len(self.branches) == 2 else 1
        self.classifier = nn.Sequential(
            nn.Linear(parts * WIDTH, 128), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(128, C)
        )
        self.register_buffer("anchors", torch.zeros(ANCHORS, sum(self.widths)))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def branch(self, x: Tensor) -> list[Tensor]:
        """(B, D_p + D_q) -> one or two tensors (B, 120)."""
        parts = self.standardise(x).split(self.widths, dim=1)
        return [F.relu(branch(part)) for branch, part in zip(self.branches, parts, strict=True)]

    def fused(self, x: Tensor) -> Tensor:
        R = self.branch(x)
        if len(R) == 1:
            return R[0]
        p, q = R
        kind = self.config.fusion
        if kind == "concatenation":
            return torch.cat(R, dim=1)
        parts = [p * q] if kind in ("hadamard", "parrot") else []
        if kind in ("transport", "parrot"):
            if self.training or self.config.plan == "batch":
                p_at_q, q_at_p = across(p, q), across(q, p)
            else:
                others_p, others_q = self.branch(self.anchors[: int(self.seen)])
                p_at_q = across_one_by_one(p, q, others_p, others_q)
                q_at_p = across_one_by_one(q, p, others_q, others_p)
            parts += [p_at_q, q, q_at_p, p]  # F_q and F_p
        return torch.cat(parts, dim=1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x[:, 0]
        if self.training:
            self.anchors = torch.cat([x, self.anchors])[:ANCHORS].detach()
            self.seen = (self.seen + len(x)).clamp(max=ANCHORS)
        return self.classifier(self.fused(x))
