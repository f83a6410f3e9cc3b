"""Linear classifiers where columns outnumber rows: all layers of an encoder, thousands of columns (chapter 24).

Columns are standardised and turned to the principal components of the training rows, all of them: nothing is lost, and
what follows is as small as the rows are many. How much is shrunk is chosen inside the training rows, by leaving out
speakers where the tested speaker is new, else by stratified folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from scipy.linalg import solve
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import BaseCrossValidator, GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hmoe.base.errors import TrainingError
from hmoe.config import Config
from hmoe.peers.classical import SEED

INNER = 6  # folds of training speakers at most; of fewer speakers each is one


class Discriminant(ClassifierMixin, BaseEstimator):
    """Linear discriminant with a shrunk covariance and equal priors, as scikit-learn's LDA(solver="lsqr").

    That one solves by singular values, which takes thirty times as long at this width.
    """

    def __init__(self, shrinkage: float = 0.3) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        self.classes_, y = np.unique(y, return_inverse=True)
        means = np.stack([X[y == c].mean(axis=0) for c in range(len(self.classes_))])
        within = (centred := X - means[y]).T @ centred / len(X)
        shrunk = (1 - self.shrinkage) * within
        shrunk[np.diag_indices_from(shrunk)] += self.shrinkage * np.trace(within) / len(within)
        self.coef_ = solve(shrunk, means.T, assume_a="pos").T
        self.intercept_ = -0.5 * (means * self.coef_).sum(axis=1)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[(X @ self.coef_.T + self.intercept_).argmax(axis=1)]


CLASSIFIERS: dict[str, tuple[BaseEstimator, dict[str, list[Any]]]] = {
    "ridge": (RidgeClassifier(), {"alpha": [100, 300, 1_000, 3_000, 10_000, 30_000]}),
    "discriminant": (Discriminant(), {"shrinkage": [0.03, 0.1, 0.3, 0.6]}),
    "svm": (SVC(), {"C": [1, 10, 100]}),
}
"""By name, with the settings to choose from."""


class Wide(ClassifierMixin, BaseEstimator):
    """One of `CLASSIFIERS` on the principal components. `across`: settings are chosen by leaving out speakers."""

    def __init__(self, kind: str, across: bool = False) -> None:
        self.kind, self.across = kind, across

    def fit(self, X: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> Self:
        """X (n, D), y (n,) classes, `speakers` (n,): whose each row is; at least two for `across`."""
        if self.across and len(set(speakers)) < 2:
            what = "are chosen by leaving out training speakers, and there is one"
            raise TrainingError("settings", what, "add speakers")
        estimator, settings = CLASSIFIERS[self.kind]
        folds = by_speaker(speakers) if self.across else StratifiedKFold(3, shuffle=True, random_state=SEED)
        search = GridSearchCV(clone(estimator), settings, cv=folds)
        pipeline = make_pipeline(StandardScaler(), PCA(svd_solver="full"), search)
        self.fitted_ = pipeline.fit(X, y, gridsearchcv__groups=speakers if self.across else None)
        self.classes_ = self.fitted_.classes_
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.fitted_.predict(X)


def by_speaker(speakers: np.ndarray) -> BaseCrossValidator:
    """Inner folds that leave out training speakers, one at a time where there are few."""
    return GroupKFold(min(INNER, len(set(speakers))))


def builder(kind: str, across: bool) -> Callable[[Config, int], Wide]:
    return lambda config, C: Wide(kind, across)
