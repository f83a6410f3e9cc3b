"""Classifiers for voices that nobody heard before: settings are chosen by leaving out training speakers.

Cross-validation within speakers prefers what tells known voices apart. Here each inner fold is a speaker, so a setting
is judged by what will be asked of it (chapter 20). scikit-learn does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from hmoe.base.errors import TrainingError
from hmoe.config import Config
from hmoe.inputs.prosody import NAMES
from hmoe.peers.unseen.invariant import Kind, Network

LEAST = 1e-3  # probability that an averaged vote counts at least, so that no member has a veto

REGRESSION = LogisticRegression(max_iter=3_000), {"C": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]}
STRENGTHS = [0.0, 0.1, 1.0, 10.0]  # of the penalty on what tells speakers apart
DISCRIMINANT = LinearDiscriminantAnalysis(solver="lsqr"), {"shrinkage": [0.03, 0.1, 0.3, 0.6]}

Member = tuple[slice, BaseEstimator, dict[str, list[Any]]]  # which columns, by what, with which settings to try


class AcrossSpeakers(ClassifierMixin, BaseEstimator):
    """Each member reads its columns; the logarithms of their probabilities are averaged.

    `balanced`: among the utterances given to `predict` all classes are equally frequent, and their probabilities are
    scaled until the sums say so. Then a prediction depends on the others beside it, and on that being true.
    """

    def __init__(self, members: tuple[Member, ...], balanced: bool = False) -> None:
        self.members = members
        self.balanced = balanced

    def fit(self, X: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> Self:
        """X (n, D), y (n,) classes, `speakers` (n,): whose each row is; at least two."""
        self.classes_ = np.unique(y)
        self.fitted_ = [
            _fitted(estimator, settings, X[:, part], y, speakers) for part, estimator, settings in self.members
        ]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, C), a row sums to 1."""
        columns = [columns for columns, _, _ in self.members]
        votes = [
            np.log(each.predict_proba(X[:, part]) + LEAST) for part, each in zip(columns, self.fitted_, strict=True)
        ]
        p = np.exp(np.mean(votes, axis=0))
        return (evened(p) if self.balanced else p / p.sum(axis=1, keepdims=True)).astype(float)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _fitted(
    estimator: BaseEstimator, settings: dict[str, list[Any]], X: np.ndarray, y: np.ndarray, speakers: np.ndarray
) -> BaseEstimator:
    """A member, standardised; its settings, if there are any to choose, by leaving out each training speaker."""
    pipeline = Pipeline([("scale", StandardScaler()), ("estimator", clone(estimator))])
    # scikit-learn hands on the rows that an inner fold trains on.
    told = {"estimator__speakers": speakers} if isinstance(estimator, Network) else {}
    if not settings:
        return pipeline.fit(X, y, **told)
    if len(set(speakers)) < 2:
        raise TrainingError("settings", "are chosen by leaving out training speakers, and there is one", "add speakers")
    choices = {f"estimator__{name}": values for name, values in settings.items()}
    return GridSearchCV(pipeline, choices, cv=LeaveOneGroupOut()).fit(X, y, groups=speakers, **told)


def evened(p: np.ndarray, rounds: int = 200) -> np.ndarray:
    """(n, C) -> (n, C): rows and columns scaled in turn until each row sums to 1 and all columns to the same."""
    n, C = p.shape
    for _ in range(rounds):
        p = p * (n / C / p.sum(axis=0))
        p = p / p.sum(axis=1, keepdims=True)
    return p


def statistics(config: Config, C: int) -> AcrossSpeakers:
    return AcrossSpeakers(((slice(None), *REGRESSION),))


def prosody(config: Config, C: int) -> AcrossSpeakers:
    return AcrossSpeakers(((slice(None), *DISCRIMINANT),))


def both(config: Config, C: int) -> AcrossSpeakers:
    """For the reading `statistics+prosody`: one member for each of the two."""
    P = len(NAMES)
    return AcrossSpeakers(((slice(None, -P), *REGRESSION), (slice(-P, None), *DISCRIMINANT)))


def balanced(config: Config, C: int) -> AcrossSpeakers:
    return AcrossSpeakers(both(config, C).members, balanced=True)


def network(config: Config, C: int) -> AcrossSpeakers:
    """HMoE-SiMBA without a penalty."""
    return AcrossSpeakers(((slice(None), Network(config), {}),))


def penalised(kind: Kind) -> Callable[[Config, int], AcrossSpeakers]:
    """HMoE-SiMBA with a penalty on what tells speakers apart."""
    return lambda config, C: AcrossSpeakers(((slice(None), Network(config, kind), {"strength": STRENGTHS}),))


def apart(config: Config, C: int) -> AcrossSpeakers:
    """A network for each expert alone; their answers are averaged, not their hidden states."""
    return AcrossSpeakers(tuple((slice(None), Network(config.replace(experts=(e,))), {}) for e in config.experts))


def everyone(config: Config, C: int) -> AcrossSpeakers:
    """The two of `both`, and HMoE-SiMBA."""
    return AcrossSpeakers((*both(config, C).members, (slice(None), Network(config), {})))
