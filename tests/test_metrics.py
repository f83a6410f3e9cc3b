"""Metrics against scikit-learn, scipy and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from hmoe.study.metrics import Estimate, difference, holm, interval, mcnemar, paired_test, scores

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


def test_the_interval_is_nadeau_and_bengios_by_hand() -> None:
    values = np.array([80.0, 84, 82, 86, 83])
    estimate = interval(values, test_share=0.25)
    assert estimate.mean == pytest.approx(83)
    half = 2.7764451051977987 * math.sqrt((1 / 5 + 1 / 4) * 5)  # t of 4 degrees, (9 + 1 + 1 + 9 + 0) / 4
    assert (estimate.low, estimate.high) == pytest.approx((83 - half, 83 + half))
    assert estimate.n == 5
    uncorrected = stats.t.interval(0.95, 4, 83, stats.sem(values))
    assert interval(values, 0).low == pytest.approx(uncorrected[0])


def test_an_interval_leaves_out_what_is_missing_and_needs_two_trials() -> None:
    assert interval(np.array([80, np.nan, 84]), 0.25) == interval(np.array([80, 84]), 0.25)
    one = interval(np.array([80.0]), 0.25)
    assert (one.mean, one.n) == (80, 1)
    assert math.isnan(one.low)
    assert not one.holds(80)
    assert interval(np.array([]), 0.25).n == 0


def test_an_estimate_prints_and_holds_what_lies_inside() -> None:
    estimate = Estimate(83.04, 80.0, 86.08, 5)
    assert str(estimate) == "83.0 [80.0, 86.1]"
    assert [estimate.holds(value) for value in (79.9, 80.0, 83, 86.08, 86.1)] == [False, True, True, True, False]


def test_intervals_cover_the_mean_as_often_as_they_claim() -> None:
    # 15 independent trials: without correction coverage is exact; correlated ones of 4:1 splits need the correction.
    rng = np.random.default_rng(0)
    independent = [interval(rng.normal(80, 3, 15), 0).holds(80) for _ in range(1000)]
    assert 0.93 < np.mean(independent) < 0.97
    rho = 0.2  # n_test / (n_test + n_train), the correlation that Nadeau and Bengio suppose
    shared = rng.normal(0, 3 * rho**0.5, (1000, 1))
    correlated = 80 + shared + rng.normal(0, 3 * (1 - rho) ** 0.5, (1000, 15))
    assert 0.93 < np.mean([interval(values, 0.25).holds(80) for values in correlated]) < 0.97
    assert np.mean([interval(values, 0).holds(80) for values in correlated]) < 0.8


def test_the_paired_test_is_a_t_test_where_nothing_is_corrected_and_milder_where_something_is() -> None:
    a, b = np.array([80.0, 84, 82, 86, 83]), np.array([79.0, 82, 82, 83, 81])
    assert paired_test(a, b, 0) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    t = 1.6 / math.sqrt((1 / 5 + 1 / 4) * 1.3)  # differences 1 2 0 3 2: variance (.36 + .16 + 2.56 + 1.96 + .16) / 4
    assert paired_test(a, b, 0.25) == pytest.approx(2 * stats.t.sf(t, 4))
    assert paired_test(a, b, 0.25) == pytest.approx(paired_test(b, a, 0.25))


def test_a_difference_of_means_is_welchs_where_nothing_is_corrected_and_wider_where_something_is() -> None:
    a, b = np.array([80.0, 84, 82, 86, 83]), np.array([30.0, 41, 25, 36])
    known, voices = difference(a, 0, b, 0), stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (known.mean, known.low, known.high) == pytest.approx((50, voices.low, voices.high))
    assert known.n == 4
    corrected = difference(a, 0.25, b, 0.25)
    assert corrected.low < known.low
    mirrored = difference(b, 0.25, a, 0.25)
    assert (mirrored.low, mirrored.high) == pytest.approx((-corrected.high, -corrected.low))
    assert math.isnan(difference(a, 0.25, b[:1], 0.25).low)
    assert difference(a[:1].repeat(3), 0.25, a[:1].repeat(2), 0.25) == Estimate(0, 0, 0, 2)


def test_a_difference_is_written_with_its_sign() -> None:
    assert Estimate(1.24, -0.31, 2.7, 5).signed() == "+1.2 [−0.3, +2.7]"
    assert Estimate(1.24, -0.31, 2.7, 5).signed(0) == "+1 [−0, +3]"
    assert Estimate(-2, math.nan, math.nan, 1).signed() == "−2.0"


def test_equal_differences_are_certain() -> None:
    a = np.array([80.0, 84, 82])
    assert paired_test(a, a, 0.25) == 1.0
    assert paired_test(a, a - 1, 0.25) == 0.0


def test_mcnemar_is_a_sign_test_on_the_disagreements() -> None:
    a = np.array([True] * 10 + [False] * 90)
    b = np.array([True] * 3 + [False] * 7 + [True] * 1 + [False] * 89)
    # 7 against 1: 2 (C(8,0) + C(8,1)) / 2^8
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 8) / 256)
    assert mcnemar(b, a) == pytest.approx(2 * (1 + 8) / 256)
    assert mcnemar(a, a) == 1.0


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
