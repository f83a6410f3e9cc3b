"""SVM, logistic regression and random forest on the pooled vector of eq. 3.

Q13: Table 2 gives them no settings. So each is here three times: as the library leaves it, on unscaled features;
standardised; and standardised with parameters chosen by cross-validation inside the training utterances. Cortes and
Vapnik 1995; Cox 1958; Breiman 2001; all by scikit-learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hmoe.config import Config

SEED = 0  # of the forest and of the inner folds: an estimator is a function of its training rows alone


class UnscaledLogisticRegression(LogisticRegression):
    """Logistic regression by its defaults, which on unscaled features stop after 100 steps, far from the optimum.

    That is the point of the row, and no news to the user; hence no warning for each fold.
    """

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(X, y, sample_weight)


def svm(config: Config, C: int) -> SVC:
    return SVC()


def lr(config: Config, C: int) -> LogisticRegression:
    return UnscaledLogisticRegression()


def rf(config: Config, C: int) -> RandomForestClassifier:
    return RandomForestClassifier(random_state=SEED)


def scaled(
    unscaled: Callable[[Config, int], BaseEstimator], with_std: bool = True
) -> Callable[[Config, int], Pipeline]:
    """The same estimator, by its defaults, on standardised features; without `with_std` on centred ones."""
    return lambda config, C: make_pipeline(StandardScaler(with_std=with_std), unscaled(config, C))


def svm_tuned(config: Config, C: int) -> GridSearchCV:
    return tuned(SVC(), {"C": [1, 3, 10, 30], "gamma": [1e-3, 3e-3, "scale"]})


def lr_tuned(config: Config, C: int) -> GridSearchCV:
    return tuned(LogisticRegression(max_iter=2_000), {"C": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]})


def rf_tuned(config: Config, C: int) -> GridSearchCV:
    return tuned(RandomForestClassifier(random_state=SEED), {"max_features": ["sqrt", 0.1], "min_samples_leaf": [1, 3]})


def tuned(estimator: BaseEstimator, grid: dict[str, list[Any]]) -> GridSearchCV:
    """`estimator` on standardised features, with the values of `grid` that 3 inner folds prefer.

    Nothing outside the rows given to `fit` is seen: the scaler too is fitted within each inner fold.
    """
    pipeline = Pipeline([("scale", StandardScaler()), ("estimator", estimator)])
    folds = StratifiedKFold(3, shuffle=True, random_state=SEED)
    return GridSearchCV(pipeline, {f"estimator__{name}": values for name, values in grid.items()}, cv=folds)
