"""Metrics against scikit-learn and sums by hand; intervals against how often they cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from hmoe.study import metrics
from hmoe.study.metrics import (
    UNKNOWN,
    Estimate,
    equivalent,
    estimate,
    holm,
    pooled,
    profile,
    pseudo_values,
    replication,
    scores,
)

EMOTIONS = ("anger", "sadness", "happiness")


def test_scores_are_scikit_learns_in_percent() -> None:
    rng = np.random.default_rng(0)
    y, y_hat = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    found = scores(y, y_hat, EMOTIONS)
    assert found["accuracy"] == pytest.approx(100 * sk.accuracy_score(y, y_hat))
    assert found["uar"] == pytest.approx(100 * sk.balanced_accuracy_score(y, y_hat))
    assert found["precision"] == pytest.approx(100 * sk.precision_score(y, y_hat, average="macro"))
    assert found["recall"] == pytest.approx(100 * sk.recall_score(y, y_hat, average="macro"))
    assert found["f1"] == pytest.approx(100 * sk.f1_score(y, y_hat, average="macro"))
    per_class = sk.confusion_matrix(y, y_hat, normalize="true").diagonal()
    assert [found[f"acc_{emotion}"] for emotion in EMOTIONS] == pytest.approx(list(100 * per_class))


@given(st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_on_a_balanced_fold_accuracy_is_macro_recall_and_the_mean_of_the_class_accuracies(said: list[int]) -> None:
    found = scores(np.repeat([0, 1, 2], 4), np.array(said), EMOTIONS)
    assert found["accuracy"] == pytest.approx(found["recall"])
    assert found["accuracy"] == pytest.approx(np.mean([found[f"acc_{emotion}"] for emotion in EMOTIONS]))


def test_a_class_that_the_fold_lacks_has_no_accuracy_and_does_not_count() -> None:
    found = scores(np.array([0, 0, 1]), np.array([0, 1, 1]), EMOTIONS)
    assert math.isnan(found["acc_happiness"])
    assert found["uar"] == pytest.approx(75)


def test_a_class_never_predicted_has_precision_zero_without_a_warning() -> None:
    assert scores(np.array([0, 1, 2]), np.array([0, 0, 0]), EMOTIONS)["precision"] == pytest.approx(100 / 9)


def test_pseudo_values_are_the_jackknifes() -> None:
    rng = np.random.default_rng(1)
    y, y_hat = np.repeat([0, 1, 2], 20), rng.integers(0, 3, 60)
    found = pseudo_values(y, y_hat, 3)
    assert found["accuracy"] == pytest.approx(100.0 * (y == y_hat))
    for metric in ("precision", "f1", "uar"):
        without = [scores(np.delete(y, i), np.delete(y_hat, i), EMOTIONS)[metric] for i in range(60)]
        by_hand = 60 * scores(y, y_hat, EMOTIONS)[metric] - 59 * np.array(without)
        assert found[metric] == pytest.approx(by_hand)
    # The variance of a class accuracy is the binomial one of that class alone.
    error = math.sqrt(found["classes"][:, 0].var(ddof=1) / 60)
    p = np.mean(y_hat[:20] == 0)
    assert error == pytest.approx(100 * math.sqrt(p * (1 - p) / 20), rel=0.05)


def test_an_interval_adds_what_utterances_and_what_partitions_contribute() -> None:
    units = np.array([100.0, 100, 0, 100, 50])
    found = estimate(units, 4.0, 10)
    error = math.sqrt(units.var(ddof=1) / 5 + 4)
    assert (found.mean, found.n, found.error) == (70, 10, pytest.approx(error))
    assert (found.low, found.high) == pytest.approx((70 - 1.959964 * error, 70 + 1.959964 * error))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(70 / error))
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * error)


def test_without_partitions_to_judge_by_there_is_no_interval() -> None:
    found = estimate(np.array([100.0, 0, 100]), math.nan, 2)
    assert found.mean == pytest.approx(200 / 3) and math.isnan(found.low) and not found.holds(66)
    assert estimate(np.array([]), 1.0, 0).n == 0


def test_what_a_split_moves_is_the_rows_own_from_three_seeds_on_and_pooled_below() -> None:
    assert metrics.split_variance(np.array([80.0, 82, 84]), 9.0) == pytest.approx(4 / 3)
    assert metrics.split_variance(np.array([80.0, 84]), 3.0) == pytest.approx(9 / 2)
    assert math.isnan(metrics.split_variance(np.array([80.0]), math.nan))


def test_deviations_are_pooled_over_rows_that_have_three_seeds() -> None:
    def means(*accuracy: float) -> pd.DataFrame:
        return pd.DataFrame({"accuracy": accuracy, "f1": np.multiply(accuracy, 2)}, list("012")[: len(accuracy)])

    found = pooled([means(80, 82, 84), means(50, 50, 50), means(70), means(10, 90)], ["accuracy", "f1"])
    assert found.freedom == 4
    assert found.deviation() == pytest.approx(math.sqrt(8 / 4)) and found.deviation("f1") == pytest.approx(math.sqrt(8))
    assert found.paired == pytest.approx(2)  # 30, 32, 34
    assert pooled([means(70), means(10, 90)], ["accuracy"]) is UNKNOWN


def test_intervals_cover_another_corpus_as_often_as_they_claim() -> None:
    # An utterance is recognised with a probability of its own; a partition moves all of them together.
    rng, hits = np.random.default_rng(0), []
    for _ in range(400):
        p = rng.beta(8, 2, 300)
        seeds = np.array([100.0 * (rng.random(300) < np.clip(p + rng.normal(0, 0.02), 0, 1)) for _ in range(3)]).T
        hits.append(estimate(seeds.mean(1), metrics.split_variance(seeds.mean(0), math.nan), 15).holds(80))
    assert 0.92 < np.mean(hits) <= 0.99


def test_a_replication_stays_in_its_interval_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    inside, same = [], []
    for _ in range(1000):
        ours, printed = rng.normal(80, 0.9, 3).mean(), rng.normal(80, 0.9)
        deviation = 0.9 * math.sqrt(stats.chi2.rvs(20, random_state=rng) / 20)
        apart = replication(ours, 3, printed, deviation, 20)
        inside.append(apart.holds(0))
        far = replication(ours + 2.5, 3, printed, deviation, 20)  # just not equivalent
        same.append(equivalent(far, 2.5, 20))
    assert 0.93 < np.mean(inside) < 0.97
    assert np.mean(same) < 0.07


def test_equivalence_needs_an_interval_inside_the_margin() -> None:
    apart = replication(80.0, 3, 79.9, 0.9, 50)
    assert equivalent(apart, 2.5, 50) and not equivalent(apart, 1.0, 50)
    assert not equivalent(replication(82.0, 3, 79.9, 0.9, 50), 2.5, 50)
    assert not equivalent(replication(80.0, 3, 79.9, math.nan, 0), 2.5, 0)


def test_a_profile_of_classes_is_hotellings() -> None:
    rng, covariance = np.random.default_rng(0), np.array([[4.0, -1, 0], [-1, 4, 0], [0, 0, 1]])
    rejected = []
    for _ in range(1000):
        known = np.cov(rng.multivariate_normal(np.zeros(3), covariance, 31).T)
        ours = rng.multivariate_normal([80, 70, 60], covariance, 3).mean(0)
        rejected.append(profile(ours, rng.multivariate_normal([80, 70, 60], covariance), 3, known, 30) < 0.05)
    assert 0.03 < np.mean(rejected) < 0.075
    assert profile(np.array([80, 70, 60]), np.array([70, 80, 60]), 3, covariance, 30) < 0.001
    assert math.isnan(profile(np.array([80, 70, 60]), np.array([70, 80, 60]), 3, covariance, 5))


def test_an_estimate_prints_its_interval_or_its_speakers() -> None:
    found = Estimate(83.04, 80.0, 86.08, 5)
    assert str(found) == "83.0 [80.0, 86.1]"
    assert [found.holds(value) for value in (79.9, 80.0, 83, 86.08, 86.1)] == [False, True, True, True, False]
    assert Estimate(1.24, -0.31, 2.7, 5).signed() == "+1.2 [−0.3, +2.7]"
    assert Estimate(1.24, -0.31, 2.7, 5).signed(0) == "+1 [−0, +3]"
    assert Estimate(-2, math.nan, math.nan, 1).signed() == "−2.0"
    speakers = Estimate(50.0, 45, 55, 4, parts={"a": 73.0, "b": 43.0, "c": 50.0, "d": 34.0})
    assert str(speakers) == "50.0 (73.0, 43.0, 50.0, 34.0)"
    assert speakers.signed() == "+50.0 (+73.0, +43.0, +50.0, +34.0)"


def test_many_speakers_have_an_interval_and_few_are_shown_one_by_one() -> None:
    values = [30.0 + k for k in range(24)]
    many = metrics.over_speakers({str(k): value for k, value in enumerate(values)}, 48)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (many.mean, many.n) == (41.5, 48) and (many.low, many.high) == pytest.approx(interval, rel=1e-9)
    assert str(many) == "41.5 [38.5, 44.5]" and many.holds(38.6) and not many.holds(38.4)
    few = metrics.over_speakers({"a": 40.0, "b": 60.0}, 2)
    assert str(few) == "50.0 (40.0, 60.0)" and math.isnan(few.low)


def test_an_interval_ends_where_percentages_end() -> None:
    assert Estimate(98, 95, 101, 5).within(0, 100) == Estimate(98, 95, 100, 5)


def test_chance_is_tested_utterance_by_utterance() -> None:
    assert metrics.beyond_chance(327, 1200, 1 / 6) == pytest.approx(stats.binom.sf(326, 1200, 1 / 6), rel=1e-9)
    assert metrics.beyond_chance(200, 1200, 1 / 6) > 0.4


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, of which none may fall: .06
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_keeps_the_order_and_is_at_most_bonferroni(p_values: list[float]) -> None:
    p = np.array(p_values)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, p * len(p)) + 1e-15).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_leaves_what_was_not_tested_untold() -> None:
    assert np.isnan(holm(np.array([0.01, np.nan]))).tolist() == [False, True]
