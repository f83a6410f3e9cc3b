"""HMoE-SiMBA that is asked not to tell its speakers apart, by an adversary or by equal moments (chapter 20).

Neither is in the paper. What is fed to the classifier, the summary h (B, D), pays for what it betrays of the speaker:
`adversarial` (Ganin et al. 2016): a second classifier reads the speaker from h, and its gradient is reversed;
`coral` (Sun and Saenko 2016): means and covariances of h are the same for all speakers. Speakers of the test fold are
in neither: only training utterances have a speaker here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.model import HMoESiMBA, Standardise
from hmoe.train import fit, predict

Kind = Literal["adversarial", "coral"]


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is multiplied by minus `strength`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def coral(h: Tensor, speakers: Tensor) -> Tensor:
    """Mean squared difference of the means and of the covariances of h (B, D), over all pairs of `speakers` (B,).

    With means, as DomainBed has it; a speaker with fewer than two utterances in the batch is left out.
    """
    groups = [h[speakers == s] for s in speakers.unique()]
    moments = [(group.mean(0), group.T.cov()) for group in groups if len(group) > 1]
    pairs = [F.mse_loss(a[0], b[0]) + F.mse_loss(a[1], b[1]) for a, b in combinations(moments, 2)]
    return torch.stack(pairs).mean() if pairs else h.new_zeros(())


class Invariant(nn.Module):
    """HMoE-SiMBA of C classes with the penalty, for `hmoe.train.fit`; targets (B, 2) are class and speaker.

    In training `forward` gives, beside the C logits, what the penalty reads: S logits of the speaker, or h.
    """

    def __init__(self, config: Config, C: int, S: int, kind: Kind, strength: float) -> None:
        super().__init__()
        self.model, self.C, self.kind, self.strength = HMoESiMBA(config, C), C, kind, strength
        D = self.model.classifier.in_features
        self.adversary = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, S)) if kind == "adversarial" else None

    @property
    def standardise(self) -> Standardise:
        return self.model.standardise

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        parts = self.model.parts(x, lengths)
        if not self.training:
            return parts["logits"]
        h = parts["summary"]
        return torch.cat([parts["logits"], self.adversary(Reverse.apply(h, self.strength)) if self.adversary else h], 1)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        logits, betraying = output[:, : self.C], output[:, self.C :]
        emotions, speakers = targets.T
        if self.kind == "adversarial":
            return F.cross_entropy(logits, emotions) + F.cross_entropy(betraying, speakers)
        return F.cross_entropy(logits, emotions) + self.strength * coral(betraying, speakers)


@dataclass(frozen=True)
class Vectors:
    """Rows of a matrix X (n, D), float32, as `hmoe.train` reads batches: one token each, and no copies."""

    X: np.ndarray
    device: str = "cpu"

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, None]:
        return self.clean(rows)

    def clean(self, rows: np.ndarray) -> tuple[Tensor, None]:
        return torch.from_numpy(self.X[rows])[:, None], None

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        return np.ones(len(rows), int)

    def moments(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(self.X[rows]).double()
        return x.mean(0).float(), x.std(0, correction=0).float()


class Network(ClassifierMixin, BaseEstimator):
    """`Invariant` as an estimator, so that scikit-learn chooses the strength; at 0 it is HMoE-SiMBA itself."""

    def __init__(self, config: Config, kind: Kind = "coral", strength: float = 0.0) -> None:
        self.config, self.kind, self.strength = config, kind, strength

    def fit(self, X: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> Self:
        """X (n, D), y (n,) classes, `speakers` (n,): whose each row is."""
        self.classes_, emotions = np.unique(y, return_inverse=True)
        names, owners = np.unique(speakers, return_inverse=True)
        self.model_, _ = fit(
            lambda: Invariant(self.config, len(self.classes_), len(names), self.kind, self.strength),
            self._inputs(X), np.stack([emotions, owners], axis=1), np.arange(len(X)), None, self.config, seed=0,
        )  # fmt: skip
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, C), a row sums to 1."""
        return predict(self.model_, self._inputs(X), np.arange(len(X))).softmax(1).double().numpy()

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @staticmethod
    def _inputs(X: np.ndarray) -> Vectors:
        return Vectors(np.asarray(X, np.float32))
