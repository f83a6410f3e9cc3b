"""The audit passes tables that can be, and marks those that cannot."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold

from hmoe.study import audit, metrics
from hmoe.study.audit import CASIA, Design
from hmoe.study.experiments import METRICS, TABLE_2

EMOTIONS = ("anger", "sadness", "happiness", "neutral", "fear", "surprise")
PAPER = pd.DataFrame(
    [row.paper for row in TABLE_2.rows if len(row.paper) == len(METRICS)],
    [row.name for row in TABLE_2.rows if len(row.paper) == len(METRICS)],
    list(METRICS),
)


def printed(y: np.ndarray, y_hat: np.ndarray) -> pd.DataFrame:
    scores = metrics.scores(y, y_hat, EMOTIONS)
    return pd.DataFrame([{name: round(scores[name], 1) for name in METRICS}], index=["real"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.95), st.floats(0.3, 0.95))
def test_a_table_from_real_predictions_passes(seed: int, one: float, other: float) -> None:
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(6), 200)
    said = (np.where(rng.random(1200) < accuracy, y, rng.integers(0, 6, 1200)) for accuracy in (one, other))
    findings = audit.audit(pd.concat([printed(y, y_hat) for y_hat in said]).set_axis(["one", "other"]))
    assert set(findings["check"]) == {check.name for check in audit.CHECKS}
    assert findings["possible"].all(), findings[~findings["possible"]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(5, 60), min_size=2, max_size=5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2),
    st.sampled_from(["macro", "weighted"]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_stratified_folds_of_any_classes_give_passes(
    counts: list[int], folds: int, runs: int, decimals: int, average: str, truncated: bool, seed: int
) -> None:
    """Classes of unequal sizes; pooled in each run, then averaged over runs; rounded or cut off."""
    rng, classes = np.random.default_rng(seed), [f"class {c}" for c in range(len(counts))]
    y = np.repeat(np.arange(len(counts)), counts)
    scores = []
    for _ in range(runs):
        y_hat = np.where(rng.random(len(y)) < 0.7, y, rng.integers(0, len(counts), len(y)))
        one = metrics.scores(y, y_hat, tuple(classes))
        if average == "weighted":
            _, _, f1, _ = precision_recall_fscore_support(y, y_hat, average="weighted", zero_division=0.0)
            p, r, _, _ = precision_recall_fscore_support(y, y_hat, average="weighted", zero_division=0.0)
            one |= {"precision": 100 * p, "recall": 100 * r, "f1": 100 * f1}
        scores.append(one)
    mean = pd.DataFrame(scores).mean().to_frame("row").T
    table = np.floor(mean * 10**decimals + 1e-9) / 10**decimals if truncated else mean.round(decimals)
    design = Design(dict(zip(classes, counts, strict=True)), folds, runs, decimals, average, truncated)
    findings = audit.audit(table, design)
    assert findings["possible"].all(), findings[~findings["possible"]].to_string()


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 40), st.integers(2, 6), st.integers(1, 2), st.integers(0, 2**32 - 1), st.integers(0, 1))
def test_an_average_over_folds_of_unequal_size_can_be(n: int, folds: int, runs: int, seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [n // folds + (fold < n % folds) for fold in range(folds)]
    value = np.mean([100 * rng.integers(0, size + 1) / size for size in sizes for _ in range(runs)])
    low, high = Design(decimals=decimals).ends(round(float(value), decimals), "row")
    assert audit._reachable(n, low, high, folds, runs)


@given(st.integers(1, 300), st.integers(0, 2), st.data())
def test_in_one_test_set_exactly_the_shares_of_its_items_can_be(n: int, decimals: int, data: st.DataObject) -> None:
    unit = 10**decimals
    value = data.draw(st.integers(0, 100 * unit))
    exact = any(abs(Fraction(100 * k, n) - Fraction(value, unit)) <= Fraction(1, 2 * unit) for k in range(n + 1))
    assert audit._reachable(n, *Design(decimals=decimals).ends(value / unit, "row"), 1, 1) == exact


@pytest.mark.parametrize(
    ("column", "change", "check"),
    [
        ("acc_fear", 0.2, "granularity"),
        ("accuracy", 1.0, "accuracy = mean of classes"),
        ("recall", 0.4, "recall = accuracy"),
        ("recall", 0.4, "macro recall = mean of classes"),
        ("f1", 0.5, "F1 ≤ harmonic mean of precision and recall"),
    ],
)
def test_one_wrong_cell_is_marked(column: str, change: float, check: str) -> None:
    y = np.repeat(np.arange(6), 200)
    y_hat = y.copy()
    y_hat[::7] = (y[::7] + 1) % 6
    table = printed(y, y_hat)
    table.loc["real", column] += change
    findings = audit.audit(table).query("not possible")
    assert check in set(findings["check"])
    assert audit.impossible(table).loc["real", column]


@pytest.mark.parametrize(("f1", "possible"), [(30.0, True), (48.0, True), (48.1, True), (48.2, False)])
def test_f1_lies_at_most_at_the_harmonic_mean_of_precision_and_recall(f1: float, possible: bool) -> None:
    """2 * 40 * 60 / 100 = 48, and what rounding hides is granted; nothing is said of how low it may lie."""
    table = pd.DataFrame([{"precision": 40.0, "recall": 60.0, "f1": f1}], index=["made up"])
    assert [finding.possible for finding in audit.f1_is_bounded(table, CASIA)] == [possible]


@pytest.mark.parametrize(("design", "possible"), [(Design(), False), (Design(folds=5), True), (Design(runs=2), True)])
def test_f1_of_one_class_in_one_test_is_the_harmonic_mean(design: Design, possible: bool) -> None:
    table = pd.DataFrame([{"precision_fear": 40.0, "acc_fear": 60.0, "f1_fear": 45.0}], index=["made up"])
    assert [finding.possible for finding in audit.f1_is_bounded(table, design)] == [possible]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_f1_averaged_over_classes_and_runs_keeps_below_the_bound(seed: int) -> None:
    """Whatever the confusions: here a few utterances a class, and classes that are told apart unequally well."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(6), 5)
    wrong, known = rng.dirichlet(np.ones(6)), rng.random(6)
    runs = [np.where(rng.random(30) < known[y], y, rng.choice(6, 30, p=wrong)) for _ in "ab"]
    table = pd.concat([pd.DataFrame([metrics.scores(y, y_hat, EMOTIONS)]) for y_hat in runs])
    mean = table.mean().to_frame().T
    assert all(finding.possible for finding in audit.f1_is_bounded(pd.concat([table, mean]), CASIA))


def test_without_the_sizes_of_classes_accuracy_lies_between_them() -> None:
    table = pd.DataFrame({"accuracy": [60.0, 81.0], "acc_a": [50.0] * 2, "acc_b": [80.0] * 2}, index=["in", "out"])
    findings = audit.audit(table, Design())
    assert findings.set_index("row")["possible"].to_dict() == {"in": True, "out": False}


def test_classes_of_unequal_sizes_are_weighed() -> None:
    """(0.5 * 10 + 0.8 * 30) / 40 = 72.5 %, which on classes of one size would be 65 %."""
    table = pd.DataFrame([{"accuracy": 72.5, "acc_a": 50.0, "acc_b": 80.0}], index=["a row"])
    assert audit.audit(table, Design({"a": 10, "b": 30}))["possible"].all()
    assert not audit.audit(table, Design({"a": 20, "b": 20}))["possible"].all()


def test_a_missing_number_is_no_number_that_cannot_be() -> None:
    table = PAPER.astype(float).copy()
    table.iloc[:, :] = np.nan
    table.loc["LR", "acc_fear"] = 58.5
    assert audit.audit(table).query("not possible").empty
    assert audit.summary(table, audit.audit(table))["checked"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_folds_drawn_without_regard_to_class_stay_within_what_is_granted_to_them(seed: int) -> None:
    """Averaged over such folds, class accuracies leave the pooled accuracy; by less than 3.29 deviations, and by more
    than one deviation often enough that the deviation is no exaggeration."""
    rng, y = np.random.default_rng(seed), np.repeat(np.arange(6), 200)
    right = rng.random(1200) < np.array([0.5, 0.6, 0.7, 0.8, 0.7, 0.6])[y]
    classes = pd.Series(100 * right.reshape(6, 200).mean(axis=1), [f"acc_{name}" for name in EMOTIONS])
    granted = audit._unstratified(classes, CASIA)
    gaps = []
    for _ in range(300):
        fold = rng.permutation(np.repeat(np.arange(5), 240))
        averaged = [np.mean([right[(fold == f) & (y == c)].mean() for f in range(5)]) for c in range(6)]
        gaps.append(abs(100 * np.mean(averaged) - 100 * right.mean()))
    assert max(gaps) < 1.3 * granted
    assert 0.2 < np.mean(np.array(gaps) > granted / audit.UNSTRATIFIED) < 0.45


def test_stratified_folds_are_what_the_paper_describes() -> None:
    """Averaged over folds of 40 a class, each number is the pooled one: nothing is granted to the paper's own words."""
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 200)
    y_hat = np.where(rng.random(1200) < 0.6, y, rng.integers(0, 6, 1200))
    dealt = StratifiedKFold(5, shuffle=True, random_state=0).split(y, y)
    scores = pd.DataFrame([metrics.scores(y[test], y_hat[test], EMOTIONS) for _, test in dealt]).mean()
    assert audit.audit(scores[list(METRICS)].round(1).to_frame("row").T)["possible"].all()


def test_equal_offsets_are_counted() -> None:
    table = pd.DataFrame(
        [[0.0] * 6 + [a, a - 0.2, a + 0.1, a - 0.1] for a in (80.0, 85.0)] + [[0.0] * 6 + [70.0, 71.0, 70.0, 70.5]],
        index=list("abc"), columns=list(METRICS),
    )  # fmt: skip
    assert list(audit.repeated_offsets(table)["shared_by"]) == [2, 2, 1]


def test_prose_against_table() -> None:
    assert audit.difference(2.7, 92.2, 89.5)
    assert not audit.difference(2.8, 92.2, 89.5)


def test_the_papers_own_row_has_cells_that_cannot_be() -> None:
    paper = PAPER.loc[["HMoE-SiMBA"]]
    assert audit.impossible(paper).loc["HMoE-SiMBA", "acc_anger"]  # 90.4 is no multiple of 0.5
    assert audit.impossible(paper).loc["HMoE-SiMBA", "accuracy"]  # the classes average 91.35


def test_an_average_of_runs_makes_class_accuracies_possible_and_nothing_else() -> None:
    """A fifth of half a percent is a tenth, so every printed class accuracy can be one; sums stay what they are."""
    once, five = audit.impossible(PAPER), audit.impossible(PAPER, replace(CASIA, runs=5))
    classes = audit.class_columns(PAPER)
    assert once[classes].any(axis=None) and not five[classes].any(axis=None)
    assert once.drop(columns=classes).equals(five.drop(columns=classes)) and five.any(axis=None)
    grid = audit.audit(PAPER).query("check == 'granularity' and not possible")
    assert grid["runs"].between(2, 5).all()  # no class accuracy needs more than five


def test_unstratified_folds_could_explain_lr_and_lstm_alone() -> None:
    means = audit.audit(PAPER).query("check == 'accuracy = mean of classes'").set_index("row")
    assert not means["possible"].any()
    assert set(means.index[means["folds"]]) == {"LR", "LSTM", "LSTM (frames)"}
