"""A row's model, of whichever library: fitted to rows of a corpus, asked for the classes of others."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from hmoe import peers
from hmoe.base.errors import TrainingError
from hmoe.config import Config
from hmoe.inputs.batches import Inputs
from hmoe.model import count_parameters
from hmoe.readings import READINGS
from hmoe.train import Run, fit, predict


class Classifier(Protocol):
    """What a trial needs of a model. `run` is the history of its training, empty where there are no epochs."""

    run: Run

    @property
    def parameters(self) -> int:
        """Trainable parameters; 0 where a model has none in this sense."""

    def predict(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) class indices of clean utterances."""

    def last(self) -> Self:
        """The same training after its last epoch, where it kept the best one too."""


@dataclass
class Network:
    """A `torch.nn.Module`, trained by `hmoe.train`."""

    model: nn.Module
    run: Run

    @property
    def parameters(self) -> int:
        return count_parameters(self.model)

    def predict(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        return predict(self.model, inputs, rows).argmax(1).cpu().numpy()

    def last(self) -> Self:
        if not self.run.last:
            return self
        self.model.load_state_dict(self.run.last)
        return replace(self, run=replace(self.run, best_epoch=self.run.epoch, last={}))


@dataclass
class Estimator:
    """A scikit-learn estimator: one vector an utterance, fitted once."""

    model: BaseEstimator
    run: Run = field(default_factory=Run)

    @property
    def parameters(self) -> int:
        return 0

    def predict(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(vectors(inputs, rows))

    def last(self) -> Self:
        return self


def trained(
    config: Config, C: int, inputs: Inputs, labels: np.ndarray, speakers: np.ndarray, train: np.ndarray,
    held_out: np.ndarray | None, seed: int, checkpoint: Path | None = None, graphs: bool = False,
) -> Classifier:  # fmt: skip
    """The model that `config` names, for C classes, fitted to the rows `train`; `held_out` chooses a network's epoch.

    An estimator whose `fit` takes `speakers` is told whose each row is, and reads the augmented copies beside the clean
    utterances; all others read clean ones alone.
    """
    if config.model in peers.NETWORKS:
        build = partial(peers.build, config, C)
        return Network(*fit(build, inputs, labels, train, held_out, config, seed, checkpoint, graphs=graphs))
    model = peers.build(config, C)
    copies = range(config.copies + 1 if config.augment and hears_speakers(model) else 1)
    X = np.concatenate([vectors(inputs, train, copy) for copy in copies])
    rows = np.tile(train, len(copies))
    return Estimator(fit_estimator(model, X, labels[rows], speakers[rows]))


def hears_speakers(model: BaseEstimator) -> bool:
    """Whether `fit` of the estimator takes `speakers`."""
    return "speakers" in inspect.signature(model.fit).parameters


def fit_estimator(model: BaseEstimator, X: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> BaseEstimator:
    """`model` fitted to `X` (n, D) and `labels` (n,), and told `speakers` (n,) if it asks."""
    return model.fit(X, labels, speakers) if hears_speakers(model) else model.fit(X, labels)


def vectors(inputs: Inputs, rows: np.ndarray, copy: int = 0) -> np.ndarray:
    """(len(rows), D), as scikit-learn reads them. TrainingError for frames: it would read the first one alone."""
    if READINGS[inputs.reading].sequence:
        raise TrainingError(
            f"reading {inputs.reading!r}", "the model reads one vector an utterance", "--set reading=statistics"
        )
    return inputs.batch(rows, np.full(len(rows), copy))[0][:, 0].cpu().numpy()
