"""After TLFMRF: Chen, Su, Feng, Wu, She, Hirota, "Two-layer fuzzy multiple random forest", Inf. Sci. 509 (2020).

Fuzzy C-means splits the training utterances into overlapping subclasses, each has a random forest, and the forests
vote with the weight of an utterance's memberships. A second layer decides between emotions that the first confuses.

Room: our statistics stand for theirs (personalised: of the features; non-personalised: of their differences, which
are among ours); the number of subclasses, the space they are found in (leading principal components: in 1300
dimensions all distances are alike) and what counts as confused are ours.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import kmeans_plusplus
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hmoe.config import Config

SEED = 0
FUZZINESS = 2.0  # Bezdek's m; near 1 the memberships are 0 or 1
COMPONENTS = 8


def tlfmrf(config: Config, C: int) -> TwoLayerForests:
    return TwoLayerForests()


def fuzzy_c_means(X: np.ndarray, K: int, iterations: int = 100, tolerance: float = 1e-5) -> np.ndarray:
    """Bezdek 1981: the centres (K, D) of K fuzzy clusters of X (n, D)."""
    centres, _ = kmeans_plusplus(X, K, random_state=SEED)
    for _ in range(iterations):
        weights = memberships(X, centres) ** FUZZINESS
        moved = weights.T @ X / weights.sum(axis=0)[:, None]
        if np.abs(moved - centres).max() < tolerance:
            break
        centres = moved
    return centres


def memberships(X: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n, K): how far each row belongs to each centre; a row sums to 1."""
    squared = ((X[:, None] - centres) ** 2).sum(axis=-1).clip(min=1e-12)
    closeness = squared ** (-1 / (FUZZINESS - 1))
    return closeness / closeness.sum(axis=1, keepdims=True)


class FuzzyForests(ClassifierMixin, BaseEstimator):
    """One layer: a random forest for each fuzzy subclass, and their weighted vote."""

    def __init__(self, n_subclasses: int = 3, n_estimators: int = 100) -> None:
        self.n_subclasses = n_subclasses
        self.n_estimators = n_estimators

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        self.classes_ = np.unique(y)
        self.space_ = make_pipeline(StandardScaler(), PCA(min(COMPONENTS, *X.shape), random_state=SEED)).fit(X)
        Z = self.space_.transform(X)
        self.centres_ = fuzzy_c_means(Z, self.n_subclasses)
        belonging = memberships(Z, self.centres_)
        # An utterance trains every forest of which it is at least an average member: subclasses overlap.
        self.forests_ = [
            RandomForestClassifier(self.n_estimators, random_state=SEED).fit(X[rows], y[rows])
            for rows in (belonging >= 1 / self.n_subclasses).T
        ]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, C): the forests' votes, weighted by membership."""
        weights = memberships(self.space_.transform(X), self.centres_)
        votes = np.zeros((len(X), len(self.classes_)))
        for forest, weight in zip(self.forests_, weights.T, strict=True):
            # A subclass may lack an emotion; its forest then gives it no vote.
            votes[:, np.searchsorted(self.classes_, forest.classes_)] += weight[:, None] * forest.predict_proba(X)
        return votes

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class TwoLayerForests(ClassifierMixin, BaseEstimator):
    """The first layer names two candidates; if it is known to confuse them, a layer of their own decides.

    `n_pairs`: how many pairs of emotions count as confused, those most often taken for one another when each of 3
    folds of the training utterances is predicted from the others.
    """

    def __init__(self, n_pairs: int = 3, n_subclasses: int = 3, n_estimators: int = 100) -> None:
        self.n_pairs = n_pairs
        self.n_subclasses = n_subclasses
        self.n_estimators = n_estimators

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        layer = FuzzyForests(self.n_subclasses, self.n_estimators)
        self.first_ = clone(layer).fit(X, y)
        self.classes_ = self.first_.classes_
        folds = StratifiedKFold(3, shuffle=True, random_state=SEED)
        confusions = confusion_matrix(y, cross_val_predict(layer, X, y, cv=folds), labels=self.classes_)
        self.second_ = {}
        for pair in confused_pairs(confusions, self.n_pairs):
            rows = np.isin(y, self.classes_[list(pair)])
            self.second_[pair] = clone(layer).fit(X[rows], y[rows])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        votes = self.first_.predict_proba(X)
        result = self.classes_[votes.argmax(axis=1)]
        candidates = np.sort(np.argsort(votes, axis=1)[:, -2:], axis=1)
        for pair, layer in self.second_.items():
            rows = (candidates == pair).all(axis=1)
            if rows.any():
                result[rows] = layer.predict(X[rows])
        return result


def confused_pairs(confusions: np.ndarray, n: int) -> list[tuple[int, int]]:
    """The n pairs (i < j) of classes with the most confusions in either direction; none that is never confused."""
    mutual = np.triu(confusions + confusions.T, k=1)
    order = np.argsort(-mutual, axis=None, kind="stable")[:n]
    pairs = [tuple(map(int, np.unravel_index(index, mutual.shape))) for index in order]
    return [pair for pair in pairs if mutual[pair]]
