"""Accuracy and its relatives, and how far each can be trusted: over utterances, partitions and seeds.

Two questions, two intervals. *What would another corpus of this kind give?* Utterances and partitions are both drawn
anew: `estimate`. *What would another laboratory get on this corpus?* The utterances stay; the partition and the seed
are drawn anew: `replication` and `profile`. How often each interval covers what it should is simulated in chapter 23.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import special  # its functions are those of scipy.stats, which takes a second of CPU to import

CONFIDENCE = 0.95
POWER = 0.8
_Z = float(special.ndtri(0.5 + CONFIDENCE / 2))
_DETECT = _Z + float(special.ndtri(POWER))


def measures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics of Table 2, in percent, from confusion counts (..., C, C), true class by row.

    `accuracy`, `uar`, `precision`, `recall`, `f1` are (...); `classes` is (..., C). Means are over the classes that
    occur; precision is 0 for a class that is never predicted; a class that does not occur has the accuracy NaN.
    """
    right, occurs, said = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / occurs
        precision = np.where(said > 0, right / said, 0.0)
        f1 = 2 * right / (occurs + said)
    present = occurs > 0

    def mean(of_class: np.ndarray) -> np.ndarray:
        return np.where(present, of_class, 0.0).sum(-1) / present.sum(-1)

    uar = mean(recall)
    found = {"accuracy": right.sum(-1) / occurs.sum(-1), "uar": uar, "precision": mean(precision), "recall": uar}
    return {name: 100 * value for name, value in (found | {"f1": mean(f1), "classes": recall}).items()}


def scores(y: np.ndarray, y_hat: np.ndarray, emotions: tuple[str, ...]) -> dict[str, float]:
    """All metrics of Table 2, in percent. `y`, `y_hat` (n,) class indices.

    `uar`, `precision`, `f1` are unweighted means over classes; `recall` is `uar` under the paper's name.
    `acc_<emotion>` is the share of that emotion's utterances that were recognised (the paper's "class-wise
    accuracy"); NaN where the test fold holds none.
    """
    found = measures(_counts(y, y_hat, len(emotions)))
    by_class = found.pop("classes")
    found |= {f"acc_{emotion}": by_class[c] for c, emotion in enumerate(emotions)}
    return {name: float(value) for name, value in found.items()}


def _counts(y: np.ndarray, y_hat: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion counts (C, C), true class by row."""
    return np.bincount(y * n_classes + y_hat, minlength=n_classes**2).reshape(n_classes, n_classes)


def pseudo_values(y: np.ndarray, y_hat: np.ndarray, n_classes: int) -> dict[str, np.ndarray]:
    """What each utterance adds to each metric, (n,) in percent; `classes` is (n, C).

    Tukey's jackknife: n θ − (n − 1) θ₋ᵢ, with θ₋ᵢ the metric without utterance i (Miller, "The jackknife: a review",
    Biometrika 1974). For the accuracy it is 100 for an utterance that is recognised and 0 for another; for precision
    and F1, which are no means over utterances, it lets the same formulas serve.
    """
    counts, n = _counts(y, y_hat, n_classes), len(y)
    cells = np.eye(n_classes**2).reshape(-1, n_classes, n_classes)
    without = np.maximum(counts - cells, 0)  # of an empty cell nothing is asked
    whole, less = measures(counts.astype(float)), measures(without)
    at = y * n_classes + y_hat
    return {name: (n * whole[name] - (n - 1) * less[name])[at] for name in whole}


FEW = 6  # speakers who are shown one by one: an interval of so few says nothing


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval, and what both rest on. An interval that nothing supports is NaN."""

    mean: float
    low: float
    high: float
    n: int  # trials
    error: float = math.nan  # standard error, same unit as the mean
    parts: Mapping[str, float] = field(default_factory=dict)  # by speaker, where speakers are what was held out

    def __str__(self) -> str:
        if 0 < len(self.parts) <= FEW:
            return f"{self.mean:.1f} ({self._by_speaker('.1f')})"
        return f"{self.mean:.1f}" + ("" if math.isnan(self.low) else f" [{self.low:.1f}, {self.high:.1f}]")

    def holds(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)

    def signed(self, decimals: int = 1) -> str:
        """As a difference is written: "+1.2 [−0.3, +2.7]"."""
        if 0 < len(self.parts) <= FEW:
            text = f"{self.mean:+.{decimals}f} ({self._by_speaker(f'+.{decimals}f')})"
        else:
            ends = f" [{self.low:+.{decimals}f}, {self.high:+.{decimals}f}]"
            text = f"{self.mean:+.{decimals}f}" + ("" if math.isnan(self.low) else ends)
        return text.replace("-", "−")

    def _by_speaker(self, form: str) -> str:
        return ", ".join(f"{value:{form}}" for value in self.parts.values())

    @property
    def p_value(self) -> float:
        """Two-sided, of the mean being 0, by the normal approximation that the interval uses."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * special.ndtr(-abs(self.mean) / self.error))

    @property
    def detectable(self) -> float:
        """The smallest true difference that would have been found in 80 of 100 repetitions: 2.8 standard errors.

        Bloom, "Minimum detectable effects", Evaluation Review 1995.
        """
        return _DETECT * self.error

    def within(self, low: float, high: float) -> Estimate:
        """The same with an interval that ends where values end: a percentage lies between 0 and 100."""
        return replace(self, low=max(self.low, low), high=min(self.high, high))


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def estimate(units: np.ndarray, split_variance: float, n: int) -> Estimate:
    """Mean of `units` (n utterances, each averaged over the seeds that tested it), and its interval.

    The error is sqrt(var(units) / n + `split_variance`): utterances are drawn from those that could have been
    recorded, partitions and seeds from those that could have been dealt. Two crossed random factors, as in
    generalisability theory (Brennan, 2001, ch. 2), with the normal quantile, as n is in the hundreds.
    `split_variance` is the variance of the mean that the second factor makes: that of the seeds' means, by their
    number; NaN if nothing says how large it is, and then there is no interval. `n` is the number of trials.
    """
    units = np.asarray(units, float)
    if len(units) == 0:
        return NOTHING
    mean = float(units.mean())
    if len(units) == 1 or math.isnan(split_variance):
        return Estimate(mean, math.nan, math.nan, n)
    error = math.sqrt(units.var(ddof=1) / len(units) + split_variance)
    return Estimate(mean, mean - _Z * error, mean + _Z * error, n, error)


def over_speakers(parts: Mapping[str, float], n: int) -> Estimate:
    """Mean of what each speaker who was held out gives; of more than `FEW` with the interval of Student's t, as if
    they were drawn from all who could have spoken. `n` is the number of trials."""
    values = np.array(list(parts.values()))
    mean = float(values.mean())
    if len(values) <= FEW:
        return Estimate(mean, math.nan, math.nan, n, parts=parts)
    reach = float(special.stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * values.std(ddof=1) / math.sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach, n, reach / _Z, parts)


@dataclass(frozen=True)
class Splits:
    """How far a row moves when only its partition and its seed are drawn anew, pooled over rows that have three.

    `covariance` is of the means of seeds, metric by metric, in squared points; `paired` is the deviation of the
    difference of two rows that share their partitions; `freedom` counts the degrees of freedom of both.
    """

    covariance: pd.DataFrame
    paired: float
    freedom: int

    def deviation(self, metric: str = "accuracy") -> float:
        """In points; NaN where no row has three seeds."""
        return math.sqrt(self.covariance.loc[metric, metric]) if self.freedom else math.nan


UNKNOWN = Splits(pd.DataFrame(), math.nan, 0)
SEEDS = 3  # from so many on, a row's own seeds say how much they scatter


def pooled(means: list[pd.DataFrame], metrics: list[str]) -> Splits:
    """From the seeds' means of each row (seeds x metrics): the covariance within rows. Rows of one seed say nothing."""
    apart = [some - some.mean() for some in means if len(some) >= SEEDS]
    if not apart:
        return UNKNOWN
    freedom = sum(len(some) - 1 for some in apart)
    covariance = sum(some[metrics].T @ some[metrics] for some in apart) / freedom
    accuracy = pd.DataFrame({k: some["accuracy"] for k, some in enumerate(apart)}).to_numpy()  # (seeds, rows)
    squares = []
    for k in range(len(apart)):
        between = accuracy[:, k, None] - accuracy[:, :k]  # NaN where one of the two has no such seed
        shared = between[:, np.isfinite(between).sum(axis=0) >= SEEDS]
        squares += list(np.nanvar(shared, axis=0, ddof=1))
    return Splits(covariance, math.sqrt(np.mean(squares)) if squares else math.nan, freedom)


def split_variance(seed_means: np.ndarray, deviation: float) -> float:
    """The variance of a mean over seeds: by the row's own seeds from three on, else by the pooled `deviation`."""
    seed_means = np.asarray(seed_means, float)
    own = seed_means.var(ddof=1) if len(seed_means) >= SEEDS else deviation**2
    return float(own / len(seed_means)) if len(seed_means) else math.nan


def replication(ours: float, seeds: int, printed: float, deviation: float, freedom: int) -> Estimate:
    """Our mean over seeds less the printed mean of one partition of the same corpus, with its prediction interval.

    If both come from one method, the difference has mean 0 and variance s² (1 + 1/S), s the `deviation` of one
    partition and seed (Whitmore, "Prediction limits for a univariate normal observation", American Statistician 1986).
    """
    error = deviation * math.sqrt(1 + 1 / seeds) if seeds else math.nan
    reach = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error if freedom else math.nan
    return Estimate(ours - printed, ours - printed - reach, ours - printed + reach, seeds, error)


def equivalent(apart: Estimate, margin: float, freedom: int, level: float = 0.05) -> bool:
    """Is a difference shown to be smaller than `margin`? Two one-sided tests.

    Schuirmann, "A comparison of the two one-sided tests procedure", J. Pharmacokinetics and Biopharmaceutics 1987.
    """
    if not freedom or math.isnan(apart.error):
        return False
    reach = float(special.stdtrit(freedom, 1 - level)) * apart.error
    return -margin < apart.mean - reach and apart.mean + reach < margin


def profile(ours: np.ndarray, printed: np.ndarray, seeds: int, covariance: np.ndarray, freedom: int) -> float:
    """p value: are all of the printed class accuracies (C,) of one partition what our method gives on this corpus?

    Hotelling's T² with the pooled covariance (C, C) of one partition and seed (Anderson, "An introduction to
    multivariate statistical analysis", 2003, ch. 5). NaN where too few rows were repeated to know the covariance.
    """
    d, size = np.asarray(ours, float) - np.asarray(printed, float), len(ours)
    if freedom < 2 * size or np.isnan(d).any():
        return math.nan
    t_squared = float(d @ np.linalg.solve(covariance, d)) / (1 + 1 / seeds)
    return float(special.fdtrc(size, freedom - size + 1, t_squared * (freedom - size + 1) / (freedom * size)))


def beyond_chance(right: int, n: int, chance: float) -> float:
    """p value, one-sided, of the exact binomial test: are more utterances recognised than by guessing?"""
    return float(special.bdtrc(right - 1, n, chance))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction for testing several differences at once (Holm, Scand. J. Statist. 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
