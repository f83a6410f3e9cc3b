"""What the router does: its weights for each test utterance, and the same model with other weights (chapter 8).

Trained once for each fold as in Table 2; then the weights alone are changed, or the test utterances get noise. Nothing
is fitted to a test fold: the constant that stands against the router is its mean over the training utterances.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hmoe.base.errors import ConfigError
from hmoe.base.files import atomic_write
from hmoe.config import Config
from hmoe.inputs.batches import Inputs
from hmoe.model import HMoESiMBA
from hmoe.study.experiments import WEIGHTS
from hmoe.study.store import Store
from hmoe.study.trial import Trial
from hmoe.train import predict


class Routed(nn.Module):
    """One of the `parts` of a trained model, with `weights` (K,) for every utterance; None: those of its router."""

    def __init__(self, model: HMoESiMBA, weights: Tensor | None = None, part: str = "logits") -> None:
        super().__init__()
        self.model, self.weights, self.part = model, weights, part

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        weights = None if self.weights is None else self.weights.expand(len(x), -1)
        return self.model.parts(x, lengths, weights)[self.part]


def routing(model: HMoESiMBA, inputs: Inputs, rows: np.ndarray) -> Tensor:
    """g(x) of clean utterances, (len(rows), K)."""
    return predict(Routed(model, part="g"), inputs, rows)


def check(config: Config) -> None:
    """Raise ConfigError unless a model of this configuration can be put under each of `WEIGHTS`."""
    if config.model != "hmoe-simba":
        raise ConfigError(
            "config field 'model'", f"got {config.model!r}, which has no router", "leave it at hmoe-simba"
        )
    if missing := set(WEIGHTS[3:]) - {f"{name} alone" for name in config.experts}:
        raise ConfigError("config field 'experts'", f"no {min(missing)!r}", "the experiment needs all experts")


def forced(model: HMoESiMBA, inputs: Inputs, train: np.ndarray) -> dict[str, Routed]:
    """The trained model under each of `WEIGHTS`; `train` are the rows whose mean weights are the constant."""
    check(model.config)
    K = len(model.experts)
    constants = [None, routing(model, inputs, train).mean(dim=0), torch.full((K,), 1 / K), *torch.eye(K)]
    names = [*WEIGHTS[:3], *(f"{name} alone" for name in model.experts)]
    versions = zip(names, constants, strict=True)
    return {name: Routed(model, g if g is None else g.to(inputs.device)) for name, g in versions}


def keep(store: Store, trial: Trial, ids: pd.Series, weights: dict[str, Tensor]) -> None:
    """Write the weights (n, K) of the test utterances `ids` in each condition, beside the records of the fold."""
    experts = list(trial.config.experts)
    tables = {name: pd.DataFrame(g.cpu().numpy(), ids, experts) for name, g in weights.items()}
    text = io.StringIO()
    pd.concat(tables, axis=1).to_csv(text, float_format="%.3f", lineterminator="\n")
    atomic_write(folder(store) / f"{trial.config.key()}-{trial.seed}-{trial.split.fold}.csv", text.getvalue())


def kept(store: Store, config: Config) -> pd.DataFrame:
    """What `keep` wrote of all folds: a column for each expert, indexed by trial, condition and id."""
    paths = sorted(folder(store).glob(f"{config.key()}-*.csv"))
    tables = {path.stem.partition("-")[2]: pd.read_csv(path, header=[0, 1], index_col=0) for path in paths}
    by_condition = {
        (trial, condition): table[condition]
        for trial, table in tables.items()
        for condition in dict.fromkeys(table.columns.get_level_values(0))
    }
    nothing = {("", ""): pd.DataFrame(columns=list(config.experts), index=pd.Index([], dtype=str), dtype=float)}
    return pd.concat(by_condition or nothing, names=["trial", "condition", "id"])


def folder(store: Store) -> Path:
    return store.folder / "weights"


def entropy(g: pd.DataFrame) -> pd.Series:
    """Of weights (n, K), a row each, as a share of ln K: 1 for equal weights, 0 for all on one expert."""
    return -(g * np.log(g.clip(lower=1e-12))).sum(axis=1) / np.log(g.shape[1])


def explained(g: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """Which share of each expert's variance knowing the group of a row explains (eta squared), 0 to 1."""
    return g.groupby(np.asarray(groups)).transform("mean").var() / g.var()
