"""Accuracy and its relatives, and intervals over folds and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support


def scores(y: np.ndarray, y_hat: np.ndarray, emotions: tuple[str, ...]) -> dict[str, float]:
    """All metrics of Table 2, in percent. `y`, `y_hat` (n,) class indices.

    `uar`, `precision`, `f1` are unweighted means over classes; `recall` is `uar` under the paper's name.
    `acc_<emotion>` is the share of that emotion's utterances that were recognised (the paper's "class-wise
    accuracy"); NaN where the test fold holds none.
    """
    classes = np.arange(len(emotions))
    present = np.isin(classes, y)
    precision, recall, f1, support = precision_recall_fscore_support(y, y_hat, labels=classes, zero_division=0.0)
    result = {
        "accuracy": np.mean(y == y_hat),
        "uar": recall[present].mean(),
        "precision": precision[present].mean(),
        "recall": recall[present].mean(),
        "f1": f1[present].mean(),
    }
    result |= {f"acc_{emotion}": recall[c] if support[c] else math.nan for c, emotion in enumerate(emotions)}
    return {name: 100 * float(value) for name, value in result.items()}


@dataclass(frozen=True)
class Estimate:
    """A mean over trials and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + (f" [{self.low:.1f}, {self.high:.1f}]" if self.n > 1 else "")

    def holds(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)

    def signed(self, decimals: int = 1) -> str:
        """As a difference is written: "+1.2 [−0.3, +2.7]"."""
        ends = f" [{self.low:+.{decimals}f}, {self.high:+.{decimals}f}]" if self.n > 1 else ""
        return f"{self.mean:+.{decimals}f}{ends}".replace("-", "−")


def _corrected_error(values: np.ndarray, test_share: float) -> float:
    """Standard error of a mean over resampled splits, after Nadeau and Bengio (2003).

    Trials that share training utterances are not independent; the variance is scaled by 1/J + n_test/n_train
    instead of 1/J. `test_share` is n_test / n_train.
    """
    return math.sqrt((1 / len(values) + test_share) * values.var(ddof=1))


def interval(values: np.ndarray, test_share: float) -> Estimate:
    """Mean of J trials (fold x seed) with the corrected resampled t interval; no interval from a single trial."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    half = stats.t.ppf(0.975, len(values) - 1) * _corrected_error(values, test_share)
    return Estimate(mean, mean - half, mean + half, len(values))


def difference(a: np.ndarray, share_a: float, b: np.ndarray, share_b: float) -> Estimate:
    """Mean of `a` minus mean of `b`, trials on different splits: Welch's interval with the corrected errors.

    `share_a`, `share_b`: n_test / n_train of each. No interval where one of the two is a single trial.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    mean, n = float(a.mean() - b.mean()), min(len(a), len(b))
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    variances = np.array([_corrected_error(a, share_a) ** 2, _corrected_error(b, share_b) ** 2])
    if variances.sum() == 0:
        return Estimate(mean, mean, mean, n)
    freedom = variances.sum() ** 2 / (variances**2 / [len(a) - 1, len(b) - 1]).sum()
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variances.sum())
    return Estimate(mean, mean - half, mean + half, n)


def paired_test(a: np.ndarray, b: np.ndarray, test_share: float) -> float:
    """p value (two-sided) of the corrected resampled t-test on the differences of J trials on the same splits."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    error = _corrected_error(difference, test_share)
    if error == 0:
        return 1.0 if difference.mean() == 0 else 0.0
    return float(2 * stats.t.sf(abs(difference.mean()) / error, len(difference) - 1))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Exact McNemar p value: do two classifiers err on the same utterances equally often? (n,) booleans each."""
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    return 1.0 if only_a + only_b == 0 else float(stats.binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction for testing several differences at once."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
